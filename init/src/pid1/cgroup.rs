//! One cgroup a unit (cgroup v2), told about by inotify when it becomes empty.

mod attributes;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use image_config::unit::{ResourceControl, UnitName, slice_path};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

use self::attributes::Machine;
use crate::supervisor::UnitId;
use crate::sys::signals;

/// Where cgroup v2 is mounted.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers that units account for; each is left out when the kernel lacks it.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];
/// The controller of `AllowedCPUs=`; asked for only where it is used, for it makes every fork dearer.
const CPUSET: &str = "cpuset";

/// The tree of units' cgroups.
#[derive(Debug)]
pub struct Cgroups {
    mount: PathBuf,
    machine: Machine,
    events: OwnedFd,
    groups: BTreeMap<UnitId, Group>,
    watches: BTreeMap<i32, (UnitId, Watched)>,
}

/// What an inotify watch is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// `cgroup.events`
    Population,
    /// `memory.events`
    Memory,
}

/// Units of whose groups the kernel has told something.
#[derive(Debug, Default)]
pub struct Changed {
    /// They may have become empty, or no longer be so.
    pub population: Vec<UnitId>,
    /// They may have run out of memory.
    pub memory: Vec<UnitId>,
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// `cgroup.events`, which is read more often than any other file.
    population: OwnedFd,
    /// Where processes start: the group itself, or its `DelegateSubgroup=`.
    folder: OwnedFd,
    watch: i32,
    /// Watch of `memory.events`, when the kernel accounts for memory.
    memory_watch: Option<i32>,
    /// Processes that the kernel has killed for want of memory, as far as was told.
    oom_kills: u64,
    /// What was written.
    settings: Vec<(&'static str, String)>,
    /// What is written once the machine has started, where `Startup...=` differs.
    after_startup: Vec<(&'static str, String)>,
    /// Its processes are stopped where they are.
    frozen: bool,
}

impl Cgroups {
    /// Takes over the tree: PID 1 into `init.scope`, units into slices beside it.
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
        create(&own)?;
        fs::write(own.join("cgroup.procs"), "1")?;
        enable(mount, &CONTROLLERS);
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (groups, watches) = (BTreeMap::new(), BTreeMap::new());
        Ok(Cgroups { mount: mount.to_owned(), machine: Machine::read(), events, groups, watches })
    }

    /// Makes a slice with those above it, so that units in it can use the controllers; answers with its folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ensure_slice(&self, slice: &str, with_cpuset: bool) -> io::Result<PathBuf> {
        let mut folder = self.mount.clone();
        if with_cpuset {
            enable(&folder, &[CPUSET]);
        }
        for part in slice_path(slice) {
            folder.push(part);
            if create(&folder)? {
                enable(&folder, &CONTROLLERS);
            }
            if with_cpuset {
                enable(&folder, &[CPUSET]);
            }
        }
        Ok(folder)
    }

    /// Writes the settings of a slice unit; answers with what could not be set.
    ///
    /// # Errors
    /// The kernel's, for the folder.
    pub fn configure_slice(
        &self,
        slice: &str,
        control: &ResourceControl,
        starting: bool,
    ) -> io::Result<Vec<String>> {
        let folder = self.ensure_slice(slice, attributes::needs_cpuset(control))?;
        // A slice has no limit of tasks unless it is written.
        let list = attributes::of(control, self.machine, starting, false);
        Ok(write_all(&folder, &list))
    }

    /// Takes the group of a slice away that is down; one that is still in use stays.
    pub fn remove_slice(&self, slice: &str) {
        let folder = self.slice_folder(slice);
        if folder != self.mount {
            let _in_use = fs::remove_dir(folder);
        }
    }

    /// The descriptor that says that some group may be empty.
    pub fn events(&self) -> &OwnedFd {
        &self.events
    }

    /// Makes the unit's cgroup with its settings unless it is there; answers with what could not be set.
    ///
    /// # Errors
    /// The kernel's, for the folder or its watch.
    pub fn ensure(
        &mut self,
        unit: UnitId,
        name: &UnitName,
        control: &ResourceControl,
        starting: bool,
    ) -> io::Result<Vec<String>> {
        if self.groups.contains_key(&unit) {
            return Ok(Vec::new());
        }
        let (path, is_new) = self.create_leaf(name, control)?;
        let list = attributes::of(control, self.machine, starting, true);
        let problems = write_all(&path, &list);
        let normal = if starting { attributes::of(control, self.machine, false, true) } else { Vec::new() };
        let after_startup = normal.into_iter().filter(|setting| !list.contains(setting)).collect();
        let open = |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        let folder = match &control.delegate_subgroup {
            Some(subgroup) if control.delegate.is_some() => {
                let start = path.join(subgroup);
                create(&start)?;
                open(&start, OFlags::PATH | OFlags::DIRECTORY)?
            }
            _ => open(&path, OFlags::PATH | OFlags::DIRECTORY)?,
        };
        let events = path.join("cgroup.events");
        let population = open(&events, OFlags::RDONLY)?;
        let watch = inotify::add_watch(&self.events, &events, WatchFlags::MODIFY)?;
        self.watches.insert(watch, (unit, Watched::Population));
        let memory = path.join("memory.events");
        let memory_watch = inotify::add_watch(&self.events, &memory, WatchFlags::MODIFY).ok();
        self.watches.extend(memory_watch.map(|watch| (watch, (unit, Watched::Memory))));
        let oom_kills = if is_new { 0 } else { oom_kills(&path) };
        let group = Group {
            path,
            population,
            folder,
            watch,
            memory_watch,
            oom_kills,
            settings: list,
            after_startup,
            frozen: false,
        };
        self.groups.insert(unit, group);
        Ok(problems)
    }

    /// The unit's own folder, and whether it is new. Its slices are mostly there.
    fn create_leaf(&self, name: &UnitName, control: &ResourceControl) -> io::Result<(PathBuf, bool)> {
        let (slice, leaf) = (control.slice_of(name), escape(name.as_str()));
        if !attributes::needs_cpuset(control) {
            let path = self.slice_folder(&slice).join(&leaf);
            match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result.map(|is_new| (path, is_new)),
            }
        }
        let path = self.ensure_slice(&slice, attributes::needs_cpuset(control))?.join(leaf);
        let is_new = create(&path)?;
        Ok((path, is_new))
    }

    fn slice_folder(&self, slice: &str) -> PathBuf {
        slice_path(slice).iter().fold(self.mount.clone(), |folder, part| folder.join(part))
    }

    /// Writes the settings of a group that is there anew; what is not set any more goes back to the kernel's default. Answers
    /// with what could not be set.
    pub fn reconfigure(&mut self, unit: UnitId, control: &ResourceControl, starting: bool) -> Vec<String> {
        let Some(group) = self.groups.get_mut(&unit) else { return Vec::new() };
        let list = attributes::of(control, self.machine, starting, true);
        let normal = attributes::of(control, self.machine, false, true);
        let is_set = |file: &str| list.iter().any(|(other, _)| *other == file);
        let gone = group.settings.iter().map(|(file, _)| *file).filter(|file| !is_set(file));
        let mut changes: Vec<(&'static str, String)> =
            gone.filter_map(|file| Some((file, attributes::default_of(file)?.to_owned()))).collect();
        changes.extend(list.iter().filter(|setting| !group.settings.contains(setting)).cloned());
        group.after_startup = normal.into_iter().filter(|setting| !list.contains(setting)).collect();
        group.settings = list;
        write_all(&group.path, &changes)
    }

    /// Stops the unit's processes where they are, or lets them go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn freeze(&mut self, unit: UnitId, freeze: bool) -> io::Result<()> {
        let Some(group) = self.groups.get_mut(&unit) else { return Ok(()) };
        fs::write(group.path.join("cgroup.freeze"), if freeze { "1" } else { "0" })?;
        group.frozen = freeze;
        Ok(())
    }

    /// Whether the unit's processes are to stand still.
    pub fn is_frozen(&self, unit: UnitId) -> bool {
        self.groups.get(&unit).is_some_and(|group| group.frozen)
    }

    /// systemd's word for how far that has come.
    pub fn freezer_state(&self, unit: UnitId) -> &'static str {
        let Some(group) = self.groups.get(&unit) else { return "running" };
        let events = fs::read_to_string(group.path.join("cgroup.events")).unwrap_or_default();
        match (group.frozen, events.contains("frozen 1")) {
            (true, true) => "frozen",
            (true, false) => "freezing",
            (false, true) => "thawing",
            (false, false) => "running",
        }
    }

    /// Where the unit's processes are to start.
    pub fn start_folder(&self, unit: UnitId) -> Option<BorrowedFd<'_>> {
        self.groups.get(&unit).map(|group| group.folder.as_fd())
    }

    /// The unit's folder.
    pub fn path(&self, unit: UnitId) -> Option<&Path> {
        self.groups.get(&unit).map(|group| group.path.as_path())
    }

    /// The machine has started: settings that were for the time before give way to the normal ones.
    pub fn end_startup(&mut self) {
        for group in self.groups.values_mut() {
            let list = std::mem::take(&mut group.after_startup);
            group.settings.retain(|(file, _)| !list.iter().any(|(other, _)| other == file));
            group.settings.extend(list.iter().cloned());
            // They were accepted, or complained of, when the group was made.
            let _told = write_all(&group.path, &list);
        }
    }

    /// Whether a process is left in the unit's cgroup.
    pub fn is_populated(&self, unit: UnitId) -> bool {
        self.groups.get(&unit).is_some_and(Group::is_populated)
    }

    /// Whether the unit has a cgroup and nothing is in it.
    pub fn is_empty(&self, unit: UnitId) -> bool {
        self.groups.get(&unit).is_some_and(|group| !group.is_populated())
    }

    /// PIDs in the unit's cgroup and those that it has made below.
    pub fn processes(&self, unit: UnitId) -> Vec<u32> {
        let Some(group) = self.groups.get(&unit) else { return Vec::new() };
        let mut pids = Vec::new();
        for folder in tree(&group.path) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids
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
        let Some(group) = self.groups.get(&unit) else { return };
        // The kernel refuses it for one that is in use.
        let removed = fs::remove_dir(&group.path).is_ok();
        if !removed && group.is_populated() {
            return;
        }
        if let Some(group) = self.groups.remove(&unit) {
            // The kernel drops its watches together with the files.
            self.watches.remove(&group.watch);
            if let Some(watch) = group.memory_watch {
                self.watches.remove(&watch);
            }
            // Groups that the unit has made below its own are in the way; the deepest go first.
            if !removed {
                for folder in tree(&group.path).iter().rev() {
                    let _in_use = fs::remove_dir(folder);
                }
            }
        }
    }

    /// Bytes of memory that the unit uses, when the kernel accounts for them.
    pub fn memory(&self, unit: UnitId) -> Option<u64> {
        let group = self.groups.get(&unit)?;
        fs::read_to_string(group.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Whether the kernel has killed a process of the unit for want of memory since this was last asked.
    pub fn was_out_of_memory(&mut self, unit: UnitId) -> bool {
        let Some(group) = self.groups.get_mut(&unit) else { return false };
        let before = std::mem::replace(&mut group.oom_kills, oom_kills(&group.path));
        group.oom_kills > before
    }

    /// Units whose cgroup has changed between empty and not, or run out of memory.
    pub fn read_events(&self) -> Changed {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut changed = Changed::default();
        while let Ok(event) = reader.next() {
            let Some((unit, watched)) = self.watches.get(&event.wd()) else { continue };
            let units = match watched {
                Watched::Population => &mut changed.population,
                Watched::Memory => &mut changed.memory,
            };
            if !units.contains(unit) {
                units.push(*unit);
            }
        }
        changed
    }
}

impl Group {
    fn is_populated(&self) -> bool {
        // Two short lines.
        let mut bytes = [0; 256];
        let count = rustix::io::pread(&self.population, &mut bytes, 0).unwrap_or(0);
        let text = bytes.get(..count).unwrap_or_default();
        text.split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
    }
}

/// Kills for want of memory in a group and below it: `memory.events`, cgroup v2 of the kernel's documentation.
fn oom_kills(group: &Path) -> u64 {
    let text = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The unit that a process belongs to, by `/proc/PID/cgroup`.
pub fn unit_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut parts = path.split('/').skip_while(|part| part.ends_with(".slice"));
    parts.next().map(|part| part.strip_prefix('_').unwrap_or(part).to_owned())
}

/// A unit's name as the name of a group: an underscore in front of what the kernel might take for a file of its own.
fn escape(name: &str) -> String {
    let controllers = ["cgroup", "cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc", "irq"];
    let clashes = |controller: &&str| name.strip_prefix(controller).is_some_and(|rest| rest.starts_with('.'));
    if name.starts_with(['_', '.']) || controllers.iter().any(clashes) {
        return format!("_{name}");
    }
    name.to_owned()
}

/// Most groups of one unit that are looked at: a unit that makes more must not keep PID 1 busy.
const MOST_GROUPS: usize = 4096;

/// A group and all below it, parents first.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(next) = all.get(at).filter(|_| all.len() < MOST_GROUPS) {
        let below: Vec<PathBuf> = fs::read_dir(next)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        all.extend(below);
        at = at.saturating_add(1);
    }
    all
}

/// Lets the groups below use controllers. One that the kernel does not have is refused; the others must not suffer.
fn enable(folder: &Path, controllers: &[&str]) {
    for controller in controllers {
        let _refused = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Writes settings; answers with a text for each that was refused.
fn write_all(folder: &Path, list: &[(&'static str, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, value) in list {
        // A controller that is not there limits nothing, which is what nothing written would mean too.
        if let Err(error) = fs::write(folder.join(file), value)
            && !(attributes::is_default(file) && error.kind() == io::ErrorKind::NotFound)
        {
            problems.push(format!("cannot set {file} to {value}: {error}"));
        }
    }
    problems
}

/// Makes a folder; whether it was not there before.
fn create(folder: &Path) -> io::Result<bool> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_could_take_for_its_own_are_escaped() {
        for (name, want) in [
            ("memory.service", "_memory.service"),
            ("memoryd.service", "memoryd.service"),
            ("_x.service", "__x.service"),
            ("cgroup.socket", "_cgroup.socket"),
        ] {
            assert_eq!(escape(name), want);
        }
    }

    #[test]
    fn a_tree_lists_parents_before_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let want = [folder.path().to_owned(), folder.path().join("a"), folder.path().join("a/b")];
        assert_eq!(tree(folder.path()), want);
    }
}
