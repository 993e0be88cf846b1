//! What is to be done with the STATE partition, decided from the table alone (SAFETY 5, 6, 21).

use slots::{Entry, Geometry, Guid, PartitionName, SlotFlags, Table, types};

/// Name of the finished partition: its entry is the commit record of the file system in it.
pub const READY: &str = "STATE";
/// Name until its file system is known to be good; only a partition of this name is ever formatted.
pub const UNFINISHED: &str = "STATE-NEW";
/// Partitions start and end at multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;
/// Less room than this is not worth a file system: ext4 with a journal and etcd's first write-ahead log need more.
pub const MIN_BYTES: u64 = 96 << 20;

/// What the table says is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// No STATE yet: write `table`, then format the partition at `index`, then relabel it.
    Create {
        /// The table with `STATE-NEW` and new GUIDs.
        table: Box<Table>,
        /// Index of the entry, from 0.
        index: usize,
    },
    /// An unfinished one from an interrupted first boot: write `table` if it has room to grow, format, relabel.
    Format {
        /// The table with `STATE-NEW` at its full size, when that differs.
        table: Option<Box<Table>>,
        /// Index of the entry, from 0.
        index: usize,
    },
    /// A finished one: write `table` when the disk has room for it to grow, then mount.
    Use {
        /// The table with the longer STATE.
        table: Option<Box<Table>>,
        /// Index of the entry, from 0.
        index: usize,
    },
    /// There is no STATE and no room for one.
    NoRoom {
        /// Bytes that are free behind the last partition.
        free: u64,
    },
}

/// The GUIDs that a first boot chooses at random (SAFETY 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshGuids {
    /// For the disk.
    pub disk: Guid,
    /// For STATE.
    pub state: Guid,
}

/// Decides. `table` is the one that counts, after the backup was moved to the end of a grown disk.
pub fn plan(table: &Table, geometry: Geometry, fresh: FreshGuids) -> Plan {
    if let Some((index, _)) = table.find_name(READY) {
        return Plan::Use { table: lengthened(table, geometry, index), index };
    }
    if let Some((index, _)) = table.find_name(UNFINISHED) {
        return Plan::Format { table: lengthened(table, geometry, index), index };
    }
    let alignment = alignment_blocks(geometry);
    let first = table.first_free_block().next_multiple_of(alignment);
    let last = last_block(table, geometry);
    let free = (last + 1).saturating_sub(first) * u64::from(geometry.block_size);
    let index = table.free_index().filter(|_| free >= MIN_BYTES);
    let Some(index) = index else { return Plan::NoRoom { free } };
    let name = PartitionName::new(UNFINISHED);
    let entry = Entry::new(types::LINUX_VAR, fresh.state, first, last, SlotFlags::EMPTY, name);
    let mut new = table.clone();
    new.set_disk_guid(fresh.disk);
    new.set_entry(index, entry);
    Plan::Create { table: Box::new(new), index }
}

/// The table that makes a formatted partition the machine's STATE; `None` when there is no such entry.
pub fn relabelled(table: &Table, index: usize) -> Option<Table> {
    let mut entry = table.entry(index)?;
    if !entry.name().is(UNFINISHED) {
        return None;
    }
    entry.set_name(PartitionName::new(READY));
    let mut new = table.clone();
    new.set_entry(index, entry).then_some(new)
}

/// The table with the last partition of the disk stretched to the disk's end; `None` when it is not the last or ends there.
fn lengthened(table: &Table, geometry: Geometry, index: usize) -> Option<Box<Table>> {
    let mut entry = table.entry(index)?;
    let last = last_block(table, geometry);
    let is_last = entry.last_block() + 1 == table.first_free_block();
    if !is_last || entry.last_block() >= last {
        return None;
    }
    entry.set_last_block(last);
    let mut new = table.clone();
    new.set_entry(index, entry).then(|| Box::new(new))
}

fn alignment_blocks(geometry: Geometry) -> u64 {
    ALIGNMENT.checked_div(u64::from(geometry.block_size)).unwrap_or(1).max(1)
}

/// The last block of a partition that ends where the disk does, at an aligned place.
fn last_block(table: &Table, geometry: Geometry) -> u64 {
    let alignment = alignment_blocks(geometry);
    ((table.last_usable() + 1) / alignment * alignment).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use slots::Loaded;

    const GIB: u64 = 1 << 30;

    fn geometry(bytes: u64, block_size: u32) -> Geometry {
        Geometry { block_size, blocks: bytes / u64::from(block_size) }
    }

    fn fresh() -> FreshGuids {
        FreshGuids { disk: Guid::from_random([7; 16]), state: Guid::from_random([8; 16]) }
    }

    fn image(geometry: Geometry) -> Table {
        let alignment = alignment_blocks(geometry);
        let disk = Guid::from_hash([1; 16]);
        let mut table = Loaded::blank(geometry, disk, alignment).unwrap().current().unwrap().0.clone();
        let slot = Entry::new(
            types::USR_X86_64,
            Guid::from_hash([2; 16]),
            alignment,
            alignment * 200 - 1,
            SlotFlags::FRESH,
            PartitionName::new("USR-A"),
        );
        table.set_entry(1, slot);
        table
    }

    fn created(geometry: Geometry) -> (Table, usize) {
        match plan(&image(geometry), geometry, fresh()) {
            Plan::Create { table, index } => (*table, index),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_first_boot_takes_the_rest_of_the_disk_and_new_guids() {
        for block_size in [512, 4096] {
            let geometry = geometry(4 * GIB, block_size);
            let (table, index) = created(geometry);
            let entry = table.entry(index).unwrap();
            assert_eq!(table.disk_guid(), fresh().disk);
            assert_eq!(entry.unique_guid(), fresh().state);
            assert!(entry.name().is("STATE-NEW"));
            assert_eq!(entry.first_block() * u64::from(block_size), 200 << 20);
            assert_eq!((entry.last_block() + 1) * u64::from(block_size), 4 * GIB - (1 << 20));
            assert_eq!(table.entry(1), image(geometry).entry(1), "the slot is untouched");
        }
    }

    #[test]
    fn an_interrupted_first_boot_is_taken_up_and_not_begun_anew() {
        let geometry = geometry(4 * GIB, 512);
        let (table, index) = created(geometry);
        assert_eq!(plan(&table, geometry, fresh()), Plan::Format { table: None, index });
    }

    #[test]
    fn a_finished_state_is_used_and_never_formatted() {
        let geometry = geometry(4 * GIB, 512);
        let (table, index) = created(geometry);
        let ready = relabelled(&table, index).unwrap();
        assert_eq!(plan(&ready, geometry, fresh()), Plan::Use { table: None, index });
        assert_eq!(relabelled(&ready, index), None, "nothing to relabel twice");
        assert_eq!(relabelled(&ready, 1), None, "a slot is never relabelled");
    }

    #[test]
    fn a_larger_disk_lengthens_state_and_nothing_else() {
        let small = geometry(4 * GIB, 512);
        let (table, index) = created(small);
        let ready = relabelled(&table, index).unwrap();
        let large = geometry(6 * GIB, 512);
        // What `Loaded::grow` makes of the table: the same entries within the larger disk.
        let mut grown = Loaded::blank(large, ready.disk_guid(), ready.first_usable())
            .unwrap()
            .current()
            .unwrap()
            .0
            .clone();
        for (place, entry) in ready.entries() {
            grown.set_entry(place, entry);
        }
        let Plan::Use { table: Some(new), index: same } = plan(&grown, large, fresh()) else {
            panic!("must grow")
        };
        assert_eq!(same, index);
        assert_eq!((new.entry(index).unwrap().last_block() + 1) * 512, 6 * GIB - (1 << 20));
        assert_eq!(new.entry(index).unwrap().first_block(), ready.entry(index).unwrap().first_block());
        assert_eq!(new.disk_guid(), ready.disk_guid());
        assert_eq!(plan(&new, large, fresh()), Plan::Use { table: None, index });
    }

    #[test]
    fn a_disk_without_room_gets_no_state() {
        let geometry = geometry(201 << 20, 512);
        assert_eq!(plan(&image(geometry), geometry, fresh()), Plan::NoRoom { free: 0 });
    }

    proptest! {
        #[test]
        fn no_plan_overlaps_a_partition_or_leaves_the_usable_blocks(mib in 202_u64..20_000, wide: bool) {
            let geometry = geometry(mib << 20, if wide { 4096 } else { 512 });
            let before = image(geometry);
            if let Plan::Create { table, index } = plan(&before, geometry, fresh()) {
                let entry = table.entry(index).unwrap();
                prop_assert!(entry.first_block() >= before.first_free_block());
                prop_assert!(entry.last_block() <= before.last_usable());
                prop_assert!(entry.blocks() * u64::from(geometry.block_size) >= MIN_BYTES);
                prop_assert_eq!(entry.first_block() % alignment_blocks(geometry), 0);
            }
        }
    }
}
