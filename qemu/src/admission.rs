//! Bounds how many VMs run on this host at once and how much memory they take, over all processes of a user.
//!
//! Each admitted VM (or group of VMs) holds a `flock` on a file that says what it takes. The kernel releases it when the holder
//! ends in any way, so nothing is ever left to clean up. A gate file makes looking and taking one step.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::folder::{FolderError, of_user, open_lock};

/// How often a waiting process looks again. A VM runs for seconds to minutes.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// VMs that run at once for each processor of the host.
const VMS_A_PROCESSOR: u32 = 2;
/// More files than any host runs VMs.
const MAX_FILES: usize = 256;

/// Admission failed.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The folder of the locks.
    #[error("folder of the VM locks")]
    Folder(#[from] FolderError),
    /// A lock file.
    #[error("VM lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// `FERRITE_VM_SLOTS` is not a number from 1 to 256.
    #[error("FERRITE_VM_SLOTS is {0:?}, must be a number from 1 to 256")]
    BadSlots(String),
}

/// What the host has for VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// VMs at once.
    pub vms: u32,
    /// Their memory together, in MiB.
    pub memory_mib: u64,
}

/// What one VM or one group of VMs takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Number of VMs; one with several processors counts as that many.
    pub vms: u32,
    /// Their memory together, in MiB.
    pub memory_mib: u64,
}

impl Demand {
    /// All that this host has: nothing else runs meanwhile.
    ///
    /// # Errors
    /// As [`Capacity::of_host`].
    pub fn whole_host() -> Result<Self, AdmissionError> {
        let Capacity { vms, memory_mib } = Capacity::of_host()?;
        Ok(Self { vms, memory_mib })
    }
}

impl Capacity {
    /// This host's: two VMs a processor, since a machine that is up mostly waits, and three quarters of the memory;
    /// `FERRITE_VM_SLOTS` overrides the number.
    ///
    /// # Errors
    /// A value of `FERRITE_VM_SLOTS` that is no such number.
    pub fn of_host() -> Result<Self, AdmissionError> {
        let vms = match std::env::var("FERRITE_VM_SLOTS") {
            Ok(text) => text
                .parse()
                .ok()
                .filter(|vms| (1..=256).contains(vms))
                .ok_or(AdmissionError::BadSlots(text))?,
            Err(_) => std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).map_or(256, |n| n.saturating_mul(VMS_A_PROCESSOR))),
        };
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // Without a figure memory does not limit.
        let memory_mib = mem_total_mib(&meminfo).map_or(u64::MAX, |total| total / 4 * 3);
        Ok(Self { vms, memory_mib })
    }

    /// Whether `demand` fits beside what is running. What exceeds the host by itself runs alone: better slow than never.
    fn admits(self, running: Demand, demand: Demand) -> bool {
        running.vms == 0
            || (running.vms.saturating_add(demand.vms) <= self.vms
                && running.memory_mib.saturating_add(demand.memory_mib) <= self.memory_mib)
    }
}

fn mem_total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The right to run VMs, until dropped.
#[derive(Debug)]
#[must_use = "the right ends when this is dropped"]
pub struct Admission {
    file: File,
}

impl Drop for Admission {
    fn drop(&mut self) {
        // Closing would do; this also counts when a child process still holds a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

/// Waits until the host has room for `demand`. Calls `notice` once, with a line for the user, when it has to wait.
///
/// Ask for a group of VMs in one call: two processes that each hold one VM and wait for another would wait for ever.
///
/// # Errors
/// The locks cannot be used.
pub fn admit(demand: Demand, notice: &dyn Fn(&str)) -> Result<Admission, AdmissionError> {
    // Not the configurable temporary folder: all processes of the user must meet here.
    admit_in(Path::new("/tmp"), Capacity::of_host()?, demand, notice)
}

fn admit_in(
    root: &Path,
    capacity: Capacity,
    demand: Demand,
    notice: &dyn Fn(&str),
) -> Result<Admission, AdmissionError> {
    let folder = of_user(root)?;
    let gate_path = folder.join("admission");
    let gate = open_lock(&gate_path)?;
    let mut told = false;
    let mut tell = |running: Demand| {
        if !std::mem::replace(&mut told, true) {
            notice(&format!(
                "waiting for other virtual machines to end: {} running with {} MiB, room for {} with {} MiB (FERRITE_VM_SLOTS)",
                running.vms, running.memory_mib, capacity.vms, capacity.memory_mib
            ));
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| AdmissionError::Io { path, source }
    };
    // One waits for room at a time, the others for their turn: a group that needs most of the host would never find it free if
    // small ones could go ahead.
    let turn_path = folder.join("turn");
    let turn = open_lock(&turn_path)?;
    loop {
        gate.lock().map_err(failed(&gate_path))?;
        let taken = match turn.try_lock() {
            Ok(()) => take(&folder, capacity, Some(demand)),
            Err(fs::TryLockError::WouldBlock) => take(&folder, capacity, None),
            Err(fs::TryLockError::Error(source)) => Err(failed(&turn_path)(source)),
        };
        let released = gate.unlock().map_err(failed(&gate_path));
        match taken? {
            Taken::Admitted(admission) => return released.map(|()| admission),
            Taken::Full(running) => {
                released?;
                tell(running);
            }
        }
    }
}

enum Taken {
    Admitted(Admission),
    Full(Demand),
}

/// Looks, and takes what is demanded; the gate is held.
fn take(folder: &Path, capacity: Capacity, demand: Option<Demand>) -> Result<Taken, AdmissionError> {
    let mut running = Demand { vms: 0, memory_mib: 0 };
    let mut free = None;
    for index in 0..MAX_FILES {
        let path = folder.join(format!("running-{index}"));
        // Files are made one after the other, so the first absent one ends the list.
        let last = !path.exists();
        if last && free.is_some() {
            break;
        }
        let mut file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) if free.is_none() => free = Some((path, file)),
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                let taken =
                    read.ok().and_then(|_| parse_demand(&text)).unwrap_or(Demand { vms: 1, memory_mib: 0 });
                running.vms = running.vms.saturating_add(taken.vms);
                running.memory_mib = running.memory_mib.saturating_add(taken.memory_mib);
            }
            Err(fs::TryLockError::Error(source)) => return Err(AdmissionError::Io { path, source }),
        }
        if last {
            break;
        }
    }
    match free.zip(demand) {
        Some(((path, mut file), demand)) if capacity.admits(running, demand) => {
            let text = format!("{} {}\n", demand.vms, demand.memory_mib);
            let write =
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
            write.map_err(|source| AdmissionError::Io { path, source })?;
            Ok(Taken::Admitted(Admission { file }))
        }
        _ => Ok(Taken::Full(running)),
    }
}

fn parse_demand(text: &str) -> Option<Demand> {
    let (vms, memory_mib) = text.trim().split_once(' ')?;
    Some(Demand { vms: vms.parse().ok()?, memory_mib: memory_mib.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::mpsc::channel;

    const TWO: Capacity = Capacity { vms: 2, memory_mib: 1000 };

    fn small() -> Demand {
        Demand { vms: 1, memory_mib: 400 }
    }

    #[test]
    fn a_vm_is_admitted_by_number_and_by_memory_and_always_when_alone() {
        let cases = [
            ((0, 0), (1, 400), true),
            ((1, 400), (1, 400), true),
            ((1, 700), (1, 400), false),
            ((2, 800), (1, 10), false),
            ((0, 0), (5, 9000), true),
            ((1, 1), (2, 2), false),
        ];
        for ((vms, memory_mib), (more, needs), want) in cases {
            let got = TWO.admits(Demand { vms, memory_mib }, Demand { vms: more, memory_mib: needs });
            assert_eq!(got, want, "{vms} running with {memory_mib}, {more} more with {needs}");
        }
    }

    #[test]
    fn the_third_waits_says_so_once_and_goes_when_one_ends() {
        let root = tempfile::tempdir().unwrap();
        let quiet = |line: &str| panic!("no need to wait: {line}");
        let first = admit_in(root.path(), TWO, small(), &quiet).unwrap();
        let _second = admit_in(root.path(), TWO, small(), &quiet).unwrap();
        let (send, told) = channel();
        let path = root.path().to_path_buf();
        let third = std::thread::spawn(move || {
            let lines = Cell::new(0);
            let notice = |line: &str| {
                lines.set(lines.get() + 1);
                send.send(line.to_owned()).unwrap();
            };
            let admission = admit_in(&path, TWO, small(), &notice);
            (admission.is_ok(), lines.get())
        });
        let line = told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(line.contains("2 running with 800 MiB, room for 2 with 1000 MiB"), "{line}");
        std::thread::sleep(3 * LOOK_AGAIN);
        assert!(!third.is_finished());
        drop(first);
        assert_eq!(third.join().unwrap(), (true, 1));
    }

    #[test]
    fn a_group_that_needs_all_is_not_overtaken() {
        let root = tempfile::tempdir().unwrap();
        let first = admit_in(root.path(), TWO, small(), &|_| {}).unwrap();
        let start = |demand: Demand, name: &'static str| {
            let (path, (send, told), (done, admitted)) = (root.path().to_path_buf(), channel(), channel());
            std::thread::spawn(move || {
                let admission = admit_in(&path, TWO, demand, &|_| send.send(()).unwrap()).unwrap();
                done.send(name).unwrap();
                std::thread::sleep(LOOK_AGAIN);
                drop(admission);
            });
            told.recv_timeout(Duration::from_secs(10)).unwrap();
            admitted
        };
        let group = start(Demand { vms: 3, memory_mib: 900 }, "group");
        // There is room for it now, and it comes later.
        let late = start(small(), "late");
        std::thread::sleep(3 * LOOK_AGAIN);
        assert!(group.try_recv().is_err() && late.try_recv().is_err());
        drop(first);
        assert_eq!(group.recv_timeout(Duration::from_secs(10)), Ok("group"));
        assert_eq!(late.recv_timeout(Duration::from_secs(10)), Ok("late"));
    }

    #[test]
    fn memory_total_is_read_in_mib() {
        assert_eq!(mem_total_mib("MemTotal:       24684200 kB\nMemFree: 1 kB\n"), Some(24105));
        assert_eq!(mem_total_mib("MemTotal: many kB\n"), None);
        assert_eq!(mem_total_mib(""), None);
    }
}
