//! `poweroff`, `reboot`, `halt` and `shutdown`.
//!
//! Nothing is taken for a wish to go down that might be none: a word that is not understood is an error.

use std::process::ExitCode;

use super::help::{POWER_HELP, SHUTDOWN_HELP};
use super::{call, report};
use crate::control::{ClientError, JobRequest, Method};

/// What a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Down: `poweroff`, `reboot` or `halt`, and whether services are left to die.
    Down(&'static str, bool),
    /// Nothing but a text.
    Say(&'static str),
    /// Nothing.
    Nothing,
}

/// Runs `poweroff`, `reboot`, `halt` or `shutdown`.
pub fn run(name: &str, arguments: &[String]) -> ExitCode {
    let wish = if name == "shutdown" { of_shutdown(arguments) } else { of_power(name, arguments) };
    let code = match wish {
        Err(problem) => {
            eprintln!("{name}: {problem}");
            return ExitCode::FAILURE;
        }
        Ok(Wish::Say(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Wish::Nothing) => return ExitCode::SUCCESS,
        Ok(Wish::Down(action, force)) => begin(action, force),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn of_power(name: &str, arguments: &[String]) -> Result<Wish, String> {
    let mut action = match name {
        "reboot" => "reboot",
        "halt" => "halt",
        _ => "poweroff",
    };
    let mut force = false;
    let mut nothing = false;
    for word in arguments {
        match word.as_str() {
            "--help" => return Ok(Wish::Say(POWER_HELP)),
            "-p" | "--poweroff" => action = "poweroff",
            "--reboot" => action = "reboot",
            "--halt" => action = "halt",
            "-f" | "--force" | "-ff" => force = true,
            "-w" | "--wtmp-only" => nothing = true,
            // No record of logins, nobody else to tell, disks are always synchronised; `-d`, `-n` and `-h` are of old.
            "-d" | "--no-wtmp" | "--no-wall" | "-n" | "--no-sync" | "-i" => {}
            word if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
            word => return Err(format!("'{word}' has no meaning here: the firmware takes no argument")),
        }
    }
    Ok(if nothing { Wish::Nothing } else { Wish::Down(action, force) })
}

fn of_shutdown(arguments: &[String]) -> Result<Wish, String> {
    let mut action = "poweroff";
    let mut only_say = false;
    for word in arguments {
        match word.as_str() {
            "--help" => return Ok(Wish::Say(SHUTDOWN_HELP)),
            "-P" | "-h" | "--poweroff" => action = "poweroff",
            "-r" | "--reboot" => action = "reboot",
            "-H" | "--halt" => action = "halt",
            "-k" => only_say = true,
            "-c" => return Ok(Wish::Say("Nothing is scheduled: shutdowns begin at once.\n")),
            "--no-wall" => {}
            "now" | "+0" => {}
            word if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
            // Half of a wish is worse than none: it would be now, and not then.
            word if word.starts_with('+') || word.contains(':') => {
                return Err(format!(
                    "'{word}': shutdowns cannot be scheduled; `shutdown now`, or a timer that starts {action}.target"
                ));
            }
            // What is left is the text for those who are logged in, after the time.
            _ => {}
        }
    }
    Ok(if only_say { Wish::Say("The system would go down now.\n") } else { Wish::Down(action, false) })
}

/// Begins to take the machine down; with `force` without stopping services.
pub(super) fn begin(action: &str, force: bool) -> Result<u8, ClientError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &str) -> Result<Wish, String> {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let name = words.next().unwrap();
        let words: Vec<String> = words.collect();
        if name == "shutdown" { of_shutdown(&words) } else { of_power(&name, &words) }
    }

    #[test]
    fn the_machine_goes_down_only_when_that_was_asked_for() {
        for (line, action, force) in [
            ("reboot", "reboot", false),
            ("halt -p", "poweroff", false),
            ("poweroff -f", "poweroff", true),
            ("shutdown -r now", "reboot", false),
            ("shutdown -h +0 going down", "poweroff", false),
            ("shutdown", "poweroff", false),
        ] {
            assert_eq!(wish(line), Ok(Wish::Down(action, force)), "{line}");
        }
        for line in ["reboot --help", "shutdown --help", "shutdown -c", "shutdown -k now"] {
            assert!(matches!(wish(line), Ok(Wish::Say(_))), "{line}");
        }
        assert_eq!(wish("reboot -w"), Ok(Wish::Nothing));
        for line in ["reboot --hepl", "reboot now", "shutdown +5", "shutdown -r 23:00", "shutdown --fast"] {
            assert!(wish(line).is_err(), "{line}");
        }
    }
}
