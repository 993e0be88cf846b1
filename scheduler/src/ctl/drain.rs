//! `drain` and `undrain`: a machine gives its units away, and takes some again.

use std::time::Duration;

use super::args::Parsed;
use super::client;
use super::{Session, machine_name};
use crate::api::entity::{StateEntity, UnitEntity};
use crate::api::http::encode;
use crate::snapshot::TargetState;

const POLL: Duration = Duration::from_millis(250);
const POLLS_OF_A_SECOND: u64 = 4;
/// Where nothing has changed for so many polls, nothing is going to: five seconds.
const QUIET: u32 = 20;

/// How far a unit has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// It is still there.
    Stays,
    /// Between two machines, or not yet up on the other one, which is this if it is known.
    Moves(String),
    /// It is another machine's, or nobody's.
    Gone,
}

fn way(unit: Option<&UnitEntity>, states: &[StateEntity], from: &str) -> Way {
    let Some(unit) = unit else { return Way::Gone };
    if unit.machine == from {
        return Way::Stays;
    }
    let wanted: TargetState = unit.desired_state.parse().unwrap_or_default();
    if wanted == TargetState::Inactive {
        return Way::Gone;
    }
    let state = states.iter().find(|state| state.name == unit.name && state.machine == unit.machine);
    let came = match state {
        // A unit that fails there is where it belongs.
        Some(state) => {
            wanted < TargetState::Launched || ["active", "failed"].contains(&state.active.as_str())
        }
        None => false,
    };
    if came { Way::Gone } else { Way::Moves(unit.machine.clone()) }
}

impl Session<'_> {
    pub(super) fn drain(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let [word] = parsed.arguments.as_slice() else { return Err("this takes one machine".to_owned()) };
        let limit = parsed.number("wait", 0)?;
        let machine = self.find_machine(word)?.ok_or_else(|| format!("there is no machine {word}"))?;
        let had: Vec<String> = client::units(self.api)?
            .into_iter()
            .filter(|unit| unit.machine == machine.id)
            .map(|unit| unit.name)
            .collect();
        let path = format!("machines/{}/drain", encode(&machine.id));
        let why = parsed.value("why").map(str::as_bytes);
        if !client::tell_with(self.api, "PUT", &path, why)? {
            return Err(format!("there is no machine {word}"));
        }
        if limit == 0 {
            return Ok(0);
        }
        for (unit, way) in self.wait_for_moves(&machine.id, &had, limit)? {
            match way {
                Way::Stays => self.tell(&format!("{unit} stays: no other machine takes it")),
                Way::Moves(to) if to.is_empty() => self.tell(&format!("{unit} is on no machine")),
                Way::Moves(to) => {
                    let to = machine_name(&to, "", false);
                    self.tell(&format!("{unit} is not up yet on {to}"));
                }
                Way::Gone => {}
            }
        }
        Ok(0)
    }

    /// Until all are up elsewhere, nothing moves any more, or the time is over.
    fn wait_for_moves(
        &mut self,
        from: &str,
        had: &[String],
        seconds: u64,
    ) -> Result<Vec<(String, Way)>, String> {
        let (mut before, mut quiet) = (Vec::new(), 0);
        for _ in 0..seconds.saturating_mul(POLLS_OF_A_SECOND) {
            let (units, states) = (client::units(self.api)?, client::states(self.api)?);
            let ways: Vec<(String, Way)> = had
                .iter()
                .map(|name| {
                    let unit = units.iter().find(|unit| unit.name == *name);
                    (name.clone(), way(unit, &states, from))
                })
                .collect();
            quiet = if ways == before { quiet + 1 } else { 0 };
            before = ways;
            if quiet >= QUIET || before.iter().all(|(_, way)| *way == Way::Gone) {
                break;
            }
            self.api.rest(POLL);
        }
        Ok(before)
    }

    pub(super) fn undrain(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let [word] = parsed.arguments.as_slice() else { return Err("this takes one machine".to_owned()) };
        let machine = self.find_machine(word)?.ok_or_else(|| format!("there is no machine {word}"))?;
        client::tell(self.api, "DELETE", &format!("machines/{}/drain", encode(&machine.id)))?;
        Ok(0)
    }
}
