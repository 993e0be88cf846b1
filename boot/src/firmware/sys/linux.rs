//! Hands over to Linux' EFI stub: options by the loaded-image protocol, initramfs by `LoadFile2` on a vendor device path.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use uefi::boot::{install_protocol_interface, start_image, uninstall_protocol_interface};
use uefi::proto::loaded_image::LoadedImage;
use uefi::{Guid, Handle, Status, guid};
use uefi_raw::Boolean;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::media::LoadFile2Protocol;

use super::{Pages, protocol};
use crate::firmware::Failure;

/// Where the EFI stub looks for its initramfs (Linux, `LINUX_EFI_INITRD_MEDIA_GUID`).
const INITRD_MEDIA: Guid = guid!("5568e427-68fc-4f3d-ac74-ca555231cc68");

/// A vendor media node with that GUID and an end node, as the firmware wants to see them in memory.
#[repr(C, packed)]
struct InitrdPath {
    vendor: [u8; 4],
    guid: Guid,
    end: [u8; 4],
}

static INITRD_PATH: InitrdPath =
    InitrdPath { vendor: [4, 3, 20, 0], guid: INITRD_MEDIA, end: [0x7f, 0xff, 4, 0] };

/// The protocol with its data behind it; the firmware passes the address back on each call.
#[repr(C)]
struct InitrdProvider {
    protocol: LoadFile2Protocol,
    content: NonNull<u8>,
    length: usize,
}

/// Starts a loaded kernel with `options` (zero-terminated UTF-16) and the first `length` bytes of `initramfs`.
/// Comes back only when the kernel did.
pub fn start_linux(kernel: Handle, initramfs: &Pages, length: usize, options: &[u16]) -> Result<(), Failure> {
    let content = initramfs.as_ref().get(..length).ok_or(Failure(Status::BAD_BUFFER_SIZE))?;
    let bytes = u32::try_from(size_of_val(options)).map_err(|_| Failure(Status::BAD_BUFFER_SIZE))?;
    let mut loaded = protocol::<LoadedImage>(kernel)?;
    // SAFETY: the options live until this function returns, and the kernel does not run after that.
    unsafe { loaded.set_load_options(options.as_ptr().cast(), bytes) };
    drop(loaded);
    let provider = InitrdProvider {
        protocol: LoadFile2Protocol { load_file },
        content: NonNull::from(content).cast(),
        length,
    };
    let path: *const c_void = (&raw const INITRD_PATH).cast();
    let file: *const c_void = (&raw const provider).cast();
    // SAFETY: both GUIDs belong to the interfaces beside them. The path is static; `provider` and the memory that it
    // names stay until both are uninstalled below.
    let handle = unsafe { install_protocol_interface(None, &DevicePathProtocol::GUID, path) }?;
    // SAFETY: as above.
    let installed = unsafe { install_protocol_interface(Some(handle), &LoadFile2Protocol::GUID, file) };
    let result = installed.and_then(|_| start_image(kernel));
    // SAFETY: the kernel came back, so nobody uses the interfaces any more. What cannot be removed (because it was never
    // installed) is none of our concern.
    unsafe {
        let _ = uninstall_protocol_interface(handle, &LoadFile2Protocol::GUID, file);
        let _ = uninstall_protocol_interface(handle, &DevicePathProtocol::GUID, path);
    }
    Ok(result?)
}

/// `EFI_LOAD_FILE2_PROTOCOL.LoadFile()` (UEFI 2.10, 13.2.2).
unsafe extern "efiapi" fn load_file(
    this: *mut LoadFile2Protocol,
    _path: *const DevicePathProtocol,
    boot_policy: Boolean,
    size: *mut usize,
    buffer: *mut c_void,
) -> Status {
    if this.is_null() || size.is_null() {
        return Status::INVALID_PARAMETER;
    }
    if bool::from(boot_policy) {
        return Status::UNSUPPORTED;
    }
    // SAFETY: the firmware passes the pointer that was installed, which is to an `InitrdProvider`.
    let provider = unsafe { &*this.cast::<InitrdProvider>() };
    // SAFETY: the caller's own variable, checked against null.
    let room = unsafe { size.replace(provider.length) };
    if buffer.is_null() || room < provider.length {
        return Status::BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller's buffer has at least `length` bytes; our pages do, too, and the two do not overlap, because the
    // firmware gave ours to nobody else.
    unsafe { ptr::copy_nonoverlapping(provider.content.as_ptr(), buffer.cast(), provider.length) };
    Status::SUCCESS
}
