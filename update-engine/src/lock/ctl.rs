//! `locksmithctl`, and what `locksmithd.service` runs.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use init::pid1::zones::ZoneFiles;
use kv::Client;
use serde::Serialize;

use super::plan::{Keys, Plan, Record, View, Wish, plan};
use super::semaphore::{Semaphore, SemaphoreError};
use super::shell::{self, Note};
use crate::causes::chain;
use crate::engine::config::{Config, LOCKSMITHD, LockSettings};
use crate::engine::coordinate::age;
use crate::engine::drain;
use crate::engine::os::STATE;
use crate::engine::state::{Saved, replace};
use crate::engine::work::unix_now;

const HELP: &str = "\
locksmithctl is a command line driver for the reboot lock of a cluster of Ferrite machines.

Usage:
  locksmithctl [OPTIONS] COMMAND [ARGUMENT]

  status [--long] [--json]  how many machines may reboot at a time, and which ones hold the lock
  lock [MACHINE-ID]         take the lock for this machine or another one
  unlock [MACHINE-ID]       give it back; also for a machine that is gone
  set-max N                 how many may hold it
  reboot                    take the lock, have the cluster move this machine's units elsewhere, and reboot; the lock is given
                            back when the machine is up and healthy
  help [COMMAND]            this

Options, with one hyphen or two; each is also read from the environment (LOCKSMITHCTL_GROUP and so on), and what neither says from
the settings that the machine itself goes by:
  -endpoint URL[,URL...]    etcd; http://127.0.0.1:2379,http://127.0.0.1:4001
  -group NAME               the lock of a group of machines
  -etcd-cafile FILE -etcd-certfile FILE -etcd-keyfile FILE
                            PEM files for https
  -etcd-username NAME -etcd-password WORD
  -debug                    tell more on stderr
  -version

Exit status: 0 done; 1 refused or failed, stderr says why; 2 wrong use.
";

/// The most that a command waits for its turn when many change the semaphore at once.
const PATIENCE: Duration = Duration::from_secs(30);
const OPTIONS: [&str; 7] =
    ["endpoint", "group", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-username", "etcd-password"];

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Status { long: bool, json: bool },
    Lock(Option<String>),
    Unlock(Option<String>),
    SetMax(Option<String>),
    Reboot,
}

/// Why a command line is none, and with which status that ends.
#[derive(Debug, PartialEq, Eq)]
struct Misuse(String, u8);

#[derive(Debug, Default)]
struct Flags {
    values: Vec<(String, String)>,
    debug: bool,
}

impl Flags {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn parse(words: &[String]) -> Result<(Command, Flags), Misuse> {
    let mut flags = Flags::default();
    let (mut rest, mut long, mut json) = (Vec::new(), false, false);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-').map(|option| option.strip_prefix('-').unwrap_or(option))
        else {
            rest.push(word);
            continue;
        };
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match name {
            "h" | "help" => return Ok((Command::Help, flags)),
            "version" => return Ok((Command::Version, flags)),
            "debug" => flags.debug = true,
            "long" | "l" => long = true,
            "json" => json = true,
            name if OPTIONS.contains(&name) => {
                let value = value.or_else(|| words.next());
                let value = value.ok_or_else(|| Misuse(format!("option {word} takes a value"), 2))?;
                // `-endpoint` may come more than once.
                let before = flags.get(name).filter(|_| name == "endpoint").map(str::to_owned);
                let value = before.map_or_else(|| value.to_owned(), |before| format!("{before},{value}"));
                flags.values.push((name.to_owned(), value));
            }
            _ => return Err(Misuse(format!("there is no option {word}"), 2)),
        }
    }
    let known = ["status", "lock", "unlock", "set-max", "reboot", "help"];
    let command = match rest.as_slice() {
        [] | ["help"] => Command::Help,
        ["help", name] if known.contains(name) => Command::Help,
        ["help", name, ..] => return Err(Misuse(format!("Unrecognized command: {name}"), 1)),
        ["status"] => Command::Status { long, json },
        ["lock"] => Command::Lock(None),
        ["lock", id] => Command::Lock(Some((*id).to_owned())),
        ["unlock"] => Command::Unlock(None),
        ["unlock", id] => Command::Unlock(Some((*id).to_owned())),
        ["set-max"] => Command::SetMax(None),
        ["set-max", max] => Command::SetMax(Some((*max).to_owned())),
        ["reboot"] => Command::Reboot,
        [name, ..] if known.contains(name) => return Err(Misuse(format!("{name}: too many arguments"), 2)),
        [name, ..] => {
            let hint = "Run 'locksmithctl help' for usage.";
            return Err(Misuse(format!("locksmithctl: unknown subcommand: \"{name}\"\n{hint}"), 2));
        }
    };
    Ok((command, flags))
}

/// Where etcd is: the command line, then the environment, then what the machine goes by.
fn settings(
    flags: &Flags,
    environment: impl Fn(&str) -> Option<String>,
    machine: LockSettings,
) -> LockSettings {
    let value = |option: &str| {
        let name = option.to_ascii_uppercase().replace('-', "_");
        let own = flags.get(option).map(str::to_owned);
        own.or_else(|| environment(&format!("LOCKSMITHCTL_{name}"))).map(|value| (name, value))
    };
    let values: Vec<(String, String)> = OPTIONS.iter().filter_map(|option| value(option)).collect();
    let get = |name: &str| values.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let own = LockSettings::read(get, &mut |problem| eprintln!("{problem}"));
    LockSettings {
        endpoints: if get("ENDPOINT").is_some() { own.endpoints } else { machine.endpoints },
        ca: own.ca.or(machine.ca),
        certificate: own.certificate.or(machine.certificate),
        key: own.key.or(machine.key),
        user: own.user.or(machine.user),
        password: own.password.or(machine.password),
        group: if get("GROUP").is_some() { own.group } else { machine.group },
        take_over_after: None,
    }
}

/// Runs `locksmithctl` with the words behind its name.
pub fn run(words: &[String]) -> ExitCode {
    let (command, flags) = match parse(words) {
        Ok(parsed) => parsed,
        Err(Misuse(problem, status)) => {
            eprintln!("{problem}");
            return ExitCode::from(status);
        }
    };
    let machine = Config::load(Path::new("/"), &ZoneFiles::default()).lock;
    let settings = settings(&flags, |name| std::env::var(name).ok(), machine);
    if flags.debug {
        eprintln!("{settings:?}");
    }
    match carry_out(&command, &settings) {
        Ok(text) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// A group's lock, for one command.
struct Lock {
    client: Client,
    keys: Keys,
}

/// Why a command failed.
enum Failed {
    Refused(SemaphoreError),
    Other(String),
}

impl Failed {
    fn after(self, doing: &str) -> String {
        match self {
            Self::Refused(error) => format!("Error {doing}: {error}"),
            Self::Other(error) => format!("Error {doing}: {error}"),
        }
    }
}

impl Lock {
    fn open(settings: &LockSettings) -> Result<Self, String> {
        let client = shell::client(settings)
            .map_err(|error| format!("Error initializing etcd client: {}", chain(&error)))?;
        Ok(Self { client, keys: Keys::of_group(&settings.group) })
    }

    /// Carries a wish out; returns what was there before. Goes on until it is certain how it ended.
    fn wish(&self, wish: &Wish<'_>) -> Result<View, Failed> {
        let begun = Instant::now();
        let mut before = None;
        loop {
            let view = shell::look(&self.client, &self.keys).map_err(Failed::Other)?;
            if before.is_some() && is_done(&view, wish) {
                return Ok(before.unwrap_or(view));
            }
            let transaction = match plan(&self.keys, &view, wish).map_err(Failed::Refused)? {
                Plan::Nothing => return Ok(view),
                Plan::Commit(transaction) => transaction,
            };
            match self.client.transact(&transaction) {
                Ok(result) if result.succeeded => return Ok(view),
                Ok(_) => {}
                // It may have been done: the next look tells.
                Err(kv::Error::Unknown { .. }) => before = Some(view),
                Err(error) => return Err(Failed::Other(chain(&error))),
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failed::Other("others change the semaphore all the time".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1 + self.client.random() % 100));
        }
    }
}

fn is_done(view: &View, wish: &Wish<'_>) -> bool {
    match wish {
        Wish::Take { id, .. } | Wish::TakeOver { id, .. } => view.semaphore.is_held_by(id),
        Wish::Release { id, .. } => !view.semaphore.is_held_by(id),
        Wish::SetMax(max) => view.semaphore.max() == *max,
    }
}

fn carry_out(command: &Command, settings: &LockSettings) -> Result<String, String> {
    match command {
        Command::Help => Ok(HELP.to_owned()),
        Command::Version => Ok(concat!("locksmithctl version ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        Command::Status { long, json } => {
            let lock = Lock::open(settings)?;
            let view = shell::look(&lock.client, &lock.keys)
                .map_err(|error| format!("Error getting semaphore: {error}"))?;
            Ok(if *json { status_json(&view)? } else { status(&view, *long, unix_now()) })
        }
        Command::Lock(id) => {
            let lock = Lock::open(settings)?;
            let id = id.clone().map_or_else(machine_id, Ok)?;
            let failed = |error: Failed| error.after("locking");
            let view = shell::look(&lock.client, &lock.keys).map_err(|error| failed(Failed::Other(error)))?;
            // In locksmith's order: a lock that is full is full also for one who holds it.
            let mut semaphore = view.semaphore.clone();
            match semaphore.lock(&id) {
                Err(error) => return Err(failed(Failed::Refused(error))),
                Ok(()) => lock.wish(&Wish::Take { id: &id, record: &record("by hand")? }).map_err(failed)?,
            };
            Ok(String::new())
        }
        Command::Unlock(id) => {
            let lock = Lock::open(settings)?;
            let id = id.clone().map_or_else(machine_id, Ok)?;
            let failed = |error: Failed| error.after("unlocking");
            let view = shell::look(&lock.client, &lock.keys).map_err(|error| failed(Failed::Other(error)))?;
            if !view.semaphore.is_held_by(&id) {
                return Err(failed(Failed::Refused(SemaphoreError::NoHolder)));
            }
            lock.wish(&Wish::Release { id: &id, fence: false }).map_err(failed)?;
            Ok(String::new())
        }
        Command::SetMax(max) => {
            let word = max.as_ref().ok_or("New maximum value must be set.")?;
            let max: i64 = word
                .parse()
                .ok()
                .filter(|max| *max >= 0)
                .ok_or_else(|| format!("Invalid maximum value: {word}"))?;
            let before = Lock::open(settings)?.wish(&Wish::SetMax(max));
            let before = before.map_err(|error| error.after("setting value"))?;
            Ok(format!("Old-Max: {}\nMax: {max}\n", before.semaphore.max()))
        }
        Command::Reboot => reboot(settings),
    }
}

fn reboot(settings: &LockSettings) -> Result<String, String> {
    if !rustix_is_root() {
        return Err("Must be root to initiate reboot.".to_owned());
    }
    let lock = Lock::open(settings)?;
    let (id, record) = (machine_id()?, record("by hand: locksmithctl reboot")?);
    let folder = Path::new(STATE);
    // If an update is staged, this is the reboot into it.
    let staged = Saved::load(&folder.join("state.json")).0.staged.filter(|staged| staged.applied);
    let note = Note {
        group: settings.group.clone(),
        boot: record.boot.clone(),
        release: staged.map(|staged| staged.root_hash).unwrap_or_default(),
        by_engine: false,
    };
    // The engine's own note, if there is one, says more: which release this reboot is for.
    if Note::load(folder).is_none() {
        note.store(folder).map_err(|error| format!("Error locking: cannot write to {STATE}: {error}"))?;
    }
    // A holder reboots again.
    lock.wish(&Wish::Take { id: &id, record: &record }).map_err(|error| {
        if matches!(error, Failed::Refused(_)) && Note::load(folder).as_ref() == Some(&note) {
            // Nothing was asked for: there is nothing to give back. A note that stays costs one operation at the next boot.
            let _ = Note::remove(folder);
        }
        error.after("locking")
    })?;
    drain::drain(folder, &id);
    // That took time: only who still has the lock reboots.
    if let Err(error) = lock.wish(&Wish::Take { id: &id, record: &record }) {
        drain::undrain(folder, &id);
        return Err(error.after("locking"));
    }
    let status = std::process::Command::new("/usr/sbin/reboot").status();
    match status {
        Ok(status) if status.success() => Ok(String::new()),
        problem => {
            drain::undrain(folder, &id);
            let unlocked = lock.wish(&Wish::Release { id: &id, fence: false });
            let left =
                unlocked.err().map(|error| format!("; {}", error.after("unlocking"))).unwrap_or_default();
            Err(format!("cannot reboot: {problem:?}{left}"))
        }
    }
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn machine_id() -> Result<String, String> {
    let id = std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned());
    id.ok().filter(|id| !id.is_empty()).ok_or_else(|| "Cannot read machine-id".to_owned())
}

fn record(why: &str) -> Result<Record, String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| format!("cannot read the id of this boot: {error}"))?;
    Ok(Record { since: unix_now(), boot: boot.trim().to_owned(), why: why.to_owned(), failed: None })
}

/// As locksmith prints it; `long` adds since when and why.
fn status(view: &View, long: bool, now: u64) -> String {
    let semaphore = &view.semaphore;
    let mut text = format!("Available: {}\nMax: {}\n", semaphore.available(), semaphore.max());
    if semaphore.holders().is_empty() {
        return text;
    }
    text.push_str(if long { "\nMACHINE ID\tAGE\tWHY\n" } else { "\nMACHINE ID\n" });
    for id in semaphore.holders() {
        text.push_str(id);
        if long {
            let (age, why) = match view.records.get(id) {
                Some((record, _)) => {
                    let failed =
                        record.failed.as_ref().map(|why| format!("; FAILED {why}")).unwrap_or_default();
                    (age(now.saturating_sub(record.since)), format!("{}{failed}", record.why))
                }
                None => ("?".to_owned(), "?".to_owned()),
            };
            text.push_str(&format!("\t{age}\t{why}"));
        }
        text.push('\n');
    }
    text
}

fn status_json(view: &View) -> Result<String, String> {
    #[derive(Serialize)]
    struct Holder<'a> {
        id: &'a str,
        #[serde(flatten)]
        record: Option<&'a Record>,
    }
    #[derive(Serialize)]
    struct Status<'a> {
        available: i64,
        max: i64,
        holders: Vec<Holder<'a>>,
    }
    let semaphore: &Semaphore = &view.semaphore;
    let holders = semaphore.holders().iter();
    let holders = holders.map(|id| Holder { id, record: view.records.get(id).map(|(record, _)| record) });
    let status =
        Status { available: semaphore.available(), max: semaphore.max(), holders: holders.collect() };
    serde_json::to_string_pretty(&status).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// `locksmithd start` and `stop`: what `locksmithd.service` runs. The update engine is what reboots; the unit says whether it may,
/// and with which settings.
pub fn service(words: &[String]) -> ExitCode {
    let path = Path::new(LOCKSMITHD);
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["start"] => start(path, std::env::vars()),
        ["stop"] => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        _ => {
            eprintln!(
                "locksmithd: start or stop; the update engine reboots, with what locksmithd.service is started with"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn start(path: &Path, variables: impl Iterator<Item = (String, String)>) -> std::io::Result<()> {
    let ours = |name: &str| name.starts_with("LOCKSMITHD_") || name.starts_with("REBOOT_WINDOW_");
    let mut lines: Vec<String> = variables
        .filter(|(name, value)| ours(name) && !value.contains('\n'))
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    lines.sort();
    let secret = lines.iter().any(|line| line.starts_with("LOCKSMITHD_ETCD_PASSWORD="));
    // Empty first: a password must not be open to all for a moment.
    replace(path, b"")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(if secret { 0o600 } else { 0o644 }))?;
    std::fs::write(path, lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn words(line: &str) -> Vec<String> {
        line.split_ascii_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_lines_are_locksmiths() {
        let command = |line: &str| parse(&words(line)).map(|(command, _)| command);
        assert_eq!(command(""), Ok(Command::Help));
        assert_eq!(command("-group x status"), Ok(Command::Status { long: false, json: false }));
        assert_eq!(
            command("--endpoint=http://a status --json"),
            Ok(Command::Status { long: false, json: true })
        );
        assert_eq!(command("lock"), Ok(Command::Lock(None)));
        assert_eq!(command("unlock abc"), Ok(Command::Unlock(Some("abc".to_owned()))));
        assert_eq!(command("set-max"), Ok(Command::SetMax(None)));
        assert_eq!(command("-version"), Ok(Command::Version));
        assert_eq!(command("help frob"), Err(Misuse("Unrecognized command: frob".to_owned(), 1)));
        let unknown = command("frob").unwrap_err();
        assert!(unknown.0.starts_with("locksmithctl: unknown subcommand: \"frob\"") && unknown.1 == 2);
        assert_eq!(command("-frob status").unwrap_err().1, 2);
        assert_eq!(command("status -group").unwrap_err().1, 2);
    }

    #[test]
    fn settings_come_from_flags_then_the_environment_then_the_machine() {
        let flags = parse(&words("-endpoint http://a:1 --endpoint http://b:2 status")).unwrap().1;
        let environment = |name: &str| match name {
            "LOCKSMITHCTL_ENDPOINT" => Some("http://env:1".to_owned()),
            "LOCKSMITHCTL_GROUP" => Some("env".to_owned()),
            _ => None,
        };
        let machine = LockSettings {
            endpoints: vec!["http://machine:1".to_owned()],
            ca: Some("/etc/ca.pem".into()),
            group: "machine".to_owned(),
            ..LockSettings::default()
        };
        let read = settings(&flags, environment, machine.clone());
        assert_eq!(read.endpoints, ["http://a:1", "http://b:2"]);
        assert_eq!((read.group.as_str(), read.ca), ("env", Some("/etc/ca.pem".into())));
        assert_eq!(settings(&Flags::default(), |_| None, machine.clone()), machine);
    }

    #[test]
    fn status_is_locksmiths_and_long_tells_of_the_dead() {
        let mut semaphore = Semaphore::default();
        semaphore.set_max(3);
        let mut view = View { semaphore, ..View::default() };
        assert_eq!(status(&view, false, 0), "Available: 3\nMax: 3\n");
        view.semaphore.lock("b").unwrap();
        view.semaphore.lock("a").unwrap();
        assert_eq!(status(&view, false, 0), "Available: 1\nMax: 3\n\nMACHINE ID\na\nb\n");
        let record = Record { since: 100, why: "update 1.1.0".to_owned(), ..Record::default() };
        view.records = BTreeMap::from([("a".to_owned(), (record, 5))]);
        assert_eq!(
            status(&view, true, 100 + 7300),
            "Available: 1\nMax: 3\n\nMACHINE ID\tAGE\tWHY\na\t2h 1min\tupdate 1.1.0\nb\t?\t?\n"
        );
        assert!(status_json(&view).unwrap().contains("\"why\": \"update 1.1.0\""));
    }

    #[test]
    fn the_unit_leaves_its_settings_and_no_open_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/locksmithd");
        let variables = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>()
                .into_iter()
        };
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        start(
            &path,
            variables(&[("LOCKSMITHD_GROUP", "g"), ("PATH", "/bin"), ("REBOOT_WINDOW_START", "1:00")]),
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "LOCKSMITHD_GROUP=g\nREBOOT_WINDOW_START=1:00\n");
        assert_eq!(mode(), 0o644);
        start(&path, variables(&[("LOCKSMITHD_ETCD_PASSWORD", "x")])).unwrap();
        assert_eq!(mode(), 0o600);
    }
}
