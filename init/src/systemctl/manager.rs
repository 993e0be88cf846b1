//! Commands about the manager itself and its environment; `freeze`, `thaw`, `whoami` and `help`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::options::Options;
use super::units::{now_and_then, view};
use super::{USAGE, call};
use crate::control::{ClientError, Method};
use crate::pid1::cgroup::unit_of;

/// How long the kernel may take to stop all processes of a unit, or to let them go on.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// `show` without a unit.
pub fn show(options: &Options) -> Result<u8, ClientError> {
    for (name, value) in call(Method::Manager {})?.properties {
        let is_wanted = options.properties.is_empty() || options.properties.contains(&name);
        let is_told = !value.is_empty() || options.all || !options.properties.is_empty();
        match options.value {
            _ if !is_wanted || !is_told => {}
            true => println!("{value}"),
            false => println!("{name}={value}"),
        }
    }
    Ok(0)
}

/// `show-environment`, `set-environment`, `unset-environment`, `import-environment`.
pub fn environment(verb: &str, operands: &[String]) -> Result<u8, ClientError> {
    let none = Vec::new;
    let (set, unset) = match verb {
        "show-environment" => (none(), none()),
        "import-environment" => match imported(operands) {
            Ok(set) => (set, none()),
            Err(problem) => {
                eprintln!("{problem}");
                return Ok(1);
            }
        },
        _ if operands.is_empty() => {
            eprintln!("Too few arguments.");
            return Ok(USAGE);
        }
        "set-environment" => (operands.to_vec(), none()),
        _ => (none(), operands.to_vec()),
    };
    let all = call(Method::Environment { set, unset })?.properties;
    if verb == "show-environment" {
        all.iter().for_each(|(name, value)| println!("{name}={}", quoted(value)));
    }
    Ok(0)
}

/// Variables of this process: those that are named, or all that are fit.
fn imported(names: &[String]) -> Result<Vec<String>, String> {
    let assignment = |name: &str, value: &str| format!("{name}={value}");
    if names.is_empty() {
        eprintln!(
            "Calling import-environment without a list of variable names is deprecated: every variable of this shell goes to every service."
        );
        let is_fit = |name: &String| image_config::unit::is_variable_name(name);
        return Ok(std::env::vars()
            .filter(|(name, _)| is_fit(name))
            .map(|(name, value)| assignment(&name, &value))
            .collect());
    }
    let mut set = Vec::new();
    for name in names {
        if !image_config::unit::is_variable_name(name) {
            return Err(format!("Not a valid environment variable name: {name}"));
        }
        match std::env::var(name) {
            Ok(value) => set.push(assignment(name, &value)),
            Err(_) => eprintln!("Environment variable ${name} not set, ignoring."),
        }
    }
    Ok(set)
}

/// A value as a shell reads it.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-+.,/:=@%^".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut text = String::from("$'");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\'' | '\\' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// `freeze` and `thaw`: done when the processes stand still, or go on.
pub fn freeze(verb: &str, units: &[String]) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let mut code = 0;
    for unit in units {
        let freeze = verb == "freeze";
        match call(Method::Freeze { unit: unit.clone(), freeze }) {
            Ok(_) => {
                let wanted = if freeze { "frozen" } else { "running" };
                let begin = Instant::now();
                let done = |state: Option<&str>| state.is_none_or(|state| state == wanted);
                while !done(super::show::property(&view(unit)?, "FreezerState")) {
                    if begin.elapsed() > FREEZE_PATIENCE {
                        eprintln!("Failed to {verb} unit {unit}: its processes do not obey.");
                        code = 1;
                        break;
                    }
                    now_and_then();
                }
            }
            Err(ClientError::Refused(refusal)) => {
                eprintln!("Failed to {verb} unit {unit}: {}", refusal.text);
                code = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}

/// `whoami`: the units of processes, by default of this one.
pub fn whoami(operands: &[String]) -> u8 {
    let own = [std::process::id().to_string()];
    let mut code = 0;
    for word in if operands.is_empty() { &own[..] } else { operands } {
        match word.parse::<u32>().map(unit_of) {
            Err(_) => {
                eprintln!("Failed to parse PID: {word}");
                code = 1;
            }
            Ok(Some(unit)) if !unit.is_empty() => println!("{unit}"),
            Ok(_) => {
                eprintln!("Failed to get unit of PID {word}: it belongs to none, or is gone.");
                code = 1;
            }
        }
    }
    code
}

/// `help`: the manual pages of units; where there is no `man`, what their `Documentation=` says.
pub fn help(units: &[String]) -> Result<u8, ClientError> {
    if units.is_empty() {
        print!("{}", super::help::HELP);
        return Ok(0);
    }
    let mut code = 0;
    for unit in units {
        let pages = view(unit)?.documentation;
        if pages.is_empty() {
            eprintln!("Documentation for {unit} not known.");
            code = 1;
        }
        for page in pages {
            let manual =
                page.strip_prefix("man:").and_then(|page| page.trim_end_matches(')').split_once('('));
            let shown = manual.is_some_and(|(name, section)| {
                let man = Command::new("man").args([section, name]).status();
                man.is_ok_and(|status| status.success())
            });
            if !shown {
                println!("{page}");
            }
        }
    }
    Ok(code)
}

/// The unit of a process that `status` was asked about.
pub fn unit_of_process(word: &str) -> Option<String> {
    let pid = word.parse::<u32>().ok()?;
    // Only processes have numbers for names.
    fs::metadata(format!("/proc/{pid}")).ok()?;
    unit_of(pid).filter(|unit| !unit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_a_shell() {
        assert_eq!(quoted("/usr/bin:/bin"), "/usr/bin:/bin");
        assert_eq!(quoted("a b'c\\\n"), "$'a b\\'c\\\\\\n'");
    }

    #[test]
    fn only_variables_that_are_named_and_there_are_imported() {
        let names = ["PATH".to_owned(), "NO_SUCH_VARIABLE_HERE".to_owned()];
        let set = imported(&names).unwrap();
        assert!(set.len() == 1 && set[0].starts_with("PATH="), "{set:?}");
        assert!(imported(&["1X".to_owned()]).is_err());
    }
}
