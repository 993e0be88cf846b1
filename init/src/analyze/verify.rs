//! `systemd-analyze verify`: what systemd says when it loads unit files without running them.
//!
//! Warnings do not change the verdict; a unit that could not be started does: bad settings, a program that is not there, a
//! unit that it requires and that does not exist.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use image_config::unit::value::SEARCH_PATH;
use image_config::unit::{ExecCommand, Unit, UnitKind, UnitName, UnitType};

use crate::unit_files::{Fragment, UnitFolders};

/// Instance that templates are read as.
const INSTANCE: &str = "test_instance";

/// Runs `verify`: 0 when all units could be started.
pub fn run(units: &[String], root: &Path) -> u8 {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return 1;
    }
    let mut code = 0;
    for unit in units {
        let findings = verify(unit, root);
        findings.lines.iter().for_each(|line| eprintln!("{line}"));
        if findings.is_bad {
            code = 1;
        }
    }
    code
}

#[derive(Debug, Default)]
struct Findings {
    lines: Vec<String>,
    is_bad: bool,
}

impl Findings {
    fn bad(&mut self, line: String) {
        self.lines.push(line);
        self.is_bad = true;
    }
}

/// The folders to look in: that of the file itself, then `$SYSTEMD_UNIT_PATH` or the system's.
fn folders(own: Option<&Path>, root: &Path) -> UnitFolders {
    let system = UnitFolders::of_system(root);
    let mut paths: Vec<PathBuf> = own.map(Path::to_owned).into_iter().collect();
    match std::env::var("SYSTEMD_UNIT_PATH") {
        Ok(list) if !list.is_empty() => {
            paths.extend(list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
            // An empty element at the end stands for the usual path.
            if list.ends_with(':') {
                paths.extend(system.folders().iter().cloned());
            }
        }
        _ => paths.extend(system.folders().iter().cloned()),
    }
    UnitFolders::new(paths)
}

fn verify(unit: &str, root: &Path) -> Findings {
    let mut findings = Findings::default();
    let path = Path::new(unit);
    let own = unit
        .contains('/')
        .then(|| path.parent().unwrap_or(Path::new("/")))
        .map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = match UnitName::parse(name) {
        Ok(name) => name,
        Err(error) => {
            findings.bad(format!("Failed to prepare filename {unit}: {error}"));
            return findings;
        }
    };
    let name = if name.is_template() { name.with_instance(INSTANCE).unwrap_or(name) } else { name };
    let folders = folders(own.as_deref(), root);
    match folders.fragment(&name) {
        Fragment::Found { .. } => {}
        Fragment::Masked => findings.bad(format!("Unit {name} is masked.")),
        Fragment::NotFound => findings.bad(format!("Unit {name} not found.")),
        Fragment::Unreadable(problem) => findings.bad(problem),
    }
    if findings.is_bad {
        return findings;
    }
    let Some((unit, warnings)) = folders.read(&name) else {
        findings.bad(format!("Unit {name} cannot be read."));
        return findings;
    };
    // What makes the unit unfit is said once, below.
    let problem = unit.problem();
    let warnings = warnings.iter().filter(|warning| Some(warning.message.as_str()) != problem);
    findings.lines.extend(warnings.map(ToString::to_string));
    if let Some(problem) = problem {
        findings.bad(format!("{name}: {problem}. Refusing."));
        findings.bad(format!("Unit {name} has a bad unit file setting."));
        return findings;
    }
    programs(&unit, root, &mut findings);
    requirements(&unit, &folders, &mut findings);
    findings
}

/// Whether all programs are there.
fn programs(unit: &Unit, root: &Path, findings: &mut Findings) {
    let lists: Vec<&Vec<ExecCommand>> = match &unit.kind {
        UnitKind::Service(it) => vec![
            &it.exec_condition,
            &it.exec_start_pre,
            &it.exec_start,
            &it.exec_start_post,
            &it.exec_reload,
            &it.exec_stop,
            &it.exec_stop_post,
        ],
        UnitKind::Socket(it) => {
            vec![&it.exec_start_pre, &it.exec_start_post, &it.exec_stop_pre, &it.exec_stop_post]
        }
        _ => return,
    };
    for command in lists.into_iter().flatten().filter(|command| !command.ignore_failure) {
        let candidates: Vec<PathBuf> = if command.program.starts_with('/') {
            vec![PathBuf::from(&command.program)]
        } else {
            SEARCH_PATH.iter().map(|folder| Path::new(folder).join(&command.program)).collect()
        };
        let runs = |path: &PathBuf| {
            let path = root.join(path.strip_prefix("/").unwrap_or(path));
            path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        if !candidates.iter().any(runs) {
            findings.bad(format!(
                "{}: Command {} is not executable: No such file or directory",
                unit.name, command.program
            ));
        }
    }
}

/// Whether the units that it cannot do without exist, and the one that it starts.
fn requirements(unit: &Unit, folders: &UnitFolders, findings: &mut Findings) {
    let is_there = |name: &UnitName| {
        matches!(folders.fragment(name), Fragment::Found { .. })
            // The kernel or PID 1 makes these.
            || matches!(name.kind(), UnitType::Device | UnitType::Slice)
    };
    let common = &unit.common;
    for other in common.requires.iter().chain(&common.binds_to).filter(|other| !is_there(other)) {
        findings.bad(format!("{0}: Failed to create {0}/start: Unit {other} not found.", unit.name));
    }
    let triggered = match &unit.kind {
        UnitKind::Socket(it) => it.service(&unit.name),
        UnitKind::Timer(it) => it.unit(&unit.name),
        UnitKind::Path(it) => it.unit(&unit.name),
        _ => None,
    };
    if let Some(other) = triggered
        && !other.is_template()
        && !is_there(&other)
    {
        findings.bad(match unit.name.kind() {
            UnitType::Socket => {
                format!("{}: service {other} not loaded, socket cannot be started.", unit.name)
            }
            _ => format!("{}: Unit {other} to trigger not loaded.", unit.name),
        });
    }
    if let Some(other) = &unit.install.default_instance
        && unit.name.with_instance(other).is_err()
    {
        findings.lines.push(format!("{}: DefaultInstance={other} is no instance", unit.name));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The verdict of a file of this name with this text, and what is said.
    fn of(name: &str, text: &str) -> (bool, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/true"), "").unwrap();
        fs::set_permissions(root.path().join("bin/true"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("there.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
        fs::write(folder.join(name), text).unwrap();
        let findings = verify(name, root.path());
        (findings.is_bad, findings.lines)
    }

    #[test]
    fn the_verdicts_are_those_of_systemd_257() {
        // Name, text, whether systemd-analyze ended with 1, and what it is about.
        for (name, text, bad, about) in [
            ("a.service", "[Service]\nExecStart=/bin/true\nFoo=1\n", false, "unknown key `Foo=`"),
            ("a.service", "[Service]\nExecStart=/bin/nonexist\n", true, "is not executable"),
            (
                "a.service",
                "[Service]\nExecStart=-/bin/nonexist\nExecStart=/bin/true\nType=oneshot\n",
                false,
                "",
            ),
            (
                "a.service",
                "[Unit]\nRequires=gone.service\n[Service]\nExecStart=/bin/true\n",
                true,
                "gone.service not found",
            ),
            ("a.service", "[Unit]\nWants=gone.service\n[Service]\nExecStart=/bin/true\n", false, ""),
            ("a.service", "[Service]\nType=simple\n", true, "Refusing"),
            (
                "there.timer",
                "[Timer]\nOnCalendar=bogus\nOnBootSec=1\n",
                false,
                "`bogus` is no calendar event",
            ),
            ("gone.timer", "[Timer]\nOnBootSec=1\n", true, "gone.service to trigger not loaded"),
            (
                "gone.socket",
                "[Socket]\nListenFIFO=/run/x\n",
                true,
                "gone.socket: service gone.service not loaded, socket cannot be started.",
            ),
            (
                "down.service",
                "[Unit]\nSuccessAction=kexec-force\nBefore=x@.service\n[Service]\nType=oneshot\n",
                false,
                "",
            ),
            ("a@.service", "[Service]\nExecStart=/bin/true %i\n", false, ""),
        ] {
            let (is_bad, lines) = of(name, text);
            assert_eq!(is_bad, bad, "{name} {text}: {lines:?}");
            assert!(
                about.is_empty() && lines.is_empty() || lines.iter().any(|line| line.contains(about)),
                "{lines:?}"
            );
        }
    }
}
