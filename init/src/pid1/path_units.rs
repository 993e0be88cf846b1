//! Path units: what they watch, systemd.path(5).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use image_config::unit::{PathCondition, PathUnit, PathWatch, UnitKind};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::paths;
use super::shell::Shell;
use super::watches::Source;
use crate::supervisor::{Event, Level, UnitId};

/// What a path unit watches with.
#[derive(Debug)]
pub struct Watcher {
    events: OwnedFd,
    key: u64,
    /// Watches of the paths themselves that any event counts for, each with the place of its line.
    changes: Vec<(i32, usize)>,
    /// Whether paths that are looked at for changes were there, in the order of the unit's lines.
    were_there: Vec<bool>,
}

/// All path units that watch.
pub type Watchers = BTreeMap<UnitId, Watcher>;

impl Shell {
    fn path_file(&self, unit: UnitId) -> Option<PathUnit> {
        match &self.units.get(&unit)?.kind {
            UnitKind::Path(path) => Some((**path).clone()),
            _ => None,
        }
    }

    /// Begins to watch, and tells at once if what is looked for is the case already.
    pub(super) fn watch_paths(&mut self, unit: UnitId, first: bool) {
        let Some(file) = self.path_file(unit) else { return };
        if file.make_directory {
            for watch in file.watches.iter().filter(|watch| watch.condition != PathCondition::Exists) {
                let made =
                    fs::DirBuilder::new().recursive(true).mode(file.directory_mode).create(&watch.path);
                if let Err(error) = made {
                    let text = format!("cannot make {}: {error}", watch.path);
                    self.log_unit(Some(unit), Level::Warning, &text);
                }
            }
        }
        let known = self.watchers.get(&unit).map(|watcher| watcher.were_there.clone());
        let there: Vec<bool> = file.watches.iter().map(is_there).collect();
        self.renew_watches(unit, &file, there.clone());
        // Events before this moment were those of somebody else's run; whether a path is there counts all the same.
        let appeared = |(index, watch): (usize, &PathWatch)| {
            let before = known.as_ref().and_then(|known| known.get(index)).copied();
            match watch.condition {
                PathCondition::Changed | PathCondition::Modified => {
                    !first && before.is_some_and(|before| there.get(index) != Some(&before))
                }
                _ => there.get(index) == Some(&true),
            }
        };
        let found = file.watches.iter().enumerate().find(|line| appeared(*line));
        if let Some((_, watch)) = found {
            self.path_changed(unit, watch);
        }
    }

    fn path_changed(&mut self, unit: UnitId, watch: &PathWatch) {
        let found = match watch.condition {
            PathCondition::ExistsGlob => paths::expand(&watch.path).into_iter().next(),
            _ => None,
        };
        let path = found.map_or_else(|| watch.path.clone(), |path| path.to_string_lossy().into_owned());
        self.triggering_paths.insert(unit, path);
        self.events.push_back(Event::PathChanged { unit });
    }

    /// Ends watching.
    pub(super) fn unwatch_paths(&mut self, unit: UnitId) {
        if let Some(watcher) = self.watchers.remove(&unit) {
            self.watches.remove(watcher.key);
        }
    }

    /// New watches of all paths, because folders on the way may have come or gone.
    fn renew_watches(&mut self, unit: UnitId, file: &PathUnit, were_there: Vec<bool>) {
        self.unwatch_paths(unit);
        let watched = open_watches(&file.watches).and_then(|(events, changes)| {
            let key = self.watches.add(events.as_fd(), Source::Paths(unit))?;
            Ok(Watcher { events, key, changes, were_there })
        });
        match watched {
            Ok(watcher) => drop(self.watchers.insert(unit, watcher)),
            Err(error) => {
                self.log_unit(Some(unit), Level::Error, &format!("cannot watch its paths: {error}"));
            }
        }
    }

    /// Something happened at or near one of the unit's paths.
    pub(super) fn paths_ready(&mut self, unit: UnitId) {
        let Some(file) = self.path_file(unit) else { return };
        let Some(watcher) = self.watchers.remove(&unit) else { return };
        self.watches.remove(watcher.key);
        let before = watcher.were_there.clone();
        let there: Vec<bool> = file.watches.iter().map(is_there).collect();
        self.renew_watches(unit, &file, there.clone());
        // Only now, so that what happens in between is heard by one of the two.
        let changed = read_events(&watcher);
        let counts = |(index, watch): (usize, &PathWatch)| match watch.condition {
            PathCondition::Changed | PathCondition::Modified => there.get(index) != before.get(index),
            _ => there.get(index) == Some(&true),
        };
        let mut lines = file.watches.iter().enumerate();
        let found = lines.find(|line| changed == Some(line.0) || counts(*line));
        if let Some((_, watch)) = found {
            self.path_changed(unit, watch);
        }
    }
}

/// Whether what a line looks for is the case, or for one that looks for changes: whether the path is there.
fn is_there(watch: &PathWatch) -> bool {
    let path = Path::new(&watch.path);
    match watch.condition {
        PathCondition::Exists | PathCondition::Changed | PathCondition::Modified => path.exists(),
        PathCondition::ExistsGlob => !paths::expand(&watch.path).is_empty(),
        PathCondition::DirectoryNotEmpty => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
        }
    }
}

/// What happens to a folder on the way to a path.
fn on_the_way() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ATTRIB
}

fn flags(condition: PathCondition) -> WatchFlags {
    let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ATTRIB;
    let changed = gone
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO;
    match condition {
        PathCondition::Exists | PathCondition::ExistsGlob => gone,
        PathCondition::Changed => changed,
        PathCondition::Modified => changed | WatchFlags::MODIFY,
        PathCondition::DirectoryNotEmpty => gone | WatchFlags::CREATE | WatchFlags::MOVED_TO,
    }
}

/// Watches every path and the folders above it. Answers with the watches whose every event is a change of the path.
fn open_watches(watches: &[PathWatch]) -> io::Result<(OwnedFd, Vec<(i32, usize)>)> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let mut changes = Vec::new();
    for (index, watch) in watches.iter().enumerate() {
        // Of a pattern only the folders before the first wildcard can be watched.
        let fixed: &Path = match watch.condition {
            PathCondition::ExistsGlob => Path::new(fixed_part(&watch.path)),
            _ => Path::new(&watch.path),
        };
        for folder in fixed.ancestors().skip(1) {
            // MASK_ADD: the same folder may be on the way to two paths, or be one itself.
            let _not_there = inotify::add_watch(&events, folder, on_the_way() | WatchFlags::MASK_ADD);
        }
        let own = match watch.condition {
            PathCondition::ExistsGlob => on_the_way(),
            condition => flags(condition),
        };
        if let Ok(descriptor) = inotify::add_watch(&events, fixed, own | WatchFlags::MASK_ADD)
            && matches!(watch.condition, PathCondition::Changed | PathCondition::Modified)
        {
            changes.push((descriptor, index));
        }
    }
    Ok((events, changes))
}

/// The part of a pattern before the first component with a wildcard.
fn fixed_part(pattern: &str) -> &str {
    match pattern.find(['*', '?', '[']) {
        Some(wild) => {
            let before = pattern.get(..wild).unwrap_or(pattern);
            before.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
        }
        None => pattern,
    }
}

/// Takes in what happened; the place of a line whose path is looked at for changes and did change.
fn read_events(watcher: &Watcher) -> Option<usize> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watcher.events, &mut buffer);
    let mut changed = None;
    while let Ok(event) = reader.next() {
        let line = watcher.changes.iter().find(|(descriptor, _)| *descriptor == event.wd());
        changed = changed.or(line.map(|(_, index)| *index));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(condition: PathCondition, path: &Path) -> PathWatch {
        PathWatch { condition, path: path.to_str().unwrap().to_owned() }
    }

    fn changed(watches: &[PathWatch], act: impl FnOnce()) -> (bool, bool) {
        let (events, changes) = open_watches(watches).unwrap();
        act();
        let watcher = Watcher { events, key: 0, changes, were_there: Vec::new() };
        let told = rustix::event::poll(
            &mut [rustix::event::PollFd::new(&watcher.events, rustix::event::PollFlags::IN)],
            Some(&rustix::event::Timespec::default()),
        );
        (told.unwrap() > 0, read_events(&watcher) == Some(0))
    }

    #[test]
    fn a_write_changes_a_file_and_a_neighbour_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "").unwrap();
        let watches = [watch(PathCondition::Changed, &file)];
        assert_eq!(changed(&watches, || fs::write(&file, "x").unwrap()), (true, true));
        assert!(!changed(&watches, || fs::write(folder.path().join("b"), "x").unwrap()).1);
    }

    #[test]
    fn a_path_that_appears_deep_down_is_noticed_at_every_step() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x/y/z");
        let watches = [watch(PathCondition::Exists, &deep)];
        assert!(changed(&watches, || fs::create_dir(folder.path().join("x")).unwrap()).0);
        assert!(changed(&watches, || fs::create_dir(folder.path().join("x/y")).unwrap()).0);
        assert!(!is_there(&watches[0]));
        assert!(changed(&watches, || fs::write(&deep, "").unwrap()).0);
        assert!(is_there(&watches[0]));
    }

    #[test]
    fn patterns_are_watched_up_to_their_first_wildcard() {
        assert_eq!(fixed_part("/a/b*/c"), "/a");
        assert_eq!(fixed_part("/*"), "/");
        assert_eq!(fixed_part("/a/b"), "/a/b");
        let folder = tempfile::tempdir().unwrap();
        let watches = [watch(PathCondition::ExistsGlob, &folder.path().join("*.job"))];
        assert!(changed(&watches, || fs::write(folder.path().join("1.job"), "").unwrap()).0);
        assert!(is_there(&watches[0]));
    }
}
