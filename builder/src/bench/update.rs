//! What an update costs in bytes: everything that a machine fetches, against the full payload.
//!
//! Between two built images the figures are exact. From one image alone the change is made up: every block of some package's files counts as
//! changed, and with it every block that the file system has for itself and the command line, which any release changes. That is more than
//! most real changes come to, save that nothing moves.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use serde::Serialize;
use update_engine::payload::plan::{self, BlockSet};
use update_engine::payload::write::{self, WriteError};
use update_engine::payload::{Digest, Index, chunks};

use crate::build::{Manifest, manifest_path};
use crate::payload::{blocks_of, groups};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum UpdateBenchError {
    /// A slot image or its manifest.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is none.
    #[error("{} is no manifest", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The payload.
    #[error("cannot make the payload")]
    Write(#[from] WriteError),
}

/// What one change costs.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// What has changed.
    pub change: String,
    /// Bytes of the files that changed.
    pub changed_bytes: u64,
    /// Blocks that a machine does not have.
    pub blocks: u32,
    /// Bytes of the index.
    pub index: u64,
    /// Bytes of digests.
    pub digests: u64,
    /// Bytes of frames.
    pub frames: u64,
    /// Requests.
    pub requests: usize,
    /// All bytes, without the channel's metadata.
    pub total: u64,
    /// Of index and payload.
    pub percent: f64,
}

/// All figures.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateBench {
    /// Bytes of the slot.
    pub slot_bytes: u64,
    /// Bytes of index and payload.
    pub full: u64,
    /// The changes.
    pub rows: Vec<Cost>,
}

/// A slot as it travels.
struct Travelling {
    manifest: Manifest,
    index: Index,
    index_bytes: u64,
    digests: Vec<Digest>,
}

/// Measures updates to the slot image `new` (a `.usr` file with its manifest beside it): from `old` if it is given, else made-up ones.
///
/// # Errors
/// [`UpdateBenchError`]
pub fn updates(
    new: &Path,
    old: Option<&Path>,
    scratch: &Path,
    done: impl FnMut(u32),
) -> Result<UpdateBench, UpdateBenchError> {
    let travelling = Travelling::make(new, scratch, done)?;
    let full = travelling.index_bytes + travelling.index.payload_bytes;
    let rows = match old {
        Some(old) => vec![travelling.cost_from(old, scratch)?],
        None => travelling.made_up(),
    };
    Ok(UpdateBench { slot_bytes: travelling.manifest.slot_bytes, full, rows })
}

fn load(slot: &Path) -> Result<(File, Manifest), UpdateBenchError> {
    let read = |path: &Path, source| UpdateBenchError::Read { path: path.to_owned(), source };
    let file = File::open(slot).map_err(|source| read(slot, source))?;
    let path = manifest_path(slot);
    let text = std::fs::read(&path).map_err(|source| read(&path, source))?;
    let manifest =
        serde_json::from_slice(&text).map_err(|source| UpdateBenchError::Manifest { path, source })?;
    Ok((file, manifest))
}

impl Travelling {
    fn make(slot: &Path, scratch: &Path, done: impl FnMut(u32)) -> Result<Self, UpdateBenchError> {
        Self::make_at_level(slot, scratch, write::LEVEL, done)
    }

    fn make_at_level(
        slot: &Path,
        scratch: &Path,
        level: i32,
        done: impl FnMut(u32),
    ) -> Result<Self, UpdateBenchError> {
        let (file, manifest) = load(slot)?;
        let path = scratch.join("payload");
        let read = |source| UpdateBenchError::Read { path: path.clone(), source };
        let mut payload = BufWriter::new(File::create(&path).map_err(read)?);
        let index = write::write_at_level(&file, &groups(&manifest), level, &mut payload, done)?;
        drop(payload);
        let mut bytes = vec![0; usize::try_from(index.layout.listed()).unwrap_or(0) * size_of::<Digest>()];
        io::Read::read_exact(&mut File::open(&path).map_err(read)?, &mut bytes).map_err(read)?;
        std::fs::remove_file(&path).map_err(read)?;
        let digests = bytes.as_chunks().0.to_vec();
        Ok(Self { manifest, index_bytes: index.to_bytes().len() as u64, index, digests })
    }

    fn cost_from(&self, old: &Path, scratch: &Path) -> Result<Cost, UpdateBenchError> {
        // Only its digests count, so the quickest level will do.
        let old = Self::make_at_level(old, scratch, 1, |_| {})?;
        let known: HashSet<&Digest> = old.digests.iter().collect();
        let mut missing = BlockSet::new(self.index.layout.blocks());
        for (number, digest) in (0..).zip(&self.digests) {
            if !known.contains(digest) {
                missing.insert(self.index.layout.block_of(number));
            }
        }
        let before: HashSet<_> =
            old.manifest.files.iter().filter_map(|file| file.sha256.as_deref()).collect();
        let changed = self.manifest.files.iter().filter(|file| {
            file.kind == "file" && file.sha256.as_deref().is_some_and(|sha256| !before.contains(sha256))
        });
        let changed_bytes = changed.filter_map(|file| file.bytes).sum();
        let change = format!("from {} {}", old.manifest.name, old.manifest.version);
        Ok(self.cost(change, changed_bytes, &missing, &old.digests))
    }

    fn made_up(&self) -> Vec<Cost> {
        let packages = |name: &str| match name {
            "kernel" => vec!["linux-image-", "kernel", "initramfs"],
            "etcd" => vec!["etcd-server"],
            "small" => vec![self.small_package()],
            _ => Vec::new(),
        };
        let cases = [
            ("nothing".to_owned(), Vec::new()),
            (format!("a small package ({})", self.small_package()), packages("small")),
            ("kernel, modules, initramfs".to_owned(), packages("kernel")),
            ("etcd".to_owned(), packages("etcd")),
            ("everything".to_owned(), vec![""]),
        ];
        let cost = |(change, packages): (String, Vec<&str>)| {
            let (missing, bytes) = self.changed(&packages);
            let mut before = self.digests.clone();
            for (number, digest) in (0..).zip(&mut before) {
                if missing.contains(self.index.layout.block_of(number)) {
                    digest.iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            self.cost(change, bytes, &missing, &before)
        };
        cases.into_iter().map(cost).collect()
    }

    /// The package whose files come closest to 200 KB.
    fn small_package(&self) -> &str {
        let size = |package: &crate::build::ManifestPackage| package.installed_bytes.abs_diff(200_000);
        self.manifest.packages.iter().min_by_key(|package| size(package)).map_or("", |package| &package.name)
    }

    /// Blocks that change with the files of these packages (beginnings of names; parts of the slot by their own), and the files' bytes.
    fn changed(&self, packages: &[&str]) -> (BlockSet, u64) {
        let layout = &self.index.layout;
        let mut set = BlockSet::new(layout.blocks());
        let mut bytes = 0;
        if packages.is_empty() {
            return (set, 0);
        }
        let named = |name: &str| packages.iter().any(|package| name.starts_with(package));
        let mut of_files = BlockSet::new(layout.blocks());
        for file in &self.manifest.files {
            let Some(blocks) = blocks_of(file) else { continue };
            let owner = file.package.as_deref().or(file.origin.as_deref()).unwrap_or_default();
            blocks.clone().for_each(|block| of_files.insert(block));
            if named(owner) {
                bytes += file.bytes.unwrap_or(0);
                blocks.for_each(|block| set.insert(block));
            }
        }
        let first_block = |offset: u64| u32::try_from(offset / 4096).unwrap_or(u32::MAX);
        for part in &self.manifest.parts {
            let blocks =
                first_block(part.offset)..first_block((part.offset + part.bytes).next_multiple_of(4096));
            match part.name.as_str() {
                "usr" => {
                    blocks.filter(|block| !of_files.contains(*block)).for_each(|block| set.insert(block))
                }
                "command_line" => blocks.for_each(|block| set.insert(block)),
                "kernel" | "initramfs" if named(&part.name) => {
                    bytes += part.bytes;
                    blocks.for_each(|block| set.insert(block));
                }
                _ => {}
            }
        }
        // Blocks that no frame has are zeros: a machine has those.
        let mut fetched = BlockSet::new(layout.blocks());
        for block in self.index.frames.iter().flat_map(|frame| frame.extents.iter().cloned().flatten()) {
            if set.contains(block) {
                fetched.insert(block);
            }
        }
        (fetched, bytes)
    }

    fn cost(&self, change: String, changed_bytes: u64, missing: &BlockSet, before: &[Digest]) -> Cost {
        let known: HashSet<Digest> = chunks::cut(before)
            .into_iter()
            .map(|range| chunks::name_of(before.get(range).unwrap_or_default()))
            .collect();
        let chunk_known =
            |number: usize| self.index.chunks.get(number).is_some_and(|chunk| known.contains(&chunk.name));
        let digests = plan::chunks(&self.index, chunk_known);
        let frames = plan::frames(&self.index, missing);
        let (digest_bytes, frame_bytes) = (plan::bytes(&digests), plan::bytes(&frames));
        let total = self.index_bytes + digest_bytes + frame_bytes;
        let full = self.index_bytes + self.index.payload_bytes;
        Cost {
            change,
            changed_bytes,
            blocks: missing.len(),
            index: self.index_bytes,
            digests: digest_bytes,
            frames: frame_bytes,
            requests: 1 + digests.len() + frames.len(),
            total,
            percent: 100.0 * total as f64 / full as f64,
        }
    }
}
