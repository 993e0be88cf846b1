//! What a plan says of units: links in their folders, and what PID 1 is asked for.

use std::io;
use std::path::Path;

use image_config::unit::UnitName;
use image_config::user_data::plan::{UnitCommand, UnitPlace};
use init::control::{Client, ClientError, JobRequest, Method};
use init::unit_files::install::{Change, InstallError, Installer};
use init::unit_files::is_mask;

/// Where user-data puts units, for good and until the next boot.
const FOLDER: &str = "etc/systemd/system";
const RUNTIME_FOLDER: &str = "run/systemd/system";

/// Why a unit is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Links.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// PID 1 does not do it.
    #[error("{0}")]
    Refused(String),
    /// PID 1 cannot be asked, or what was asked for failed.
    #[error("{0}")]
    Control(String),
    /// A file in the way.
    #[error("cannot remove {0}")]
    Remove(String, #[source] io::Error),
}

impl From<ClientError> for UnitError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => Self::Refused(refusal.text),
            error => Self::Control(init::early::console::chain(&error)),
        }
    }
}

fn path_of(root: &Path, place: &UnitPlace) -> std::path::PathBuf {
    root.join(if place.is_runtime { RUNTIME_FOLDER } else { FOLDER }).join(place.unit.as_str())
}

fn installer(root: &Path, place: &UnitPlace) -> Installer {
    // A unit that the user-data brings may replace a link that the image made for one of that name.
    Installer::new(root, place.is_runtime, true)
}

/// Switches a unit off.
///
/// # Errors
/// [`UnitError`]
pub fn mask(root: &Path, place: &UnitPlace) -> Result<(), UnitError> {
    let path = path_of(root, place);
    if path.symlink_metadata().is_ok_and(|data| !data.is_symlink()) {
        std::fs::remove_file(&path).map_err(|error| UnitError::Remove(path.display().to_string(), error))?;
    }
    installer(root, place).mask(place.unit.as_str())?;
    Ok(())
}

/// Takes a link to `/dev/null` or an empty file away; anything else stays.
///
/// # Errors
/// [`UnitError`]
pub fn unmask(root: &Path, place: &UnitPlace) -> Result<(), UnitError> {
    let path = path_of(root, place);
    if path.symlink_metadata().is_ok() && is_mask(&path) {
        std::fs::remove_file(&path).map_err(|error| UnitError::Remove(path.display().to_string(), error))?;
    }
    Ok(())
}

/// Makes the links of a unit's `[Install]` section; a note when it has none.
///
/// # Errors
/// [`UnitError`]
pub fn enable(root: &Path, place: &UnitPlace) -> Result<Option<String>, UnitError> {
    let changes = installer(root, place).enable(place.unit.as_str())?;
    let nothing = changes.iter().any(|change| matches!(change, Change::NothingToInstall(_)));
    Ok(nothing.then(|| {
        format!("{} is enabled, but has no [Install] section, so nothing starts it", place.unit.as_str())
    }))
}

/// Takes those links away.
///
/// # Errors
/// [`UnitError`]
pub fn disable(root: &Path, place: &UnitPlace) -> Result<(), UnitError> {
    installer(root, place).disable(place.unit.as_str())?;
    Ok(())
}

/// Lets PID 1 read the unit files again; then what the boot is on its way to takes in what it wants since.
///
/// # Errors
/// [`UnitError`]
pub fn reload() -> Result<(), UnitError> {
    let mut client = Client::connect()?;
    client.call(Method::Reload {})?;
    // The boot's jobs were worked out before these units were there. A target that is waited for is asked for once more: what it has
    // already changes nothing, what is new comes along.
    let jobs = client.call(Method::Jobs {})?.jobs;
    let targets = jobs.into_iter().filter(|job| job.kind == "start" && job.unit.ends_with(".target"));
    for target in targets {
        match job(&target.unit, "start", "fail", false) {
            // Some may be asked for by other units alone, which then bring along what is new.
            Ok(()) | Err(UnitError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands a job to PID 1, which orders it among the others; nothing is waited for.
///
/// # Errors
/// [`UnitError`]: PID 1 refuses it.
pub fn command(unit: &UnitName, command: UnitCommand) -> Result<(), UnitError> {
    let verb = match command {
        UnitCommand::Start => "start",
        UnitCommand::Stop => "stop",
        UnitCommand::Restart => "restart",
        UnitCommand::Reload => "reload",
        UnitCommand::TryRestart => "try-restart",
        UnitCommand::ReloadOrRestart => "reload-or-restart",
        UnitCommand::ReloadOrTryRestart => "try-reload-or-restart",
    };
    let is_about_what_runs =
        matches!(command, UnitCommand::Stop | UnitCommand::TryRestart | UnitCommand::ReloadOrTryRestart);
    match job(unit.as_str(), verb, "replace", false) {
        // A unit that is not there does not run.
        Err(UnitError::Refused(_)) if is_about_what_runs => Ok(()),
        result => result,
    }
}

/// Asks PID 1 for a job; with `wait`, until it is over.
///
/// # Errors
/// [`UnitError`]: PID 1 refuses it, or it ended in something else than `done`.
pub fn job(unit: &str, verb: &str, mode: &str, wait: bool) -> Result<(), UnitError> {
    let request = JobRequest { unit: unit.to_owned(), verb: verb.to_owned(), mode: mode.to_owned(), wait };
    let answer = Client::connect()?.call(Method::Job(request))?;
    match answer.result.as_deref() {
        Some("done" | "queued" | "skipped") | None => Ok(()),
        Some(result) => Err(UnitError::Control(format!("{unit}: {verb} ended in '{result}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_and_go_and_files_of_the_user_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        let place = UnitPlace { unit: UnitName::parse("a.service").unwrap(), is_runtime: false };
        std::fs::write(folder.join("a.service"), "[Service]\n").unwrap();
        unmask(root.path(), &place).unwrap();
        assert!(folder.join("a.service").is_file(), "that was no mask");
        mask(root.path(), &place).unwrap();
        assert_eq!(std::fs::read_link(folder.join("a.service")).unwrap(), Path::new("/dev/null"));
        unmask(root.path(), &place).unwrap();
        assert!(folder.join("a.service").symlink_metadata().is_err());
    }

    #[test]
    fn a_unit_without_an_install_section_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
        std::fs::write(
            folder.join("b.service"),
            "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=x.target\n",
        )
        .unwrap();
        let place = |name| UnitPlace { unit: UnitName::parse(name).unwrap(), is_runtime: false };
        assert!(enable(root.path(), &place("a.service")).unwrap().unwrap().contains("no [Install] section"));
        assert_eq!(enable(root.path(), &place("b.service")).unwrap(), None);
        assert!(folder.join("x.target.wants/b.service").is_symlink());
        disable(root.path(), &place("b.service")).unwrap();
        assert!(!folder.join("x.target.wants/b.service").is_symlink());
        assert!(enable(root.path(), &place("c.service")).is_err());
    }
}
