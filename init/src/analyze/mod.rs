//! `systemd-analyze`: how long the boot took and why, whether unit files are sound, when calendar events elapse.
//!
//! systemd-analyze(1). Deliberately absent: what needs a D-Bus (`dump`, `log-level`), and what looks at other programs
//! (`security`, `fdstore`).

mod boot;
mod calendar;
mod verify;

use std::process::ExitCode;

use crate::control::ClientError;

/// A wrong command line.
const USAGE: u8 = 1;

const HELP: &str = "\
systemd-analyze COMMAND ...

  time                       how long each part of the boot took
  blame                      units by how long they took to start
  critical-chain [UNIT...]   the units that a unit waited for, one behind the other
  verify FILE|UNIT...        what is wrong with unit files; 1 when one of them cannot be started
  calendar EXPRESSION... [--iterations=N] [--base-time=TIMESTAMP]
                             normal form and next moments of calendar events
  timestamp TIMESTAMP...     what a timestamp means
  timespan SPAN...           what a span of time means

Options: --no-pager, --root=DIR (verify)
";

/// The command line: options may stand anywhere.
struct Arguments {
    operands: Vec<String>,
    iterations: u32,
    base_time: Option<String>,
    root: std::path::PathBuf,
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Arguments, String> {
        let mut out = Arguments { operands: Vec::new(), iterations: 1, base_time: None, root: "/".into() };
        let mut words = words.iter();
        let mut only_operands = false;
        while let Some(word) = words.next() {
            // A calendar event may begin with `-`, but not with a letter behind it.
            let is_option = word.starts_with("--") || matches!(word.as_str(), "-h");
            if only_operands || !is_option {
                out.operands.push(word.clone());
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| format!("option '{name}' needs a value"))
            };
            match name {
                "--" => only_operands = true,
                "-h" | "--help" => out.operands = vec!["help".to_owned()],
                "--no-pager" | "--system" | "--man" | "--quiet" | "--recursive-errors" => {}
                "--iterations" => {
                    out.iterations =
                        value()?.parse().map_err(|_| "option '--iterations' needs a number".to_owned())?;
                }
                "--base-time" => out.base_time = Some(value()?),
                "--root" => out.root = value()?.into(),
                _ => return Err(format!("unknown option '{word}'")),
            }
        }
        Ok(out)
    }
}

/// Runs `systemd-analyze`.
pub fn run(words: &[String]) -> ExitCode {
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("systemd-analyze: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let (verb, operands) = match arguments.operands.split_first() {
        Some((verb, operands)) => (verb.as_str(), operands),
        None => ("time", &[][..]),
    };
    let code = match verb {
        "help" => {
            print!("{HELP}");
            Ok(0)
        }
        "time" => boot::time(),
        "blame" => boot::blame(),
        "critical-chain" => boot::critical_chain(operands),
        "verify" => Ok(verify::run(operands, &arguments.root)),
        "calendar" => Ok(calendar::events(operands, arguments.iterations, arguments.base_time.as_deref())),
        "timestamp" => Ok(calendar::timestamps(operands)),
        "timespan" => Ok(calendar::spans(operands)),
        other => {
            eprintln!("Unknown command verb '{other}'.");
            Ok(USAGE)
        }
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &ClientError) {
    eprintln!("{}", crate::early::console::chain(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere_and_expressions_may_begin_with_a_hyphen() {
        let words = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
        let parsed =
            Arguments::parse(&words("calendar|--iterations=3|*-*-1|--base-time|2026-01-01|-|--|--x"))
                .unwrap();
        assert_eq!(parsed.operands, ["calendar", "*-*-1", "-", "--x"]);
        assert_eq!((parsed.iterations, parsed.base_time.as_deref()), (3, Some("2026-01-01")));
        assert!(Arguments::parse(&words("calendar|--iterations=x")).is_err());
        assert!(Arguments::parse(&words("--frob")).is_err());
    }
}
