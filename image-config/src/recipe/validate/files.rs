//! Rules of extra files.

use std::path::{Component, Path, PathBuf};

use super::super::names::NameError;
use super::super::{Account, AccountName, ExtraFile, FileSource, ImagePath, Owner, raw};
use super::{Check, steps};
use crate::yaml::Step;

/// What is going to be at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    File,
    Folder,
}

/// A path that an image can hold: `/usr` is the image, `/etc` its lower layer; all else is made at run time.
pub(super) fn path_in_image(text: &str, place: Place) -> Result<ImagePath, NameError> {
    let path = ImagePath::parse(text)?;
    let top = text.split('/').nth(1).unwrap_or_default();
    if text == "/usr/etc" || text.starts_with("/usr/etc/") {
        return Err(NameError::new(format!("`{text}` is where the image stores `/etc`"))
            .hint(format!("write `{}`", text.trim_start_matches("/usr"))));
    }
    match top {
        "usr" | "etc" => Ok(path),
        "var" if place == Place::Folder => Ok(path),
        "bin" | "sbin" | "lib" | "lib64" => {
            Err(NameError::new(format!("`/{top}` is a link into `/usr`")).hint(format!("write `/usr{text}`")))
        }
        _ => Err(NameError::new(format!("the image cannot hold `{text}`")).hint(
            "it consists of `/usr` and `/etc`, and of folders in `/var`; the rest is made when it boots",
        )),
    }
}

pub(super) fn files(check: &mut Check<'_>, raw: Vec<raw::File>) -> Vec<ExtraFile> {
    let mut out: Vec<ExtraFile> = Vec::with_capacity(raw.len());
    for (index, entry) in raw.into_iter().enumerate() {
        let Some(file) = file(check, index, entry) else { continue };
        if out.iter().any(|other| other.path == file.path) {
            check.error(steps!["files", index, "path"], format!("`{}` is listed twice", file.path), None);
            continue;
        }
        let below = |inner: &ExtraFile, outer: &ExtraFile| {
            outer.source != FileSource::Directory
                && inner
                    .path
                    .as_str()
                    .strip_prefix(outer.path.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(other) = out.iter().find(|other| below(&file, other) || below(other, &file)) {
            let message = format!("`{}` and `{}` cannot both exist", other.path, file.path);
            check.error(steps!["files", index, "path"], message, Some("one is not a folder".to_owned()));
        }
        out.push(file);
    }
    out
}

fn file(check: &mut Check<'_>, index: usize, raw: raw::File) -> Option<ExtraFile> {
    let mut sources = Vec::new();
    if let Some(text) = raw.content {
        sources.push(("content", FileSource::Inline(text)));
    }
    if let Some(text) = &raw.source {
        let source = check.word(steps!["files", index, "source"], text, host_path)?;
        sources.push(("source", FileSource::Host(source)));
    }
    if let Some(target) = raw.symlink {
        if target.is_empty() || target.len() > 4095 || target.chars().any(char::is_control) {
            check.error(steps!["files", index, "symlink"], "the link has no usable target", None);
            return None;
        }
        sources.push(("symlink", FileSource::Symlink(target)));
    }
    if raw.directory == Some(true) {
        sources.push(("directory", FileSource::Directory));
    }
    if sources.len() > 1 {
        let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
        check.error(steps!["files", index], format!("`{}` exclude each other", names.join("`, `")), None);
        return None;
    }
    let Some((kind, source)) = sources.pop() else {
        let hint = "one of `content`, `source`, `symlink` and `directory: true` is needed";
        check.error(
            steps!["files", index],
            format!("nothing says what `{}` is", raw.path),
            Some(hint.to_owned()),
        );
        return None;
    };
    let (place, mode) = match &source {
        FileSource::Inline(_) | FileSource::Host(_) => (Place::File, 0o644),
        FileSource::Symlink(_) => (Place::File, 0o777),
        FileSource::Directory => (Place::Folder, 0o755),
    };
    if kind == "symlink" && raw.mode.is_some() {
        check.error(steps!["files", index, "mode"], "a symbolic link has no mode of its own", None);
    }
    let root = Account::Id(0);
    let owner = match &raw.owner {
        Some(text) => check.word(steps!["files", index, "owner"], text, owner),
        None => Some(Owner { user: root.clone(), group: root }),
    };
    let path = check.word(steps!["files", index, "path"], &raw.path, |text| path_in_image(text, place));
    Some(ExtraFile { path: path?, source, owner: owner?, mode: raw.mode.map_or(mode, |mode| mode.0) })
}

/// Adds a link in `/usr/bin` for every name that a program goes by.
pub(super) fn applets(check: &mut Check<'_>, raw: Option<&raw::Applets>, files: &mut Vec<ExtraFile>) {
    const FOLDER: &str = "/usr/bin";
    let Some(raw) = raw else { return };
    let program =
        check.word(steps!["applets", "program"], &raw.program, |text| path_in_image(text, Place::File));
    let Some(program) = program else { return };
    let (folder, own_name) = program.as_str().rsplit_once('/').unwrap_or_default();
    let target = if folder == FOLDER { own_name } else { program.as_str() };
    let paths = check.list(steps!["applets", "names"], &raw.names, |name| {
        if name.contains('/') {
            return Err(NameError::new(format!("`{name}` is a path"))
                .hint("the names alone: the links go to /usr/bin"));
        }
        ImagePath::parse(&format!("{FOLDER}/{name}"))
    });
    let root = Account::Id(0);
    for path in paths {
        if let Some(index) = raw.names.iter().position(|name| path.as_str().ends_with(&format!("/{name}")))
            && (path == program || files.iter().any(|file| file.path == path))
        {
            check.error(
                steps!["applets", "names", index],
                format!("`{path}` is something else already"),
                None,
            );
            continue;
        }
        let owner = Owner { user: root.clone(), group: root.clone() };
        files.push(ExtraFile { path, source: FileSource::Symlink(target.to_owned()), owner, mode: 0o777 });
    }
}

/// A path on the machine that builds: relative, and below the folder that it starts from.
pub(super) fn host_path(text: &str) -> Result<PathBuf, NameError> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if text.is_empty() || !plain {
        return Err(NameError::new(format!("`{text}` leads out of the recipe's folder"))
            .hint("write a path relative to the recipe, without `..`"));
    }
    Ok(path.to_owned())
}

/// `user:group`, each a name or a number.
pub(super) fn owner(text: &str) -> Result<Owner, NameError> {
    let Some((user, group)) = text.split_once(':') else {
        return Err(NameError::new(format!("owner `{text}` names no group"))
            .hint(format!("write `user:group`, such as `{text}:root`")));
    };
    Ok(Owner { user: account(user)?, group: account(group)? })
}

fn account(text: &str) -> Result<Account, NameError> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        let id = text.parse().ok().filter(|id| *id < u32::MAX - 1);
        return id
            .map(Account::Id)
            .ok_or_else(|| NameError::new(format!("`{text}` is too large for a user id")));
    }
    match AccountName::parse(text)?.as_str() {
        "root" => Ok(Account::Id(0)),
        _ => AccountName::parse(text).map(Account::Name),
    }
}
