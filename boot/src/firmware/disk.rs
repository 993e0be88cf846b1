//! The whole disk that the loader was started from.

use alloc::vec::Vec;

use slots::Geometry;
use uefi::Status;
use uefi::boot::ScopedProtocol;
use uefi::proto::device_path::{DevicePath, DeviceSubType, DeviceType};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::media::block::BlockIO;

use super::{Failure, sys};

/// Largest request to the firmware. Drivers split requests themselves; this only keeps clear of 32-bit sums in
/// old ones.
const LARGEST_REQUEST: usize = 16 << 20;

/// "End entire device path" node (UEFI 2.10, 10.3.1).
const END_NODE: [u8; 4] = [0x7f, 0xff, 4, 0];

/// Block access to one disk.
pub struct Disk {
    io: ScopedProtocol<BlockIO>,
    media_id: u32,
    geometry: Geometry,
    /// Buffers must start at a multiple of this many bytes.
    align: usize,
}

impl Disk {
    /// Opens the disk that holds the ESP this program was loaded from, beside the drivers that already use it.
    pub fn open_own() -> Result<Self, Failure> {
        let image = sys::protocol::<LoadedImage>(uefi::boot::image_handle())?;
        let esp = image.device().ok_or(Failure(Status::NOT_FOUND))?;
        let path = sys::protocol::<DevicePath>(esp)?;
        let parent = parent_of_partition(path.get().ok_or(Failure(Status::NOT_FOUND))?)?;
        let mut rest = <&DevicePath>::try_from(parent.as_slice()).map_err(|_| Failure(Status::NOT_FOUND))?;
        let handle = uefi::boot::locate_device_path::<BlockIO>(&mut rest)?;
        let io = sys::protocol::<BlockIO>(handle)?;
        let media = io.media();
        if rest.node_iter().next().is_some() || media.is_logical_partition() {
            return Err(Failure(Status::NOT_FOUND));
        }
        let geometry =
            Geometry { block_size: media.block_size(), blocks: media.last_block().saturating_add(1) };
        let align = usize::try_from(media.io_align()).unwrap_or(1).max(1);
        Ok(Self { media_id: media.media_id(), geometry, align, io })
    }

    /// The disk's size.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Reads whole blocks.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        if self.is_aligned(buffer) {
            let mut at = offset;
            for chunk in buffer.chunks_mut(LARGEST_REQUEST) {
                let block = self.block_of(at)?;
                self.io.read_blocks(self.media_id, block, chunk)?;
                at += chunk.len() as u64;
            }
            return Ok(());
        }
        let mut bounce = sys::Pages::allocate(buffer.len())?;
        let source = bounce.as_mut().get_mut(..buffer.len()).ok_or(Failure(Status::BAD_BUFFER_SIZE))?;
        let block = self.block_of(offset)?;
        self.io.read_blocks(self.media_id, block, source)?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    /// Writes whole blocks in one request.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        let block = self.block_of(offset)?;
        if self.is_aligned(data) {
            return Ok(self.io.write_blocks(self.media_id, block, data)?);
        }
        let mut bounce = sys::Pages::allocate(data.len())?;
        let copy = bounce.as_mut().get_mut(..data.len()).ok_or(Failure(Status::BAD_BUFFER_SIZE))?;
        copy.copy_from_slice(data);
        Ok(self.io.write_blocks(self.media_id, block, copy)?)
    }

    /// Asks the firmware to make everything durable; some drivers do nothing here (SAFETY 10).
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.io.flush_blocks()?)
    }

    fn is_aligned(&self, buffer: &[u8]) -> bool {
        buffer.as_ptr().addr().is_multiple_of(self.align)
    }

    fn block_of(&self, offset: u64) -> Result<u64, Failure> {
        let size = u64::from(self.geometry.block_size);
        let whole = size > 0 && offset.is_multiple_of(size);
        if whole { Ok(offset / size) } else { Err(Failure(Status::BAD_BUFFER_SIZE)) }
    }
}

/// The path of the device that a partition is on: everything before the hard-drive node (UEFI 2.10, 10.3.5.1).
fn parent_of_partition(path: &DevicePath) -> Result<Vec<u8>, Failure> {
    let mut parent = Vec::new();
    for node in path.node_iter() {
        if node.full_type() == (DeviceType::MEDIA, DeviceSubType::MEDIA_HARD_DRIVE) {
            parent.extend(END_NODE);
            return Ok(parent);
        }
        let (major, minor) = node.full_type();
        parent.extend([major.0, minor.0]);
        parent.extend(node.length().to_le_bytes());
        parent.extend(node.data());
    }
    Err(Failure(Status::NOT_FOUND))
}
