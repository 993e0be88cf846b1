//! `systemctl status`: a unit, its processes and its last words; or the machine as a whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use image_config::unit::time::{TimeZone, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use super::options::Options;
use super::style::{Colour, of_state};
use crate::control::{JobView, UnitView};
use crate::journal;
use crate::pid1::logs::LOG_FILE;

/// `systemctl status` without a unit.
pub fn machine(state: &str, units: &[UnitView], jobs: &[JobView], options: &Options) -> String {
    let failed = units.iter().filter(|unit| unit.active == "failed").count();
    let loaded = units.iter().filter(|unit| unit.load == "loaded").count();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let colour = match state {
        "running" => Colour::Green,
        "degraded" | "maintenance" => Colour::Red,
        _ => Colour::Yellow,
    };
    format!(
        "{} {host}\n    State: {}\n    Units: {loaded} loaded (incl. loaded aliases)\n     Jobs: {} queued\n   Failed: {failed} units\n",
        options.style.paint(colour, "●"),
        options.style.paint(colour, state),
        jobs.len()
    )
}

/// `systemctl status UNIT`.
pub fn unit(
    view: &UnitView,
    (file_state, preset): (&str, &str),
    zone: &TimeZone,
    options: &Options,
) -> String {
    let style = options.style;
    let mut out = String::new();
    // Writing into a string does not fail, here and below.
    let mut line = |head: &str, text: &str| {
        let _cannot_fail = writeln!(out, "{head:>11} {text}");
    };
    let mark = match view.active.as_str() {
        "inactive" => "○",
        "failed" => "×",
        "reloading" | "activating" | "deactivating" => "↻",
        _ => "●",
    };
    let title = if view.description.is_empty() || view.description == view.name {
        view.name.clone()
    } else {
        format!("{} - {}", view.name, view.description)
    };
    let load = if view.load == "loaded" { Colour::Plain } else { Colour::Red };
    let mut loaded = style.paint(load, &view.load);
    if !view.load_error.is_empty() {
        let _cannot_fail = write!(loaded, " (Reason: {})", view.load_error);
    } else if let Some(path) = view.paths.first() {
        let preset = if preset.is_empty() { String::new() } else { format!("; preset: {preset}") };
        let _cannot_fail = write!(loaded, " ({path}; {file_state}{preset})");
    }
    line("Loaded:", &loaded);
    drop_ins(view, &mut line);
    let state =
        if view.active == view.sub { view.active.clone() } else { format!("{} ({})", view.active, view.sub) };
    let mut active = style.paint(of_state(&view.active), &state);
    if !matches!(view.result.as_str(), "" | "success") && view.active != "active" {
        let _cannot_fail = write!(active, " (Result: {})", view.result);
    }
    active.push_str(&since(
        view.active_since.filter(|_| view.active == "active").unwrap_or(view.changed_at),
        zone,
    ));
    line("Active:", &active);
    if let Some(condition) = view.condition.as_ref().filter(|condition| !condition.is_empty()) {
        line("Condition:", &format!("start condition unmet: {condition}"));
    }
    for (property, head) in [("Triggers", "Triggers:"), ("TriggeredBy", "TriggeredBy:")] {
        let found = view.properties.iter().find(|(name, value)| name == property && !value.is_empty());
        for (index, other) in found.iter().flat_map(|(_, value)| value.split(' ')).enumerate() {
            line(if index == 0 { head } else { "" }, &format!("● {other}"));
        }
    }
    for (index, page) in view.documentation.iter().enumerate() {
        line(if index == 0 { "Docs:" } else { "" }, page);
    }
    if view.main_pid != 0 {
        line("Main PID:", &format!("{} ({})", view.main_pid, name_of(view.main_pid)));
    } else if let Some((how, number)) = &view.main_exit {
        line("Process:", &format!("main process ended (code={how}, status={number})"));
    }
    if !view.reason.is_empty() && view.active != "active" {
        line("Reason:", &view.reason);
    }
    if !view.status_text.is_empty() {
        line("Status:", &format!("\"{}\"", view.status_text));
    }
    if !view.pids.is_empty() {
        line("Tasks:", &view.pids.len().to_string());
        if let Some(bytes) = view.memory {
            line("Memory:", &size(bytes));
        }
        let groups = groups(&view.pids);
        for (index, text) in tree(&groups).iter().enumerate() {
            line(if index == 0 { "CGroup:" } else { "" }, text);
        }
    }
    let mut text = format!("{} {title}\n{out}", style.paint(of_state(&view.active), mark));
    let lines = last_lines(&view.name, options.lines);
    if !lines.is_empty() {
        let _cannot_fail = writeln!(text, "\n{}", lines.join("\n"));
    }
    text
}

/// `Drop-In:`, grouped by folder.
fn drop_ins(view: &UnitView, line: &mut dyn FnMut(&str, &str)) {
    let mut folders: Vec<(&str, Vec<&str>)> = Vec::new();
    for path in view.paths.iter().skip(1) {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        match folders.last_mut() {
            Some((last, files)) if *last == folder => files.push(file),
            _ => folders.push((folder, vec![file])),
        }
    }
    for (index, (folder, files)) in folders.iter().enumerate() {
        line(if index == 0 { "Drop-In:" } else { "" }, folder);
        line("", &format!("└─{}", files.join(", ")));
    }
}

/// ` since Thu 2026-11-26 03:00:00 UTC; 5min ago`, from a point on the monotonic clock.
fn since(micros: u64, zone: &TimeZone) -> String {
    let read = |clock: ClockId| {
        let time = clock_gettime(clock);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    };
    let (Ok(then), now) = (i64::try_from(micros), Timestamp(read(ClockId::Realtime))) else {
        return String::new();
    };
    if then == 0 {
        return String::new();
    }
    let when = Timestamp(now.0 - read(ClockId::Monotonic) + then);
    format!(" since {}; {}", when.show(zone), when.show_from(now))
}

/// Processes by control group, as `/proc` has them.
fn groups(pids: &[u32]) -> BTreeMap<String, Vec<(u32, String)>> {
    let mut groups: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        groups.entry(path).or_default().push((*pid, command_line(*pid)));
    }
    groups
}

/// The tree of groups and processes: those above the others first.
fn tree(groups: &BTreeMap<String, Vec<(u32, String)>>) -> Vec<String> {
    let Some(top) = groups.keys().next() else { return Vec::new() };
    let is_top = groups.keys().all(|path| path == top || path.starts_with(&format!("{top}/")));
    let top = if is_top {
        top.clone()
    } else {
        top.rsplit_once('/').map_or(String::new(), |(top, _)| top.to_owned())
    };
    let mut lines = vec![if top.is_empty() { "/".to_owned() } else { top.clone() }];
    let below: Vec<(&String, &Vec<(u32, String)>)> =
        groups.iter().filter(|(path, _)| **path != top).collect();
    let own = groups.get(&top).map(Vec::as_slice).unwrap_or_default();
    let width = groups.values().flatten().map(|(pid, _)| pid.to_string().len()).max().unwrap_or(1);
    let mut rows = own.len() + below.len();
    for (pid, command) in own {
        rows -= 1;
        lines.push(format!("{}{pid:>width$} {command}", if rows == 0 { "└─" } else { "├─" }));
    }
    for (path, processes) in below {
        rows -= 1;
        let (corner, bar) = if rows == 0 { ("└─", "  ") } else { ("├─", "│ ") };
        lines.push(format!("{corner}{}", path.strip_prefix(&format!("{top}/")).unwrap_or(path)));
        for (index, (pid, command)) in processes.iter().enumerate() {
            let corner = if index + 1 == processes.len() { "└─" } else { "├─" };
            lines.push(format!("{bar}{corner}{pid:>width$} {command}"));
        }
    }
    lines
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let text = words.join(" ").trim().to_owned();
    // A process that has ended has no command line any more.
    if text.is_empty() { format!("({})", name_of(pid)) } else { text }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{}.{}K", bytes / 1024, bytes % 1024 * 10 / 1024),
        1_048_576..1_073_741_824 => format!("{}.{}M", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
        _ => format!("{}.{}G", bytes / 1_073_741_824, bytes % 1_073_741_824 * 10 / 1_073_741_824),
    }
}

/// The unit's last lines: of the journal, else of the log that PID 1 keeps by itself.
fn last_lines(unit: &str, count: usize) -> Vec<String> {
    let lines = journal::tail(unit, count);
    if !lines.is_empty() {
        return lines;
    }
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

    #[test]
    fn log_lines_are_told_apart_by_unit() {
        assert!(is_about("2026-11-21T00:00:00.000Z info ssh.service[12]: Server listening", "ssh.service"));
        assert!(is_about("2026-11-21T00:00:00.000Z error ssh.service: failed", "ssh.service"));
        assert!(!is_about("2026-11-21T00:00:00.000Z info etcd.service[1]: ssh.service", "ssh.service"));
    }

    #[test]
    fn processes_hang_in_the_tree_of_their_groups() {
        let process = |pid: u32| (pid, format!("p{pid}"));
        let groups = BTreeMap::from([
            ("/system.slice/a.service".to_owned(), vec![process(7)]),
            ("/system.slice/a.service/sub".to_owned(), vec![process(10), process(11)]),
        ]);
        assert_eq!(
            tree(&groups),
            ["/system.slice/a.service", "├─ 7 p7", "└─sub", "  ├─10 p10", "  └─11 p11"]
        );
        let split = BTreeMap::from([
            ("/d.service/x".to_owned(), vec![process(1)]),
            ("/d.service/y".to_owned(), vec![process(2)]),
        ]);
        assert_eq!(tree(&split), ["/d.service", "├─x", "│ └─1 p1", "└─y", "  └─2 p2"]);
    }

    #[test]
    fn a_status_names_what_matters() {
        let view = UnitView {
            name: "a.service".to_owned(),
            description: "A thing".to_owned(),
            load: "loaded".to_owned(),
            active: "failed".to_owned(),
            sub: "failed".to_owned(),
            result: "exit-code".to_owned(),
            paths: ["/u/a.service", "/e/a.service.d/1.conf", "/e/a.service.d/2.conf"]
                .map(str::to_owned)
                .to_vec(),
            documentation: vec!["man:a(1)".to_owned(), "man:b(1)".to_owned()],
            main_exit: Some(("exited".to_owned(), 3)),
            ..UnitView::default()
        };
        let text = unit(
            &view,
            ("disabled", "enabled"),
            &TimeZone::utc(),
            &Options { lines: 0, ..Options::default() },
        );
        let want = "\
× a.service - A thing
    Loaded: loaded (/u/a.service; disabled; preset: enabled)
   Drop-In: /e/a.service.d
            └─1.conf, 2.conf
    Active: failed (Result: exit-code)
      Docs: man:a(1)
            man:b(1)
   Process: main process ended (code=exited, status=3)
";
        assert_eq!(text, want);
        assert_eq!((size(100), size(1536), size(5 << 20)), ("100B".into(), "1.5K".into(), "5.0M".into()));
    }
}
