//! Variables that the state of units determines: systemd.exec(5), "Environment Variables Set or Propagated by the Service
//! Manager".

use image_config::unit::Signal;

use super::shell::Shell;
use super::timer_units::Moment;
use crate::supervisor::{Edge, ExitStatus, NotifyAccess, Phase, ServiceRun, Unit, UnitId, UnitKind};

/// Names and values.
type Variables = Vec<(&'static str, String)>;

/// How a service ended: its result, how its main process ended, and with what.
const OWN_END: [&str; 3] = ["SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"];
/// The same of another one, for the unit that its `OnFailure=` or `OnSuccess=` has started.
const MONITORED_END: [&str; 3] = ["MONITOR_SERVICE_RESULT", "MONITOR_EXIT_CODE", "MONITOR_EXIT_STATUS"];

impl Shell {
    /// The variables of a process of the unit.
    pub(super) fn variables(&self, unit: UnitId, phase: Phase) -> Variables {
        let mut variables = Variables::new();
        let Some(found) = self.sup.unit(unit) else { return variables };
        variables.extend(self.peer_variables(unit));
        variables.extend(self.trigger_variables(found));
        let Some(service) = &found.spec.service else { return variables };
        if service.notify_access != NotifyAccess::None {
            variables.push(("NOTIFY_SOCKET", self.notify_path.to_string_lossy().into_owned()));
        }
        if let Some(most) = Some(self.store_limit(unit)).filter(|most| *most > 0) {
            variables.push(("FDSTORE", most.to_string()));
        }
        if let Some(span) = service.watchdog.filter(|_| phase == Phase::Start) {
            variables.push(("WATCHDOG_USEC", span.0.to_string()));
        }
        match phase {
            Phase::Stop | Phase::StopPost => variables.extend(end_of(&found.run, OWN_END)),
            Phase::StartPre | Phase::Start => variables.extend(self.monitor_variables(found)),
            _ => {}
        }
        variables
    }

    /// Which timer or path unit has started the unit, and why.
    fn trigger_variables(&self, unit: &Unit) -> Variables {
        let Some(by) = unit.activated_by else { return Variables::new() };
        let Some(trigger) = self.sup.unit(by) else { return Variables::new() };
        let mut variables = vec![("TRIGGER_UNIT", trigger.spec.name.clone())];
        if let Some(path) = self.triggering_paths.get(&by) {
            variables.push(("TRIGGER_PATH", path.clone()));
        }
        if let Some(elapsed) = trigger.last_trigger {
            let wall = Moment::now().wall(elapsed);
            variables.push(("TRIGGER_TIMER_REALTIME_USEC", wall.0.to_string()));
            variables.push(("TRIGGER_TIMER_MONOTONIC_USEC", elapsed.0.to_string()));
        }
        variables
    }

    /// How the one service ended that starts the unit by `OnFailure=` or `OnSuccess=`. Nothing when there are several:
    /// which of them it was is not known.
    fn monitor_variables(&self, unit: &Unit) -> Variables {
        let mut services = [Edge::OnFailureOf, Edge::OnSuccessOf]
            .into_iter()
            .flat_map(|edge| unit.related(edge))
            .filter(|id| self.sup.unit(*id).is_some_and(|other| other.spec.kind == UnitKind::Service));
        let Some(id) = services.next().filter(|first| services.all(|other| other == *first)) else {
            return Variables::new();
        };
        let Some(service) = self.sup.unit(id) else { return Variables::new() };
        let mut variables = end_of(&service.run, MONITORED_END);
        variables.push(("MONITOR_UNIT", service.spec.name.clone()));
        variables.extend(self.last_invocations.get(&id).map(|last| ("MONITOR_INVOCATION_ID", last.clone())));
        variables
    }
}

fn end_of(run: &ServiceRun, names: [&'static str; 3]) -> Variables {
    let [result, code, status] = names;
    let mut variables = vec![(result, run.result.word().to_owned())];
    match run.main_status {
        Some(ExitStatus::Code(number)) => {
            variables.push((code, "exited".to_owned()));
            variables.push((status, number.to_string()));
        }
        Some(ExitStatus::Signal { signal, core }) => {
            variables.push((code, if core { "dumped" } else { "killed" }.to_owned()));
            let name =
                Signal::from_number(signal).map_or_else(|| signal.to_string(), |known| known.to_string());
            variables.push((status, name.strip_prefix("SIG").unwrap_or(&name).to_owned()));
        }
        Some(ExitStatus::Unknown) | None => {}
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_the_words_of_wait_and_without_a_process_by_its_result_alone() {
        let end = |main_status| end_of(&ServiceRun { main_status, ..ServiceRun::default() }, MONITORED_END);
        let text = |value: &str| value.to_owned();
        assert_eq!(end(None), [("MONITOR_SERVICE_RESULT", text("success"))]);
        assert_eq!(
            end(Some(ExitStatus::Code(7)))[1..],
            [("MONITOR_EXIT_CODE", text("exited")), ("MONITOR_EXIT_STATUS", text("7"))]
        );
        assert_eq!(
            end(Some(ExitStatus::Signal { signal: 9, core: false }))[1..],
            [("MONITOR_EXIT_CODE", text("killed")), ("MONITOR_EXIT_STATUS", text("KILL"))]
        );
        assert_eq!(end(Some(ExitStatus::Signal { signal: 11, core: true }))[1].1, "dumped");
    }
}
