//! The two machines: one VM spec, the same kernel, the same programs but PID 1 and `systemctl`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use qemu::toolbox::Toolbox;
use qemu::{AccelChoice, Disk, DiskCache, OnReboot, Serial, Vm, VmSpec};
use serde_json::json;

use super::scenario::Scenario;
use super::traces::Traces;
use super::{exchange, folder, reference};
use crate::{Image, scratch};

/// Memory in MiB of both machines.
const MEMORY_MIB: u32 = 768;
/// What a machine says when it is through with a scenario begins with this.
const PROGRESS: &str = "conformance: ";
/// The longest that a machine may take for its boot or for a scenario, whose own limit in `guest/runner` is below this.
const LIMIT: Duration = Duration::from_secs(400);
/// How long a machine may take to power off.
const END_LIMIT: Duration = Duration::from_secs(60);
/// A machine that ended, or hung, in a scenario is started again for those after it, this often.
const RESTARTS: usize = 8;

/// The name of Ferrite's machine and of its image.
const NAME: &str = "ferrite-conformance";

/// The image in which scenarios run, and which lends the reference its kernel: the minimal one, Perl (for a service that does
/// what it is told), and a unit that runs them.
pub(super) fn image() -> Result<Image> {
    let guest = folder()?.join("guest");
    let start = std::fs::read_to_string(guest.join("start"))?;
    let unit = std::fs::read_to_string(guest.join("conformance.service"))?;
    Image::minimal_with_packages(
        NAME,
        &["perl-base"],
        &[
            json!({ "path": "/usr/lib/conformance/start", "content": start, "mode": "0755" }),
            json!({ "path": "/usr/lib/systemd/system/conformance.service", "content": unit }),
            json!({
                "path": "/usr/lib/systemd/system/multi-user.target.wants/conformance.service",
                "symlink": "../conformance.service",
            }),
        ],
    )
}

/// Runs scenarios under Ferrite's PID 1.
///
/// # Errors
/// The machine cannot be made or started.
pub fn ferrite(scenarios: &[Scenario]) -> Result<Traces> {
    let image = image()?;
    let work = scratch()?;
    run(scenarios, work.path(), &|data| {
        let system = work.path().join("system.raw");
        image.disk(&system, 1 << 30)?;
        let files = builder::direct::extract(&system)?;
        let spec = spec(NAME).disk(Disk::raw(&system).cache(DiskCache::Unsafe)).disk(data);
        Ok(spec.direct(files.kernel, Some(&files.initramfs), files.command_line))
    })
}

/// Runs scenarios under Debian's systemd.
///
/// # Errors
/// As [`ferrite`].
pub fn systemd(scenarios: &[Scenario]) -> Result<Traces> {
    let work = scratch()?;
    let files = reference::files(&image()?, work.path())?;
    run(scenarios, work.path(), &|data| {
        let spec = spec("systemd-conformance").disk(data);
        Ok(spec.direct(&files.kernel, Some(&files.initramfs), files.command_line.clone()))
    })
}

fn spec(name: &str) -> VmSpec {
    // Two processors: scenarios ask for the second one.
    VmSpec::new(name, MEMORY_MIB, 2).accel(AccelChoice::Tcg).on_reboot(OnReboot::Exit)
}

/// Runs scenarios, with a fresh machine after each one that the machine did not survive.
fn run(scenarios: &[Scenario], work: &Path, machine: &dyn Fn(Disk) -> Result<VmSpec>) -> Result<Traces> {
    let guest = folder()?.join("guest");
    let mut left: Vec<&Scenario> = scenarios.iter().collect();
    let mut traces = Traces::default();
    for _ in 0..=RESTARTS {
        let data: PathBuf = work.join("data.raw");
        exchange::write(&data, &guest, &left)?;
        let disk =
            Disk { serial: Some("conformance".to_owned()), ..Disk::raw(&data).cache(DiskCache::Unsafe) };
        let ended = boot(&machine(disk)?)?;
        let found = exchange::read(&data)?;
        let done: BTreeSet<&String> = found.0.keys().collect();
        left.retain(|scenario| !done.contains(&scenario.name));
        traces.0.extend(found.0.clone());
        let Some(culprit) = left.first() else { return Ok(traces) };
        // The one that it was at; when it was at none, the machine is of no use.
        ended
            .with_context(|| format!("the machine did not come to {}", culprit.name))
            .or_else(|error| if done.is_empty() { Err(error) } else { Ok(()) })?;
        traces.0.insert(culprit.name.clone(), "the machine did not survive\n".to_owned());
        left.remove(0);
    }
    Ok(traces)
}

/// One boot. The inner error is that of a machine that did not end by itself.
fn boot(spec: &VmSpec) -> Result<Result<()>> {
    let mut vm = Toolbox::of_user().emulator()?.start(spec, Serial::Captured)?;
    let ended = follow(&mut vm);
    if ended.is_err() {
        vm.kill();
    }
    Ok(ended)
}

/// Shows what the machine has come to, up to its end.
fn follow(vm: &mut Vm) -> Result<()> {
    loop {
        vm.console().expect(PROGRESS, LIMIT)?;
        let line = vm.console().expect("\n", LIMIT)?;
        if line.trim() == "end" {
            vm.wait_exit(END_LIMIT).context("the machine does not power off")?;
            return Ok(());
        }
        println!("{PROGRESS}{}", line.trim());
    }
}
