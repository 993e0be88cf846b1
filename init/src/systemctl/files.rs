//! Commands that look at unit files and change their links: `enable`, `mask`, `cat`, `edit`, `list-unit-files` and the like.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use image_config::unit::{UnitName, complete_unit_name};

use super::options::Options;
use super::{USAGE, tables};
use crate::control::{Client, ClientError, Method};
use crate::unit_files::install::{Change, InstallError, Installer};
use crate::unit_files::state::FileState;
use crate::unit_files::{Fragment, UnitFolders};

/// What systemd says of units without an `[Install]` section.
const NOTHING_TO_INSTALL: &str = "\
The unit files have no installation config (WantedBy=, RequiredBy=, UpheldBy=,
Also=, or Alias= settings in the [Install] section, and DefaultInstance= for
template units). This means they are not meant to be enabled or disabled using
systemctl.";

/// `enable`, `disable`, `reenable`, `mask`, `unmask`, `link`, `set-default`.
pub fn change(verb: &str, units: &[String], options: &Options) -> Result<u8, ClientError> {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let installer = Installer::new(&options.root, options.runtime, options.force);
    let mut code = 0;
    for unit in units {
        match change_one(verb, unit, &installer) {
            Ok(changes) => changes.iter().for_each(|change| say(change, options)),
            Err(error) => {
                eprintln!("Failed to {verb} unit: {error}");
                code = 1;
            }
        }
    }
    // Files below another root are no business of the PID 1 that runs here.
    if options.root == Path::new("/") {
        reload(options)?;
    }
    Ok(code)
}

fn change_one(verb: &str, unit: &str, installer: &Installer) -> Result<Vec<Change>, InstallError> {
    match verb {
        "enable" => installer.enable(unit),
        "disable" => installer.disable(unit),
        "reenable" => {
            let mut changes = installer.disable(unit)?;
            changes.extend(installer.enable(unit)?);
            Ok(changes)
        }
        "mask" => installer.mask(unit),
        "unmask" => installer.unmask(unit),
        "link" => {
            let mut changes = Vec::new();
            installer.link(unit, &mut changes)?;
            Ok(changes)
        }
        _ => installer.set_default(unit),
    }
}

fn say(change: &Change, options: &Options) {
    if options.quiet {
        return;
    }
    match change {
        Change::Created { link, target } => {
            eprintln!("Created symlink '{}' → '{}'.", link.display(), target.display());
        }
        Change::Removed(link) => eprintln!("Removed '{}'.", link.display()),
        Change::NothingToInstall(_) => eprintln!("{NOTHING_TO_INSTALL}"),
    }
}

/// Lets PID 1 read its files again. Without one (a host, a chroot) there is nobody to tell.
fn reload(options: &Options) -> Result<(), ClientError> {
    match Client::connect() {
        Ok(mut client) => client.call(Method::Reload {}).map(drop),
        Err(error) => {
            if !options.quiet {
                eprintln!("{error}: it will see the change when it reads its files the next time.");
            }
            Ok(())
        }
    }
}

/// `get-default`.
pub fn get_default(options: &Options) -> u8 {
    match Installer::new(&options.root, false, false).default_target() {
        Some(name) => {
            println!("{name}");
            0
        }
        None => {
            eprintln!("Failed to get default target: default.target does not exist.");
            1
        }
    }
}

/// `is-enabled`: 0 when one of the units is, else the code of the last.
pub fn is_enabled(units: &[String], options: &Options) -> u8 {
    let folders = UnitFolders::of_system(&options.root);
    let mut codes = Vec::new();
    for unit in units {
        let state = UnitName::parse(unit).map_or(FileState::NotFound, |name| folders.state(&name));
        codes.push(state.exit_code());
        if !options.quiet {
            println!("{}", state.word());
        }
    }
    if codes.contains(&0) { 0 } else { codes.last().copied().unwrap_or(USAGE) }
}

/// The state of a unit's file, for `status` and `show`; empty when there is no file.
pub fn state_word(unit: &str, options: &Options) -> &'static str {
    let folders = UnitFolders::of_system(&options.root);
    match UnitName::parse(unit).map(|name| folders.state(&name)) {
        Ok(FileState::NotFound) | Err(_) => "",
        Ok(state) => state.word(),
    }
}

/// `list-unit-files`.
pub fn list(patterns: &[String], options: &Options) -> String {
    let folders = UnitFolders::of_system(&options.root);
    let wanted =
        |name: &UnitName| tables::fits(patterns, name.as_str()) && tables::is_of_kind(options, name.as_str());
    let names = folders.names().into_iter().filter(wanted);
    let files: Vec<(String, FileState)> =
        names.map(|name| (name.as_str().to_owned(), folders.state(&name))).collect();
    tables::unit_files(&files, options)
}

/// Main file and drop-ins of a unit as they lie on disk.
fn paths(folders: &UnitFolders, unit: &str) -> Vec<PathBuf> {
    let Ok(name) = UnitName::parse(unit) else { return Vec::new() };
    let Fragment::Found { name, path, aliases } = folders.fragment(&name) else { return Vec::new() };
    let names: Vec<&UnitName> = std::iter::once(&name).chain(&aliases).collect();
    std::iter::once(path).chain(folders.drop_ins(&names)).collect()
}

/// `cat`.
pub fn cat(units: &[String], options: &Options) -> u8 {
    let folders = UnitFolders::of_system(&options.root);
    let mut code = 0;
    let mut is_first = true;
    for unit in units {
        let paths = paths(&folders, unit);
        if paths.is_empty() {
            eprintln!("No files found for {unit}.");
            code = 1;
        }
        for path in paths {
            if !std::mem::take(&mut is_first) {
                println!();
            }
            println!("{}", options.style.paint(super::style::Colour::Grey, &format!("# {}", path.display())));
            match fs::read_to_string(&path) {
                Ok(text) => print!("{text}"),
                Err(error) => println!("# cannot be read: {error}"),
            }
        }
    }
    code
}

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
    reload(options)?;
    Ok(0)
}

fn edit_one(unit: &str, options: &Options) -> Result<(), String> {
    let folders = UnitFolders::of_system(&options.root);
    let paths = paths(&folders, unit);
    let main = paths.first();
    if main.is_none() && !options.force {
        return Err("there is no such unit; --force makes one".to_owned());
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
fn write(path: &Path, text: &str) -> io::Result<()> {
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

/// Names as they are given, those without a suffix being services; paths stay paths.
pub fn names(operands: &[String]) -> Vec<String> {
    operands
        .iter()
        .map(|word| if word.contains('/') { word.clone() } else { complete_unit_name(word) })
        .collect()
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
        assert!(edit_one("gone.service", &options).unwrap_err().contains("no such unit"));
        let target = root.path().join("etc/systemd/system/a.service.d/override.conf");
        write(&target, "[Service]\nNice=5\n").unwrap();
        let found = paths(&UnitFolders::of_system(root.path()), "a.service");
        assert_eq!(found, [folder.join("a.service"), target.clone()]);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        let bad = Options { drop_in: "../x".to_owned(), ..options };
        assert!(edit_one("a.service", &bad).unwrap_err().contains("no name for a drop-in"));
    }
}
