//! Wanted and actual units to tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name;
use crate::requirements::{Fence, Requirements};
use crate::unit_file::{Hash, UnitFile};

/// What a unit should be on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of its file.
    pub hash: Hash,
    /// Its file.
    pub file: Arc<UnitFile>,
    /// Started, or only there.
    pub launched: bool,
}

/// What PID 1 says of a unit, in systemd's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// `LoadState`
    pub load: String,
    /// `ActiveState`
    pub active: String,
    /// `SubState`
    pub sub: String,
    /// A job is waiting or running.
    pub has_job: bool,
}

impl Observed {
    /// It runs, or may soon.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.has_job || !matches!(self.active.as_str(), "inactive" | "failed" | "")
    }
}

/// A unit that this machine has the file of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalUnit {
    /// Of the file.
    pub hash: Hash,
    /// It was started, whatever has become of it.
    pub launched: bool,
    /// It was told to stop and is not down yet.
    pub stopping: bool,
    /// PID 1's word since the last task; `None`: not heard yet.
    pub observed: Option<Observed>,
    /// It does not run on a machine that is cut off.
    pub strict: bool,
}

impl LocalUnit {
    /// One that is just loaded, or was found.
    #[must_use]
    pub fn of(name: &str, file: &UnitFile, launched: bool) -> Self {
        let strict =
            name::check(name).is_ok_and(|name| Requirements::of(&name, file).0.fence == Fence::Strict);
        Self { hash: file.hash(), launched, strict, ..Self::default() }
    }

    /// It runs, or may.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.observed.as_ref().is_none_or(Observed::is_up)
    }
}

/// One thing for PID 1 or for its folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalTask {
    /// Removes the file of a unit that is down.
    Remove(String),
    /// Puts a file in its place; the unit is down, or is new.
    Load(String, Arc<UnitFile>),
    /// Stops it.
    Stop(String),
    /// Starts it.
    Start(String),
}

impl LocalTask {
    /// The unit.
    #[must_use]
    pub fn unit(&self) -> &str {
        match self {
            Self::Remove(unit) | Self::Load(unit, _) | Self::Stop(unit) | Self::Start(unit) => unit,
        }
    }
}

/// What is to be done now. Files come first, all of them, so that units find those that they depend on; nothing is started in the
/// same round. A unit leaves, or gets another file, only when it is down.
#[must_use]
pub fn plan(wanted: &BTreeMap<String, Wanted>, local: &BTreeMap<String, LocalUnit>) -> Vec<LocalTask> {
    let (mut files, mut stops, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for (name, unit) in local {
        let mut stop = || {
            if !unit.stopping {
                stops.push(LocalTask::Stop(name.clone()));
            }
        };
        match wanted.get(name) {
            None if unit.is_up() => stop(),
            None => files.push(LocalTask::Remove(name.clone())),
            Some(wanted) if wanted.hash != unit.hash && unit.is_up() => stop(),
            Some(wanted) if wanted.hash != unit.hash => {
                files.push(LocalTask::Load(name.clone(), Arc::clone(&wanted.file)));
            }
            Some(wanted) if wanted.launched && !unit.launched && !unit.stopping => {
                starts.push(LocalTask::Start(name.clone()));
            }
            Some(wanted) if !wanted.launched && unit.launched => stop(),
            Some(_) => {}
        }
    }
    for (name, wanted) in wanted.iter().filter(|(name, _)| !local.contains_key(*name)) {
        files.push(LocalTask::Load(name.clone(), Arc::clone(&wanted.file)));
    }
    if !files.is_empty() {
        starts.clear();
    }
    files.into_iter().chain(stops).chain(starts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(text: &str, launched: bool) -> Wanted {
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/{text}\n")).unwrap();
        Wanted { hash: file.hash(), file: Arc::new(file), launched }
    }

    fn observed(active: &str) -> Observed {
        Observed { load: "loaded".into(), active: active.into(), sub: "x".into(), has_job: false }
    }

    /// What PID 1 and its folders are after a round, as far as tasks go.
    fn carry_out(local: &mut BTreeMap<String, LocalUnit>, tasks: &[LocalTask]) {
        for task in tasks {
            match task {
                LocalTask::Remove(name) => {
                    assert!(!local[name].is_up(), "{name} goes while it is up");
                    local.remove(name);
                }
                LocalTask::Load(name, file) => {
                    assert!(
                        local.get(name).is_none_or(|unit| !unit.is_up()),
                        "{name} changes while it is up"
                    );
                    let unit = LocalUnit {
                        hash: file.hash(),
                        observed: Some(observed("inactive")),
                        ..LocalUnit::default()
                    };
                    local.insert(name.clone(), unit);
                }
                LocalTask::Stop(name) => {
                    let unit = local.get_mut(name).unwrap();
                    (unit.launched, unit.stopping, unit.observed) =
                        (false, true, Some(observed("deactivating")));
                }
                LocalTask::Start(name) => {
                    let unit = local.get_mut(name).unwrap();
                    assert!(!unit.stopping);
                    (unit.launched, unit.observed) = (true, Some(observed("active")));
                }
            }
        }
    }

    fn time_passes(local: &mut BTreeMap<String, LocalUnit>) {
        for unit in local.values_mut().filter(|unit| unit.stopping) {
            (unit.stopping, unit.observed) = (false, Some(observed("inactive")));
        }
    }

    /// Complaint 7: units that need each other are all there before the first of them is started.
    #[test]
    fn files_come_before_starts_and_changes_wait_until_a_unit_is_down() {
        let mut local = BTreeMap::new();
        let mut goal = BTreeMap::from([
            ("a.service".to_owned(), wanted("a", true)),
            ("b.service".to_owned(), wanted("b", false)),
        ]);
        let first = plan(&goal, &local);
        assert!(
            matches!(first.as_slice(), [LocalTask::Load(a, _), LocalTask::Load(b, _)] if a == "a.service" && b == "b.service")
        );
        carry_out(&mut local, &first);
        let second = plan(&goal, &local);
        assert_eq!(second, [LocalTask::Start("a.service".to_owned())]);
        carry_out(&mut local, &second);
        assert_eq!(plan(&goal, &local), []);
        goal.insert("a.service".to_owned(), wanted("c", true));
        let replace = plan(&goal, &local);
        assert_eq!(replace, [LocalTask::Stop("a.service".to_owned())]);
        carry_out(&mut local, &replace);
        assert_eq!(plan(&goal, &local), [], "it is still stopping");
        time_passes(&mut local);
        assert!(matches!(plan(&goal, &local).as_slice(), [LocalTask::Load(..)]));
    }

    /// Complaint 9: what has ended or failed is PID 1's affair; nothing is started twice.
    #[test]
    fn a_unit_that_has_ended_is_not_started_again() {
        let goal = BTreeMap::from([("a.service".to_owned(), wanted("a", true))]);
        for active in ["inactive", "failed"] {
            let unit = LocalUnit {
                hash: goal["a.service"].hash,
                launched: true,
                observed: Some(observed(active)),
                ..LocalUnit::default()
            };
            assert_eq!(plan(&goal, &BTreeMap::from([("a.service".to_owned(), unit)])), []);
        }
    }

    proptest! {
        #[test]
        fn every_goal_is_reached_and_then_left_alone(
            goals in proptest::collection::vec(
                proptest::collection::btree_map("[a-d]", ("[xy]", any::<bool>()), 0..4), 1..6),
        ) {
            let mut local = BTreeMap::new();
            for goal in goals {
                let goal: BTreeMap<String, Wanted> =
                    goal.into_iter().map(|(name, (text, launched))| (format!("{name}.service"), wanted(&text, launched))).collect();
                for _ in 0..8 {
                    let tasks = plan(&goal, &local);
                    carry_out(&mut local, &tasks);
                    time_passes(&mut local);
                }
                prop_assert_eq!(plan(&goal, &local), vec![]);
                prop_assert!(local.keys().eq(goal.keys()));
                for (name, unit) in &local {
                    prop_assert_eq!((unit.hash, unit.launched, unit.is_up()), (goal[name].hash, goal[name].launched, goal[name].launched));
                }
            }
        }
    }
}
