//! What the owner of a machine says about updates: `update.conf`, as Container Linux has it.

use std::path::{Path, PathBuf};

use image_config::unit::time::TimeZones;

use super::window::{WindowError, Windows};
use crate::channel::ChannelName;

/// What `locksmithd.service` leaves while it is started: its environment, as far as it is about reboots. Without it the machine does
/// not reboot by itself.
pub const LOCKSMITHD: &str = "/run/ferrite/locksmithd";
/// Files in the order in which they are asked; the first that has a key decides it.
pub const FILES: [&str; 3] = [LOCKSMITHD, "/etc/coreos/update.conf", "/usr/share/coreos/update.conf"];

/// What becomes of a machine that has an update staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// It reboots.
    Reboot,
    /// It waits for somebody to reboot it.
    Off,
    /// It reboots once it holds the cluster's lock.
    EtcdLock,
    /// As `etcd-lock` where etcd runs, else as `reboot`.
    BestEffort,
}

impl Strategy {
    /// The word of `update.conf`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Off => "off",
            Self::EtcdLock => "etcd-lock",
            Self::BestEffort => "best-effort",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Reboot, Self::Off, Self::EtcdLock, Self::BestEffort]
            .into_iter()
            .find(|strategy| strategy.word() == word)
    }
}

/// The settings, checked. What is wrong is left at its default and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The channel (`GROUP`).
    pub channel: ChannelName,
    /// URLs of the channel folder and its mirrors, in order of preference (`SERVER`, separated by spaces or commas), without a
    /// slash at the end. Empty: no updates.
    pub servers: Vec<String>,
    /// `REBOOT_STRATEGY`.
    pub strategy: Strategy,
    /// `LOCKSMITHD_REBOOT_WINDOW_START`, `_LENGTH` and `_TIMEZONE`: reboots at other times wait.
    pub windows: Windows,
    /// `LOCKSMITHD_REBOOT_DELAY`: seconds between the moment when an update is staged and the reboot, time to say no (`pause`).
    pub reboot_delay: u64,
    /// Where the reboot lock is.
    pub lock: LockSettings,
    /// `locksmithd.service` is stopped or masked: no reboots.
    pub stopped: bool,
    /// Lines that mean nothing.
    pub problems: Vec<String>,
}

/// A password: not for logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// Where the reboot lock is and how etcd is reached: the `LOCKSMITHD_` settings of locksmith.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockSettings {
    /// `ENDPOINT`: URLs. Empty: etcd's own ports on this machine.
    pub endpoints: Vec<String>,
    /// `ETCD_CAFILE`
    pub ca: Option<PathBuf>,
    /// `ETCD_CERTFILE`
    pub certificate: Option<PathBuf>,
    /// `ETCD_KEYFILE`
    pub key: Option<PathBuf>,
    /// `ETCD_USERNAME`
    pub user: Option<String>,
    /// `ETCD_PASSWORD`
    pub password: Option<Secret>,
    /// `GROUP`; empty for the group of those that name none.
    pub group: String,
    /// `TAKE_OVER_AFTER`, in seconds: a holder that has not moved for so long is taken for dead. Never, if there is none.
    pub take_over_after: Option<u64>,
}

impl LockSettings {
    /// Reads them; `get` gives the values of the names above.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>, complain: &mut dyn FnMut(String)) -> Self {
        let text = |name: &str| get(name).filter(|value| !value.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from);
        let mut endpoints = Vec::new();
        for word in text("ENDPOINT").unwrap_or_default().split([',', ' ']).filter(|word| !word.is_empty()) {
            let url = if word.contains("://") { word.to_owned() } else { format!("http://{word}") };
            match server(&url).filter(|url| url.matches('/').count() == 2) {
                Some(url) => endpoints.push(url),
                None => complain(format!("ENDPOINT={word} is no http or https URL of an etcd: left out")),
            }
        }
        let take_over_after = text("TAKE_OVER_AFTER").and_then(|value| {
            let seconds = super::window::duration(value).filter(|seconds| *seconds >= LEAST_PATIENCE);
            if seconds.is_none() {
                complain(format!(
                    "TAKE_OVER_AFTER={value} is no duration of at least 15m: nobody is taken over from"
                ));
            }
            seconds
        });
        Self {
            endpoints,
            ca: path("ETCD_CAFILE"),
            certificate: path("ETCD_CERTFILE"),
            key: path("ETCD_KEYFILE"),
            user: text("ETCD_USERNAME").map(str::to_owned),
            password: text("ETCD_PASSWORD").map(|word| Secret(word.to_owned())),
            group: text("GROUP").unwrap_or_default().to_owned(),
            take_over_after,
        }
    }
}

/// Seconds between the moment when an update is staged and the reboot, unless told otherwise.
const REBOOT_DELAY: u64 = 5 * 60;
/// Seconds. A machine that reboots under the lock, falls back and boots once more is up again within this.
const LEAST_PATIENCE: u64 = 15 * 60;

/// One file's keys.
#[derive(Debug, Default)]
struct File {
    name: String,
    keys: Vec<(String, String)>,
}

impl Config {
    /// Reads [`FILES`] below `root`.
    pub fn load(root: &Path, zones: &dyn TimeZones) -> Self {
        let read = |path: &&str| {
            let text = std::fs::read_to_string(root.join(path.trim_start_matches('/'))).ok()?;
            Some(((*path).to_owned(), text))
        };
        let files: Vec<_> = FILES.iter().filter_map(read).collect();
        let stopped = !files.iter().any(|(name, _)| name == LOCKSMITHD);
        Self { stopped, ..Self::from_files(&files, zones) }
    }

    /// Reads files, given as names and texts.
    pub fn from_files(files: &[(String, String)], zones: &dyn TimeZones) -> Self {
        let mut problems = Vec::new();
        let files: Vec<File> =
            files.iter().map(|(name, text)| read_file(name, text, &mut problems)).collect();
        let get = |key: &str| {
            files.iter().find_map(|file| {
                let found = file.keys.iter().rev().find(|(own, _)| own == key)?;
                Some((file.name.as_str(), found.1.as_str()))
            })
        };
        let mut complain = |file: &str, text: String| problems.push(format!("{file}: {text}"));
        let default_channel = || ChannelName::parse("stable");
        let channel = get("GROUP").and_then(|(file, name)| {
            let channel = ChannelName::parse(name);
            if channel.is_none() {
                complain(file, format!("GROUP={name} is no name of a channel: using stable"));
            }
            channel
        });
        let mut servers = Vec::new();
        if let Some((file, list)) = get("SERVER").filter(|(_, list)| *list != "disabled") {
            for url in list.split([' ', ',']).filter(|url| !url.is_empty()) {
                match server(url) {
                    Some(url) => servers.push(url),
                    None => {
                        complain(file, format!("SERVER={url} is no http or https URL of a folder: left out"))
                    }
                }
            }
        }
        let strategy = get("REBOOT_STRATEGY").map_or(Strategy::Reboot, |(file, word)| {
            Strategy::parse(word).unwrap_or_else(|| {
                // Nobody wants a reboot for a slip of the pen.
                complain(
                    file,
                    format!("REBOOT_STRATEGY={word} is none of reboot, off, etcd-lock, best-effort: off"),
                );
                Strategy::Off
            })
        });
        let locksmith = |name: &str| {
            get(&format!("LOCKSMITHD_{name}")).map(|(_, value)| value).filter(|it| !it.is_empty())
        };
        let window = |name: &str| locksmith(name).or_else(|| get(name).map(|(_, value)| value));
        let (windows, window_problem) = windows_of(
            window("REBOOT_WINDOW_START"),
            window("REBOOT_WINDOW_LENGTH"),
            window("REBOOT_WINDOW_TIMEZONE"),
            zones,
        );
        let reboot_delay = locksmith("REBOOT_DELAY").map_or(REBOOT_DELAY, |text| {
            super::window::duration(text).unwrap_or_else(|| {
                complain(
                    "update.conf",
                    format!("LOCKSMITHD_REBOOT_DELAY={text} is no duration such as 5m: 5m"),
                );
                REBOOT_DELAY
            })
        });
        let lock =
            LockSettings::read(locksmith, &mut |text| complain("reboot lock", format!("LOCKSMITHD_{text}")));
        // Without a window that can be understood there is none in which a reboot is allowed.
        let strategy =
            if window_problem.is_some() && strategy != Strategy::Off { Strategy::Off } else { strategy };
        problems.extend(window_problem);
        let Some(channel) = channel.or_else(default_channel) else {
            unreachable!("a constant that is a name")
        };
        Self { channel, servers, strategy, windows, reboot_delay, lock, stopped: false, problems }
    }
}

fn windows_of(
    start: Option<&str>,
    length: Option<&str>,
    zone: Option<&str>,
    zones: &dyn TimeZones,
) -> (Windows, Option<String>) {
    let windows = match (start, length) {
        (None, None) => Ok(Windows::default()),
        (Some(start), Some(length)) => Windows::parse(start, length, zone, zones),
        _ => Err(WindowError::Half),
    };
    match windows {
        Ok(windows) => (windows, None),
        Err(error) => (Windows::default(), Some(problem(&error))),
    }
}

fn problem(error: &WindowError) -> String {
    format!("update.conf: reboot window: {error}: no reboots")
}

fn read_file(name: &str, text: &str, problems: &mut Vec<String>) -> File {
    let mut file = File { name: name.to_owned(), keys: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) => {
                let value = value.trim();
                let quoted =
                    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
                file.keys.push((key.trim().to_owned(), quoted.unwrap_or(value).to_owned()));
            }
            None => problems.push(format!("{name}:{}: not KEY=VALUE", number + 1)),
        }
    }
    file
}

/// The URL of a channel folder without slashes at its end.
fn server(text: &str) -> Option<String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let plain = rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"'<>".contains(&byte));
    let host = rest.split('/').next().unwrap_or_default();
    (plain && !host.is_empty()).then(|| text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    // Not proptest's.
    use super::Strategy;
    use proptest::prelude::*;

    use crate::testing::Utc;

    fn config(etc: &str, usr: &str) -> Config {
        let files = [(FILES[1].to_owned(), etc.to_owned()), (FILES[2].to_owned(), usr.to_owned())];
        Config::from_files(&files, &Utc)
    }

    #[test]
    fn a_stopped_locksmithd_means_no_reboots_and_a_started_one_brings_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Config::load(folder.path(), &Utc).stopped);
        let file = folder.path().join(&LOCKSMITHD[1..]);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(
            &file,
            "LOCKSMITHD_ENDPOINT=10.0.0.1:2379,https://kv.example:2379/\nLOCKSMITHD_ETCD_CAFILE=/etc/ca.pem\n\
             LOCKSMITHD_ETCD_PASSWORD=secret\nLOCKSMITHD_GROUP=row 1\nLOCKSMITHD_TAKE_OVER_AFTER=2h\n\
             REBOOT_WINDOW_START=Thu 23:00,Mon 1:00\nREBOOT_WINDOW_LENGTH=1h\n",
        )
        .unwrap();
        let read = Config::load(folder.path(), &Utc);
        assert!(!read.stopped && read.problems.is_empty() && read.windows != Windows::default(), "{read:?}");
        assert_eq!(read.lock.endpoints, ["http://10.0.0.1:2379", "https://kv.example:2379"]);
        assert_eq!((read.lock.group.as_str(), read.lock.take_over_after), ("row 1", Some(7200)));
        assert_eq!(read.lock.ca, Some("/etc/ca.pem".into()));
        assert!(!format!("{read:?}").contains("secret"));
        let wrong = config("LOCKSMITHD_TAKE_OVER_AFTER=1m\nLOCKSMITHD_ENDPOINT=http://a/b\n", "");
        assert_eq!((wrong.lock.take_over_after, wrong.problems.len()), (None, 2), "{wrong:?}");
        let zone =
            config("REBOOT_WINDOW_START=1:00\nREBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_TIMEZONE=Mars\n", "");
        assert_eq!((zone.strategy, zone.problems.len()), (Strategy::Off, 1));
    }

    #[test]
    fn the_owners_file_wins_over_the_images_key_by_key() {
        let read = config(
            "GROUP=beta\n",
            "# the image's\nGROUP=stable\nSERVER=http://10.0.2.2:8000/channel/\nREBOOT_STRATEGY=off\n",
        );
        assert_eq!(read.channel.as_str(), "beta");
        assert_eq!(read.servers, ["http://10.0.2.2:8000/channel"]);
        assert_eq!((read.strategy, read.windows, read.problems), (Strategy::Off, Windows::default(), vec![]));
    }

    #[test]
    fn defaults_are_those_of_container_linux() {
        let read = config("", "");
        assert_eq!((read.channel.as_str(), read.strategy), ("stable", Strategy::Reboot));
        assert!(read.servers.is_empty());
        assert!(config("SERVER=disabled", "SERVER=http://a/b").servers.is_empty());
    }

    #[test]
    fn several_mirrors_and_quotes_are_understood() {
        let read = config("SERVER=\"https://a.example/c, http://b.example:81\"", "");
        assert_eq!(read.servers, ["https://a.example/c", "http://b.example:81"]);
    }

    #[test]
    fn what_cannot_be_understood_is_told_and_never_reboots() {
        let read = config("GROUP=No Such\nSERVER=ftp://x\nREBOOT_STRATEGY=perhaps\nnonsense\n", "");
        assert_eq!((read.channel.as_str(), read.strategy, read.problems.len()), ("stable", Strategy::Off, 4));
        assert!(
            read.problems[0].starts_with("/etc/coreos/update.conf:4: not KEY=VALUE"),
            "{:?}",
            read.problems
        );
        let half = config("LOCKSMITHD_REBOOT_WINDOW_START=14:00", "");
        assert_eq!((half.strategy, half.windows), (Strategy::Off, Windows::default()));
    }

    #[test]
    fn windows_have_two_names() {
        let read = config("REBOOT_WINDOW_START=Thu 23:00\nREBOOT_WINDOW_LENGTH=1h30m", "");
        assert!(read.windows != Windows::default() && read.problems.is_empty(), "{read:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}", lines in "(GROUP|SERVER|REBOOT_STRATEGY|REBOOT_WINDOW_START|REBOOT_WINDOW_LENGTH)=\\PC{0,20}\n") {
            config(&text, &lines);
        }
    }
}
