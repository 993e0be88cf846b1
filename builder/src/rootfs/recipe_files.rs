//! The recipe's own users and files.

use std::fs;
use std::sync::Arc;

use image_config::recipe::{ExtraFile, FileSource, PrimaryGroup, Recipe};

use super::accounts::{AccountError, Accounts, User};
use super::staging::{Staging, StagingError};
use crate::tree::{FileData, Kind, Meta, Node, Origin};

/// Adds the recipe's groups and users, and their home folders as lines of `tmpfiles.d`.
///
/// # Errors
/// A number or name is taken, or a group does not exist.
pub fn add_accounts(
    staging: &mut Staging,
    accounts: &mut Accounts,
    recipe: &Recipe,
) -> Result<(), AccountError> {
    for group in &recipe.groups {
        accounts.ensure_group(group.name.as_str(), Some(group.gid))?;
    }
    for user in &recipe.users {
        let name = user.name.as_str();
        let gid = match &user.group {
            PrimaryGroup::Own { gid } => accounts.ensure_group(name, Some(*gid))?,
            PrimaryGroup::Existing(group) => accounts.gid(group.as_str())?,
        };
        let (home, shell) = (user.home.to_string(), user.shell.to_string());
        let entry = User { uid: user.uid, gid, gecos: user.gecos.clone(), home: home.clone(), shell };
        accounts.add_user(name, entry)?;
        for group in &user.groups {
            accounts.add_member(group.as_str(), name)?;
        }
        // /home is /var/home: the folder is made on STATE at boot, when it is not there yet.
        if let Some(below) = home.strip_prefix("/home/") {
            staging.tmpfiles_line(format!("d /var/home/{below} 0755 {} {gid} -", user.uid));
            for dotfile in [".bashrc", ".profile", ".bash_logout"] {
                let skeleton = format!("/etc/skel/{dotfile}");
                if staging.has(skeleton.as_bytes()) {
                    let line = format!("C /var/home/{below}/{dotfile} 0644 {} {gid} - {skeleton}", user.uid);
                    staging.tmpfiles_line(line);
                }
            }
        }
    }
    Ok(())
}

/// Adds the recipe's files. Folders in `/var` become lines of `tmpfiles.d`.
///
/// # Errors
/// A path is taken and not in `replace`, a source cannot be read, or an owner does not exist.
pub fn add_files(staging: &mut Staging, accounts: &Accounts, recipe: &Recipe) -> Result<(), StagingError> {
    for file in &recipe.files {
        let (uid, gid) = accounts.owner(&file.owner)?;
        let path = file.path.to_string();
        if path.starts_with("/var/") {
            staging.tmpfiles_line(format!("d {path} {:04o} {uid} {gid} -", file.mode));
            continue;
        }
        let kind = content(file, recipe)?;
        let meta = Meta { mode: file.mode, uid, gid, mtime: staging.build_time() };
        staging.add(path.as_bytes(), Node::new(kind, meta, Origin::new("the recipe")))?;
    }
    Ok(())
}

fn content(file: &ExtraFile, recipe: &Recipe) -> Result<Kind, StagingError> {
    Ok(match &file.source {
        FileSource::Inline(text) => Kind::file(text.clone().into_bytes()),
        FileSource::Symlink(target) => Kind::Symlink(target.clone().into_bytes()),
        FileSource::Directory => Kind::empty_directory(),
        FileSource::Host(relative) => {
            let host = recipe.folder.join(relative);
            let bytes = fs::read(&host).map_err(|source| StagingError::HostFile {
                path: file.path.to_string(),
                file: host.clone(),
                source,
            })?;
            Kind::File(Arc::new(FileData::from_bytes(bytes)))
        }
    })
}
