//! `[Path]`: systemd.path(5).

use std::time::Duration;

use super::name::{UnitName, UnitType};
use super::reader::{Directive, Ignored, Section};
use super::setting::Setting;
use super::value::{self, TimeSpan, boolean};

/// Settings of the `[Path]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUnit {
    /// `PathExists=` and its kin, in order.
    pub watches: Vec<PathWatch>,
    /// `Unit=`; see [`PathUnit::unit`].
    pub written_unit: Option<UnitName>,
    /// `MakeDirectory=`: folders that are watched are made first, but for `PathExists=`.
    pub make_directory: bool,
    /// `DirectoryMode=` of those folders; 0o755 unless written.
    pub directory_mode: u32,
    /// `TriggerLimitIntervalSec=`: 2 s unless written; zero switches the limit off.
    pub trigger_limit_interval: TimeSpan,
    /// `TriggerLimitBurst=`: activations allowed within the interval, 200 unless written; zero switches the limit off.
    pub trigger_limit_burst: u32,
}

/// A path that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathWatch {
    /// For what.
    pub condition: PathCondition,
    /// An absolute path; with wildcards for [`PathCondition::ExistsGlob`].
    pub path: String,
}

/// What about a path starts the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathCondition {
    /// `PathExists=`.
    Exists,
    /// `PathExistsGlob=`: something fits the pattern.
    ExistsGlob,
    /// `PathChanged=`: it changed, or was closed after writing.
    Changed,
    /// `PathModified=`: as `Changed`, and every write.
    Modified,
    /// `DirectoryNotEmpty=`: there is an entry whose name has no dot at its front.
    DirectoryNotEmpty,
}

impl PathCondition {
    /// The key in the unit file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Exists => "PathExists",
            Self::ExistsGlob => "PathExistsGlob",
            Self::Changed => "PathChanged",
            Self::Modified => "PathModified",
            Self::DirectoryNotEmpty => "DirectoryNotEmpty",
        }
    }
}

impl Default for PathUnit {
    fn default() -> Self {
        Self {
            watches: Vec::new(),
            written_unit: None,
            make_directory: false,
            directory_mode: 0o755,
            trigger_limit_interval: TimeSpan::Finite(Duration::from_secs(2)),
            trigger_limit_burst: 200,
        }
    }
}

impl PathUnit {
    /// The unit that is started: as written, else the service of the path unit's name. `None` when that would be too
    /// long.
    #[must_use]
    pub fn unit(&self, own: &UnitName) -> Option<UnitName> {
        self.written_unit.clone().or_else(|| own.with_kind(UnitType::Service).ok())
    }
}

impl Section for PathUnit {
    const OWN: &'static [Directive<Self>] = &[
        ("PathExists", |path, it| it.watch(&mut path.watches, PathCondition::Exists)),
        ("PathExistsGlob", |path, it| it.watch(&mut path.watches, PathCondition::ExistsGlob)),
        ("PathChanged", |path, it| it.watch(&mut path.watches, PathCondition::Changed)),
        ("PathModified", |path, it| it.watch(&mut path.watches, PathCondition::Modified)),
        ("DirectoryNotEmpty", |path, it| it.watch(&mut path.watches, PathCondition::DirectoryNotEmpty)),
        ("Unit", |path, it| it.triggered_unit(&mut path.written_unit)),
        ("MakeDirectory", |path, it| it.plain(&mut path.make_directory, boolean)),
        ("DirectoryMode", |path, it| it.plain(&mut path.directory_mode, value::mode)),
        ("TriggerLimitIntervalSec", |path, it| it.plain(&mut path.trigger_limit_interval, value::time_span)),
        ("TriggerLimitBurst", |path, it| it.plain(&mut path.trigger_limit_burst, value::unsigned)),
    ];

    /// systemd's `path_verify`.
    fn problem(&self, _own: &UnitName) -> Option<&'static str> {
        self.watches.is_empty().then_some("the path unit watches nothing: it has no PathExists= or the like")
    }
}

impl Setting<'_> {
    /// `PathExists=` and its kin; empty resets the whole list.
    fn watch(&self, slot: &mut Vec<PathWatch>, condition: PathCondition) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let path = value::absolute_path(&self.expand(self.value)?).map_err(|error| self.ignored(&error))?;
        slot.push(PathWatch { condition, path });
        Ok(())
    }
}
