//! Programs that a plan runs: written to a file, and started by the kernel through the interpreter that they name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use image_config::user_data::plan::Script;
use init::boot::identity;

/// Where the files lie, for root alone.
const FOLDER: &str = "var/lib/ferrite/user-data/scripts";
/// What scripts find programs with: those of the image, and what a machine's owner adds.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin";

/// Why a script did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The interpreter of its first line.
    #[error("{name}: the interpreter {interpreter} is not in this image")]
    NoInterpreter {
        /// The script.
        name: String,
        /// Its path.
        interpreter: String,
    },
    /// Its file.
    #[error("{name}: cannot write the script to /{FOLDER}")]
    Write {
        /// The script.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It does not start.
    #[error("{name}: cannot start {interpreter}")]
    Start {
        /// The script.
        name: String,
        /// Its interpreter.
        interpreter: String,
        /// Why not.
        source: io::Error,
    },
    /// It failed.
    #[error("{name} ended with {status}")]
    Failed {
        /// The script.
        name: String,
        /// How.
        status: ExitStatus,
    },
}

/// Runs a script to its end. What it prints goes where this program's output goes, the journal.
///
/// # Errors
/// [`ScriptError`]
pub fn run(root: &Path, script: &Script, instance: &str) -> Result<(), ScriptError> {
    let name = || script.name.clone();
    let interpreter = || script.interpreter.clone();
    // A missing interpreter and a missing script are one error to the kernel.
    if !root.join(script.interpreter.trim_start_matches('/')).exists() {
        return Err(ScriptError::NoInterpreter { name: name(), interpreter: interpreter() });
    }
    let folder = root.join(FOLDER);
    let path = folder.join(script.name.replace('/', "_"));
    let written = fs::create_dir_all(&folder)
        .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
        .and_then(|()| identity::replace(&path, 0o700, &script.contents));
    written.map_err(|source| ScriptError::Write { name: name(), source })?;
    let status = Command::new(&path)
        .current_dir("/")
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .env("INSTANCE_ID", instance)
        .status()
        .map_err(|source| ScriptError::Start { name: name(), interpreter: interpreter(), source })?;
    if status.success() { Ok(()) } else { Err(ScriptError::Failed { name: name(), status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: &str, text: &str) -> Script {
        Script { name: "part/1".to_owned(), interpreter: interpreter.to_owned(), contents: text.into() }
    }

    #[test]
    fn the_interpreter_of_the_first_line_runs_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/sh"), "").unwrap();
        let marker = root.path().join("marker");
        let text = format!("#!/bin/sh\nprintf '%s' \"$INSTANCE_ID\" > {}\n", marker.display());
        run(root.path(), &script("/bin/sh", &text), "i-1").unwrap();
        assert_eq!(fs::read_to_string(marker).unwrap(), "i-1");
        let mode = fs::metadata(root.path().join(FOLDER).join("part_1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let error = run(root.path(), &script("/bin/sh", "#!/bin/sh\nexit 3\n"), "").unwrap_err();
        assert_eq!(error.to_string(), "part/1 ended with exit status: 3");
        let error = run(root.path(), &script("/bin/python3", "#!/bin/python3\n"), "").unwrap_err();
        assert_eq!(error.to_string(), "part/1: the interpreter /bin/python3 is not in this image");
    }
}
