//! The benchmark's own cache, recipe and output, and the commands over them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use debian::cache::Cache;
use debian::package::Package;
use debian::progress::Silent;
use image_config::recipe::Recipe;

use super::{BenchError, io_error};
use crate::folders;
use crate::guest::{self, Sources};
use crate::packages::{self, Sourcing};

/// What of the user's cache the benchmark starts with.
const KEPT: [&str; 2] = ["by-hash", "releases"];
/// The file that is changed between builds.
const CHANGED: &str = "bench.txt";

/// Folders of one benchmark.
pub(super) struct Scratch {
    root: PathBuf,
    recipe_file: PathBuf,
    recipe: Recipe,
    packages: Vec<Arc<Package>>,
    /// The `.deb` files of the recipe.
    debs: Vec<PathBuf>,
}

impl Scratch {
    /// Makes a cache that holds the packages of a recipe, as they were fetched, and the built guest programs; and the recipe with one more
    /// file in it.
    pub fn prepare(root: &Path, recipe_file: &Path) -> Result<Self, BenchError> {
        let (own, recipe) = (Cache::from_env(), Recipe::load(recipe_file)?);
        let plan = packages::plan(&recipe, recipe_file, &Sourcing::usual(own.clone()), Arc::new(Silent))?;
        let debs = plan.fetch()?;
        let cache = root.join("cache");
        for name in KEPT {
            let from = own.root().join(name);
            if from.is_dir() {
                folders::copy(&from, &cache.join(name), &[], &folders::link_or_copy)?;
            }
        }
        let sources = Sources::find()?;
        let programs = guest::build(&sources, &own)?;
        guest::keep(&programs, &sources, &Cache::at(&cache));
        let folder = recipe_file.parent().unwrap_or(Path::new("."));
        folders::copy(folder, &root.join("recipe"), &[], &|from, to| fs::copy(from, to).map(drop))?;
        let scratch = Self {
            recipe_file: root.join("recipe").join(recipe_file.file_name().unwrap_or_default()),
            recipe,
            packages: plan.packages().to_vec(),
            root: root.to_owned(),
            debs,
        };
        scratch.add_file()?;
        scratch.change_a_file(0)?;
        Ok(scratch)
    }

    /// The recipe as it was found.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The names of its packages.
    pub fn packages(&self) -> Vec<&str> {
        self.packages.iter().map(|package| package.name.as_str()).collect()
    }

    /// Adds a file to the recipe: at the end of `files:`, or in one of its own.
    fn add_file(&self) -> Result<(), BenchError> {
        let text = fs::read_to_string(&self.recipe_file).map_err(io_error("read", &self.recipe_file))?;
        let line = format!("  - {{path: /usr/share/ferrite-bench, source: {CHANGED}}}\n");
        let with_file = match text.find("\nfiles:\n") {
            Some(at) => {
                let (before, after) = text.split_at(at + "\nfiles:\n".len());
                format!("{before}{line}{after}")
            }
            None => format!("{text}\nfiles:\n{line}"),
        };
        fs::write(&self.recipe_file, with_file).map_err(io_error("write", &self.recipe_file))
    }

    /// Gives the file another content.
    pub fn change_a_file(&self, number: u32) -> Result<(), BenchError> {
        let path = self.recipe_file.with_file_name(CHANGED);
        fs::write(&path, format!("run {number}\n")).map_err(io_error("write", &path))
    }

    /// Forgets what was built, and the packages' unpacked content.
    pub fn forget_unpacked(&self) -> Result<(), BenchError> {
        remove(&self.root.join("cache/unpacked"))?;
        self.forget_output()
    }

    /// Forgets what was built.
    pub fn forget_output(&self) -> Result<(), BenchError> {
        remove(&self.root.join("out"))
    }

    /// A build with this very program.
    pub fn build(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "ferrite".into()));
        command.args(["build", "--offline", "--recipe"]).arg(&self.recipe_file);
        command.arg("--out").arg(self.root.join("out")).env("FERRITE_CACHE", self.root.join("cache"));
        command
    }

    /// What every builder of images has to do at least: decompress the packages and look at each byte.
    pub fn unpack_only(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "for deb; do dpkg-deb --fsys-tarfile \"$deb\" | sha256sum; done", "sh"]);
        command.args(&self.debs);
        command
    }
}

fn remove(folder: &Path) -> Result<(), BenchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", folder)(error)),
        _ => Ok(()),
    }
}
