//! Between the engine and the reboot lock: what to ask of the lock, and what to give back of an earlier boot.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::{LockSettings, Strategy};
use super::drain::{self, Drainer};
use super::machine::Machine;
use super::os::{Facts, is_active};
use super::reboot::{LockNews, LockState};
use super::state::Denied;
use crate::lock::agent::{Goal, Holder, News};
use crate::lock::plan::Record;
use crate::lock::shell::{Identity, Locker, Note};

/// How often is looked whether this boot has proved itself, while a lock waits for that.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a lock of an earlier boot is kept because the cluster does not give this machine units yet.
const UNDRAIN: Duration = Duration::from_secs(120);
/// The unit that is reached when this boot is a good one.
const GOOD: &str = "boot-complete.target";
/// etcd, and what it was called on CoreOS; an alias is answered for by the unit itself.
const ETCD: &str = "etcd.service";

/// What becomes of a lock of an earlier boot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Past {
    /// There is none.
    Nothing,
    /// It is given back once this boot is good.
    Release { note: Note, of_this_boot: bool },
    /// It is kept: this machine must not be followed by others.
    Keep { note: Note, failed: String },
}

/// Judges. `note` says that there may be a lock; `uses_lock` that the strategy takes one, and then there may be one without a note.
fn judge(note: Option<Note>, uses_lock: bool, denied: &[Denied], boot: &str, group: &str) -> Past {
    let Some(note) = note else {
        let note = Note { group: group.to_owned(), ..Note::default() };
        return if uses_lock { Past::Release { note, of_this_boot: false } } else { Past::Nothing };
    };
    if let Some(bad) = denied.iter().find(|denied| denied.root_hash == note.release) {
        let failed = format!("{}: {}", bad.version, bad.reason);
        return Past::Keep { note, failed };
    }
    if note.boot == boot {
        // The engine has started again: what it wanted is forgotten. `locksmithctl reboot` is about to end this boot.
        return if note.by_engine { Past::Release { note, of_this_boot: true } } else { Past::Nothing };
    }
    Past::Release { note, of_this_boot: false }
}

/// The engine's side of the lock.
#[derive(Debug)]
pub struct Coordinator {
    identity: Identity,
    locker: Locker,
    /// What is left to do of an earlier boot, until it was handed over.
    looks_back: bool,
    /// This process has asked for the lock.
    asked: bool,
    kept: Arc<Mutex<Option<String>>>,
    drainer: Drainer,
    /// Since when this boot tries to take units again.
    undrains: Option<Instant>,
    tell: Sender,
}

/// Hears what becomes of the lock.
struct Sender(Arc<Mutex<dyn FnMut(LockNews) + Send>>);

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sender")
    }
}

impl Sender {
    fn send(&self, news: LockNews) {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(news);
    }
}

impl Coordinator {
    /// Starts the lock's thread; nothing is asked of etcd yet.
    pub fn start(facts: &Facts, folder: &Path, tell: impl FnMut(LockNews) + Send + 'static) -> Self {
        let identity = Identity {
            id: facts.machine_id.clone(),
            boot: facts.boot_id.clone(),
            folder: PathBuf::from(folder),
        };
        let tell = Sender(Arc::new(Mutex::new(tell)));
        let kept = Arc::new(Mutex::new(None));
        let (told, keeps) = (Sender(Arc::clone(&tell.0)), Arc::clone(&kept));
        let locker = Locker::start(identity.clone(), move |news| {
            match &news {
                News::Won => told.send(LockNews::Won),
                News::Waits { max, holders } => {
                    let now = super::work::unix_now();
                    told.send(LockNews::Waits(waiting(*max, holders, now)));
                }
                News::Trouble(trouble) => told.send(LockNews::Waits(trouble.clone())),
                News::Released => {
                    *keeps.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                News::Kept => {}
            };
        });
        let told = Sender(Arc::clone(&tell.0));
        let drained = move || told.send(LockNews::Drained);
        let drainer = Drainer::start(identity.folder.clone(), identity.id.clone(), drained);
        Self { identity, locker, looks_back: true, asked: false, kept, drainer, undrains: None, tell }
    }

    /// Has this machine's units moved elsewhere; [`LockNews::Drained`] comes when that is over.
    pub fn drain(&self) {
        self.drainer.drain();
    }

    /// Lets this machine take units again.
    pub fn undrain(&self) {
        self.drainer.undrain();
    }

    /// How long the daemon may sleep, if a lock waits for a proof of this boot.
    pub fn sleep(&self) -> Option<Duration> {
        self.looks_back.then_some(LOOK_EVERY)
    }

    /// Why this machine keeps the lock although it is up.
    pub fn kept(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Once this boot has proved itself: gives back what an earlier one has taken, or says why not. Asks nothing of etcd when there
    /// can be nothing.
    pub fn look_back(&mut self, machine: &Machine, confirmed: bool) {
        let busy = *machine.lock() != LockState::Rest;
        if !self.looks_back || busy || !confirmed || !is_active(GOOD) {
            return;
        }
        // Whoever has the lock next finds a machine that takes units: but the lock does not wait for the scheduler for ever.
        if drain::is_marked(&self.identity.folder) {
            let since = *self.undrains.get_or_insert_with(|| {
                self.drainer.undrain();
                Instant::now()
            });
            if since.elapsed() < UNDRAIN {
                return;
            }
        }
        self.looks_back = false;
        let config = machine.config();
        let note = Note::load(&self.identity.folder);
        let had_note = note.is_some();
        let uses_lock = self.uses_lock(machine);
        let past = judge(note, uses_lock, &machine.saved().denied, &self.identity.boot, &config.lock.group);
        let of = |note: &Note| LockSettings { group: note.group.clone(), ..config.lock.clone() };
        match past {
            Past::Nothing => {}
            Past::Release { note, of_this_boot } => {
                self.locker.want(&of(&note), Goal::Release { of_this_boot }, had_note);
            }
            Past::Keep { note, failed } => {
                let said = format!(
                    "this machine keeps the reboot lock, so that no other one follows it: {failed}. The next release that boots \
                     here releases it, or `locksmithctl unlock`"
                );
                eprintln!("{said}");
                *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
                let record = Record {
                    since: super::work::unix_now(),
                    boot: self.identity.boot.clone(),
                    why: "a failed update".to_owned(),
                    failed: Some(failed),
                };
                self.locker.want(&of(&note), Goal::Keep(record), had_note);
            }
        }
    }

    /// Whether the strategy takes the lock on this machine.
    fn uses_lock(&self, machine: &Machine) -> bool {
        let config = machine.config();
        match config.strategy {
            Strategy::EtcdLock => true,
            // As locksmith had it: where an etcd runs. Somebody who names an etcd elsewhere means it, too.
            Strategy::BestEffort => !config.lock.endpoints.is_empty() || is_active(ETCD),
            Strategy::Reboot | Strategy::Off => false,
        }
    }

    /// Asks for the lock.
    pub fn take(&mut self, machine: &Machine, now: u64) {
        if !self.uses_lock(machine) {
            self.tell.send(LockNews::NotNeeded);
            return;
        }
        let config = machine.config();
        let staged = machine.saved().staged.as_ref();
        let record = Record {
            since: now,
            boot: self.identity.boot.clone(),
            why: format!("update {}", staged.map_or("?", |staged| &staged.version)),
            failed: None,
        };
        let note = Note {
            group: config.lock.group.clone(),
            boot: self.identity.boot.clone(),
            release: staged.map(|staged| staged.root_hash.clone()).unwrap_or_default(),
            by_engine: true,
        };
        self.asked = true;
        self.locker.take(&config.lock, Goal::Take(record), note);
    }

    /// Gives the lock back, or gives up getting it.
    pub fn leave(&self, machine: &Machine) {
        if !self.asked {
            return;
        }
        self.locker.want(&machine.config().lock, Goal::Release { of_this_boot: true }, false);
    }
}

/// Who has it, for people.
fn waiting(max: i64, holders: &[Holder], now: u64) -> String {
    let each = holders.iter().map(|holder| match &holder.record {
        Some(record) => {
            let failed = record.failed.as_ref().map(|why| format!(", FAILED: {why}")).unwrap_or_default();
            format!("{} for {} ({}{failed})", holder.id, age(now.saturating_sub(record.since)), record.why)
        }
        None => holder.id.clone(),
    });
    let each: Vec<String> = each.collect();
    let who = if each.is_empty() {
        "nobody may have it".to_owned()
    } else {
        format!("held by {}", each.join(", "))
    };
    format!("waiting for the reboot lock (at most {max}): {who}")
}

/// Seconds for people: the two largest units.
#[must_use]
pub fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}min"),
        (0, hours, minutes) => format!("{hours}h {minutes}min"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_an_earlier_boot_is_given_back_unless_its_release_failed() {
        let note = |boot: &str, release: &str, by_engine| Note {
            group: "g".to_owned(),
            boot: boot.to_owned(),
            release: release.to_owned(),
            by_engine,
        };
        let bad = Denied {
            version: "1.2.0".to_owned(),
            root_hash: "bad".to_owned(),
            reason: "sick".to_owned(),
            at: 1,
        };
        let judge = |note, uses_lock| judge(note, uses_lock, std::slice::from_ref(&bad), "now", "mine");
        assert_eq!(judge(None, false), Past::Nothing);
        let unknown = Note { group: "mine".to_owned(), ..Note::default() };
        assert_eq!(judge(None, true), Past::Release { note: unknown, of_this_boot: false });
        for uses_lock in [false, true] {
            let good = note("before", "fine", true);
            assert_eq!(
                judge(Some(good.clone()), uses_lock),
                Past::Release { note: good, of_this_boot: false }
            );
            let failed = note("before", "bad", true);
            let why = "1.2.0: sick".to_owned();
            assert_eq!(judge(Some(failed.clone()), uses_lock), Past::Keep { note: failed, failed: why });
            let restarted = note("now", "fine", true);
            let own = Past::Release { note: restarted.clone(), of_this_boot: true };
            assert_eq!(judge(Some(restarted), uses_lock), own);
            assert_eq!(judge(Some(note("now", "", false)), uses_lock), Past::Nothing);
        }
    }

    #[test]
    fn those_who_wait_are_told_for_whom_and_since_when() {
        let record = Record { since: 1000, why: "update 1.1.0".to_owned(), ..Record::default() };
        let holders = [
            Holder { id: "abc".to_owned(), record: Some(record) },
            Holder { id: "def".to_owned(), record: None },
        ];
        assert_eq!(
            waiting(2, &holders, 1000 + 11_520),
            "waiting for the reboot lock (at most 2): held by abc for 3h 12min (update 1.1.0), def"
        );
        assert_eq!(
            (age(59), age(61), age(200_000)),
            ("59s".to_owned(), "1min".to_owned(), "2d 7h".to_owned())
        );
    }
}
