//! Kernel and initramfs without firmware: what `ferrite run --direct` does.

use anyhow::Result;
use ferrite_tests::{Guest, GuestOptions, Image, scratch};

use crate::support::{GIB, options, running_slot, wait_until_good};

#[test]
fn an_image_boots_without_firmware() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &GuestOptions { direct: true, ..options("direct") })?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-A")?);
    assert!(!guest.console_text().contains("ferrite-boot"), "no loader ran");
    println!("direct: ferrite: marks{}", guest.line_with("ferrite: marks")?);
    guest.poweroff()?;
    assert!(disk.table_is_whole() && disk.has("STATE")?);
    Ok(())
}
