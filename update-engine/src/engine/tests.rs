//! Whole updates against disks that lose, tear and refuse writes, and mirrors that lie.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;

use slots::{
    BootOrder, Device, Entry, FOOTER_LEN, FooterError, Geometry, Guid, Loaded, PartitionName, Policy,
    SlotFlags, Table, TrustedKey, types,
};

use super::blocks::Before;
use super::fill::{Fill, FillError, Origins, Progress, Source, Watch};
use super::slot::{self, Pair, Place, Proven, SlotError, SlotWriter};
use crate::payload::write::write;
use crate::payload::{BLOCK, Index, Layout};
use crate::testing::{TestSlot, noise, trusted_key};

const SECTOR: u64 = 512;
/// Bytes of a slot of the test disk.
const SLOT: u64 = 1 << 20;
const SLOT_A: u64 = 1 << 20;
const DISK: u64 = 4 << 20;

fn guid_a() -> Guid {
    Guid::from_hash([0xa; 16])
}

fn guid_b() -> Guid {
    Guid::from_hash([0xb; 16])
}

#[derive(Clone)]
enum Op {
    Write { offset: u64, data: Vec<u8> },
    Flush,
}

/// A disk in memory that records what is done to it, and may refuse writes from some moment on.
#[derive(Clone)]
struct TestDisk {
    bytes: Vec<u8>,
    log: Vec<Op>,
    refuse_after: Option<usize>,
    bad: Option<Range<u64>>,
    /// Where writes are lost without a word.
    deaf: Option<Range<u64>>,
    /// Bytes that were read of slot B's body.
    read: usize,
}

impl Device for TestDisk {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        Geometry { block_size: 512, blocks: DISK / SECTOR }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        if self.bad.as_ref().is_some_and(|bad| offset < bad.end && bad.start < end) {
            return Err(io::Error::other("unreadable sector"));
        }
        buffer.copy_from_slice(&self.bytes[offset as usize..end as usize]);
        if offset >= SLOT_A + SLOT && end <= SLOT_A + 2 * SLOT - FOOTER_LEN as u64 {
            self.read += buffer.len();
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.refuse_after.is_some_and(|count| self.log.len() >= count) {
            return Err(io::Error::other("write error"));
        }
        self.log.push(Op::Write { offset, data: data.to_vec() });
        if self.deaf.as_ref().is_some_and(|deaf| offset < deaf.end && deaf.start < offset + data.len() as u64)
        {
            return Ok(());
        }
        self.bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.refuse_after.is_some_and(|count| self.log.len() >= count) {
            return Err(io::Error::other("flush error"));
        }
        self.log.push(Op::Flush);
        Ok(())
    }
}

impl TestDisk {
    /// A disk whose slot A holds `running`, good, and whose slot B is empty.
    fn new(running: &TestSlot) -> Self {
        let mut disk = Self::of(vec![0; DISK as usize]);
        let mut loaded = Loaded::blank(disk.geometry(), Guid::from_hash([1; 16]), 34).unwrap();
        let mut table: Table = loaded.current().unwrap().0.clone();
        let entry = |guid, offset: u64, flags, name| {
            let first = offset / SECTOR;
            let last = first + SLOT / SECTOR - 1;
            Entry::new(types::USR_X86_64, guid, first, last, flags, PartitionName::new(name))
        };
        assert!(table.set_entry(1, entry(guid_a(), SLOT_A, SlotFlags::FRESH, "USR-A")));
        assert!(table.set_entry(2, entry(guid_b(), SLOT_A + SLOT, SlotFlags::EMPTY, "USR-B")));
        loaded.commit(&mut disk, &table).unwrap();
        disk.fill(SLOT_A, running);
        disk.log.clear();
        disk
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, log: Vec::new(), refuse_after: None, bad: None, deaf: None, read: 0 }
    }

    /// Puts a sealed release into the slot at `slot`.
    fn fill(&mut self, slot: u64, release: &TestSlot) {
        let (image, _) = release.build();
        let (body, footer) = image.split_at(image.len() - FOOTER_LEN);
        apply(&mut self.bytes, slot, body);
        apply(&mut self.bytes, slot + SLOT - FOOTER_LEN as u64, footer);
    }

    fn pair(&mut self) -> Pair {
        Pair::read(self, guid_a()).unwrap()
    }

    fn set_flags(&mut self, index: usize, flags: SlotFlags) {
        let mut loaded = Loaded::read(self, None);
        let mut table = loaded.current().unwrap().0.clone();
        let mut entry = table.entry(index).unwrap();
        entry.set_flags(flags);
        table.set_entry(index, entry);
        loaded.commit(self, &table).unwrap();
        self.log.clear();
    }
}

fn keys() -> [TrustedKey; 1] {
    [trusted_key()]
}

fn policy(keys: &[TrustedKey]) -> Policy<'_> {
    Policy {
        keys,
        product: Some("ferrite"),
        architecture: "x86_64",
        loader_version: slots::LOADER_VERSION,
        rollback_floor: 0,
    }
}

struct Release {
    index: Index,
    payload: Vec<u8>,
}

fn publish(slot: &TestSlot) -> Release {
    let (file, _) = slot.file();
    let mut payload = Vec::new();
    let index =
        write(&file, &[vec![0..40, 40..130], vec![130..150, 150..202]], &mut payload, |_| {}).unwrap();
    Release { index: Index::parse(&index.to_bytes()).unwrap(), payload }
}

/// A mirror that may lie, and counts what it is asked for.
struct Mirror {
    payload: Vec<u8>,
    asked: u64,
    cut_after: Option<u64>,
}

impl Source for Mirror {
    fn open(&mut self, range: Range<u64>) -> io::Result<Box<dyn Read + Send>> {
        self.asked += range.end - range.start;
        let mut bytes = self.payload.get(range.start as usize..).unwrap_or_default().to_vec();
        if let Some(left) = &mut self.cut_after {
            bytes.truncate(*left as usize);
            *left = 0;
        }
        // Without an end of its own: whoever reads must know where to stop.
        Ok(Box::new(Cursor::new(bytes).chain(io::repeat(0x55).take(1 << 20))))
    }
}

struct Patient;

impl Watch for Patient {
    fn progress(&mut self, now: Progress) -> bool {
        assert!(now.blocks_done <= now.blocks && now.fetched <= now.to_fetch.max(now.fetched));
        true
    }
}

/// What the engine does between a release's index and its seal.
fn download(
    disk: &mut TestDisk,
    release: &Release,
    mirror: &mut Mirror,
    digests: &File,
) -> Result<(SlotWriter, Proven), FillError> {
    let other = disk.pair().other;
    let before = Before::read(disk, &other);
    let (writer, proven, _) = download_after(before, disk, release, mirror, digests)?;
    Ok((writer, proven))
}

fn download_after(
    before: Option<Before>,
    disk: &mut TestDisk,
    release: &Release,
    mirror: &mut Mirror,
    digests: &File,
) -> Result<(SlotWriter, Proven, Origins), FillError> {
    let keys = keys();
    let mut writer = SlotWriter::begin(disk, guid_a(), &release.index.footer_bytes, &policy(&keys))?;
    let footer = *writer.footer();
    let running = disk.pair().running;
    let known = slot::read_footer(disk, &running, &policy(&keys)).ok();
    let known = known.and_then(|footer| Some((running, Layout::of(&footer).ok()?)));
    let digests = digests.try_clone().unwrap();
    let fill = Fill::new(&release.index, &footer, known, digests, tempfile::tempfile().unwrap());
    let mut fill = fill.with_hint(before);
    fill.learn(disk)?;
    fill.digests(&footer, mirror, &mut Patient)?;
    fill.bring(disk, &mut writer, mirror, &mut Patient)?;
    let origins = fill.origins();
    let blocks = origins.in_place + origins.local + origins.zero + origins.fetched;
    assert_eq!(blocks, u64::from(release.index.layout.listed()));
    let proven = fill.prove(disk, &mut writer)?;
    Ok((writer, proven, origins))
}

fn update(disk: &mut TestDisk, release: &Release) -> Result<u64, FillError> {
    let mut mirror = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
    let (writer, proven) = download(disk, release, &mut mirror, &tempfile::tempfile().unwrap())?;
    let keys = keys();
    writer.seal(disk, &policy(&keys), Some(&proven), &mut |_| {})?;
    slot::flip(disk, guid_a())?;
    Ok(mirror.asked)
}

fn old() -> TestSlot {
    TestSlot::new("1.0.0", 200)
}

/// One file in the middle has changed and grown by a block, and with it the command line.
fn new() -> TestSlot {
    let mut slot = TestSlot::new("1.1.0", 200);
    slot.usr.splice(60 * BLOCK..61 * BLOCK, noise(9999, 2 * BLOCK));
    slot
}

#[test]
fn an_update_copies_what_is_there_and_fetches_what_is_new() {
    let (old, new) = (old(), publish(&new()));
    let mut disk = TestDisk::new(&old);
    let asked = update(&mut disk, &new).unwrap();
    let pair = disk.pair();
    assert_eq!((pair.running.flags.priority(), pair.running.flags.tries()), (1, 7));
    assert_eq!(pair.other.flags.to_string(), "priority=2 tries=1 successful=0");
    let keys = keys();
    let footer = slot::verify(&mut disk, &pair.other, &policy(&keys), &mut |_| {}).unwrap();
    assert_eq!(footer.version.as_str(), "1.1.0");
    assert!(asked * 4 < new.payload.len() as u64 * 3, "asked for {asked} of {}", new.payload.len());
}

#[test]
fn the_running_slot_is_the_one_the_loader_named_safety_18() {
    let mut disk = TestDisk::new(&old());
    disk.set_flags(2, SlotFlags::FRESH.with_priority(9).unwrap());
    assert_eq!(disk.pair().running.guid, guid_a());
    assert!(matches!(Pair::read(&mut disk, Guid::from_hash([3; 16])), Err(SlotError::NoPair(_))));
}

#[test]
fn an_update_in_an_unconfirmed_boot_is_refused_and_writes_nothing_safety_18() {
    let release = publish(&new());
    let mut disk = TestDisk::new(&old());
    disk.set_flags(1, SlotFlags::FRESH.with_successful(false));
    let refused = update(&mut disk, &release);
    assert!(matches!(refused, Err(FillError::Slot(SlotError::Unconfirmed))), "{refused:?}");
    assert!(disk.log.is_empty());
    assert!(matches!(slot::flip(&mut disk, guid_a()), Err(SlotError::Unconfirmed)) && disk.log.is_empty());
}

#[test]
fn what_this_machines_loader_would_not_start_is_refused_before_anything_is_written_safety_11() {
    let change = |change: &dyn Fn(&mut TestSlot)| {
        let mut slot = new();
        change(&mut slot);
        slot
    };
    let cases: [(&str, TestSlot); 4] = [
        ("belongs to product other", change(&|slot| slot.product = "other")),
        ("built for aarch64", change(&|slot| slot.architecture = "aarch64")),
        ("needs loader >= 99, this is 1", change(&|slot| slot.minimum_loader = 99)),
        ("needs a slot of", TestSlot::new("9.0.0", 400)),
    ];
    for (reason, slot) in cases {
        let release = publish(&slot);
        let mut disk = TestDisk::new(&old());
        let error = update(&mut disk, &release).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        assert!(text.contains(reason), "{text}");
        assert!(disk.log.is_empty(), "{reason}");
    }
}

#[test]
fn an_older_rollback_index_and_a_foreign_key_are_refused_safety_11_12() {
    let release = publish(&new());
    let mut disk = TestDisk::new(&old());
    let keys = keys();
    let strict = Policy { rollback_floor: 1, ..policy(&keys) };
    let refused = SlotWriter::begin(&mut disk, guid_a(), &release.index.footer_bytes, &strict).unwrap_err();
    assert!(matches!(refused, SlotError::Footer(FooterError::RolledBack { index: 0, floor: 1 })));
    let foreign = Policy { keys: &[], ..policy(&keys) };
    let refused = SlotWriter::begin(&mut disk, guid_a(), &release.index.footer_bytes, &foreign).unwrap_err();
    assert!(matches!(refused, SlotError::Footer(FooterError::UnknownKey(_))));
    let mut flipped = release.index.footer_bytes.clone();
    flipped[200] ^= 1;
    let refused = SlotWriter::begin(&mut disk, guid_a(), &flipped, &policy(&keys)).unwrap_err();
    assert!(matches!(refused, SlotError::Footer(FooterError::Signature)));
    assert!(disk.log.is_empty());
}

#[test]
fn a_lying_mirror_costs_a_retry_and_never_a_bad_slot() {
    let release = publish(&new());
    let digests_end = 32 * u64::from(release.index.layout.listed());
    for at in [40, digests_end + 30, digests_end + 200_000] {
        let mut disk = TestDisk::new(&TestSlot { usr: noise(5, 20 * BLOCK), ..old() });
        let mut payload = release.payload.clone();
        payload[at as usize] ^= 0x80;
        let mut mirror = Mirror { payload, asked: 0, cut_after: None };
        let digests = tempfile::tempfile().unwrap();
        let refused = download(&mut disk, &release, &mut mirror, &digests);
        assert!(
            matches!(refused, Err(FillError::Mirror(_) | FillError::Transport(_))),
            "{at}: {:?}",
            refused.map(|_| ())
        );
        assert_eq!(disk.pair().other.flags, SlotFlags::EMPTY);
        // Another mirror has the right bytes, and only what is missing is asked for.
        let mut honest = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
        let (writer, _) = download(&mut disk, &release, &mut honest, &digests).unwrap();
        let keys = keys();
        writer.seal(&mut disk, &policy(&keys), None, &mut |_| {}).unwrap();
    }
}

#[test]
fn an_update_that_was_cut_off_goes_on_where_it_was() {
    let release = publish(&new());
    let empty = TestSlot { usr: noise(5, 20 * BLOCK), ..old() };
    let mut disk = TestDisk::new(&empty);
    let digests = tempfile::tempfile().unwrap();
    let most = release.payload.len() as u64 * 9 / 10;
    let mut cut = Mirror { payload: release.payload.clone(), asked: 0, cut_after: Some(most) };
    assert!(download(&mut disk, &release, &mut cut, &digests).is_err());
    // All digests came before the cut; the frames are one after the other.
    let mut again = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
    download(&mut disk, &release, &mut again, &digests).unwrap();
    assert!(again.asked < release.payload.len() as u64, "{} of {}", again.asked, release.payload.len());
}

#[test]
fn blocks_of_the_running_slot_that_rot_are_fetched_safety_20() {
    let release = publish(&new());
    let mut healthy = TestDisk::new(&old());
    let least = update(&mut healthy, &release).unwrap();
    let mut rotten = TestDisk::new(&old());
    rotten.bytes[(SLOT_A + 20 * BLOCK as u64) as usize + 7] ^= 1;
    rotten.bad = Some(SLOT_A + 100 * BLOCK as u64..SLOT_A + 101 * BLOCK as u64);
    let more = update(&mut rotten, &release).unwrap();
    assert!(more >= least);
    let pair = rotten.pair();
    let keys = keys();
    slot::verify(&mut rotten, &pair.other, &policy(&keys), &mut |_| {}).unwrap();
}

#[test]
fn a_slot_that_changed_behind_our_back_is_not_sealed_safety_19() {
    let release = publish(&new());
    for at in [0, 60, 201, 202, 205, 209] {
        let mut disk = TestDisk::new(&old());
        let mut mirror = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
        let digests = tempfile::tempfile().unwrap();
        let (writer, _) = download(&mut disk, &release, &mut mirror, &digests).unwrap();
        let offset = (writer.place().offset + at * BLOCK as u64) as usize;
        // The superblock is nobody's word: only there may a byte differ without harm.
        let superblock = at == 201;
        disk.bytes[offset + 9] ^= 4;
        let keys = keys();
        let sealed = writer.seal(&mut disk, &policy(&keys), None, &mut |_| {});
        assert_eq!(sealed.is_ok(), superblock, "block {at}: {:?}", sealed.map(|_| ()));
        assert_eq!(disk.pair().other.flags, SlotFlags::EMPTY);
    }
}

#[test]
fn what_was_proven_once_is_still_proven_after_the_footer_safety_19() {
    let release = publish(&new());
    let keys = keys();
    for rot in [false, true] {
        let mut disk = TestDisk::new(&old());
        let mut mirror = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
        let digests = tempfile::tempfile().unwrap();
        let (mut writer, proven) = download(&mut disk, &release, &mut mirror, &digests).unwrap();
        assert_eq!(writer.verify_body(&mut disk, &mut |_| {}).unwrap(), proven);
        let offset = writer.place().offset as usize;
        disk.bytes[offset + 100 * BLOCK] ^= u8::from(rot);
        let mut read = 0;
        let blocks = writer.layout().blocks();
        let sealed = writer.seal(&mut disk, &policy(&keys), Some(&proven), &mut |more| read += more);
        assert_eq!(sealed.is_err(), rot, "{:?}", sealed.map(|_| ()));
        // Once, not twice; the superblock of the tree is nobody's word.
        assert!(read <= blocks, "{read} of {blocks}");
        assert_eq!(disk.pair().other.flags, SlotFlags::EMPTY);
    }
}

#[test]
fn a_disk_that_loses_a_write_is_noticed_before_the_footer_safety_19() {
    let release = publish(&new());
    let blocks = u64::from(release.index.layout.blocks());
    for block in (0..blocks).filter(|block| *block != u64::from(release.index.layout.usr_blocks())) {
        let mut disk = TestDisk::new(&old());
        // What is in its place is not written.
        disk.bytes[(SLOT_A + SLOT) as usize..(SLOT_A + 2 * SLOT) as usize].fill(0x11);
        let at = SLOT_A + SLOT + block * BLOCK as u64;
        disk.deaf = Some(at..at + BLOCK as u64);
        let refused = update(&mut disk, &release);
        assert!(matches!(refused, Err(FillError::Slot(SlotError::Content(_)))), "block {block}: {refused:?}");
        let footer_at = (SLOT_A + 2 * SLOT) as usize - FOOTER_LEN;
        assert!(disk.bytes[footer_at..footer_at + FOOTER_LEN].iter().all(|byte| *byte == 0), "block {block}");
        assert_eq!(disk.pair().other.flags, SlotFlags::EMPTY);
    }
}

/// What the passive slot held before tells what need not be read there, and nothing else.
#[test]
fn a_hint_at_what_the_slot_held_saves_reading_alone() {
    let release = publish(&new());
    let unlike = TestSlot { usr: noise(5, 202 * BLOCK), ..TestSlot::new("0.9.0", 1) };
    let mut read = Vec::new();
    for (held, rot) in [(&old(), false), (&new(), false), (&unlike, false), (&old(), true)] {
        let mut disk = TestDisk::new(&old());
        disk.fill(SLOT_A + SLOT, held);
        // The hash tree still tells that this block is there.
        disk.bytes[(SLOT_A + SLOT) as usize + 20 * BLOCK + 5] ^= u8::from(rot);
        let mut found = Vec::new();
        for hint in [true, false] {
            let mut disk = disk.clone();
            let other = disk.pair().other;
            let before = Before::read(&mut disk, &other);
            assert!(before.is_some());
            let mut mirror = Mirror { payload: release.payload.clone(), asked: 0, cut_after: None };
            let digests = tempfile::tempfile().unwrap();
            disk.read = 0;
            let before = before.filter(|_| hint);
            let done = download_after(before, &mut disk, &release, &mut mirror, &digests);
            let (writer, proven, origins) = done.unwrap();
            found.push((origins, mirror.asked));
            read.push(disk.read);
            let keys = keys();
            writer.seal(&mut disk, &policy(&keys), Some(&proven), &mut |_| {}).unwrap();
        }
        assert_eq!(found[0], found[1], "{}, rot: {rot}", held.version);
    }
    // Of a release with nothing in common nothing of /usr is read but what was written there.
    assert!(read[4] + 200 * BLOCK <= read[5], "{read:?}");
}

/// Nobody has verified that footer.
#[test]
fn a_footer_that_lies_is_no_hint() {
    let mut disk = TestDisk::new(&old());
    let (large, _) = TestSlot::new("9.0.0", 400).build();
    let footer = &large[large.len() - FOOTER_LEN..];
    apply(&mut disk.bytes, SLOT_A + 2 * SLOT - FOOTER_LEN as u64, footer);
    let other = disk.pair().other;
    assert!(Before::read(&mut disk, &other).is_none());
    disk.fill(SLOT_A + SLOT, &old());
    assert!(Before::read(&mut disk, &other).is_some());
    disk.bad = Some(SLOT_A + SLOT..SLOT_A + 2 * SLOT - FOOTER_LEN as u64);
    assert!(Before::read(&mut disk, &other).is_none());
}

#[test]
fn a_disk_error_at_any_write_leaves_nothing_half_done_bootable_safety_3() {
    let release = publish(&new());
    let mut whole = TestDisk::new(&old());
    update(&mut whole, &release).unwrap();
    for count in 0..whole.log.len() {
        let mut disk = TestDisk::new(&old());
        disk.refuse_after = Some(count);
        update(&mut disk, &release).unwrap_err();
        judge(&disk.bytes, &format!("error at operation {count}"));
    }
}

/// What the loader would do with a disk: every slot that may boot in the ordinary way is whole, and there is one.
fn judge(bytes: &[u8], state: &str) {
    let mut disk = TestDisk::of(bytes.to_vec());
    let loaded = Loaded::read(&mut disk, None);
    let (table, _) = loaded.current().unwrap_or_else(|| panic!("{state}: no table"));
    let table = table.clone();
    let order = BootOrder::of(&table);
    let pair = Pair::find(&table, 512, guid_a()).unwrap();
    let keys = keys();
    let mut candidates = 0;
    for candidate in order.candidates() {
        let place: Place = if pair.running.index == candidate.entry { pair.running } else { pair.other };
        let verified = slot::verify(&mut disk, &place, &policy(&keys), &mut |_| {});
        assert!(
            verified.is_ok(),
            "{state}: slot {} may boot and is bad: {:?}",
            candidate.entry,
            verified.map(|_| ())
        );
        candidates += 1;
    }
    assert!(candidates > 0, "{state}: nothing boots");
    assert!(pair.running.flags.successful() && pair.running.flags.priority() > 0, "{state}");
}

/// Every prefix of the writes of an update, and losses among those that no flush has made durable: all of them where there are
/// few, else each alone, all but each, and all; the last write torn at 512 and 4096 bytes.
#[test]
fn a_power_cut_at_any_moment_leaves_a_bootable_slot_safety_1_2_19_26() {
    let release = publish(&new());
    let start = TestDisk::new(&old());
    let mut disk = start.clone();
    update(&mut disk, &release).unwrap();
    let mut durable = start.bytes;
    let mut pending: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut states = 0;
    for (moment, op) in disk.log.iter().enumerate() {
        match op {
            Op::Flush => {
                for (offset, data) in pending.drain(..) {
                    apply(&mut durable, offset, &data);
                }
            }
            Op::Write { offset, data } => pending.push((*offset, data.clone())),
        }
        for lost in losses(pending.len()) {
            let mut bytes = durable.clone();
            for (number, (offset, data)) in pending.iter().enumerate() {
                if !lost.contains(&number) {
                    apply(&mut bytes, *offset, data);
                }
            }
            judge(&bytes, &format!("operation {moment}, lost {lost:?} of {}", pending.len()));
            states += 1;
        }
        if let (Op::Write { .. }, Some(((offset, data), before))) = (op, pending.split_last()) {
            for (unit, kept) in [(512, 1), (512, 3), (4096, 1)] {
                let mut bytes = durable.clone();
                before.iter().for_each(|(offset, data)| apply(&mut bytes, *offset, data));
                apply(&mut bytes, *offset, data.get(..unit * kept).unwrap_or(data));
                // SAFETY 2: the table's first 4 KiB are one write that a sector of 4 KiB takes or leaves.
                if !(*offset == 0 && unit == 512) {
                    judge(&bytes, &format!("operation {moment}, torn behind {} bytes", unit * kept));
                    states += 1;
                }
            }
        }
    }
    assert!(states > 200, "{states} states");
    let pair = disk.pair();
    assert_eq!(pair.other.flags.tries(), 1);
}

fn apply(bytes: &mut [u8], offset: u64, data: &[u8]) {
    bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
}

fn losses(pending: usize) -> Vec<Vec<usize>> {
    if pending <= 4 {
        let subset = |bits: usize| (0..pending).filter(|number| bits & (1 << number) != 0).collect();
        return (0..1 << pending).map(subset).collect();
    }
    let mut losses = vec![vec![], (0..pending).collect()];
    for number in [0, 1, pending / 2, pending - 2, pending - 1] {
        losses.push(vec![number]);
        losses.push((0..pending).filter(|other| *other != number).collect());
    }
    losses
}

#[test]
fn a_flush_or_an_order_that_is_missing_is_noticed_safety_29() {
    let release = publish(&new());
    let start = TestDisk::new(&old());
    let mut disk = start.clone();
    update(&mut disk, &release).unwrap();
    // The flip before the slot: what a careless engine would do.
    let flip = disk.log.iter().rposition(|op| matches!(op, Op::Write { offset: 0, .. })).unwrap();
    let mut bytes = start.bytes;
    let Op::Write { offset, data } = &disk.log[flip] else { unreachable!() };
    apply(&mut bytes, *offset, data);
    assert!(std::panic::catch_unwind(|| judge(&bytes, "mutant")).is_err());
}
