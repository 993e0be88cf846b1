//! Everything that needs `unsafe`: firmware calls without a safe wrapper, raw memory, the time-stamp counter.
#![expect(unsafe_code, reason = "the boundary to the firmware; each site says why it holds")]

mod clock;
mod linux;
mod pages;

use core::fmt::{self, Write};
use core::ptr;

use boot::trust::{SECTION_LEN, UNCONFIGURED};
use uefi::Handle;
use uefi::boot::{OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::proto::ProtocolPointer;

use super::Failure;

pub use clock::Clock;
pub use linux::start_linux;
pub use pages::Pages;

/// The section that `ferrite build` fills in.
// SAFETY: a plain array of bytes in a read-only data section of its own; no other item uses the name.
#[unsafe(link_section = ".ferrkey")]
#[used]
static KEY_SECTION: [u8; SECTION_LEN] = UNCONFIGURED;

/// The key section as it stands in the file that was loaded.
pub fn key_section() -> [u8; SECTION_LEN] {
    let first = (&raw const KEY_SECTION).cast::<u8>();
    let mut section = [0; SECTION_LEN];
    for (index, byte) in section.iter_mut().enumerate() {
        // SAFETY: `index` is below the length of the static, which lives for ever. Volatile, because the bytes were
        // changed after the compiler saw them; byte by byte, because the compiler unrolls a volatile array.
        *byte = unsafe { ptr::read_volatile(first.add(index)) };
    }
    section
}

/// Opens a protocol beside whoever uses it already.
pub fn protocol<P: ProtocolPointer + ?Sized>(handle: Handle) -> Result<ScopedProtocol<P>, Failure> {
    let params = OpenProtocolParams { handle, agent: uefi::boot::image_handle(), controller: None };
    // SAFETY: GetProtocol does not lock the interface. The loader is the only code that runs, it connects and
    // disconnects no driver, and the handles that it asks about stay for as long as the firmware does.
    Ok(unsafe { uefi::boot::open_protocol::<P>(params, OpenProtocolAttributes::GetProtocol) }?)
}

/// Shows a line on the firmware's consoles, serial and screen; without a console it is lost.
pub fn say(line: fmt::Arguments<'_>) {
    let Some(table) = uefi::table::system_table_raw() else { return };
    // SAFETY: the firmware's system table is valid while its boot services are, and the loader never ends those.
    let has_console = unsafe { !table.as_ref().stdout.is_null() };
    if has_console {
        // A console that fails is no reason not to boot.
        let _ = uefi::system::with_stdout(|console| writeln!(console, "{line}"));
    }
}
