//! Commands that look at unit files and change their links: `enable`, `mask`, `cat`, `list-unit-files` and the like.

use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::{UnitName, complete_unit_name};

use super::USAGE;
use super::options::{Options, PresetMode};
use super::tables::{self, UnitFileRow};
use crate::control::{Client, ClientError, Method};
use crate::unit_files::install::{Change, InstallError, Installer};
use crate::unit_files::presets::Presets;
use crate::unit_files::state::FileState;
use crate::unit_files::{Fragment, UnitFolders};

/// What systemd says of units without an `[Install]` section.
const NOTHING_TO_INSTALL: &str = "\
The unit files have no installation config (WantedBy=, RequiredBy=, UpheldBy=,
Also=, or Alias= settings in the [Install] section, and DefaultInstance= for
template units). This means they are not meant to be enabled or disabled using
systemctl.";

/// `enable`, `disable`, `reenable`, `preset`, `mask`, `unmask`, `link`, `revert`, `set-default`; of `add-wants` and
/// `add-requires` the first operand is the target.
pub fn change(verb: &str, operands: &[String], options: &Options) -> Result<u8, ClientError> {
    let (target, units) = match (verb, operands.split_first()) {
        ("add-wants" | "add-requires", Some((target, units))) => (Some(target.as_str()), units),
        _ => (None, operands),
    };
    if units.is_empty() && verb != "preset-all" {
        eprintln!("Too few arguments.");
        return Ok(USAGE);
    }
    let installer = Installer::new(&options.root, options.runtime, options.force);
    let mut code = 0;
    let mut say_all = |result: Result<Vec<Change>, InstallError>| match result {
        Ok(changes) => changes.iter().for_each(|change| say(change, verb, options)),
        Err(error) => {
            eprintln!("Failed to {verb} unit: {error}");
            code = 1;
        }
    };
    if verb == "preset-all" {
        let (enable, disable) = modes(options);
        say_all(installer.preset_all(&Presets::of_system(&options.root), enable, disable));
    }
    for unit in units {
        if matches!(verb, "mask" | "unmask") && !options.quiet {
            warn_of_strangers(unit, &installer);
        }
        say_all(change_one(verb, unit, target, &installer, options));
    }
    // Files below another root are no business of the PID 1 that runs here.
    if options.root == Path::new("/") && !options.no_reload {
        reload(options)?;
    }
    Ok(code)
}

/// Whether presets may enable, and whether they may disable.
fn modes(options: &Options) -> (bool, bool) {
    (options.preset_mode != PresetMode::DisableOnly, options.preset_mode != PresetMode::EnableOnly)
}

/// Units that do not exist can be masked: but it may be a slip of the fingers.
fn warn_of_strangers(unit: &str, installer: &Installer) {
    if UnitName::parse(unit).is_ok_and(|name| installer.folders().find(&name).is_none()) {
        eprintln!("Unit {unit} does not exist, proceeding anyway.");
    }
}

fn change_one(
    verb: &str,
    unit: &str,
    target: Option<&str>,
    installer: &Installer,
    options: &Options,
) -> Result<Vec<Change>, InstallError> {
    match (verb, target) {
        ("enable", _) => installer.enable(unit),
        ("disable", _) => installer.disable(unit),
        ("reenable", _) => {
            let mut changes = installer.disable(unit)?;
            changes.extend(installer.enable(unit)?);
            Ok(changes)
        }
        ("preset", _) => {
            let name = UnitName::parse(unit).map_err(|_| InstallError::NotFound(unit.to_owned()))?;
            let (enable, disable) = modes(options);
            installer.preset(&name, &Presets::of_system(&options.root), enable, disable)
        }
        ("mask", _) => installer.mask(unit),
        ("unmask", _) => installer.unmask(unit),
        ("revert", _) => installer.revert(unit),
        ("add-wants", Some(target)) => installer.add_dependency(unit, "wants", target),
        ("add-requires", Some(target)) => installer.add_dependency(unit, "requires", target),
        ("link", _) => {
            let mut changes = Vec::new();
            installer.link(unit, &mut changes)?;
            Ok(changes)
        }
        _ => installer.set_default(unit),
    }
}

fn say(change: &Change, verb: &str, options: &Options) {
    if options.quiet {
        return;
    }
    match change {
        Change::Created { link, target } => {
            eprintln!("Created symlink '{}' → '{}'.", link.display(), target.display());
        }
        Change::Removed(link) => eprintln!("Removed '{}'.", link.display()),
        // Presets are for whatever there is, also for what has nothing to enable.
        Change::NothingToInstall(_) if verb.starts_with("preset") => {}
        Change::NothingToInstall(_) => eprintln!("{NOTHING_TO_INSTALL}"),
    }
}

/// Lets PID 1 read its files again. Without one (a host, a chroot) there is nobody to tell.
pub(super) fn reload(options: &Options) -> Result<(), ClientError> {
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
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return USAGE;
    }
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

/// The state of a unit's file, for `status` and `show`, and what the presets advise; both empty when there is no file.
pub fn state_words(unit: &str, options: &Options) -> (&'static str, &'static str) {
    let Ok(name) = UnitName::parse(unit) else { return ("", "") };
    match UnitFolders::of_system(&options.root).state(&name) {
        FileState::NotFound => ("", ""),
        state if state.has_preset() => (state.word(), Presets::of_system(&options.root).advice(&name).word()),
        state => (state.word(), ""),
    }
}

/// `list-unit-files`, and whether there is any.
pub fn list(patterns: &[String], options: &Options) -> (String, bool) {
    let folders = UnitFolders::of_system(&options.root);
    let wanted =
        |name: &UnitName| tables::fits(patterns, name.as_str()) && tables::is_of_kind(options, name.as_str());
    let names = folders.names().into_iter().filter(wanted);
    let presets = Presets::of_system(&options.root);
    let files: Vec<UnitFileRow> = names
        .map(|name| {
            let state = folders.state(&name);
            let preset = state.has_preset().then(|| presets.advice(&name).word());
            UnitFileRow { name: name.as_str().to_owned(), state, preset }
        })
        .collect();
    (tables::unit_files(&files, options), !files.is_empty())
}

/// Main file and drop-ins of a unit as they lie on disk.
pub(super) fn paths(folders: &UnitFolders, unit: &str) -> Vec<PathBuf> {
    let Ok(name) = UnitName::parse(unit) else { return Vec::new() };
    let Fragment::Found { name, path, aliases } = folders.fragment(&name) else { return Vec::new() };
    let names: Vec<&UnitName> = std::iter::once(&name).chain(&aliases).collect();
    std::iter::once(path).chain(folders.drop_ins(&names)).collect()
}

/// `cat`.
pub fn cat(units: &[String], options: &Options) -> u8 {
    if units.is_empty() {
        eprintln!("Too few arguments.");
        return USAGE;
    }
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

/// Names as they are given, those without a suffix being services; paths stay paths.
pub fn names(operands: &[String]) -> Vec<String> {
    operands
        .iter()
        .map(|word| if word.contains('/') { word.clone() } else { complete_unit_name(word) })
        .collect()
}

/// The name of a target; one without a suffix is no service.
pub fn target(word: &str) -> String {
    if UnitName::parse(word).is_ok() { word.to_owned() } else { format!("{word}.target") }
}
