//! `systemd-analyze time`, `blame` and `critical-chain`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::boot::marks;
use crate::control::{Client, ClientError, Method, UnitView};
use crate::systemctl::style::{Colour, Style};

/// Targets whose start ends the boot, most telling first.
const GOALS: [&str; 4] = ["graphical.target", "multi-user.target", "rescue.target", "emergency.target"];

fn call(method: Method) -> Result<Vec<UnitView>, ClientError> {
    Ok(Client::connect()?.call(method)?.units)
}

fn show(unit: &str) -> Result<Option<UnitView>, ClientError> {
    Ok(call(Method::Show { unit: unit.to_owned() })?.into_iter().next())
}

/// `time`: the parts of the boot; 1 while it goes on.
pub fn time() -> Result<u8, ClientError> {
    let state = Client::connect()?.call(Method::State {})?.state.unwrap_or_default();
    let units = call(Method::List {})?;
    let reached =
        |name: &str| units.iter().find(|unit| unit.name == name).map(active_enter).filter(|when| *when > 0);
    let goal = GOALS.iter().find_map(|name| Some((*name, reached(name)?)));
    let (Some(goal), false) = (goal, matches!(state.as_str(), "initializing" | "starting")) else {
        eprintln!(
            "Bootup is not yet finished. Please try again later.\nHint: use 'systemctl list-jobs' to see what it waits for."
        );
        return Ok(1);
    };
    let stages = marks::stages();
    let finished = units.iter().map(active_enter).filter(|when| *when <= goal.1).max().unwrap_or(goal.1);
    print!("{}", startup(&stages, goal, finished));
    Ok(0)
}

/// The two lines of `time`.
fn startup(stages: &marks::Stages, (goal, reached): (&str, u64), finished: u64) -> String {
    let mut parts: Vec<(u64, &str)> = Vec::new();
    parts.extend(stages.firmware.map(|span| (span, "firmware")));
    parts.extend(stages.loader.map(|span| (span, "loader")));
    // The kernel's clock starts with the kernel; the initramfs begins with the first process and ends with `/usr`.
    let user_space = stages.usr.or(stages.first_process).unwrap_or(0);
    if let Some(first) = stages.first_process {
        parts.push((first, "kernel"));
        if let Some(usr) = stages.usr {
            parts.push((usr.saturating_sub(first), "initrd"));
        }
    }
    parts.push((finished.saturating_sub(user_space), "userspace"));
    let total: u64 = parts.iter().map(|(span, _)| span).sum();
    let shown: Vec<String> =
        parts.iter().map(|(span, what)| format!("{} ({what})", seconds(*span))).collect();
    format!(
        "Startup finished in {} = {}\n{goal} reached after {} in userspace.\n",
        shown.join(" + "),
        seconds(total),
        seconds(reached.saturating_sub(user_space))
    )
}

fn active_enter(unit: &UnitView) -> u64 {
    unit.times[1]
}

/// How long a unit took to start; `None` when it took no time or is not there yet.
fn start_span(unit: &UnitView) -> Option<u64> {
    let [began, up, ..] = unit.times;
    (began > 0 && up > began).then(|| up - began)
}

/// `blame`.
pub fn blame() -> Result<u8, ClientError> {
    print!("{}", blame_table(&call(Method::List {})?));
    Ok(0)
}

fn blame_table(units: &[UnitView]) -> String {
    let mut spans: Vec<(u64, &str)> =
        units.iter().filter_map(|unit| Some((start_span(unit)?, unit.name.as_str()))).collect();
    spans.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    let width = spans.iter().map(|(span, _)| seconds(*span).len()).max().unwrap_or(0);
    spans.iter().fold(String::new(), |mut out, (span, name)| {
        // Writing into a string does not fail.
        let _cannot_fail = writeln!(out, "{:>width$} {name}", seconds(*span));
        out
    })
}

/// `critical-chain`.
pub fn critical_chain(units: &[String]) -> Result<u8, ClientError> {
    let all: BTreeMap<String, UnitView> =
        call(Method::List {})?.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
    let default = || GOALS.iter().find(|name| all.get(**name).is_some_and(|unit| active_enter(unit) > 0));
    let wanted = match units {
        [] => default().map(|name| vec![(*name).to_owned()]).unwrap_or_default(),
        units => units.to_vec(),
    };
    println!(
        "The time when unit became active or started is printed after the \"@\" character.\n\
         The time the unit took to start is printed after the \"+\" character.\n"
    );
    let mut failure = None;
    for unit in &wanted {
        let mut after = |name: &str| match show(name) {
            Ok(view) => relations(view.as_ref(), "After"),
            Err(error) => {
                failure = Some(error);
                Vec::new()
            }
        };
        let zero = marks::stages().usr.unwrap_or(0);
        print!("{}", chain(unit, &all, zero, Style::of_stdout(), &mut after));
    }
    failure.map_or(Ok(0), Err)
}

fn relations(view: Option<&UnitView>, name: &str) -> Vec<String> {
    let found = view.and_then(|view| view.properties.iter().find(|(property, _)| property == name));
    found.map(|(_, names)| names.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// The unit, below it that one of those which it came after that was up last, and so on.
fn chain(
    unit: &str,
    all: &BTreeMap<String, UnitView>,
    zero: u64,
    style: Style,
    after: &mut dyn FnMut(&str) -> Vec<String>,
) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    let mut current = all.get(unit);
    let mut depth = 0;
    while let Some(view) = current.filter(|view| seen.insert(view.name.clone())) {
        let indent = if depth == 0 { String::new() } else { format!("{}└─", "  ".repeat(depth - 1)) };
        let at = if active_enter(view) > 0 { active_enter(view) } else { view.times[0] };
        let mut text = if at > 0 {
            format!("{} @{}", view.name, seconds(at.saturating_sub(zero)))
        } else {
            view.name.clone()
        };
        if let Some(span) = start_span(view) {
            text = style.paint(Colour::Red, &format!("{text} +{}", seconds(span)));
        }
        let _cannot_fail = writeln!(out, "{indent}{text}");
        let began = view.times[0];
        let before = after(&view.name);
        // What was up only later was not waited for.
        current = before
            .iter()
            .filter_map(|name| all.get(name))
            .filter(|other| (1..=began).contains(&active_enter(other)))
            .max_by_key(|other| (active_enter(other), other.name.as_str()));
        depth += 1;
    }
    out
}

/// `1min 2.345s`, `345ms`, from microseconds: whole milliseconds, as systemd shows them.
fn seconds(micros: u64) -> String {
    let ms = micros / 1000;
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let text = match (minutes, rest) {
        (0, rest) if rest < 1000 => return if ms == 0 { format!("{micros}us") } else { format!("{rest}ms") },
        (_, rest) if rest % 1000 == 0 => format!("{}s", rest / 1000),
        (_, rest) => format!("{}.{:03}s", rest / 1000, rest % 1000),
    };
    if minutes == 0 { text } else { format!("{minutes}min {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, began: u64, up: u64) -> (String, UnitView) {
        let times = [began * 1000, up * 1000, 0, 0];
        (name.to_owned(), UnitView { name: name.to_owned(), times, ..UnitView::default() })
    }

    #[test]
    fn the_parts_of_a_boot_add_up() {
        let stages = marks::Stages {
            firmware: Some(3_900_000),
            loader: Some(300_000),
            first_process: Some(1_000_000),
            usr: Some(1_500_000),
        };
        let text = startup(&stages, ("multi-user.target", 3_500_000), 3_750_000);
        let want = "Startup finished in 3.900s (firmware) + 300ms (loader) + 1s (kernel) + 500ms (initrd) + 2.250s (userspace) = 7.950s\n\
                    multi-user.target reached after 2s in userspace.\n";
        assert_eq!(text, want);
    }

    #[test]
    fn the_slowest_is_blamed_first() {
        let units = [
            unit("quick.service", 10, 15),
            unit("slow.service", 10, 2010),
            unit("none.target", 10, 10),
            unit("never.service", 0, 0),
        ];
        let units: Vec<UnitView> = units.into_iter().map(|(_, unit)| unit).collect();
        assert_eq!(blame_table(&units), " 2s slow.service\n5ms quick.service\n");
    }

    #[test]
    fn the_chain_follows_what_was_waited_for() {
        let all = BTreeMap::from([
            unit("goal.target", 100, 100),
            unit("slow.service", 20, 100),
            unit("quick.service", 20, 30),
            unit("late.service", 10, 500),
            unit("base.target", 20, 20),
        ]);
        let mut after = |name: &str| {
            let names: &[&str] = match name {
                "goal.target" => &["quick.service", "slow.service", "late.service", "unknown.service"],
                "slow.service" => &["base.target"],
                "base.target" => &["goal.target"],
                _ => &[],
            };
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let text = chain("goal.target", &all, 10_000, Style::default(), &mut after);
        assert_eq!(text, "goal.target @90ms\n└─slow.service @90ms +80ms\n  └─base.target @10ms\n");
        assert_eq!(seconds(62_345_678), "1min 2.345s");
    }
}
