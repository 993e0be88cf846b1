//! Slots by class: each content of a slot is verified once, in full, and a verified one is then shown to the loader as a small slot that
//! verifies too, signed by the same key. So the loader's own code judges every state, in microseconds instead of the time that
//! hashing a kernel takes, and a slot that does not verify stays as it is.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use boot::select::ARCHITECTURE;
use boot::trust::Trust;
use builder::signing::SlotSigner;
use sha2::{Digest as _, Sha256};
use slots::{
    FOOTER_LEN, Footer, FooterError, KeyId, LOADER_VERSION, Part, Parts, Policy, Text, TextError, TrustedKey,
    VerityInfo,
};

use super::judge::lock;
use super::sectors::{Content, Patched, SECTOR_BYTES, Sectors, read_vec};

/// Bytes of each part of a small slot.
const PART: u64 = 4096;
const PART_LEN: usize = 4096;
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;

/// What is known of a slot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// The loader would start it: footer, kernel, initramfs and command line are as signed.
    pub accepted: bool,
    /// All of it is as signed, and its verity tree fits.
    pub verified: bool,
    /// Its rollback index; 0 unless it is accepted.
    pub rollback_index: u64,
}

/// Writes that make a small slot, from the slot's start.
type SmallSlot = Arc<[(u64, Content)]>;

/// Slots that were looked at, and the small ones that stand in for them.
#[derive(Debug)]
pub struct StandIns {
    folder: PathBuf,
    known: Mutex<HashMap<u64, Class>>,
    /// By rollback index.
    small: Mutex<HashMap<u64, SmallSlot>>,
    /// Bytes of a slot.
    length: u64,
    trust: Trust,
}

impl StandIns {
    /// For slots of `length` bytes that this loader trusts; working files go to `folder`.
    pub fn new(trust: Trust, length: u64, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: Mutex::default(), small: Mutex::default(), length, trust }
    }

    /// The same for another disk, of which nothing is known yet.
    #[must_use]
    pub fn of_another_disk(&self) -> Self {
        Self::new(self.trust, self.length, &self.folder)
    }

    /// What the slot in `sectors` of `disk` is, whose content has this hash.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn class(&self, disk: &dyn Sectors, sectors: &Range<u64>, hash: u64) -> io::Result<Class> {
        if let Some(class) = lock(&self.known).get(&hash).copied() {
            return Ok(class);
        }
        let class = self.look(disk, sectors)?;
        lock(&self.known).insert(hash, class);
        Ok(class)
    }

    /// Puts the small slot with the rollback index of one that is verified over it.
    ///
    /// # Errors
    /// There is no development key.
    pub fn cover(
        &self,
        layer: &mut Patched<'_>,
        sectors: &Range<u64>,
        rollback_index: u64,
    ) -> anyhow::Result<()> {
        let known = lock(&self.small).get(&rollback_index).cloned();
        let small = match known {
            Some(small) => small,
            None => {
                let small = small_slot(self.trust.product, self.length, 2, rollback_index)?.into();
                Arc::clone(lock(&self.small).entry(rollback_index).or_insert(small))
            }
        };
        for (offset, content) in small.iter() {
            layer.write(sectors.start * SECTOR_BYTES + offset, content);
        }
        Ok(())
    }

    fn look(&self, disk: &dyn Sectors, sectors: &Range<u64>) -> io::Result<Class> {
        let none = Class { accepted: false, verified: false, rollback_index: 0 };
        let (start, length) = (sectors.start * SECTOR_BYTES, (sectors.end - sectors.start) * SECTOR_BYTES);
        let mut block = [0; FOOTER_LEN];
        disk.read(start + length - FOOTER_LEN as u64, &mut block)?;
        let keys: Vec<TrustedKey> = self.trust.keys().map(|configured| configured.key).collect();
        let policy = Policy {
            keys: &keys,
            product: Some(self.trust.product.as_str()),
            architecture: ARCHITECTURE,
            loader_version: LOADER_VERSION,
            rollback_floor: 0,
        };
        let footer: Result<Footer, FooterError> = Footer::verify(&block, length, &policy);
        let Ok(footer) = footer else { return Ok(none) };
        let fits = |part: Part| -> io::Result<bool> { Ok(digest(disk, start, part)? == part.sha256) };
        let parts = footer.parts;
        if !(fits(parts.kernel)? && fits(parts.initramfs)? && fits(parts.command_line)?) {
            return Ok(none);
        }
        let whole = fits(parts.usr)? && fits(parts.verity)?;
        let verified = whole && self.tree_fits(disk, start, &footer)?;
        Ok(Class { accepted: true, verified, rollback_index: footer.rollback_index })
    }

    /// The hash tree, by the code that checks images.
    fn tree_fits(&self, disk: &dyn Sectors, start: u64, footer: &Footer) -> io::Result<bool> {
        let path = self.folder.join(format!("tree-{:?}", std::thread::current().id()));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        let mut done = 0;
        while done < footer.parts.verity.end().next_multiple_of(SECTOR_BYTES) {
            let chunk = read_vec(disk, start + done, CHUNK.min(disk_left(disk, start + done)))?;
            file.write_all_at(&chunk, done)?;
            done += chunk.len() as u64;
        }
        let verity = &footer.verity;
        let verdict = builder::verity::verify(
            &file,
            0,
            verity.data_blocks,
            verity.superblock_offset,
            &verity.root_hash,
        );
        std::fs::remove_file(&path)?;
        Ok(verdict.is_ok())
    }
}

fn disk_left(disk: &dyn Sectors, offset: u64) -> usize {
    usize::try_from(disk.size().saturating_sub(offset)).unwrap_or(usize::MAX)
}

fn digest(disk: &dyn Sectors, start: u64, part: Part) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut done = 0;
    while done < part.length {
        let count = usize::try_from((part.length - done).min(CHUNK as u64)).unwrap_or(CHUNK);
        let chunk = read_vec(disk, start + part.offset + done, count.next_multiple_of(512))?;
        hasher.update(chunk.get(..count).unwrap_or_default());
        done += count as u64;
    }
    Ok(hasher.finalize().into())
}

/// A slot of `length` bytes whose `/usr` has `blocks` blocks, as writes from its start: everything, then the footer. Signed with the
/// development key, like the images of tests.
///
/// # Errors
/// There is no such key.
pub fn small_slot(
    product: Text<32>,
    length: u64,
    blocks: u64,
    rollback_index: u64,
) -> anyhow::Result<Vec<(u64, Content)>> {
    let signer = SlotSigner::development()?;
    let usr: Vec<u8> = (0..blocks * PART).map(|at| u8::try_from(at % 253).unwrap_or(0) | 1).collect();
    let mut kernel = vec![0x90; PART_LEN];
    kernel.get_mut(..2).unwrap_or_default().copy_from_slice(b"MZ");
    let command_line = b"console=ttyS0 gpt".to_vec();
    let file = tempfile::tempfile()?;
    file.write_all_at(&usr, 0)?;
    let superblock = builder::verity::Superblock { uuid: [1; 16], data_blocks: blocks, salt: vec![7; 32] };
    let root = builder::verity::write_tree(&file, 0, &superblock, usr.len() as u64)?;
    let tree_bytes = file.metadata()?.len() - usr.len() as u64;
    let mut verity = vec![0; usize::try_from(tree_bytes)?];
    file.read_exact_at(&mut verity, usr.len() as u64)?;
    let mut offset = 0;
    let mut writes = Vec::new();
    let mut part = |bytes: &[u8]| {
        let part = Part { offset, length: bytes.len() as u64, sha256: Sha256::digest(bytes).into() };
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(PART_LEN), 0);
        let content: Arc<[u8]> = padded.into();
        writes.push((offset, Content::Memory(content)));
        offset = part.end().next_multiple_of(PART);
        part
    };
    let parts = Parts {
        usr: part(&usr),
        verity: part(&verity),
        kernel: part(&kernel),
        initramfs: part(&[0x5a; PART_LEN]),
        command_line: part(&command_line),
    };
    let text = |error: TextError| anyhow::anyhow!("{error}");
    let footer = Footer {
        product,
        version: Text::new("1.0.0").map_err(text)?,
        architecture: Text::new(ARCHITECTURE).map_err(text)?,
        minimum_loader: 1,
        rollback_index,
        build_time: 0,
        verity: VerityInfo {
            root_hash: root,
            salt: [7; 32],
            data_blocks: blocks,
            superblock_offset: parts.verity.offset,
        },
        parts,
        key_id: KeyId(signer.public().id()),
    };
    let bytes = footer.to_bytes(|message| signer.sign(message));
    writes.push((length - FOOTER_LEN as u64, Content::Memory(bytes.as_slice().into())));
    Ok(writes)
}
