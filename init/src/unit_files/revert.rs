//! `systemctl revert`, `preset` and `add-wants`: what [`Installer`] does besides `[Install]`.

use std::path::Path;

use image_config::unit::UnitName;

use super::install::{Change, InstallError, Installer, parse, remove, remove_folder};
use super::is_mask;
use super::presets::{Advice, Presets};

/// Folders of what administrators and programs have set, as opposed to what the system was made of.
const OWN_FOLDERS: [&str; 5] = [
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/transient",
];

impl Installer {
    /// Back to what the vendor ships: removes masks, drop-ins, and files that hide the vendor's.
    ///
    /// # Errors
    /// [`InstallError`] when there is no such unit, or something cannot be removed.
    pub fn revert(&self, unit: &str) -> Result<Vec<Change>, InstallError> {
        let name = parse(unit)?;
        let is_own = |path: &Path| {
            path.parent()
                .is_some_and(|parent| OWN_FOLDERS.iter().any(|folder| parent == self.root().join(folder)))
        };
        let folders = self.folders().folders();
        let has_vendor = folders
            .iter()
            .map(|folder| folder.join(name.as_str()))
            .any(|path| !is_own(&path) && path.symlink_metadata().is_ok_and(|data| !data.is_dir()));
        let mut changes = Vec::new();
        for folder in OWN_FOLDERS.map(|folder| self.root().join(folder)) {
            let file = folder.join(name.as_str());
            let is_there = file.symlink_metadata().is_ok_and(|data| !data.is_dir());
            // The only file that there is stays, unless it is a mask: without it there would be no unit.
            if is_there && (has_vendor || is_mask(&file)) {
                remove(&file, &mut changes)?;
            }
            let drop_ins = folder.join(format!("{name}.d"));
            if drop_ins.is_dir() {
                remove_folder(&drop_ins, &mut changes)?;
            }
        }
        Ok(changes)
    }

    /// Makes a target want or require a unit. `suffix` is `wants` or `requires`.
    ///
    /// # Errors
    /// [`InstallError`] when one of the two does not exist.
    pub fn add_dependency(
        &self,
        unit: &str,
        suffix: &str,
        target: &str,
    ) -> Result<Vec<Change>, InstallError> {
        let target = parse(target)?;
        self.file_of(&target)?;
        let name = parse(unit)?;
        let (_, path) = self.file_of(&name)?;
        let mut changes = Vec::new();
        let link = self.target().join(format!("{target}.{suffix}")).join(name.as_str());
        self.make_link(&link, &self.inside(&path), &mut changes)?;
        Ok(changes)
    }

    /// Does what the presets advise: systemd.preset(5). `enable` and `disable` say which of the two may be done.
    ///
    /// # Errors
    /// As [`Installer::enable`].
    pub fn preset(
        &self,
        unit: &UnitName,
        presets: &Presets,
        enable: bool,
        disable: bool,
    ) -> Result<Vec<Change>, InstallError> {
        self.file_of(unit)?;
        match presets.advice(unit) {
            Advice::Enable(instances) if enable && instances.is_empty() => self.enable(unit.as_str()),
            Advice::Enable(instances) if enable => {
                let mut changes = Vec::new();
                for instance in instances {
                    let name = unit.with_instance(&instance);
                    let name = name.map_err(|_| InstallError::Template(unit.as_str().to_owned()))?;
                    changes.extend(self.enable(name.as_str())?);
                }
                Ok(changes)
            }
            Advice::Disable if disable => self.disable(unit.as_str()),
            _ => Ok(Vec::new()),
        }
    }

    /// The same for all units that have an `[Install]` section; those that cannot be enabled are passed over, as systemd does it.
    ///
    /// # Errors
    /// The file system's.
    pub fn preset_all(
        &self,
        presets: &Presets,
        enable: bool,
        disable: bool,
    ) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        for name in self.folders().names() {
            let is_own_name = self.file_of(&name).is_ok_and(|(own, _)| own == name);
            let has_install = self
                .folders()
                .install_section(&name)
                .is_some_and(|install| !install.is_empty() || !install.also.is_empty());
            if !is_own_name || !has_install {
                continue;
            }
            match self.preset(&name, presets, enable, disable) {
                Ok(done) => changes.extend(done),
                Err(error @ InstallError::Io { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::machine::Machine;
    use super::super::state::FileState;
    use super::*;

    const UNIT: &str = "[Service]\nExecStart=/a\n[Install]\nWantedBy=multi-user.target\n";

    #[test]
    fn revert_leaves_what_the_vendor_ships() {
        let machine = Machine::new(&[
            ("usr/lib/systemd/system/a.service", UNIT),
            ("etc/systemd/system/a.service", UNIT),
            ("etc/systemd/system/a.service.d/x.conf", "[Service]\n"),
            ("run/systemd/system.control/a.service.d/50-CPUWeight.conf", "[Service]\n"),
            ("usr/lib/systemd/system/a.service.d/vendor.conf", "[Service]\n"),
            ("etc/systemd/system/own.service", UNIT),
            ("usr/lib/systemd/system/m.service", UNIT),
        ]);
        let changes = machine.installer().revert("a.service").unwrap();
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(!machine.root().join("etc/systemd/system/a.service.d").exists());
        assert!(machine.root().join("usr/lib/systemd/system/a.service.d/vendor.conf").exists());
        assert_eq!(machine.installer().revert("a.service").unwrap(), []);
        assert_eq!(machine.installer().revert("own.service").unwrap(), []);
        assert!(machine.root().join("etc/systemd/system/own.service").exists());
        machine.installer().mask("m.service").unwrap();
        machine.installer().revert("m.service").unwrap();
        assert_eq!(machine.state("m.service"), FileState::Disabled);
        // There is nothing to take back, and that is no error, as with systemctl.
        assert_eq!(machine.installer().revert("gone.service").unwrap(), []);
    }

    #[test]
    fn dependencies_are_added_as_links() {
        let machine = Machine::new(&[
            ("usr/lib/systemd/system/a.service", "[Service]\nExecStart=/a\n"),
            ("usr/lib/systemd/system/t.target", "[Unit]\n"),
        ]);
        let installer = machine.installer();
        assert_eq!(installer.add_dependency("a.service", "requires", "t.target").unwrap().len(), 1);
        let link = machine.root().join("etc/systemd/system/t.target.requires/a.service");
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/usr/lib/systemd/system/a.service"));
        assert_eq!(installer.add_dependency("a.service", "requires", "t.target").unwrap(), []);
        for (unit, target) in [("gone.service", "t.target"), ("a.service", "gone.target")] {
            assert!(matches!(
                installer.add_dependency(unit, "wants", target),
                Err(InstallError::NotFound(_))
            ));
        }
    }

    #[test]
    fn presets_are_applied_to_one_unit_or_to_all() {
        let machine = Machine::new(&[
            ("usr/lib/systemd/system/on.service", UNIT),
            ("usr/lib/systemd/system/off.service", UNIT),
            ("usr/lib/systemd/system/static.service", "[Service]\nExecStart=/a\n"),
            ("usr/lib/systemd/system/t@.service", UNIT),
            ("usr/lib/systemd/system-preset/1.preset", "disable off.service\nenable t@.service one two\n"),
        ]);
        let installer = machine.installer();
        let presets = Presets::of_system(machine.root());
        installer.enable("off.service").unwrap();
        let name = |text: &str| UnitName::parse(text).unwrap();
        assert_eq!(installer.preset(&name("off.service"), &presets, true, false).unwrap(), []);
        installer.preset_all(&presets, true, true).unwrap();
        let states = ["on.service", "off.service", "static.service", "t@one.service", "t@three.service"];
        let states = states.map(|unit| machine.state(unit).word());
        assert_eq!(states, ["enabled", "disabled", "static", "enabled", "disabled"]);
        let error = installer.preset(&name("gone.service"), &presets, true, true).unwrap_err();
        assert!(matches!(error, InstallError::NotFound(_)));
    }
}
