//! What `list-...` prints. Pure: from views to tables.

use image_config::unit::time::{TimeZone, Timestamp};
use serde_json::Value;

use super::options::Options;
use super::style::{Cell, Colour, Table, of_state};
use crate::boot::glob;
use crate::control::{JobView, SocketView, TimerView, UnitView};
use crate::unit_files::state::FileState;

/// What follows the table of `list-units`.
const LEGEND: &str = "
Legend: LOAD   → Reflects whether the unit definition was properly loaded.
        ACTIVE → The high-level unit activation state, i.e. generalization of SUB.
        SUB    → The low-level unit activation state, values depend on unit type.
";

/// Whether a name fits one of the patterns, or there are none.
pub fn fits(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), name.as_bytes()))
}

/// Whether a unit is of one of the types that `--type=` names.
pub fn is_of_kind(options: &Options, name: &str) -> bool {
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    options.kinds.is_empty() || options.kinds.iter().any(|kind| kind == suffix)
}

fn has_state(options: &Options, words: [&str; 3]) -> bool {
    options.states.is_empty() || options.states.iter().any(|state| words.contains(&state.as_str()))
}

/// Units of `list-units`: those that are active, have failed or have a job, or all.
pub fn units(mut all: Vec<UnitView>, patterns: &[String], options: &Options) -> String {
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let interesting = |unit: &UnitView| {
        if options.failed {
            return unit.active == "failed";
        }
        options.all || !options.states.is_empty() || unit.active != "inactive" || unit.job.is_some()
    };
    all.retain(|unit| {
        fits(patterns, &unit.name)
            && is_of_kind(options, &unit.name)
            && has_state(options, [&unit.active, &unit.sub, &unit.load])
            && interesting(unit)
    });
    let mut table = Table::new(
        &[
            ("UNIT", "unit"),
            ("LOAD", "load"),
            ("ACTIVE", "active"),
            ("SUB", "sub"),
            ("DESCRIPTION", "description"),
        ],
        !options.plain,
    );
    for unit in &all {
        let bad_load = unit.load != "loaded";
        let load = if bad_load { Colour::Red } else { Colour::Plain };
        let state = if unit.active == "failed" { Colour::Red } else { Colour::Plain };
        let cells = vec![
            Cell::from(unit.name.as_str()).painted(state),
            Cell::from(unit.load.as_str()).painted(load),
            Cell::from(unit.active.as_str()).painted(state),
            Cell::from(unit.sub.as_str()).painted(state),
            unit.description.as_str().into(),
        ];
        if unit.active == "failed" || bad_load {
            table.push_marked(Colour::Red, "●", cells);
        } else {
            table.push(cells);
        }
    }
    let mut text = table.render(options.format, options.style, !options.no_legend);
    if options.is_text_with_legend() {
        text.push_str(LEGEND);
        let hint = if options.all { "" } else { " Pass --all to see loaded but inactive units, too." };
        text.push_str(&format!(
            "\n{} loaded units listed.{hint}\nTo show all installed unit files use 'systemctl list-unit-files'.\n",
            table.rows()
        ));
    }
    text
}

/// The table of `list-jobs`.
pub fn jobs(jobs: &[JobView], patterns: &[String], options: &Options) -> String {
    let mut table =
        Table::new(&[("JOB", "job"), ("UNIT", "unit"), ("TYPE", "type"), ("STATE", "state")], false);
    for job in jobs.iter().filter(|job| fits(patterns, &job.unit)) {
        let state = if job.state == "running" { Colour::Yellow } else { Colour::Plain };
        table.push(vec![
            Cell::with(job.id.to_string(), job.id),
            job.unit.as_str().into(),
            job.kind.as_str().into(),
            Cell::from(job.state.as_str()).painted(state),
        ]);
    }
    if table.rows() == 0 && options.is_text_with_legend() {
        return "No jobs running.\n".to_owned();
    }
    with_count(&table, options, "jobs listed")
}

/// A row of `list-unit-files`.
#[derive(Debug, Clone)]
pub struct UnitFileRow {
    /// The unit.
    pub name: String,
    /// Whether it is enabled.
    pub state: FileState,
    /// What the presets advise, where that matters.
    pub preset: Option<&'static str>,
}

/// The table of `list-unit-files`.
pub fn unit_files(files: &[UnitFileRow], options: &Options) -> String {
    let columns = &[("UNIT FILE", "unit_file"), ("STATE", "state"), ("PRESET", "preset")];
    let mut table = Table::new(columns, false);
    for file in files.iter().filter(|file| has_state(options, [file.state.word(); 3])) {
        let colour = match file.state {
            FileState::Enabled | FileState::EnabledRuntime => Colour::Green,
            FileState::Disabled | FileState::Linked | FileState::LinkedRuntime => Colour::Yellow,
            FileState::Masked | FileState::MaskedRuntime | FileState::Bad => Colour::Red,
            _ => Colour::Plain,
        };
        table.push(vec![
            file.name.as_str().into(),
            Cell::from(file.state.word()).painted(colour),
            match file.preset {
                Some(preset) => preset.into(),
                None => Cell::with("-".to_owned(), Value::Null).painted(Colour::Grey),
            },
        ]);
    }
    with_count(&table, options, "unit files listed")
}

/// The table of `list-timers`: the next one first, those that elapse no more last.
pub fn timers(
    mut all: Vec<TimerView>,
    patterns: &[String],
    now: Timestamp,
    zone: &TimeZone,
    options: &Options,
) -> String {
    all.sort_by_key(|timer| (timer.next.unwrap_or(i64::MAX), timer.unit.clone()));
    let mut table = Table::new(
        &[
            ("NEXT", "next"),
            ("LEFT", "left"),
            ("LAST", "last"),
            ("PASSED", "passed"),
            ("UNIT", "unit"),
            ("ACTIVATES", "activates"),
        ],
        false,
    );
    // As systemd has it, zero stands for a moment that there is not; both fields of a pair hold the moment.
    let moment = |when: Option<i64>| {
        let json = Value::from(when.unwrap_or(0));
        match when.map(Timestamp) {
            Some(when) => [Cell::with(when.show(zone), json.clone()), Cell::with(when.show_from(now), json)],
            None => ["-", "-"].map(|text| Cell::with(text.to_owned(), json.clone()).painted(Colour::Grey)),
        }
    };
    for timer in all.iter().filter(|timer| fits(patterns, &timer.unit)) {
        let mut cells = moment(timer.next).to_vec();
        cells.extend(moment(timer.last));
        cells.extend([timer.unit.as_str().into(), timer.activates.as_str().into()]);
        table.push(cells);
    }
    with_count(&table, options, "timers listed")
}

/// The table of `list-sockets`.
pub fn sockets(mut all: Vec<SocketView>, patterns: &[String], options: &Options) -> String {
    all.sort_by(|one, other| (&one.listen, &one.unit).cmp(&(&other.listen, &other.unit)));
    let columns: &[(&str, &str)] = if options.show_types {
        &[("LISTEN", "listen"), ("TYPE", "type"), ("UNIT", "unit"), ("ACTIVATES", "activates")]
    } else {
        &[("LISTEN", "listen"), ("UNIT", "unit"), ("ACTIVATES", "activates")]
    };
    let mut table = Table::new(columns, false);
    for socket in all.iter().filter(|socket| fits(patterns, &socket.unit)) {
        let kind = options.show_types.then_some(&socket.kind);
        let cells = [Some(&socket.listen), kind, Some(&socket.unit), Some(&socket.activates)];
        table.push(cells.into_iter().flatten().map(|it| it.as_str().into()).collect());
    }
    with_count(&table, options, "sockets listed")
}

/// The table of `list-paths`: of each path unit what it watches, and what it starts.
pub fn paths(all: &[UnitView], patterns: &[String], options: &Options) -> String {
    let columns =
        &[("PATH", "path"), ("CONDITION", "condition"), ("UNIT", "unit"), ("ACTIVATES", "activates")];
    let mut table = Table::new(columns, false);
    let mut rows = Vec::new();
    for unit in all.iter().filter(|unit| fits(patterns, &unit.name)) {
        let of = |wanted: &'static str| unit.properties.iter().filter(move |(name, _)| name == wanted);
        let activates = of("Unit").map(|(_, name)| name.as_str()).next().unwrap_or_default();
        for (_, path) in of("Paths") {
            let (path, condition) = path.rsplit_once(" (").unwrap_or((path, ""));
            rows.push([path, condition.trim_end_matches(')'), &unit.name, activates]);
        }
    }
    rows.sort_unstable();
    rows.iter().for_each(|row| table.push(row.iter().map(|text| Cell::from(*text)).collect()));
    with_count(&table, options, "paths listed")
}

/// The table of `list-automounts`, which this system does not have.
pub fn automounts(options: &Options) -> String {
    let columns = &[
        ("WHAT", "what"),
        ("WHERE", "where"),
        ("MOUNTED", "mounted"),
        ("IDLE TIMEOUT", "idle_timeout"),
        ("UNIT", "unit"),
    ];
    with_count(&Table::new(columns, false), options, "automounts listed")
}

fn with_count(table: &Table, options: &Options, what: &str) -> String {
    let mut text = table.render(options.format, options.style, !options.no_legend);
    if options.is_text_with_legend() {
        text.push_str(&format!("\n{} {what}.\n", table.rows()));
    }
    text
}

/// What `list-dependencies` shows of a unit.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its coarse state.
    pub active: String,
    /// The units one step further.
    pub next: Vec<String>,
}

/// The tree of `list-dependencies`; targets are opened up, and with `--all` every unit.
pub fn dependencies(root: &str, options: &Options, look: &mut dyn FnMut(&str) -> Node) -> String {
    let node = look(root);
    let mut out = format!("{root}\n");
    let mut branch = vec![root.to_owned()];
    grow(&node, "", options, &mut branch, look, &mut out);
    out
}

fn grow(
    node: &Node,
    indent: &str,
    options: &Options,
    branch: &mut Vec<String>,
    look: &mut dyn FnMut(&str) -> Node,
    out: &mut String,
) {
    let mut names = node.next.clone();
    names.sort();
    names.dedup();
    // Targets come last, so that what they open up does not tear the others apart.
    names.sort_by_key(|name| name.ends_with(".target"));
    let last = names.len().saturating_sub(1);
    for (index, name) in names.iter().enumerate() {
        let child = look(name);
        let (corner, bar) = match (options.plain, index == last) {
            (true, _) => ("  ", "  "),
            (false, true) => ("└─", "  "),
            (false, false) => ("├─", "│ "),
        };
        if options.plain {
            out.push_str(&format!("{indent}{corner}{name}\n"));
        } else {
            let mark = if child.active == "inactive" { "○" } else { "●" };
            out.push_str(&format!(
                "{} {indent}{corner}{name}\n",
                options.style.paint(of_state(&child.active), mark)
            ));
        }
        if (options.all || name.ends_with(".target")) && !branch.contains(name) {
            branch.push(name.clone());
            grow(&child, &format!("{indent}{bar}"), options, branch, look, out);
            branch.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemctl::style::Format;

    fn view(name: &str, active: &str) -> UnitView {
        UnitView {
            name: name.to_owned(),
            active: active.to_owned(),
            load: "loaded".to_owned(),
            ..UnitView::default()
        }
    }

    #[test]
    fn list_units_shows_what_is_active_unless_asked_for_more() {
        let all =
            vec![view("b.service", "active"), view("a.service", "failed"), view("c.target", "inactive")];
        let names = |options: Options, patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            let text = units(all.clone(), &patterns, &Options { format: Format::Json, ..options });
            let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            rows.iter().map(|row| row["unit"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(Options::default(), &[]), ["a.service", "b.service"]);
        assert_eq!(names(Options { failed: true, ..Options::default() }, &[]), ["a.service"]);
        assert_eq!(names(Options { all: true, ..Options::default() }, &["c.*"]), ["c.target"]);
        let of_kind = Options { all: true, kinds: vec!["target".to_owned()], ..Options::default() };
        assert_eq!(names(of_kind, &[]), ["c.target"]);
        let of_state = Options { states: vec!["inactive".to_owned()], ..Options::default() };
        assert_eq!(names(of_state, &[]), ["c.target"]);
    }

    #[test]
    fn timers_come_in_the_order_in_which_they_elapse() {
        let timer = |unit: &str, next| TimerView {
            unit: unit.to_owned(),
            activates: "x.service".to_owned(),
            next,
            last: Some(0),
            ..TimerView::default()
        };
        let all = vec![
            timer("never.timer", None),
            timer("b.timer", Some(120_000_000)),
            timer("a.timer", Some(60_000_000)),
        ];
        let now = Timestamp(30_000_000);
        let text = timers(all, &[], now, &TimeZone::utc(), &Options::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("Thu 1970-01-01 00:01:00 UTC 30s left"), "{text}");
        assert!(lines[1].contains("30s ago a.timer     x.service"), "{text}");
        assert!(lines[3].starts_with("- ") && lines[3].contains("never.timer"), "{text}");
        assert_eq!(lines[5], "3 timers listed.");
    }

    #[test]
    fn path_units_are_shown_with_what_they_watch() {
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let unit = UnitView {
            name: "a.path".to_owned(),
            properties: vec![
                property("Paths", "/z (b) (DirectoryNotEmpty)"),
                property("Paths", "/a (PathExists)"),
                property("Unit", "a.service"),
            ],
            ..UnitView::default()
        };
        let text = paths(&[unit], &[], &Options { no_legend: true, ..Options::default() });
        assert_eq!(
            text,
            "/a     PathExists        a.path a.service\n/z (b) DirectoryNotEmpty a.path a.service\n"
        );
        assert_eq!(automounts(&Options::default()).lines().last(), Some("0 automounts listed."));
    }

    #[test]
    fn dependencies_are_a_tree_in_which_targets_are_opened_up() {
        let mut look = |name: &str| Node {
            active: if name == "b.service" { "inactive" } else { "active" }.to_owned(),
            next: match name {
                "a.target" => vec!["c.target".to_owned(), "b.service".to_owned()],
                "b.service" => vec!["hidden.service".to_owned()],
                "c.target" => vec!["a.target".to_owned()],
                _ => Vec::new(),
            },
        };
        let tree = dependencies("a.target", &Options::default(), &mut look);
        assert_eq!(tree, "a.target\n○ ├─b.service\n● └─c.target\n●   └─a.target\n");
        let all = Options { all: true, plain: true, ..Options::default() };
        let tree = dependencies("a.target", &all, &mut look);
        assert_eq!(tree, "a.target\n  b.service\n    hidden.service\n  c.target\n    a.target\n");
    }
}
