//! What becomes of STATE after a power cut: the way that `init` goes (SAFETY 21), with the real e2fsprogs on a sparse file.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use init::early::ext4::journal::{self, Restored};

use super::sectors::{
    Patch, SECTOR, SECTOR_BYTES, Sectors, bytes_hash, read_vec, sector_hash, u16_at, u32_at,
};
use crate::{Tools, sparse_copy};

const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = 4096;
/// Bytes that are copied at a time.
const CHUNK: u64 = 1 << 20;
/// What a mount does, of a file system that the kernel mounts: it replays the journal and deletes orphans. This looks at everything, too.
const MOUNT: &[&str] = &["-f", "-p"];
/// The checks of `init/src/early/state.rs`, each of which is followed by an attempt to mount.
const CHECKS: &[&[&str]] = &[
    &["-p", "-b", "32768", "-B", "4096"],
    &["-p"],
    &["-f", "-y", "-b", "32768", "-B", "4096"],
    &["-f", "-y"],
    &["-f", "-y"],
    &["-f", "-y", "-b", "98304", "-B", "4096"],
];
/// Feature bits of a superblock (kernel documentation, `filesystems/ext4/super`): the seed of checksums stands in it, and metadata have
/// checksums.
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// What a boot finds of STATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which of the checks made it whole, counted from 1; 0 is what every mount does: the journal is replayed and orphans are deleted.
    /// None: nothing does.
    pub check: Option<usize>,
    /// A hash of what can be read after the first of them: blocks in use, without the journal.
    pub content: u64,
    /// For each line that was asked for, whether it is in its file.
    pub holds: Vec<bool>,
}

/// Checks STATE partitions.
#[derive(Debug)]
pub struct Checker {
    tools: Tools,
    folder: PathBuf,
    /// Path and line of all files that were ever acknowledged.
    files: Vec<(String, String)>,
    number: AtomicU64,
}

/// STATE as it is for certain, in a file of its own: brought up to date as flushes go by.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    sectors: Range<u64>,
}

impl StateFile {
    /// The partition in these sectors of `base`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(path: PathBuf, sectors: Range<u64>, base: &dyn Sectors) -> Result<Self> {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        let length = (sectors.end - sectors.start) * SECTOR_BYTES;
        file.set_len(length)?;
        let mut done = 0;
        while done < length {
            let count = usize::try_from((length - done).min(CHUNK))?;
            let chunk = read_vec(base, sectors.start * SECTOR_BYTES + done, count)?;
            if chunk.iter().any(|byte| *byte != 0) {
                file.write_all_at(&chunk, done)?;
            }
            done += count as u64;
        }
        Ok(Self { path, file, sectors })
    }

    /// Replaces sectors; those outside the partition do not count.
    ///
    /// # Errors
    /// The system's.
    pub fn apply<'a>(&self, patches: impl Iterator<Item = (u64, &'a Patch)>) -> Result<()> {
        apply(&self.file, &self.sectors, patches)
    }
}

fn apply<'a>(
    file: &File,
    sectors: &Range<u64>,
    patches: impl Iterator<Item = (u64, &'a Patch)>,
) -> Result<()> {
    let mut bytes = [0; SECTOR];
    for (sector, patch) in patches.filter(|(sector, _)| sectors.contains(sector)) {
        patch.read(&mut bytes)?;
        file.write_all_at(&bytes, (sector - sectors.start) * SECTOR_BYTES)?;
    }
    Ok(())
}

impl Checker {
    /// With e2fsprogs of Debian; working files go to `folder`.
    ///
    /// # Errors
    /// The package cannot be had.
    pub fn new(folder: &Path, files: Vec<(String, String)>) -> Result<Self> {
        let tools = Tools::of_packages(&["e2fsprogs"])?;
        Ok(Self { tools, folder: folder.to_owned(), files, number: AtomicU64::new(0) })
    }

    /// The number of a line in [`Outcome::holds`].
    pub fn index_of(&self, path: &str) -> Option<usize> {
        self.files.iter().position(|(known, _)| known == path)
    }

    /// What a boot finds of `state` with other content in some sectors. `known` tells what is known of a content that was found
    /// before, so that it is not looked at again.
    ///
    /// # Errors
    /// A tool cannot be run.
    pub fn check(
        &self,
        state: &StateFile,
        patches: &BTreeMap<u64, Patch>,
        known: impl Fn(u64) -> Option<Outcome>,
    ) -> Result<Outcome> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let work = self.folder.join(format!("state-{number}"));
        sparse_copy(&state.path, &work).context("cannot copy STATE")?;
        let file = File::options().read(true).write(true).open(&work)?;
        apply(
            &file,
            &state.sectors,
            patches.range(state.sectors.clone()).map(|(sector, patch)| (*sector, patch)),
        )?;
        let outcome = self.check_file(&file, &work, known);
        std::fs::remove_file(&work)?;
        outcome
    }

    fn check_file(
        &self,
        file: &File,
        work: &Path,
        known: impl Fn(u64) -> Option<Outcome>,
    ) -> Result<Outcome> {
        let mut content = None;
        // As `init` does before a check, by its own code; a whole inode stays as it is.
        let journal = journal::restore(file)?;
        let mount = (is_accepted(file)? && journal != Restored::Unknown).then_some(&MOUNT);
        let checks = mount.into_iter().chain(CHECKS);
        for (number, options) in (1 - mount.iter().count()..).zip(checks) {
            let code = self.e2fsck(work, options)?;
            if content.is_none() {
                content = Some(content_hash(file)?);
                if let Some(outcome) = content.and_then(&known) {
                    return Ok(outcome);
                }
            }
            // Bits 1 and 2: errors corrected, reboot advised. What was repaired by force is looked at again.
            if code & !3 == 0 && (number == 0 || self.e2fsck(work, &["-f", "-n"])? == 0) {
                let content = content.unwrap_or_default();
                return Ok(Outcome { check: Some(number), content, holds: self.lines(work)? });
            }
        }
        let content = content.unwrap_or_default();
        Ok(Outcome { check: None, content, holds: vec![false; self.files.len()] })
    }

    fn e2fsck(&self, work: &Path, options: &[&str]) -> Result<i32> {
        let mut command = self.tools.command("e2fsck")?;
        command.args(options).arg(work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().context("cannot run e2fsck")?;
        status.code().context("e2fsck was killed")
    }

    /// Which of the lines are in their files.
    fn lines(&self, work: &Path) -> Result<Vec<bool>> {
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let script = work.with_extension("debugfs");
        let commands: String = self.files.iter().map(|(path, _)| format!("cat {path}\n")).collect();
        std::fs::write(&script, commands)?;
        let mut command = self.tools.command("debugfs")?;
        let output = command.arg("-f").arg(&script).arg(work).stderr(Stdio::null()).output()?;
        std::fs::remove_file(&script)?;
        ensure!(output.status.success(), "debugfs ended with {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let found: std::collections::BTreeSet<&str> = text.lines().map(str::trim_end).collect();
        Ok(self.files.iter().map(|(_, line)| found.contains(line.as_str())).collect())
    }
}

/// The parts of an ext4 file system that say which blocks are in use.
#[derive(Debug)]
struct Map {
    blocks_per_group: u64,
    /// For each group, its block bitmap; none when the kernel has not begun to use the group.
    bitmaps: Vec<Option<Vec<u8>>>,
    /// Blocks of the journal.
    journal: Vec<Range<u64>>,
}

/// Whether the kernel gets as far as the journal: it mounts nothing whose superblock or group descriptors have a wrong checksum.
fn is_accepted(file: &File) -> Result<bool> {
    let first = read_block(file, 0)?;
    let superblock = first.get(1024..2048).unwrap_or_default();
    let covered = superblock.get(..1020).unwrap_or_default();
    if u16_at(superblock, 56) != 0xef53 || u32_at(superblock, 100) & RO_COMPAT_METADATA_CSUM == 0 {
        return Ok(u16_at(superblock, 56) == 0xef53);
    }
    if crc32c(!0, covered) != u32_at(superblock, 1020) {
        return Ok(false);
    }
    let seed = if u32_at(superblock, 96) & INCOMPAT_CSUM_SEED != 0 {
        u32_at(superblock, 624)
    } else {
        crc32c(!0, superblock.get(104..120).unwrap_or_default())
    };
    let length = usize::from(u16_at(superblock, 254)).clamp(32, BLOCK);
    let groups = u32_at(superblock, 4).div_ceil(u32_at(superblock, 32).max(1));
    for group in 0..groups {
        let place = usize::try_from(group)? * length;
        let block = read_block(file, 1 + (place / BLOCK) as u64)?;
        let descriptor = block.get(place % BLOCK..place % BLOCK + length).unwrap_or_default();
        let mut sum = crc32c(seed, &group.to_le_bytes());
        sum = crc32c(sum, descriptor.get(..30).unwrap_or_default());
        sum = crc32c(sum, &[0; 2]);
        sum = crc32c(sum, descriptor.get(32..).unwrap_or_default());
        if sum & 0xffff != u32::from(u16_at(descriptor, 30)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// CRC-32C as ext4 uses it: reflected, without the inversion at the end.
fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

fn read_block(file: &File, block: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; BLOCK];
    file.read_exact_at(&mut bytes, block * BLOCK_BYTES)?;
    Ok(bytes)
}

impl Map {
    /// Reads superblock, group descriptors, bitmaps and the journal's inode (kernel documentation, `filesystems/ext4`). None when
    /// it is no file system with blocks of 4096 bytes: then all that is there counts.
    fn read(file: &File) -> Result<Option<Self>> {
        let length = file.metadata()?.len() / BLOCK_BYTES;
        let first = read_block(file, 0)?;
        let superblock = first.get(1024..2048).unwrap_or_default();
        let blocks = u64::from(u32_at(superblock, 4));
        let blocks_per_group = u64::from(u32_at(superblock, 32));
        let wide = u32_at(superblock, 96) & 0x80 != 0;
        let descriptor_len = if wide { usize::from(u16_at(superblock, 254)) } else { 32 };
        let sane = u16_at(superblock, 56) == 0xef53
            && u32_at(superblock, 24) == 2
            && blocks_per_group == 32768
            && (32..=1024).contains(&descriptor_len)
            && blocks <= length;
        if !sane {
            return Ok(None);
        }
        let per_block = BLOCK / descriptor_len;
        let mut bitmaps = Vec::new();
        let mut inode_table = 0;
        for group in 0..usize::try_from(blocks.div_ceil(blocks_per_group))? {
            let descriptors = read_block(file, 1 + (group / per_block) as u64)?;
            let at = group % per_block * descriptor_len;
            let bitmap = u64::from(u32_at(&descriptors, at));
            if group == 0 {
                inode_table = u64::from(u32_at(&descriptors, at + 8));
            }
            let unused = u16_at(&descriptors, at + 18) & 2 != 0 || bitmap >= length;
            bitmaps.push(if unused { None } else { Some(read_block(file, bitmap)?) });
        }
        if inode_table >= length {
            return Ok(None);
        }
        // Inode 8; with inodes of 256 bytes it is in the table's first block.
        let table = read_block(file, inode_table)?;
        let inode = table.get(7 * usize::from(u16_at(superblock, 88))..).unwrap_or_default();
        let mut journal = Vec::new();
        let extents = inode.get(40..100).unwrap_or_default();
        if u16_at(extents, 0) == 0xf30a && u16_at(extents, 6) == 0 {
            for index in 0..usize::from(u16_at(extents, 2)).min(4) {
                let at = 12 + 12 * index;
                let start = u64::from(u32_at(extents, at + 8));
                journal.push(start..start + u64::from(u16_at(extents, at + 4)));
            }
        }
        Ok(Some(Self { blocks_per_group, bitmaps, journal }))
    }

    fn counts(&self, block: u64) -> bool {
        let group = usize::try_from(block / self.blocks_per_group).unwrap_or(usize::MAX);
        let Some(Some(bitmap)) = self.bitmaps.get(group) else { return false };
        let bit = block % self.blocks_per_group;
        let byte = usize::try_from(bit / 8).ok().and_then(|at| bitmap.get(at)).copied().unwrap_or(0);
        byte >> (bit % 8) & 1 == 1 && !self.journal.iter().any(|range| range.contains(&block))
    }
}

/// A hash of the blocks that somebody could read: those in use, without the journal, which is empty after its replay, and without
/// the superblock, which says when it was last written.
fn content_hash(file: &File) -> Result<u64> {
    let map = Map::read(file)?;
    let mut hash = 0;
    let length = file.metadata()?.len();
    let data = builder::sparse::data_ranges(file, 0..length)?;
    let mut superblock = 0;
    for block in builder::sparse::chunks_of(&data, BLOCK_BYTES) {
        if map.as_ref().is_some_and(|map| !map.counts(block)) {
            continue;
        }
        let mut bytes = read_block(file, block)?;
        if block == 0 && map.is_some() {
            // What it says of the file system's shape and state stays: its features and whether it has errors.
            let kept = [bytes_hash(bytes.get(1024 + 88..1024 + 104).unwrap_or_default())];
            superblock = kept.iter().fold(1, |all, one| all ^ one);
            bytes.get_mut(1024..2048).unwrap_or_default().fill(0);
        }
        if bytes.iter().any(|byte| *byte != 0) {
            hash ^= sector_hash(block, &bytes);
        }
    }
    Ok(hash ^ superblock ^ u64::from(map.is_none()))
}
