//! Enabling and masking: links in `/etc/systemd/system`, or with `runtime` in `/run/systemd/system`.
//!
//! systemctl(1), "Unit File Commands". Nothing here talks to PID 1, which is told to read its files again afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use image_config::unit::{Install, UnitName};

use super::links::links;
use super::{Fragment, UnitFolders, is_mask};

/// Changes the links of units below a root.
#[derive(Debug)]
pub struct Installer {
    folders: UnitFolders,
    root: PathBuf,
    /// Where links are made.
    target: PathBuf,
    force: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link was made.
    Created {
        /// Where.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A link was removed.
    Removed(PathBuf),
    /// There is no `[Install]` to go by.
    NothingToInstall(UnitName),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No such unit.
    #[error("Unit file {0} does not exist.")]
    NotFound(String),
    /// Switched off.
    #[error("Unit file {0} is masked.")]
    Masked(String),
    /// A template where an instance is needed.
    #[error(
        "Unit {0} is a template: name an instance of it, or set DefaultInstance= in its [Install] section."
    )]
    Template(String),
    /// Something else is in the way.
    #[error("File '{}' already exists{}.", path.display(), hint)]
    Exists {
        /// What.
        path: PathBuf,
        /// What can be done.
        hint: &'static str,
    },
    /// A path that is no unit file.
    #[error("'{0}' is no unit file with an absolute path.")]
    NoUnitFile(String),
    /// The file system.
    #[error("{what} '{}': {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl Installer {
    /// For the system below `root`.
    pub fn new(root: &Path, runtime: bool, force: bool) -> Installer {
        let folder = if runtime { "run/systemd/system" } else { "etc/systemd/system" };
        Installer {
            folders: UnitFolders::of_system(root),
            root: root.to_owned(),
            target: root.join(folder),
            force,
        }
    }

    /// What everything lies below.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where links are made.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// The folders that it works in.
    pub fn folders(&self) -> &UnitFolders {
        &self.folders
    }

    /// Enables a unit by name, or one whose file has a path of its own.
    ///
    /// # Errors
    /// [`InstallError`]; links that were made before stay.
    pub fn enable(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        let name = if unit.contains('/') { self.link(unit, &mut changes)? } else { parse(unit)? };
        let mut seen = BTreeSet::new();
        self.enable_with_also(&name, &mut seen, &mut changes)?;
        Ok(changes)
    }

    /// Makes a unit file known that lies elsewhere.
    ///
    /// # Errors
    /// [`InstallError`] when it is no unit file, or its name is taken.
    pub fn link(&self, path: &str, changes: &mut Vec<Change>) -> Result<UnitName, InstallError> {
        let no_file = || InstallError::NoUnitFile(path.to_owned());
        let file = Path::new(path);
        let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(no_file)?;
        let name = UnitName::parse(name).map_err(|_| no_file())?;
        if !file.is_absolute() || !self.outside(file).is_file() {
            return Err(no_file());
        }
        let is_known =
            self.folders.folders().iter().any(|folder| self.outside(file).parent() == Some(folder));
        if !is_known {
            self.make_link(&self.target.join(name.as_str()), file, changes)?;
        }
        Ok(name)
    }

    fn enable_with_also(
        &self,
        unit: &UnitName,
        seen: &mut BTreeSet<UnitName>,
        changes: &mut Vec<Change>,
    ) -> Result<(), InstallError> {
        if !seen.insert(unit.clone()) {
            return Ok(());
        }
        let (name, path) = self.file_of(unit)?;
        let install = self.folders.install_section(&name).unwrap_or_default();
        let before = changes.len();
        let any = self.make_links(&name, &path, &install, changes)?;
        for also in &install.also {
            self.enable_with_also(also, seen, changes)?;
        }
        if !any && install.also.is_empty() && changes.len() == before {
            changes.push(Change::NothingToInstall(name));
        }
        Ok(())
    }

    /// The links that `[Install]` asks for; false when it asks for none.
    fn make_links(
        &self,
        name: &UnitName,
        path: &Path,
        install: &Install,
        changes: &mut Vec<Change>,
    ) -> Result<bool, InstallError> {
        let groups = [
            (&install.wanted_by, "wants"),
            (&install.required_by, "requires"),
            (&install.upheld_by, "upholds"),
        ];
        let needs_instance = groups.iter().any(|(list, _)| !list.is_empty());
        let linked = match (&install.default_instance, name.is_template() && needs_instance) {
            (_, false) => name.clone(),
            (Some(instance), true) => {
                name.with_instance(instance).map_err(|_| InstallError::Template(name.as_str().to_owned()))?
            }
            (None, true) => return Err(InstallError::Template(name.as_str().to_owned())),
        };
        let target = self.inside(path);
        for (holders, suffix) in groups {
            for holder in holders {
                let link = self.target.join(format!("{holder}.{suffix}")).join(linked.as_str());
                self.make_link(&link, &target, changes)?;
            }
        }
        for alias in &install.alias {
            // An alias that is a template stands for the same instance.
            let alias = match name.instance().filter(|instance| !instance.is_empty() && alias.is_template()) {
                Some(instance) => alias.with_instance(instance).unwrap_or_else(|_| alias.clone()),
                None => alias.clone(),
            };
            if alias != *name {
                self.make_link(&self.target.join(alias.as_str()), &target, changes)?;
            }
        }
        Ok(needs_instance || !install.alias.is_empty())
    }

    /// Removes every link that concerns a unit, and those of the units that it names in `Also=`.
    ///
    /// # Errors
    /// [`InstallError`] when there is no such unit at all, or a link cannot be removed.
    pub fn disable(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let name = match unit.rsplit_once('/') {
            Some((_, file)) => parse(file)?,
            None => parse(unit)?,
        };
        let mut units = vec![name.clone()];
        if let Some(install) = self.folders.install_section(&name) {
            units.extend(install.also);
        }
        let mut changes = Vec::new();
        for unit in &units {
            for link in links(&self.target).into_iter().filter(|link| link.is_of(unit)) {
                remove(&link.path, &mut changes)?;
            }
        }
        if changes.is_empty() && self.folders.find(&name).is_none() {
            return Err(InstallError::NotFound(unit.to_owned()));
        }
        Ok(changes)
    }

    /// Switches a unit off: no file of that name counts any more.
    ///
    /// # Errors
    /// [`InstallError::Exists`] when a file is in the way.
    pub fn mask(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        self.make_link(&self.target.join(parse(unit)?.as_str()), Path::new("/dev/null"), &mut changes)?;
        Ok(changes)
    }

    /// Undoes [`Installer::mask`].
    ///
    /// # Errors
    /// [`InstallError::Io`].
    pub fn unmask(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let path = self.target.join(parse(unit)?.as_str());
        let mut changes = Vec::new();
        if path.is_symlink() && is_mask(&path) {
            remove(&path, &mut changes)?;
        }
        Ok(changes)
    }

    /// Makes a target the one that the machine boots into.
    ///
    /// # Errors
    /// [`InstallError`] when there is no such target.
    pub fn set_default(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let (_, path) = self.file_of(&parse(unit)?)?;
        let link = self.target.join("default.target");
        let mut changes = Vec::new();
        if link.is_symlink() {
            remove(&link, &mut changes)?;
        }
        self.make_link(&link, &self.inside(&path), &mut changes)?;
        Ok(changes)
    }

    /// What the machine boots into.
    pub fn default_target(&self) -> Option<UnitName> {
        match self.folders.fragment(&UnitName::parse("default.target").ok()?) {
            Fragment::Found { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The unit's own name and its file.
    pub(super) fn file_of(&self, unit: &UnitName) -> Result<(UnitName, PathBuf), InstallError> {
        match self.folders.fragment(unit) {
            Fragment::Found { name, path, .. } => Ok((name, path)),
            Fragment::Masked => Err(InstallError::Masked(unit.as_str().to_owned())),
            Fragment::NotFound | Fragment::Unreadable(_) => {
                Err(InstallError::NotFound(unit.as_str().to_owned()))
            }
        }
    }

    pub(super) fn make_link(
        &self,
        link: &Path,
        target: &Path,
        changes: &mut Vec<Change>,
    ) -> Result<(), InstallError> {
        let io = |what, source| InstallError::Io { what, path: link.to_owned(), source };
        if let Ok(data) = link.symlink_metadata() {
            if fs::read_link(link).is_ok_and(|old| old == target) {
                return Ok(());
            }
            if !data.is_symlink() {
                return Err(InstallError::Exists { path: link.to_owned(), hint: "" });
            }
            if !self.force {
                return Err(InstallError::Exists { path: link.to_owned(), hint: "; --force replaces it" });
            }
            remove(link, changes)?;
        }
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(|error| io("cannot make the folder of", error))?;
        }
        symlink(target, link).map_err(|error| io("cannot make the link", error))?;
        changes.push(Change::Created { link: link.to_owned(), target: target.to_owned() });
        Ok(())
    }

    /// A path below the root as the system itself sees it.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// The reverse of [`Installer::inside`].
    fn outside(&self, path: &Path) -> PathBuf {
        path.strip_prefix("/").map_or_else(|_| path.to_owned(), |rest| self.root.join(rest))
    }
}

pub(super) fn parse(unit: &str) -> Result<UnitName, InstallError> {
    UnitName::parse(unit).map_err(|_| InstallError::NotFound(unit.to_owned()))
}

pub(super) fn remove(link: &Path, changes: &mut Vec<Change>) -> Result<(), InstallError> {
    let io = |source| InstallError::Io { what: "cannot remove", path: link.to_owned(), source };
    fs::remove_file(link).map_err(io)?;
    changes.push(Change::Removed(link.to_owned()));
    // A folder of wants that is empty says nothing.
    if let Some(folder) = link.parent().filter(|folder| folder.extension().is_some_and(|end| end != "system"))
    {
        let _not_empty = fs::remove_dir(folder);
    }
    Ok(())
}

/// Removes a folder with all that is in it.
pub(super) fn remove_folder(folder: &Path, changes: &mut Vec<Change>) -> Result<(), InstallError> {
    let io = |source| InstallError::Io { what: "cannot remove", path: folder.to_owned(), source };
    fs::remove_dir_all(folder).map_err(io)?;
    changes.push(Change::Removed(folder.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::state::FileState;
    use super::*;

    const SSH: (&str, &str) = (
        "usr/lib/systemd/system/ssh.service",
        "[Service]\nExecStart=/a\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\nAlso=ssh.socket\n",
    );
    const SOCKET: (&str, &str) = (
        "usr/lib/systemd/system/ssh.socket",
        "[Socket]\nListenStream=22\n[Install]\nRequiredBy=ssh.service\n",
    );

    #[test]
    fn enabling_makes_the_links_and_disabling_removes_them() {
        let machine = Machine::new(&[SSH, SOCKET]);
        assert_eq!(machine.state("ssh.service"), FileState::Disabled);
        let changes = machine.installer().enable("ssh.service").unwrap();
        assert_eq!(changes.len(), 3);
        let file = "/usr/lib/systemd/system/ssh.service";
        assert_eq!(machine.target("multi-user.target.wants/ssh.service").as_deref(), Some(file));
        assert_eq!(machine.target("sshd.service").as_deref(), Some(file));
        assert!(machine.target("ssh.service.requires/ssh.socket").is_some());
        assert_eq!(machine.state("ssh.service"), FileState::Enabled);
        assert_eq!(machine.state("ssh.socket"), FileState::Enabled);
        assert_eq!(machine.installer().enable("ssh.service").unwrap(), []);
        assert_eq!(machine.installer().disable("ssh.service").unwrap().len(), 3);
        assert_eq!(machine.target("multi-user.target.wants/ssh.service"), None);
        assert!(!machine.root().join("etc/systemd/system/multi-user.target.wants").exists());
        assert_eq!(machine.state("ssh.service"), FileState::Disabled);
    }

    #[test]
    fn a_mask_hides_a_unit_until_it_is_taken_off() {
        let machine = Machine::new(&[SSH, ("etc/systemd/system/mine.service", "[Service]\n")]);
        assert_eq!(machine.installer().mask("ssh.service").unwrap().len(), 1);
        assert_eq!(machine.state("ssh.service"), FileState::Masked);
        assert!(matches!(machine.installer().enable("ssh.service"), Err(InstallError::Masked(_))));
        assert_eq!(machine.installer().unmask("ssh.service").unwrap().len(), 1);
        assert_eq!(machine.state("ssh.service"), FileState::Disabled);
        let error = machine.installer().mask("mine.service").unwrap_err();
        assert!(error.to_string().ends_with("etc/systemd/system/mine.service' already exists."), "{error}");
    }

    #[test]
    fn templates_are_enabled_by_instance() {
        let template = "[Service]\nExecStart=/a\n[Install]\nWantedBy=getty.target\n";
        let with_default = format!("{template}DefaultInstance=tty1\n");
        let machine = Machine::new(&[
            ("usr/lib/systemd/system/t@.service", template),
            ("usr/lib/systemd/system/d@.service", &with_default),
        ]);
        assert!(matches!(machine.installer().enable("t@.service"), Err(InstallError::Template(_))));
        machine.installer().enable("t@x.service").unwrap();
        let link = machine.target("getty.target.wants/t@x.service");
        assert_eq!(link.as_deref(), Some("/usr/lib/systemd/system/t@.service"));
        assert_eq!(machine.state("t@x.service"), FileState::Enabled);
        assert_eq!(machine.state("t@y.service"), FileState::Disabled);
        machine.installer().enable("d@.service").unwrap();
        assert!(machine.target("getty.target.wants/d@tty1.service").is_some());
        machine.installer().disable("t@x.service").unwrap();
        assert!(machine.target("getty.target.wants/d@tty1.service").is_some());
    }

    #[test]
    fn states_are_told_apart() {
        let machine = Machine::new(&[
            SSH,
            ("usr/lib/systemd/system/static.service", "[Service]\nExecStart=/a\n"),
            ("usr/lib/systemd/system/also.service", "[Service]\n[Install]\nAlso=ssh.service\n"),
            ("run/systemd/generator/gen.service", "[Service]\nExecStart=/a\n"),
            ("opt/far.service", "[Service]\nExecStart=/a\n"),
        ]);
        assert_eq!(machine.state("static.service"), FileState::Static);
        assert_eq!(machine.state("also.service"), FileState::Indirect);
        assert_eq!(machine.state("gen.service"), FileState::Generated);
        assert_eq!(machine.state("gone.service"), FileState::NotFound);
        let changes = machine.installer().enable("static.service").unwrap();
        assert_eq!(changes, [Change::NothingToInstall(UnitName::parse("static.service").unwrap())]);
        machine.installer().enable("ssh.service").unwrap_err(); // ssh.socket, which Also= names, is not there
        assert_eq!(machine.state("sshd.service"), FileState::Alias);
        assert!(matches!(machine.installer().enable("gone.service"), Err(InstallError::NotFound(_))));
        assert!(matches!(machine.installer().enable("rel/x.service"), Err(InstallError::NoUnitFile(_))));
    }

    #[test]
    fn a_unit_file_from_elsewhere_is_linked_and_the_default_target_set() {
        let machine = Machine::new(&[
            ("opt/far.service", "[Service]\nExecStart=/a\n[Install]\nWantedBy=a.target\n"),
            ("usr/lib/systemd/system/rescue.target", "[Unit]\n"),
        ]);
        machine.installer().enable("/opt/far.service").unwrap();
        assert_eq!(machine.target("far.service").as_deref(), Some("/opt/far.service"));
        assert!(machine.target("a.target.wants/far.service").is_some());
        machine.installer().set_default("rescue.target").unwrap();
        assert_eq!(machine.installer().default_target().unwrap().as_str(), "rescue.target");
        machine.installer().set_default("rescue.target").unwrap();
        assert!(matches!(machine.installer().set_default("no.target"), Err(InstallError::NotFound(_))));
    }
}
