//! `systemctl`, `poweroff`, `reboot`, `halt`, `shutdown`: clients of the control socket, with systemd's words and exit
//! codes (systemctl(1), "Exit status": those of the LSB).

mod files;
mod health;
mod options;
mod show;
mod status;
pub mod style;
mod tables;
mod units;

pub use health::{MEMBERS as HEALTH_MEMBERS, run as run_health};

use std::collections::VecDeque;
use std::process::ExitCode;

use self::options::Options;
use self::style::Style;
use crate::control::{Answer, Client, ClientError, JobRequest, Method, RefusalKind};

/// Jobs that are waited for at one time: fewer than PID 1 has room for clients.
const MOST_WAITING: usize = 32;
/// `program is not running` of the LSB; also what `is-active` says of anything but active.
const NOT_RUNNING: u8 = 3;
/// `program or service status is unknown`.
const UNKNOWN: u8 = 4;
/// A wrong command line.
const USAGE: u8 = 2;

const HELP: &str = "\
systemctl [OPTIONS...] COMMAND [UNIT...]

Units:
  list-units [PATTERN...]         units that are loaded
  list-timers [PATTERN...]        timers, the next first
  list-sockets [PATTERN...]       what sockets listen at
  list-dependencies [UNIT...]     what units need, as a tree
  list-jobs [PATTERN...]          cancel [JOB...]
  status [UNIT...]                state, processes, last log lines
  show UNIT... [-p NAME]          properties
  cat UNIT...                     unit file and drop-ins
  is-active | is-failed UNIT...
  start | stop | restart | try-restart | reload | reload-or-restart UNIT...
  kill UNIT... [-s SIGNAL] [--kill-whom=main|control|all]
  isolate UNIT                    stop everything that UNIT does not need
  reset-failed [UNIT...]

Unit files:
  list-unit-files [PATTERN...]
  enable | disable | reenable UNIT|PATH...
  mask | unmask UNIT...           link PATH...
  is-enabled UNIT...
  edit UNIT... [--full] [--stdin]
  get-default | set-default TARGET

Machine:
  is-system-running [--wait]      daemon-reload | daemon-reexec
  poweroff | reboot | halt [--force]      rescue | emergency | default

Options: --no-block --wait --now -q/--quiet -a/--all --failed -t/--type=TYPE --state=STATE -o/--output=json|json-pretty
  --no-legend --no-pager --plain -n/--lines=N -p/--property=NAME --value -s/--signal=SIGNAL --reverse --before --after
  --runtime -f/--force --root=DIR --job-mode=MODE
";

/// What a refused job ends with, after the LSB's table for init scripts: not implemented, not permitted, not installed.
fn exit_status(refusal: RefusalKind) -> u8 {
    match refusal {
        RefusalKind::Other => 1,
        RefusalKind::NotApplicable => 3,
        RefusalKind::NotPermitted => 4,
        RefusalKind::NoSuchUnit => 5,
    }
}

/// Runs `systemctl`.
pub fn run(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => Options { style: Style::of_stdout(), ..options },
        Err(problem) => {
            eprintln!("systemctl: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    if options.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if options.version {
        println!("systemctl of Ferrite {}", env!("CARGO_PKG_VERSION"));
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

/// Verbs that ask for a job of each unit.
const JOB_VERBS: [&str; 9] = [
    "start",
    "stop",
    "restart",
    "try-restart",
    "condrestart",
    "reload",
    "reload-or-restart",
    "try-reload-or-restart",
    "force-reload",
];

fn command(options: &Options) -> Result<u8, ClientError> {
    let verb = options.verb.as_str();
    let patterns = &options.operands;
    // Commands that need no PID 1, and those that do not take loaded units for their patterns.
    match verb {
        "enable" | "disable" | "reenable" | "mask" | "unmask" | "link" | "set-default" => {
            return files_and_jobs(verb, &files::names(patterns), options);
        }
        "get-default" => return Ok(files::get_default(options)),
        "is-enabled" => return Ok(files::is_enabled(&files::names(patterns), options)),
        "list-unit-files" => {
            print!("{}", files::list(&units::patterns(patterns), options));
            return Ok(0);
        }
        "cat" => return Ok(files::cat(&files::names(patterns), options)),
        "edit" => return files::edit(&files::names(patterns), options),
        "list-units" | "" => return units::list(&units::patterns(patterns), options),
        "list-timers" => return units::timers(&units::patterns(patterns), options),
        "list-sockets" => return units::sockets(&units::patterns(patterns), options),
        "list-jobs" => return units::jobs(&units::patterns(patterns), options),
        "poweroff" | "reboot" | "halt" => return power(verb, options.force),
        "daemon-reload" => return call(Method::Reload {}).map(|_| 0),
        "daemon-reexec" => return call(Method::Reexec {}).map(|_| 0),
        "cancel" if patterns.is_empty() => return call(Method::Cancel { job: None }).map(|_| 0),
        "cancel" => return cancel(patterns),
        "is-system-running" => return units::is_system_running(options),
        "default" | "rescue" | "emergency" => {
            return jobs("start", &[format!("{verb}.target")], "isolate", options);
        }
        _ => {}
    }
    let words = units::expand(patterns)?;
    let nothing_fits = words.is_empty() && !patterns.is_empty();
    match verb {
        // A pattern that fits nothing loaded has nothing to be done to it.
        "status" | "kill" | "reset-failed" if nothing_fits => Ok(0),
        verb if JOB_VERBS.contains(&verb) && nothing_fits => Ok(0),
        verb if JOB_VERBS.contains(&verb) => jobs(verb, &words, &options.job_mode, options),
        "isolate" => jobs("start", &words, "isolate", options),
        "status" => units::status(&words, options),
        "show" => units::show(&words, options),
        "list-dependencies" => units::dependencies(&words, options),
        "is-active" => units::is_state(&words, options, &["active", "reloading"], NOT_RUNNING),
        "is-failed" if words.is_empty() => units::is_degraded(options),
        "is-failed" => units::is_state(&words, options, &["failed"], 1),
        "reset-failed" if words.is_empty() => call(Method::ResetFailed { unit: None }).map(|_| 0),
        "reset-failed" => each(&words, |unit| Method::ResetFailed { unit: Some(unit) }),
        "kill" => {
            each(&words, |unit| Method::Kill { unit, signal: options.signal, whom: options.whom.clone() })
        }
        other => {
            eprintln!("Unknown command verb '{other}'.");
            Ok(USAGE)
        }
    }
}

/// Links, and with `--now` what they ask for at once.
fn files_and_jobs(verb: &str, units: &[String], options: &Options) -> Result<u8, ClientError> {
    let code = files::change(verb, units, options)?;
    let then = match verb {
        "enable" | "reenable" => "start",
        "disable" | "mask" => "stop",
        _ => return Ok(code),
    };
    if !options.now || code != 0 {
        return Ok(code);
    }
    let names =
        units.iter().map(|unit| unit.rsplit_once('/').map_or(unit.clone(), |(_, file)| file.to_owned()));
    jobs(then, &names.collect::<Vec<_>>(), &options.job_mode, options)
}

fn call(method: Method) -> Result<Answer, ClientError> {
    Client::connect()?.call(method)
}

/// Calls a method for every unit; one that is refused does not keep the others from it.
fn each(units: &[String], method: impl Fn(String) -> Method) -> Result<u8, ClientError> {
    let mut code = 0;
    for unit in units {
        match call(method(unit.clone())) {
            Ok(_) => {}
            Err(error @ ClientError::Refused(_)) => {
                report(&error);
                code = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

fn cancel(jobs: &[String]) -> Result<u8, ClientError> {
    for job in jobs {
        let Ok(number) = job.parse() else {
            eprintln!("Failed to parse job id: {job}");
            return Ok(1);
        };
        call(Method::Cancel { job: Some(number) })?;
    }
    Ok(0)
}

/// Jobs for several units: all are begun before the first is waited for, up to [`MOST_WAITING`].
fn jobs(verb: &str, units: &[String], mode: &str, options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let mut code = 0;
    // One connection a unit, so that the answers come in their own time; asked in the order in which they were written,
    // for a path unit that is to be stopped before its service must not start it once more.
    let mut waiting: VecDeque<(&String, Client)> = VecDeque::new();
    let mut answers = Vec::new();
    for unit in units {
        if waiting.len() >= MOST_WAITING
            && let Some((earlier, mut client)) = waiting.pop_front()
        {
            answers.push((earlier, client.receive()));
        }
        let mut client = Client::connect()?;
        client.send(Method::Job(JobRequest {
            unit: unit.clone(),
            verb: verb.to_owned(),
            mode: mode.to_owned(),
            wait: !options.no_block,
        }))?;
        waiting.push_back((unit, client));
    }
    answers.extend(waiting.into_iter().map(|(unit, mut client)| (unit, client.receive())));
    for (unit, answer) in answers {
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
            Err(ClientError::Refused(refusal)) => {
                code = exit_status(refusal.kind);
                eprintln!("Failed to {verb} {unit}: {}", refusal.text);
            }
            Err(error) => return Err(error),
        }
    }
    if options.wait && verb == "start" && code == 0 {
        return units::wait_until_down(units);
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
