//! One cgroup a unit (cgroup v2), told about by inotify when it becomes empty.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

use crate::supervisor::UnitId;
use crate::sys::signals;

/// Where cgroup v2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// The slice of units that name no other.
const SLICE: &str = "system.slice";
/// Controllers that units account for; each is left out when the kernel lacks it.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// The tree of units' cgroups.
#[derive(Debug)]
pub struct Cgroups {
    slice: PathBuf,
    events: OwnedFd,
    groups: BTreeMap<UnitId, Group>,
    watches: BTreeMap<i32, UnitId>,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    folder: OwnedFd,
    watch: i32,
}

impl Cgroups {
    /// Takes over the tree: PID 1 into `init.scope`, units below `system.slice`.
    ///
    /// # Errors
    /// When there is no cgroup v2 to be had; the caller then goes on without.
    pub fn take_over() -> io::Result<Cgroups> {
        let mount = Path::new(MOUNT);
        if !mount.join("cgroup.procs").exists() {
            let flags = rustix::mount::MountFlags::NOSUID
                | rustix::mount::MountFlags::NODEV
                | rustix::mount::MountFlags::NOEXEC;
            rustix::mount::mount("cgroup2", MOUNT, "cgroup2", flags, None)?;
        }
        let own = mount.join("init.scope");
        let slice = mount.join(SLICE);
        for folder in [&own, &slice] {
            create(folder)?;
        }
        fs::write(own.join("cgroup.procs"), "1")?;
        for folder in [mount, &slice] {
            for controller in CONTROLLERS {
                // One that the kernel does not have is refused; the others must not suffer for it.
                let _refused = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Cgroups { slice, events, groups: BTreeMap::new(), watches: BTreeMap::new() })
    }

    /// The descriptor that says that some group may be empty.
    pub fn events(&self) -> &OwnedFd {
        &self.events
    }

    /// Makes the unit's cgroup unless it is there; answers with its folder, to clone into.
    ///
    /// # Errors
    /// The kernel's, for the folder or its watch.
    pub fn ensure(&mut self, unit: UnitId, name: &str) -> io::Result<BorrowedFd<'_>> {
        if !self.groups.contains_key(&unit) {
            let path = self.slice.join(name);
            create(&path)?;
            let folder =
                rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let watch = inotify::add_watch(&self.events, path.join("cgroup.events"), WatchFlags::MODIFY)?;
            self.watches.insert(watch, unit);
            self.groups.insert(unit, Group { path, folder, watch });
        }
        match self.groups.get(&unit) {
            Some(group) => Ok(group.folder.as_fd()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a process is left in the unit's cgroup.
    pub fn is_populated(&self, unit: UnitId) -> bool {
        let Some(group) = self.groups.get(&unit) else { return false };
        fs::read_to_string(group.path.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
    }

    /// PIDs in the unit's cgroup.
    pub fn processes(&self, unit: UnitId) -> Vec<u32> {
        let Some(group) = self.groups.get(&unit) else { return Vec::new() };
        let text = fs::read_to_string(group.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Sends a signal to every process of the unit. Processes that are born meanwhile are caught by looking again.
    pub fn signal(&self, unit: UnitId, signal: i32) {
        let mut told: Vec<u32> = Vec::new();
        // A fork bomb could keep this busy for ever; SIGKILL, which needs no list, ends it.
        for _ in 0..4 {
            let fresh: Vec<u32> =
                self.processes(unit).into_iter().filter(|pid| !told.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            fresh.iter().for_each(|pid| signals::send(*pid, signal));
            told.extend(fresh);
        }
    }

    /// Kills every process of the unit at once (`cgroup.kill`, since Linux 5.14).
    pub fn kill(&self, unit: UnitId) {
        let Some(group) = self.groups.get(&unit) else { return };
        if fs::write(group.path.join("cgroup.kill"), "1").is_err() {
            self.signal(unit, 9);
        }
    }

    /// Gives the unit's cgroup back; one that is still in use stays.
    pub fn release(&mut self, unit: UnitId) {
        if self.is_populated(unit) {
            return;
        }
        if let Some(group) = self.groups.remove(&unit) {
            self.watches.remove(&group.watch);
            // The kernel drops the watch together with the file, so an error here means nothing.
            let _gone = inotify::remove_watch(&self.events, group.watch);
            let _in_use = fs::remove_dir(&group.path);
        }
    }

    /// Bytes of memory that the unit uses, when the kernel accounts for them.
    pub fn memory(&self, unit: UnitId) -> Option<u64> {
        let group = self.groups.get(&unit)?;
        fs::read_to_string(group.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Units whose cgroup has changed between empty and not.
    pub fn read_events(&self) -> Vec<UnitId> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut units = Vec::new();
        while let Ok(event) = reader.next() {
            if let Some(unit) = self.watches.get(&event.wd())
                && !units.contains(unit)
            {
                units.push(*unit);
            }
        }
        units
    }
}

/// The unit that a process belongs to, by `/proc/PID/cgroup`.
pub fn unit_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut parts = path.split('/').skip_while(|part| part.ends_with(".slice"));
    parts.next().map(str::to_owned)
}

fn create(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}
