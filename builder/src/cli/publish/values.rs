//! Values of the options of `publish`.

use std::str::FromStr;

use anyhow::Result;
use clap::Args as ClapArgs;
use update_engine::channel::metadata::{Date, Role};
use update_engine::channel::{ChannelName, Rollout, StateFormat, Version};

use super::moment;

/// `2d`, `12h`, `90m`, `45s`: seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time such as 7d, 12h, 30m or 45s");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        'd' => 86_400,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A version of a release.
pub fn version(text: &str) -> Result<Version, String> {
    Version::parse(text).map_err(|error| error.to_string())
}

/// Name of a channel.
pub fn channel(text: &str) -> Result<ChannelName, String> {
    let rule = "lower-case letters, digits, `.`, `_` and `-`, at most 32, such as alpha, beta or stable";
    ChannelName::parse(text).ok_or_else(|| format!("{text:?} is no name of a channel: {rule}"))
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| format!("{text:?} is no role: root, targets, snapshot or timestamp"))
}

/// `timestamp=2d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// Whose.
    pub role: Role,
    /// How long.
    pub seconds: u64,
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, time) = text.split_once('=').ok_or("not ROLE=TIME, such as timestamp=2d")?;
        let seconds = seconds(time)?;
        if seconds == 0 {
            Err("it would expire at once".to_owned())
        } else {
            Ok(Self { role: role(name)?, seconds })
        }
    }
}

/// `root=ann,bob,eve:2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// Whose keys.
    pub role: Role,
    /// Their names, or public keys as hexadecimal digits.
    pub keys: Vec<String>,
    /// How many must sign.
    pub threshold: u32,
}

impl FromStr for RoleSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("not ROLE=KEY,...[:N], such as root=ann,bob:2")?;
        let (keys, threshold) = match rest.rsplit_once(':') {
            Some((keys, number)) => {
                (keys, number.parse().map_err(|_| format!("{number:?} is no number of keys"))?)
            }
            None => (rest, 1),
        };
        let keys: Vec<String> = keys.split(',').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err("a key has no name".to_owned());
        }
        let most = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        if !(1..=most).contains(&threshold) {
            return Err(format!("{threshold} of {most} keys cannot sign"));
        }
        Ok(Self { role: role(name)?, keys, threshold })
    }
}

/// `etcd=3.5` or `etcd=3.5:3.4,3.5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// What kind of state.
    pub kind: String,
    /// Its formats.
    pub format: StateFormat,
}

impl FromStr for StateSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "not KIND=WRITES[:READS,...], such as etcd=3.5:3.4,3.5";
        let (kind, rest) = text.split_once('=').ok_or(wrong)?;
        let (writes, reads) = rest.split_once(':').unwrap_or((rest, rest));
        let reads: std::collections::BTreeSet<String> = reads.split(',').map(str::to_owned).collect();
        if kind.is_empty() || writes.is_empty() || reads.contains("") {
            return Err(wrong.to_owned());
        }
        Ok(Self { kind: kind.to_owned(), format: StateFormat { reads, writes: writes.to_owned() } })
    }
}

/// How a release spreads.
#[derive(Debug, ClapArgs)]
pub struct RolloutArgs {
    /// Machines of a hundred that get it in the end [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub percentage: Option<u8>,
    /// When it begins, such as 2026-12-01T08:00:00Z or +2h [default: now]
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Over how long it spreads evenly, such as 24h [default: at once]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub over: Option<u64>,
}

impl RolloutArgs {
    /// What it comes to for a release that is new to a channel.
    ///
    /// # Errors
    /// The start is no moment.
    pub fn rollout(&self, now: Date) -> Result<Rollout> {
        Ok(self.change(now)?(Rollout::everybody(now)))
    }

    /// What it changes.
    ///
    /// # Errors
    /// The start is no moment.
    pub fn change(&self, now: Date) -> Result<impl FnOnce(Rollout) -> Rollout + use<>> {
        let start = self.start.as_deref().map(|text| moment(text, now)).transpose()?;
        let (percentage, over) = (self.percentage, self.over);
        Ok(move |rollout: Rollout| Rollout {
            percentage: percentage.unwrap_or(rollout.percentage),
            start: start.unwrap_or(rollout.start),
            duration_seconds: over.unwrap_or(rollout.duration_seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        for (text, want) in [
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("90m", Some(5400)),
            ("d", None),
            ("1w", None),
            ("", None),
            ("1.5h", None),
            ("1é", None),
        ] {
            assert_eq!(seconds(text).ok(), want, "{text}");
        }
        let spec: RoleSpec = "root=ann,bob:2".parse().unwrap();
        assert_eq!((spec.role, spec.keys.len(), spec.threshold), (Role::Root, 2, 2));
        for text in ["root", "root=", "root=a:2", "root=a:0", "boot=a", "root=a,,b"] {
            assert!(text.parse::<RoleSpec>().is_err(), "{text}");
        }
        assert_eq!(
            "timestamp=2d".parse::<Lifetime>().unwrap(),
            Lifetime { role: Role::Timestamp, seconds: 172_800 }
        );
        assert!("timestamp=0d".parse::<Lifetime>().is_err());
        let spec: StateSpec = "etcd=3.5:3.4,3.5".parse().unwrap();
        assert_eq!((spec.format.writes.as_str(), spec.format.reads.len()), ("3.5", 2));
        assert!("journal=1".parse::<StateSpec>().unwrap().format.reads.contains("1"));
        for text in ["etcd", "=1", "a=", "a=1:"] {
            assert!(text.parse::<StateSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rollout_begins_now_for_everybody_unless_it_is_said_otherwise() {
        let now = Date::from_unix(1_800_000_000).unwrap();
        let args = |percentage, start: Option<&str>, over| RolloutArgs {
            percentage,
            start: start.map(str::to_owned),
            over,
        };
        assert_eq!(args(None, None, None).rollout(now).unwrap(), Rollout::everybody(now));
        let later = args(Some(5), Some("+2h"), Some(60)).rollout(now).unwrap();
        assert_eq!(
            (later.percentage, later.start.unix() - now.unix(), later.duration_seconds),
            (5, 7200, 60)
        );
        let before = Rollout { percentage: 5, start: now, duration_seconds: 60 };
        assert_eq!(
            args(Some(50), None, None).change(now).unwrap()(before),
            Rollout { percentage: 50, ..before }
        );
        assert!(args(None, Some("tomorrow"), None).rollout(now).is_err());
    }
}
