//! From a recipe to a disk image: the order of the work. Nothing stands under a final name before it is whole.

mod freshness;
mod manifest;
mod output;
mod steps;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{env, io, thread};

use boot::trust::{ConfiguredKey, Trust, TrustError};
use debian::progress::{Progress, Unit};
use debian::unpack::Unpacked;
use image_config::recipe::{ImageVersion, NameError, Recipe, RecipeError, SigningKey};
use serde::Serialize;
use slots::{Text, TrustedKey, VerityInfo};

pub use self::freshness::is_current;
pub use self::manifest::{Manifest, ManifestPackage, inputs_digest, manifest_path};
use self::output::Output;
pub use self::steps::Step;
use self::steps::Steps;
use crate::disk::{self, DiskLayout, DiskSpec, LayoutError, Role};
use crate::erofs::{self, Plan, PlanError, WriteError};
use crate::esp::{self, FatError, FatSpec, loader};
use crate::gptimage;
use crate::guest::{self, GuestError, GuestPrograms};
use crate::packages::{self, PackagesError};
use crate::rootfs::{self, KernelParts, Rootfs, RootfsError};
use crate::signing::{PublicKey, SigningError, SlotSigner, hex};
use crate::slotimage::{self, Identity, SlotError, SlotImage, SlotParts, Source};
use crate::tree::{Reader, Tree, display};
use crate::verity::{self, VerityError};

const MIB: f64 = 1_048_576.0;

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
    /// Mirrors in place of the recipe's.
    pub mirrors: Vec<String>,
}

/// What was built.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// The disk image.
    pub image: PathBuf,
    /// The slot image.
    pub slot: PathBuf,
    /// What it was made of.
    pub manifest: PathBuf,
    /// Root hash of `/usr`, hexadecimal.
    pub root_hash: String,
    /// Bytes of the slot image.
    pub slot_bytes: u64,
    /// Number of packages.
    pub packages: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds of each step.
    pub steps: Vec<Step>,
    /// What whoever builds should know.
    pub notes: Vec<String>,
}

impl Built {
    /// One line for people.
    pub fn summary(&self) -> String {
        let mut slowest = self.steps.clone();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let slowest: Vec<_> =
            slowest.iter().take(5).map(|step| format!("{} {:.1}", step.name, step.seconds)).collect();
        format!(
            "{} packages, {:.1} MB in the slot, {:.1} s (slowest: {})",
            self.packages,
            self.slot_bytes as f64 / 1e6,
            self.seconds,
            slowest.join(", "),
        )
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
    /// The files.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
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
    /// A file of the output.
    #[error("cannot write {}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the guest vanished.
    #[error("cannot read {}", path.display())]
    Read {
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
    let mut steps = Steps::new();
    let recipe = load_recipe(options)?;
    create_folder(&options.out)?;
    let keys = Keys::load(&recipe)?;
    let layout = DiskLayout::plan(&disk_spec(&recipe))?;
    let (programs, supply) = gather(&recipe, options, &progress, &mut steps)?;
    let build_time = source_date_epoch().unwrap_or_else(|| rootfs::youngest(&supply.unpacked));
    let units = guest::source_folder()?.join("init/units");
    let files = steps
        .measure("files", || rootfs::assemble(&recipe, &supply.unpacked, &programs, &units, build_time))?;

    let name = |suffix: &str| options.out.join(format!("{}{suffix}", recipe.file_stem()));
    let (slot_output, image_output) = (Output::new(&name(".usr")), Output::new(&name(".raw")));
    let manifest_output = Output::new(&manifest_path(&name(".raw")));
    let task = progress.begin("writing the image", 3, Unit::Items);
    let slot_file = slot_output.create().map_err(|source| output_error(&slot_output, source))?;
    let slot = write_slot(&slot_file, &recipe, &files, &keys.signer, &layout, build_time, &mut steps)?;
    task.advance(1);
    let image_path = image_output.temporary();
    steps.measure("disk image", || {
        write_disk(image_path, &layout, &recipe, &programs, &keys, &slot_file, &slot)
    })?;
    task.advance(1);
    let manifest = manifest(&recipe, &supply.unpacked, &files.kernel, &slot, build_time);
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
    text.and_then(|text| fs::write(manifest_output.temporary(), text))
        .map_err(|source| output_error(&manifest_output, source))?;
    drop(task);

    let publish = |output: Output, path: PathBuf| {
        output.publish().map_err(|source| BuildError::Output { path, source })
    };
    let slot_path = publish(slot_output, name(".usr"))?;
    let manifest_path = publish(manifest_output, manifest_path(&name(".raw")))?;
    let image = publish(image_output, name(".raw"))?;
    let (seconds, steps) = steps.finish();
    let mut notes = files.notes;
    if keys.signer.public().is_development() {
        notes.push(
            "signed with the development key, which everybody has: not for machines that matter".to_owned(),
        );
    }
    Ok(Built {
        image,
        slot: slot_path,
        manifest: manifest_path,
        root_hash: manifest.root_hash,
        slot_bytes: slot.bytes(),
        packages: supply.unpacked.len(),
        seconds,
        steps,
        notes,
    })
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

/// Signer and trusted keys of a recipe.
struct Keys {
    signer: SlotSigner,
    trusted: Vec<PublicKey>,
}

impl Keys {
    fn load(recipe: &Recipe) -> Result<Self, SigningError> {
        let signer = match &recipe.keys.signing {
            SigningKey::Development => SlotSigner::development()?,
            SigningKey::File(path) => SlotSigner::load(&recipe.folder.join(path))?,
        };
        let mut trusted = vec![signer.public()];
        for path in &recipe.keys.trusted {
            let key = PublicKey::load(&recipe.folder.join(path))?;
            if !trusted.contains(&key) {
                trusted.push(key);
            }
        }
        Ok(Self { signer, trusted })
    }
}

/// Ferrite's programs and Debian's packages, gathered side by side: one waits for the compiler, the other for the network.
fn gather(
    recipe: &Recipe,
    options: &BuildOptions,
    progress: &Arc<dyn Progress>,
    steps: &mut Steps,
) -> Result<(GuestPrograms, packages::Supply), BuildError> {
    thread::scope(|scope| {
        let guests = scope.spawn(|| {
            let start = Instant::now();
            let task = progress.begin("building the guest programs", 1, Unit::Items);
            let programs = guest::build();
            drop(task);
            (programs, start.elapsed())
        });
        let supply = steps.measure("packages", || {
            packages::gather(recipe, &options.mirrors, options.offline, Arc::clone(progress))
        });
        let (programs, took) = guests.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        steps.add("guest programs", took);
        Ok((programs?, supply?))
    })
}

fn disk_spec(recipe: &Recipe) -> DiskSpec {
    DiskSpec {
        esp_bytes: recipe.partitions.esp.bytes(),
        usr_bytes: recipe.partitions.usr.bytes(),
        oem_bytes: recipe.partitions.oem.bytes(),
        ..DiskSpec::new(recipe.name.as_str())
    }
}

/// Writes the slot file: file system, hash tree, kernel, initramfs, command line, footer.
fn write_slot(
    file: &File,
    recipe: &Recipe,
    files: &Rootfs,
    signer: &SlotSigner,
    layout: &DiskLayout,
    build_time: u64,
    steps: &mut Steps,
) -> Result<SlotImage, BuildError> {
    let product = recipe.name.as_str();
    let plan = Plan::new(
        &files.usr,
        &erofs::Options::new(disk::derived_guid(product, "erofs").to_disk(), "usr", build_time),
    )?;
    let usr_bytes = plan.len_bytes();
    let salt = salt(product);
    let command_line_room = [0; 2048];
    let mut parts = SlotParts {
        usr: Source::InPlace { bytes: usr_bytes },
        verity: Source::InPlace { bytes: verity::tree_len(usr_bytes / erofs::BLOCK_BYTES) },
        kernel: Source::Bytes(&files.kernel.kernel),
        initramfs: Source::Bytes(&files.kernel.initramfs),
        command_line: Source::Bytes(&command_line_room),
        root_hash: [0; 32],
        salt,
    };
    let room = layout.partition(Role::UsrA).bytes;
    slotimage::check_fits(slotimage::slot_bytes(&parts), room)
        .map_err(|problem| BuildError::TooLarge { problem, largest: largest(&files.usr) })?;
    steps.measure("file system", || plan.write_at(file, 0, &Reader::new()))?;
    let superblock = verity::Superblock {
        uuid: disk::derived_guid(product, "verity").to_disk(),
        data_blocks: usr_bytes / erofs::BLOCK_BYTES,
        salt: salt.to_vec(),
    };
    parts.root_hash = steps.measure("hash tree", || verity::write_tree(file, 0, &superblock, usr_bytes))?;
    let opened_by = VerityInfo {
        root_hash: parts.root_hash,
        salt,
        data_blocks: superblock.data_blocks,
        superblock_offset: usr_bytes,
    };
    let command_line = command_line(recipe, &opened_by, build_time);
    parts.command_line = Source::Bytes(command_line.as_bytes());
    let identity = Identity {
        product,
        version: recipe.version.as_str(),
        architecture: recipe.architecture.name(),
        minimum_loader: recipe.minimum_loader,
        rollback_index: u64::from(recipe.rollback_index),
        build_time,
    };
    Ok(steps.measure("slot", || slotimage::assemble(file, &identity, &parts, signer))?)
}

/// Fixed per product: another salt would make every block look new to an update (SAFETY 20).
fn salt(product: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::new().chain_update(b"ferrite verity salt\0").chain_update(product).finalize().into()
}

fn command_line(recipe: &Recipe, verity: &VerityInfo, build_time: u64) -> String {
    format!(
        "{} gpt panic=10 oops=panic {} ferrite.image={},{},{build_time}",
        recipe.kernel.command_line,
        slotimage::verity_argument(verity),
        recipe.name,
        recipe.version,
    )
}

fn largest(tree: &Tree) -> String {
    let lines = tree.largest(10).into_iter().map(|(bytes, path, origin)| {
        format!("  {:>8.1} MiB  /usr{} ({origin})", bytes as f64 / MIB, display(&path))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn write_disk(
    path: &Path,
    layout: &DiskLayout,
    recipe: &Recipe,
    programs: &GuestPrograms,
    keys: &Keys,
    slot_file: &File,
    slot: &SlotImage,
) -> Result<(), BuildError> {
    let disk = gptimage::create(path, layout)?;
    let product = recipe.name.as_str();
    let trusted: Vec<_> = keys
        .trusted
        .iter()
        .map(|key| ConfiguredKey { key: TrustedKey(key.to_bytes()), development: key.is_development() })
        .collect();
    let product_text = Text::new(product).map_err(TrustError::Product)?;
    let trust = Trust::new(product_text, layout.bytes, &trusted)?;
    let loader_file = fs::read(&programs.loader)
        .map_err(|source| BuildError::Read { path: programs.loader.clone(), source })?;
    let esp_files = BTreeMap::from([(esp::LOADER_PATH.to_owned(), loader::configure(&loader_file, &trust)?)]);
    let release = format!("ID=qemu\nVERSION_ID={}\n", recipe.version);
    let oem_files = BTreeMap::from([("oem-release".to_owned(), release.into_bytes())]);
    for (role, label, files) in [(Role::Esp, "EFI-SYSTEM", esp_files), (Role::Oem, "OEM", oem_files)] {
        let partition = layout.partition(role);
        let spec = FatSpec {
            bytes: partition.bytes,
            label,
            volume_id: disk::derived_volume_id(product, role),
            files,
        };
        let volume = esp::fat_volume(&spec)?;
        volume
            .write_to(&disk, partition.offset)
            .map_err(|source| BuildError::Output { path: path.to_owned(), source })?;
    }
    slotimage::install(slot_file, slot, &disk, &layout.partition(Role::UsrA))?;
    Ok(())
}

fn manifest(
    recipe: &Recipe,
    packages: &[Unpacked],
    kernel: &KernelParts,
    slot: &SlotImage,
    build_time: u64,
) -> Manifest {
    let mut listed: Vec<_> = packages
        .iter()
        .map(|unpacked| &unpacked.package)
        .map(|package| ManifestPackage {
            name: package.name.clone(),
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            sha256: hex(&package.sha256.0),
            bytes: package.size,
        })
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Manifest {
        name: recipe.name.to_string(),
        version: recipe.version.to_string(),
        architecture: recipe.architecture.to_string(),
        build_time,
        inputs: inputs_digest(recipe),
        kernel: kernel.release.clone(),
        root_hash: hex(&slot.footer.verity.root_hash),
        key_id: hex(&slot.footer.key_id.0),
        packages: listed,
    }
}
