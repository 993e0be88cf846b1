//! The standard tools, fetched as Debian packages by our own client and run from a folder, without root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use debian::archive::{Archive, Config};
use debian::cache::Cache;
use debian::mirrors::MirrorSet;
use debian::progress::Silent;
use debian::resolve::Request;

use crate::Image;

static FETCHING: Mutex<()> = Mutex::new(());

/// A folder of unpacked packages.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The packages with everything that they depend on; unpacked once.
    ///
    /// # Errors
    /// They cannot be fetched.
    pub fn of_packages(names: &[&str]) -> Result<Self> {
        let _fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Image::folder()?.join("tools");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock().context("cannot lock the folder of tools")?;
        let root = folder.join(names.join("+"));
        if !root.is_dir() {
            let mirrors = MirrorSet::discover(&[], &[], Path::new("/"));
            let archive =
                Archive::open(Config::debian("trixie", &mirrors, Cache::from_env())?, Arc::new(Silent))?;
            let requests: Vec<_> =
                names.iter().map(|name| name.parse::<Request>()).collect::<Result<_, _>>()?;
            let partial = folder.join(format!(".part.{}", std::process::id()));
            archive.fetch_closure_to_dir(&requests, &[], &partial)?;
            fs::rename(&partial, &root)?;
        }
        Ok(Self { root })
    }

    /// The folder that they were unpacked to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs a program of the packages (`sgdisk`) with their own libraries.
    ///
    /// # Errors
    /// No package has the program.
    pub fn command(&self, program: &str) -> Result<Command> {
        let places = ["usr/bin", "usr/sbin"].map(|folder| self.root.join(folder).join(program));
        let Some(path) = places.iter().find(|path| path.is_file()) else {
            bail!("{program} is not in {}", self.root.display());
        };
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu").display().to_string();
        let mut command = Command::new(self.root.join("usr/lib64/ld-linux-x86-64.so.2"));
        // systemd's programs share a library that lies in a folder of its own.
        command.arg("--library-path").arg(format!("{libraries}:{libraries}/systemd"));
        command.arg("--argv0").arg(program).arg(path);
        command.env("LC_ALL", "C");
        Ok(command)
    }
}
