//! The journal as a program: settings, store, descriptors.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::config::{Config, Storage};
use super::daemon::{Journald, Machine, Setup};
use super::entry::{Id, Priority};
use super::folder;
use super::keeper::Open;
use super::ports::{self, Inherited};
use super::store::{FileStore, Store, readers_group};
use crate::sys::signals::Signals;

/// Opens the store where the settings and the state of `/var` want it.
pub(super) fn opener(root: PathBuf, config: Config, machine: Machine) -> Open {
    Box::new(move || {
        let below =
            |folder: &str| root.join(folder.trim_start_matches('/')).join(machine.machine.to_string());
        let group = readers_group(&root);
        let volatile =
            || FileStore::open(&below(folder::VOLATILE), machine.boot, config.volatile, group).map(boxed);
        let lasting = !root.join(crate::early::VOLATILE_FLAG.trim_start_matches('/')).exists();
        match config.storage {
            Storage::None => Ok(Box::new(Nowhere)),
            Storage::Auto | Storage::Persistent if lasting => {
                FileStore::open(&below(folder::PERSISTENT), machine.boot, config.persistent, group)
                    .map(boxed)
                    .or_else(|_| volatile())
            }
            _ => volatile(),
        }
    })
}

fn boxed(store: FileStore) -> Box<dyn Store> {
    Box::new(store)
}

/// `Storage=none`.
#[derive(Debug)]
struct Nowhere;

impl Store for Nowhere {
    fn append(&mut self, _: &super::entry::Entry) -> io::Result<()> {
        Ok(())
    }
    fn rotate(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn place(&self) -> String {
        "nowhere".to_owned()
    }
}

/// Reads who the machine is; a machine without an id has one for this run.
pub fn machine(root: &Path) -> Machine {
    let read = |path: &str| fs::read_to_string(path).ok().and_then(|text| Id::parse(&text));
    let file = root.join("etc/machine-id");
    Machine {
        machine: file.to_str().and_then(read).unwrap_or_default(),
        boot: read("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
    }
}

/// Runs the daemon: `init journald`.
pub fn run() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("systemd-journald: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Half the time after which a silent daemon is taken for dead, sd_watchdog_enabled(3).
fn pulse() -> Option<u64> {
    let limit: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (limit > 1).then_some(limit / 2)
}

fn start() -> io::Result<()> {
    let root = Path::new("/");
    let (config, warnings) = Config::read(root);
    let value = std::env::var(ports::VARIABLE).ok();
    let inherited = Inherited::take(value.as_deref(), Path::new(ports::FOLDER))?;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let kernel = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg");
    let numbers = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2];
    let mut journal = Journald::new(Setup {
        root: root.to_owned(),
        inherited,
        kernel: kernel.ok().filter(|_| config.read_kernel).map(OwnedFd::from),
        config,
        machine: machine(root),
        signals: Some(Signals::open(&numbers)?),
        pulse: pulse(),
    })?;
    journal.say(Priority::INFO, "Journal started");
    warnings.iter().for_each(|warning| journal.say(Priority::WARNING, warning));
    if let Err(error) = crate::net::notify("READY=1") {
        journal.say(Priority::WARNING, &format!("cannot tell the service manager that it is ready: {error}"));
    }
    journal.run();
    journal.say(Priority::INFO, "Journal stopped");
    journal.sync();
    Ok(())
}
