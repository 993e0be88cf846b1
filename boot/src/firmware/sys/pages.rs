//! Memory of the firmware's, for large things.

use core::ptr::NonNull;
use core::slice;

use uefi::boot::{AllocateType, MemoryType, PAGE_SIZE};

use crate::firmware::Failure;

/// Whole pages, with whatever the firmware left in them; freed when dropped.
pub struct Pages {
    start: NonNull<u8>,
    count: usize,
}

impl Pages {
    /// At least `bytes` bytes, aligned to 4 KiB.
    pub fn allocate(bytes: usize) -> Result<Self, Failure> {
        let count = bytes.div_ceil(PAGE_SIZE).max(1);
        let start = uefi::boot::allocate_pages(AllocateType::AnyPages, MemoryType::LOADER_DATA, count)?;
        Ok(Self { start, count })
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the pages are ours and live as long as `self`, which is borrowed. They hold bytes that the firmware, code
        // outside Rust, left there: some value each. Zeroing them first would cost a tenth of the loader's time.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count * PAGE_SIZE) }
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.count * PAGE_SIZE) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate` with this count, and no borrow outlives `self`. Failing to free leaks, no more.
        let _ = unsafe { uefi::boot::free_pages(self.start, self.count) };
    }
}
