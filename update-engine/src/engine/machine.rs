//! What the engine does and when: a state machine without I/O. Events in, effects out; time and chance are arguments.
//!
//! One [`Job`] runs at a time, elsewhere; its end is an event. What must outlive the process is in [`Saved`], and whether
//! the next boot tries the passive slot stands in the partition table alone: [`Event::Started`] brings it.

use serde::{Deserialize, Serialize};

use super::config::{Config, Strategy};
use super::fill::Progress;
use super::reboot::{self, LockNews, LockState};
use super::state::{Saved, Staged};
use crate::channel::key::hex;
use crate::channel::report::{Advice, LastError, MachineState};
use crate::channel::{Release, Version};

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

/// Seconds from the start to the first check, and between two; each with [`CHECK_FUZZ`] to either side, so that machines that
/// were started together do not ask together.
const FIRST_CHECK: u64 = 7 * 60;
const CHECK_EVERY: u64 = 45 * 60;
const CHECK_FUZZ: u64 = 5 * 60;
/// Seconds until a mirror that failed is asked again, doubled with each failure in a row.
const RETRY_FIRST: u64 = 2;
const RETRY_MOST: u64 = 10 * 60;
/// Failures of the line in a row at one mirror before the next one is asked.
const FAILURES_PER_MIRROR: u32 = 3;
/// Failures in a row, whatever the mirror, after which the attempt is given up until the next check.
const MOST_FAILURES: u32 = 12;

/// The time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix seconds, for people and windows.
    pub unix: u64,
    /// Seconds since the machine started, for pauses.
    pub since_boot: u64,
    /// A random number.
    pub random: u64,
}

/// What the engine is doing; the names are those of Container Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing.
    #[serde(rename = "UPDATE_STATUS_IDLE")]
    Idle,
    /// Reading the channel.
    #[serde(rename = "UPDATE_STATUS_CHECKING_FOR_UPDATE")]
    Checking,
    /// There is a release, or one is downloaded and waits for `apply`.
    #[serde(rename = "UPDATE_STATUS_UPDATE_AVAILABLE")]
    Available,
    /// Fetching and writing.
    #[serde(rename = "UPDATE_STATUS_DOWNLOADING")]
    Downloading,
    /// Reading the slot back.
    #[serde(rename = "UPDATE_STATUS_VERIFYING")]
    Verifying,
    /// Writing the footer and the flags.
    #[serde(rename = "UPDATE_STATUS_FINALIZING")]
    Finalizing,
    /// The next boot tries the other slot.
    #[serde(rename = "UPDATE_STATUS_UPDATED_NEED_REBOOT")]
    NeedReboot,
    /// Telling the server of a failure.
    #[serde(rename = "UPDATE_STATUS_REPORTING_ERROR_EVENT")]
    ReportingError,
}

impl Phase {
    /// The name that `update_engine_client -status` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "UPDATE_STATUS_IDLE",
            Self::Checking => "UPDATE_STATUS_CHECKING_FOR_UPDATE",
            Self::Available => "UPDATE_STATUS_UPDATE_AVAILABLE",
            Self::Downloading => "UPDATE_STATUS_DOWNLOADING",
            Self::Verifying => "UPDATE_STATUS_VERIFYING",
            Self::Finalizing => "UPDATE_STATUS_FINALIZING",
            Self::NeedReboot => "UPDATE_STATUS_UPDATED_NEED_REBOOT",
            Self::ReportingError => "UPDATE_STATUS_REPORTING_ERROR_EVENT",
        }
    }
}

/// How far an attempt is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Look what there is.
    Check,
    /// And bring it to the passive slot.
    Download,
    /// And let the next boot try it.
    Apply,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Look, and go as far as `goal`, now; the machine's place in rollouts does not count.
    Update {
        /// How far.
        goal: Goal,
    },
    /// Let the next boot try what is downloaded.
    ApplyStaged,
    /// Give up what is staged or running, and what went wrong before.
    Reset,
    /// Boot the other slot next, if all of it is sound.
    Rollback,
    /// Take no version but this one.
    Pin {
        /// The version.
        version: String,
    },
    /// Take any version again.
    Unpin,
    /// Do nothing by itself.
    Pause,
    /// Go on.
    Resume,
}

/// Work for somebody with hands. One at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Read the channel from a server.
    Check {
        /// Its number in the configuration.
        server: usize,
        /// Whether the machine's place in rollouts counts.
        waits_its_turn: bool,
    },
    /// Fill and verify the passive slot.
    Download {
        /// With this.
        release: Box<Release>,
        /// From here.
        server: usize,
    },
    /// Seal the passive slot and flip.
    Apply,
    /// Verify the other slot and flip.
    Rollback,
    /// Take the other slot's flags away.
    Withdraw,
}

/// Why a job failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The line: try again.
    Transport,
    /// The server: try another one.
    Mirror,
    /// Nothing helps before the next check.
    Final,
    /// Somebody wanted it to stop.
    Stopped,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub trouble: Trouble,
    /// One word for counting.
    pub kind: &'static str,
    /// The whole message.
    pub message: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The engine has started; `pending` says what the table will boot next if that is not the running slot.
    Started {
        /// The other slot, if the next boot tries it.
        pending: Option<Staged>,
    },
    /// Time has passed.
    Tick,
    /// Somebody asks.
    Command(Command),
    /// [`Job::Check`] has ended.
    Checked(Result<Option<Box<Release>>, Failure>),
    /// [`Job::Download`] goes on.
    Progress(Progress),
    /// [`Job::Download`] reads back what it has written.
    Verifying,
    /// [`Job::Download`] has ended.
    Downloaded(Result<Staged, Failure>),
    /// [`Job::Apply`] or [`Job::Rollback`] has ended.
    Applied(Result<Staged, Failure>),
    /// [`Job::Withdraw`] has ended.
    Withdrawn(Result<(), Failure>),
    /// The configuration was read again.
    Configured(Box<Config>),
    /// The channel server has answered a report.
    Advised(Advice),
    /// The reboot lock.
    Lock(LockNews),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Begin a job.
    Begin(Job),
    /// End the running job.
    Stop,
    /// Store [`Machine::saved`].
    Save,
    /// Tell the channel server.
    Report,
    /// Get the reboot lock.
    TakeLock,
    /// Give the reboot lock back, or give up getting it.
    LeaveLock,
    /// Have the cluster move this machine's units elsewhere; [`LockNews::Drained`] tells that it has.
    Drain,
    /// Let the cluster give this machine units again.
    Undrain,
    /// Reboot the machine.
    Reboot,
    /// Tell the log.
    Say(String),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not now.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// No server.
    #[error("no server is configured: set SERVER= in /etc/coreos/update.conf")]
    NoServer,
    /// Nothing to apply.
    #[error("nothing is downloaded: `update_engine_client download` comes first")]
    NothingStaged,
    /// No version.
    #[error("{0:?} is no version")]
    Version(String),
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// What is remembered.
    saved: Saved,
    config: Config,
    phase: Phase,
    /// The job that runs.
    running: Option<Job>,
    goal: Goal,
    by_hand: bool,
    candidate: Option<Box<Release>>,
    progress: Progress,
    failures: u32,
    mirror_failures: u32,
    next_check: u64,
    retry_at: Option<u64>,
    reboot_at: Option<u64>,
    hold: Option<String>,
    lock: LockState,
}

impl Machine {
    /// A machine that has just started.
    pub fn new(saved: Saved, config: Config, now: Now) -> Self {
        let next_check = now.since_boot + fuzzy(FIRST_CHECK, CHECK_FUZZ, now.random);
        Self {
            saved,
            config,
            phase: Phase::Idle,
            running: None,
            goal: Goal::Apply,
            by_hand: false,
            candidate: None,
            progress: Progress::default(),
            failures: 0,
            mirror_failures: 0,
            next_check,
            retry_at: None,
            reboot_at: None,
            hold: None,
            lock: LockState::Rest,
        }
    }

    /// What is to be stored.
    pub const fn saved(&self) -> &Saved {
        &self.saved
    }

    /// For notes of what others found out; [`Effect::Save`] is up to the caller.
    pub const fn saved_mut(&mut self) -> &mut Saved {
        &mut self.saved
    }

    /// What it does.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// How far a download is.
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The release that is being dealt with.
    pub fn candidate(&self) -> Option<&Release> {
        self.candidate.as_deref()
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Seconds since boot when the machine will be rebooted.
    pub const fn reboot_at(&self) -> Option<u64> {
        self.reboot_at
    }

    /// Why the channel server wants no updates now.
    pub fn hold(&self) -> Option<&str> {
        self.hold.as_deref()
    }

    /// How it stands with the reboot lock.
    pub const fn lock(&self) -> &LockState {
        &self.lock
    }

    pub(super) const fn lock_mut(&mut self) -> &mut LockState {
        &mut self.lock
    }

    /// What a report says of it.
    pub fn report_state(&self, trial: bool) -> MachineState {
        match self.phase {
            Phase::Checking => MachineState::Checking,
            Phase::Downloading => MachineState::Downloading,
            Phase::Verifying | Phase::Finalizing => MachineState::Verifying,
            Phase::NeedReboot => MachineState::NeedReboot,
            Phase::ReportingError => MachineState::Error,
            Phase::Available if self.hold.is_some() || self.saved.paused => MachineState::Held,
            Phase::Idle | Phase::Available if trial => MachineState::Trial,
            Phase::Idle | Phase::Available if self.saved.last_error.is_some() => MachineState::Error,
            Phase::Idle | Phase::Available => MachineState::Idle,
        }
    }

    /// When [`Event::Tick`] is due, in seconds since boot.
    pub fn next_tick(&self) -> u64 {
        let pending = [self.retry_at, self.reboot_at].into_iter().flatten();
        pending.fold(self.next_check, u64::min)
    }

    /// Takes a command.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn command(&mut self, now: Now, command: Command) -> Result<Vec<Effect>, Refused> {
        let mut effects = self.take_command(now, command)?;
        effects.extend(reboot::settle(self, now));
        Ok(effects)
    }

    fn take_command(&mut self, now: Now, command: Command) -> Result<Vec<Effect>, Refused> {
        match command {
            Command::Update { goal } => return self.update_by_hand(now, goal),
            Command::ApplyStaged => {
                self.idle_or_busy()?;
                if self.phase == Phase::NeedReboot {
                    return Ok(Vec::new());
                }
                self.saved.staged.as_ref().ok_or(Refused::NothingStaged)?;
                self.by_hand = true;
                return Ok(self.begin(Job::Apply, Phase::Finalizing));
            }
            Command::Rollback => {
                self.idle_or_busy()?;
                self.by_hand = true;
                self.reboot_at = None;
                return Ok(self.begin(Job::Rollback, Phase::Verifying));
            }
            Command::Reset => return Ok(self.reset()),
            Command::Pin { version } => {
                Version::parse(&version).map_err(|_| Refused::Version(version.clone()))?;
                self.saved.pinned = Some(version);
            }
            Command::Unpin => self.saved.pinned = None,
            Command::Pause => {
                self.saved.paused = true;
                self.reboot_at = None;
                let stop = matches!(self.running, Some(Job::Download { .. })) && !self.by_hand;
                return Ok([Effect::Save].into_iter().chain(stop.then_some(Effect::Stop)).collect());
            }
            Command::Resume => {
                self.saved.paused = false;
                self.next_check = now.since_boot;
                if self.phase == Phase::NeedReboot {
                    self.plan_reboot(now);
                }
            }
        }
        Ok(vec![Effect::Save])
    }

    fn idle_or_busy(&self) -> Result<(), Refused> {
        match self.running {
            None => Ok(()),
            Some(Job::Check { .. }) => Err(Refused::Busy("the channel is being checked")),
            Some(Job::Download { .. }) => Err(Refused::Busy("a release is being downloaded")),
            Some(_) => Err(Refused::Busy("the slots are being changed")),
        }
    }

    fn update_by_hand(&mut self, now: Now, goal: Goal) -> Result<Vec<Effect>, Refused> {
        if self.config.servers.is_empty() {
            return Err(Refused::NoServer);
        }
        match &self.running {
            // What runs goes as far as was asked for.
            Some(Job::Check { .. } | Job::Download { .. }) => {
                self.goal = self.goal.max(goal);
                self.by_hand = true;
                return Ok(Vec::new());
            }
            Some(_) => return Err(Refused::Busy("the slots are being changed")),
            None => {}
        }
        self.goal = goal;
        self.by_hand = true;
        self.failures = 0;
        self.mirror_failures = 0;
        self.candidate = None;
        Ok(self.check(now))
    }

    fn reset(&mut self) -> Vec<Effect> {
        self.saved.last_error = None;
        self.reboot_at = None;
        self.retry_at = None;
        if self.running.is_some() {
            return vec![Effect::Save, Effect::Stop];
        }
        if self.saved.staged.take().is_some() || self.phase == Phase::NeedReboot {
            return self.begin(Job::Withdraw, Phase::Finalizing);
        }
        self.phase = Phase::Idle;
        vec![Effect::Save]
    }

    fn check(&mut self, now: Now) -> Vec<Effect> {
        self.next_check = now.since_boot + fuzzy(CHECK_EVERY, CHECK_FUZZ, now.random);
        self.retry_at = None;
        let server = self.server();
        self.begin(Job::Check { server, waits_its_turn: !self.by_hand }, Phase::Checking)
    }

    fn server(&self) -> usize {
        self.saved.mirror % self.config.servers.len().max(1)
    }

    fn begin(&mut self, job: Job, phase: Phase) -> Vec<Effect> {
        self.phase = phase;
        self.running = Some(job.clone());
        vec![Effect::Save, Effect::Begin(job)]
    }

    /// The state in which nothing runs.
    fn rest(&mut self) {
        self.running = None;
        self.candidate = None;
        self.progress = Progress::default();
        self.phase = match &self.saved.staged {
            Some(staged) if staged.applied => Phase::NeedReboot,
            Some(_) => Phase::Available,
            None => Phase::Idle,
        };
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = self.take_event(now, event);
        effects.extend(reboot::settle(self, now));
        effects
    }

    fn take_event(&mut self, now: Now, event: Event) -> Vec<Effect> {
        match event {
            Event::Started { pending } => self.started(now, pending),
            Event::Tick => self.tick(now),
            Event::Lock(news) => reboot::lock_news(self, now, news),
            Event::Command(command) => self.take_command(now, command).unwrap_or_default(),
            Event::Checked(result) => self.checked(now, result),
            Event::Progress(progress) => {
                if progress.fetched > self.progress.fetched {
                    // The line works.
                    (self.failures, self.mirror_failures) = (0, 0);
                }
                self.progress = progress;
                Vec::new()
            }
            Event::Verifying => {
                self.phase = Phase::Verifying;
                vec![Effect::Report]
            }
            Event::Downloaded(result) => self.downloaded(now, result),
            Event::Applied(result) => self.applied(now, result),
            Event::Withdrawn(result) => {
                self.rest();
                if let Err(failure) = result {
                    return self.give_up(now, &failure);
                }
                self.saved.happened(now.unix, "reset", None, "the other slot does not boot any more");
                vec![Effect::Save, Effect::Report]
            }
            Event::Configured(config) => {
                self.config = *config;
                if self.phase == Phase::NeedReboot && self.lock == LockState::Rest {
                    self.plan_reboot(now);
                }
                Vec::new()
            }
            Event::Advised(advice) => {
                let reason = || advice.reason.clone().unwrap_or_else(|| "the server says so".to_owned());
                self.hold = advice.hold.then(reason);
                Vec::new()
            }
        }
    }

    fn started(&mut self, now: Now, pending: Option<Staged>) -> Vec<Effect> {
        // The table is the truth about what boots next; what is remembered may be older or newer.
        match pending {
            Some(pending) => self.saved.staged = Some(pending),
            None if self.saved.staged.as_ref().is_some_and(|staged| staged.applied) => {
                self.saved.staged = None
            }
            None => {}
        }
        self.rest();
        if self.phase == Phase::NeedReboot {
            self.plan_reboot(now);
        }
        vec![Effect::Save, Effect::Report]
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        if self.reboot_at.is_some_and(|at| now.since_boot >= at) {
            self.reboot_at = None;
            let effects = reboot::due(self, now);
            if !effects.is_empty() {
                return effects;
            }
        }
        if self.retry_at.is_some_and(|at| now.since_boot >= at) && self.running.is_none() {
            self.retry_at = None;
            return match self.candidate.take() {
                Some(release) => self.download(release),
                None => self.check(now),
            };
        }
        if now.since_boot >= self.next_check {
            self.next_check = now.since_boot + fuzzy(CHECK_EVERY, CHECK_FUZZ, now.random);
            let idle = self.running.is_none() && self.retry_at.is_none();
            if idle && !self.saved.paused && self.hold.is_none() && !self.config.servers.is_empty() {
                self.goal = Goal::Apply;
                self.by_hand = false;
                (self.failures, self.mirror_failures) = (0, 0);
                return self.check(now);
            }
        }
        Vec::new()
    }

    fn checked(&mut self, now: Now, result: Result<Option<Box<Release>>, Failure>) -> Vec<Effect> {
        self.running = None;
        let found = match result {
            Ok(found) => found,
            Err(failure) => return self.failed(now, &failure, None),
        };
        self.saved.last_checked = now.unix;
        self.saved.last_error = None;
        (self.failures, self.mirror_failures) = (0, 0);
        let staged = self.saved.staged.clone();
        let Some(release) = found else {
            self.rest();
            return vec![Effect::Save, Effect::Report];
        };
        let same = staged.as_ref().is_some_and(|staged| staged.root_hash == hex(&release.root_hash));
        if same {
            self.rest();
            let apply = self.goal == Goal::Apply && self.phase == Phase::Available && self.may_go_on();
            return if apply { self.begin(Job::Apply, Phase::Finalizing) } else { vec![Effect::Save] };
        }
        if self.goal == Goal::Check || !self.may_go_on() {
            self.rest();
            if self.phase == Phase::Idle {
                self.phase = Phase::Available;
            }
            self.candidate = Some(release);
            return vec![Effect::Save, Effect::Report];
        }
        self.download(release)
    }

    fn may_go_on(&self) -> bool {
        self.by_hand || (!self.saved.paused && self.hold.is_none())
    }

    fn download(&mut self, release: Box<Release>) -> Vec<Effect> {
        // From the first write on nothing else is on the passive slot.
        self.saved.staged = None;
        self.reboot_at = None;
        self.candidate = Some(release.clone());
        self.progress = Progress::default();
        let server = self.server();
        let mut effects = self.begin(Job::Download { release, server }, Phase::Downloading);
        effects.push(Effect::Report);
        effects
    }

    fn downloaded(&mut self, now: Now, result: Result<Staged, Failure>) -> Vec<Effect> {
        self.running = None;
        let staged = match result {
            Ok(staged) => staged,
            Err(failure) => {
                let release = self.candidate.take();
                return self.failed(now, &failure, release);
            }
        };
        let progress = self.progress;
        self.saved.happened(
            now.unix,
            "download",
            Some(&staged.version),
            format!("{} bytes fetched for a slot of {}", progress.fetched, staged.slot_bytes),
        );
        self.saved.staged = Some(staged);
        self.saved.last_error = None;
        self.rest();
        if self.goal == Goal::Apply {
            return self.begin(Job::Apply, Phase::Finalizing);
        }
        vec![Effect::Save, Effect::Report]
    }

    fn applied(&mut self, now: Now, result: Result<Staged, Failure>) -> Vec<Effect> {
        self.running = None;
        match result {
            Ok(staged) => {
                let version = staged.version.clone();
                self.saved.happened(now.unix, "apply", Some(&version), "the next boot tries it");
                self.saved.staged = Some(Staged { applied: true, ..staged });
                self.saved.last_error = None;
                self.rest();
                self.plan_reboot(now);
                vec![
                    Effect::Save,
                    Effect::Report,
                    Effect::Say(format!("{version} is staged: reboot to try it")),
                ]
            }
            Err(failure) => {
                // Whatever was there was not good enough.
                self.saved.staged = None;
                self.give_up(now, &failure)
            }
        }
    }

    /// A job that may be tried again has failed.
    fn failed(&mut self, now: Now, failure: &Failure, release: Option<Box<Release>>) -> Vec<Effect> {
        self.failures += 1;
        match failure.trouble {
            Trouble::Stopped => {
                self.rest();
                return vec![Effect::Save, Effect::Report];
            }
            Trouble::Final => {
                self.candidate = release;
                return self.give_up(now, failure);
            }
            Trouble::Transport => {
                self.mirror_failures += 1;
                if self.mirror_failures >= FAILURES_PER_MIRROR {
                    self.next_mirror();
                }
            }
            Trouble::Mirror => self.next_mirror(),
        }
        if self.failures >= MOST_FAILURES || !self.may_go_on() {
            self.candidate = release;
            return self.give_up(now, failure);
        }
        let pause = RETRY_FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(RETRY_MOST);
        let pause = fuzzy(pause, pause / 2, now.random).max(1);
        self.retry_at = Some(now.since_boot + pause);
        self.note_error(now, failure);
        // A download keeps its state for those who look: it goes on.
        self.phase = if release.is_some() { Phase::Downloading } else { Phase::Checking };
        self.candidate = release;
        vec![Effect::Save, Effect::Say(format!("{}: again in {pause} s", failure.message))]
    }

    fn next_mirror(&mut self) {
        self.mirror_failures = 0;
        self.saved.mirror = (self.server() + 1) % self.config.servers.len().max(1);
    }

    fn note_error(&mut self, now: Now, failure: &Failure) {
        let (kind, message) = (failure.kind.to_owned(), failure.message.clone());
        self.saved.last_error = Some(LastError { kind, message, at: now.unix });
    }

    fn give_up(&mut self, now: Now, failure: &Failure) -> Vec<Effect> {
        let version = self.candidate.as_ref().map(|release| release.version.as_str().to_owned());
        self.note_error(now, failure);
        self.saved.happened(now.unix, "failed", version.as_deref(), failure.message.clone());
        self.retry_at = None;
        self.rest();
        vec![Effect::Save, Effect::Say(failure.message.clone()), Effect::Report]
    }

    /// When the machine reboots by itself, by the strategy and its window.
    fn plan_reboot(&mut self, now: Now) {
        self.plan_reboot_after(now, self.config.reboot_delay);
    }

    pub(super) fn plan_reboot_after(&mut self, now: Now, delay: u64) {
        let by_itself = self.config.strategy != Strategy::Off && !self.config.stopped && !self.saved.paused;
        self.reboot_at = by_itself.then(|| {
            let ready = now.unix.saturating_add(delay);
            let wait = self.config.windows.wait(ready);
            now.since_boot.saturating_add(delay).saturating_add(wait)
        });
    }
}

/// `middle`, give or take `fuzz`.
fn fuzzy(middle: u64, fuzz: u64, random: u64) -> u64 {
    (middle + random % (2 * fuzz + 1)).saturating_sub(fuzz)
}
