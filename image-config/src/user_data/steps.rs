//! A plan while it is made.

use std::collections::{HashMap, HashSet};

use super::plan::{
    Contents, Existing, File, Frequency, MachinePlan, Origin, Owner, Planned, Script, Stage, Step,
    UnitCommand, UnitPlace,
};
use super::source::Source;
use crate::diagnostic::Position;
use crate::unit::UnitName;

/// Steps in the order in which they are asked for, sorted by stage at the end.
#[derive(Debug, Default)]
pub struct Steps {
    steps: Vec<Planned>,
    needs_reload: bool,
}

/// Folder of unit files.
#[must_use]
pub fn unit_folder(is_runtime: bool) -> &'static str {
    if is_runtime { "/run/systemd/system" } else { "/etc/systemd/system" }
}

impl Steps {
    /// Adds a step that a place of a text asks for.
    pub fn push(&mut self, stage: Stage, frequency: Frequency, origin: Origin, step: Step) {
        self.steps.push(Planned { stage, frequency, origin, step });
    }

    /// A step of the configuring stage that is taken once.
    pub fn once(&mut self, origin: Origin, step: Step) {
        self.push(Stage::Configure, Frequency::Instance, origin, step);
    }

    /// A text file, 0644 and root's, that replaces what is there; in `/run` it is written in every boot.
    pub fn text_file(&mut self, origin: Origin, path: String, text: &str) {
        let frequency = if path.starts_with("/run/") { Frequency::Boot } else { Frequency::Instance };
        let file = File {
            path,
            mode: Some(0o644),
            owner: Owner::default(),
            contents: Some(Contents::Inline(text.as_bytes().to_vec())),
            append: Vec::new(),
            existing: Existing::Replace,
        };
        self.push(Stage::Configure, frequency, origin, Step::WriteFile(Box::new(file)));
    }

    /// A step for a unit, after which units are read again.
    pub fn unit(&mut self, origin: Origin, is_runtime: bool, make: fn(UnitPlace) -> Step, unit: &UnitName) {
        let frequency = if is_runtime { Frequency::Boot } else { Frequency::Instance };
        let step = make(UnitPlace { unit: unit.clone(), is_runtime });
        self.push(Stage::Configure, frequency, origin, step);
        self.needs_reload = true;
    }

    /// A unit file or drop-in, after which units are read again.
    pub fn unit_file(&mut self, origin: Origin, path: String, text: &str) {
        self.text_file(origin, path, text);
        self.needs_reload = true;
    }

    /// A job for a unit.
    pub fn command(&mut self, origin: Origin, frequency: Frequency, unit: &UnitName, command: UnitCommand) {
        let step = Step::UnitCommand { unit: unit.clone(), command };
        self.push(Stage::Start, frequency, origin, step);
    }

    /// A script.
    pub fn script(&mut self, stage: Stage, frequency: Frequency, origin: Origin, script: Script) {
        self.push(stage, frequency, origin, Step::Run(script));
    }

    /// Whether a file is written that is not deferred.
    #[must_use]
    pub fn writes(&self, path: &str) -> bool {
        self.steps.iter().any(|planned| {
            planned.stage == Stage::Configure
                && matches!(&planned.step, Step::WriteFile(file) if file.path == path)
        })
    }

    /// The plan.
    #[must_use]
    pub fn finish(mut self) -> MachinePlan {
        self.join_keys();
        if self.needs_reload {
            // Files in /run may be there to be read in every boot; reading them again is cheap.
            self.push(Stage::Configure, Frequency::Boot, Origin::default(), Step::ReloadUnits);
        }
        // Stable: within a stage the order stays.
        self.steps.sort_by_key(|planned| planned.stage);
        MachinePlan { steps: self.steps, ..MachinePlan::default() }
    }
}

impl Steps {
    /// Sets of keys with one name replace one another: those of several texts become one.
    fn join_keys(&mut self) {
        let mut sets: HashMap<(String, String), usize> = HashMap::new();
        let mut steps: Vec<Planned> = Vec::with_capacity(self.steps.len());
        for planned in self.steps.drain(..) {
            if let Step::AuthorizeKeys(keys) = &planned.step {
                let place = *sets.entry((keys.user.clone(), keys.set.clone())).or_insert(steps.len());
                if let Some(Step::AuthorizeKeys(first)) = steps.get_mut(place).map(|it| &mut it.step) {
                    let known: HashSet<String> = first.keys.iter().cloned().collect();
                    first.keys.extend(keys.keys.iter().filter(|key| !known.contains(*key)).cloned());
                    continue;
                }
            }
            steps.push(planned);
        }
        self.steps = steps;
    }
}

impl Source {
    /// The origin of what stands at a place of what is read.
    #[must_use]
    pub fn origin(&self, at: Position) -> Origin {
        Origin { text: self.name.clone(), position: Some(self.place(at)) }
    }
}
