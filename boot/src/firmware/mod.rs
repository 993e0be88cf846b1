//! UEFI underneath [`boot::machine::Machine`] (UEFI specification 2.10).

mod disk;
mod sys;

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use boot::machine::Machine;
use boot::select;
use boot::trust::Trust;
use slots::{Device, Geometry};
use uefi::boot::LoadImageSource;
use uefi::runtime::{ResetType, VariableAttributes, VariableVendor};
use uefi::{CString16, Handle, Status, guid};

use disk::Disk;

/// How long the last message stays before the machine starts again: long enough to read it, short enough that a
/// machine in a rack whose disk was only slow recovers by itself.
pub const REBOOT_PAUSE: Duration = Duration::from_secs(30);

/// Whose variables they are: `8cf1ba59-6b5d-4c0e-9d57-2f1d5b1f6e0a`, Ferrite's own.
const VENDOR: VariableVendor = VariableVendor(guid!("8cf1ba59-6b5d-4c0e-9d57-2f1d5b1f6e0a"));
/// Kept over power-off, and out of reach once the firmware has handed over (UEFI 2.10, 8.2).
const FLOOR_ATTRIBUTES: VariableAttributes =
    VariableAttributes::NON_VOLATILE.union(VariableAttributes::BOOTSERVICE_ACCESS);

/// The name of the variable with a product's rollback floor: 8 bytes, little-endian.
fn floor_variable(product: &str) -> Result<CString16, Failure> {
    CString16::try_from(format!("FerriteFloor-{product}").as_str())
        .map_err(|_| Failure(Status::INVALID_PARAMETER))
}

/// A status of the firmware's, shown by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure(Status);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<D: fmt::Debug> From<uefi::Error<D>> for Failure {
    fn from(error: uefi::Error<D>) -> Self {
        Self(error.status())
    }
}

/// The firmware and the loader's own disk.
struct Firmware {
    disk: Disk,
    clock: sys::Clock,
}

/// Boots; on failure says why, waits and starts the machine anew.
pub fn run() -> Status {
    let clock = sys::Clock::start();
    let entry_us = clock.entry_us();
    let trust = match Trust::parse(&sys::key_section()) {
        Ok(trust) => trust,
        Err(error) => give_up(&[format_args!("{error}")]),
    };
    let disk = match Disk::open_own() {
        Ok(disk) => disk,
        Err(error) => give_up(&[format_args!("cannot open the disk of this loader: {error}")]),
    };
    let mut firmware = Firmware { disk, clock };
    let gave_up = select::boot(&mut firmware, &trust, entry_us);
    for line in &gave_up.lines {
        sys::say(format_args!("ferrite-boot: {line}"));
    }
    give_up(&[])
}

/// Last words, then a pause and a reset.
fn give_up(lines: &[fmt::Arguments<'_>]) -> ! {
    for line in lines {
        sys::say(format_args!("ferrite-boot: {line}"));
    }
    sys::say(format_args!("ferrite-boot: nothing to start; rebooting in {} s", REBOOT_PAUSE.as_secs()));
    uefi::boot::stall(REBOOT_PAUSE);
    uefi::runtime::reset(ResetType::COLD, Status::LOAD_ERROR, None)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    give_up(&[format_args!("this is a bug in the loader: {info}")])
}

impl Device for Firmware {
    type Error = Failure;

    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        self.disk.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        self.disk.write(offset, data)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.disk.flush()
    }
}

/// A loaded program; unloaded when it is dropped without having run.
struct LoadedProgram(Handle);

impl Drop for LoadedProgram {
    fn drop(&mut self) {
        // A program that ran and came back is gone already; then this fails, and nothing is lost.
        let _ = uefi::boot::unload_image(self.0);
    }
}

impl Machine for Firmware {
    type Buffer = sys::Pages;
    type Image = LoadedProgram;

    fn buffer(&mut self, bytes: usize) -> Result<sys::Pages, Failure> {
        sys::Pages::allocate(bytes)
    }

    fn load_image(&mut self, program: &[u8]) -> Result<LoadedProgram, Failure> {
        let source = LoadImageSource::FromBuffer { buffer: program, file_path: None };
        Ok(LoadedProgram(uefi::boot::load_image(uefi::boot::image_handle(), source)?))
    }

    fn start(
        &mut self,
        image: LoadedProgram,
        initramfs: sys::Pages,
        initramfs_len: usize,
        command_line: &str,
    ) -> Failure {
        let options: Vec<u16> = command_line.encode_utf16().chain([0]).collect();
        match sys::start_linux(image.0, &initramfs, initramfs_len, &options) {
            Ok(()) => Failure(Status::ABORTED),
            Err(error) => error,
        }
    }

    fn rollback_floor(&mut self, product: &str) -> Result<u64, Failure> {
        let name = floor_variable(product)?;
        let mut value = [0; 8];
        match uefi::runtime::get_variable(&name, &VENDOR, &mut value) {
            // Of another form it is not ours: whoever wrote it so may have done that from a running system.
            Ok((bytes, attributes)) => match <[u8; 8]>::try_from(&*bytes) {
                Ok(bytes) if attributes == FLOOR_ATTRIBUTES => Ok(u64::from_le_bytes(bytes)),
                _ => Err(Failure(Status::COMPROMISED_DATA)),
            },
            Err(error) if error.status() == Status::NOT_FOUND => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn raise_rollback_floor(&mut self, product: &str, floor: u64) -> Result<(), Failure> {
        let name = floor_variable(product)?;
        Ok(uefi::runtime::set_variable(&name, &VENDOR, FLOOR_ATTRIBUTES, &floor.to_le_bytes())?)
    }

    fn now_us(&mut self) -> u64 {
        self.clock.now_us()
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        sys::say(line);
    }
}
