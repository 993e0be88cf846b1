//! The view of the file system that a unit's processes have: a mount namespace, planned as data, then made.

mod apply;
mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::{PrivateTmp, Sandbox};

use self::plan::{Entry, Plan};
use super::folders::{self, Folders};
use super::{Circumstances, Context, Step, code, failure};

/// Enters a mount namespace with everything that the sandbox wants of it.
pub(super) fn enter(sandbox: &Sandbox, how: &Circumstances<'_>, folders: &Folders) -> Step<()> {
    let mut plan = Plan::of(sandbox);
    if sandbox.private_tmp == PrivateTmp::Yes {
        let targets = ["/tmp", "/var/tmp"];
        let own = folders::private_tmp_folders(&how.service.exec, how.unit, how.run, how.root);
        for (folder, target) in own.iter().zip(targets) {
            let inner = folders::make_private_tmp(folder).step(code::NAMESPACE, "PrivateTmp=")?;
            plan.private_tmp(inner, target);
        }
    }
    for folder in &folders.private_bases {
        let inside = folders.writable.iter().filter(|path| path.starts_with(folder));
        plan.private_base(folder, inside);
    }
    for path in &folders.writable {
        plan.writable(path);
    }
    let root = match &sandbox.root_directory {
        Some(path) if !path.optional || Path::new(&path.path).exists() => Some(PathBuf::from(&path.path)),
        _ => None,
    };
    let entries = resolve(plan.entries, root.as_deref())?;
    apply::apply(&plan::settle(entries), root.as_deref(), sandbox)
}

/// Follows the links in the paths, so that entries can be compared, and leaves out what need not exist and does not.
fn resolve(entries: Vec<Entry>, root: Option<&Path>) -> Step<Vec<Entry>> {
    let mut found = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let whole = match root {
            Some(root) if entry.in_root => root.join(entry.path.strip_prefix("/").unwrap_or(&entry.path)),
            _ => entry.path.clone(),
        };
        match fs::canonicalize(&whole) {
            Ok(path) if root.is_some_and(|root| entry.in_root && !path.starts_with(root)) => {
                return Err(failure(
                    code::NAMESPACE,
                    format!("{}{}: the path leads out of the root directory", entry.setting, path.display()),
                ));
            }
            Ok(path) => entry.path = path,
            // A place to mount at is made; what is to be protected must be there.
            Err(_) if entry.mount.is_some() && !entry.optional => entry.path = whole,
            Err(_) if entry.optional => continue,
            Err(error) => {
                return Err(error)
                    .step(code::NAMESPACE, format_args!("{}{}", entry.setting, entry.path.display()));
            }
        }
        found.push(entry);
    }
    Ok(found)
}
