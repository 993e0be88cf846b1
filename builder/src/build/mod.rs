//! From a recipe to a disk image: the order of the work. Nothing stands under a final name before it is whole.

mod disk;
mod images;
mod inventory;
mod keys;
mod manifest;
mod output;
mod record;
mod slot;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{env, io, thread};

use boot::trust::TrustError;
use debian::cache::Cache;
use debian::progress::{Progress, Unit};
use image_config::recipe::{ImageVersion, NameError, Recipe, RecipeError};
use serde::{Deserialize, Serialize};

use self::images::Images;
pub use self::images::{BuiltImage, image_path};
pub use self::inventory::InventoryError;
use self::keys::Keys;
pub use self::manifest::{
    Manifest, ManifestFile, ManifestPackage, ManifestPart, SCHEMA as MANIFEST_SCHEMA, inputs_digest,
    manifest_path,
};
pub(crate) use self::output::Output;
use self::record::Record;
pub use self::record::is_current;
pub use self::steps::Step;
use self::steps::Steps;
use crate::disk::{DiskLayout, LayoutError};
use crate::erofs::{PlanError, WriteError};
use crate::esp::{FatError, loader};
use crate::formats::{Format, FormatError, Identity};
use crate::gptimage;
use crate::guest::{self, GuestError, GuestPrograms, Sources};
use crate::packages::{self, PackagesError};
use crate::parts::Parts;
use crate::rootfs::{self, RootfsError};
use crate::sbom::sbom_path;
use crate::signing::SigningError;
use crate::slotimage::SlotError;
use crate::trees::{Trees, TreesError};
use crate::userdata::{self, UserDataError};
use crate::verity::VerityError;

/// What to build, and where.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The recipe.
    pub recipe: PathBuf,
    /// Folder of the image; made when it is not there.
    pub out: PathBuf,
    /// Version in place of the recipe's.
    pub version: Option<String>,
    /// No network.
    pub offline: bool,
    /// The lock file's packages or none.
    pub locked: bool,
    /// Base of the snapshot archive, in place of the recipe's.
    pub snapshot: Option<String>,
    /// Mirrors in place of the recipe's.
    pub mirrors: Vec<String>,
    /// What formats of the disk image to write; at least one.
    pub formats: Vec<Format>,
}

impl BuildOptions {
    fn sourcing(&self, cache: &Cache) -> packages::Sourcing {
        packages::Sourcing {
            cache: cache.clone(),
            mirrors: self.mirrors.clone(),
            snapshot: self.snapshot.clone(),
            offline: self.offline,
            locked: self.locked,
        }
    }
}

/// What was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    /// The disk image, in the first of the formats that were asked for.
    pub image: PathBuf,
    /// The disk image in each of its formats.
    pub images: Vec<BuiltImage>,
    /// The slot image.
    pub slot: PathBuf,
    /// What it was made of.
    pub manifest: PathBuf,
    /// The same for other tools: a bill of materials in the CycloneDX form.
    pub sbom: PathBuf,
    /// Root hash of `/usr`, hexadecimal.
    pub root_hash: String,
    /// Bytes of the slot image.
    pub slot_bytes: u64,
    /// Number of packages.
    pub packages: usize,
    /// Whether everything was there already, made from the same inputs.
    pub unchanged: bool,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds of each step.
    pub steps: Vec<Step>,
    /// What whoever builds should know.
    pub notes: Vec<String>,
}

impl Built {
    /// What was made and how long it took, one line for people.
    pub fn summary(&self) -> String {
        let state = if self.unchanged { "nothing has changed" } else { "built" };
        let (megabytes, seconds) = (self.slot_bytes as f64 / 1e6, self.seconds);
        format!("{state}: {} packages, {megabytes:.1} MB in the slot, {seconds:.1} s", self.packages)
    }

    /// The five slowest steps, the slowest first; one line for people, none when nothing was done.
    pub fn slowest(&self) -> Option<String> {
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let steps: Vec<_> =
            steps.iter().take(5).map(|step| format!("{} {:.1} s", step.name, step.seconds)).collect();
        (!steps.is_empty()).then(|| format!("slowest steps: {}", steps.join(", ")))
    }
}

/// Why there is no image. Each names the step; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipe is refused.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The version that was asked for is none.
    #[error("--version: {0}")]
    Version(NameError),
    /// Debian's packages.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// Ferrite's own programs.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The recipe's trees.
    #[error(transparent)]
    Trees(#[from] TreesError),
    /// The files.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The user-data for the OEM partition.
    #[error(transparent)]
    UserData(#[from] UserDataError),
    /// The signing keys.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The layout of the disk.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The file system of `/usr`.
    #[error("cannot lay out /usr")]
    Plan(#[from] PlanError),
    /// Writing the file system.
    #[error("cannot write the file system of /usr")]
    Write(#[from] WriteError),
    /// The hash tree.
    #[error("cannot make the hash tree of /usr")]
    Verity(#[from] VerityError),
    /// The slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The content does not fit, and what takes the room.
    #[error("{problem}\nthe largest files:\n{largest}")]
    TooLarge {
        /// By how much.
        problem: SlotError,
        /// Ten lines.
        largest: String,
    },
    /// The boot loader.
    #[error("cannot configure the boot loader")]
    Loader(#[from] loader::LoaderError),
    /// The keys for the boot loader.
    #[error("cannot configure the boot loader's keys")]
    Trust(#[from] TrustError),
    /// A FAT volume.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// The partition table.
    #[error(transparent)]
    Table(#[from] gptimage::TableError),
    /// The disk image in another format.
    #[error("cannot write the image as {format}")]
    Format {
        /// The format.
        format: Format,
        /// What is wrong.
        source: FormatError,
    },
    /// A file that this build or the recorded one has written.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest or the bill of materials.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A file of the output.
    #[error("cannot write {}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Builds the image of a recipe.
///
/// # Errors
/// [`BuildError`]. What stood under the image's names before stays.
pub fn build(options: &BuildOptions, progress: Arc<dyn Progress>) -> Result<Built, BuildError> {
    let mut steps = Steps::new(Arc::clone(&progress));
    let recipe = load_recipe(options)?;
    create_folder(&options.out)?;
    let keys = Keys::load(&recipe)?;
    let user_data = recipe.user_data.as_ref().map(|path| userdata::load(&recipe.folder.join(path)));
    let user_data = user_data.transpose()?;
    let layout = DiskLayout::plan(&disk::disk_spec(&recipe))?;
    let cache = Cache::from_env();
    let sources = Sources::find()?;
    let inputs = record::inputs(&recipe, &sources)?;
    let stem = recipe.file_stem();
    let known = Record::load(&options.out, &stem).filter(|record| record.has_inputs(&inputs));
    let (programs, supply) = match gather(&recipe, options, &sources, &cache, &known, &progress, &mut steps)?
    {
        Gathered::NothingToDo { record, notes } => {
            let mut built = images::complete(&record, options, &recipe, steps, progress.as_ref())?;
            built.notes.splice(..0, notes);
            return Ok(built);
        }
        Gathered::All { programs, supply } => (programs, supply),
    };
    Record::forget(&options.out, &stem);
    let build_time = source_date_epoch().unwrap_or_else(|| rootfs::youngest(&supply.unpacked));
    let parts = Parts::of(&cache);
    let (trees, files) = steps.measure("files", || {
        let (trees, units) = (Trees::read(&recipe, &options.out)?, sources.units());
        let packages = &supply.unpacked;
        let own = rootfs::Own {
            programs: &programs,
            units: &units,
            channel_root: &keys.channel_root,
            slot_keys: &keys.trusted,
        };
        let files = rootfs::assemble(&recipe, packages, trees.list(), &own, build_time, &parts)?;
        Ok::<_, BuildError>((trees, files))
    })?;

    let name = |suffix: &str| options.out.join(format!("{stem}{suffix}"));
    let (slot_output, image_output) = (Output::new(&name(".usr")), Output::new(&name(".raw")));
    let manifest_output = Output::new(&manifest_path(&name(".raw")));
    let sbom_output = Output::new(&sbom_path(&name(".raw")));
    let slot_file = slot_output.create().map_err(|source| output_error(&slot_output, source))?;
    let (slot, content_at) =
        slot::write_slot(&slot_file, &recipe, &files, &keys.signer, &layout, build_time, &mut steps)?;
    trees.still_the_same()?;
    let raw = image_output.temporary();
    steps.measure("disk image", || {
        disk::write_disk(raw, &layout, &recipe, &programs, &keys, &slot_file, &slot, user_data.as_ref())
    })?;
    let inventory = steps.measure("manifest", || {
        let slot = inventory::Slot { image: &slot, content_at: &content_at };
        inventory::make(&recipe, &supply, &files, &programs, &slot, build_time)
    })?;
    for (output, text) in [(&manifest_output, &inventory.manifest), (&sbom_output, &inventory.sbom)] {
        fs::write(output.temporary(), text).map_err(|source| output_error(output, source))?;
    }
    let (others, has_raw) = (images::without_raw(&options.formats), options.formats.contains(&Format::Raw));
    let identity = identity(&recipe, &inventory.root_hash, build_time);
    let images = steps.measure("formats", || {
        Images::convert(raw, (&options.out, &stem), &others, &identity, progress.as_ref())
    })?;
    let images = if has_raw { images.with_raw(image_output) } else { images };

    let mut notes = files.notes;
    let warnings = user_data.iter().flat_map(|checked| checked.warnings.as_slice());
    notes.extend(warnings.map(ToString::to_string));
    let deleted = images.remove_stale()?;
    let publish = |output: Output, path: PathBuf| {
        output.publish().map_err(|source| BuildError::Output { path, source })
    };
    let slot_path = publish(slot_output, name(".usr"))?;
    let manifest_path = publish(manifest_output, manifest_path(&name(".raw")))?;
    let sbom = publish(sbom_output, sbom_path(&name(".raw")))?;
    let images = images.publish()?;
    let first = options.formats.first().copied().unwrap_or(Format::Raw);
    let (seconds, steps) = steps.finish();
    if keys.signer.public().is_development() {
        notes.push(
            "signed with the development key, which everybody has: not for machines that matter".to_owned(),
        );
    }
    let mut built = Built {
        image: image_path(&options.out, &stem, first),
        images,
        slot: slot_path,
        manifest: manifest_path,
        sbom,
        root_hash: inventory.root_hash,
        slot_bytes: slot.bytes(),
        packages: supply.unpacked.len(),
        unchanged: false,
        seconds,
        steps,
        notes,
    };
    // Without a record the next build does everything again.
    let _ = Record::store(&options.out, &stem, &inputs, &supply, &built);
    // Not part of the record: what there is to say about packages is up to the lock file and the mirrors of each build.
    built.notes.splice(..0, supply.notes);
    built.notes.extend(deleted);
    Ok(built)
}

/// A version from the command line.
///
/// # Errors
/// It is no version.
pub fn parse_version(text: &str) -> Result<ImageVersion, BuildError> {
    ImageVersion::parse(text).map_err(BuildError::Version)
}

fn load_recipe(options: &BuildOptions) -> Result<Recipe, BuildError> {
    let mut recipe = Recipe::load(&options.recipe)?;
    if let Some(version) = &options.version {
        recipe.version = parse_version(version)?;
    }
    Ok(recipe)
}

fn create_folder(folder: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(folder).map_err(|source| BuildError::Output { path: folder.to_owned(), source })
}

fn output_error(output: &Output, source: io::Error) -> BuildError {
    BuildError::Output { path: output.temporary().to_owned(), source }
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn source_date_epoch() -> Option<u64> {
    env::var("SOURCE_DATE_EPOCH").ok()?.parse().ok()
}

/// What a build starts from.
enum Gathered {
    /// The image is there, of the same inputs and packages; formats of it may be missing.
    NothingToDo {
        record: Record,
        /// What there is to say about the packages this time.
        notes: Vec<String>,
    },
    All {
        programs: GuestPrograms,
        supply: packages::Supply,
    },
}

/// Ferrite's programs and Debian's packages, gathered side by side: one waits for the compiler, the other for the network. `known` is
/// the record of a build with the same inputs.
fn gather(
    recipe: &Recipe,
    options: &BuildOptions,
    sources: &Sources,
    cache: &Cache,
    known: &Option<Record>,
    progress: &Arc<dyn Progress>,
    steps: &mut Steps,
) -> Result<Gathered, BuildError> {
    // First, as it is quick with a lock file, and as nobody wants to wait for a compiler to hear that a package does not exist.
    let plan = steps.measure("package list", || {
        packages::plan(recipe, &options.recipe, &options.sourcing(cache), Arc::clone(progress))
    })?;
    if let Some(record) = known.as_ref().filter(|record| record.has_closure(&plan.digest().0))
        && images::can_complete(&record.built, &options.formats)
    {
        return Ok(Gathered::NothingToDo { record: record.clone(), notes: plan.notes().to_vec() });
    }
    thread::scope(|scope| {
        let guests = scope.spawn(|| {
            let start = Instant::now();
            let task = progress.begin("guest programs", 0, Unit::Items);
            let programs = guest::build(sources, cache);
            drop(task);
            (programs, start.elapsed())
        });
        let supply = steps.measure("packages", || plan.supply());
        let (programs, took) = guests.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        steps.add("guest programs", took);
        Ok(Gathered::All { programs: programs?, supply: supply? })
    })
}

/// What a VHD says of the image in it.
fn identity(recipe: &Recipe, root_hash: &str, build_time: u64) -> Identity {
    Identity::new(recipe.name.as_str(), recipe.version.as_str(), root_hash, build_time)
}
