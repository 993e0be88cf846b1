//! A running image and a way to talk to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qemu::toolbox::Toolbox;
use qemu::{AccelChoice, Disk, OnReboot, Serial, Vm, VmSpec};

use crate::Image;

/// Far more than anything takes on a busy machine: a limit tells a hang, it does not time anything.
const LIMIT: Duration = Duration::from_secs(240);

/// How long a shell may take to answer before it is asked again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts of lines that no command prints: boot marks, when the last one is reached, and the engine's words on the boot before.
const NOTICES: [&str; 2] = ["ferrite: marks", "update-engine: "];

/// How a machine is started.
#[derive(Debug, Clone)]
pub struct GuestOptions {
    /// Shown in logs.
    pub name: &'static str,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors. One, unless more are what is looked at: on a busy host, about one of some hundred machines that QEMU 10 emulates
    /// with two of them loses a timer before its first process, and hangs.
    pub smp: u32,
    /// `(host, guest)` ports; host 0 picks a free one.
    pub ports: Vec<(u16, u16)>,
    /// Kernel and initramfs without firmware.
    pub direct: bool,
    /// ssh key for user `core`.
    pub public_key: Option<String>,
    /// Whether a reset by the guest ends the machine.
    pub exit_on_reboot: bool,
    /// Who is logged in on the console.
    pub login: Option<&'static str>,
    /// No other machine runs beside it: for what is measured.
    pub alone: bool,
}

impl GuestOptions {
    /// A small machine that logs `core` in on its console.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            memory_mib: 512,
            smp: 1,
            ports: Vec::new(),
            direct: false,
            public_key: None,
            exit_on_reboot: false,
            login: Some("core"),
            alone: false,
        }
    }
}

/// What a command in the guest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it printed, stdout and stderr, without carriage returns.
    pub text: String,
}

/// A machine whose disk is written directly.
#[derive(Debug)]
pub struct Guest {
    vm: Vm,
    commands: u32,
}

impl Guest {
    /// Starts a machine on `disk`, which is written.
    ///
    /// # Errors
    /// The emulator cannot be had or does not start.
    pub fn start(disk: &Path, options: &GuestOptions) -> Result<Self> {
        Self::start_with(disk, options, |spec| spec)
    }

    /// The same with a description of the machine that is changed before it starts.
    ///
    /// # Errors
    /// As [`Guest::start`].
    pub fn start_with(
        disk: &Path,
        options: &GuestOptions,
        change: impl FnOnce(VmSpec) -> VmSpec,
    ) -> Result<Self> {
        let spec = Self::spec(Disk::raw(disk).cache(qemu::DiskCache::Unsafe), options);
        let spec = if options.direct {
            let files = builder::direct::extract(disk)?;
            spec.direct(files.kernel, Some(&files.initramfs), files.command_line)
        } else {
            spec.firmware()
        };
        Self::start_spec(&change(spec), options)
    }

    /// Starts a machine by its firmware on a disk that an NBD server has.
    ///
    /// # Errors
    /// As [`Guest::start`].
    pub fn start_on_server(socket: &Path, options: &GuestOptions) -> Result<Self> {
        Self::start_spec(&Self::spec(Disk::nbd(socket), options).firmware(), options)
    }

    fn spec(disk: Disk, options: &GuestOptions) -> VmSpec {
        let mut spec = VmSpec::new(options.name, options.memory_mib, options.smp)
            .disk(disk)
            .user_net(options.ports.iter().copied())
            .accel(AccelChoice::Tcg);
        if let Some(user) = options.login {
            spec = spec.fw_cfg("opt/ferrite/console-login", user);
        }
        if let Some(key) = &options.public_key {
            spec = spec.fw_cfg("opt/ferrite/ssh-authorized-keys", key.clone());
        }
        if options.exit_on_reboot {
            spec = spec.on_reboot(OnReboot::Exit);
        }
        spec
    }

    fn start_spec(spec: &VmSpec, options: &GuestOptions) -> Result<Self> {
        let emulator = Toolbox::of_user().emulator()?;
        let vm = if options.alone {
            let admission = qemu::admit(qemu::Demand::whole_host()?, &|line| eprintln!("{line}"))?;
            emulator.start_admitted(spec, Serial::Captured, Some(admission))?
        } else {
            emulator.start(spec, Serial::Captured)?
        };
        Ok(Self { vm, commands: 0 })
    }

    /// Waits for a text on the console; returns what came before it and the text.
    ///
    /// # Errors
    /// The machine ended, or nothing came for minutes; the message has the last lines of the console.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.vm.console().expect(text, LIMIT).with_context(|| format!("waiting for {text:?}"))
    }

    /// Waits for the shell that the console's login starts.
    ///
    /// # Errors
    /// As [`Guest::expect`].
    pub fn wait_for_shell(&mut self) -> Result<()> {
        self.expect("(automatic login)")?;
        // login(1) throws away what is typed before the shell is there, hence the wait for something like a prompt; a
        // command that answers is what counts.
        self.vm.console().expect_any(&["# ", "$ "], LIMIT).context("waiting for a prompt")?;
        for _ in 0..LIMIT.as_secs() / PATIENCE.as_secs() {
            self.commands += 1;
            let number = self.commands;
            self.vm.console().send(&format!("echo AWA''KE-{number}\n"))?;
            if self.vm.console().expect(&format!("AWAKE-{number}"), PATIENCE).is_ok() {
                return Ok(());
            }
        }
        bail!("the shell does not answer\n{}", self.kept_log())
    }

    /// Runs a command line in the console's shell.
    ///
    /// # Errors
    /// As [`Guest::expect`].
    pub fn run(&mut self, command: &str) -> Result<Output> {
        self.commands += 1;
        let number = self.commands;
        // The terminal echoes the line; the quotes keep the echo from looking like the answer.
        let line = format!("echo BEG''IN-{number}; {command}; echo \"EN\"\"D-{number}:$?:\"\n");
        self.vm.console().send(&line)?;
        self.expect(&format!("BEGIN-{number}"))?;
        let text = self.expect(&format!("END-{number}:"))?;
        let status = self.expect(":")?;
        let text = text.replace('\r', "");
        let text = text.trim_start_matches('\n');
        let end = text.rfind(&format!("END-{number}:")).unwrap_or(text.len());
        let status = status.trim_end_matches(':').trim().parse().context("no exit status")?;
        Ok(Output { status, text: without_notices(text.get(..end).unwrap_or_default()) })
    }

    /// Runs a command line that must succeed; returns what it printed.
    ///
    /// # Errors
    /// As [`Guest::run`], or the command failed.
    pub fn check(&mut self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        if output.status != 0 {
            bail!(
                "{command:?} in the machine ended with {}:\n{}\n{}",
                output.status,
                output.text,
                self.kept_log()
            );
        }
        Ok(output.text)
    }

    /// Types `reboot`; whoever calls waits for what the next boot prints.
    ///
    /// # Errors
    /// The console is gone.
    pub fn reboot(&mut self) -> Result<()> {
        self.vm.console().send("sudo reboot || reboot\n")?;
        self.expect("Restarting system").map(drop)
    }

    /// Waits for a text that may have been printed long ago, and returns the rest of its line.
    ///
    /// # Errors
    /// As [`Guest::expect`].
    pub fn line_with(&mut self, text: &str) -> Result<String> {
        if !self.console_text().contains(text) {
            self.expect(text)?;
        }
        loop {
            let console = self.console_text();
            let rest = console.split_once(text).map(|(_, rest)| rest).unwrap_or_default();
            if let Some((line, _)) = rest.split_once('\n') {
                return Ok(line.trim_end().to_owned());
            }
            self.expect("\n")?;
        }
    }

    /// Everything that the console has printed.
    pub fn console_text(&mut self) -> String {
        self.vm.console().text()
    }

    /// The port of the host's loopback that reaches a port of the guest.
    ///
    /// # Errors
    /// It is not forwarded.
    pub fn port(&self, guest: u16) -> Result<u16> {
        self.vm.forwarded(guest).with_context(|| format!("port {guest} is not forwarded"))
    }

    /// Types `poweroff` and waits for the machine to end by itself.
    ///
    /// # Errors
    /// It does not end, or for another reason.
    pub fn poweroff(mut self) -> Result<()> {
        self.vm.console().send("sudo poweroff || poweroff\n")?;
        self.wait_end("guest-shutdown")
    }

    /// Waits for the machine to end with QEMU's reason (`guest-shutdown`, `guest-reset`, ...).
    ///
    /// # Errors
    /// It does not end, or for another reason.
    pub fn wait_end(&mut self, reason: &str) -> Result<()> {
        self.vm.wait_exit(LIMIT)?;
        let found = self.vm.shutdown_reason();
        if found.as_deref() != Some(reason) {
            let tail = self.vm.console().tail();
            bail!("the machine ended by {found:?}, not {reason}; its console:\n{tail}\n{}", self.kept_log());
        }
        Ok(())
    }

    /// Cuts the power.
    pub fn cut_power(mut self) {
        self.vm.kill();
    }

    /// Keeps the console's log and says where, for the message of a failure.
    pub fn kept_log(&mut self) -> String {
        match self.vm.console().keep_log() {
            Some(path) => format!("(the whole console: {})", path.display()),
            None => "(the console's log cannot be written)".to_owned(),
        }
    }

    /// The machine itself.
    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A claim about this machine did not hold.
        if std::thread::panicking() {
            eprintln!("{}", self.kept_log());
        }
    }
}

/// A command's output without what the machine says on its console in its own time: in the middle of a command, and of a line that
/// the command has not ended.
fn without_notices(text: &str) -> String {
    let mut own = text.to_owned();
    for notice in NOTICES {
        while let Some(start) = own.find(notice) {
            let end =
                own.get(start..).and_then(|rest| rest.find('\n')).map_or(own.len(), |end| start + end + 1);
            own.replace_range(start..end, "");
        }
    }
    own
}

/// A folder for one test's disks, in the folder of test images (which is on a disk with room).
///
/// # Errors
/// It cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    let folder: PathBuf = Image::folder()?;
    std::fs::create_dir_all(&folder)?;
    Ok(tempfile::TempDir::with_prefix_in("scratch-", folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_no_part_of_an_output_wherever_they_come() {
        let notices = "update-engine: 1.2.0 did not come up\nferrite: marks firmware=995ms complete=7357ms\n";
        for (before, after) in [("", ""), ("", "web\n"), ("web", "\n"), ("a\nwe", "b\nc\n"), ("web\n", "")] {
            assert_eq!(without_notices(&format!("{before}{notices}{after}")), format!("{before}{after}"));
        }
        assert_eq!(without_notices("ferrite: none\n"), "ferrite: none\n");
        assert_eq!(without_notices("cut off: ferrite: marks firm"), "cut off: ");
    }
}
