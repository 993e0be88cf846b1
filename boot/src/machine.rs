//! What the loader needs from the firmware.

use core::fmt;

use slots::Device;

/// Firmware as the loader uses it; tests have one in memory.
///
/// The disk is the one that the loader's own ESP is on, and no other (SAFETY 6).
pub trait Machine: Device<Error: fmt::Display> {
    /// Memory of the firmware's, given back when dropped.
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;
    /// A program that was loaded and not started; unloaded when dropped.
    type Image;

    /// Memory of `bytes` bytes, aligned to 4 KiB, content undefined.
    ///
    /// # Errors
    /// The firmware has no such memory.
    fn buffer(&mut self, bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// Loads a program from memory (UEFI 2.10, 7.4.1).
    ///
    /// # Errors
    /// The firmware refuses it.
    fn load_image(&mut self, program: &[u8]) -> Result<Self::Image, Self::Error>;

    /// Starts Linux with an initramfs of `initramfs_len` bytes at the start of `initramfs`. Comes back only when that failed.
    fn start(
        &mut self,
        image: Self::Image,
        initramfs: Self::Buffer,
        initramfs_len: usize,
        command_line: &str,
    ) -> Self::Error;

    /// The least rollback index that boots, as the firmware keeps it for `product`; 0 when it keeps none (SAFETY 12).
    ///
    /// # Errors
    /// The firmware's store is broken.
    fn rollback_floor(&mut self, _product: &str) -> Result<u64, Self::Error> {
        Ok(0)
    }

    /// Keeps a higher floor.
    ///
    /// # Errors
    /// The store is full or broken.
    fn raise_rollback_floor(&mut self, _product: &str, _floor: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Microseconds since power-on.
    fn now_us(&mut self) -> u64;

    /// Shows a line on all consoles.
    fn say(&mut self, line: fmt::Arguments<'_>);
}
