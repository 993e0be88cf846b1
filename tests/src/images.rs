//! The images under test.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use builder::build::{self, BuildOptions};
use builder::guest;
use builder::inspect::{self, Report};
use debian::progress::Silent;
use image_config::recipe::Recipe;

/// One build at a time in this process; the lock file does the same between processes.
static BUILDING: Mutex<()> = Mutex::new(());

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The disk image; tests never write it.
    pub raw: PathBuf,
    /// The slot image.
    pub usr: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
}

impl Image {
    /// The image of `recipes/minimal.yaml`: the smallest that boots.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn minimal() -> Result<Self> {
        Self::of_recipe(&guest::source_folder()?.join("recipes/minimal.yaml"))
    }

    /// The image of `recipes/ferrite.yaml`.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn ferrite() -> Result<Self> {
        Self::of_recipe(&guest::source_folder()?.join("recipes/ferrite.yaml"))
    }

    /// The image of a recipe; built unless an earlier test has built it from the same sources.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn of_recipe(path: &Path) -> Result<Self> {
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let recipe = Recipe::load(path)?;
        let out = Self::folder()?;
        fs::create_dir_all(&out)?;
        let lock = File::create(out.join("lock"))?;
        lock.lock().context("cannot lock the folder of test images")?;
        let raw = out.join(format!("{}.raw", recipe.file_stem()));
        if !build::is_current(&raw, &recipe)? {
            let options = BuildOptions {
                recipe: path.to_owned(),
                out,
                version: None,
                offline: false,
                mirrors: Vec::new(),
            };
            build::build(&options, Arc::new(Silent))?;
        }
        Ok(Self { usr: raw.with_extension("usr"), raw, recipe })
    }

    /// Where the tests keep images.
    ///
    /// # Errors
    /// The checkout is not to be found.
    pub fn folder() -> Result<PathBuf> {
        Ok(guest::target_folder(&guest::source_folder()?).join("ferrite-tests"))
    }

    /// A copy that a test may damage.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        sparse_copy(&self.raw, path)
            .with_context(|| format!("cannot copy {} to {}", self.raw.display(), path.display()))
    }

    /// What `ferrite inspect` says of a disk.
    ///
    /// # Errors
    /// It is no image.
    pub fn inspect(path: &Path) -> Result<Report> {
        Ok(inspect::inspect(path, false)?)
    }
}

/// Copies a file; blocks of zeroes become holes.
///
/// # Errors
/// The system's.
pub fn sparse_copy(from: &Path, to: &Path) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let (source, target) = (File::open(from)?, File::create(to)?);
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < len {
        // The start of the next data, so that the holes of large images are not read.
        offset = match rustix::fs::seek(&source, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let wanted = usize::try_from(len - offset).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        source.read_exact_at(chunk, offset)?;
        if chunk.iter().any(|byte| *byte != 0) {
            target.write_all_at(chunk, offset)?;
        }
        offset += wanted as u64;
    }
    Ok(())
}
