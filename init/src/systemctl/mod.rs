//! `systemctl`, `poweroff`, `reboot`, `halt`, `shutdown`: clients of the control socket, with systemd's words and exit
//! codes (systemctl(1), "Exit status": those of the LSB).

mod edit;
mod files;
mod health;
mod help;
mod manager;
mod options;
mod power;
mod property;
mod show;
mod status;
pub mod style;
mod tables;
mod units;

pub use health::{MEMBERS as HEALTH_MEMBERS, run as run_health};
pub use power::run as run_power;

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
const USAGE: u8 = 1;

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
        print!("{}", help::HELP);
        return ExitCode::SUCCESS;
    }
    if options.version {
        // Scripts read the first line for what they may expect.
        println!("systemd 257 (Ferrite {})", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if let Some(list) = &options.word_list {
        print!("{list}");
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
        "enable" | "disable" | "reenable" | "preset" | "preset-all" | "mask" | "unmask" | "link"
        | "revert" | "add-wants" | "add-requires" => {
            return files_and_jobs(verb, &files::names(patterns), options);
        }
        "set-default" => {
            let targets: Vec<String> = patterns.iter().map(|word| files::target(word)).collect();
            return files::change(verb, &targets, options);
        }
        "get-default" => return Ok(files::get_default(options)),
        "is-enabled" => return Ok(files::is_enabled(&files::names(patterns), options)),
        "list-unit-files" => {
            let (text, found) = files::list(&units::patterns(patterns), options);
            print!("{text}");
            // Asked for by name, and there is none.
            return Ok(u8::from(!found && !patterns.is_empty()));
        }
        "cat" => return Ok(files::cat(&files::names(patterns), options)),
        "edit" => return edit::edit(&files::names(patterns), options),
        "set-property" => return property::run(patterns, options),
        "whoami" => return Ok(manager::whoami(patterns)),
        "list-automounts" => {
            print!("{}", tables::automounts(options));
            return Ok(0);
        }
        "list-paths" => return units::paths(&units::patterns(patterns), options),
        "show-environment" | "set-environment" | "unset-environment" | "import-environment" => {
            return manager::environment(verb, patterns);
        }
        "show" if patterns.is_empty() => return manager::show(options),
        "list-units" | "" => return units::list(&units::patterns(patterns), options),
        "list-timers" => return units::timers(&units::patterns(patterns), options),
        "list-sockets" => return units::sockets(&units::patterns(patterns), options),
        "list-jobs" => return units::jobs(&units::patterns(patterns), options),
        "poweroff" | "reboot" | "halt" if !patterns.is_empty() => {
            eprintln!("Too many arguments.");
            return Ok(USAGE);
        }
        "poweroff" | "reboot" | "halt" if options.dry_run => return Ok(0),
        "poweroff" | "reboot" | "halt" => return power::begin(verb, options.force),
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
        "status" | "kill" | "reset-failed" | "show" | "freeze" | "thaw" | "help" if nothing_fits => Ok(0),
        "is-active" | "is-failed" if nothing_fits => Ok(UNKNOWN),
        "kill" | "isolate" if words.is_empty() => {
            eprintln!("Too few arguments.");
            Ok(USAGE)
        }
        "isolate" if words.len() > 1 => {
            eprintln!("Too many arguments.");
            Ok(USAGE)
        }
        "freeze" | "thaw" => manager::freeze(verb, &words),
        "help" => manager::help(&words),
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
        "reset-failed" => {
            each("reset failed state of unit", &words, |unit| Method::ResetFailed { unit: Some(unit) })
        }
        "kill" => each("kill unit", &words, |unit| Method::Kill {
            unit,
            signal: options.signal,
            whom: options.whom.clone(),
        }),
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
fn each(what: &str, units: &[String], method: impl Fn(String) -> Method) -> Result<u8, ClientError> {
    let mut code = 0;
    for unit in units {
        match call(method(unit.clone())) {
            Ok(_) => {}
            Err(ClientError::Refused(refusal)) => {
                eprintln!("Failed to {what} {unit}: {}", refusal.text);
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
