//! Loads the modules that the machine's devices ask for, and gives device nodes their owners and links.

pub mod index;
pub mod links;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::boot::users::Users;
use crate::early::modules::{insert, name_of, parameters};
use index::{Index, Sources};

/// Where the image's modules are.
const MODULES: &str = "/usr/lib/modules";
/// Buses in the order of their importance to a boot: the network must not wait for the mouse. Others come behind them.
const FIRST_BUSES: &[&str] = &["virtio", "pci"];
/// Devices that the boot waits for; after them, loading drivers must not take the processor from the services that start meanwhile.
const URGENT: &str = "virtio:";
/// Lowers the priority as `nice` does by default.
const MODEST: i32 = 10;
/// Processor features ask for a dozen modules (KVM, crypto) on every machine, each of which whoever needs it loads by name or
/// by opening its device; at boot they would only cost time and memory.
const SKIPPED_BUSES: &[&str] = &["cpu"];
/// A driver may bring up a bus with further devices (controller, port, disk): deeper than any real machine nests them.
const MAX_PASSES: u32 = 6;
const SETTINGS: &[&str] = &["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d"];
const LISTS: &[&str] = &["/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d"];

/// The modules of the running kernel, read once.
#[derive(Debug)]
pub struct Library {
    folder: PathBuf,
    dep: String,
    alias: String,
    softdep: String,
    modprobe: String,
    command_line: String,
}

impl Library {
    /// Reads the files for the running kernel. A missing one has no entries: then nothing is found in it.
    pub fn open() -> Self {
        let mut library = Self::by_name();
        library.alias = library.file("modules.alias");
        library
    }

    /// The same without the aliases, by far the largest file: for modules that are asked for by their name.
    pub fn by_name() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new(MODULES).join(release);
        let modprobe = configuration(SETTINGS).join("\n");
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let (dep, alias, softdep) = Default::default();
        let mut library = Self { folder, dep, alias, softdep, modprobe, command_line };
        library.dep = library.file("modules.dep");
        library.softdep = library.file("modules.softdep");
        library
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Indexes what was read.
    pub fn index(&self) -> Index<'_> {
        Index::new(Sources {
            dep: &self.dep,
            alias: &self.alias,
            softdep: &self.softdep,
            modprobe: &self.modprobe,
        })
    }

    /// Loads a module and what it needs; returns what failed, a line each.
    pub fn load(&self, index: &Index<'_>, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for step in index.plan(name) {
            // The command line comes last: the kernel takes the last of two.
            let path = self.folder.join(step.path);
            let mut all = step.parameters.into_bytes();
            all.push(b' ');
            all.extend_from_slice(parameters(&self.command_line, &name_of(&path)).to_bytes());
            let parameters = CString::new(all).unwrap_or_default();
            if let Err(error) = insert(&path, &parameters) {
                // The driver found no device it likes: usual, and nobody's fault.
                if error.raw_os_error() != Some(libc::ENODEV) {
                    problems.push(format!("cannot load {}: {error}", step.path));
                }
            }
        }
        problems
    }
}

/// Contents of the `*.conf` files of some folders, those of a name hidden by the folders in front.
pub(crate) fn configuration(folders: &[&str]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        for name in names.into_iter().filter(|name| name.to_string_lossy().ends_with(".conf")) {
            if seen.insert(name.clone()) {
                texts.extend(std::fs::read_to_string(Path::new(folder).join(&name)));
            }
        }
    }
    texts
}

/// Runs `init coldplug`.
pub fn run(_arguments: &[String]) -> ExitCode {
    let library = Library::open();
    let index = library.index();
    let mut problems = Vec::new();
    let mut asked = BTreeSet::new();
    for _ in 0..MAX_PASSES {
        let new: Vec<String> =
            modaliases(Path::new("/sys/bus")).into_iter().filter(|name| !asked.contains(name)).collect();
        if new.is_empty() {
            break;
        }
        for modalias in &new {
            if !modalias.starts_with(URGENT) {
                be_modest();
            }
            for module in index.for_device(modalias) {
                problems.extend(library.load(&index, module));
            }
        }
        asked.extend(new);
    }
    for name in configuration(LISTS).iter().flat_map(|text| text.lines()).map(str::trim) {
        if !name.is_empty() && !name.starts_with(['#', ';']) {
            problems.extend(library.load(&index, name));
        }
    }
    problems.extend(links::link_disks());
    links::set_owners(Path::new("/dev"), &Users::read(Path::new("/")));
    for problem in &problems {
        eprintln!("coldplug: {problem}");
    }
    // A device without its driver is a service's problem, not this one's.
    ExitCode::SUCCESS
}

/// Gives way to the services that start at the same time.
fn be_modest() {
    let already = rustix::process::getpriority_process(None).is_ok_and(|priority| priority >= MODEST);
    if !already && let Err(error) = rustix::process::setpriority_process(None, MODEST) {
        eprintln!("coldplug: priority stays: {error}");
    }
}

/// What the devices without a driver ask for, each once, the important buses first.
fn modaliases(buses: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for bus in std::fs::read_dir(buses).into_iter().flatten().flatten() {
        let name = bus.file_name().to_string_lossy().into_owned();
        if SKIPPED_BUSES.contains(&name.as_str()) {
            continue;
        }
        let rank = FIRST_BUSES.iter().position(|first| *first == name).unwrap_or(FIRST_BUSES.len());
        for device in std::fs::read_dir(bus.path().join("devices")).into_iter().flatten().flatten() {
            let path = device.path();
            if path.join("driver").exists() {
                continue;
            }
            if let Ok(modalias) = std::fs::read_to_string(path.join("modalias")) {
                found.push((rank, modalias.trim().to_owned()));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, modalias)| modalias).filter(|modalias| !modalias.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_without_a_driver_are_asked_in_the_order_of_their_buses() {
        let buses = tempfile::tempdir().unwrap();
        let device = |bus: &str, name: &str, modalias: &str, driver: bool| {
            let path = buses.path().join(bus).join("devices").join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("modalias"), format!("{modalias}\n")).unwrap();
            if driver {
                std::fs::create_dir(path.join("driver")).unwrap();
            }
        };
        device("acpi", "a", "acpi:X:", false);
        device("pci", "p", "pci:v1", false);
        device("pci", "q", "pci:v1", false);
        device("virtio", "v", "virtio:d1", false);
        device("virtio", "w", "virtio:d2", true);
        device("cpu", "c", "cpu:x", false);
        assert_eq!(modaliases(buses.path()), ["virtio:d1", "pci:v1", "acpi:X:"]);
    }
}
