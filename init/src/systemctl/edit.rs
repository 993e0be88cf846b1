//! `systemctl edit`: a drop-in, or a copy of the whole file, that a person changes.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use super::USAGE;
use super::files;
use super::options::Options;
use crate::control::ClientError;
use crate::unit_files::UnitFolders;

/// `edit`: a drop-in, or with `--full` a copy of the whole file, goes through an editor (or comes from standard input).
pub fn edit(units: &[String], options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    for unit in units {
        if let Err(problem) = edit_one(unit, options) {
            eprintln!("Failed to edit {unit}: {problem}");
            return Ok(1);
        }
    }
    files::reload(options)?;
    Ok(0)
}

fn edit_one(unit: &str, options: &Options) -> Result<(), String> {
    let folders = UnitFolders::of_system(&options.root);
    let paths = files::paths(&folders, unit);
    let main = paths.first();
    if main.is_none() && !options.force {
        return Err(format!("Unit {unit} not found; --force makes one"));
    }
    let folder = if options.runtime { "run/systemd/system" } else { "etc/systemd/system" };
    let folder = options.root.join(folder);
    let target = if options.full || main.is_none() {
        folder.join(unit)
    } else {
        let name = &options.drop_in;
        if name.contains('/') || name.is_empty() {
            return Err(format!("'{name}' is no name for a drop-in"));
        }
        let name = if name.ends_with(".conf") { name.clone() } else { format!("{name}.conf") };
        folder.join(format!("{unit}.d")).join(name)
    };
    let before = fs::read_to_string(&target).or_else(|_| match main {
        Some(path) if options.full => fs::read_to_string(path),
        _ => Ok(String::new()),
    });
    let before = before.map_err(|error: io::Error| error.to_string())?;
    let after = if options.stdin {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
        text
    } else {
        through_editor(&target, &before)?
    };
    if after.trim().is_empty() || after == before {
        return Err("nothing was changed".to_owned());
    }
    write(&target, &after).map_err(|error| format!("{}: {error}", target.display()))?;
    if !options.quiet {
        eprintln!("Successfully installed edited file '{}'.", target.display());
    }
    Ok(())
}

/// Lets an editor change a text: systemctl(1), "SYSTEMD_EDITOR".
fn through_editor(target: &Path, text: &str) -> Result<String, String> {
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("unit");
    let draft = std::env::temp_dir().join(format!(".systemctl-edit-{}-{name}", std::process::id()));
    write(&draft, text).map_err(|error| format!("{}: {error}", draft.display()))?;
    let configured = ["SYSTEMD_EDITOR", "EDITOR", "VISUAL"].iter().find_map(|name| std::env::var(name).ok());
    let candidates = configured
        .map_or_else(|| ["editor", "nano", "vim", "vi"].map(str::to_owned).to_vec(), |editor| vec![editor]);
    let mut outcome = Err("no editor was found; set SYSTEMD_EDITOR, or use --stdin".to_owned());
    for editor in candidates {
        let mut words = editor.split_whitespace();
        let Some(program) = words.next() else { continue };
        match Command::new(program).args(words).arg(&draft).status() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => outcome = Err(format!("{program}: {error}")),
            Ok(status) if !status.success() => outcome = Err(format!("{program} ended with {status}")),
            Ok(_) => outcome = fs::read_to_string(&draft).map_err(|error| error.to_string()),
        }
        break;
    }
    let _gone = fs::remove_file(&draft);
    outcome
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_file_name(format!(
        ".#{}",
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    ));
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_changes_a_drop_in_and_leaves_no_draft() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.service"), "[Service]\nExecStart=/a\n").unwrap();
        let options = Options { root: root.path().to_owned(), quiet: true, ..Options::default() };
        assert!(edit_one("gone.service", &options).unwrap_err().contains("not found"));
        let target = root.path().join("etc/systemd/system/a.service.d/override.conf");
        write(&target, "[Service]\nNice=5\n").unwrap();
        let found = files::paths(&UnitFolders::of_system(root.path()), "a.service");
        assert_eq!(found, [folder.join("a.service"), target.clone()]);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        let bad = Options { drop_in: "../x".to_owned(), ..options };
        assert!(edit_one("a.service", &bad).unwrap_err().contains("no name for a drop-in"));
    }
}
