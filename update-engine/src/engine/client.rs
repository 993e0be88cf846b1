//! `update_engine_client`: the commands of Container Linux, and clearer ones.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use init::control::Frames;

use super::machine::{Command, Goal, Phase};
use super::protocol::{Answer, Call, Reply, SOCKET, SlotStatus, Status};
use super::state::Happened;

const HELP: &str = "\
update_engine_client COMMAND [--json]
update_engine_client -status | -check_for_update | -update | -reset_status | -watch_for_updates

  status          what runs, what is staged, and what the engine does
  check           ask the channel for a newer release
  download        bring the newest release to the other slot, and stop there
  apply           let the next boot try what is downloaded
  update          check, download and apply
  rollback        verify the other slot, and let the next boot try it
  reset           give up what is staged, and forget the last error
  pin VERSION     take no other version
  unpin           take any version again
  pause           no checks, downloads and reboots by itself
  resume          go on
  history         what has happened

  --json          print JSON (status, check, download, apply, update, rollback, history)
  --no-wait       do not wait for the end of what was asked for

Settings are GROUP=, SERVER= and REBOOT_STRATEGY= in /etc/coreos/update.conf.
Exit status: 0 done, or nothing to do; 1 refused or failed, stderr says why; 2 wrong use.
";
/// How often the engine is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// Bar, in characters.
const BAR: usize = 30;

/// A command line, understood.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Help,
    /// `-status`: keys and values as Container Linux prints them.
    OldStatus,
    OldUpdate,
    OldCheck,
    OldReset,
    OldWatch,
    Status,
    History,
    /// To be waited for.
    Work(Command),
    /// Done at once.
    Note(Command),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    json: bool,
    no_wait: bool,
}

fn parse(words: &[String]) -> Result<(Wish, Options), String> {
    let mut options = Options::default();
    let mut rest = Vec::new();
    for word in words {
        match word.as_str() {
            "--json" => options.json = true,
            "--no-wait" => options.no_wait = true,
            "-h" | "--help" | "help" => return Ok((Wish::Help, options)),
            other => rest.push(other),
        }
    }
    let update = |goal| Wish::Work(Command::Update { goal });
    let wish = match rest.as_slice() {
        [] => return Err("a command is missing".to_owned()),
        ["pin", version] => Wish::Note(Command::Pin { version: (*version).to_owned() }),
        [word] => match word.trim_start_matches('-') {
            name if word.starts_with('-') => match name {
                "status" => Wish::OldStatus,
                "check_for_update" => Wish::OldCheck,
                "update" => Wish::OldUpdate,
                "reset_status" => Wish::OldReset,
                "watch_for_updates" => Wish::OldWatch,
                _ => return Err(format!("there is no option {word}")),
            },
            "status" => Wish::Status,
            "history" => Wish::History,
            "check" => update(Goal::Check),
            "download" => update(Goal::Download),
            "update" => update(Goal::Apply),
            "apply" => Wish::Work(Command::ApplyStaged),
            "rollback" => Wish::Work(Command::Rollback),
            "reset" => Wish::Work(Command::Reset),
            "unpin" => Wish::Note(Command::Unpin),
            "pause" => Wish::Note(Command::Pause),
            "resume" => Wish::Note(Command::Resume),
            "pin" => return Err("pin takes a version".to_owned()),
            _ => return Err(format!("there is no command {word}")),
        },
        [first, ..] => return Err(format!("{first} takes nothing more")),
    };
    Ok((wish, options))
}

/// A connection to the engine.
struct Engine {
    stream: UnixStream,
}

impl Engine {
    fn connect() -> Result<Self, String> {
        let stream = UnixStream::connect(SOCKET).map_err(|error| {
            format!("cannot reach the update engine at {SOCKET}: {error} (is update-engine.service running?)")
        })?;
        Ok(Self { stream })
    }

    fn call(&mut self, call: &Call) -> Result<Answer, String> {
        let lost = |error: std::io::Error| format!("lost the connection to the update engine: {error}");
        let mut bytes = serde_json::to_vec(call).map_err(|error| error.to_string())?;
        bytes.push(0);
        self.stream.write_all(&bytes).map_err(lost)?;
        let mut frames = Frames::default();
        let mut buffer = [0; 4096];
        loop {
            let count = self.stream.read(&mut buffer).map_err(lost)?;
            if count == 0 {
                return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let messages = frames.push(buffer.get(..count).unwrap_or_default()).unwrap_or_default();
            if let Some(message) = messages.first() {
                let reply: Reply = serde_json::from_slice(message).map_err(|error| error.to_string())?;
                return match reply.error {
                    Some(error) => Err(error),
                    None => Ok(reply.parameters.unwrap_or_default()),
                };
            }
        }
    }

    fn status(&mut self) -> Result<Status, String> {
        let answer = self.call(&Call::Status {})?;
        answer.status.map(|status| *status).ok_or_else(|| "the update engine gave no status".to_owned())
    }
}

/// Runs the program with the words behind its name.
pub fn run(words: &[String]) -> ExitCode {
    let (wish, options) = match parse(words) {
        Ok(parsed) => parsed,
        Err(problem) => {
            eprintln!("update_engine_client: {problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match carry_out(wish, &options) {
        Ok(text) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("update_engine_client: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(wish: Wish, options: &Options) -> Result<String, String> {
    if wish == Wish::Help {
        return Ok(HELP.to_owned());
    }
    let mut engine = Engine::connect()?;
    match wish {
        Wish::Help => Ok(String::new()),
        Wish::OldStatus => Ok(old_status(&engine.status()?)),
        Wish::OldCheck => {
            engine.call(&Call::Command(Command::Update { goal: Goal::Apply }))?;
            Ok(String::new())
        }
        Wish::OldReset => {
            engine.call(&Call::Command(Command::Reset))?;
            wait(&mut engine, false)?;
            Ok(String::new())
        }
        Wish::OldUpdate => {
            let status = work(&mut engine, Command::Update { goal: Goal::Apply }, options)?;
            Ok(if status.state == Phase::NeedReboot {
                "Update succeeded -- reboot needed.\n".to_owned()
            } else {
                "No update available\n".to_owned()
            })
        }
        Wish::OldWatch => watch(&mut engine),
        Wish::Status => {
            let status = engine.status()?;
            if options.json { json(&status) } else { Ok(describe(&status)) }
        }
        Wish::History => {
            let history = engine.call(&Call::History {})?.history.unwrap_or_default();
            if options.json { json(&history) } else { Ok(history.iter().map(history_line).collect()) }
        }
        Wish::Note(command) => {
            engine.call(&Call::Command(command))?;
            Ok(String::new())
        }
        Wish::Work(command) => {
            let status = work(&mut engine, command.clone(), options)?;
            if options.json { json(&status) } else { Ok(outcome(&command, &status)) }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Starts something and waits for its end; an error that it came to is one.
fn work(engine: &mut Engine, command: Command, options: &Options) -> Result<Status, String> {
    let before = engine.status()?.last_error.map(|error| (error.at, error.message));
    engine.call(&Call::Command(command))?;
    if options.no_wait {
        return engine.status();
    }
    let status = wait(engine, std::io::stderr().is_terminal())?;
    match &status.last_error {
        Some(error) if Some((error.at, error.message.clone())) != before => Err(error.message.clone()),
        // The same again: the engine notes an error with its time in seconds.
        Some(error) if status.state == Phase::Idle => Err(error.message.clone()),
        _ => Ok(status),
    }
}

fn is_at_rest(phase: Phase) -> bool {
    matches!(phase, Phase::Idle | Phase::Available | Phase::NeedReboot)
}

fn wait(engine: &mut Engine, bar: bool) -> Result<Status, String> {
    let mut shown = false;
    loop {
        let status = engine.status()?;
        if is_at_rest(status.state) {
            if shown {
                eprint!("\r\x1b[K");
            }
            return Ok(status);
        }
        if bar {
            eprint!("\r\x1b[K{}", progress_line(&status));
            shown = true;
        }
        sleep(ASK_EVERY);
    }
}

fn progress_line(status: &Status) -> String {
    let what = match status.state {
        Phase::Checking => "checking",
        Phase::Downloading => "downloading",
        Phase::Verifying => "verifying",
        Phase::Finalizing => "finalizing",
        Phase::Idle | Phase::Available | Phase::NeedReboot | Phase::ReportingError => "waiting",
    };
    let version = status.new_version.as_deref().unwrap_or_default();
    if status.state != Phase::Downloading {
        return format!("{what} {version}");
    }
    let filled = (0..BAR).take_while(|place| (*place as f64) < status.progress * BAR as f64).count();
    format!(
        "{what} {version} [{}{}] {:3.0} %  {}",
        "#".repeat(filled),
        "-".repeat(BAR - filled),
        status.progress * 100.0,
        fetched(status.download.fetched, status.download.to_fetch),
    )
}

/// How much of what has to be fetched is there. An update may be a few kilobytes.
fn fetched(bytes: u64, of: u64) -> String {
    let (unit, name) = if of < 1_000_000 { (1e3, "kB") } else { (1e6, "MB") };
    format!("{:.1} of {:.1} {name} fetched", bytes as f64 / unit, of as f64 / unit)
}

/// `-status`, byte for byte as Container Linux's client prints it.
fn old_status(status: &Status) -> String {
    format!(
        "LAST_CHECKED_TIME={}\nPROGRESS={:.6}\nCURRENT_OP={}\nNEW_VERSION={}\nNEW_SIZE={}\n",
        status.last_checked_time,
        status.progress,
        status.state.name(),
        status.new_version.as_deref().unwrap_or("0.0.0"),
        status.new_size
    )
}

fn watch(engine: &mut Engine) -> Result<String, String> {
    let mut last = String::new();
    loop {
        let text = old_status(&engine.status()?);
        if text != last {
            print!("{text}");
            std::io::stdout().flush().map_err(|error| error.to_string())?;
            last = text;
        }
        sleep(Duration::from_secs(1));
    }
}

fn outcome(command: &Command, status: &Status) -> String {
    let version = status.new_version.as_deref().unwrap_or("?");
    match (command, status.state) {
        (Command::Reset, _) => "nothing is staged\n".to_owned(),
        (Command::Update { goal: Goal::Check }, Phase::Available) => format!("{version} is available\n"),
        (_, Phase::NeedReboot) => format!("{version} is staged: reboot to try it\n"),
        (_, Phase::Available) if status.staged.is_some() => {
            format!("{version} is downloaded: `update_engine_client apply` stages it\n")
        }
        (_, Phase::Available) => format!("{version} is available, but updates are held back\n"),
        _ => {
            let mut text = format!("{} {} is up to date\n", status.product, status.version);
            for line in &status.passed_over {
                let _ = writeln!(text, "not taken: {line}");
            }
            text
        }
    }
}

fn slot_line(slot: &SlotStatus) -> String {
    let version = slot.version.as_deref().unwrap_or("(nothing that boots)");
    let good = if slot.successful { "good" } else { "not confirmed" };
    format!("{} {version}, {good}, priority {}, tries {}", slot.name, slot.priority, slot.tries)
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:>9}: {value}");
    };
    line("running", format!("{} {}", status.product, status.version));
    if !status.confirmed {
        line(
            "",
            "NOT YET CONFIRMED: the machine goes back to the other slot unless this boot proves itself"
                .to_owned(),
        );
    }
    if let Some(slot) = &status.running_slot {
        line("slot", slot_line(slot));
    }
    if let Some(slot) = &status.other_slot {
        line("other", slot_line(slot));
    }
    line("state", status.state.name().to_owned());
    if status.state == Phase::Downloading {
        line("", progress_line(status));
    }
    if let Some(staged) = &status.staged {
        let next = if staged.applied { "the next boot tries it" } else { "downloaded, `apply` stages it" };
        line("staged", format!("{}: {next}", staged.version));
    } else if let Some(version) = &status.new_version {
        line("new", version.clone());
    }
    if let Some(seconds) = status.reboot_in_seconds {
        line("reboot", format!("in {seconds} s (`pause` stops it)"));
    } else if status.state == Phase::NeedReboot {
        let why = match &status.reboot_waits {
            Some(why) => why,
            _ if status.paused => "updates are paused: reboot by hand",
            _ if status.reboots_stopped => "by hand: locksmithd.service is not started",
            _ => "by hand",
        };
        line("reboot", why.to_owned());
    }
    if let Some(why) = &status.lock_kept {
        line("lock", why.clone());
    }
    line("channel", format!("{} at {}", status.channel, servers(status)));
    line("strategy", status.reboot_strategy.clone());
    let checked = status.last_checked_time;
    line("checked", if checked == 0 { "never".to_owned() } else { utc(checked.unsigned_abs()) });
    if let Some(version) = &status.pinned {
        line("pinned", version.clone());
    }
    if status.paused {
        line("paused", "nothing happens by itself (`resume`)".to_owned());
    }
    if let Some(reason) = &status.held {
        line("held", reason.clone());
    }
    for release in &status.passed_over {
        line("not taken", release.clone());
    }
    for denied in &status.denied {
        line("failed", format!("{} on {}: {}", denied.version, utc(denied.at), denied.reason));
    }
    if let Some(error) = &status.last_error {
        line("error", format!("{}: {}", utc(error.at), error.message));
    }
    for problem in &status.problems {
        line("settings", problem.clone());
    }
    text
}

fn servers(status: &Status) -> String {
    if status.servers.is_empty() {
        "no server (SERVER= is not set)".to_owned()
    } else {
        status.servers.join(", ")
    }
}

fn history_line(entry: &Happened) -> String {
    let version = entry.version.as_deref().unwrap_or("-");
    format!("{} {:<10} {version:<12} {}\n", utc(entry.at), entry.what, entry.detail)
}

/// Unix seconds as UTC.
fn utc(seconds: u64) -> String {
    crate::channel::metadata::Date::from_unix(seconds)
        .map_or_else(|| seconds.to_string(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fill::Progress;

    fn status() -> Status {
        Status {
            state: Phase::Downloading,
            last_checked_time: 1_795_676_400,
            progress: 0.25,
            new_version: Some("1.1.0".to_owned()),
            new_size: 147_931_136,
            download: Progress { fetched: 500_000, to_fetch: 2_000_000, blocks_done: 1, blocks: 4 },
            product: "ferrite".to_owned(),
            version: "1.0.0".to_owned(),
            confirmed: false,
            running_slot: None,
            other_slot: None,
            staged: None,
            channel: "stable".to_owned(),
            servers: vec!["http://a".to_owned()],
            reboot_strategy: "off".to_owned(),
            reboot_in_seconds: None,
            reboot_waits: None,
            reboots_stopped: false,
            lock_kept: None,
            pinned: None,
            paused: false,
            held: None,
            passed_over: Vec::new(),
            denied: Vec::new(),
            last_error: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_old_status_has_the_keys_of_container_linux() {
        assert_eq!(
            old_status(&status()),
            "LAST_CHECKED_TIME=1795676400\nPROGRESS=0.250000\nCURRENT_OP=UPDATE_STATUS_DOWNLOADING\n\
             NEW_VERSION=1.1.0\nNEW_SIZE=147931136\n"
        );
        let idle = Status {
            state: Phase::Idle,
            new_version: None,
            new_size: 0,
            progress: 0.0,
            last_checked_time: 0,
            ..status()
        };
        assert_eq!(
            old_status(&idle),
            "LAST_CHECKED_TIME=0\nPROGRESS=0.000000\nCURRENT_OP=UPDATE_STATUS_IDLE\nNEW_VERSION=0.0.0\nNEW_SIZE=0\n"
        );
    }

    #[test]
    fn what_a_reboot_waits_for_is_told() {
        let waits = |why: Option<&str>, stopped| {
            let why = why.map(str::to_owned);
            describe(&Status {
                state: Phase::NeedReboot,
                reboot_in_seconds: None,
                reboot_waits: why,
                reboots_stopped: stopped,
                ..status()
            })
        };
        assert!(waits(Some("held by abc for 2min"), false).contains("reboot: held by abc for 2min\n"));
        assert!(waits(None, true).contains("reboot: by hand: locksmithd.service is not started\n"));
        assert!(waits(None, false).contains("reboot: by hand\n"));
    }

    #[test]
    fn a_boot_on_trial_says_so_and_progress_is_a_bar() {
        let text = describe(&status());
        assert!(text.contains("NOT YET CONFIRMED"), "{text}");
        assert!(text.contains("[########----------------------]  25 %  0.5 of 2.0 MB fetched"), "{text}");
        assert_eq!(fetched(1_200, 18_302), "1.2 of 18.3 kB fetched");
    }

    #[test]
    fn command_lines_are_understood_or_refused() {
        let parse = |text: &str| parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("-status").unwrap().0, Wish::OldStatus);
        assert_eq!(parse("--check_for_update").unwrap().0, Wish::OldCheck);
        assert_eq!(parse("-reset_status").unwrap().0, Wish::OldReset);
        let pin = Wish::Note(Command::Pin { version: "1.1.0".to_owned() });
        assert_eq!(parse("pin 1.1.0 --json").unwrap(), (pin, Options { json: true, no_wait: false }));
        for text in ["pin", "fly", "-fly", "status now", "--json"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
