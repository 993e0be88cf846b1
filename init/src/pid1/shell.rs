//! The shell around the supervisor: one epoll loop that turns what happens into events and effects into deeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use image_config::unit::{Service, Unit};
use rustix::event::Timespec;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::conditions::Facts;
use super::console::Console;
use super::fd_store::Stores;
use super::found::Found;
use super::health::{Due, Health};
use super::journal::JournalPorts;
use super::load::Loader;
use super::logs::{LogSink, Record};
use super::manager::ManagerEnvironment;
use super::notify::NotifySocket;
use super::path_units::Watchers;
use super::reexec::Handover;
use super::relief::Relief;
use super::server::Server;
use super::socket_units::Sockets;
use super::spare::Spare;
use super::watches::{Source, Watches};
use super::zones::ZoneFiles;
use crate::early::watchdog::Watchdog;
use crate::supervisor::{
    Effect, Event, JobKind, Level, LoadState, Mode, Monotonic, PowerAction, ProcessId, RequestError,
    Supervisor, UnitId, UnitKind,
};
use crate::sys::signals::{self, Signals};

/// A process of a unit.
#[derive(Debug)]
pub(super) struct Entry {
    pub unit: UnitId,
    pub pid: u32,
    /// Key of its [`Source::Report`].
    pub report: Option<u64>,
    /// Key of its [`Source::Adopted`].
    pub adopted: Option<u64>,
    /// Why it could not become its program; it is about to end.
    pub failure: Option<crate::sys::spawn::Failure>,
    /// What the process works with until it has executed its program.
    pub launch: Option<Box<crate::sys::launch::Launch>>,
}

/// Which parts of the machine's life it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Starting,
    Up,
    Stopping,
}

/// What the shell is set up with.
#[derive(Debug)]
pub struct Setup {
    /// Prefix of the machine's folders.
    pub root: PathBuf,
    /// Where units come from.
    pub loader: Loader,
    /// What conditions ask for.
    pub facts: Facts,
    /// Where the log goes.
    pub log: Box<dyn LogSink>,
    /// The journal's sockets; without them output is read by PID 1 itself.
    pub journal: Option<JournalPorts>,
    /// Where people look.
    pub console: Console,
    /// Units have cgroups.
    pub with_cgroups: bool,
    /// Folder of the sockets.
    pub notify_path: PathBuf,
    /// The control socket.
    pub control_path: PathBuf,
    /// Watchdog and deadline.
    pub health: Health,
    /// What an earlier program of this process has left.
    pub handover: Option<Handover>,
}

/// The running service manager.
#[derive(Debug)]
pub struct Shell {
    pub(super) sup: Supervisor,
    pub(super) units: BTreeMap<UnitId, Unit>,
    /// Commands of sockets, mounts and swaps.
    pub(super) hooks: BTreeMap<UnitId, Box<Service>>,
    pub(super) sockets: Sockets,
    pub(super) stored: Stores,
    /// Tells when the machine is moved to another time zone.
    pub(super) zone_watch: Option<OwnedFd>,
    pub(super) last_connection: u32,
    pub(super) watchers: Watchers,
    /// The path that made a path unit start its unit last.
    pub(super) triggering_paths: BTreeMap<UnitId, String>,
    pub(super) zones: ZoneFiles,
    pub(super) found: Option<Found>,
    pub(super) clock: Option<OwnedFd>,
    /// When this program began.
    pub(super) started: Monotonic,
    pub(super) loader: Loader,
    pub(super) facts: Facts,
    pub(super) root: PathBuf,
    pub(super) notify_path: PathBuf,
    pub(super) log: Box<dyn LogSink>,
    pub(super) journal: Option<JournalPorts>,
    pub(super) console: Console,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) health: Health,
    pub(super) server: Server,
    pub(super) processes: BTreeMap<ProcessId, Entry>,
    pub(super) pids: BTreeMap<u32, ProcessId>,
    /// What the processes of a unit that has been started share.
    pub(super) runs: BTreeMap<UnitId, super::process::RunIdentity>,
    /// `$INVOCATION_ID` of the last run of services whose end starts other units.
    pub(super) last_invocations: BTreeMap<UnitId, String>,
    /// The unit and the number of the restart that was told last.
    pub(super) restart_told: Option<(UnitId, u32)>,
    pub(super) stage: Stage,
    /// What services see, as far as `systemctl` has changed it.
    pub(super) environment: ManagerEnvironment,
    /// Services of `Type=forking` whose daemon is still looked for.
    pub(super) awaited: BTreeSet<UnitId>,
    pub(super) power: Option<PowerAction>,
    /// Shutdowns that units have ordered.
    pub(super) orders: Vec<PowerAction>,
    /// Somebody has asked for `daemon-reexec`.
    pub(super) wants_reexec: bool,
    pub(super) events: VecDeque<Event>,
    pub(super) watches: Watches,
    pub(super) signals: Signals,
    pub(super) notify: NotifySocket,
    pub(super) button: Option<super::button::PowerButton>,
    pub(super) spare: Spare,
    pub(super) relief: Relief,
    /// The machine's language, as of the last time that files were read.
    pub(super) locale: Vec<(String, String)>,
    /// `/dev/null`, for standard inputs.
    pub(super) null: Option<OwnedFd>,
}

/// Signals that PID 1 listens to. Those from `SIGRTMIN+3` on are systemd's power signals.
const SIGNALS: [i32; 7] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPWR, libc::SIGUSR1, libc::SIGUSR2];
/// How often a PID file that is not there yet is looked for.
const PID_FILE_PAUSE: Monotonic = Monotonic(20_000);
/// How often a device that a job waits for is looked for besides the kernel's word.
const DEVICE_PAUSE: Monotonic = Monotonic::seconds(1);
/// Time without news that makes the shell look at its clocks anyway.
const LONGEST_SLEEP: Monotonic = Monotonic::seconds(3600);

/// Now.
pub fn now() -> Monotonic {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1000;
    Monotonic(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// The commands of a unit, be it a service or not.
pub(super) fn commands_of<'a>(
    units: &'a BTreeMap<UnitId, Unit>,
    hooks: &'a BTreeMap<UnitId, Box<Service>>,
    unit: UnitId,
) -> Option<&'a Service> {
    units.get(&unit).and_then(Unit::service).or_else(|| hooks.get(&unit).map(Box::as_ref))
}

impl Shell {
    /// Opens everything that the loop needs.
    ///
    /// # Errors
    /// When the kernel gives no epoll, signal descriptor or socket: nothing can be supervised then.
    pub fn new(setup: Setup) -> io::Result<Shell> {
        let realtime = signals::first_realtime();
        let power: Vec<i32> = (3..=5).map(|offset| realtime + offset).collect();
        let all: Vec<i32> = SIGNALS.into_iter().chain(power).collect();
        signals::ignore_none();
        let signals = Signals::open(&all)?;
        let watches = Watches::new()?;
        let (notify, server) = match setup.handover.as_ref().and_then(Handover::own_sockets) {
            Some((notify, control)) => (NotifySocket::take_over(notify), Server::take_over(control)),
            None => (NotifySocket::open(&setup.notify_path)?, Server::open(&setup.control_path)?),
        };
        let mut shell = Shell {
            sup: Supervisor::new(),
            units: BTreeMap::new(),
            hooks: BTreeMap::new(),
            sockets: Sockets::default(),
            stored: Stores::default(),
            zone_watch: super::timer_units::zone_watch(&setup.root).ok(),
            last_connection: 0,
            watchers: Watchers::new(),
            triggering_paths: BTreeMap::new(),
            zones: ZoneFiles { root: setup.root.clone() },
            found: None,
            clock: super::timer_units::clock_watch().ok(),
            started: now(),
            loader: setup.loader,
            facts: setup.facts,
            root: setup.root,
            notify,
            notify_path: setup.notify_path,
            log: setup.log,
            journal: setup.journal,
            console: setup.console,
            cgroups: None,
            health: setup.health,
            server,
            processes: BTreeMap::new(),
            pids: BTreeMap::new(),
            runs: BTreeMap::new(),
            last_invocations: BTreeMap::new(),
            restart_told: None,
            stage: Stage::Starting,
            environment: ManagerEnvironment::default(),
            awaited: BTreeSet::new(),
            power: None,
            orders: Vec::new(),
            wants_reexec: false,
            events: VecDeque::new(),
            watches,
            signals,
            button: None,
            spare: Spare::new(),
            relief: Relief::default(),
            locale: Vec::new(),
            null: std::fs::File::open("/dev/null").ok().map(OwnedFd::from),
        };
        shell.locale = super::process::locale(&shell.root);
        if setup.with_cgroups {
            match Cgroups::take_over() {
                Ok(cgroups) => shell.cgroups = Some(cgroups),
                Err(error) => shell.say(
                    Level::Error,
                    &format!("no cgroups, processes that escape cannot be ended: {error}"),
                ),
            }
            shell.button = super::button::PowerButton::open().ok();
            shell.found = Found::open().ok();
        }
        shell.watch_fixed()?;
        if shell.found.is_some() {
            shell.find_first();
        }
        if let Some(handover) = setup.handover {
            shell.resume(handover);
        }
        Ok(shell)
    }

    fn watch_fixed(&mut self) -> io::Result<()> {
        let mut fixed = vec![
            (Source::Signals, self.signals.descriptor().as_fd()),
            (Source::Notify, self.notify.descriptor().as_fd()),
            (Source::Listener, self.server.descriptor().as_fd()),
        ];
        fixed.extend(self.cgroups.as_ref().map(|cgroups| (Source::Cgroups, cgroups.events().as_fd())));
        fixed.extend(self.button.as_ref().map(|button| (Source::PowerButton, button.descriptor())));
        fixed.extend(self.clock.as_ref().map(|clock| (Source::Clock, clock.as_fd())));
        fixed.extend(self.zone_watch.as_ref().map(|zone| (Source::Zone, zone.as_fd())));
        fixed.extend(self.found.as_ref().and_then(Found::devices).map(|devices| (Source::Devices, devices)));
        fixed.extend(self.journal.as_ref().map(|journal| (Source::Journal, journal.descriptor().as_fd())));
        for (source, descriptor) in fixed {
            self.watches.add(descriptor, source)?;
        }
        for table in self.found.iter().flat_map(Found::tables) {
            self.watches.add_table(table, Source::Tables)?;
        }
        Ok(())
    }

    /// A line of PID 1's own.
    pub(super) fn say(&mut self, level: Level, text: &str) {
        self.log.write(now(), Record { source: "init", pid: 1, level, text });
    }

    /// Loads units and what they lead to.
    pub(super) fn load(&mut self, names: &[String]) {
        let sup = &self.sup;
        let known = |name: &str| {
            let unit = sup.lookup(name).and_then(|id| sup.unit(id));
            unit.is_some_and(|unit| unit.spec.load != LoadState::NotFound)
        };
        let loaded = self.loader.closure(names, &known);
        let mut specs = Vec::with_capacity(loaded.len());
        let mut files = Vec::new();
        for unit in loaded {
            for warning in &unit.warnings {
                self.log.write(
                    now(),
                    Record {
                        source: &unit.spec.name,
                        pid: 0,
                        level: Level::Warning,
                        text: &warning.to_string(),
                    },
                );
            }
            files.extend(unit.unit.map(|file| (unit.spec.name.clone(), file, unit.hooks)));
            specs.push(unit.spec);
        }
        let slices: Vec<String> =
            specs.iter().filter(|spec| spec.kind == UnitKind::Slice).map(|spec| spec.name.clone()).collect();
        let has_devices = specs.iter().any(|spec| spec.kind == UnitKind::Device);
        self.sup.add(specs);
        for (name, file, hooks) in files {
            if let Some(id) = self.sup.lookup(&name) {
                self.units.insert(id, file);
                self.hooks.extend(hooks.map(|hooks| (id, hooks)));
            }
        }
        for slice in slices {
            // One that is up (for it always is, or its files were read again) has the settings of now.
            let id = self.sup.lookup(&slice);
            let up = id.filter(|id| self.sup.unit(*id).is_some_and(|unit| unit.active().is_up()));
            up.into_iter().for_each(|id| self.update_slice(id));
        }
        if has_devices {
            self.look_for_devices();
        }
    }

    /// `daemon-reload`: reads all files again; nothing that runs is touched.
    pub(super) fn reload_files(&mut self) {
        let names: Vec<String> = self.sup.names().map(str::to_owned).collect();
        self.locale = super::process::locale(&self.root);
        // User-data may have given the machine another one.
        self.loader.set_host_name(&rustix::system::uname().nodename().to_string_lossy());
        self.sup.forget_files();
        self.units.clear();
        self.hooks.clear();
        self.load(&names);
        self.update_groups();
    }

    /// Asks for a job by the unit's name.
    pub(super) fn request(
        &mut self,
        name: &str,
        kind: JobKind,
        mode: Mode,
    ) -> Result<crate::supervisor::JobId, RequestError> {
        self.load(&[name.to_owned()]);
        let id = self.sup.lookup(name).ok_or_else(|| RequestError::NotFound(name.to_owned()))?;
        let mut effects = Vec::new();
        let answer = self.sup.request(now(), id, kind, mode, &mut effects);
        self.carry_out(effects);
        answer
    }

    /// Begins to take the machine down in order.
    pub(super) fn begin_power(&mut self, target: &str) {
        if self.stage == Stage::Stopping {
            return;
        }
        match self.request(target, JobKind::Start, Mode::ReplaceIrreversibly) {
            Ok(_) => self.stopping(),
            Err(error) => {
                self.console.bad(format_args!("{target}: {error}; going down without it"));
                self.power = Some(match target {
                    "reboot.target" => PowerAction::Reboot,
                    "halt.target" => PowerAction::Halt,
                    _ => PowerAction::PowerOff,
                });
            }
        }
    }

    /// Notes that the machine is going down.
    pub(super) fn stopping(&mut self) {
        if self.stage != Stage::Stopping {
            self.stage = Stage::Stopping;
            self.health.begin_shutdown(now());
            self.console.set_quiet(false);
            self.console.note("Shutting down");
        }
    }

    /// Carries out effects and what follows from them, until nothing is left.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.into();
        loop {
            while let Some(effect) = queue.pop_front() {
                if let Effect::Spawn { unit, .. } = effect {
                    self.make_mount_point(unit);
                }
                self.execute(effect);
            }
            let Some(event) = self.events.pop_front() else { break };
            let mut more = Vec::new();
            self.sup.handle(now(), event, &mut more);
            queue.extend(more);
        }
    }

    /// Runs until the machine is to go down, and says how.
    pub fn run(&mut self) -> PowerAction {
        loop {
            self.events.push_back(Event::Timer);
            self.carry_out(Vec::new());
            self.check_clocks();
            self.collect_garbage();
            self.obey_orders();
            // Not before whoever asked for it has his answer.
            if self.wants_reexec && !self.server.is_busy() {
                self.wants_reexec = false;
                let error = self.reexecute();
                self.say(Level::Error, &format!("cannot execute the service manager anew: {error}"));
            }
            if let Some(action) = self.power {
                return action;
            }
            let keys = self.watches.wait(&self.sleep()).unwrap_or_else(|error| {
                self.say(Level::Error, &format!("epoll: {error}"));
                std::thread::sleep(std::time::Duration::from_millis(100));
                Vec::new()
            });
            for key in keys {
                self.dispatch(key);
            }
        }
    }

    fn sleep(&self) -> Timespec {
        let now = now();
        let mut until = now.after(LONGEST_SLEEP);
        until = until.min(self.sup.next_deadline().unwrap_or(until)).min(self.health.next(now));
        if !self.awaited.is_empty() {
            until = until.min(now.after(PID_FILE_PAUSE));
        }
        if self.waits_for_device() {
            until = until.min(now.after(DEVICE_PAUSE));
        }
        until = until.min(self.relief.next(now).unwrap_or(until));
        let micros = until.0.saturating_sub(now.0);
        Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(micros % 1_000_000 * 1000).unwrap_or(0),
        }
    }

    pub(super) fn log_unit(&mut self, unit: Option<UnitId>, level: Level, text: &str) {
        let source = unit.map_or("init", |unit| self.sup.name(unit));
        self.log.write(now(), Record { source, pid: 0, level, text });
    }

    /// What the clocks say: watchdog, deadlines, PID files that are waited for.
    fn check_clocks(&mut self) {
        match self.health.check(now()) {
            Due::Nothing => {}
            Due::Unhealthy => {
                self.console
                    .bad("this boot is not healthy in time: rebooting, so that the other slot gets its turn");
                let missing = self.missing_members();
                for member in &missing {
                    self.console.bad(member);
                    self.say(Level::Error, member);
                }
                self.say(Level::Error, "boot-complete.target was not reached in time");
                let reason = format!("not healthy in time: {}", missing.join("; "));
                if let Err(error) = crate::boot::give_up_trial(&reason) {
                    self.say(Level::Error, &format!("record of the trial: {error}"));
                }
                self.begin_power("reboot.target");
            }
            Due::ShutdownLate => {
                self.console.bad("the shutdown takes too long: going on by force");
                let reboots = self
                    .sup
                    .lookup("reboot.target")
                    .and_then(|id| self.sup.unit(id))
                    .is_some_and(|unit| unit.job.is_some());
                self.power = Some(if reboots { PowerAction::Reboot } else { PowerAction::PowerOff });
            }
        }
        self.look_for_daemons();
        if self.waits_for_device() {
            self.look_for_devices();
        }
        self.relieve_services();
        self.notice_startup();
        self.carry_out(Vec::new());
    }

    /// After the last unit: closes everything but the watchdog.
    pub fn finish(self) -> Option<Watchdog> {
        self.health.into_watchdog()
    }
}
