//! Which image a question is about: one that is named, or the last build of a recipe.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use image_config::recipe::Recipe;
use serde::Deserialize;

use super::failure::Failure;
use super::style::say;
use super::{USAGE, out_folder, recipe_path};
use crate::build::{self, MANIFEST_SCHEMA, Manifest, inputs_digest};
use crate::explain::why::Source;

/// Endings of the files beside which a manifest lies.
const IMAGES: [&str; 6] = [".raw.zst", ".raw", ".qcow2", ".vhd", ".usr", ".img"];

/// Which image.
#[derive(Debug, ClapArgs)]
pub struct Selection {
    /// An image with its manifest beside it, or a manifest, in place of the recipe's last build
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "version"])]
    pub image: Option<PathBuf>,
    /// The recipe whose last build is meant [default: recipes/ferrite.yaml]; with --image, the recipe that it was made of
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Where images go [default: ferrite/ in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Version of the image, in place of the recipe's
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

/// Why there is no manifest to answer from.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A recipe without an image.
    #[error(
        "{} has not been built: there is no {}\nhint: `{command}` builds it",
        recipe.display(),
        manifest.display()
    )]
    NotBuilt {
        /// The recipe.
        recipe: PathBuf,
        /// The manifest that is missing.
        manifest: PathBuf,
        /// What builds it.
        command: String,
    },
    /// An image without a manifest.
    #[error(
        "there is no {}, the manifest of {}\nhint: `ferrite build` writes both: keep them side by side, or name the manifest \
         itself",
        manifest.display(),
        image.display()
    )]
    NoManifest {
        /// The image.
        image: PathBuf,
        /// Where its manifest would be.
        manifest: PathBuf,
    },
    /// A manifest that cannot be read.
    #[error("cannot read the manifest {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest of another version of Ferrite.
    #[error(
        "{} is a manifest of form {found}, this is for form {MANIFEST_SCHEMA}\nhint: `ferrite build` writes it anew",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// Its form; 1 is the first, which did not say so.
        found: u32,
    },
    /// Something else than a manifest.
    #[error("{} is no manifest: {problem}\nhint: a manifest is the NAME.manifest.json beside an image", path.display())]
    NoSuchForm {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: serde_json::Error,
    },
}

/// A manifest, and the recipe that it was made of, when that is known.
#[derive(Debug)]
pub struct Selected {
    /// The manifest.
    pub manifest: Manifest,
    recipe: Option<RecipeText>,
}

#[derive(Debug)]
struct RecipeText {
    recipe: Recipe,
    text: String,
    file: String,
}

impl Selected {
    /// The recipe with its text.
    pub fn source(&self) -> Option<Source<'_>> {
        self.recipe.as_ref().map(|of| Source { recipe: &of.recipe, text: &of.text, file: &of.file })
    }
}

impl Selection {
    /// Finds and reads the manifest, and says on stderr when the recipe has changed since.
    ///
    /// # Errors
    /// [`SelectionError`], or the recipe is refused.
    pub fn load(&self) -> Result<Selected> {
        let Some(image) = &self.image else {
            return of_recipe(self);
        };
        let manifest = of_image(image)?;
        let recipe = self.recipe.as_deref().map(|path| load_recipe(path, None)).transpose()?;
        if let Some(of) = recipe.as_ref().filter(|of| inputs_digest(&of.recipe) != manifest.inputs) {
            say(&format!("note: {} was made of something else than {} says now", image.display(), of.file));
        }
        Ok(Selected { manifest, recipe })
    }
}

/// One side of a comparison: a recipe stands for its last build in `out`.
///
/// # Errors
/// As [`Selection::load`].
pub fn operand(path: &Path, out: Option<&Path>) -> Result<Manifest> {
    let is_recipe = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if !is_recipe {
        return Ok(of_image(path)?);
    }
    let selection =
        Selection { image: None, recipe: Some(path.to_owned()), out: out.map(Path::to_owned), version: None };
    Ok(of_recipe(&selection)?.manifest)
}

fn of_recipe(selection: &Selection) -> Result<Selected> {
    let path = recipe_path(selection.recipe.as_deref())?;
    let recipe = load_recipe(&path, selection.version.as_deref())?;
    let out = out_folder(selection.out.as_deref())?;
    let manifest = out.join(format!("{}.manifest.json", recipe.recipe.file_stem()));
    let command = build_command(selection);
    if !manifest.exists() {
        return Err(SelectionError::NotBuilt { recipe: path, manifest, command }.into());
    }
    let manifest = read(&manifest)?;
    if inputs_digest(&recipe.recipe) != manifest.inputs {
        say(&format!(
            "note: {} has changed since this image was built; `{command}` builds it anew",
            path.display()
        ));
    }
    Ok(Selected { manifest, recipe: Some(recipe) })
}

/// The command that makes what is missing.
fn build_command(selection: &Selection) -> String {
    let mut command = "ferrite build".to_owned();
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.push_str(&format!(" --{name} {}", quoted(&value)));
        }
    };
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    option("recipe", shown(&selection.recipe));
    option("out", shown(&selection.out));
    option("version", selection.version.clone());
    command
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+~:=@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn load_recipe(path: &Path, version: Option<&str>) -> Result<RecipeText> {
    let mut recipe = Recipe::load(path)?;
    if let Some(version) = version {
        recipe.version = build::parse_version(version)?;
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(RecipeText { recipe, text, file: path.display().to_string() })
}

/// The manifest of an image, or the one that is named itself.
fn of_image(path: &Path) -> Result<Manifest, SelectionError> {
    if path.extension().is_some_and(|ending| ending == "json") {
        return read(path);
    }
    let manifest = beside(path);
    if !manifest.exists() {
        return Err(SelectionError::NoManifest { image: path.to_owned(), manifest });
    }
    read(&manifest)
}

/// Where the manifest of an image lies.
fn beside(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default();
    let stem = name.to_str().and_then(|name| IMAGES.iter().find_map(|ending| name.strip_suffix(ending)));
    let mut manifest = stem.map_or_else(|| name.to_owned(), OsString::from);
    manifest.push(".manifest.json");
    image.with_file_name(manifest)
}

fn read(path: &Path) -> Result<Manifest, SelectionError> {
    /// What tells the forms apart: the first had no number, but all of these.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "that they are there is what matters")]
    struct First {
        name: String,
        inputs: String,
        packages: Vec<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Form {
        schema: Option<u32>,
    }
    let bytes = fs::read(path).map_err(|source| SelectionError::Read { path: path.to_owned(), source })?;
    let wrong = |problem| SelectionError::NoSuchForm { path: path.to_owned(), problem };
    if !bytes.trim_ascii_start().starts_with(b"{") {
        // A list would pass for the fields of a struct in their order.
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).map_err(wrong)?;
    }
    let form: Form = serde_json::from_slice(&bytes).map_err(wrong)?;
    let found = match form.schema {
        Some(found) => found,
        None => serde_json::from_slice::<First>(&bytes).map(|_| 1).map_err(wrong)?,
    };
    if found != MANIFEST_SCHEMA {
        return Err(SelectionError::Form { path: path.to_owned(), found });
    }
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// For commands whose exit code 1 is an answer: what does not work ends with 2.
pub fn or_trouble(result: Result<ExitCode>, json: bool) -> ExitCode {
    result.unwrap_or_else(|error| {
        Failure::of(&error).report(json);
        ExitCode::from(USAGE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_lies_beside_the_image() {
        for ending in IMAGES {
            assert_eq!(
                beside(Path::new(&format!("out/a-0.1.0{ending}"))),
                Path::new("out/a-0.1.0.manifest.json")
            );
        }
        assert_eq!(beside(Path::new("a-0.1.0")), Path::new("a-0.1.0.manifest.json"));
    }

    #[test]
    fn the_command_that_builds_can_be_pasted() {
        let selection = Selection {
            image: None,
            recipe: Some("my recipes/it's.yaml".into()),
            out: Some("out".into()),
            version: None,
        };
        assert_eq!(build_command(&selection), r"ferrite build --recipe 'my recipes/it'\''s.yaml' --out out");
    }

    #[test]
    fn what_is_no_manifest_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.manifest.json");
        let cases = [
            ("", "is no manifest"),
            ("[1]", "is no manifest"),
            ("{}", "is no manifest: missing field `name`"),
            (r#"{"name": "a", "inputs": "b", "packages": [{}]}"#, "of form 1, this is for form 2"),
            (r#"{"schema": 3}"#, "of form 3"),
            (r#"{"schema": 2}"#, "is no manifest: missing field"),
        ];
        for (text, want) in cases {
            fs::write(&path, text).unwrap();
            let told = of_image(&folder.path().join("x.raw")).unwrap_err().to_string();
            assert!(told.contains(want) && told.contains("\nhint: "), "{text}: {told}");
        }
        fs::remove_file(&path).unwrap();
        let told = of_image(&folder.path().join("x.usr")).unwrap_err().to_string();
        assert!(told.contains("x.manifest.json, the manifest of"), "{told}");
    }
}
