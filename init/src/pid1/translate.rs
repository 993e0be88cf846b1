//! From the typed unit file to what the supervisor needs of it.

use image_config::unit as file;
use image_config::unit::KillContext;

use super::hooks::Hooks;
use crate::supervisor::{
    Action, CommandFlags, Edge, ExitSet, KillMode, LoadState, Mode, Monotonic, NotifyAccess, OomPolicy,
    Phase, PowerAction, Restart, ServiceSpec, ServiceType, TimeoutMode, TriggerLimit, TriggerSpec, UnitSpec,
};

/// The supervisor's view of a unit that was read, and the commands that it runs if it is no service.
pub fn unit_spec(unit: &file::Unit) -> (UnitSpec, Option<Box<file::Service>>) {
    let common = &unit.common;
    let mut spec = UnitSpec::new(unit.name.as_str());
    spec.description = unit.description().to_owned();
    spec.default_dependencies = common.default_dependencies;
    spec.has_conditions = !(common.conditions.is_empty() && common.asserts.is_empty());
    spec.refuse_manual_start = common.refuse_manual_start;
    spec.refuse_manual_stop = common.refuse_manual_stop;
    spec.allow_isolate = common.allow_isolate;
    spec.ignore_on_isolate = common.ignore_on_isolate;
    spec.collect_failed = common.collect_mode == file::CollectMode::InactiveOrFailed;
    spec.stop_when_unneeded = common.stop_when_unneeded;
    spec.start_limit_interval = span(common.start_limit_interval).unwrap_or(Monotonic(u64::MAX));
    spec.start_limit_burst = common.start_limit_burst;
    spec.start_limit_action = action(common.start_limit_action);
    spec.failure_action = action(common.failure_action);
    spec.success_action = action(common.success_action);
    spec.on_failure_mode = mode(common.on_failure_job_mode);
    spec.on_success_mode = mode(common.on_success_job_mode);
    spec.job_timeout = span(common.job_timeout);
    spec.job_running_timeout = common.job_running_timeout.and_then(span);
    spec.job_timeout_action = action(common.job_timeout_action);
    let lists: [(Edge, &Vec<file::UnitName>); 15] = [
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
        (Edge::PropagatesReloadTo, &common.propagates_reload_to),
        (Edge::ReloadPropagatedFrom, &common.reload_propagated_from),
        (Edge::PropagatesStopTo, &common.propagates_stop_to),
        (Edge::StopPropagatedFrom, &common.stop_propagated_from),
    ];
    for (edge, names) in lists {
        spec.relations.extend(names.iter().map(|name| (edge, name.as_str().to_owned())));
    }
    if let Some(problem) = unit.problem() {
        spec.load = LoadState::Bad(problem.to_owned());
    }
    spec.ignore_on_isolate |= matches!(
        spec.kind,
        crate::supervisor::UnitKind::Slice
            | crate::supervisor::UnitKind::Device
            | crate::supervisor::UnitKind::Mount
            | crate::supervisor::UnitKind::Swap
    );
    if matches!(unit.name.as_str(), "-.slice" | "system.slice" | "-.mount") {
        spec.perpetual = true;
    }
    if spec.kind == crate::supervisor::UnitKind::Slice {
        spec.default_dependencies &= !spec.perpetual;
    }
    let slice = slice_of(unit).into_iter();
    spec.relations
        .extend(slice.flat_map(|slice| [Edge::Requires, Edge::After].map(|edge| (edge, slice.clone()))));
    let Hooks { service, relations, trigger } = Hooks::of(unit);
    spec.relations.extend(relations);
    spec.trigger = trigger;
    spec.service = unit.service().or(service.as_deref()).map(service_spec);
    (spec, service)
}

/// The slice that a unit is in, unless that is the root: systemd.slice(5), "Implicit Dependencies".
fn slice_of(unit: &file::Unit) -> Option<String> {
    let slice = match &unit.kind {
        file::UnitKind::Slice(_) => file::Slice::parent(&unit.name)?.as_str().to_owned(),
        _ => unit.resources()?.slice_of(&unit.name),
    };
    (slice != "-.slice").then_some(slice)
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
            file::ServiceType::Simple | file::ServiceType::Dbus => ServiceType::Simple,
            file::ServiceType::Idle => ServiceType::Idle,
            file::ServiceType::Exec => ServiceType::Exec,
            file::ServiceType::Forking => ServiceType::Forking,
            file::ServiceType::Oneshot => ServiceType::Oneshot,
            file::ServiceType::Notify => ServiceType::Notify,
            file::ServiceType::NotifyReload => ServiceType::NotifyReload,
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
        restart_steps: service.restart_steps,
        restart_max_delay: span(service.restart_max_delay),
        restart_direct: service.restart_mode == file::RestartMode::Direct,
        success: exit_set(&service.success_exit_status),
        restart_prevent: exit_set(&service.restart_prevent_exit_status),
        restart_force: exit_set(&service.restart_force_exit_status),
        timeout_start: span(service.timeout_start()),
        timeout_stop: span(service.timeout_stop),
        timeout_abort: span(service.timeout_abort.unwrap_or(service.timeout_stop)),
        start_failure_mode: timeout_mode(service.timeout_start_failure_mode),
        stop_failure_mode: timeout_mode(service.timeout_stop_failure_mode),
        exit_cgroup: service.exit_type == file::ExitType::Cgroup,
        oom_policy: match service.oom_policy {
            file::OomPolicy::Continue => OomPolicy::Continue,
            file::OomPolicy::Stop => OomPolicy::Stop,
            file::OomPolicy::Kill => OomPolicy::Kill,
        },
        runtime_max: span(service.runtime_max),
        runtime_extra: span(service.runtime_randomized_extra).unwrap_or(Monotonic(u64::MAX)),
        watchdog: service.watchdog.map(micros),
        notify_access: match service.notify_access() {
            file::NotifyAccess::None => NotifyAccess::None,
            file::NotifyAccess::Main => NotifyAccess::Main,
            file::NotifyAccess::Exec => NotifyAccess::Exec,
            file::NotifyAccess::All => NotifyAccess::All,
        },
        needs_files: service.exec.environment_files.iter().any(|file| !file.optional),
        ..ServiceSpec::default()
    };
    apply_kill(&mut spec, &service.kill);
    for phase in Phase::ALL {
        let flags = |command: &file::ExecCommand| CommandFlags { ignore_failure: command.ignore_failure };
        let list: Vec<CommandFlags> = commands(service, phase).iter().map(flags).collect();
        if !list.is_empty() {
            spec.commands.insert(phase, list);
        }
    }
    spec
}

fn apply_kill(spec: &mut ServiceSpec, kill: &KillContext) {
    spec.kill_mode = match kill.mode {
        file::KillMode::ControlGroup => KillMode::ControlGroup,
        file::KillMode::Mixed => KillMode::Mixed,
        file::KillMode::Process => KillMode::Process,
        file::KillMode::None => KillMode::None,
    };
    spec.kill_signal = kill.signal.number();
    spec.restart_kill_signal = kill.restart_signal.unwrap_or(kill.signal).number();
    spec.final_kill_signal = kill.final_signal.number();
    spec.watchdog_signal = kill.watchdog_signal.number();
    spec.reload_signal = kill.reload_signal.number();
    spec.send_sigkill = kill.send_sigkill;
    spec.send_sighup = kill.send_sighup;
}

fn timeout_mode(mode: file::TimeoutFailureMode) -> TimeoutMode {
    match mode {
        file::TimeoutFailureMode::Terminate => TimeoutMode::Terminate,
        file::TimeoutFailureMode::Abort => TimeoutMode::Abort,
        file::TimeoutFailureMode::Kill => TimeoutMode::Kill,
    }
}

fn mode(mode: file::JobMode) -> Mode {
    match mode {
        file::JobMode::Fail => Mode::Fail,
        file::JobMode::Replace => Mode::Replace,
        file::JobMode::ReplaceIrreversibly => Mode::ReplaceIrreversibly,
        file::JobMode::Isolate => Mode::Isolate,
        file::JobMode::Flush => Mode::Flush,
        file::JobMode::IgnoreDependencies => Mode::IgnoreDependencies,
        file::JobMode::IgnoreRequirements => Mode::IgnoreRequirements,
    }
}

/// The end of the service manager is the end of the machine: PID 1 has nowhere to return to.
fn action(action: file::StartLimitAction) -> Action {
    use file::StartLimitAction as A;
    match action {
        A::None => Action::Nothing,
        A::Reboot => Action::Orderly(PowerAction::Reboot),
        A::RebootForce => Action::Force(PowerAction::Reboot),
        A::RebootImmediate => Action::Immediate(PowerAction::Reboot),
        A::Poweroff | A::Exit => Action::Orderly(PowerAction::PowerOff),
        A::PoweroffForce | A::ExitForce => Action::Force(PowerAction::PowerOff),
        A::PoweroffImmediate => Action::Immediate(PowerAction::PowerOff),
        A::Halt => Action::Orderly(PowerAction::Halt),
        A::HaltForce => Action::Force(PowerAction::Halt),
        A::HaltImmediate => Action::Immediate(PowerAction::Halt),
    }
}

fn exit_set(set: &file::ExitStatusSet) -> ExitSet {
    ExitSet {
        codes: set.codes.iter().map(|code| i32::from(*code)).collect(),
        signals: set.signals.iter().map(|signal| signal.number()).collect(),
    }
}

/// Microseconds; `None` is for ever.
pub fn span(span: file::TimeSpan) -> Option<Monotonic> {
    span.finite().map(micros)
}

/// A span in the supervisor's unit.
pub fn micros(span: std::time::Duration) -> Monotonic {
    Monotonic(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// A limit of how often a unit may start another.
pub fn trigger_limit(interval: file::TimeSpan, burst: u32) -> TriggerLimit {
    TriggerLimit { interval: span(interval).unwrap_or(Monotonic(u64::MAX)), burst }
}

/// What starts another unit, when nothing but the limit is of interest.
pub fn plain_trigger(limit: TriggerLimit) -> TriggerSpec {
    TriggerSpec { limit, ..TriggerSpec::default() }
}
