//! What the owner of a machine says about updates: `update.conf`, as Container Linux has it.

use std::path::Path;

use super::window::{Window, WindowError};
use crate::channel::ChannelName;

/// Files in the order in which they are asked; the first that has a key decides it.
pub const FILES: [&str; 2] = ["/etc/coreos/update.conf", "/usr/share/coreos/update.conf"];

/// What becomes of a machine that has an update staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// It reboots.
    Reboot,
    /// It waits for somebody to reboot it.
    Off,
    /// It reboots once it holds the cluster's lock. Nobody here can take that lock yet: it waits.
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
    /// `LOCKSMITHD_REBOOT_WINDOW_START` and `_LENGTH`: reboots at other times wait.
    pub window: Option<Window>,
    /// Lines that mean nothing.
    pub problems: Vec<String>,
}

/// One file's keys.
#[derive(Debug, Default)]
struct File {
    name: String,
    keys: Vec<(String, String)>,
}

impl Config {
    /// Reads [`FILES`] below `root`.
    pub fn load(root: &Path) -> Self {
        let read = |path: &&str| {
            let text = std::fs::read_to_string(root.join(path.trim_start_matches('/'))).ok()?;
            Some(((*path).to_owned(), text))
        };
        Self::from_files(&FILES.iter().filter_map(read).collect::<Vec<_>>())
    }

    /// Reads files, given as names and texts.
    pub fn from_files(files: &[(String, String)]) -> Self {
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
        let window =
            |name: &str| get(&format!("LOCKSMITHD_{name}")).or_else(|| get(name)).map(|(_, value)| value);
        let (window, window_problem) =
            window_of(window("REBOOT_WINDOW_START"), window("REBOOT_WINDOW_LENGTH"));
        // Without a window that can be understood there is none in which a reboot is allowed.
        let strategy =
            if window_problem.is_some() && strategy != Strategy::Off { Strategy::Off } else { strategy };
        problems.extend(window_problem);
        let Some(channel) = channel.or_else(default_channel) else {
            unreachable!("a constant that is a name")
        };
        Self { channel, servers, strategy, window, problems }
    }
}

fn window_of(start: Option<&str>, length: Option<&str>) -> (Option<Window>, Option<String>) {
    match (start, length) {
        (None, None) => (None, None),
        (Some(start), Some(length)) => match Window::parse(start, length) {
            Ok(window) => (Some(window), None),
            Err(error) => (None, Some(problem(&error))),
        },
        _ => (None, Some(problem(&WindowError::Half))),
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

    fn config(etc: &str, usr: &str) -> Config {
        Config::from_files(&[(FILES[0].to_owned(), etc.to_owned()), (FILES[1].to_owned(), usr.to_owned())])
    }

    #[test]
    fn the_owners_file_wins_over_the_images_key_by_key() {
        let read = config(
            "GROUP=beta\n",
            "# the image's\nGROUP=stable\nSERVER=http://10.0.2.2:8000/channel/\nREBOOT_STRATEGY=off\n",
        );
        assert_eq!(read.channel.as_str(), "beta");
        assert_eq!(read.servers, ["http://10.0.2.2:8000/channel"]);
        assert_eq!((read.strategy, read.window, read.problems), (Strategy::Off, None, vec![]));
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
        assert_eq!((half.strategy, half.window), (Strategy::Off, None));
    }

    #[test]
    fn windows_have_two_names() {
        let read = config("REBOOT_WINDOW_START=Thu 23:00\nREBOOT_WINDOW_LENGTH=1h30m", "");
        assert!(read.window.is_some() && read.problems.is_empty(), "{read:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}", lines in "(GROUP|SERVER|REBOOT_STRATEGY|REBOOT_WINDOW_START|REBOOT_WINDOW_LENGTH)=\\PC{0,20}\n") {
            config(&text, &lines);
        }
    }
}
