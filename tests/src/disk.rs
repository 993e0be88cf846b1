//! A disk in a file, as a test damages and reads it while no machine runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use slots::{Device, Entry, FOOTER_LEN, Footer, Geometry, Loaded, SIGNATURE_LEN, SlotFlags, Table};

/// Bytes of a logical block.
const BLOCK: u64 = 512;
/// Blocks of a copy of the table: a header and 32 blocks of entries.
const TABLE_BLOCKS: u64 = 33;

/// A disk whose partition table is whole when it is opened.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    file: File,
}

impl DiskFile {
    /// Opens a raw disk for reading and writing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Makes the disk larger, as a virtual one is enlarged: the partition table stays where it was.
    ///
    /// # Errors
    /// The system's; the disk is larger already.
    pub fn enlarge(&mut self, bytes: u64) -> Result<()> {
        if bytes < self.bytes()? {
            bail!("{} is larger than {bytes} bytes", self.path.display());
        }
        Ok(self.file.set_len(bytes)?)
    }

    /// Moves the backup table to the end, as an installer does.
    ///
    /// # Errors
    /// There is no valid table.
    pub fn move_backup_to_end(&mut self) -> Result<()> {
        let mut loaded = self.load();
        loaded.grow(self).map_err(|error| anyhow::anyhow!("cannot grow the table: {error}"))
    }

    /// Both copies of the table.
    pub fn load(&mut self) -> Loaded {
        Loaded::read(self, None)
    }

    /// True when both copies of the table are valid, equal and where they belong.
    pub fn table_is_whole(&mut self) -> bool {
        self.load().is_whole()
    }

    fn table(&mut self) -> Result<Table> {
        let loaded = self.load();
        let (table, _) = loaded.current().context("no valid partition table")?;
        Ok(table.clone())
    }

    fn entry(&mut self, label: &str) -> Result<(usize, Entry)> {
        self.table()?.find_name(label).with_context(|| format!("{} has no {label}", self.path.display()))
    }

    /// Whether a partition is there.
    ///
    /// # Errors
    /// There is no valid table.
    pub fn has(&mut self, label: &str) -> Result<bool> {
        Ok(self.table()?.find_name(label).is_some())
    }

    /// Where a partition lies, in bytes.
    ///
    /// # Errors
    /// There is none of that label.
    pub fn partition(&mut self, label: &str) -> Result<Range<u64>> {
        let (_, entry) = self.entry(label)?;
        Ok(entry.first_block() * BLOCK..(entry.last_block() + 1) * BLOCK)
    }

    /// A partition's PARTUUID as the kernel writes it.
    ///
    /// # Errors
    /// There is none of that label.
    pub fn partuuid(&mut self, label: &str) -> Result<String> {
        Ok(self.entry(label)?.1.unique_guid().to_string())
    }

    /// A slot's flags.
    ///
    /// # Errors
    /// There is none of that label.
    pub fn flags(&mut self, slot: &str) -> Result<SlotFlags> {
        Ok(self.entry(slot)?.1.flags())
    }

    /// Gives a slot new flags, in both copies of the table.
    ///
    /// # Errors
    /// There is none of that label.
    pub fn set_flags(&mut self, slot: &str, priority: u8, tries: u8, successful: bool) -> Result<()> {
        let (index, mut entry) = self.entry(slot)?;
        let mut table = self.table()?;
        let flags = SlotFlags::EMPTY.with_priority(priority)?.with_tries(tries)?;
        entry.set_flags(flags.with_successful(successful));
        table.set_entry(index, entry);
        let mut loaded = self.load();
        loaded.commit(self, &table).map_err(|error| anyhow::anyhow!("cannot set flags: {error}"))
    }

    /// Copies the content of one slot into the other, as an update does.
    ///
    /// # Errors
    /// The slots differ in size.
    pub fn copy_slot(&mut self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.partition(from)?, self.partition(to)?);
        if from.end - from.start != to.end - to.start {
            bail!("the slots of {} differ in size", self.path.display());
        }
        Ok(builder::sparse::copy(&self.file, from, &self.file, to.start, |_| {})?)
    }

    /// The slot's footer, unverified.
    ///
    /// # Errors
    /// It has none.
    pub fn footer(&mut self, slot: &str) -> Result<Footer> {
        let mut block = [0; FOOTER_LEN];
        let offset = self.footer_offset(slot)?;
        self.file.read_exact_at(&mut block, offset)?;
        Footer::parse(&block).map_err(|error| anyhow::anyhow!("{slot}: {error}"))
    }

    /// Writes a slot's footer, signed by `sign`.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn write_footer(
        &mut self,
        slot: &str,
        footer: &Footer,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN],
    ) -> Result<()> {
        let offset = self.footer_offset(slot)?;
        Ok(self.file.write_all_at(&footer.to_bytes(sign), offset)?)
    }

    /// First byte of a slot's footer.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn footer_offset(&mut self, slot: &str) -> Result<u64> {
        Ok(self.partition(slot)?.end - FOOTER_LEN as u64)
    }

    /// Flips the lowest bit of a byte.
    ///
    /// # Errors
    /// The system's.
    pub fn flip_bit(&mut self, offset: u64) -> Result<()> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, offset)?;
        Ok(self.file.write_all_at(&byte.map(|byte| byte ^ 1), offset)?)
    }

    /// Overwrites a block of 4096 bytes with bytes that mean nothing, as a power cut may leave it.
    ///
    /// # Errors
    /// The system's.
    pub fn garble_block(&mut self, offset: u64) -> Result<()> {
        Ok(self.file.write_all_at(&[0xa5; 4096], offset)?)
    }

    /// The little-endian number of four bytes at an offset.
    ///
    /// # Errors
    /// The system's.
    pub fn u32_at(&self, offset: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Zeroes the primary copy of the table; the protective MBR stays.
    ///
    /// # Errors
    /// The system's.
    pub fn zero_primary_table(&mut self) -> Result<()> {
        self.zero(BLOCK, TABLE_BLOCKS * BLOCK)
    }

    /// Zeroes the backup copy of the table at the end of the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn zero_backup_table(&mut self) -> Result<()> {
        let length = TABLE_BLOCKS * BLOCK;
        self.zero(self.bytes()? - length, length)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let zeroes = vec![0; usize::try_from(length)?];
        Ok(self.file.write_all_at(&zeroes, offset)?)
    }

    /// The place of the only occurrence of `needle` in a partition.
    ///
    /// # Errors
    /// It is not there, or more than once.
    pub fn find_once(&mut self, label: &str, needle: &[u8]) -> Result<u64> {
        match self.find_all(label, needle)?.as_slice() {
            [at] => Ok(*at),
            [] => bail!("{label} does not hold {:?}", String::from_utf8_lossy(needle)),
            _ => bail!("{label} holds {:?} more than once", String::from_utf8_lossy(needle)),
        }
    }

    /// How many of these are the beginning of a block of 4 KiB in a partition.
    ///
    /// # Errors
    /// The partition cannot be read.
    pub fn beginnings(&mut self, label: &str, wanted: &[Vec<u8>]) -> Result<usize> {
        let place = self.partition(label)?;
        let (mut content, mut found) = (vec![0; 1 << 20], vec![false; wanted.len()]);
        for at in place.step_by(content.len()) {
            // The last piece of a partition may be shorter than what is read: what follows has no such block.
            let read = self.file.read_at(&mut content, at)?;
            for block in content.get(..read).unwrap_or_default().chunks(4096) {
                wanted.iter().zip(&mut found).for_each(|(wanted, found)| *found |= block.starts_with(wanted));
            }
        }
        Ok(found.iter().filter(|found| **found).count())
    }

    /// Where bytes are in a partition, from the disk's start, in order.
    ///
    /// # Errors
    /// The partition cannot be read.
    pub fn find_all(&mut self, label: &str, needle: &[u8]) -> Result<Vec<u64>> {
        let place = self.partition(label)?;
        let mut content = vec![0; usize::try_from(place.end - place.start)?];
        self.file.read_exact_at(&mut content, place.start)?;
        let found = content.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        Ok(found.map(|(at, _)| place.start + at as u64).collect())
    }
}

impl Device for DiskFile {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        // A size that cannot be read is that of no disk: `slots` refuses it.
        let bytes = self.file.metadata().map_or(0, |metadata| metadata.len());
        Geometry { block_size: 512, blocks: bytes / BLOCK }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
