//! From what a sender says to an entry that is kept: trusted fields added, levels and rates applied.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::context::{self, Contexts, Sender};
use super::entry::{Entry, Id, Priority, Stamp};
use super::keeper::{Keeper, own_entry};
use super::limit::{Limit, RateLimiter, Suppressed, Verdict};
use super::stream::{Header, Line};
use super::{native, ports, syslog};

/// `SD_MESSAGE_JOURNAL_DROPPED` of sd-messages.h: a service logged too much.
const MESSAGE_DROPPED: &str = "a596d6fe7bfa4994828e72309e95d61e";
/// How long what a unit may log is believed, in microseconds.
const FRESH: u64 = 1_000_000;
/// Units whose limits are remembered.
const MOST_UNITS: usize = 256;

/// What a unit may log.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    limit: Limit,
    level: u8,
    read_at: u64,
}

/// Everything that entries go through.
#[derive(Debug)]
pub struct Intake {
    /// The writer.
    pub keeper: Keeper,
    config: Config,
    contexts: Contexts,
    limiter: RateLimiter,
    machine: Id,
    settings: PathBuf,
    allowances: BTreeMap<String, Allowance>,
}

impl Intake {
    /// For the machine below `root`.
    pub fn new(root: &Path, config: Config, machine: Id, keeper: Keeper) -> Intake {
        Intake {
            keeper,
            config,
            contexts: Contexts::new(Path::new("/proc")),
            limiter: RateLimiter::default(),
            machine,
            settings: root.join(ports::UNIT_SETTINGS),
            allowances: BTreeMap::new(),
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Messages of the native socket.
    pub fn native(&mut self, now: Stamp, bytes: &[u8], sender: Option<Sender>) {
        for fields in native::parse(bytes) {
            let mut entry = Entry::new(now);
            entry.push("_TRANSPORT", "journal");
            entry.fields.extend(fields);
            self.keep(entry, sender, None, false);
        }
    }

    /// A message of `/dev/log`.
    pub fn syslog(&mut self, now: Stamp, bytes: &[u8], sender: Option<Sender>) {
        let text = String::from_utf8_lossy(bytes);
        let message = syslog::parse(&text);
        if message.text.is_empty() {
            return;
        }
        let mut entry = Entry::new(now);
        entry.push("_TRANSPORT", "syslog");
        entry.push("PRIORITY", message.level.to_string());
        let optional = [
            ("SYSLOG_FACILITY", message.facility.map(|facility| facility.to_string())),
            ("SYSLOG_IDENTIFIER", message.identifier.map(str::to_owned)),
            ("SYSLOG_PID", message.pid.map(str::to_owned)),
            ("SYSLOG_TIMESTAMP", message.time.map(str::to_owned)),
        ];
        for (name, value) in optional {
            value.into_iter().for_each(|value| entry.push(name, value));
        }
        entry.push("MESSAGE", message.text);
        self.keep(entry, sender, None, false);
    }

    /// A line of a stream.
    pub fn line(&mut self, now: Stamp, stream: Id, header: &Header, line: Line<'_>, sender: Option<Sender>) {
        let mut entry = Entry::new(now);
        entry.push("_TRANSPORT", "stdout");
        entry.push("_STREAM_ID", stream.to_string());
        entry.push("PRIORITY", line.level.to_string());
        entry.push("SYSLOG_FACILITY", (header.priority >> 3).to_string());
        if !header.identifier.is_empty() {
            entry.push("SYSLOG_IDENTIFIER", header.identifier.as_str());
        }
        if let Some(word) = line.end.word() {
            entry.push("_LINE_BREAK", word);
        }
        entry.push("MESSAGE", line.text);
        let unit = Some(header.unit.as_str()).filter(|unit| !unit.is_empty());
        self.keep(entry, sender, unit, header.to_console);
    }

    /// An entry that is complete but for the machine's fields: the kernel's, and the journal's own.
    pub fn own(&mut self, mut entry: Entry) {
        if entry.get("_TRANSPORT") == Some(b"driver") {
            let pid = std::process::id();
            let context = self.contexts.get(pid, entry.stamp.monotonic);
            context::add(&mut entry, Sender { pid, uid: 0, gid: 0 }, context, None);
        }
        self.finish(entry, false);
    }

    /// A line of the journal's own.
    pub fn say(&mut self, level: u8, text: &str) {
        self.own(own_entry(Stamp::now(), level, text));
    }

    fn keep(&mut self, mut entry: Entry, sender: Option<Sender>, unit: Option<&str>, to_console: bool) {
        if let Some(sender) = sender {
            let context = self.contexts.get(sender.pid, entry.stamp.monotonic);
            context::add(&mut entry, sender, context, unit);
        }
        let source = entry.get("_SYSTEMD_UNIT").map(|unit| String::from_utf8_lossy(unit).into_owned());
        let now = entry.stamp.monotonic;
        let allowance = self.allowance(source.as_deref(), now);
        if entry.priority() > allowance.level {
            return;
        }
        // Without a unit it is the user who is held to it. PID 1 logs for all units, and is not.
        let source =
            source.unwrap_or_else(|| sender.map_or_else(String::new, |it| format!("user {}", it.uid)));
        if sender.is_some_and(|sender| sender.pid == 1)
            || self.limiter.admit(now, &source, entry.priority(), allowance.limit) == Verdict::Keep
        {
            self.finish(entry, to_console);
        }
    }

    /// What a unit may log, by its own settings or the journal's.
    fn allowance(&mut self, unit: Option<&str>, now: u64) -> Allowance {
        let limit = Limit { interval: self.config.rate_interval, burst: self.config.rate_burst };
        let common = Allowance { limit, level: Priority::DEBUG, read_at: now };
        let Some(unit) = unit else { return common };
        let known = self.allowances.get(unit).filter(|known| now.saturating_sub(known.read_at) < FRESH);
        if let Some(known) = known {
            return *known;
        }
        let value = |name: &str| -> Option<u64> {
            std::fs::read_link(self.settings.join(format!("{name}:{unit}"))).ok()?.to_str()?.parse().ok()
        };
        let burst = value(ports::RATE_BURST).map(|burst| u32::try_from(burst).unwrap_or(u32::MAX));
        let interval = value(ports::RATE_INTERVAL).unwrap_or(limit.interval);
        let level = value(ports::LEVEL_MAX).and_then(|level| u8::try_from(level).ok());
        let allowance = Allowance {
            limit: Limit { interval, burst: burst.unwrap_or(limit.burst) },
            level: level.unwrap_or(Priority::DEBUG),
            read_at: now,
        };
        if self.allowances.len() >= MOST_UNITS {
            self.allowances.clear();
        }
        self.allowances.insert(unit.to_owned(), allowance);
        allowance
    }

    fn finish(&mut self, mut entry: Entry, to_console: bool) {
        entry.push("_MACHINE_ID", self.machine.to_string());
        entry.push("_HOSTNAME", rustix::system::uname().nodename().to_bytes());
        let level = entry.priority();
        if to_console || self.config.to_console && level <= self.config.console_level {
            self.show(&entry);
        }
        if level <= self.config.store_level {
            self.keeper.keep(entry);
        }
    }

    /// A line on the console, if it takes it at once.
    fn show(&self, entry: &Entry) {
        let text = |name: &str| entry.get(name).map(String::from_utf8_lossy).unwrap_or_default();
        let (who, pid) = (text("SYSLOG_IDENTIFIER"), text("_PID"));
        let pid = if pid.is_empty() { String::new() } else { format!("[{pid}]") };
        let line = format!("{who}{pid}: {}\r\n", text("MESSAGE"));
        let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let console = std::fs::OpenOptions::new().append(true).custom_flags(flags).open(&self.config.console);
        // Nobody to complain to, and it is in the journal.
        let _lost = console.and_then(|mut console| console.write_all(line.as_bytes()));
    }

    /// When [`Intake::tick`] has something to do.
    pub fn next(&self) -> Option<u64> {
        self.keeper.next().into_iter().chain(self.limiter.next()).min()
    }

    /// Tells what was suppressed, syncs.
    pub fn tick(&mut self, now: Stamp) {
        for Suppressed { source, count } in self.limiter.ended(now.monotonic) {
            let text = format!("Suppressed {count} messages from {source}");
            let mut entry = own_entry(now, Priority::WARNING, &text);
            entry.push("MESSAGE_ID", MESSAGE_DROPPED);
            entry.push("N_DROPPED", count.to_string());
            entry.push("UNIT", source);
            self.own(entry);
        }
        self.keeper.tick(now.monotonic);
    }
}
