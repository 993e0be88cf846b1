//! When a timer elapses next: systemd.timer(5).

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image_config::unit::time::{TimeZones, Timestamp};
use image_config::unit::{Timer, TimerBase, TimerTrigger, UnitKind};
use rustix::event::Timespec;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::shell::{Shell, now};
use super::translate::micros;
use crate::supervisor::{Event, Level, Monotonic, SubState, Times, UnitId};

/// Where `Persistent=` timers remember when they last elapsed.
const STAMPS: &str = "var/lib/systemd/timers";

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: Monotonic,
    /// `CLOCK_REALTIME`.
    pub realtime: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        Moment { monotonic: now(), realtime: timestamp(SystemTime::now()) }
    }

    /// What the wall clock showed, or will show, at a point of the other one.
    pub fn wall(self, point: Monotonic) -> Timestamp {
        let distance = i128::from(point.0) - i128::from(self.monotonic.0);
        let shown = i128::from(self.realtime.0).saturating_add(distance);
        Timestamp(i64::try_from(shown).unwrap_or(i64::MAX))
    }

    /// The reverse; the past is now.
    fn point(self, wall: Timestamp) -> Monotonic {
        let distance = i128::from(wall.0).saturating_sub(i128::from(self.realtime.0));
        self.monotonic.after(Monotonic(u64::try_from(distance.max(0)).unwrap_or(u64::MAX)))
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A descriptor that becomes ready when somebody sets the clock: a timer that never elapses, of the kind that is cancelled
/// then (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).
///
/// # Errors
/// The kernel's.
pub fn clock_watch() -> io::Result<OwnedFd> {
    let clock = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    arm_clock_watch(&clock)?;
    Ok(clock)
}

/// Must be done anew each time the clock was set.
///
/// # Errors
/// The kernel's.
pub fn arm_clock_watch(clock: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 };
    let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(clock, flags, &Itimerspec { it_interval: interval, it_value: never })?;
    Ok(())
}

/// What a timer's next time is worked out from.
#[derive(Debug, Clone, Copy)]
pub struct Basis {
    /// Now.
    pub now: Moment,
    /// When the service manager began.
    pub startup: Monotonic,
    /// When the timer was started.
    pub activated: Monotonic,
    /// When it last elapsed in this boot.
    pub last: Option<Monotonic>,
    /// When it last elapsed in an earlier boot.
    pub stamp: Option<Timestamp>,
    /// What its unit did and when.
    pub unit: Times,
}

/// The next time, and whether one of the timer's lines counts from what its unit does, so that it may elapse again even
/// though it will not by itself.
pub fn next_elapse(timer: &Timer, basis: Basis, zones: &dyn TimeZones) -> (Option<Monotonic>, bool) {
    let mut next: Option<Monotonic> = None;
    let mut may_return = false;
    for trigger in &timer.triggers {
        let point = match trigger {
            TimerTrigger::Calendar(calendar) => {
                let last = basis.last.map(|last| basis.now.wall(last)).or(basis.stamp);
                let after = last.unwrap_or_else(|| basis.now.wall(basis.activated));
                // A zone that is not there was warned about when the file was read.
                calendar.next_elapse(after, zones).ok().flatten().map(|wall| basis.now.point(wall))
            }
            TimerTrigger::Monotonic { base, span } => {
                let unit = |when: Option<Monotonic>| when.max(basis.last);
                let from = match base {
                    TimerBase::Active => Some(basis.activated),
                    TimerBase::Boot => Some(Monotonic(0)),
                    TimerBase::Startup => Some(basis.startup),
                    TimerBase::UnitActive => unit(basis.unit.inactive_exit),
                    TimerBase::UnitInactive => unit(basis.unit.inactive_enter),
                };
                let once = matches!(base, TimerBase::Active | TimerBase::Boot | TimerBase::Startup);
                may_return |= !once;
                let point = from.map(|from| from.after(micros(*span)));
                // What counts from a point that does not come again elapses once.
                point.filter(|point| {
                    !(once && basis.last.is_some_and(|last| *point <= last.max(basis.now.monotonic)))
                })
            }
        };
        next = [next, point].into_iter().flatten().min();
    }
    (next, may_return)
}

/// A number from 0 to 2^64 that is the same for the same text on the same machine: FNV-1a, mixed.
fn fixed_chance(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn chance() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Too early for random numbers: any point will do.
        _ => now().0.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// A part of a span.
fn part(span: Duration, chance: u64) -> Monotonic {
    let whole = u128::from(micros(span).0);
    Monotonic(u64::try_from(whole.saturating_mul(u128::from(chance)) >> 64).unwrap_or(0))
}

impl Shell {
    fn timer_file(&self, unit: UnitId) -> Option<&Timer> {
        match &self.units.get(&unit)?.kind {
            UnitKind::Timer(timer) => Some(timer),
            _ => None,
        }
    }

    /// Works out when a timer elapses next, and tells the supervisor.
    pub(super) fn arm_timer(&mut self, unit: UnitId) {
        let Some(found) = self.sup.unit(unit) else { return };
        let Some(timer) = self.timer_file(unit) else {
            return self.events.push_back(Event::TimerArmed { unit, next: None, may_return: false });
        };
        let now = Moment::now();
        let activated = found.times.inactive_exit.unwrap_or(now.monotonic);
        let mut basis = Basis {
            now,
            startup: self.started,
            activated,
            last: found.last_trigger,
            stamp: None,
            unit: found
                .triggered()
                .and_then(|unit| self.sup.unit(unit))
                .map(|unit| unit.times)
                .unwrap_or_default(),
        };
        let mut problem = None;
        if timer.persistent && basis.last.is_none() {
            match read_stamp(&self.stamp_path(&found.spec.name), now.realtime) {
                Ok(stamp) => basis.stamp = Some(stamp),
                Err(error) => problem = Some(format!("its last time cannot be remembered: {error}")),
            }
        }
        let (next, may_return) = next_elapse(timer, basis, &self.zones);
        let delay = if timer.randomized_delay.is_zero() {
            Monotonic(0)
        } else if timer.fixed_random_delay {
            let seed = format!("{}{}", self.loader.machine_id(), found.spec.name);
            part(timer.randomized_delay, fixed_chance(&seed))
        } else {
            part(timer.randomized_delay, chance())
        };
        let may_return = may_return || timer.on_clock_change || timer.on_timezone_change;
        let next = next.map(|next| next.after(delay));
        if let Some(problem) = problem {
            self.log_unit(Some(unit), Level::Warning, &problem);
        }
        self.events.push_back(Event::TimerArmed { unit, next, may_return });
    }

    fn stamp_path(&self, name: &str) -> PathBuf {
        self.root.join(STAMPS).join(format!("stamp-{name}"))
    }

    /// A timer has elapsed: remembers it, if it is to be remembered.
    pub(super) fn note_timer(&mut self, unit: UnitId) {
        if !self.timer_file(unit).is_some_and(|timer| timer.persistent) {
            return;
        }
        let path = self.stamp_path(self.sup.name(unit));
        if let Err(error) = touch(&path) {
            let text = format!("cannot write {}: {error}", path.display());
            self.log_unit(Some(unit), Level::Warning, &text);
        }
    }

    /// Somebody has set the clock.
    pub(super) fn clock_was_set(&mut self) {
        self.time_has_moved(|timer| timer.on_clock_change);
    }

    /// Something has happened in the folder of `/etc/localtime`.
    pub(super) fn zone_ready(&mut self) {
        if self.zone_watch.as_ref().is_some_and(zone_has_changed) {
            self.time_has_moved(|timer| timer.on_timezone_change);
        }
    }

    /// All timers count anew; those of `which` elapse at once.
    fn time_has_moved(&mut self, which: fn(&Timer) -> bool) {
        self.events.push_back(Event::ClockChanged);
        let elapses: Vec<UnitId> = self
            .sup
            .ids()
            .filter(|unit| self.timer_file(*unit).is_some_and(which))
            .filter(|unit| {
                self.sup
                    .unit(*unit)
                    .is_some_and(|unit| matches!(unit.sub, SubState::Waiting | SubState::Elapsed))
            })
            .collect();
        self.carry_out(Vec::new());
        let next = Some(now());
        self.events.extend(elapses.into_iter().map(|unit| Event::TimerArmed {
            unit,
            next,
            may_return: true,
        }));
    }
}

/// Watches the folder of `/etc/localtime`, localtime(5): the link itself is put in place anew, not changed.
///
/// # Errors
/// The kernel's.
pub fn zone_watch(root: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, root.join("etc"), flags)?;
    Ok(watch)
}

/// Takes in what happened; whether it was the time zone's.
fn zone_has_changed(watch: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut changed = false;
    while let Ok(event) = reader.next() {
        changed |= event.file_name().is_some_and(|name| name.to_bytes() == b"localtime");
    }
    changed
}

/// When the timer last elapsed; a timer that never did counts from now on.
fn read_stamp(path: &Path, now: Timestamp) -> io::Result<Timestamp> {
    match fs::metadata(path).and_then(|data| data.modified()) {
        // A stamp of the future is of a time when the clock was wrong.
        Ok(time) => Ok(timestamp(time).min(now)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            touch(path)?;
            Ok(now)
        }
        Err(error) => Err(error),
    }
}

fn touch(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use image_config::unit::{System, Unit, UnitName};

    use super::*;
    use crate::pid1::zones::ZoneFiles;

    fn timer(text: &str) -> Timer {
        let text = format!("[Timer]\n{text}\n");
        let name = UnitName::parse("a.timer").unwrap();
        let (unit, warnings) = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        assert!(warnings.is_empty(), "{warnings:?}");
        match unit.kind {
            UnitKind::Timer(timer) => *timer,
            _ => panic!("no timer"),
        }
    }

    /// 1000 s after the boot, at 2026-01-01 00:00:00 UTC.
    fn basis() -> Basis {
        Basis {
            now: Moment { monotonic: Monotonic::seconds(1000), realtime: Timestamp(1_767_225_600_000_000) },
            startup: Monotonic::seconds(10),
            activated: Monotonic::seconds(900),
            last: None,
            stamp: None,
            unit: Times::default(),
        }
    }

    fn next(text: &str, basis: Basis) -> (Option<u64>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let zones = ZoneFiles { root: folder.path().to_owned() };
        let (next, may_return) = next_elapse(&timer(text), basis, &zones);
        (next.map(|next| next.0 / 1_000_000), may_return)
    }

    #[test]
    fn each_base_counts_from_its_own_point_and_the_first_wins() {
        let unit = Times {
            inactive_exit: Some(Monotonic::seconds(950)),
            inactive_enter: Some(Monotonic::seconds(970)),
            ..Times::default()
        };
        let ran = Basis { unit, last: Some(Monotonic::seconds(940)), ..basis() };
        assert_eq!(next("OnActiveSec=200", basis()), (Some(1100), false));
        assert_eq!(next("OnBootSec=1500", basis()), (Some(1500), false));
        assert_eq!(next("OnStartupSec=1500", basis()), (Some(1510), false));
        assert_eq!(next("OnBootSec=1500\nOnStartupSec=1200", basis()), (Some(1210), false));
        assert_eq!(next("OnUnitActiveSec=60", basis()), (None, true));
        assert_eq!(next("OnUnitActiveSec=60", ran), (Some(1010), true));
        assert_eq!(next("OnUnitInactiveSec=60", ran), (Some(1030), true));
        // The boot is over for good, but for a timer that was not there to see it.
        assert_eq!(next("OnBootSec=500", basis()), (Some(500), false));
        assert_eq!(next("OnBootSec=500", ran), (None, false));
    }

    #[test]
    fn a_calendar_goes_on_from_the_last_time_and_catches_up_once() {
        assert_eq!(next("OnCalendar=*-*-* 00:01:00 UTC", basis()), (Some(1060), false));
        let yesterday = Timestamp(basis().now.realtime.0 - 86_400_000_000);
        let missed = Basis { stamp: Some(Timestamp(yesterday.0 - 3_600_000_000)), ..basis() };
        // Midnight of yesterday was missed: it is made up for at once.
        assert_eq!(next("OnCalendar=daily\nPersistent=yes", missed), (Some(1000), false));
        let done = Basis { last: Some(Monotonic::seconds(1000)), ..missed };
        assert_eq!(next("OnCalendar=daily\nPersistent=yes", done), (Some(87_400), false));
    }

    #[test]
    fn a_random_part_is_within_its_span_and_a_fixed_one_is_always_the_same() {
        let hour = Duration::from_secs(3600);
        assert_eq!(part(hour, 0), Monotonic(0));
        assert!(part(hour, u64::MAX) < micros(hour));
        assert_eq!(fixed_chance("a"), fixed_chance("a"));
        assert_ne!(part(hour, fixed_chance("machine-a.timer")), part(hour, fixed_chance("machine-b.timer")));
    }

    #[test]
    fn stamps_are_made_and_the_future_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/stamp-a.timer");
        let first = read_stamp(&path, Timestamp(5)).unwrap();
        assert_eq!(first, Timestamp(5));
        assert_eq!(read_stamp(&path, Timestamp(7)).unwrap(), Timestamp(7));
        assert!(read_stamp(&path, Timestamp(i64::MAX)).unwrap() > Timestamp(1_767_225_600_000_000));
    }
}
