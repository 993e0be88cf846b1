//! What the kernel says about a process that logs: the trusted fields, systemd.journal-fields(7).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::Entry;

/// How long what was read about a process is believed, in microseconds; a flood costs one look a second.
const FRESH: u64 = 1_000_000;
/// Processes that are remembered.
const MOST_PROCESSES: usize = 256;
/// Longest command line that goes into an entry.
const LONGEST_COMMAND: usize = 4096;

/// Who sends, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What is known about a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Program's name.
    pub comm: Option<String>,
    /// Program's path.
    pub exe: Option<String>,
    /// Its words.
    pub command: Option<String>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    read_at: u64,
}

/// Looks processes up, and remembers them for a moment.
#[derive(Debug)]
pub struct Contexts {
    proc: PathBuf,
    known: BTreeMap<u32, Context>,
}

impl Contexts {
    /// Looks into `proc`, `/proc` but in tests.
    pub fn new(proc: &Path) -> Contexts {
        Contexts { proc: proc.to_owned(), known: BTreeMap::new() }
    }

    /// What is known about a process at `now` (microseconds of the monotonic clock).
    pub fn get(&mut self, pid: u32, now: u64) -> &Context {
        if self.known.len() >= MOST_PROCESSES {
            self.known.retain(|_, context| now.saturating_sub(context.read_at) < FRESH);
        }
        if self.known.len() >= MOST_PROCESSES {
            self.known.clear();
        }
        let fresh = self.known.get(&pid).is_some_and(|known| now.saturating_sub(known.read_at) < FRESH);
        if !fresh {
            let context = read(&self.proc.join(pid.to_string()), now);
            // One that has ended meanwhile is still what it was.
            if context.comm.is_some() || !self.known.contains_key(&pid) {
                self.known.insert(pid, context);
            }
        }
        self.known.entry(pid).or_default()
    }
}

fn read(folder: &Path, now: u64) -> Context {
    let text = |name: &str| fs::read(folder.join(name)).ok();
    let command = text("cmdline").map(|mut bytes| {
        bytes.truncate(LONGEST_COMMAND);
        let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    });
    let cgroup = text("cgroup").and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    });
    Context {
        comm: text("comm").map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()),
        exe: fs::read_link(folder.join("exe")).ok().map(|path| path.to_string_lossy().into_owned()),
        command: command.filter(|text| !text.is_empty()),
        cgroup,
        read_at: now,
    }
}

/// Unit and slice by a cgroup's path: the first part that is no slice, and the slices before it.
pub fn unit_and_slice(cgroup: &str) -> (Option<&str>, Option<&str>) {
    let mut slice = None;
    for part in cgroup.split('/').filter(|part| !part.is_empty()) {
        if part.ends_with(".slice") {
            slice = Some(part);
            continue;
        }
        // An underscore first keeps names apart from the kernel's own files.
        let unit = part.strip_prefix('_').unwrap_or(part);
        return (Some(unit).filter(|unit| unit.contains('.')), slice);
    }
    (None, slice)
}

/// Adds the trusted fields. `unit` is what the connection was made for; what the cgroup says is stronger.
pub fn add(entry: &mut Entry, sender: Sender, context: &Context, unit: Option<&str>) {
    entry.push("_PID", sender.pid.to_string());
    entry.push("_UID", sender.uid.to_string());
    entry.push("_GID", sender.gid.to_string());
    let fields = [("_COMM", &context.comm), ("_EXE", &context.exe), ("_CMDLINE", &context.command)];
    for (name, value) in fields {
        if let Some(value) = value {
            entry.push(name, value.as_str());
        }
    }
    let cgroup = context.cgroup.as_deref().unwrap_or_default();
    if !cgroup.is_empty() {
        entry.push("_SYSTEMD_CGROUP", cgroup);
    }
    let (by_group, slice) = unit_and_slice(cgroup);
    // A connection that PID 1 has made for a unit is that unit's, until its processes have moved there.
    let by_group = by_group.filter(|unit| *unit != "init.scope");
    let unit = by_group.or(unit).or(Some("init.scope").filter(|_| cgroup.contains("init.scope")));
    if let Some(unit) = unit {
        entry.push("_SYSTEMD_UNIT", unit);
    }
    if let Some(slice) = slice {
        entry.push("_SYSTEMD_SLICE", slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_by_their_cgroups() {
        let cases = [
            ("/system.slice/ssh.service", (Some("ssh.service"), Some("system.slice"))),
            (
                "/system.slice/system-getty.slice/getty@tty1.service/x",
                (Some("getty@tty1.service"), Some("system-getty.slice")),
            ),
            ("/init.scope", (Some("init.scope"), None)),
            ("/", (None, None)),
            ("/user.slice", (None, Some("user.slice"))),
            ("/docker/abc", (None, None)),
        ];
        for (path, expected) in cases {
            assert_eq!(unit_and_slice(path), expected, "{path}");
        }
    }

    #[test]
    fn this_process_is_known_and_one_that_is_not_there_is_not() {
        let mut contexts = Contexts::new(Path::new("/proc"));
        let context = contexts.get(std::process::id(), 5).clone();
        assert!(context.exe.is_some() && context.comm.is_some() && context.command.is_some());
        assert_eq!(contexts.get(u32::MAX, 5), &Context { read_at: 5, ..Context::default() });
    }

    #[test]
    fn the_group_names_the_unit_before_the_connection_does() {
        let sender = Sender { pid: 5, uid: 0, gid: 0 };
        let unit = |cgroup: Option<&str>, hint: Option<&str>| {
            let mut entry = Entry::default();
            let context = Context { cgroup: cgroup.map(str::to_owned), ..Context::default() };
            add(&mut entry, sender, &context, hint);
            entry.get("_SYSTEMD_UNIT").map(|unit| String::from_utf8_lossy(unit).into_owned())
        };
        assert_eq!(unit(Some("/system.slice/a.service"), Some("b.service")), Some("a.service".to_owned()));
        assert_eq!(unit(None, Some("b.service")), Some("b.service".to_owned()));
        assert_eq!(unit(Some("/init.scope"), Some("b.service")), Some("b.service".to_owned()));
        assert_eq!(unit(Some("/init.scope"), None), Some("init.scope".to_owned()));
    }
}
