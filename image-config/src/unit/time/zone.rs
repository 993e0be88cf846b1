//! Time zones: the files of tzdata (`TZif`, RFC 9636) and what clocks on walls show.

use super::posix::Rule;
use crate::civil::DAY;

/// A time zone: which distance from UTC was, is and will be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone {
    /// Moments (Unix seconds, growing) and which of `kinds` begins there.
    changes: Vec<(i64, u8)>,
    /// The first one holds before all changes.
    kinds: Vec<LocalTime>,
    /// What holds after the last change.
    rule: Option<Rule>,
}

/// A distance from UTC, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime {
    /// Seconds east of Greenwich.
    pub offset: i64,
    /// Whether it is a summer time.
    pub summer: bool,
    /// `CET`, `CEST`, `+0530`.
    pub abbreviation: String,
}

/// Where time zones come from: the edge of a program that reads files.
pub trait TimeZones {
    /// The zone of this machine's clocks.
    fn local(&self) -> TimeZone;

    /// A zone of tzdata by its name (`Europe/Berlin`); `None` when there is none. Names that this is asked for were
    /// checked: no `..`, no slash at an end.
    fn named(&self, name: &str) -> Option<TimeZone>;
}

/// Why bytes are no time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeZoneError {
    /// Another sort of file.
    #[error("not a TZif file")]
    Magic,
    /// Ends too early, or points outside itself.
    #[error("the TZif file is damaged")]
    Damaged,
}

/// What a time on the wall means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Resolved {
    /// One moment.
    Once(i64),
    /// Clocks were put back: the first of two moments. Times on the wall before `until` occur twice.
    Twice { first: i64, until: i64 },
    /// Clocks were put forward over it, to `until`.
    Never { until: i64 },
}

/// Bytes of a header: RFC 9636, section 3.1.
const HEADER: usize = 44;
/// Longest file that is read: the largest of tzdata has about 4 KiB.
const LONGEST: usize = 1 << 20;

impl TimeZone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        let utc = LocalTime { offset: 0, summer: false, abbreviation: "UTC".to_owned() };
        Self { changes: Vec::new(), kinds: vec![utc], rule: None }
    }

    /// Reads a TZif file.
    ///
    /// # Errors
    /// [`TimeZoneError`] when it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, TimeZoneError> {
        if bytes.len() > LONGEST || !bytes.starts_with(b"TZif") {
            return Err(TimeZoneError::Magic);
        }
        let first = Counts::read(bytes).ok_or(TimeZoneError::Damaged)?;
        if bytes.get(4) == Some(&0) {
            return first.zone(bytes.get(HEADER..).unwrap_or_default(), 4).ok_or(TimeZoneError::Damaged);
        }
        // From version 2 on the same follows once more with 64 bits, and then the rule between two newlines.
        let second = bytes.get(HEADER + first.length(4)..).ok_or(TimeZoneError::Damaged)?;
        let counts = Counts::read(second).ok_or(TimeZoneError::Damaged)?;
        let body = second.get(HEADER..).unwrap_or_default();
        let mut zone = counts.zone(body, 8).ok_or(TimeZoneError::Damaged)?;
        let footer = body.get(counts.length(8)..).and_then(|rest| rest.strip_prefix(b"\n"));
        let line = footer.and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        zone.rule = line.and_then(|line| std::str::from_utf8(line).ok()).and_then(Rule::parse);
        Ok(zone)
    }

    /// What is in force at a moment (Unix seconds).
    #[must_use]
    pub fn at(&self, moment: i64) -> &LocalTime {
        let passed = self.changes.partition_point(|(change, _)| *change <= moment);
        if let (true, Some(rule)) = (passed == self.changes.len(), &self.rule) {
            return rule.at(moment);
        }
        let last = passed.checked_sub(1).and_then(|index| self.changes.get(index));
        let kind = last.map_or(0, |(_, kind)| usize::from(*kind));
        // `parse` has made sure that there is a first kind and that all numbers are in range.
        self.kinds.get(kind).or_else(|| self.kinds.first()).unwrap_or(&UTC)
    }

    /// The zone's name of a moment as [`LocalTime`] has it, if it still comes into force every now and then.
    pub(in super::super) fn has_current(&self, abbreviation: &str) -> bool {
        let summer = |rule: &Rule| {
            rule.standard.abbreviation == abbreviation
                || rule.summer.as_ref().is_some_and(|summer| summer.time.abbreviation == abbreviation)
        };
        match &self.rule {
            Some(rule) => summer(rule),
            None => self.at(i64::MAX / 2).abbreviation == abbreviation,
        }
    }

    /// Which moment a time on the wall is, in seconds from 1970-01-01 00:00 of the wall.
    ///
    /// Zones that change twice within two days (there is none) are resolved to one of the possible moments.
    pub(in super::super) fn resolve(&self, wall: i64) -> Resolved {
        // No zone is further from UTC than 26 hours.
        let (before, after) = (wall - 2 * DAY, wall + 2 * DAY);
        let (old, new) = (self.at(before).offset, self.at(after).offset);
        let holds = |offset: i64| self.at(wall - offset).offset == offset;
        match (holds(old), holds(new)) {
            (true, true) if old > new => {
                Resolved::Twice { first: wall - old, until: self.change_between(before, after) + old }
            }
            (true, _) => Resolved::Once(wall - old),
            (false, true) => Resolved::Once(wall - new),
            (false, false) => {
                Resolved::Never { until: (self.change_between(before, after) + new).max(wall + 1) }
            }
        }
    }

    /// The moment at which the offset changes from that of `before`.
    fn change_between(&self, before: i64, after: i64) -> i64 {
        let old = self.at(before).offset;
        let (mut low, mut high) = (before, after);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.at(middle).offset == old { low = middle } else { high = middle }
        }
        high
    }
}

static UTC: LocalTime = LocalTime { offset: 0, summer: false, abbreviation: String::new() };

/// The six counts of a header.
struct Counts {
    is_ut: usize,
    is_standard: usize,
    leap_seconds: usize,
    changes: usize,
    kinds: usize,
    names: usize,
}

impl Counts {
    fn read(bytes: &[u8]) -> Option<Self> {
        let count = |index: usize| {
            let bytes = bytes.get(20 + index * 4..24 + index * 4)?;
            let count = usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()?;
            // More than a file of the greatest length can hold would only lead to sums that overflow.
            (count <= LONGEST).then_some(count)
        };
        let counts = Self {
            is_ut: count(0)?,
            is_standard: count(1)?,
            leap_seconds: count(2)?,
            changes: count(3)?,
            kinds: count(4)?,
            names: count(5)?,
        };
        (bytes.starts_with(b"TZif") && counts.kinds > 0).then_some(counts)
    }

    /// Bytes of the data after the header, with times of so many bytes.
    fn length(&self, time: usize) -> usize {
        self.changes * (time + 1)
            + self.kinds * 6
            + self.names
            + self.leap_seconds * (time + 4)
            + self.is_standard
            + self.is_ut
    }

    fn zone(&self, data: &[u8], time: usize) -> Option<TimeZone> {
        let data = data.get(..self.length(time))?;
        let (times, rest) = data.split_at_checked(self.changes * time)?;
        let (indices, rest) = rest.split_at_checked(self.changes)?;
        let (kinds, rest) = rest.split_at_checked(self.kinds * 6)?;
        let names = rest.get(..self.names)?;
        let kinds: Vec<LocalTime> =
            kinds.chunks_exact(6).map(|kind| local_time(kind, names)).collect::<Option<_>>()?;
        let mut changes = Vec::with_capacity(self.changes);
        for (bytes, index) in times.chunks_exact(time).zip(indices) {
            let moment = match bytes.len() {
                4 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
                _ => i64::from_be_bytes(bytes.try_into().ok()?),
            };
            let in_order = changes.last().is_none_or(|(last, _)| *last < moment);
            if !in_order || usize::from(*index) >= kinds.len() {
                return None;
            }
            changes.push((moment, *index));
        }
        Some(TimeZone { changes, kinds, rule: None })
    }
}

/// Offset, summer time and the place of the name.
fn local_time(kind: &[u8], names: &[u8]) -> Option<LocalTime> {
    let offset = i64::from(i32::from_be_bytes(kind.get(..4)?.try_into().ok()?));
    let name = names.get(usize::from(*kind.get(5)?)..)?.split(|byte| *byte == 0).next()?;
    if offset.abs() >= 26 * 3600 {
        return None;
    }
    Some(LocalTime {
        offset,
        summer: *kind.get(4)? != 0,
        abbreviation: String::from_utf8_lossy(name).into_owned(),
    })
}

/// Whether a text may name a zone of tzdata: systemd's `timezone_is_valid` without the look at the file.
pub(in super::super) fn is_zone_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+/".contains(&byte))
        && !text.ends_with('/')
        && !text.contains("//")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of version 2 without changes of its own, with this rule.
    fn file(rule: &str) -> Vec<u8> {
        let mut header = b"TZif2".to_vec();
        header.resize(20, 0);
        for count in [0u32, 0, 0, 0, 1, 4] {
            header.extend(count.to_be_bytes());
        }
        let data = [&3600i32.to_be_bytes()[..], &[0, 0], b"LMT\0"].concat();
        [&header[..], &data, &header, &data, b"\n", rule.as_bytes(), b"\n"].concat()
    }

    fn berlin() -> TimeZone {
        TimeZone::parse(&file("CET-1CEST,M3.5.0,M10.5.0/3")).unwrap()
    }

    #[test]
    fn the_clocks_of_berlin_go_forward_and_back() {
        let berlin = berlin();
        // 2026-03-29: 02:00 to 03:00 does not exist. 2026-10-25: 02:00 to 03:00 is there twice.
        let march = crate::civil::days_from_civil(2026, 3, 29) * DAY;
        let october = crate::civil::days_from_civil(2026, 10, 25) * DAY;
        assert_eq!(berlin.resolve(march + 7199), Resolved::Once(march + 3599));
        assert_eq!(berlin.resolve(march + 7200), Resolved::Never { until: march + 10_800 });
        assert_eq!(berlin.resolve(march + 10_800), Resolved::Once(march + 3600));
        assert_eq!(berlin.resolve(october + 7199), Resolved::Once(october - 1));
        let twice = Resolved::Twice { first: october + 1800, until: october + 10_800 };
        assert_eq!(berlin.resolve(october + 9000), twice);
        assert_eq!(berlin.resolve(october + 10_800), Resolved::Once(october + 7200));
        assert!(berlin.has_current("CEST") && !berlin.has_current("LMT"));
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let good = file("UTC0");
        assert!(TimeZone::parse(&good).is_ok());
        assert_eq!(TimeZone::parse(b"TZIF"), Err(TimeZoneError::Magic));
        for length in 4..good.len() - 6 {
            assert_eq!(TimeZone::parse(&good[..length]), Err(TimeZoneError::Damaged), "{length}");
        }
    }

    #[test]
    fn names_that_could_leave_the_folder_are_none() {
        assert!(is_zone_name("Europe/Berlin") && is_zone_name("Etc/GMT+5") && is_zone_name("EST5EDT"));
        for bad in ["", "../x", "/etc", "a//b", "a/", "a b", "a.b", "1"] {
            assert!(!is_zone_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            place in 0..200usize,
            byte in any::<u8>(),
            wall in any::<i32>(),
        ) {
            bytes.splice(0..0, *b"TZif2");
            let mut near = file("CET-1CEST,M3.5.0,M10.5.0/3");
            if let Some(target) = near.get_mut(place) {
                *target = byte;
            }
            for bytes in [&bytes, &near] {
                if let Ok(zone) = TimeZone::parse(bytes) {
                    let _ = (zone.at(i64::from(wall)), zone.resolve(i64::from(wall)));
                }
            }
        }

        #[test]
        fn a_moment_is_what_its_time_on_the_wall_resolves_to(moment in 0..4_000_000_000i64) {
            let berlin = berlin();
            let wall = moment + berlin.at(moment).offset;
            match berlin.resolve(wall) {
                Resolved::Once(found) => prop_assert_eq!(found, moment),
                Resolved::Twice { first, until } => {
                    prop_assert!(first == moment || first == moment - 3600);
                    prop_assert!(wall < until && until <= wall + 3600);
                }
                Resolved::Never { .. } => prop_assert!(false, "{moment} exists"),
            }
        }
    }
}
