//! `systemctl set-property`: limits of a unit as drop-ins, one a key, which PID 1 applies at once.

use std::path::{Path, PathBuf};

use image_config::unit::{System, Unit, UnitName, UnitType, is_resource_key};

use super::options::Options;
use super::{USAGE, edit, files, units};
use crate::control::ClientError;
use crate::unit_files::UnitFolders;

/// What stands above each of them, as systemd has it.
const HEADING: &str = "# This is a drop-in unit file extension, created via \"systemctl set-property\"\n\
                       # or an equivalent operation. Do not edit.\n";

/// A drop-in to be written.
#[derive(Debug, PartialEq, Eq)]
struct DropIn {
    path: PathBuf,
    text: String,
}

/// Runs `set-property UNIT KEY=VALUE...`.
pub fn run(operands: &[String], options: &Options) -> Result<u8, ClientError> {
    let Some((unit, assignments)) = operands.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    };
    let unit = image_config::unit::complete_unit_name(unit);
    let is_known = || units::view(&unit).map(|view| view.load != "not-found");
    let on_disk = |name: &UnitName| UnitFolders::of_system(&options.root).find(name).is_some();
    let plan = match plan(&unit, assignments, options) {
        Ok((name, plan)) if on_disk(&name) || options.root == Path::new("/") && is_known()? => plan,
        Ok(_) => return Ok(refuse(&unit, &format!("Unit {unit} not found."))),
        Err(problem) => return Ok(refuse(&unit, &problem)),
    };
    for DropIn { path, text } in plan {
        if let Err(error) = edit::write(&path, &text) {
            return Ok(refuse(&unit, &format!("{}: {error}", path.display())));
        }
    }
    if options.root == Path::new("/") {
        files::reload(options)?;
    }
    Ok(0)
}

fn refuse(unit: &str, problem: &str) -> u8 {
    eprintln!("Failed to set unit properties on {unit}: {problem}");
    1
}

/// What is to be written where. Nothing is written unless all of it can be.
fn plan(unit: &str, assignments: &[String], options: &Options) -> Result<(UnitName, Vec<DropIn>), String> {
    let name = UnitName::parse(unit).map_err(|error| error.to_string())?;
    let section = match name.kind() {
        UnitType::Service => "Service",
        UnitType::Socket => "Socket",
        UnitType::Mount => "Mount",
        UnitType::Swap => "Swap",
        UnitType::Slice => "Slice",
        other => return Err(format!("a {other} has no processes to limit")),
    };
    let folder = if options.runtime { "run/systemd/system.control" } else { "etc/systemd/system.control" };
    let folder = options.root.join(folder).join(format!("{name}.d"));
    let mut plan: Vec<DropIn> = Vec::new();
    for assignment in assignments {
        let (key, value) =
            assignment.split_once('=').ok_or_else(|| format!("Not an assignment: {assignment}"))?;
        if !is_resource_key(key) {
            return Err(format!("Cannot set property {key}, or unknown property."));
        }
        if value.contains('\n') {
            return Err(format!("{key}: the value has more than one line"));
        }
        // Percent signs are for specifiers in files, and for themselves here.
        let line = format!("{key}={}\n", value.replace('%', "%%"));
        let probe = format!("[{section}]\n{key}={value}\n");
        let (_, warnings) = Unit::parse(&name, &[("", probe.as_bytes())], &System::default());
        if let Some(warning) = warnings.iter().find(|warning| warning.line != 0) {
            return Err(warning.message.clone());
        }
        let path = folder.join(format!("50-{key}.conf"));
        match plan.iter_mut().find(|drop_in| drop_in.path == path) {
            Some(drop_in) => drop_in.text.push_str(&line),
            None => plan.push(DropIn { path, text: format!("{HEADING}[{section}]\n{line}") }),
        }
    }
    Ok((name, plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(unit: &str, assignments: &[&str], runtime: bool) -> Result<Vec<(String, String)>, String> {
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        let (_, plan) = plan(unit, &assignments, &Options { runtime, ..Options::default() })?;
        let own = |text: String| text.trim_start_matches(HEADING).to_owned();
        Ok(plan.into_iter().map(|it| (it.path.display().to_string(), own(it.text))).collect())
    }

    #[test]
    fn each_key_has_a_drop_in_of_its_own() {
        let plan = plan_of("a.service", &["CPUWeight=200", "MemoryMax=1G", "CPUWeight="], false).unwrap();
        let folder = "/etc/systemd/system.control/a.service.d";
        assert_eq!(
            plan,
            [
                (format!("{folder}/50-CPUWeight.conf"), "[Service]\nCPUWeight=200\nCPUWeight=\n".to_owned()),
                (format!("{folder}/50-MemoryMax.conf"), "[Service]\nMemoryMax=1G\n".to_owned()),
            ]
        );
        let plan = plan_of("a.slice", &["TasksMax=5"], true).unwrap();
        assert_eq!(plan[0].0, "/run/systemd/system.control/a.slice.d/50-TasksMax.conf");
    }

    #[test]
    fn what_cannot_be_set_is_refused_before_anything_is_written() {
        for (unit, assignment, about) in [
            ("a.service", "CPUWeight", "Not an assignment"),
            ("a.service", "ExecStart=/bin/true", "unknown property"),
            ("a.service", "CPUWeight=heavy", "`CPUWeight=`"),
            ("a.service", "CPUWeight=1\n[Unit]", "one line"),
            ("a.timer", "CPUWeight=1", "no processes"),
            ("a/b", "CPUWeight=1", "a/b"),
        ] {
            let problem = plan_of(unit, &["MemoryMax=1G", assignment], false).unwrap_err();
            assert!(problem.contains(about), "{unit} {assignment}: {problem}");
        }
    }
}
