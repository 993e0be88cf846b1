//! Little-endian access to byte blocks that cannot panic: a read outside the block is zero, a write outside is dropped.
//!
//! Callers check lengths first; these helpers only remove the panicking path from code that runs before an OS exists.

/// Copies `N` bytes from `offset`; zeroes where the block is too short.
pub(crate) fn array<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(source) = offset.checked_add(N).and_then(|end| block.get(offset..end)) {
        out.copy_from_slice(source);
    }
    out
}

pub(crate) fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array(block, offset))
}

pub(crate) fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(block, offset))
}

pub(crate) fn u64_at(block: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(block, offset))
}

/// Writes `value` at `offset`; does nothing when it does not fit.
pub(crate) fn put(block: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(target) = offset.checked_add(value.len()).and_then(|end| block.get_mut(offset..end)) {
        target.copy_from_slice(value);
    }
}

/// True when all bytes are zero.
pub(crate) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}
