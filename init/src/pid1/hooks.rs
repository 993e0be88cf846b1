//! What is particular to sockets, timers, paths, mounts and swaps: the units that they start, the commands that they run,
//! and the relations that nobody writes down.

use image_config::unit::{
    ExecCommand, Mount, Service, ServiceType, Socket, Swap, Timer, TimerTrigger, Unit, UnitKind, UnitName,
    escape_path,
};

use super::translate::{plain_trigger, trigger_limit};
use crate::supervisor::{Edge, Monotonic, TriggerLimit, TriggerSpec};

/// Runs a mount; of util-linux or BusyBox, whose options are the same as far as they are used here.
const MOUNT: &str = "/bin/mount";
/// The reverse.
const UMOUNT: &str = "/bin/umount";
const SWAPON: &str = "/sbin/swapon";
const SWAPOFF: &str = "/sbin/swapoff";

/// What a unit of some kind brings along.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Commands of a unit that is no service, in a service's clothes.
    pub service: Option<Box<Service>>,
    /// Relations.
    pub relations: Vec<(Edge, String)>,
    /// What starts another unit.
    pub trigger: Option<TriggerSpec>,
}

impl Hooks {
    /// Those of a unit.
    pub fn of(unit: &Unit) -> Hooks {
        match &unit.kind {
            UnitKind::Service(service) => Hooks { relations: service_relations(service), ..Hooks::default() },
            UnitKind::Socket(socket) => of_socket(&unit.name, socket),
            UnitKind::Timer(timer) => of_timer(unit, timer),
            UnitKind::Path(path) => Hooks {
                relations: triggers(path.unit(&unit.name)),
                trigger: Some(plain_trigger(trigger_limit(
                    path.trigger_limit_interval,
                    path.trigger_limit_burst,
                ))),
                ..Hooks::default()
            },
            UnitKind::Mount(mount) => of_mount(unit, mount),
            UnitKind::Swap(swap) => of_swap(swap),
            _ => Hooks::default(),
        }
    }
}

fn service_relations(service: &Service) -> Vec<(Edge, String)> {
    let edges = [Edge::Wants, Edge::After, Edge::TriggeredBy];
    let of = |socket: &UnitName| edges.map(|edge| (edge, socket.as_str().to_owned()));
    service.sockets.iter().flat_map(of).collect()
}

/// A unit comes before the one that it starts.
fn triggers(unit: Option<UnitName>) -> Vec<(Edge, String)> {
    let Some(unit) = unit.filter(|unit| !unit.is_template()) else { return Vec::new() };
    [Edge::Triggers, Edge::Before].map(|edge| (edge, unit.as_str().to_owned())).to_vec()
}

fn of_socket(name: &UnitName, socket: &Socket) -> Hooks {
    let service = Service {
        written_type: Some(ServiceType::Oneshot),
        exec_start_pre: socket.exec_start_pre.clone(),
        exec_start_post: socket.exec_start_post.clone(),
        exec_stop: socket.exec_stop_pre.clone(),
        exec_stop_post: socket.exec_stop_post.clone(),
        written_timeout_start: Some(socket.timeout),
        timeout_stop: socket.timeout,
        exec: socket.exec.clone(),
        kill: socket.kill.clone(),
        ..Service::default()
    };
    let trigger = TriggerSpec {
        limit: trigger_limit(socket.trigger_limit_interval, socket.trigger_limit_burst()),
        accept: socket.accepts(),
        max_connections: socket.max_connections,
        ..TriggerSpec::default()
    };
    let relations = if socket.accepts() { Vec::new() } else { triggers(socket.service(name)) };
    Hooks { service: Some(Box::new(service)), relations, trigger: Some(trigger) }
}

fn of_timer(unit: &Unit, timer: &Timer) -> Hooks {
    let mut relations = triggers(timer.unit(&unit.name));
    let by_calendar = timer.triggers.iter().any(|trigger| matches!(trigger, TimerTrigger::Calendar(_)));
    if by_calendar && unit.common.default_dependencies {
        relations
            .extend(["time-set.target", "time-sync.target"].map(|target| (Edge::After, target.to_owned())));
    }
    let no_limit = TriggerLimit { interval: Monotonic(0), burst: 0 };
    let trigger = TriggerSpec {
        limit: no_limit,
        remain_after_elapse: timer.remain_after_elapse,
        ..TriggerSpec::default()
    };
    Hooks { service: None, relations, trigger: Some(trigger) }
}

fn command(program: &str, arguments: impl IntoIterator<Item = String>) -> ExecCommand {
    ExecCommand {
        program: program.to_owned(),
        raw_arguments: arguments.into_iter().collect(),
        literal: true,
        ..ExecCommand::default()
    }
}

/// mount(8) with the options that are for the kernel and its helpers; those that are for the service manager are left out.
fn mount_words(mount: &Mount, place: &str, more: Option<&str>) -> Vec<String> {
    const OURS: [&str; 6] = ["auto", "noauto", "nofail", "fail", "_netdev", "user"];
    let mut words = vec![mount.what.clone(), place.to_owned()];
    if let Some(kind) = &mount.file_system {
        words.extend(["-t".to_owned(), kind.clone()]);
    }
    let ours = |option: &&str| option.is_empty() || OURS.contains(option) || option.starts_with("x-");
    let options: Vec<&str> =
        more.into_iter().chain(mount.options.split(',').filter(|option| !ours(option))).collect();
    if !options.is_empty() {
        words.extend(["-o".to_owned(), options.join(",")]);
    }
    words
}

fn of_mount(unit: &Unit, mount: &Mount) -> Hooks {
    let place = mount.mount_point(&unit.name).unwrap_or_default();
    let mut down = vec![place.clone()];
    down.extend(mount.lazy_unmount.then(|| "-l".to_owned()));
    down.extend(mount.force_unmount.then(|| "-f".to_owned()));
    let service = Service {
        written_type: Some(ServiceType::Oneshot),
        exec_start: vec![command(MOUNT, mount_words(mount, &place, None))],
        exec_reload: vec![command(MOUNT, mount_words(mount, &place, Some("remount")))],
        exec_stop: vec![command(UMOUNT, down)],
        written_timeout_start: Some(mount.timeout),
        timeout_stop: mount.timeout,
        exec: mount.exec.clone(),
        kill: mount.kill.clone(),
        ..Service::default()
    };
    let mut relations = Vec::new();
    if let Some(device) = mount.device() {
        relations.extend([Edge::BindsTo, Edge::After].map(|edge| (edge, device.as_str().to_owned())));
    }
    if unit.common.default_dependencies {
        let mut relate = |edge: Edge, target: &str| relations.push((edge, target.to_owned()));
        if mount.is_network() {
            ["remote-fs-pre.target", "network.target", "network-online.target"]
                .into_iter()
                .for_each(|target| relate(Edge::After, target));
            relate(Edge::Wants, "network-online.target");
        } else {
            relate(Edge::After, "local-fs-pre.target");
        }
        if !mount.has_option("nofail") {
            relate(Edge::Before, if mount.is_network() { "remote-fs.target" } else { "local-fs.target" });
        }
    }
    Hooks { service: Some(Box::new(service)), relations, trigger: None }
}

fn of_swap(swap: &Swap) -> Hooks {
    let mut words = Vec::new();
    if let Some(priority) = swap.priority() {
        words.extend(["-p".to_owned(), priority.to_string()]);
    }
    words.push(swap.what.clone());
    let service = Service {
        written_type: Some(ServiceType::Oneshot),
        exec_start: vec![command(SWAPON, words)],
        exec_stop: vec![command(SWAPOFF, [swap.what.clone()])],
        written_timeout_start: Some(swap.timeout),
        timeout_stop: swap.timeout,
        exec: swap.exec.clone(),
        kill: swap.kill.clone(),
        ..Service::default()
    };
    let mut relations = Vec::new();
    if let Some(device) = swap.device() {
        relations.extend([Edge::BindsTo, Edge::After].map(|edge| (edge, device.as_str().to_owned())));
    }
    Hooks { service: Some(Box::new(service)), relations, trigger: None }
}

/// Mount units that paths may lie on, the outermost first; whether there are such units is another matter.
pub fn mounts_above(path: &str) -> Vec<String> {
    let mut prefixes: Vec<&str> = Vec::new();
    let mut rest = path.trim_end_matches('/');
    while !rest.is_empty() {
        prefixes.push(rest);
        rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    prefixes.iter().rev().filter_map(|prefix| Some(format!("{}.mount", escape_path(prefix)?))).collect()
}

/// Paths that a unit needs to be mounted, and whether it cannot do without.
pub fn needed_paths(unit: &Unit) -> Vec<(String, Edge)> {
    use image_config::unit::WorkingDirectory;
    let common = &unit.common;
    let mut paths: Vec<(String, Edge)> =
        common.requires_mounts_for.iter().map(|path| (path.clone(), Edge::Requires)).collect();
    paths.extend(common.wants_mounts_for.iter().map(|path| (path.clone(), Edge::Wants)));
    let mut need = |path: String| paths.push((path, Edge::Requires));
    match &unit.kind {
        UnitKind::Service(service) => {
            let exec = &service.exec;
            if let WorkingDirectory::Path { path, optional: false } = &exec.working_directory {
                need(path.clone());
            }
            let folders = [
                ("/run", &exec.runtime_directory),
                ("/var/lib", &exec.state_directory),
                ("/var/cache", &exec.cache_directory),
                ("/var/log", &exec.logs_directory),
                ("/etc", &exec.configuration_directory),
            ];
            for (base, folder) in folders {
                folder.paths.iter().for_each(|path| need(format!("{base}/{path}")));
            }
        }
        UnitKind::Mount(mount) => {
            let place = mount.mount_point(&unit.name).unwrap_or_default();
            if let Some((parent, _)) = place.rsplit_once('/') {
                need(parent.to_owned());
            }
            if mount.what.starts_with('/') && mount.device().is_none() {
                need(mount.what.clone());
            }
        }
        UnitKind::Swap(swap) if swap.device().is_none() => need(swap.what.clone()),
        UnitKind::Socket(socket) => {
            socket.listen.iter().filter_map(|listen| listen.node()).for_each(|node| need(node.to_owned()));
        }
        _ => {}
    }
    paths
}

#[cfg(test)]
mod tests {
    use image_config::unit::System;

    use super::*;

    fn hooks(name: &str, text: &str) -> Hooks {
        let name = UnitName::parse(name).unwrap();
        let (unit, warnings) = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        assert!(warnings.is_empty(), "{warnings:?}");
        Hooks::of(&unit)
    }

    #[test]
    fn a_mount_runs_mount_with_what_is_not_ours_among_its_options() {
        let hooks = hooks(
            "data-a.mount",
            "[Mount]\nWhat=/dev/vdb1\nWhere=/data/a\nType=ext4\nOptions=noatime,nofail,x-foo=1\n",
        );
        let service = hooks.service.unwrap();
        let words = |list: &[ExecCommand]| list[0].arguments(&|_| None).join(" ");
        assert_eq!(words(&service.exec_start), "/bin/mount /dev/vdb1 /data/a -t ext4 -o noatime");
        assert_eq!(words(&service.exec_reload), "/bin/mount /dev/vdb1 /data/a -t ext4 -o remount,noatime");
        assert_eq!(words(&service.exec_stop), "/bin/umount /data/a");
        assert!(hooks.relations.contains(&(Edge::BindsTo, "dev-vdb1.device".to_owned())));
        assert!(!hooks.relations.contains(&(Edge::Before, "local-fs.target".to_owned())));
    }

    #[test]
    fn triggers_come_before_what_they_start_unless_it_is_a_template() {
        let socket = hooks("a.socket", "[Socket]\nListenStream=80\n");
        assert!(socket.relations.contains(&(Edge::Triggers, "a.service".to_owned())));
        assert!(socket.relations.contains(&(Edge::Before, "a.service".to_owned())));
        let accepting = hooks("a.socket", "[Socket]\nListenStream=80\nAccept=yes\n");
        assert!(accepting.relations.is_empty() && accepting.trigger.unwrap().accept);
        let timer = hooks("a.timer", "[Timer]\nOnBootSec=1\nUnit=b.service\n");
        assert_eq!(timer.relations[0], (Edge::Triggers, "b.service".to_owned()));
    }

    #[test]
    fn a_path_lies_on_every_mount_above_it() {
        assert_eq!(mounts_above("/var/lib/a"), ["var.mount", "var-lib.mount", "var-lib-a.mount"]);
        assert!(mounts_above("/").is_empty());
    }
}
