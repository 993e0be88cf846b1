//! `[Timer]`: systemd.timer(5).

use std::time::Duration;

use super::calendar::Calendar;
use super::name::{UnitName, UnitType};
use super::reader::{Directive, Ignored, Section};
use super::setting::Setting;
use super::value::{self, TimeSpan, boolean};

/// Settings of the `[Timer]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// `OnActiveSec=` and its kin, in order; the unit is started whenever one of them elapses.
    pub triggers: Vec<TimerTrigger>,
    /// `OnClockChange=`: when the clock jumps.
    pub on_clock_change: bool,
    /// `OnTimezoneChange=`: when `/etc/localtime` changes.
    pub on_timezone_change: bool,
    /// `Unit=`; see [`Timer::unit`].
    pub written_unit: Option<UnitName>,
    /// `AccuracySec=`: 1 min unless written.
    pub accuracy: Duration,
    /// `RandomizedDelaySec=`: at most this long after the time comes a random delay; 0 unless written.
    pub randomized_delay: Duration,
    /// `FixedRandomDelay=`: the delay is always the same.
    pub fixed_random_delay: bool,
    /// `Persistent=`: what was missed while the timer did not run is made up for.
    pub persistent: bool,
    /// `WakeSystem=`.
    pub wake_system: bool,
    /// `RemainAfterElapse=`: yes unless written.
    pub remain_after_elapse: bool,
    /// `DeferReactivation=`: the next time is counted from the end of the unit's run.
    pub defer_reactivation: bool,
}

/// When a timer elapses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerTrigger {
    /// So long after a starting point.
    Monotonic {
        /// Counted from here.
        base: TimerBase,
        /// So long.
        span: Duration,
    },
    /// `OnCalendar=`.
    Calendar(Box<Calendar>),
}

/// What a monotonic timer counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerBase {
    /// `OnActiveSec=`: start of the timer.
    Active,
    /// `OnBootSec=`: boot of the machine.
    Boot,
    /// `OnStartupSec=`: start of the service manager.
    Startup,
    /// `OnUnitActiveSec=`: last start of the unit.
    UnitActive,
    /// `OnUnitInactiveSec=`: last end of the unit.
    UnitInactive,
}

impl TimerBase {
    /// The key in the unit file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Active => "OnActiveSec",
            Self::Boot => "OnBootSec",
            Self::Startup => "OnStartupSec",
            Self::UnitActive => "OnUnitActiveSec",
            Self::UnitInactive => "OnUnitInactiveSec",
        }
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            triggers: Vec::new(),
            on_clock_change: false,
            on_timezone_change: false,
            written_unit: None,
            accuracy: Duration::from_secs(60),
            randomized_delay: Duration::ZERO,
            fixed_random_delay: false,
            persistent: false,
            wake_system: false,
            remain_after_elapse: true,
            defer_reactivation: false,
        }
    }
}

impl Timer {
    /// The unit that is started: as written, else the service of the timer's name. `None` when that would be too long.
    #[must_use]
    pub fn unit(&self, own: &UnitName) -> Option<UnitName> {
        self.written_unit.clone().or_else(|| own.with_kind(UnitType::Service).ok())
    }
}

impl Section for Timer {
    const OWN: &'static [Directive<Self>] = &[
        ("OnActiveSec", |timer, it| it.monotonic(&mut timer.triggers, TimerBase::Active)),
        ("OnBootSec", |timer, it| it.monotonic(&mut timer.triggers, TimerBase::Boot)),
        ("OnStartupSec", |timer, it| it.monotonic(&mut timer.triggers, TimerBase::Startup)),
        ("OnUnitActiveSec", |timer, it| it.monotonic(&mut timer.triggers, TimerBase::UnitActive)),
        ("OnUnitInactiveSec", |timer, it| it.monotonic(&mut timer.triggers, TimerBase::UnitInactive)),
        ("OnCalendar", |timer, it| it.calendar(&mut timer.triggers)),
        ("OnClockChange", |timer, it| it.plain(&mut timer.on_clock_change, boolean)),
        ("OnTimezoneChange", |timer, it| it.plain(&mut timer.on_timezone_change, boolean)),
        ("Unit", |timer, it| it.triggered_unit(&mut timer.written_unit)),
        ("AccuracySec", |timer, it| it.plain(&mut timer.accuracy, long)),
        ("RandomizedDelaySec", |timer, it| it.plain(&mut timer.randomized_delay, long)),
        ("FixedRandomDelay", |timer, it| it.plain(&mut timer.fixed_random_delay, boolean)),
        ("Persistent", |timer, it| it.plain(&mut timer.persistent, boolean)),
        ("WakeSystem", |timer, it| it.plain(&mut timer.wake_system, boolean)),
        ("RemainAfterElapse", |timer, it| it.plain(&mut timer.remain_after_elapse, boolean)),
        ("DeferReactivation", |timer, it| it.plain(&mut timer.defer_reactivation, boolean)),
    ];

    /// systemd's `timer_verify`.
    fn problem(&self, _own: &UnitName) -> Option<&'static str> {
        let never = self.triggers.is_empty() && !self.on_clock_change && !self.on_timezone_change;
        never.then_some("the timer never elapses: it has no OnCalendar=, OnBootSec= or the like")
    }
}

/// A span, of which one without end is the longest there is (584,554 years).
fn long(text: &str) -> Result<Duration, value::ValueError> {
    value::time_span(text).map(|span| span.finite().unwrap_or(Duration::from_micros(u64::MAX)))
}

impl Setting<'_> {
    /// `OnActiveSec=` and its kin; empty resets all triggers.
    fn monotonic(&self, slot: &mut Vec<TimerTrigger>, base: TimerBase) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        match value::time_span(&self.expand(self.value)?).map_err(|error| self.ignored(&error))? {
            TimeSpan::Finite(span) => slot.push(TimerTrigger::Monotonic { base, span }),
            TimeSpan::Infinity => return Err(self.ignored(&"a timer without end never elapses")),
        }
        Ok(())
    }

    /// `OnCalendar=`; empty resets all triggers.
    fn calendar(&self, slot: &mut Vec<TimerTrigger>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let calendar = Calendar::parse(&self.expand(self.value)?).map_err(|error| self.ignored(&error))?;
        slot.push(TimerTrigger::Calendar(Box::new(calendar)));
        Ok(())
    }
}
