//! What the parts of this module do together: a slot written by the publisher comes out of the payload again, and nothing else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Cursor;

use proptest::prelude::*;

use super::plan::{self, BlockSet};
use super::write::{Group, write};
use super::*;
use crate::testing::TestSlot;

struct Published {
    image: Vec<u8>,
    index: Index,
    payload: Vec<u8>,
    hasher: BlockHasher,
}

fn publish(slot: &TestSlot, groups: &[Group]) -> Published {
    let (file, footer) = slot.file();
    let (image, _) = slot.build();
    let mut payload = Vec::new();
    let index = write(&file, groups, &mut payload, |_| {}).unwrap();
    Published { image, index, payload, hasher: BlockHasher::new(&footer.verity.salt) }
}

impl Published {
    fn digests(&self) -> Vec<Digest> {
        let bytes = &self.payload[..32 * self.index.layout.listed() as usize];
        bytes.chunks(32).map(|digest| digest.try_into().unwrap()).collect()
    }

    /// Decodes a frame of a payload that may have been tampered with.
    fn decode(
        &self,
        frame: &Frame,
        payload: &[u8],
    ) -> Result<BTreeMap<u32, Vec<u8>>, frame::FrameError<Infallible>> {
        let digests = self.digests();
        let mut blocks = BTreeMap::new();
        let bytes = payload.get(frame.range.start as usize..).unwrap_or_default();
        let expected = |block| Ok(digests[self.index.layout.listed_of(block).unwrap() as usize]);
        let sink = |block: u32, bytes: &[u8; BLOCK]| {
            blocks.insert(block, bytes.to_vec());
            Ok(())
        };
        frame::decode(frame, &mut Cursor::new(bytes), &self.hasher, |_| true, expected, sink)?;
        Ok(blocks)
    }
}

#[test]
fn a_slot_comes_out_of_its_payload_as_it_went_in() {
    let slot = TestSlot::new("1.1.0", 300);
    for groups in [vec![], vec![vec![40..60, 10..20], vec![100..290], vec![15..45, 299..400]]] {
        let published = publish(&slot, &groups);
        let layout = published.index.layout;
        assert_eq!(published.index.payload_bytes, published.payload.len() as u64);
        let mut rebuilt = vec![0; published.image.len() - 4096];
        for frame in &published.index.frames {
            for (block, bytes) in published.decode(frame, &published.payload).unwrap() {
                rebuilt[block as usize * BLOCK..][..BLOCK].copy_from_slice(&bytes);
            }
        }
        let mut tree = TreeBuilder::new(published.hasher.clone(), u64::from(layout.usr_blocks()));
        for digest in &published.digests()[..layout.usr_blocks() as usize] {
            let mut emit = |block: u64, bytes: &[u8; BLOCK]| {
                let at = (layout.tree().start as usize + block as usize) * BLOCK;
                rebuilt[at..at + BLOCK].copy_from_slice(bytes);
                Ok::<(), Infallible>(())
            };
            tree.push(digest, &mut emit).unwrap();
        }
        assert_eq!(tree.root(), Some(published.index.footer().unwrap().verity.root_hash));
        assert!(rebuilt[..] == published.image[..published.image.len() - 4096]);
        assert!(published.index.footer_bytes[..] == published.image[published.image.len() - 4096..]);
    }
}

#[test]
fn the_same_slot_gives_the_same_bytes() {
    let slot = TestSlot::new("1.1.0", 200);
    let (one, two) = (publish(&slot, &[vec![5..20, 20..50]]), publish(&slot, &[vec![5..20, 20..50]]));
    assert!(one.payload == two.payload && one.index.to_bytes() == two.index.to_bytes());
}

#[test]
fn an_index_reads_back_as_it_was_written() {
    let published = publish(&TestSlot::new("1.1.0", 200), &[vec![5..20, 20..50], vec![90..100, 60..70]]);
    let bytes = published.index.to_bytes();
    assert_eq!(Index::parse(&bytes).unwrap(), published.index);
    for cut in [0, 1, 4096, 8191, 8192, bytes.len() - 1] {
        assert!(matches!(Index::parse(&bytes[..cut]), Err(IndexError::Length { .. })), "{cut}");
    }
}

#[test]
fn a_flipped_bit_in_a_frame_is_never_written_safety_20() {
    let published = publish(&TestSlot::new("1.1.0", 40), &[]);
    let frame = &published.index.frames[0];
    for at in (frame.range.start..frame.range.end).step_by(37) {
        let mut payload = published.payload.clone();
        payload[at as usize] ^= 0x10;
        // Whatever comes out is what the slot has; what cannot be is an error.
        if let Ok(blocks) = published.decode(frame, &payload) {
            for (block, bytes) in blocks {
                assert!(bytes == published.image[block as usize * BLOCK..][..BLOCK]);
            }
        }
    }
}

#[test]
fn a_frame_that_promises_more_than_the_index_is_refused_before_it_is_unpacked() {
    let published = publish(&TestSlot::new("1.1.0", 40), &[]);
    let frame = &published.index.frames[0];
    let bombs = [
        zstd::encode_all(Cursor::new(vec![0; 64 << 20]), 3).unwrap(),
        zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap(),
        vec![0; 100],
        Vec::new(),
    ];
    for bomb in bombs {
        let mut payload = published.payload[..frame.range.start as usize].to_vec();
        payload.extend(bomb);
        let refused = published.decode(frame, &payload);
        assert!(matches!(refused, Err(frame::FrameError::Header)), "{refused:?}");
    }
}

#[test]
fn a_truncated_frame_is_an_error_and_not_a_hang() {
    let published = publish(&TestSlot::new("1.1.0", 40), &[]);
    let frame = &published.index.frames[0];
    let cut = (frame.range.start + frame.range.end) / 2;
    assert!(published.decode(frame, &published.payload[..cut as usize]).is_err());
}

/// Digests that a machine with `old` fetches for `new`.
fn fetched_digests(old: &Published, new: &Published) -> u64 {
    let mut known = chunks::KnownChunks::default();
    old.digests().iter().for_each(|digest| known.push(digest));
    known.finish();
    let requests = plan::chunks(&new.index, |number| known.find(&new.index.chunks[number].name).is_some());
    plan::bytes(&requests) / 32
}

#[test]
fn digests_that_only_moved_are_not_fetched() {
    let old = TestSlot::new("1.0.0", 3000);
    let mut new = old.clone();
    // A file near the start grows by one block: everything behind it moves.
    new.usr.splice(50 * BLOCK..50 * BLOCK, crate::testing::noise(4711, BLOCK));
    let (old, new) = (publish(&old, &[]), publish(&new, &[]));
    assert_eq!(fetched_digests(&old, &old), 0);
    let fetched = fetched_digests(&old, &new);
    assert!((1..1000).contains(&fetched), "{fetched} of 3000 digests");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_as_an_index_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let _ = Index::parse(&bytes);
    }

    #[test]
    fn a_damaged_index_is_refused_or_consistent(at in 0_usize..9000, byte: u8) {
        let mut bytes = sample().to_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(index) = Index::parse(&bytes) {
            let listed: u64 = index.chunks.iter().map(|chunk| u64::from(chunk.digests)).sum();
            prop_assert_eq!(listed, u64::from(index.layout.listed()));
            prop_assert!(index.frames.iter().all(|frame| frame.blocks() <= MAX_FRAME_BLOCKS));
        }
    }

    #[test]
    fn a_plan_fetches_every_missing_block_and_no_frame_without_one(missing in prop::collection::vec(0_u32..330, 0..40)) {
        let index = sample();
        let mut set = BlockSet::new(index.layout.blocks());
        let in_frames: Vec<u32> = index.frames.iter().flat_map(|frame| frame.extents.iter().cloned().flatten()).collect();
        missing.iter().filter(|block| in_frames.contains(block)).for_each(|block| set.insert(*block));
        let requests = plan::frames(index, &set);
        let pieces: Vec<usize> = requests.iter().flat_map(|request| request.pieces.clone()).collect();
        for (number, frame) in index.frames.iter().enumerate() {
            let needed = frame.extents.iter().cloned().flatten().any(|block| set.contains(block));
            prop_assert_eq!(pieces.contains(&number), needed);
        }
        prop_assert!(pieces.is_sorted());
        for request in &requests {
            prop_assert!(request.range.end <= index.payload_bytes && request.range.end - request.range.start <= plan::LONGEST);
            let inside = |piece: &usize| {
                let frame = &index.frames[*piece].range;
                request.range.start <= frame.start && frame.end <= request.range.end
            };
            prop_assert!(request.pieces.iter().all(inside));
        }
        prop_assert_eq!(plan::uncovered(index, &set), 0);
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), honest: bool) {
        let published = sample_published();
        let frame = &published.index.frames[0];
        let mut payload = published.payload[..frame.range.start as usize].to_vec();
        if honest {
            // A sound header in front gets the bytes into the decoder.
            payload.extend(&published.payload[frame.range.start as usize..][..14]);
        }
        payload.extend(bytes);
        let _ = published.decode(frame, &payload);
    }
}

fn sample_published() -> &'static Published {
    static SAMPLE: std::sync::OnceLock<Published> = std::sync::OnceLock::new();
    SAMPLE
        .get_or_init(|| publish(&TestSlot::new("1.1.0", 300), &[vec![5..20, 20..50], vec![90..100, 60..70]]))
}

fn sample() -> &'static Index {
    &sample_published().index
}

#[test]
fn missing_blocks_that_no_frame_has_are_counted() {
    let index = sample();
    let mut set = BlockSet::new(index.layout.blocks());
    // Every seventh block of the test slot is zeros, and so in no frame.
    set.insert(3);
    set.insert(4);
    assert_eq!(plan::uncovered(index, &set), 1);
    set.remove(3);
    assert_eq!((set.len(), plan::uncovered(index, &set)), (1, 0));
}

#[test]
fn known_blocks_are_found_by_their_digests() {
    let published = sample_published();
    let mut local = LocalBlocks::default();
    for (number, digest) in published.digests().iter().enumerate() {
        local.push(digest, number as u32);
    }
    local.finish();
    let digests = published.digests();
    assert_eq!(local.candidates(&digests[11]).collect::<Vec<_>>(), [11]);
    // The zeros: the first few of them are enough.
    assert_eq!(local.candidates(&published.hasher.zero()).collect::<Vec<_>>(), [3, 10, 17, 24]);
    assert_eq!(local.candidates(&[9; 32]).next(), None);
}
