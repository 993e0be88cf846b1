//! Points in time, time zones and what people write for them: systemd.time(7).

mod posix;
mod timestamp;
mod zone;

pub(super) use self::timestamp::WEEKDAYS;
pub use self::timestamp::{Timestamp, TimestampError};
pub use self::zone::{LocalTime, TimeZone, TimeZoneError, TimeZones};
pub(super) use self::zone::{Resolved, is_zone_name};
