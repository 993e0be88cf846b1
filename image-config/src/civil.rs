//! Days of the proleptic Gregorian calendar. Years may be of any sign; months count from 1, days from 1.

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date. Months and days outside their ranges are not checked; a day too many leads into
/// the next month.
///
/// Howard Hinnant's `days_from_civil`: years count from March, so that the leap day is the last of its year; 719468 days
/// lie between 0000-03-01 and 1970-01-01.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (month * 153 + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day that lie so many days after 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// How many days a month has.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)
}

/// Day of the week, Monday being 0, of a day counted from 1970-01-01.
pub fn weekday(days: i64) -> i64 {
    // That was a Thursday.
    (days + 3).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_and_weekdays_are_those_of_the_calendar() {
        assert_eq!([2024, 2026, 1900, 2000].map(|year| days_in_month(year, 2)), [29, 28, 28, 29]);
        assert_eq!((days_in_month(2026, 12), days_in_month(2026, 4)), (31, 30));
        assert_eq!(weekday(days_from_civil(2026, 11, 26)), 3);
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(civil_from_days(-1), (1969, 12, 31));
    }

    proptest! {
        #[test]
        fn every_day_round_trips(days in -800_000..4_000_000i64) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            prop_assert!((1..=days_in_month(year, month)).contains(&day));
        }
    }
}
