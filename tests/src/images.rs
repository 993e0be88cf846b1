//! The images under test.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use builder::build::{self, BuildOptions};
use builder::formats::Format;
use builder::guest;
use builder::inspect::{self, Report};
use builder::sparse;
use debian::progress::Silent;
use image_config::recipe::Recipe;

use crate::DiskFile;

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
    /// Of an image that only tests build: its files go with its last user.
    _hold: Option<Arc<Hold>>,
}

/// Somebody's use of an image. All test images together are larger than everything else a test run leaves.
#[derive(Debug)]
struct Hold {
    /// Its lock is shared among all users of the image, in all processes.
    users: File,
    /// What goes with the last one, this lock file included.
    files: Vec<PathBuf>,
    folder: PathBuf,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be removed stays, and the next run uses it.
        let Ok(_lock) = lock_folder(&self.folder) else { return };
        let _ = self.users.unlock();
        if self.users.try_lock().is_ok() {
            for file in &self.files {
                let _ = fs::remove_file(file);
            }
        }
    }
}

impl Image {
    /// The image of `recipes/minimal.yaml`: the smallest that boots.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn minimal() -> Result<Self> {
        Self::of_recipe(&guest::source_folder()?.join("recipes/minimal.yaml"))
    }

    /// An image of `recipes/minimal.yaml` that somebody has built, with its `.usr` file beside it.
    ///
    /// # Errors
    /// The recipe cannot be read.
    pub fn minimal_built(raw: &Path) -> Result<Self> {
        let recipe = Recipe::load(&guest::source_folder()?.join("recipes/minimal.yaml"))?;
        Ok(Self { raw: raw.to_owned(), usr: raw.with_extension("usr"), recipe, _hold: None })
    }

    /// The image of `recipes/ferrite.yaml`.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn ferrite() -> Result<Self> {
        Self::of_recipe(&guest::source_folder()?.join("recipes/ferrite.yaml"))
    }

    /// The image of `recipes/minimal.yaml` under another name, with more files.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn minimal_with(name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, content)| serde_json::json!({ "path": path, "content": content }))
            .collect();
        Self::minimal_with_packages(name, &[], &files)
    }

    /// The same with more packages; `files` are entries of a recipe's `files`.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn minimal_with_packages(name: &str, packages: &[&str], files: &[serde_json::Value]) -> Result<Self> {
        Self::of_recipe(&Self::minimal_recipe(name, |recipe| {
            let more: String = packages.iter().map(|package| format!("  - {package}\n")).collect();
            let mut recipe = recipe.replacen("\npackages:\n", &format!("\npackages:\n{more}"), 1);
            recipe.push_str("\nfiles:\n");
            for file in files {
                // JSON is YAML.
                recipe.push_str(&format!("  - {file}\n"));
            }
            recipe
        })?)
    }

    /// The image of `recipes/ferrite.yaml` as another release of a product with a name of its own; `change` gets the recipe's text.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn ferrite_release(name: &str, version: &str, change: impl FnOnce(String) -> String) -> Result<Self> {
        let recipes = guest::source_folder()?.join("recipes");
        let recipe = fs::read_to_string(recipes.join("ferrite.yaml"))?;
        let recipe = recipe.replacen(
            "name: ferrite\nversion: 0.1.0\n",
            &format!("name: {name}\nversion: {version}\n"),
            1,
        );
        let path = Self::write_recipe(name, &change(recipe))?;
        // Its files lie beside it.
        let files = path.with_file_name("files");
        fs::create_dir_all(&files)?;
        for entry in fs::read_dir(recipes.join("files"))? {
            let entry = entry?;
            write_whole(&files.join(entry.file_name()), &fs::read(entry.path())?)?;
        }
        Self::of_recipe(&path)
    }

    /// The file of a recipe: that of the smallest image under another name, with changes of its text. Its folder is `recipes` in
    /// [`Image::folder`].
    ///
    /// # Errors
    /// It cannot be written.
    pub fn minimal_recipe(name: &str, change: impl FnOnce(String) -> String) -> Result<PathBuf> {
        let recipe = fs::read_to_string(guest::source_folder()?.join("recipes/minimal.yaml"))?;
        let text = change(recipe.replacen("name: ferrite-minimal\n", &format!("name: {name}\n"), 1));
        Self::write_recipe(name, &text)
    }

    fn write_recipe(name: &str, text: &str) -> Result<PathBuf> {
        let folder = Self::folder()?.join("recipes");
        fs::create_dir_all(&folder)?;
        // Tests run at once, and recipes of one name differ: each text has a file of its own.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let path = folder.join(format!("{name}-{:016x}.yaml", hasher.finish()));
        write_whole(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The image of a recipe; built unless an earlier test has built it from the same sources. Those of the project's own recipes are
    /// kept for the next run, all others are removed with their last user, unless `FERRITE_KEEP_TEST_IMAGES` is set.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn of_recipe(path: &Path) -> Result<Self> {
        // Before the locks, so that it goes after them when a build fails: it takes both itself.
        let hold;
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let recipe = Recipe::load(path)?;
        let out = Self::folder()?;
        fs::create_dir_all(&out)?;
        let _lock = lock_folder(&out)?;
        let stem = recipe.file_stem();
        let raw = out.join(format!("{stem}.raw"));
        hold = if is_ours(path)? { None } else { Some(Arc::new(Hold::new(&out, &stem)?)) };
        if !build::is_current(&raw, &recipe, path)? {
            let options = BuildOptions {
                recipe: path.to_owned(),
                out,
                version: None,
                offline: false,
                locked: false,
                snapshot: None,
                mirrors: Vec::new(),
                formats: vec![Format::Raw],
            };
            build::build(&options, Arc::new(Silent))?;
        }
        Ok(Self { usr: raw.with_extension("usr"), raw, recipe, _hold: hold })
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

    /// The image on a disk of `bytes` bytes, with the backup table at its end: room for STATE and for changed flags.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn disk(&self, path: &Path, bytes: u64) -> Result<DiskFile> {
        self.copy_to(path)?;
        let mut disk = DiskFile::open(path)?;
        disk.enlarge(bytes)?;
        disk.move_backup_to_end()?;
        Ok(disk)
    }

    /// What `ferrite inspect` says of a disk.
    ///
    /// # Errors
    /// It is no image.
    pub fn inspect(path: &Path) -> Result<Report> {
        Ok(inspect::inspect(path, false)?)
    }
}

impl Hold {
    /// One more user; the folder is locked.
    fn new(folder: &Path, stem: &str) -> Result<Self> {
        let lock = folder.join(format!("{stem}.users"));
        let users = File::create(&lock)?;
        users.lock_shared()?;
        let built = ["raw", "usr", "manifest.json", "sbom.cdx.json"];
        let mut files: Vec<_> = built.iter().map(|end| folder.join(format!("{stem}.{end}"))).collect();
        files.push(lock);
        Ok(Self { users, files, folder: folder.to_owned() })
    }
}

/// Whether the image of this recipe is kept: it is one of the project, or whoever runs the tests keeps all.
fn is_ours(recipe: &Path) -> Result<bool> {
    let recipes = guest::source_folder()?.join("recipes");
    Ok(recipe.parent() == Some(recipes.as_path()) || std::env::var_os("FERRITE_KEEP_TEST_IMAGES").is_some())
}

/// Nobody else builds or removes images until the file is dropped.
fn lock_folder(folder: &Path) -> Result<File> {
    let lock = File::create(folder.join("lock"))?;
    lock.lock().context("cannot lock the folder of test images")?;
    Ok(lock)
}

/// Writes a file that others, who write the same, may read meanwhile: they see it whole.
///
/// # Errors
/// It cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Copies a file; holes stay holes.
///
/// # Errors
/// The system's.
pub fn sparse_copy(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create(to)?);
    let len = source.metadata()?.len();
    target.set_len(len)?;
    sparse::copy(&source, 0..len, &target, 0, |_| {})
}
