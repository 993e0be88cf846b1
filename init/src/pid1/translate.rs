//! From the typed unit file to what the supervisor needs of it.

use image_config::unit as file;

use crate::supervisor::{
    CommandFlags, Edge, ExitSet, KillMode, LoadState, Monotonic, NotifyAccess, Phase, Restart, ServiceSpec,
    ServiceType, UnitSpec,
};

/// The supervisor's view of a unit that was read.
pub fn unit_spec(unit: &file::Unit) -> UnitSpec {
    let common = &unit.common;
    let mut spec = UnitSpec::new(unit.name.as_str());
    spec.description = unit.description().to_owned();
    spec.default_dependencies = common.default_dependencies;
    spec.has_conditions = !(common.conditions.is_empty() && common.asserts.is_empty());
    spec.refuse_manual_start = common.refuse_manual_start;
    spec.refuse_manual_stop = common.refuse_manual_stop;
    spec.allow_isolate = common.allow_isolate;
    spec.ignore_on_isolate = common.ignore_on_isolate;
    spec.start_limit_interval = span(common.start_limit_interval).unwrap_or(Monotonic(u64::MAX));
    spec.start_limit_burst = common.start_limit_burst;
    let lists: [(Edge, &Vec<file::UnitName>); 11] = [
        (Edge::Requires, &common.requires),
        (Edge::Requisite, &common.requisite),
        (Edge::Wants, &common.wants),
        (Edge::BindsTo, &common.binds_to),
        (Edge::PartOf, &common.part_of),
        (Edge::Upholds, &common.upholds),
        (Edge::Conflicts, &common.conflicts),
        (Edge::Before, &common.before),
        (Edge::After, &common.after),
        (Edge::OnFailure, &common.on_failure),
        (Edge::OnSuccess, &common.on_success),
    ];
    for (edge, names) in lists {
        spec.relations.extend(names.iter().map(|name| (edge, name.as_str().to_owned())));
    }
    if let Some(service) = unit.service() {
        if let Some(problem) = service.problem() {
            spec.load = LoadState::Bad(problem.to_owned());
        }
        spec.service = Some(service_spec(service));
    }
    spec
}

/// The commands of a phase.
pub fn commands(service: &file::Service, phase: Phase) -> &[file::ExecCommand] {
    match phase {
        Phase::Condition => &service.exec_condition,
        Phase::StartPre => &service.exec_start_pre,
        Phase::Start => &service.exec_start,
        Phase::StartPost => &service.exec_start_post,
        Phase::Reload => &service.exec_reload,
        Phase::Stop => &service.exec_stop,
        Phase::StopPost => &service.exec_stop_post,
    }
}

fn service_spec(service: &file::Service) -> ServiceSpec {
    let mut spec = ServiceSpec {
        kind: match service.kind() {
            file::ServiceType::Simple | file::ServiceType::Idle | file::ServiceType::Dbus => {
                ServiceType::Simple
            }
            file::ServiceType::Exec => ServiceType::Exec,
            file::ServiceType::Forking => ServiceType::Forking,
            file::ServiceType::Oneshot => ServiceType::Oneshot,
            file::ServiceType::Notify | file::ServiceType::NotifyReload => ServiceType::Notify,
        },
        remain_after_exit: service.remain_after_exit,
        has_pid_file: service.pid_file.is_some(),
        guess_main_pid: service.guess_main_pid.unwrap_or(true),
        restart: match service.restart {
            file::Restart::No => Restart::No,
            file::Restart::Always => Restart::Always,
            file::Restart::OnSuccess => Restart::OnSuccess,
            file::Restart::OnFailure => Restart::OnFailure,
            file::Restart::OnAbnormal => Restart::OnAbnormal,
            file::Restart::OnAbort => Restart::OnAbort,
            file::Restart::OnWatchdog => Restart::OnWatchdog,
        },
        restart_delay: span(service.restart_sec).unwrap_or(Monotonic(u64::MAX)),
        success: exit_set(&service.success_exit_status),
        restart_prevent: exit_set(&service.restart_prevent_exit_status),
        restart_force: exit_set(&service.restart_force_exit_status),
        timeout_start: span(service.timeout_start()),
        timeout_stop: span(service.timeout_stop),
        runtime_max: span(service.runtime_max),
        watchdog: service.watchdog.map(|span| Monotonic(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))),
        kill_mode: match service.kill.mode {
            file::KillMode::ControlGroup => KillMode::ControlGroup,
            file::KillMode::Mixed => KillMode::Mixed,
            file::KillMode::Process => KillMode::Process,
            file::KillMode::None => KillMode::None,
        },
        kill_signal: service.kill.signal.number(),
        send_sigkill: service.kill.send_sigkill,
        send_sighup: service.kill.send_sighup,
        notify_access: match service.notify_access() {
            file::NotifyAccess::None => NotifyAccess::None,
            file::NotifyAccess::Main => NotifyAccess::Main,
            file::NotifyAccess::Exec => NotifyAccess::Exec,
            file::NotifyAccess::All => NotifyAccess::All,
        },
        ..ServiceSpec::default()
    };
    for phase in Phase::ALL {
        let flags = |command: &file::ExecCommand| CommandFlags { ignore_failure: command.ignore_failure };
        let list: Vec<CommandFlags> = commands(service, phase).iter().map(flags).collect();
        if !list.is_empty() {
            spec.commands.insert(phase, list);
        }
    }
    spec
}

fn exit_set(set: &file::ExitStatusSet) -> ExitSet {
    ExitSet {
        codes: set.codes.iter().map(|code| i32::from(*code)).collect(),
        signals: set.signals.iter().map(|signal| signal.number()).collect(),
    }
}

/// Microseconds; `None` is for ever.
pub fn span(span: file::TimeSpan) -> Option<Monotonic> {
    span.finite().map(|span| Monotonic(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
}

/// Whether a unit has nothing to reload with.
pub fn has_no_reload(unit: Option<&file::Unit>) -> bool {
    unit.and_then(file::Unit::service).is_none_or(|service| service.exec_reload.is_empty())
}
