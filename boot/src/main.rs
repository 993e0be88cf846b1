//! The loader as firmware starts it: `EFI/BOOT/BOOTX64.EFI`. All decisions are in the library.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod firmware;

#[cfg(target_os = "uefi")]
#[uefi::entry]
fn efi_main() -> uefi::Status {
    firmware::run()
}

#[cfg(not(target_os = "uefi"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "ferrite-boot is a UEFI program: cargo build -p boot --target x86_64-unknown-uefi --profile loader"
    );
    std::process::ExitCode::FAILURE
}
