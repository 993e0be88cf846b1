//! `systemctl`, `poweroff`, `reboot`, `halt`, `shutdown`: clients of the control socket, with systemd's words and exit
//! codes (systemctl(1), "Exit status": those of the LSB).

mod health;
mod options;
mod show;

pub use health::{MEMBERS as HEALTH_MEMBERS, run as run_health};

use std::process::ExitCode;

use self::options::Options;
use crate::control::{Answer, Client, ClientError, JobRequest, Method, UnitView};

/// `program is not running` of the LSB; also what `is-active` says of anything but active.
const NOT_RUNNING: u8 = 3;
/// `program or service status is unknown`.
const UNKNOWN: u8 = 4;
/// A wrong command line.
const USAGE: u8 = 2;

const HELP: &str = "\
systemctl [OPTIONS...] COMMAND [UNIT...]

  start | stop | restart | try-restart | reload | reload-or-restart UNIT...
  isolate UNIT            stop everything that UNIT does not need
  kill UNIT... [-s SIG]   send a signal to all processes of a unit
  status [UNIT...]        state, processes, last log lines
  show UNIT... [-p NAME]  properties
  cat UNIT...             unit file and drop-ins
  is-active | is-failed | is-enabled UNIT...
  is-system-running
  list-units [PATTERN...] [--all] [--failed]
  list-jobs
  reset-failed [UNIT...]
  daemon-reload
  poweroff | reboot | halt [--force]

Options: --no-block, --quiet, --no-pager, --no-legend, --plain, --full, --all, --failed, -n LINES, -p NAME, --value, -s SIGNAL
";

/// Runs `systemctl`.
pub fn run(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("systemctl: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    if options.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match command(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs `poweroff`, `reboot`, `halt` or `shutdown`.
pub fn run_power(name: &str, arguments: &[String]) -> ExitCode {
    let has = |short: &str, long: &str| arguments.iter().any(|word| word == short || word == long);
    let action = match name {
        "shutdown" if has("-r", "--reboot") => "reboot",
        "shutdown" if has("-H", "--halt") => "halt",
        "shutdown" if has("-c", "") => {
            eprintln!("shutdown: nothing is scheduled, shutdowns begin at once");
            return ExitCode::SUCCESS;
        }
        "shutdown" => "poweroff",
        other => other,
    };
    match power(action, has("-f", "--force")) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &ClientError) {
    eprint!("{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
}

fn command(options: &Options) -> Result<u8, ClientError> {
    let words: Vec<String> = options.operands.iter().map(|name| full_name(name)).collect();
    match options.verb.as_str() {
        verb @ ("start" | "stop" | "restart" | "try-restart" | "condrestart" | "reload"
        | "reload-or-restart" | "force-reload") => jobs(verb, &words, "replace", options),
        "isolate" => jobs("start", &words, "isolate", options),
        "default" => jobs("start", &["default.target".to_owned()], "isolate", options),
        "rescue" => jobs("start", &["rescue.target".to_owned()], "isolate", options),
        "emergency" => jobs("start", &["emergency.target".to_owned()], "isolate", options),
        "poweroff" | "reboot" | "halt" => power(&options.verb, options.force),
        "status" => status(&words, options),
        "show" => show_units(&words, options),
        "cat" => cat(&words),
        "is-active" => is_state(&words, options, &["active", "reloading"], NOT_RUNNING),
        "is-failed" => is_state(&words, options, &["failed"], 1),
        "is-enabled" => is_enabled(&words, options),
        "is-system-running" => {
            let state = call(Method::State {})?.state.unwrap_or_default();
            if !options.quiet {
                println!("{state}");
            }
            Ok(u8::from(state != "running"))
        }
        "list-units" | "" => {
            let units = call(Method::List {})?.units;
            print!("{}", show::unit_table(units, &words, options));
            Ok(0)
        }
        "list-jobs" => {
            print!("{}", show::job_table(&call(Method::Jobs {})?.jobs));
            Ok(0)
        }
        "reset-failed" if words.is_empty() => call(Method::ResetFailed { unit: None }).map(|_| 0),
        "reset-failed" => each(&words, |unit| Method::ResetFailed { unit: Some(unit) }),
        "kill" => each(&words, |unit| Method::Kill { unit, signal: options.signal }),
        "daemon-reload" => call(Method::Reload {}).map(|_| 0),
        "daemon-reexec" => {
            eprintln!("systemctl: daemon-reexec is not there yet");
            Ok(1)
        }
        other => {
            eprintln!("Unknown command verb '{other}'.");
            Ok(USAGE)
        }
    }
}

fn call(method: Method) -> Result<Answer, ClientError> {
    Client::connect()?.call(method)
}

fn each(units: &[String], method: impl Fn(String) -> Method) -> Result<u8, ClientError> {
    for unit in units {
        call(method(unit.clone()))?;
    }
    Ok(0)
}

/// A name without a suffix is a service.
fn full_name(name: &str) -> String {
    let kinds = [
        "service",
        "target",
        "socket",
        "timer",
        "path",
        "mount",
        "slice",
        "device",
        "swap",
        "scope",
        "automount",
    ];
    let has_suffix = name.rsplit_once('.').is_some_and(|(_, suffix)| kinds.contains(&suffix));
    if has_suffix || name.contains(['*', '?', '[']) { name.to_owned() } else { format!("{name}.service") }
}

/// Jobs for several units: all are begun before the first is waited for.
fn jobs(verb: &str, units: &[String], mode: &str, options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let mut code = 0;
    // One connection a unit, so that the answers come in their own time.
    let threads: Vec<_> = units
        .iter()
        .map(|unit| {
            let request = JobRequest {
                unit: unit.clone(),
                verb: verb.to_owned(),
                mode: mode.to_owned(),
                wait: !options.no_block,
            };
            std::thread::spawn(move || call(Method::Job(request)))
        })
        .collect();
    for (unit, thread) in units.iter().zip(threads) {
        let Ok(answer) = thread.join() else { continue };
        match answer {
            Ok(answer) => {
                let result = answer.result.unwrap_or_default();
                if !matches!(result.as_str(), "done" | "queued" | "skipped") {
                    code = 1;
                    if !options.quiet {
                        eprintln!("{}", show::job_failure(verb, unit, &result));
                    }
                }
            }
            Err(ClientError::Refused(reason)) => {
                code = if reason.ends_with("not found.") || reason.ends_with("not loaded.") { 5 } else { 1 };
                eprintln!("Failed to {verb} {unit}: {reason}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

fn power(action: &str, force: bool) -> Result<u8, ClientError> {
    if force {
        return call(Method::ForcePower { action: action.to_owned() }).map(|_| 0);
    }
    let request = JobRequest {
        unit: format!("{action}.target"),
        verb: "start".to_owned(),
        mode: "replace-irreversibly".to_owned(),
        wait: false,
    };
    call(Method::Job(request)).map(|_| 0)
}

fn view(unit: &str) -> Result<UnitView, ClientError> {
    let answer = call(Method::Show { unit: unit.to_owned() })?;
    Ok(answer.units.into_iter().next().unwrap_or_else(|| UnitView {
        name: unit.to_owned(),
        load: "not-found".to_owned(),
        active: "inactive".to_owned(),
        ..UnitView::default()
    }))
}

fn status(units: &[String], options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        let state = call(Method::State {})?.state.unwrap_or_default();
        let all = call(Method::List {})?.units;
        print!("{}", show::machine(&state, &all, &call(Method::Jobs {})?.jobs));
        return Ok(0);
    }
    let mut code = 0;
    for unit in units {
        let view = view(unit)?;
        code = match (view.load.as_str(), view.active.as_str()) {
            ("not-found", "inactive") => UNKNOWN,
            (_, "active" | "reloading") => code,
            _ => NOT_RUNNING,
        };
        if view.load == "not-found" && view.active == "inactive" {
            eprintln!("Unit {unit} could not be found.");
        } else if !options.quiet {
            print!("{}", show::unit(&view, options));
        }
    }
    Ok(code)
}

fn show_units(units: &[String], options: &Options) -> Result<u8, ClientError> {
    let mut first = true;
    for unit in units {
        if !std::mem::take(&mut first) {
            println!();
        }
        print!("{}", show::properties(&view(unit)?, options));
    }
    Ok(0)
}

fn cat(units: &[String]) -> Result<u8, ClientError> {
    let mut code = 0;
    for unit in units {
        let view = view(unit)?;
        if view.paths.is_empty() {
            eprintln!("No files found for {unit}.");
            code = 1;
        }
        for path in &view.paths {
            let text =
                std::fs::read_to_string(path).unwrap_or_else(|error| format!("# cannot be read: {error}\n"));
            println!("# {path}\n{text}");
        }
    }
    Ok(code)
}

/// Prints each unit's state; succeeds when at least one of them has a wanted one.
fn is_state(units: &[String], options: &Options, wanted: &[&str], otherwise: u8) -> Result<u8, ClientError> {
    let mut code = otherwise;
    for unit in units {
        let view = view(unit)?;
        if wanted.contains(&view.active.as_str()) {
            code = 0;
        } else if view.load == "not-found" && otherwise == NOT_RUNNING && code != 0 {
            code = UNKNOWN;
        }
        if !options.quiet {
            println!("{}", view.active);
        }
    }
    Ok(code)
}

/// By the links in `/etc/systemd/system`, which is what enabling makes.
fn is_enabled(units: &[String], options: &Options) -> Result<u8, ClientError> {
    let mut code = 1;
    for unit in units {
        let view = view(unit)?;
        let word = show::enablement(&view);
        if matches!(word, "enabled" | "static" | "alias") {
            code = 0;
        }
        if view.load == "not-found" {
            code = UNKNOWN;
        }
        if !options.quiet {
            println!("{word}");
        }
    }
    Ok(code)
}
