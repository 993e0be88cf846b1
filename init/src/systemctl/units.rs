//! Commands that look at units: lists, `status`, `show`, `is-active` and the like.

use std::collections::BTreeMap;
use std::time::Duration;

use image_config::unit::complete_unit_name;
use image_config::unit::time::{TimeZones, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use super::options::{Direction, Options};
use super::tables::{self, Node};
use super::{NOT_RUNNING, UNKNOWN, USAGE, call, files, manager, show, status};
use crate::control::{ClientError, Method, UnitView};
use crate::pid1::zones::ZoneFiles;

/// Pause between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(100);

fn has_wildcards(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Patterns of lists: a name without a suffix is a service.
pub fn patterns(operands: &[String]) -> Vec<String> {
    operands.iter().map(|word| complete_unit_name(word)).collect()
}

/// Names, patterns replaced by the loaded units that fit.
pub fn expand(operands: &[String]) -> Result<Vec<String>, ClientError> {
    let mut names = Vec::new();
    for word in operands {
        if has_wildcards(word) {
            let units = call(Method::List {})?.units;
            let fitting = units.into_iter().map(|unit| unit.name);
            names.extend(fitting.filter(|name| tables::fits(std::slice::from_ref(word), name)));
        } else {
            names.push(complete_unit_name(word));
        }
    }
    names.dedup();
    Ok(names)
}

/// Waits a little before the next look.
pub(super) fn now_and_then() {
    std::thread::sleep(PAUSE);
}

fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp(time.tv_sec * 1_000_000 + time.tv_nsec / 1000)
}

/// `list-units`.
pub fn list(patterns: &[String], options: &Options) -> Result<u8, ClientError> {
    print!("{}", tables::units(call(Method::List {})?.units, patterns, options));
    Ok(0)
}

/// `list-jobs`.
pub fn jobs(patterns: &[String], options: &Options) -> Result<u8, ClientError> {
    print!("{}", tables::jobs(&call(Method::Jobs {})?.jobs, patterns, options));
    Ok(0)
}

/// `list-timers`.
pub fn timers(patterns: &[String], options: &Options) -> Result<u8, ClientError> {
    let timers = call(Method::Timers {})?.timers;
    print!("{}", tables::timers(timers, patterns, now(), &ZoneFiles::default().local(), options));
    Ok(0)
}

/// `list-paths`.
pub fn paths(patterns: &[String], options: &Options) -> Result<u8, ClientError> {
    let mut shown = Vec::new();
    for unit in call(Method::List {})?.units {
        let counts = options.all || unit.active != "inactive";
        if unit.name.ends_with(".path") && counts {
            shown.push(view(&unit.name)?);
        }
    }
    print!("{}", tables::paths(&shown, patterns, options));
    Ok(0)
}

/// `list-sockets`.
pub fn sockets(patterns: &[String], options: &Options) -> Result<u8, ClientError> {
    print!("{}", tables::sockets(call(Method::Sockets {})?.sockets, patterns, options));
    Ok(0)
}

/// A unit with all that is known of it.
pub(super) fn view(unit: &str) -> Result<UnitView, ClientError> {
    let answer = call(Method::Show { unit: unit.to_owned() })?;
    Ok(answer.units.into_iter().next().unwrap_or_else(|| UnitView {
        name: unit.to_owned(),
        load: "not-found".to_owned(),
        active: "inactive".to_owned(),
        sub: "dead".to_owned(),
        ..UnitView::default()
    }))
}

/// `status`: the first unit that is not up decides what it ends with.
pub fn status(units: &[String], options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        let state = call(Method::State {})?.state.unwrap_or_default();
        let all = call(Method::List {})?.units;
        print!("{}", status::machine(&state, &all, &call(Method::Jobs {})?.jobs, options));
        return Ok(0);
    }
    let zone = ZoneFiles::default().local();
    let mut code = 0;
    for (index, unit) in units.iter().enumerate() {
        // A number is a process, whose unit is meant.
        let of_process = unit.strip_suffix(".service").and_then(manager::unit_of_process);
        let unit = of_process.as_ref().unwrap_or(unit);
        let view = view(unit)?;
        let is_unknown = view.load == "not-found" && view.active == "inactive";
        let of_unit = match view.active.as_str() {
            _ if is_unknown => UNKNOWN,
            "active" | "reloading" => 0,
            _ => NOT_RUNNING,
        };
        if code == 0 {
            code = of_unit;
        }
        if is_unknown {
            eprintln!("Unit {unit} could not be found.");
        } else if !options.quiet {
            if index > 0 {
                println!();
            }
            print!("{}", status::unit(&view, files::state_words(&view.name, options), &zone, options));
        }
    }
    Ok(code)
}

/// `show`.
pub fn show(units: &[String], options: &Options) -> Result<u8, ClientError> {
    for (index, unit) in units.iter().enumerate() {
        if index > 0 {
            println!();
        }
        let view = view(unit)?;
        print!("{}", show::properties(&view, files::state_words(&view.name, options), options));
    }
    Ok(0)
}

/// Prints each unit's state; succeeds when at least one of them has a wanted one.
pub fn is_state(
    units: &[String],
    options: &Options,
    wanted: &[&str],
    otherwise: u8,
) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let mut any_wanted = false;
    let mut any_known = false;
    for unit in units {
        let view = view(unit)?;
        any_wanted |= wanted.contains(&view.active.as_str());
        any_known |= view.load != "not-found";
        if !options.quiet {
            println!("{}", view.active);
        }
    }
    Ok(match (any_wanted, any_known) {
        (true, _) => 0,
        (false, true) => otherwise,
        (false, false) => UNKNOWN,
    })
}

/// `is-failed` without a unit.
pub fn is_degraded(options: &Options) -> Result<u8, ClientError> {
    let state = call(Method::State {})?.state.unwrap_or_default();
    if !options.quiet {
        println!("{state}");
    }
    Ok(u8::from(state != "degraded"))
}

/// `is-system-running`; with `--wait` once the boot is over.
pub fn is_system_running(options: &Options) -> Result<u8, ClientError> {
    loop {
        let state = match call(Method::State {}) {
            Ok(answer) => answer.state.unwrap_or_default(),
            // No PID 1 of ours runs here.
            Err(ClientError::Connect(_)) => "offline".to_owned(),
            Err(error) => return Err(error),
        };
        if options.wait && matches!(state.as_str(), "initializing" | "starting") {
            now_and_then();
            continue;
        }
        if !options.quiet {
            println!("{state}");
        }
        return Ok(u8::from(state != "running"));
    }
}

/// `start --wait`: until the units are down again; 1 when one of them has failed.
pub fn wait_until_down(units: &[String]) -> Result<u8, ClientError> {
    let mut code = 0;
    for unit in units {
        loop {
            let view = view(unit)?;
            match view.active.as_str() {
                "failed" => code = 1,
                "inactive" => {}
                _ => {
                    now_and_then();
                    continue;
                }
            }
            break;
        }
    }
    Ok(code)
}

/// `list-dependencies`.
pub fn dependencies(units: &[String], options: &Options) -> Result<u8, ClientError> {
    let relations: &[&str] = match options.direction {
        Direction::Needs => &["Requires", "Requisite", "Wants", "BindsTo", "Upholds"],
        Direction::NeededBy => &["RequiredBy", "RequisiteOf", "WantedBy", "PartOf", "BoundBy", "UpheldBy"],
        Direction::Before => &["Before"],
        Direction::After => &["After"],
    };
    let default = ["default.target".to_owned()];
    let mut seen: BTreeMap<String, Node> = BTreeMap::new();
    let mut failure = None;
    for unit in if units.is_empty() { &default } else { units } {
        let mut look = |name: &str| {
            if let Some(node) = seen.get(name) {
                return node.clone();
            }
            let node = match view(name) {
                Ok(view) => {
                    let wanted =
                        view.properties.iter().filter(|(name, _)| relations.contains(&name.as_str()));
                    let next = wanted.flat_map(|(_, names)| names.split_whitespace()).map(str::to_owned);
                    Node { next: next.collect(), active: view.active.clone() }
                }
                Err(error) => {
                    failure = Some(error);
                    Node::default()
                }
            };
            seen.insert(name.to_owned(), node.clone());
            node
        };
        let text = tables::dependencies(unit, options, &mut look);
        print!("{text}");
    }
    failure.map_or(Ok(0), Err)
}
