//! Opening the slot with dm-verity, by the device mapper's own ioctls, and giving mappings back.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::cmdline::Verity;
use crate::sys::dm::{self, HEADER_LEN, Request};

const CONTROL: &str = "/dev/mapper/control";
/// Name of the mapping, as `dmsetup ls` shows it.
const NAME: &str = "usr";
/// Block size of data and tree: what the builder writes and every kernel has.
const BLOCK: u64 = 4096;
const SECTOR: u64 = 512;
const FLAG_READ_ONLY: u32 = 1;
const FLAGS_AT: usize = 28;
const DEV_AT: usize = 40;
const NAME_AT: usize = 48;
/// Bytes of the name, the NUL behind it included.
const NAME_LEN: usize = 128;
const TARGET_COUNT_AT: usize = 20;
const TARGET_LEN: usize = 40;

/// Why the slot could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The device mapper is not there.
    #[error("cannot open {CONTROL} (is dm-mod loaded?)")]
    Control(#[source] io::Error),
    /// A request was refused.
    #[error("device mapper refused {request:?} for {}", node.display())]
    Request {
        /// Which request.
        request: Request,
        /// The slot's device.
        node: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Maps the slot on `node` read-only through dm-verity; returns the mapped device (`/dev/dm-0`). The kernel panics on a
/// block that does not match (`panic_on_corruption`): wrong data is never seen, and the loader's tries do the rest.
///
/// # Errors
/// [`VerityError`]
pub fn open(node: &Path, verity: &Verity) -> Result<PathBuf, VerityError> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(VerityError::Control)?;
    let ask = |request: Request, mut buffer: Vec<u8>| {
        let answer = dm::request(control.as_fd(), request, &mut buffer);
        answer.map(|()| buffer).map_err(|source| VerityError::Request {
            request,
            node: node.to_owned(),
            source,
        })
    };
    ask(Request::Create, header(NAME, 0, HEADER_LEN))?;
    ask(Request::LoadTable, table_request(node, verity))?;
    let answer = ask(Request::Suspend, header(NAME, 0, HEADER_LEN))?;
    Ok(PathBuf::from(format!("/dev/dm-{}", minor(&answer))))
}

/// Removes a mapping that nobody uses any more.
///
/// # Errors
/// The kernel's: `EBUSY` while it is in use.
pub fn remove(name: &str) -> io::Result<()> {
    if name.len() >= NAME_LEN {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    dm::request(control.as_fd(), Request::Remove, &mut header(name, 0, HEADER_LEN))
}

/// The table's parameters (Documentation/admin-guide/device-mapper/verity.rst). The hash blocks start one block behind the
/// superblock, which only tools read.
fn parameters(node: &Path, verity: &Verity) -> String {
    let node = node.display();
    let hash_start = verity.superblock_offset / BLOCK + 1;
    let salt = if verity.salt.is_empty() { "-" } else { &verity.salt };
    format!(
        "1 {node} {node} {BLOCK} {BLOCK} {} {hash_start} sha256 {} {salt} 1 panic_on_corruption",
        verity.data_blocks, verity.root_hash
    )
}

/// `struct dm_ioctl` for the mapping `name`, for a buffer of `len` bytes.
fn header(name: &str, flags: u32, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    put(&mut buffer, 0, &4_u32.to_ne_bytes()); // interface version 4.0.0: what every kernel since 2.6 answers
    put(&mut buffer, dm::DATA_SIZE_AT, &u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    put(&mut buffer, 16, &u32::try_from(HEADER_LEN).unwrap_or(0).to_ne_bytes());
    put(&mut buffer, FLAGS_AT, &flags.to_ne_bytes());
    put(&mut buffer, NAME_AT, name.as_bytes());
    buffer
}

fn table_request(node: &Path, verity: &Verity) -> Vec<u8> {
    let parameters = parameters(node, verity);
    let len = (HEADER_LEN + TARGET_LEN + parameters.len() + 1).next_multiple_of(8);
    let mut buffer = header(NAME, FLAG_READ_ONLY, len);
    put(&mut buffer, TARGET_COUNT_AT, &1_u32.to_ne_bytes());
    // struct dm_target_spec: start and length in sectors, status, offset of the next, type.
    let sectors = verity.data_blocks.saturating_mul(BLOCK / SECTOR);
    put(&mut buffer, HEADER_LEN + 8, &sectors.to_ne_bytes());
    put(&mut buffer, HEADER_LEN + 24, b"verity");
    put(&mut buffer, HEADER_LEN + TARGET_LEN, parameters.as_bytes());
    buffer
}

/// The minor number in an answer: `huge_encode_dev` has its low byte in bits 0-7 and the rest from bit 20 on.
fn minor(answer: &[u8]) -> u64 {
    let bytes = answer.get(DEV_AT..DEV_AT + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    let device = u64::from_ne_bytes(bytes.unwrap_or_default());
    (device & 0xff) | ((device >> 12) & 0xf_ff00)
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Verity {
        Verity {
            root_hash: "ab".repeat(32),
            salt: "00ff".to_owned(),
            data_blocks: 10,
            superblock_offset: 40_960,
        }
    }

    #[test]
    fn the_tree_starts_one_block_behind_its_superblock() {
        let expected = format!(
            "1 /dev/vda2 /dev/vda2 4096 4096 10 11 sha256 {} 00ff 1 panic_on_corruption",
            "ab".repeat(32)
        );
        assert_eq!(parameters(Path::new("/dev/vda2"), &example()), expected);
        let unsalted = Verity { salt: String::new(), ..example() };
        assert!(parameters(Path::new("/dev/vda2"), &unsalted).contains(" - 1 panic_on_corruption"));
    }

    #[test]
    fn the_request_has_the_layout_of_the_kernel_header() {
        let request = table_request(Path::new("/dev/vda2"), &example());
        assert_eq!(request.len() % 8, 0);
        assert_eq!(request[12..16], u32::try_from(request.len()).unwrap().to_ne_bytes());
        assert_eq!(request[28..32], 1_u32.to_ne_bytes());
        assert_eq!(&request[48..52], b"usr\0");
        assert_eq!(request[320..328], 80_u64.to_ne_bytes());
        assert_eq!(&request[336..343], b"verity\0");
        assert_eq!(&request[352..362], b"1 /dev/vda");
        assert_eq!(request.last(), Some(&0));
    }

    #[test]
    fn minor_numbers_beyond_a_byte_are_decoded() {
        let mut answer = vec![0; HEADER_LEN];
        put(&mut answer, DEV_AT, &((253_u64 << 8) | 0x05 | (0x3 << 20)).to_ne_bytes());
        assert_eq!(minor(&answer), 0x305);
    }
}
