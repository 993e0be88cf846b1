//! Commands that change units, and the waiting for what comes of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::Parsed;
use super::client;
use super::{Session, machine_name};
use crate::api::entity::UnitEntity;
use crate::api::http::encode;
use crate::name;
use crate::requirements::Requirements;
use crate::snapshot::TargetState;
use crate::unit_file::UnitFile;

const POLL: Duration = Duration::from_millis(250);
/// Polls in one attempt of `--block-attempts`: two seconds.
const POLLS_OF_AN_ATTEMPT: u64 = 8;
/// A reason that has stood for so many polls is not going to go away by itself: five seconds.
const HOPELESS: u32 = 20;
/// After a unit is launched, so many polls are waited until it is active: three seconds. Machines tell states of a unit that runs two
/// seconds apart.
const FIRST_STATE: u32 = 12;

/// How one waits.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Not at all.
    none: bool,
    /// Attempts; 0: without end.
    attempts: u64,
}

impl Patience {
    fn of(parsed: &Parsed) -> Result<Self, String> {
        Ok(Self { none: parsed.has("no-block"), attempts: parsed.number("block-attempts", 0)? })
    }
}

/// The text of a unit file with the place that it comes from.
fn read_file(path: &Path) -> Result<UnitFile, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    UnitFile::parse(&text).map_err(|error| format!("{}:{}: {}", path.display(), error.line, error.problem))
}

/// The file that an argument means: itself, with or without a unit's suffix.
fn local_file(argument: &str, name: &str) -> Option<PathBuf> {
    let path = Path::new(argument);
    [path.to_owned(), path.with_file_name(name)].into_iter().find(|path| path.is_file())
}

impl Session<'_> {
    pub(super) fn submit(&mut self, parsed: &Parsed, wanted: TargetState) -> Result<u8, String> {
        let patience = Patience::of(parsed)?;
        let mut names = Vec::new();
        for argument in &parsed.arguments {
            let name = name::of_argument(argument);
            self.prepare(parsed, argument, &name, wanted)?;
            names.push(name);
        }
        if names.is_empty() {
            self.tell("No units given");
            return Ok(0);
        }
        for name in &names {
            if wanted == TargetState::Inactive {
                self.say(&format!("Unit {name} inactive"));
            } else {
                self.want(name, wanted)?;
            }
        }
        if wanted == TargetState::Inactive {
            return Ok(0);
        }
        let verb = if wanted == TargetState::Launched { "start" } else { "load" };
        self.wait_for(&names, wanted, verb, patience)
    }

    /// The unit is in the cluster afterwards, with the content that counts.
    fn prepare(
        &mut self,
        parsed: &Parsed,
        argument: &str,
        name: &str,
        wanted: TargetState,
    ) -> Result<(), String> {
        let checked = name::check(name).map_err(|error| error.to_string())?;
        let replace = parsed.has("replace");
        let known = client::unit(self.api, name)?;
        let path = local_file(argument, name);
        if let Some(known) = known {
            return match path {
                Some(path) => self.compare(&known, &path, replace, wanted),
                None => Ok(()),
            };
        }
        let template = checked.template();
        let file = match (path, &template) {
            (Some(path), _) => read_file(&path)?,
            (None, Some(template)) => match client::unit(self.api, template.as_str())? {
                Some(template) => UnitFile::new(template.options),
                None => match local_file(
                    &Path::new(argument).with_file_name(template.as_str()).to_string_lossy(),
                    template.as_str(),
                ) {
                    Some(path) => read_file(&path)?,
                    None => return Err(format!("unable to find Unit({name}) in Registry or on filesystem")),
                },
            },
            (None, None) => return Err(format!("unable to find Unit({name}) in Registry or on filesystem")),
        };
        self.create(name, &file, None)
    }

    fn create(&mut self, name: &str, file: &UnitFile, state: Option<String>) -> Result<(), String> {
        let checked = name::check(name).map_err(|error| error.to_string())?;
        for warning in Requirements::of(&checked, file).1 {
            self.tell(&format!("WARNING: Unit {name}: {warning}"));
        }
        let unit = UnitEntity {
            name: name.to_owned(),
            options: file.options().to_vec(),
            desired_state: state.unwrap_or_default(),
            ..UnitEntity::default()
        };
        client::put(self.api, &unit).map_err(|error| format!("Error creating unit {name}: {error}"))
    }

    /// A unit that is known, and a file of its name.
    fn compare(
        &mut self,
        known: &UnitEntity,
        path: &Path,
        replace: bool,
        wanted: TargetState,
    ) -> Result<(), String> {
        let (name, file) = (&known.name, read_file(path)?);
        let same = UnitFile::new(known.options.clone()).hash() == file.hash();
        let state: TargetState = known.desired_state.parse().unwrap_or_default();
        if same {
            if replace {
                self.tell(&format!("Found same Unit({name}) in Registry, nothing to do"));
            }
        } else if !replace {
            self.tell(&format!(
                "WARNING: Unit {name} in registry differs from local unit file {}. Add --replace to override.",
                path.display()
            ));
        } else if state > wanted {
            self.tell(&format!(
                "WARNING: Unit {name} is {state}: it is not replaced, for it would be {wanted} afterwards"
            ));
        } else {
            self.create(name, &file, Some(known.desired_state.clone()))?;
        }
        Ok(())
    }

    fn want(&mut self, name: &str, wanted: TargetState) -> Result<(), String> {
        let unit = UnitEntity {
            name: name.to_owned(),
            desired_state: wanted.word().to_owned(),
            ..UnitEntity::default()
        };
        client::put(self.api, &unit).map_err(|error| format!("Error changing unit {name}: {error}"))
    }

    /// `stop` and `unload`.
    pub(super) fn lower(&mut self, parsed: &Parsed, wanted: TargetState) -> Result<u8, String> {
        let patience = Patience::of(parsed)?;
        let verb = if wanted == TargetState::Loaded { "stop" } else { "unload" };
        let mut names = Vec::new();
        let mut status = 0;
        for argument in &parsed.arguments {
            let name = name::of_argument(argument);
            let Some(unit) = client::unit(self.api, &name)? else {
                self.tell(&format!("Unit {name} does not exist."));
                continue;
            };
            let is_global = unit.current_state.is_empty();
            if wanted == TargetState::Loaded && unit.desired_state == "inactive" && !is_global {
                self.tell(&format!("Unable to stop unit {name} in state inactive"));
                status = 1;
                continue;
            }
            self.want(&name, wanted)?;
            names.push(name);
        }
        if names.is_empty() {
            self.tell(if parsed.arguments.is_empty() {
                "No units given"
            } else {
                "Units not found in registry"
            });
            return Ok(status);
        }
        let done = self.wait_for(&names, wanted, verb, patience)?;
        if done == 0 && !patience.none {
            let past = if wanted == TargetState::Loaded { "stopped" } else { "unloaded" };
            self.tell(&format!("Successfully {past} units [{}].", names.join(" ")));
        }
        Ok(status.max(done))
    }

    pub(super) fn destroy(&mut self, parsed: &Parsed) -> Result<u8, String> {
        if parsed.arguments.is_empty() {
            self.tell("No units given");
        }
        for argument in &parsed.arguments {
            let name = name::of_argument(argument);
            if client::tell(self.api, "DELETE", &format!("units/{}", encode(&name)))? {
                self.say(&format!("Destroyed {name}"));
            } else {
                self.tell(&format!("Unit {name} does not exist."));
            }
        }
        Ok(0)
    }

    pub(super) fn restart(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let patience = Patience::of(parsed)?;
        let mut status = 0;
        for argument in &parsed.arguments {
            let name = name::of_argument(argument);
            let Some(unit) = client::unit(self.api, &name)? else {
                self.tell(&format!("Unit {name} does not exist."));
                status = 1;
                continue;
            };
            let names = [name.clone()];
            match (unit.current_state.as_str(), unit.desired_state.as_str()) {
                ("", _) => self.restart_everywhere(parsed, &name)?,
                (_, "inactive") => self.tell(&format!("Unable to restart unit {name} in state inactive")),
                (_, "loaded") => {
                    self.want(&name, TargetState::Launched)?;
                    status = status.max(self.wait_for(&names, TargetState::Launched, "start", patience)?);
                }
                _ => {
                    self.want(&name, TargetState::Loaded)?;
                    let stopped = self.wait_for(&names, TargetState::Loaded, "stop", patience)?;
                    self.want(&name, TargetState::Launched)?;
                    status = status.max(stopped).max(self.wait_for(
                        &names,
                        TargetState::Launched,
                        "start",
                        patience,
                    )?);
                }
            }
        }
        Ok(status)
    }

    /// Waits until units are in a state, or never will be.
    fn wait_for(
        &mut self,
        names: &[String],
        wanted: TargetState,
        verb: &str,
        patience: Patience,
    ) -> Result<u8, String> {
        let mut status = 0;
        let mut waiting: Vec<(&String, Wait)> = Vec::new();
        for name in names {
            let unit = client::unit(self.api, name)?;
            if unit.is_some_and(|unit| unit.current_state.is_empty()) {
                self.say(&format!("Triggered global unit {name} {verb}"));
            } else if patience.none {
                self.say(&format!("Triggered unit {name} {verb}"));
            } else {
                waiting.push((name, Wait::default()));
            }
        }
        let mut polls = 0;
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for (name, mut wait) in waiting {
                match self.look(name, wanted, &mut wait)? {
                    Look::Waits => left.push((name, wait)),
                    Look::There(line) => self.say(&line),
                    Look::Hopeless(line) => {
                        self.tell(&line);
                        status = 1;
                    }
                }
            }
            waiting = left;
            polls += 1;
            if patience.attempts > 0 && polls >= patience.attempts * POLLS_OF_AN_ATTEMPT {
                for (name, wait) in waiting {
                    let why =
                        if wait.reason.is_empty() { String::new() } else { format!(": {}", wait.reason) };
                    self.tell(&format!("timed out waiting for unit {name} to report state {wanted}{why}"));
                    status = 1;
                }
                return Ok(status);
            }
            if !waiting.is_empty() {
                self.api.rest(POLL);
            }
        }
        Ok(status)
    }

    fn look(&mut self, name: &str, wanted: TargetState, wait: &mut Wait) -> Result<Look, String> {
        let Some(unit) = client::unit(self.api, name)? else {
            return Ok(Look::Hopeless(format!("Unit {name} was destroyed meanwhile")));
        };
        if unit.desired_state != wanted.word() {
            return Ok(Look::Hopeless(format!(
                "Unit {name} is wanted {} by somebody else now",
                unit.desired_state
            )));
        }
        let place = if unit.machine.is_empty() {
            String::new()
        } else {
            format!(" on {}", self.machine_name(&unit.machine)?)
        };
        if unit.current_state == wanted.word() {
            if wanted != TargetState::Launched {
                return Ok(Look::There(format!("Unit {name} {wanted}{place}")));
            }
            // What the unit itself makes of it.
            let states = client::states(self.api)?;
            let state = states.into_iter().find(|state| state.name == name && state.machine == unit.machine);
            wait.launched += 1;
            return Ok(match state.as_ref().map(|state| (state.active.as_str(), state.problem.as_str())) {
                Some(("failed", _)) => Look::Hopeless(format!(
                    "Unit {name} was started{place} and failed: `fleetctl status {name}` says more"
                )),
                Some((_, problem)) if !problem.is_empty() => {
                    Look::Hopeless(format!("Unit {name} cannot be started{place}: {problem}"))
                }
                // Not heard of yet, or one that has done its work, or one that is slow.
                Some(("inactive" | "activating", _)) | None if wait.launched < FIRST_STATE => Look::Waits,
                _ => Look::There(format!("Unit {name} launched{place}")),
            });
        }
        let mut reason = unit.reason.clone();
        let mut is_final = unit.unschedulable;
        if reason.is_empty() && !unit.machine.is_empty() {
            let states = client::states(self.api)?;
            let state = states.into_iter().find(|state| state.name == name && state.machine == unit.machine);
            reason = state.map(|state| state.problem).unwrap_or_default();
            is_final = !reason.is_empty();
        }
        wait.told(&reason, is_final);
        if wait.same >= HOPELESS {
            return Ok(Look::Hopeless(format!("Unit {name} cannot be {wanted}{place}: {reason}")));
        }
        Ok(Look::Waits)
    }

    fn machine_name(&mut self, id: &str) -> Result<String, String> {
        if !self.names.contains_key(id) {
            let machines = client::machines(self.api)?;
            self.names.extend(machines.into_iter().map(|machine| (machine.id, machine.primary_ip)));
        }
        Ok(machine_name(id, self.names.get(id).map_or("", String::as_str), false))
    }
}

/// What a unit is waited for.
#[derive(Debug, Default)]
struct Wait {
    reason: String,
    /// Polls with this reason.
    same: u32,
    /// Polls since it is launched.
    launched: u32,
}

impl Wait {
    fn told(&mut self, reason: &str, is_final: bool) {
        self.same = if is_final && self.reason == reason { self.same + 1 } else { 0 };
        reason.clone_into(&mut self.reason);
    }
}

enum Look {
    Waits,
    There(String),
    Hopeless(String),
}
