//! What `systemctl` prints. Pure: from views to text, but for the log's last lines and the clock.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::options::Options;
use crate::boot::glob;
use crate::control::{JobView, UnitView};
use crate::pid1::logs::LOG_FILE;

/// Units of `list-units`: the active ones, or all.
pub fn unit_table(mut units: Vec<UnitView>, patterns: &[String], options: &Options) -> String {
    units.sort_by(|one, other| one.name.cmp(&other.name));
    let matches = |unit: &UnitView| {
        patterns.is_empty()
            || patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), unit.name.as_bytes()))
    };
    let kind = |unit: &UnitView| {
        let suffix = unit.name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        options.kinds.is_empty() || options.kinds.iter().any(|kind| kind == suffix)
    };
    let state = |unit: &UnitView| {
        let wanted = |state: &String| [&unit.active, &unit.sub, &unit.load].contains(&state);
        options.states.is_empty() || options.states.iter().any(wanted)
    };
    let interesting = |unit: &UnitView| {
        if options.failed {
            return unit.active == "failed";
        }
        options.all || !options.states.is_empty() || unit.active != "inactive" || unit.job.is_some()
    };
    units.retain(|unit| matches(unit) && kind(unit) && state(unit) && interesting(unit));
    let width = units.iter().map(|unit| unit.name.len()).max().unwrap_or(4).max(4);
    let mut text = String::new();
    if !options.no_legend {
        text.push_str(&format!("  {:width$} {:9} {:8} {:12} DESCRIPTION\n", "UNIT", "LOAD", "ACTIVE", "SUB"));
    }
    for unit in &units {
        let mark = if unit.active == "failed" || unit.load == "bad-setting" { '*' } else { ' ' };
        // Writing into a string does not fail, here and below.
        let _cannot_fail = writeln!(
            text,
            "{mark} {:width$} {:9} {:8} {:12} {}",
            unit.name, unit.load, unit.active, unit.sub, unit.description
        );
    }
    if !options.no_legend {
        let _cannot_fail = writeln!(text, "\n{} loaded units listed.", units.len());
    }
    text
}

/// The table of `list-jobs`.
pub fn job_table(jobs: &[JobView]) -> String {
    if jobs.is_empty() {
        return "No jobs running.\n".to_owned();
    }
    let width = jobs.iter().map(|job| job.unit.len()).max().unwrap_or(4).max(4);
    let mut text = format!("{:>5} {:width$} {:13} STATE\n", "JOB", "UNIT", "TYPE");
    for job in jobs {
        let _cannot_fail = writeln!(text, "{:>5} {:width$} {:13} {}", job.id, job.unit, job.kind, job.state);
    }
    let _cannot_fail = writeln!(text, "\n{} jobs listed.", jobs.len());
    text
}

/// Why a job came to nothing, in systemctl's words.
pub fn job_failure(verb: &str, unit: &str, result: &str) -> String {
    match result {
        "canceled" => format!("Job for {unit} canceled."),
        "timeout" => format!("Job for {unit} timed out."),
        "dependency" => {
            format!(
                "A dependency job for {unit} failed. See 'systemctl status' of what it requires for details."
            )
        }
        "assert" => format!("Assertion failed on job for {unit}."),
        "unsupported" => format!("Operation on or unit type of {unit} not supported on this system."),
        _ => format!("Job for {unit} failed ({verb}).\nSee \"systemctl status {unit}\" for details."),
    }
}

/// `systemctl status` without a unit.
pub fn machine(state: &str, units: &[UnitView], jobs: &[JobView]) -> String {
    let failed = units.iter().filter(|unit| unit.active == "failed").count();
    let loaded = units.iter().filter(|unit| unit.load == "loaded").count();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!(
        "* {host}\n    State: {state}\n    Units: {loaded} loaded\n     Jobs: {} queued\n   Failed: {failed} units\n",
        jobs.len()
    )
}

/// `systemctl status UNIT`.
pub fn unit(view: &UnitView, options: &Options) -> String {
    let mut text = String::new();
    let path = view.paths.first().map_or(String::new(), |path| format!(" ({path}; {})", enablement(view)));
    let _cannot_fail = writeln!(text, "* {} - {}", view.name, view.description);
    let problem =
        if view.load_error.is_empty() { String::new() } else { format!(" (Reason: {})", view.load_error) };
    let _cannot_fail = writeln!(text, "     Loaded: {}{path}{problem}", view.load);
    if let Some((_, rest)) = view.paths.split_first().filter(|(_, rest)| !rest.is_empty()) {
        let _cannot_fail = writeln!(text, "    Drop-In: {}", rest.join("\n             "));
    }
    let result = if view.result == "success" || view.active == "active" {
        String::new()
    } else {
        format!(" (Result: {})", view.result)
    };
    let since = ago(view.active_since.unwrap_or(view.changed_at));
    let _cannot_fail = writeln!(text, "     Active: {} ({}){result}{since}", view.active, view.sub);
    if let Some(condition) = &view.condition {
        let _cannot_fail = writeln!(text, "  Condition: start condition unmet: {condition}");
    }
    for page in &view.documentation {
        let _cannot_fail = writeln!(text, "       Docs: {page}");
    }
    if view.main_pid != 0 {
        let _cannot_fail = writeln!(text, "   Main PID: {} ({})", view.main_pid, command(view.main_pid));
    } else if let Some((how, number)) = &view.main_exit {
        let _cannot_fail = writeln!(text, "    Process: main ended (code={how}, status={number})");
    }
    if !view.reason.is_empty() && view.active != "active" {
        let _cannot_fail = writeln!(text, "     Reason: {}", view.reason);
    }
    if !view.status_text.is_empty() {
        let _cannot_fail = writeln!(text, "     Status: \"{}\"", view.status_text);
    }
    if let Some(bytes) = view.memory.filter(|_| !view.pids.is_empty()) {
        let _cannot_fail = writeln!(text, "     Memory: {}", size(bytes));
    }
    for (place, pid) in view.pids.iter().enumerate() {
        let head = if place == 0 { "  Processes:" } else { "            " };
        let _cannot_fail = writeln!(text, "{head} {pid} {}", command_line(*pid));
    }
    let lines = last_lines(&view.name, options.lines);
    if !lines.is_empty() {
        let _cannot_fail = writeln!(text, "\n{}", lines.join("\n"));
    }
    text
}

/// `systemctl show`, under systemd's property names.
pub fn properties(view: &UnitView, options: &Options) -> String {
    let mut all: Vec<(&str, String)> = vec![
        ("Id", view.name.clone()),
        ("Description", view.description.clone()),
        ("LoadState", view.load.clone()),
        ("ActiveState", view.active.clone()),
        ("SubState", view.sub.clone()),
        ("Result", view.result.clone()),
        ("MainPID", view.main_pid.to_string()),
        ("NRestarts", view.restarts.to_string()),
        ("StatusText", view.status_text.clone()),
        ("FragmentPath", view.paths.first().cloned().unwrap_or_default()),
        ("DropInPaths", view.paths.get(1..).unwrap_or_default().join(" ")),
        ("UnitFileState", enablement(view).to_owned()),
        ("MemoryCurrent", view.memory.map_or_else(|| "[not set]".to_owned(), |bytes| bytes.to_string())),
        ("TasksCurrent", view.pids.len().to_string()),
        ("StateChangeTimestampMonotonic", view.changed_at.to_string()),
        ("ActiveEnterTimestampMonotonic", view.active_since.unwrap_or(0).to_string()),
        ("ConditionResult", if view.condition.is_none() { "yes" } else { "no" }.to_owned()),
    ];
    if let Some((how, number)) = &view.main_exit {
        all.push(("ExecMainCode", how.clone()));
        all.push(("ExecMainStatus", number.to_string()));
    }
    let mut text = String::new();
    for (name, value) in all {
        if options.properties.is_empty() || options.properties.iter().any(|wanted| wanted == name) {
            let line = if options.value { value } else { format!("{name}={value}") };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// systemd's word for whether the unit is enabled: links in `/etc` and `/run`, else whether it has an `[Install]`.
pub fn enablement(view: &UnitView) -> &'static str {
    if view.load == "masked" {
        return "masked";
    }
    let Some(path) = view.paths.first() else { return "" };
    for folder in ["/etc/systemd/system", "/run/systemd/system"] {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let groups =
            folders.filter(|path| path.extension().is_some_and(|end| end == "wants" || end == "requires"));
        for group in groups {
            if group.join(&view.name).symlink_metadata().is_ok() {
                return "enabled";
            }
        }
    }
    let has_install =
        fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.trim() == "[Install]"));
    if has_install { "disabled" } else { "static" }
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    words.join(" ").trim().to_owned()
}

/// `; 5min 3s ago`, from a point on the monotonic clock.
fn ago(micros: u64) -> String {
    if micros == 0 {
        return String::new();
    }
    let now = u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(0);
    format!("; {} ago", span(now.saturating_sub(micros / 1_000_000)))
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, minutes) => format!("{minutes}min {rest}s"),
        (0, hours, minutes) => format!("{hours}h {minutes}min"),
        (days, hours, _) => format!("{days} days {hours}h"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{}.{}K", bytes / 1024, bytes % 1024 * 10 / 1024),
        _ => format!("{}.{}M", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// The unit's last lines in the log. Only root can read it; others see none.
fn last_lines(unit: &str, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for file in [Path::new(LOG_FILE).with_extension("log.1"), Path::new(LOG_FILE).to_owned()] {
        let text = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        lines.extend(text.lines().filter(|line| is_about(line, unit)).map(str::to_owned));
    }
    let surplus = lines.len().saturating_sub(count);
    lines.split_off(surplus)
}

/// Whether a line of the log (`TIME LEVEL SOURCE[PID]: TEXT`) is the unit's.
fn is_about(line: &str, unit: &str) -> bool {
    let Some(source) = line.split(' ').nth(2) else { return false };
    let source = source.trim_end_matches(':');
    source.split_once('[').map_or(source, |(name, _)| name) == unit
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let units =
            vec![view("b.service", "active"), view("a.service", "failed"), view("c.target", "inactive")];
        let names = |options: Options, patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            let text = unit_table(units.clone(), &patterns, &Options { no_legend: true, ..options });
            text.lines().filter_map(|line| line.get(2..)?.split(' ').next().map(str::to_owned)).collect()
        };
        assert_eq!(names(Options::default(), &[]), ["a.service", "b.service"]);
        assert_eq!(names(Options { failed: true, ..Options::default() }, &[]), ["a.service"]);
        assert_eq!(names(Options { all: true, ..Options::default() }, &["c.*"]), ["c.target"]);
        assert_eq!(
            names(Options { all: true, kinds: vec!["target".to_owned()], ..Options::default() }, &[]),
            ["c.target"]
        );
    }

    #[test]
    fn log_lines_are_told_apart_by_unit() {
        assert!(is_about("2026-11-21T00:00:00.000Z info ssh.service[12]: Server listening", "ssh.service"));
        assert!(is_about("2026-11-21T00:00:00.000Z error ssh.service: failed", "ssh.service"));
        assert!(!is_about("2026-11-21T00:00:00.000Z info etcd.service[1]: ssh.service", "ssh.service"));
    }

    #[test]
    fn properties_are_selected_by_name() {
        let options = Options { properties: vec!["ActiveState".to_owned()], ..Options::default() };
        assert_eq!(properties(&view("a.service", "active"), &options), "ActiveState=active\n");
        assert_eq!(properties(&view("a.service", "active"), &Options { value: true, ..options }), "active\n");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(
            (span(59), span(61), span(7300), span(200_000)),
            ("59s".into(), "1min 1s".into(), "2h 1min".into(), "2 days 7h".into())
        );
        assert_eq!((size(100), size(1536), size(5 << 20)), ("100B".into(), "1.5K".into(), "5.0M".into()));
    }
}
