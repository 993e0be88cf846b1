//! Whether a unit is enabled: systemctl(1), "is-enabled".

use std::path::Path;

use image_config::unit::{Install, System, Unit, UnitName};

use super::links::links;
use super::{Fragment, UnitFolders, is_mask};

/// systemd's states of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Linked by `[Install]`.
    Enabled,
    /// The same in `/run`.
    EnabledRuntime,
    /// Its file lies elsewhere, and a link makes it known.
    Linked,
    /// The same in `/run`.
    LinkedRuntime,
    /// Another name of a unit.
    Alias,
    /// Switched off.
    Masked,
    /// The same in `/run`.
    MaskedRuntime,
    /// Nothing in `[Install]`: it runs when another needs it.
    Static,
    /// Nothing to enable but others (`Also=`).
    Indirect,
    /// Could be enabled and is not.
    Disabled,
    /// Made by a generator.
    Generated,
    /// Made by a program at run time.
    Transient,
    /// Cannot be read.
    Bad,
    /// There is none.
    NotFound,
}

impl FileState {
    /// systemd's word.
    pub fn word(self) -> &'static str {
        match self {
            FileState::Enabled => "enabled",
            FileState::EnabledRuntime => "enabled-runtime",
            FileState::Linked => "linked",
            FileState::LinkedRuntime => "linked-runtime",
            FileState::Alias => "alias",
            FileState::Masked => "masked",
            FileState::MaskedRuntime => "masked-runtime",
            FileState::Static => "static",
            FileState::Indirect => "indirect",
            FileState::Disabled => "disabled",
            FileState::Generated => "generated",
            FileState::Transient => "transient",
            FileState::Bad => "bad",
            FileState::NotFound => "not-found",
        }
    }

    /// Whether presets have anything to say of such a file: what cannot be enabled is as it is.
    pub fn has_preset(self) -> bool {
        !matches!(
            self,
            FileState::Alias
                | FileState::Static
                | FileState::Generated
                | FileState::Transient
                | FileState::Bad
                | FileState::NotFound
        )
    }

    /// What `is-enabled` ends with: the table of systemctl(1).
    pub fn exit_code(self) -> u8 {
        match self {
            FileState::Enabled
            | FileState::EnabledRuntime
            | FileState::Alias
            | FileState::Static
            | FileState::Indirect
            | FileState::Generated
            | FileState::Transient => 0,
            FileState::NotFound => 4,
            _ => 1,
        }
    }
}

impl UnitFolders {
    /// Whether a unit is enabled.
    pub fn state(&self, unit: &UnitName) -> FileState {
        let Some(own) = self.find(unit) else { return FileState::NotFound };
        let is_runtime = |path: &Path| path.ancestors().any(|folder| folder.ends_with("run/systemd"));
        let place = |folder: &str| own.ancestors().any(|it| it.ends_with(folder));
        if is_mask(&own) {
            return if is_runtime(&own) { FileState::MaskedRuntime } else { FileState::Masked };
        }
        let (name, path) = match self.fragment(unit) {
            Fragment::Found { name, path, .. } => (name, path),
            Fragment::Masked => return FileState::Masked,
            Fragment::NotFound => return FileState::NotFound,
            Fragment::Unreadable(_) => return FileState::Bad,
        };
        if name != *unit {
            return FileState::Alias;
        }
        if place("run/systemd/transient") {
            return FileState::Transient;
        }
        if ["run/systemd/generator", "run/systemd/generator.early", "run/systemd/generator.late"]
            .iter()
            .any(|it| place(it))
        {
            return FileState::Generated;
        }
        let install = self.install_section(&name);
        let enabling: &[_] = install.as_ref().map_or(&[], |install| &install.alias);
        let mut has_other_name = false;
        // Links in /etc and /run are what enabling makes; those of the image in /usr are fixed.
        for (folder, enabled, linked) in [
            ("etc/systemd/system", FileState::Enabled, FileState::Linked),
            ("run/systemd/system", FileState::EnabledRuntime, FileState::LinkedRuntime),
        ] {
            let Some(folder) = self.folders().iter().find(|path| path.ends_with(folder)) else { continue };
            let all = links(folder);
            for link in all.iter().filter(|link| link.is_of(unit)) {
                if link.in_group || link.is_alias() && enabling.contains(&link.name) {
                    return enabled;
                }
                has_other_name |= link.is_alias();
            }
            let is_link = own.parent() == Some(folder) && own.is_symlink();
            if is_link && !self.folders().iter().any(|it| self.behind_links(&path).starts_with(it)) {
                return linked;
            }
        }
        match install {
            None => FileState::Bad,
            // Under a name that enabling does not give, it may be in use all the same.
            Some(_) if has_other_name => FileState::Indirect,
            Some(install) if !(install.also.is_empty() && install.is_empty()) => {
                let rules = [&install.wanted_by, &install.required_by, &install.upheld_by, &install.alias];
                if rules.iter().all(|list| list.is_empty()) {
                    FileState::Indirect
                } else {
                    FileState::Disabled
                }
            }
            Some(_) => FileState::Static,
        }
    }

    /// `[Install]` of a unit, drop-ins included; `None` when its file cannot be read.
    pub fn install_section(&self, name: &UnitName) -> Option<Install> {
        self.read(name).map(|(unit, _)| unit.install)
    }

    /// A unit as its files have it, without what a running machine knows of itself, and what is wrong with them.
    pub fn read(&self, name: &UnitName) -> Option<(Unit, Vec<image_config::unit::Warning>)> {
        let Fragment::Found { name, path, aliases } = self.fragment(name) else { return None };
        let names: Vec<&UnitName> = std::iter::once(&name).chain(&aliases).collect();
        let texts: Vec<(String, Vec<u8>)> = std::iter::once(path)
            .chain(self.drop_ins(&names))
            .map(|path| Some((path.display().to_string(), std::fs::read(self.behind_links(&path)).ok()?)))
            .collect::<Option<_>>()?;
        let fragments: Vec<(&str, &[u8])> =
            texts.iter().map(|(path, text)| (path.as_str(), text.as_slice())).collect();
        Some(Unit::parse(&name, &fragments, &System::default()))
    }
}
