//! Extended attributes: inline after the inode, or once in a shared area when several inodes carry the same.

use std::collections::BTreeMap;

use super::format::{XATTR_HEADER_BYTES, le16, le32};
use crate::tree::Xattrs;

/// Longest value: its length is a 16-bit field.
#[cfg(test)]
const MAX_VALUE_BYTES: usize = 65_535;
/// Longest attribute area of one inode: its length is a 16-bit count of words.
pub(super) const MAX_AREA_BYTES: u64 = XATTR_HEADER_BYTES + 4 * 65_534;
/// The count of shared attributes of an inode is an 8-bit field.
const MAX_SHARED: usize = 255;

/// Prefixes that the format can name, with the number that stands for each.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Why attributes cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Name(Vec<u8>),
    Value(Vec<u8>, usize),
    Area(u64),
}

/// One attribute in the form on disk, without padding.
type Record = Vec<u8>;

fn record(name: &[u8], value: &[u8]) -> Result<Record, Refusal> {
    let refused = || Refusal::Name(name.to_vec());
    let (suffix, index) = PREFIXES
        .iter()
        .find_map(|(prefix, index)| Some((name.strip_prefix(*prefix)?, *index)))
        .ok_or_else(refused)?;
    // The two ACL names are complete, the other prefixes need something after them.
    let complete = index == 2 || index == 3;
    if complete != suffix.is_empty() || name.len() > 255 || suffix.contains(&0) {
        return Err(refused());
    }
    let suffix_len = u8::try_from(suffix.len()).map_err(|_| refused())?;
    let value_len = u16::try_from(value.len()).map_err(|_| Refusal::Value(name.to_vec(), value.len()))?;
    let mut bytes = vec![suffix_len, index];
    bytes.extend(value_len.to_le_bytes());
    bytes.extend(suffix);
    bytes.extend(value);
    Ok(bytes)
}

fn padded(record: &Record) -> u64 {
    (record.len() as u64).next_multiple_of(4)
}

/// The attributes of one inode.
#[derive(Debug, Clone, Default)]
pub(super) struct Area {
    /// Positions in the shared area, in words.
    shared: Vec<u32>,
    inline: Vec<Record>,
}

impl Area {
    /// Bytes that follow the inode.
    pub(super) fn bytes(&self) -> u64 {
        if self.shared.is_empty() && self.inline.is_empty() {
            return 0;
        }
        XATTR_HEADER_BYTES + 4 * self.shared.len() as u64 + self.inline.iter().map(padded).sum::<u64>()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        if self.bytes() == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; 4];
        bytes.push(u8::try_from(self.shared.len()).unwrap_or(u8::MAX));
        bytes.extend([0; 7]);
        self.shared.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        for record in &self.inline {
            bytes.extend(record);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

/// The inode field that tells the length of an area of `bytes`.
pub(super) fn area_count(bytes: u64) -> u16 {
    match bytes.checked_sub(XATTR_HEADER_BYTES) {
        None => 0,
        Some(words) => u16::try_from(words / 4 + 1).unwrap_or(u16::MAX),
    }
}

/// The length in bytes that the inode field tells.
pub(super) fn area_bytes(count: u16) -> u64 {
    match u64::from(count) {
        0 => 0,
        count => XATTR_HEADER_BYTES + 4 * (count - 1),
    }
}

/// Collects attributes of all inodes, then decides which are shared.
#[derive(Debug, Default)]
pub(super) struct Pool {
    inodes: Vec<Vec<Record>>,
    uses: BTreeMap<Record, u32>,
}

impl Pool {
    /// Adds the next inode's attributes.
    pub(super) fn add(&mut self, xattrs: &Xattrs) -> Result<(), Refusal> {
        let records: Vec<_> =
            xattrs.iter().map(|(name, value)| record(name, value)).collect::<Result<_, _>>()?;
        // Checked as if nothing were shared, so that what is refused does not depend on other files.
        let bytes = XATTR_HEADER_BYTES + records.iter().map(padded).sum::<u64>();
        if bytes > MAX_AREA_BYTES {
            return Err(Refusal::Area(bytes));
        }
        for record in &records {
            *self.uses.entry(record.clone()).or_default() += 1;
        }
        self.inodes.push(records);
        Ok(())
    }

    /// The shared area's bytes, and each inode's own attributes in the order of [`Pool::add`].
    pub(super) fn finish(self) -> (Vec<u8>, Vec<Area>) {
        let mut shared_bytes: Vec<u8> = Vec::new();
        let mut ids: BTreeMap<&Record, u32> = BTreeMap::new();
        for (record, _) in self.uses.iter().filter(|(_, uses)| **uses > 1) {
            let Ok(id) = u32::try_from(shared_bytes.len() / 4) else { break };
            ids.insert(record, id);
            shared_bytes.extend(record);
            shared_bytes.resize(shared_bytes.len().next_multiple_of(4), 0);
        }
        let mut areas = Vec::with_capacity(self.inodes.len());
        for records in self.inodes {
            let mut area = Area::default();
            for record in records {
                match ids.get(&record) {
                    Some(&id) if area.shared.len() < MAX_SHARED => area.shared.push(id),
                    _ => area.inline.push(record),
                }
            }
            areas.push(area);
        }
        (shared_bytes, areas)
    }
}

/// Reads one record at the start of `bytes`: full name, value, and the record's padded length.
pub(super) fn decode_record(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let (suffix_len, index) = (usize::from(*bytes.first()?), *bytes.get(1)?);
    let value_len = usize::from(le16(bytes, 2)?);
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == index)?;
    let name = [prefix, bytes.get(4..4 + suffix_len)?].concat();
    let end = 4 + suffix_len + value_len;
    Some((name, bytes.get(4 + suffix_len..end)?.to_vec(), end.next_multiple_of(4)))
}

/// Splits an inode's attribute area into shared positions (in words) and inline attributes.
pub(super) fn decode_area(area: &[u8]) -> Option<(Vec<u32>, Xattrs)> {
    let shared_count = usize::from(*area.get(4)?);
    let shared = (0..shared_count).map(|index| le32(area, 12 + 4 * index)).collect::<Option<_>>()?;
    let mut rest = area.get(12 + 4 * shared_count..)?;
    let mut inline = Xattrs::new();
    while !rest.is_empty() {
        let (name, value, len) = decode_record(rest)?;
        inline.insert(name, value);
        rest = rest.get(len..)?;
    }
    Some((shared, inline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(name: &[u8], value: Vec<u8>) -> Xattrs {
        Xattrs::from([(name.to_vec(), value)])
    }

    #[test]
    fn names_and_values_that_the_format_cannot_hold_are_refused() {
        let mut pool = Pool::default();
        assert!(matches!(pool.add(&one(b"btrfs.x", vec![])), Err(Refusal::Name(_))));
        assert!(matches!(pool.add(&one(b"user.", vec![])), Err(Refusal::Name(_))));
        assert!(matches!(pool.add(&one(b"system.posix_acl_accessx", vec![])), Err(Refusal::Name(_))));
        assert!(matches!(pool.add(&one(b"user.x", vec![0; 65_536])), Err(Refusal::Value(_, 65_536))));
        pool.add(&one(b"user.x", vec![0; MAX_VALUE_BYTES])).unwrap();
        let five = (0..5).map(|n| (format!("user.{n}").into_bytes(), vec![0; 60_000])).collect();
        assert!(matches!(pool.add(&five), Err(Refusal::Area(_))));
    }

    #[test]
    fn an_attribute_of_two_inodes_is_stored_once() {
        let mut pool = Pool::default();
        pool.add(&one(b"security.capability", vec![1; 20])).unwrap();
        pool.add(&one(b"security.capability", vec![1; 20])).unwrap();
        pool.add(&one(b"security.capability", vec![2; 20])).unwrap();
        let (shared, areas) = pool.finish();
        assert_eq!(decode_record(&shared).unwrap().1, vec![1; 20]);
        assert_eq!([areas[0].bytes(), areas[1].bytes(), areas[2].bytes()], [16, 16, 12 + 36]);
    }

    #[test]
    fn the_count_field_covers_the_largest_area() {
        assert_eq!(area_count(MAX_AREA_BYTES), u16::MAX);
        for bytes in [0, 12, 16, 20, MAX_AREA_BYTES] {
            assert_eq!(area_bytes(area_count(bytes)), bytes);
        }
    }

    proptest! {
        #[test]
        fn any_area_decodes_or_not_but_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_area(&bytes);
        }
    }
}
