//! Which mounts and protections a sandbox means, as a list that is ordered by path: systemd.exec(5).

use std::path::{Path, PathBuf};

use image_config::unit::{
    PrivateTmp, ProtectControlGroups, ProtectHome, ProtectProc, ProtectSystem, Sandbox, SandboxPath,
};

/// What is to be mounted at a place. When several settings name one place, the first kind of this list counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mount {
    /// An empty thing of the same type that nobody may use.
    Inaccessible,
    /// Another part of the file system; `true` with the mounts below it. The last is whether it need not exist.
    Bind(PathBuf, bool, bool),
    /// `/dev` with the pseudo devices alone.
    Devices,
    /// Processes, with these options.
    Processes(String),
    /// An empty file system in memory, with these options.
    Memory(String),
}

/// A place and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: PathBuf,
    /// The setting that wants it, for messages.
    pub setting: &'static str,
    /// Mounted there.
    pub mount: Option<Mount>,
    /// Whether everything below, up to the next entry that says something else, is read-only.
    pub read_only: Option<bool>,
    /// Whether programs below cannot be run.
    pub no_exec: Option<bool>,
    /// It need not exist.
    pub optional: bool,
    /// The path is that of the root directory's inside.
    pub in_root: bool,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub entries: Vec<Entry>,
}

/// `ProtectSystem=yes`.
const SYSTEM: [&str; 3] = ["/usr", "/boot", "/efi"];
/// What `ProtectSystem=strict` leaves to other settings.
const NOT_SYSTEM: [&str; 6] = ["/proc", "/sys", "/dev", "/home", "/run/user", "/root"];
/// `ProtectHome=`.
const HOMES: [&str; 3] = ["/home", "/run/user", "/root"];
/// `ProtectKernelTunables=`: read-only, and out of reach.
const TUNABLES: [&str; 17] = [
    "/proc/acpi",
    "/proc/apm",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_stats",
    "/sys",
    "/sys/fs/bpf",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];
const HIDDEN_TUNABLES: [&str; 2] = ["/proc/kallsyms", "/proc/kcore"];
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// `ProtectKernelModules=` and `ProtectKernelLogs=`.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];
const LOGS: [&str; 2] = ["/proc/kmsg", "/dev/kmsg"];
/// Size and shape of file systems in memory that settings make by themselves, as systemd has them.
const EMPTY: &str = "mode=755,size=4m,nr_inodes=1k";
const TMP: &str = "mode=1777,size=10%,nr_inodes=400k";

impl Plan {
    /// The places that settings name by themselves. Folders that are made for the unit come on top.
    pub fn of(sandbox: &Sandbox) -> Plan {
        let mut plan = Plan::default();
        plan.written(sandbox);
        plan.protect_system(sandbox.protect_system);
        plan.protect_home(sandbox.protect_home);
        if sandbox.private_tmp == PrivateTmp::Disconnected {
            for path in ["/tmp", "/var/tmp"] {
                plan.mount("PrivateTmp=", path, Mount::Memory(TMP.to_owned())).read_only = Some(false);
            }
        }
        if sandbox.private_devices {
            plan.mount("PrivateDevices=", "/dev", Mount::Devices).no_exec = Some(true);
        }
        if sandbox.protect_kernel_tunables {
            const SETTING: &str = "ProtectKernelTunables=";
            plan.protect(SETTING, &TUNABLES, true);
            plan.protect(SETTING, &[CONTROL_GROUPS], false);
            plan.hide(SETTING, &HIDDEN_TUNABLES);
        }
        if sandbox.protect_kernel_modules {
            plan.hide("ProtectKernelModules=", &MODULES);
        }
        if sandbox.protect_kernel_logs {
            plan.hide("ProtectKernelLogs=", &LOGS);
        }
        if matches!(sandbox.protect_control_groups, ProtectControlGroups::Yes | ProtectControlGroups::Strict)
        {
            plan.protect("ProtectControlGroups=", &[CONTROL_GROUPS], true);
        }
        let hidden = match sandbox.protect_proc {
            ProtectProc::Default => None,
            ProtectProc::NoAccess => Some("hidepid=noaccess"),
            ProtectProc::Invisible => Some("hidepid=invisible"),
            ProtectProc::Ptraceable => Some("hidepid=ptraceable"),
        };
        let options: Vec<&str> =
            hidden.into_iter().chain(sandbox.proc_subset_pid.then_some("subset=pid")).collect();
        if !options.is_empty() {
            plan.mount("ProtectProc=", "/proc", Mount::Processes(options.join(",")));
        }
        plan
    }

    /// What the unit file lists path by path.
    fn written(&mut self, sandbox: &Sandbox) {
        let in_root = sandbox.root_directory.is_some();
        let mut add = |setting, list: &[SandboxPath], change: fn(&mut Entry)| {
            for path in list {
                let mut entry = Entry::new(setting, &path.path);
                entry.optional = path.optional;
                entry.in_root = in_root && path.below_root;
                change(&mut entry);
                self.entries.push(entry);
            }
        };
        add("ReadOnlyPaths=", &sandbox.read_only_paths, |entry| entry.read_only = Some(true));
        add("ReadWritePaths=", &sandbox.read_write_paths, |entry| entry.read_only = Some(false));
        add("InaccessiblePaths=", &sandbox.inaccessible_paths, |entry| {
            entry.mount = Some(Mount::Inaccessible)
        });
        add("ExecPaths=", &sandbox.exec_paths, |entry| entry.no_exec = Some(false));
        add("NoExecPaths=", &sandbox.no_exec_paths, |entry| entry.no_exec = Some(true));
        for bind in &sandbox.bind_paths {
            let mount = Mount::Bind(PathBuf::from(&bind.source), bind.recursive, bind.optional);
            let entry = self.mount("BindPaths=", &bind.target, mount);
            entry.read_only = Some(bind.read_only);
            entry.in_root = true;
        }
        for (path, options) in &sandbox.temporary_file_systems {
            let (read_only, rest) = split_read_only(options);
            let rest = if rest.is_empty() { EMPTY.to_owned() } else { rest };
            let entry = self.mount("TemporaryFileSystem=", path, Mount::Memory(rest));
            entry.read_only = Some(read_only);
        }
    }

    fn protect_system(&mut self, level: ProtectSystem) {
        const SETTING: &str = "ProtectSystem=";
        match level {
            ProtectSystem::No => {}
            ProtectSystem::Strict => {
                self.protect(SETTING, &["/"], true);
                self.protect(SETTING, &NOT_SYSTEM, false);
            }
            ProtectSystem::Yes | ProtectSystem::Full => {
                self.protect(SETTING, &SYSTEM, true);
                if level == ProtectSystem::Full {
                    self.protect(SETTING, &["/etc"], true);
                }
            }
        }
    }

    fn protect_home(&mut self, level: ProtectHome) {
        const SETTING: &str = "ProtectHome=";
        match level {
            ProtectHome::No => {}
            ProtectHome::Yes => self.hide(SETTING, &HOMES),
            ProtectHome::ReadOnly => self.protect(SETTING, &HOMES, true),
            ProtectHome::Tmpfs => {
                for path in HOMES {
                    let entry = self.mount(SETTING, path, Mount::Memory(EMPTY.to_owned()));
                    entry.read_only = Some(true);
                    entry.optional = true;
                }
            }
        }
    }

    /// A folder of `PrivateTmp=` in its place.
    pub fn private_tmp(&mut self, folder: PathBuf, target: &str) {
        self.mount("PrivateTmp=", target, Mount::Bind(folder, true, false)).read_only = Some(false);
    }

    /// The base of a dynamic user's folders, with nothing but those that are the unit's.
    pub fn private_base<'a>(&mut self, base: &Path, folders: impl Iterator<Item = &'a PathBuf>) {
        const SETTING: &str = "DynamicUser=";
        self.mount(SETTING, base, Mount::Memory(EMPTY.to_owned())).read_only = Some(true);
        for folder in folders {
            self.mount(SETTING, folder, Mount::Bind(folder.clone(), true, false)).read_only = Some(false);
        }
    }

    /// A folder of the unit's own, which no other setting makes read-only.
    pub fn writable(&mut self, path: &Path) {
        let mut entry = Entry::new("StateDirectory=", path);
        entry.read_only = Some(false);
        entry.optional = true;
        self.entries.push(entry);
    }

    fn protect(&mut self, setting: &'static str, paths: &[&str], read_only: bool) {
        for path in paths {
            let mut entry = Entry::new(setting, path);
            entry.read_only = Some(read_only);
            entry.optional = true;
            entry.in_root = true;
            self.entries.push(entry);
        }
    }

    fn hide(&mut self, setting: &'static str, paths: &[&str]) {
        for path in paths {
            self.mount(setting, path, Mount::Inaccessible).optional = true;
        }
    }

    fn mount(&mut self, setting: &'static str, path: impl AsRef<Path>, mount: Mount) -> &mut Entry {
        let mut entry = Entry::new(setting, path);
        entry.mount = Some(mount);
        entry.in_root = true;
        self.entries.push(entry);
        let last = self.entries.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "it was pushed two lines above")]
        &mut self.entries[last]
    }
}

impl Entry {
    fn new(setting: &'static str, path: impl AsRef<Path>) -> Entry {
        Entry {
            path: path.as_ref().to_owned(),
            setting,
            mount: None,
            read_only: None,
            no_exec: None,
            optional: false,
            in_root: false,
        }
    }
}

/// Takes `ro` and `rw` out of mount options: a file system is written to before it becomes read-only.
fn split_read_only(options: &str) -> (bool, String) {
    let mut read_only = false;
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => rest.push(other),
        }
    }
    (read_only, rest.join(","))
}

/// One entry a place, parents first; nothing below what is out of reach.
pub(super) fn settle(mut entries: Vec<Entry>) -> Vec<Entry> {
    // Stable: of two of one place the earlier one gives the message.
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut settled: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if settled.iter().any(|above| {
            above.mount == Some(Mount::Inaccessible)
                && entry.path != above.path
                && entry.path.starts_with(&above.path)
        }) {
            continue;
        }
        match settled.last_mut().filter(|last| last.path == entry.path) {
            Some(last) => {
                last.mount = match (last.mount.take(), entry.mount) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                last.read_only = stricter(last.read_only, entry.read_only);
                last.no_exec = stricter(last.no_exec, entry.no_exec);
                last.optional = last.optional && entry.optional;
            }
            None => settled.push(entry),
        }
    }
    settled
}

fn stricter(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one || other),
        (one, other) => one.or(other),
    }
}

/// What holds for a mount: the word of the deepest entry above it that has one.
pub(super) fn rule_for(entries: &[Entry], place: &Path, rule: fn(&Entry) -> Option<bool>) -> bool {
    entries.iter().rev().filter(|entry| place.starts_with(&entry.path)).find_map(rule).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> SandboxPath {
        SandboxPath { path: path.to_owned(), optional: false, below_root: false }
    }

    fn read_only(entries: &[Entry], place: &str) -> bool {
        rule_for(entries, Path::new(place), |entry| entry.read_only)
    }

    #[test]
    fn what_is_protected_is_read_only_but_for_what_is_listed() {
        let sandbox = Sandbox {
            protect_system: ProtectSystem::Strict,
            protect_home: ProtectHome::ReadOnly,
            protect_kernel_tunables: true,
            read_write_paths: vec![path("/var/lib/redis"), path("/usr/x")],
            read_only_paths: vec![path("/usr/x/y")],
            no_exec_paths: vec![path("/")],
            exec_paths: vec![path("/usr/lib")],
            ..Sandbox::default()
        };
        let mut plan = Plan::of(&sandbox);
        plan.writable(Path::new("/run/redis"));
        let entries = settle(plan.entries);
        let cases = [
            ("/", true),
            ("/usr", true),
            ("/usr/x", false),
            ("/usr/x/y/z", true),
            ("/var/lib/redis", false),
            ("/var/lib/redis2", true),
            ("/run/redis", false),
            ("/dev/pts", false),
            ("/home", true),
            ("/sys/fs/cgroup", false),
            ("/sys/kernel", true),
            ("/proc/sys", true),
            ("/proc", false),
        ];
        for (place, want) in cases {
            assert_eq!(read_only(&entries, place), want, "{place}");
        }
        let no_exec = |place: &str| rule_for(&entries, Path::new(place), |entry| entry.no_exec);
        assert!(no_exec("/tmp") && !no_exec("/usr/lib/x"));
        let paths: Vec<&Path> = entries.iter().map(|entry| entry.path.as_path()).collect();
        assert!(paths.is_sorted() && paths.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn of_two_wishes_for_a_place_the_stricter_counts_and_hidden_places_hide_what_is_below() {
        let sandbox = Sandbox {
            inaccessible_paths: vec![path("/a"), path("/b")],
            read_write_paths: vec![path("/a/below"), path("/b"), path("/c")],
            read_only_paths: vec![path("/c")],
            temporary_file_systems: vec![("/b".into(), String::new()), ("/d".into(), "ro,mode=0700".into())],
            ..Sandbox::default()
        };
        let entries = settle(Plan::of(&sandbox).entries);
        let at = |place: &str| entries.iter().find(|entry| entry.path == Path::new(place));
        assert_eq!(at("/a/below"), None);
        assert_eq!(at("/b").unwrap().mount, Some(Mount::Inaccessible));
        assert_eq!(at("/c").unwrap().read_only, Some(true));
        let d = at("/d").unwrap();
        assert_eq!((d.mount.clone(), d.read_only), (Some(Mount::Memory("mode=0700".into())), Some(true)));
    }

    #[test]
    fn no_settings_mean_no_entries() {
        assert_eq!(Plan::of(&Sandbox::default()).entries, []);
    }
}
