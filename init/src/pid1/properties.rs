//! What unit files say, as properties of `systemctl show`: names and forms of org.freedesktop.systemd1(5), which scripts rely on.

use std::path::Path;

use image_config::unit::{
    Amount, CpuWeight, Delegate, DirectoryPreserve, ExecContext, KillContext, Resource, ResourceControl,
    Service, Socket, TimeSpan, Unit, UnitKind,
};

use super::cgroup;
use super::shell::Shell;
use crate::supervisor::UnitId;

/// Controllers that a unit can be given, in systemd's order.
const CONTROLLERS: &str = "cpu cpuset io memory pids";

type List = Vec<(String, String)>;

/// The properties of a unit's file and of its control group.
pub(super) fn of_file(shell: &Shell, id: UnitId) -> List {
    let Some(unit) = shell.units.get(&id) else { return List::new() };
    let mut list = List::new();
    let mut add = |name: &str, value: String| list.push((name.to_owned(), value));
    add("StartLimitAction", unit.common.start_limit_action.word().to_owned());
    add("FailureAction", unit.common.failure_action.word().to_owned());
    add("SuccessAction", unit.common.success_action.word().to_owned());
    match &unit.kind {
        UnitKind::Service(service) => {
            list.extend(of_service(service));
            list.extend(of_exec(&service.exec));
            list.extend(of_kill(&service.kill));
        }
        UnitKind::Socket(socket) => list.extend(of_socket(socket)),
        UnitKind::Timer(timer) => {
            add("Unit", timer.unit(&unit.name).map_or_else(String::new, |unit| unit.to_string()))
        }
        UnitKind::Path(path) => {
            for watch in &path.watches {
                add("Paths", format!("{} ({})", watch.path, watch.condition.key()));
            }
            add("Unit", path.unit(&unit.name).map_or_else(String::new, |unit| unit.to_string()))
        }
        _ => {}
    }
    if let Some(resources) = unit.resources() {
        list.extend(of_resources(resources, unit));
        let group = shell.cgroups.as_ref().and_then(|cgroups| cgroups.path(id)).map(control_group);
        list.push(("ControlGroup".to_owned(), group.unwrap_or_default()));
        let freezer = shell.cgroups.as_ref().map_or("running", |cgroups| cgroups.freezer_state(id));
        list.push(("FreezerState".to_owned(), freezer.to_owned()));
    }
    list
}

/// A control group as systemd names it: from the root of all of them.
fn control_group(path: &Path) -> String {
    format!("/{}", path.strip_prefix(cgroup::MOUNT).unwrap_or(path).display())
}

fn of_service(service: &Service) -> List {
    let span = |span: TimeSpan| span.to_string();
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let watchdog = service.watchdog.map_or_else(|| "0".to_owned(), |time| span(TimeSpan::Finite(time)));
    named([
        ("Type", service.kind().word().to_owned()),
        ("Restart", service.restart.word().to_owned()),
        ("RestartUSec", span(service.restart_sec)),
        ("TimeoutStartUSec", span(service.timeout_start())),
        ("TimeoutStopUSec", span(service.timeout_stop)),
        ("RuntimeMaxUSec", span(service.runtime_max)),
        ("WatchdogUSec", watchdog),
        ("RemainAfterExit", yes_no(service.remain_after_exit)),
        ("FileDescriptorStoreMax", service.fd_store_max.to_string()),
        (
            "FileDescriptorStorePreserve",
            match service.fd_store_preserve {
                DirectoryPreserve::Yes => "yes",
                DirectoryPreserve::No => "no",
                DirectoryPreserve::Restart => "restart",
            }
            .to_owned(),
        ),
        ("PIDFile", service.pid_file.clone().unwrap_or_default()),
    ])
}

fn of_exec(exec: &ExecContext) -> List {
    let mut list = named([
        ("User", exec.user.clone().unwrap_or_default()),
        ("Group", exec.group.clone().unwrap_or_default()),
        ("UMask", format!("{:04o}", exec.umask.unwrap_or(0o022))),
        ("Nice", exec.nice.unwrap_or(0).to_string()),
        ("OOMScoreAdjust", exec.oom_score_adjust.unwrap_or(0).to_string()),
    ]);
    for limit in &exec.limits {
        let name = format!("Limit{}", limit_name(limit.resource));
        let value =
            |value: Option<u64>| value.map_or_else(|| "infinity".to_owned(), |value| value.to_string());
        list.push((format!("{name}Soft"), value(limit.soft)));
        list.push((name, value(limit.hard)));
    }
    list
}

fn of_kill(kill: &KillContext) -> List {
    named([
        ("KillMode", kill.mode.word().to_owned()),
        ("KillSignal", kill.signal.number().to_string()),
        ("FinalKillSignal", kill.final_signal.number().to_string()),
    ])
}

fn of_socket(socket: &Socket) -> List {
    let listen = socket.listen.iter().map(|listen| format!("{listen} ({})", listen.kind_name()));
    let accept = if socket.accept { "yes" } else { "no" };
    let mut list: List = listen.map(|text| ("Listen".to_owned(), text)).collect();
    list.push(("Accept".to_owned(), accept.to_owned()));
    list
}

fn of_resources(resources: &ResourceControl, unit: &Unit) -> List {
    let amount = |amount: Option<Amount>, unset: &str| match amount {
        Some(Amount::Number(number)) => number.to_string(),
        Some(Amount::Share(share)) => format!("{}%", f64::from(share) / 100.0),
        Some(Amount::Infinity) => "infinity".to_owned(),
        None => unset.to_owned(),
    };
    let weight = match resources.cpu_weight {
        Some(CpuWeight::Weight(weight)) => weight.to_string(),
        Some(CpuWeight::Idle) => "idle".to_owned(),
        None => "[not set]".to_owned(),
    };
    let quota = resources
        .cpu_quota
        .map_or(TimeSpan::Infinity, |quota| TimeSpan::Finite(std::time::Duration::from_micros(quota)));
    let (delegate, controllers) = match &resources.delegate {
        None => ("no", String::new()),
        Some(Delegate::All) => ("yes", CONTROLLERS.to_owned()),
        Some(Delegate::Controllers(names)) => ("yes", names.join(" ")),
    };
    named([
        ("Slice", resources.slice_of(&unit.name)),
        ("CPUWeight", weight),
        ("CPUQuotaPerSecUSec", quota.to_string()),
        ("MemoryMin", amount(resources.memory_min, "0")),
        ("MemoryLow", amount(resources.memory_low, "0")),
        ("MemoryHigh", amount(resources.memory_high, "infinity")),
        ("MemoryMax", amount(resources.memory_max, "infinity")),
        ("MemorySwapMax", amount(resources.memory_swap_max, "infinity")),
        ("TasksMax", amount(resources.tasks_max, "infinity")),
        ("IOWeight", resources.io_weight.map_or_else(|| "[not set]".to_owned(), |weight| weight.to_string())),
        ("Delegate", delegate.to_owned()),
        ("DelegateControllers", controllers),
    ])
}

fn limit_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "CPU",
        Resource::Fsize => "FSIZE",
        Resource::Data => "DATA",
        Resource::Stack => "STACK",
        Resource::Core => "CORE",
        Resource::Rss => "RSS",
        Resource::Nproc => "NPROC",
        Resource::Nofile => "NOFILE",
        Resource::Memlock => "MEMLOCK",
        Resource::As => "AS",
        Resource::Locks => "LOCKS",
        Resource::Sigpending => "SIGPENDING",
        Resource::Msgqueue => "MSGQUEUE",
        Resource::Nice => "NICE",
        Resource::Rtprio => "RTPRIO",
        Resource::Rttime => "RTTIME",
    }
}

fn named<const N: usize>(pairs: [(&str, String); N]) -> List {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
