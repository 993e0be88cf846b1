//! `systemctl show`, and what is said of jobs that came to nothing.

use super::options::Options;
use crate::control::UnitView;

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

/// `systemctl show`, under systemd's property names.
pub fn properties(view: &UnitView, (file_state, preset): (&str, &str), options: &Options) -> String {
    // Conditions and assertions are looked at when a unit starts.
    let was_started = view.times.first().is_some_and(|exit| *exit != 0);
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
        ("UnitFileState", file_state.to_owned()),
        ("UnitFilePreset", preset.to_owned()),
        ("MemoryCurrent", view.memory.map_or_else(|| "[not set]".to_owned(), |bytes| bytes.to_string())),
        (
            "TasksCurrent",
            if view.pids.is_empty() { "[not set]".to_owned() } else { view.pids.len().to_string() },
        ),
        ("LoadError", view.load_error.clone()),
        ("Job", view.job.clone().unwrap_or_default()),
        ("Documentation", view.documentation.join(" ")),
        ("CanStart", yes_or_no(view.load == "loaded")),
        ("ConditionResult", yes_or_no(view.condition.is_none() && was_started)),
        ("AssertResult", yes_or_no(was_started)),
    ];
    if view.name.ends_with(".service") {
        // CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid(2); 0 when no process has ended yet.
        let (how, number) = view.main_exit.as_ref().map_or(("", 0), |(how, number)| (how.as_str(), *number));
        let code = match how {
            "exited" => 1,
            "killed" => 2,
            "dumped" => 3,
            _ => 0,
        };
        all.push(("ExecMainCode", code.to_string()));
        all.push(("ExecMainStatus", number.to_string()));
    }
    all.extend(view.properties.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut text = String::new();
    for (name, value) in all {
        // Without --all, systemd leaves out what is empty unless it was asked for.
        if value.is_empty() && options.properties.is_empty() && !options.all {
            continue;
        }
        if options.properties.is_empty() || options.properties.iter().any(|wanted| wanted == name) {
            let line = if options.value { value } else { format!("{name}={value}") };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// A property that PID 1 has told.
pub fn property<'a>(view: &'a UnitView, name: &str) -> Option<&'a str> {
    view.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
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
    fn properties_are_selected_by_name() {
        let options = Options { properties: vec!["ActiveState".to_owned()], ..Options::default() };
        assert_eq!(
            properties(&view("a.service", "active"), ("static", ""), &options),
            "ActiveState=active\n"
        );
        assert_eq!(
            properties(&view("a.service", "active"), ("static", ""), &Options { value: true, ..options }),
            "active\n"
        );
    }
}
