//! `journald.conf` and its drop-ins, journald.conf(5).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::value::{self, TimeSpan};

use super::entry::Priority;
use super::store::Limits;

/// Where files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In `/run/log/journal`.
    Volatile,
    /// In `/var/log/journal`.
    Persistent,
    /// In `/var/log/journal` unless `/var` is itself lost with this boot.
    Auto,
    /// Nowhere.
    None,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `Storage=`
    pub storage: Storage,
    /// `System*=`
    pub persistent: Limits,
    /// `Runtime*=`
    pub volatile: Limits,
    /// `SyncIntervalSec=` in microseconds.
    pub sync_interval: u64,
    /// `RateLimitIntervalSec=` in microseconds; 0 is no limit.
    pub rate_interval: u64,
    /// `RateLimitBurst=`; 0 is no limit.
    pub rate_burst: u32,
    /// `ForwardToConsole=`
    pub to_console: bool,
    /// `TTYPath=`
    pub console: PathBuf,
    /// `MaxLevelConsole=`
    pub console_level: u8,
    /// `MaxLevelStore=`
    pub store_level: u8,
    /// `ReadKMsg=`
    pub read_kernel: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            storage: Storage::Auto,
            persistent: Limits::DEFAULT,
            volatile: Limits::DEFAULT,
            sync_interval: 5 * 60 * 1_000_000,
            rate_interval: 30_000_000,
            rate_burst: 10_000,
            to_console: false,
            console: PathBuf::from("/dev/console"),
            console_level: Priority::INFO,
            store_level: Priority::DEBUG,
            read_kernel: true,
        }
    }
}

/// Keys that systemd has and that mean nothing here; they are no news.
const WITHOUT_MEANING: [&str; 16] = [
    "Compress",
    "Seal",
    "SplitMode",
    "ForwardToSyslog",
    "ForwardToKMsg",
    "ForwardToWall",
    "ForwardToSocket",
    "MaxLevelSyslog",
    "MaxLevelKMsg",
    "MaxLevelWall",
    "MaxLevelSocket",
    "SystemMaxFiles",
    "RuntimeMaxFiles",
    "MaxFileSec",
    "LineMax",
    "Audit",
];

/// Folders in the order in which they count, the strongest first.
const FOLDERS: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

impl Config {
    /// Reads the files below `root`; what cannot be understood is a warning with file and line.
    pub fn read(root: &Path) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        for path in files(root) {
            let shown = path.strip_prefix(root).unwrap_or(&path);
            let shown = format!("/{}", shown.display());
            match fs::read(&path) {
                Ok(text) => config.apply(&shown, &String::from_utf8_lossy(&text), &mut warnings),
                Err(error) => warnings.push(format!("{shown}: {error}")),
            }
        }
        (config, warnings)
    }

    /// Applies the text of one file.
    pub fn apply(&mut self, file: &str, text: &str, warnings: &mut Vec<String>) {
        let mut ours = false;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                ours = line == "[Journal]";
                if !ours {
                    warnings.push(format!("{file}:{number}: section {line} is not known, [Journal] is"));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| ours) else {
                warnings.push(format!("{file}:{number}: not an assignment in [Journal], ignored"));
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if WITHOUT_MEANING.contains(&key) {
                continue;
            }
            if let Err(problem) = self.set(key, value) {
                warnings.push(format!("{file}:{number}: {key}: {problem}, ignored"));
            }
        }
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let defaults = Config::default();
        let own = |error: value::ValueError| error.to_string();
        let size = || match text {
            "" => Ok(None),
            text => value::size(text).map(Some).map_err(own),
        };
        let span = |default: u64| match text {
            "" => Ok(default),
            text => value::time_span(text).map(micros).map_err(own),
        };
        let flag = |default: bool| match text {
            "" => Ok(default),
            text => value::boolean(text).map_err(own),
        };
        let level = || Priority::parse(text).ok_or_else(|| format!("`{text}` is no level such as `info`"));
        match key {
            "Storage" => {
                self.storage = match text {
                    "volatile" => Storage::Volatile,
                    "persistent" => Storage::Persistent,
                    "auto" | "" => Storage::Auto,
                    "none" => Storage::None,
                    _ => return Err(format!("`{text}` is not volatile, persistent, auto or none")),
                }
            }
            "SystemMaxUse" => self.persistent.max_use = size()?,
            "SystemKeepFree" => self.persistent.keep_free = size()?,
            "SystemMaxFileSize" => self.persistent.max_file_size = size()?,
            "RuntimeMaxUse" => self.volatile.max_use = size()?,
            "RuntimeKeepFree" => self.volatile.keep_free = size()?,
            "RuntimeMaxFileSize" => self.volatile.max_file_size = size()?,
            "MaxRetentionSec" => {
                self.persistent.max_retention = span(0)?;
                self.volatile.max_retention = self.persistent.max_retention;
            }
            "SyncIntervalSec" => self.sync_interval = span(defaults.sync_interval)?,
            "RateLimitIntervalSec" | "RateLimitInterval" => {
                self.rate_interval = span(defaults.rate_interval)?;
            }
            "RateLimitBurst" => self.rate_burst = value::unsigned(text).map_err(own)?,
            "ForwardToConsole" => self.to_console = flag(defaults.to_console)?,
            "TTYPath" => self.console = PathBuf::from(value::absolute_path(text).map_err(own)?),
            "MaxLevelConsole" => self.console_level = level()?,
            "MaxLevelStore" => self.store_level = level()?,
            "ReadKMsg" => self.read_kernel = flag(defaults.read_kernel)?,
            _ => return Err("not a key of [Journal]".to_owned()),
        }
        Ok(())
    }
}

/// Microseconds; a span without end is no limit, which is 0.
fn micros(span: TimeSpan) -> u64 {
    span.finite().map_or(0, |span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// The main file of the strongest folder, then drop-ins by name; of two with one name the stronger folder's.
fn files(root: &Path) -> Vec<PathBuf> {
    let main =
        FOLDERS.iter().map(|folder| root.join(folder).join("journald.conf")).find(|path| path.is_file());
    let mut drop_ins = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root.join(folder).join("journald.conf.d")) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|end| end == "conf")
                && let Some(name) = path.file_name()
            {
                drop_ins.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_the_rest_is_told_with_its_line() {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        let text = "# comment\n[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\nRateLimitIntervalSec=1min\nRateLimitBurst=5\nCompress=yes\nStorage=sometimes\nFrobnicate=1\nSystemMaxUse=lots\n[Other]\nx=y\n";
        config.apply("/etc/x", text, &mut warnings);
        assert_eq!((config.storage, config.volatile.max_use), (Storage::Volatile, Some(8 << 20)));
        assert_eq!((config.rate_interval, config.rate_burst), (60_000_000, 5));
        let places: Vec<&str> = warnings.iter().map(|warning| warning.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["/etc/x:8", "/etc/x:9", "/etc/x:10", "/etc/x:11", "/etc/x:12"], "{warnings:?}");
    }

    #[test]
    fn drop_ins_come_after_the_main_file_and_the_stronger_folder_wins() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib/systemd/journald.conf", "[Journal]\nStorage=none\nRateLimitBurst=1\n");
        write("etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n");
        write("usr/lib/systemd/journald.conf.d/10.conf", "[Journal]\nRateLimitBurst=2\n");
        write("etc/systemd/journald.conf.d/10.conf", "[Journal]\nRateLimitBurst=3\n");
        let (config, warnings) = Config::read(root.path());
        assert_eq!((config.storage, config.rate_burst, warnings), (Storage::Volatile, 3, vec![]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[Journal\\]\\n)?([A-Za-z=0-9 \\[\\]\\n]{0,80})") {
            Config::default().apply("f", &text, &mut Vec::new());
        }
    }
}
