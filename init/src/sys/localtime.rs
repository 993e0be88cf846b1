//! Local time by the C library, which reads `$TZ` and `/etc/localtime`.
#![allow(unsafe_code, reason = "localtime_r and mktime have no safe form")]

use std::mem::MaybeUninit;

/// A moment on the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    /// Year, as in 2026.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second, 60 in a leap second.
    pub second: u32,
    /// Day of the week, 0 is Sunday.
    pub weekday: u32,
    /// Seconds east of Greenwich.
    pub offset: i64,
    /// Name of the zone, `UTC`.
    pub zone: String,
}

/// A moment (seconds since 1970) on the local calendar, or on that of UTC.
pub fn calendar(seconds: i64, utc: bool) -> Calendar {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both take a live time_t and a live tm, which they fill. An all-zero tm is valid too, when they fail.
    let parts = unsafe {
        if utc {
            libc::gmtime_r(&raw const seconds, parts.as_mut_ptr());
        } else {
            libc::localtime_r(&raw const seconds, parts.as_mut_ptr());
        }
        parts.assume_init()
    };
    let number = |value: libc::c_int| u32::try_from(value).unwrap_or(0);
    let zone = if utc || parts.tm_zone.is_null() {
        "UTC".to_owned()
    } else {
        // SAFETY: the C library's name of a zone, a string that stays for the life of the process.
        unsafe { std::ffi::CStr::from_ptr(parts.tm_zone) }.to_string_lossy().into_owned()
    };
    Calendar {
        year: i64::from(parts.tm_year) + 1900,
        month: number(parts.tm_mon) + 1,
        day: number(parts.tm_mday),
        hour: number(parts.tm_hour),
        minute: number(parts.tm_min),
        second: number(parts.tm_sec),
        weekday: number(parts.tm_wday),
        offset: parts.tm_gmtoff,
        zone,
    }
}

/// The moment (seconds since 1970) of a date and time on the local calendar, or on that of UTC; days and hours beyond the
/// month's and the day's end go on into the next. `None` when it is out of range.
pub fn moment(date: &Calendar, utc: bool) -> Option<i64> {
    let number = |value: u32| libc::c_int::try_from(value).ok();
    // SAFETY: an all-zero tm is a valid value of it.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    parts.tm_year = libc::c_int::try_from(date.year.checked_sub(1900)?).ok()?;
    parts.tm_mon = number(date.month)?.checked_sub(1)?;
    parts.tm_mday = number(date.day)?;
    parts.tm_hour = number(date.hour)?;
    parts.tm_min = number(date.minute)?;
    parts.tm_sec = number(date.second)?;
    parts.tm_isdst = -1;
    // SAFETY: both take a live tm that they may change.
    let seconds = unsafe { if utc { libc::timegm(&raw mut parts) } else { libc::mktime(&raw mut parts) } };
    (seconds != -1).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_dates_are_the_same_in_both_directions() {
        for seconds in [0, 951_782_400, 1_709_251_199, 4_107_542_400, 1_795_225_573] {
            for utc in [true, false] {
                assert_eq!(moment(&calendar(seconds, utc), utc), Some(seconds));
            }
        }
        let date = calendar(951_782_400, true);
        assert_eq!((date.year, date.month, date.day, date.weekday), (2000, 2, 29, 2));
    }
}
