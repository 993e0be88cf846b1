//! When a machine with a staged update reboots: strategy, window, and the cluster's lock. No I/O.
//!
//! With the strategies `etcd-lock` and `best-effort` the way is longer: when its time has come the machine asks for the lock, and
//! when it has it, looks at everything once more, the window too, for getting the lock may take hours. Then the cluster's scheduler moves
//! the machine's units elsewhere. That takes time as well: only a machine that still has the lock then, by what etcd says, reboots.

use super::config::Strategy;
use super::machine::{Effect, Machine, Now, Phase};

/// Seconds until a reboot that something stands in the way of is tried again.
pub const REBOOT_BUSY: u64 = 30;

/// News of the reboot lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockNews {
    /// This machine holds it.
    Won,
    /// None is needed: the strategy is `best-effort`, and no etcd runs here.
    NotNeeded,
    /// The machine's units are elsewhere, as far as others take them.
    Drained,
    /// It is not there yet: others have it, or there is trouble.
    Waits(String),
}

/// How a machine stands with the lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LockState {
    /// It wants nothing.
    #[default]
    Rest,
    /// It has asked; why it has not got it, if that is known.
    Asked(Option<String>),
    /// It has it, and its units are on their way to other machines.
    Drains,
    /// They are there, and it makes sure that it still has it.
    Confirms,
}

impl LockState {
    /// What it waits for, for people.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        match self {
            Self::Rest => None,
            Self::Asked(why) => Some(why.clone().unwrap_or_else(|| "asking for the reboot lock".to_owned())),
            Self::Drains => Some("moving units to other machines".to_owned()),
            Self::Confirms => Some("asking for the reboot lock once more".to_owned()),
        }
    }
}

/// Whether the next boot tries a release. Unlike the phase it does not change while the channel is checked.
fn is_staged(machine: &Machine) -> bool {
    machine.saved().staged.as_ref().is_some_and(|staged| staged.applied)
}

/// What makes a reboot of its own accord possible now, as far as the lock and a running job have no part in it.
fn is_time(machine: &Machine, now: Now) -> bool {
    let config = machine.config();
    is_staged(machine)
        && !machine.saved().paused
        && machine.hold().is_none()
        && !config.stopped
        && config.windows.wait(now.unix) == 0
}

/// Whether the engine is in the middle of something: a check of the channel, or the pause before it is tried again.
fn is_busy(machine: &Machine) -> bool {
    machine.phase() != Phase::NeedReboot
}

/// The reboot's time has come.
pub fn due(machine: &mut Machine, now: Now) -> Vec<Effect> {
    if !is_staged(machine) || machine.saved().paused {
        return Vec::new();
    }
    if is_busy(machine) || !is_time(machine, now) {
        // Later, and then within a window again.
        machine.plan_reboot_after(now, REBOOT_BUSY);
        return Vec::new();
    }
    match machine.config().strategy {
        Strategy::Reboot => reboot(),
        Strategy::Off => Vec::new(),
        // On its way already, however often its time comes.
        Strategy::EtcdLock | Strategy::BestEffort if *machine.lock() != LockState::Rest => Vec::new(),
        Strategy::EtcdLock | Strategy::BestEffort => {
            *machine.lock_mut() = LockState::Asked(None);
            vec![Effect::Say("asking for the reboot lock".to_owned()), Effect::TakeLock]
        }
    }
}

/// News of the lock.
pub fn lock_news(machine: &mut Machine, now: Now, news: LockNews) -> Vec<Effect> {
    let goes_on = is_time(machine, now) && !is_busy(machine);
    match (news, machine.lock().clone()) {
        (LockNews::Waits(why), LockState::Asked(before)) => {
            let told = before.as_ref() == Some(&why);
            *machine.lock_mut() = LockState::Asked(Some(why.clone()));
            if told { Vec::new() } else { vec![Effect::Say(why)] }
        }
        (LockNews::Won, LockState::Asked(_)) if goes_on => {
            *machine.lock_mut() = LockState::Drains;
            vec![Effect::Drain]
        }
        (LockNews::Drained, LockState::Drains) if goes_on => {
            *machine.lock_mut() = LockState::Confirms;
            vec![Effect::TakeLock]
        }
        (LockNews::NotNeeded, LockState::Asked(_)) | (LockNews::Won | LockNews::NotNeeded, LockState::Confirms)
            if goes_on =>
        {
            *machine.lock_mut() = LockState::Rest;
            reboot()
        }
        // Too late: the window has closed, or nobody wants the reboot any more.
        (LockNews::Won, LockState::Rest) => vec![Effect::LeaveLock],
        (LockNews::Won | LockNews::NotNeeded, LockState::Asked(_) | LockState::Confirms)
        | (LockNews::Drained, LockState::Drains)
        // Or somebody has taken the lock over, or etcd is away.
        | (LockNews::Waits(_), LockState::Confirms) => leave(machine, now),
        // A drain that was given up is over, or the lock says once more what is known.
        _ => Vec::new(),
    }
}

/// After anything that may have changed the machine's mind: a lock that it has no use for is given back, or asked for no more.
pub fn settle(machine: &mut Machine, now: Now) -> Vec<Effect> {
    let strategy = matches!(machine.config().strategy, Strategy::EtcdLock | Strategy::BestEffort);
    if *machine.lock() == LockState::Rest || (strategy && is_time(machine, now)) {
        return Vec::new();
    }
    leave(machine, now)
}

fn leave(machine: &mut Machine, now: Now) -> Vec<Effect> {
    let drains = matches!(std::mem::take(machine.lock_mut()), LockState::Drains | LockState::Confirms);
    if is_staged(machine) {
        machine.plan_reboot_after(now, REBOOT_BUSY);
    }
    let undrain = drains.then_some(Effect::Undrain);
    undrain.into_iter().chain([Effect::LeaveLock]).collect()
}

fn reboot() -> Vec<Effect> {
    vec![Effect::Say("rebooting into the update".to_owned()), Effect::Reboot]
}
