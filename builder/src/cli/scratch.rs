//! Folders for what a command needs only while it runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// An empty folder of a command.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Whether the command chose it, and so may delete it.
    own: bool,
}

impl Scratch {
    /// The folder that the user names, which must be empty or not exist yet; else `usual`, from which what an earlier run left goes.
    pub fn new(named: Option<&Path>, usual: &Path) -> Result<Self> {
        let (path, own) = named.map_or((usual, true), |named| (named, false));
        if own && path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        fs::create_dir_all(path).with_context(|| format!("cannot create the folder {}", path.display()))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        if fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?.next().is_some() {
            bail!("{} is not empty; --scratch names a folder that is, or does not exist yet", path.display());
        }
        Ok(Self { path, own })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes the folder, if the command chose it.
    pub fn remove(self) -> Result<()> {
        if self.own {
            fs::remove_dir_all(&self.path)
                .with_context(|| format!("cannot remove {}", self.path.display()))?;
        }
        Ok(())
    }
}
