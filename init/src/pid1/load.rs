//! Loading units: from their files (found by [`UnitFolders`]) to what the supervisor needs.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::Path;

use image_config::unit::{Service, System, Unit, UnitName, UnitType, Warning};

use super::{hooks, translate};
use crate::supervisor::{Edge, LoadState, Monotonic, UnitKind, UnitSpec};
use crate::unit_files::{Fragment, UnitFolders};

/// How long a job waits for a device: systemd's `DefaultDeviceTimeoutSec=`.
const DEVICE_PATIENCE: Monotonic = Monotonic::seconds(90);
/// A unit file larger than this is refused: nobody writes one, and PID 1's memory is not a file's to spend.
const LARGEST_FILE: u64 = 4 << 20;

/// A unit that was looked for, whether it was found or not.
#[derive(Debug)]
pub struct Loaded {
    /// What the supervisor needs.
    pub spec: UnitSpec,
    /// The typed settings, when there are any.
    pub unit: Option<Unit>,
    /// Commands of a unit that is no service.
    pub hooks: Option<Box<Service>>,
    /// What was wrong with its files.
    pub warnings: Vec<Warning>,
}

/// Loads units from the folders below a root.
#[derive(Debug)]
pub struct Loader {
    folders: UnitFolders,
    system: System,
    /// What units want beyond their files.
    wants: Vec<(String, String)>,
    /// Mounts and swaps that the kernel has.
    found: BTreeSet<String>,
}

/// Targets that the default dependencies of a kind of unit name.
fn default_targets(kind: UnitKind) -> &'static [&'static str] {
    match kind {
        UnitKind::Service => &["sysinit.target", "basic.target", "shutdown.target"],
        UnitKind::Socket | UnitKind::Timer | UnitKind::Path => &["sysinit.target", "shutdown.target"],
        UnitKind::Mount | UnitKind::Swap => &["umount.target"],
        UnitKind::Target | UnitKind::Slice => &["shutdown.target"],
        UnitKind::Device | UnitKind::Unsupported => &[],
    }
}

impl Loader {
    /// A loader for the unit folders below `root`.
    pub fn new(root: &Path, system: System) -> Loader {
        Loader { folders: UnitFolders::of_system(root), system, wants: Vec::new(), found: BTreeSet::new() }
    }

    /// A loader for one folder of unit files, for tests on a host.
    pub fn of_folder(folder: &Path, system: System) -> Loader {
        let folders = UnitFolders::new(vec![folder.to_owned()]);
        Loader { folders, system, wants: Vec::new(), found: BTreeSet::new() }
    }

    /// The folders that unit files come from, strongest first.
    pub fn unit_path(&self) -> Vec<String> {
        self.folders.folders().iter().map(|folder| folder.display().to_string()).collect()
    }

    /// What `%H` stands for from now on.
    pub fn set_host_name(&mut self, name: &str) {
        self.system.host_name = name.to_owned();
    }

    /// Makes `unit` want `other`, as a link in its `.wants` folder would.
    pub fn want(&mut self, unit: &str, other: &str) {
        self.wants.push((unit.to_owned(), other.to_owned()));
    }

    /// Loads the named units and everything that they lead to, leaving out what `known` says is loaded already.
    pub fn closure(&self, names: &[String], known: &dyn Fn(&str) -> bool) -> Vec<Loaded> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut work: VecDeque<String> = names.iter().cloned().collect();
        let mut loaded = Vec::new();
        while let Some(name) = work.pop_front() {
            if known(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let unit = self.load(&name);
            seen.insert(unit.spec.name.clone());
            seen.extend(unit.spec.aliases.iter().cloned());
            // What merely is ordered with it need not be loaded: an order matters only between units that have jobs.
            let leads_on =
                |edge: &Edge| !matches!(edge, Edge::Before | Edge::After | Edge::WantedBy | Edge::RequiredBy);
            work.extend(
                unit.spec.relations.iter().filter(|(edge, _)| leads_on(edge)).map(|(_, other)| other.clone()),
            );
            if unit.spec.default_dependencies {
                work.extend(default_targets(unit.spec.kind).iter().map(|name| (*name).to_owned()));
            }
            loaded.push(unit);
        }
        loaded
    }

    /// Loads one unit. Never fails: what went wrong is in its [`LoadState`].
    pub fn load(&self, name: &str) -> Loaded {
        let bad = |name: &str, load: LoadState| Loaded {
            spec: UnitSpec { load, ..UnitSpec::not_found(name) },
            unit: None,
            hooks: None,
            warnings: Vec::new(),
        };
        let parsed = match UnitName::parse(name) {
            Ok(parsed) if !parsed.is_template() => parsed,
            Ok(_) => return bad(name, LoadState::Bad("a template needs an instance".to_owned())),
            Err(error) => return bad(name, LoadState::Bad(error.to_string())),
        };
        match self.folders.fragment(&parsed) {
            Fragment::NotFound if self.is_built_in(&parsed) => self.assemble(&parsed, None, &[]),
            Fragment::NotFound => bad(name, LoadState::NotFound),
            Fragment::Masked => bad(name, LoadState::Masked),
            Fragment::Unreadable(problem) => bad(name, LoadState::Bad(problem)),
            Fragment::Found { name, path, aliases } => self.assemble(&name, Some(&path), &aliases),
        }
    }

    /// Main file and drop-ins into one unit.
    fn assemble(&self, name: &UnitName, path: Option<&Path>, aliases: &[UnitName]) -> Loaded {
        let mut warnings = Vec::new();
        let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
        let names: Vec<&UnitName> = std::iter::once(name).chain(aliases).collect();
        for file in path.map(Path::to_owned).into_iter().chain(self.folders.drop_ins(&names)) {
            let shown = file.display().to_string();
            match read_bounded(&file) {
                Ok(text) => texts.push((shown, text)),
                Err(error) => {
                    warnings.push(Warning {
                        path: shown,
                        line: 0,
                        message: format!("cannot be read: {error}"),
                    });
                }
            }
        }
        let fragments: Vec<(&str, &[u8])> =
            texts.iter().map(|(path, text)| (path.as_str(), text.as_slice())).collect();
        let (unit, more) = Unit::parse(name, &fragments, &self.system);
        warnings.extend(more);
        let (mut spec, commands) = translate::unit_spec(&unit);
        if path.is_none() {
            spec.load = LoadState::Loaded;
            spec.default_dependencies &= name.kind() == UnitType::Slice;
        }
        spec.relations.extend(self.mount_relations(&unit));
        if name.kind() == UnitType::Device {
            spec.job_running_timeout = spec.job_running_timeout.or(Some(DEVICE_PATIENCE));
        }
        spec.aliases = aliases.iter().map(|alias| alias.as_str().to_owned()).collect();
        for (suffix, edge) in
            [("wants", Edge::Wants), ("requires", Edge::Requires), ("upholds", Edge::Upholds)]
        {
            spec.relations.extend(self.folders.linked(&names, suffix).into_iter().map(|other| (edge, other)));
        }
        let wanted = self.wants.iter().filter(|(holder, _)| *holder == spec.name);
        spec.relations.extend(wanted.map(|(_, other)| (Edge::Wants, other.clone())));
        Loaded { spec, unit: Some(unit), hooks: commands, warnings }
    }

    /// Units that are there without a file: devices and slices always, mounts and swaps when the kernel has them.
    fn is_built_in(&self, name: &UnitName) -> bool {
        match name.kind() {
            UnitType::Device | UnitType::Slice => true,
            UnitType::Mount | UnitType::Swap => self.found.contains(name.as_str()),
            _ => false,
        }
    }

    /// The machine's id, for what is to be the same on it every time.
    pub fn machine_id(&self) -> &str {
        &self.system.machine_id
    }

    /// What the kernel has mounted and swaps to, by unit name.
    pub fn set_found(&mut self, found: BTreeSet<String>) {
        self.found = found;
    }

    /// `RequiresMountsFor=` and its like: of the mount units above a path those that somebody has written.
    fn mount_relations(&self, unit: &Unit) -> Vec<(Edge, String)> {
        let mut relations = Vec::new();
        for (path, edge) in hooks::needed_paths(unit) {
            for name in hooks::mounts_above(&path) {
                let written = name != unit.name.as_str()
                    && UnitName::parse(&name).is_ok_and(|name| self.folders.find(&name).is_some());
                if written {
                    relations.extend([(edge, name.clone()), (Edge::After, name)]);
                }
            }
        }
        relations
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
    }
    fs::read(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) -> &Folder {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn link(&self, path: &str, target: &str) -> &Folder {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
            self
        }

        fn loader(&self) -> Loader {
            Loader::new(self.0.path(), System::default())
        }
    }

    const LIB: &str = "usr/lib/systemd/system";
    const ETC: &str = "etc/systemd/system";

    #[test]
    fn etc_wins_over_usr_and_dropins_of_all_folders_count_by_name() {
        let folder = Folder::new();
        folder
            .write(&format!("{LIB}/a.service"), "[Unit]\nDescription=lib\n[Service]\nExecStart=/bin/a\n")
            .write(&format!("{ETC}/a.service"), "[Unit]\nDescription=etc\n[Service]\nExecStart=/bin/a\n")
            .write(&format!("{LIB}/a.service.d/20.conf"), "[Unit]\nDescription=twenty\n")
            .write(&format!("{ETC}/a.service.d/10.conf"), "[Unit]\nDescription=ten\n");
        let loaded = folder.loader().load("a.service");
        assert_eq!(loaded.spec.description, "twenty");
        folder.write(&format!("{ETC}/a.service.d/20.conf"), "");
        assert_eq!(folder.loader().load("a.service").spec.description, "ten");
    }

    #[test]
    fn a_link_to_another_name_is_an_alias_and_a_link_to_null_a_mask() {
        let folder = Folder::new();
        folder
            .write(&format!("{LIB}/ssh.service"), "[Service]\nExecStart=/bin/a\n")
            .link(&format!("{ETC}/sshd.service"), "/usr/lib/systemd/system/ssh.service")
            .link(&format!("{ETC}/off.service"), "/dev/null")
            .link(&format!("{ETC}/loop.service"), "loop2.service")
            .link(&format!("{ETC}/loop2.service"), "loop.service");
        let loaded = folder.loader().load("sshd.service");
        assert_eq!(
            (loaded.spec.name.as_str(), loaded.spec.aliases),
            ("ssh.service", vec!["sshd.service".to_owned()])
        );
        assert_eq!(folder.loader().load("off.service").spec.load, LoadState::Masked);
        assert_eq!(folder.loader().load("gone.service").spec.load, LoadState::NotFound);
        assert!(matches!(folder.loader().load("loop.service").spec.load, LoadState::Bad(_)));
    }

    #[test]
    fn a_unit_brings_the_slices_along_that_it_is_in() {
        let folder = Folder::new();
        let text = "[Unit]\nDefaultDependencies=no\n[Service]\nSlice=a-b.slice\nExecStart=/bin/a\n";
        folder.write(&format!("{LIB}/a.service"), text).write(
            &format!("{LIB}/b.service"),
            "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/b\n",
        );
        let names = ["a.service".to_owned(), "b.service".to_owned()];
        let loaded = folder.loader().closure(&names, &|_| false);
        let slice_of = |name: &str| -> Vec<(Edge, &str)> {
            let found = loaded.iter().find(|loaded| loaded.spec.name == name).unwrap();
            found.spec.relations.iter().map(|(edge, other)| (*edge, other.as_str())).collect()
        };
        assert_eq!(slice_of("a.service"), [(Edge::Requires, "a-b.slice"), (Edge::After, "a-b.slice")]);
        assert_eq!(slice_of("a-b.slice"), [(Edge::Requires, "a.slice"), (Edge::After, "a.slice")]);
        assert_eq!(slice_of("a.slice"), []);
        assert_eq!(slice_of("b.service"), [(Edge::Requires, "system.slice"), (Edge::After, "system.slice")]);
        let always = loaded.iter().filter(|loaded| loaded.spec.perpetual).map(|loaded| &loaded.spec.name);
        assert_eq!(always.collect::<Vec<_>>(), ["system.slice"]);
    }

    #[test]
    fn an_instance_comes_from_its_template_with_wants_of_both() {
        let folder = Folder::new();
        folder
            .write(
                &format!("{LIB}/serial-getty@.service"),
                "[Unit]\nDescription=on %I\n[Service]\nExecStart=/bin/g %I\n",
            )
            .link(
                &format!("{ETC}/getty.target.wants/serial-getty@ttyS0.service"),
                "/usr/lib/systemd/system/serial-getty@.service",
            )
            .write(&format!("{LIB}/getty.target"), "[Unit]\n");
        let loaded = folder.loader().closure(&["getty.target".to_owned()], &|_| false);
        let found = loaded.iter().find(|loaded| loaded.spec.name == "serial-getty@ttyS0.service").unwrap();
        assert_eq!(found.spec.description, "on ttyS0");
        let target = &loaded[0].spec;
        assert!(target.relations.contains(&(Edge::Wants, "serial-getty@ttyS0.service".to_owned())));
    }
}
