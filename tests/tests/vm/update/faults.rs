//! Disks that do not read or write, and a server that goes away (SAFETY 3, 19, 20).

use anyhow::Result;
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, scratch};
use qemu::{DiskAccess, DiskFault};

use super::{configure, noise, noise_of, options, os_version, release};
use crate::support::{GIB, MIB, wait_until_good};

const NAME: &str = "ferrite-faults";
const SECTOR: u64 = 512;

fn with_fault(path: &std::path::Path, access: DiskAccess, offset: u64) -> Result<Guest> {
    Guest::start_with(path, &options(), |mut spec| {
        if let Some(disk) = spec.disks.first_mut() {
            disk.faults = vec![DiskFault { access, sector: offset / SECTOR }];
        }
        spec
    })
}

#[test]
fn disk_errors_cost_an_update_and_never_a_boot_safety_3_19_20() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    let files = noise(NAME, 0..2)?;
    let mut disk = release(NAME, "1.0.0", &files)?.disk(&path, GIB)?;
    channel.publish(&release(
        NAME,
        "1.1.0",
        &format!("{files}  - {{path: /usr/lib/new, content: new}}\n"),
    )?)?;

    // A sector of the passive slot that cannot be written.
    let inside = disk.partition("USR-B")?.start + MIB;
    let mut guest = with_fault(&path, DiskAccess::Write, inside)?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    let failed = guest.run("update_engine_client update")?;
    assert!(failed.status != 0 && failed.text.contains("cannot write 1048576 bytes at"), "{}", failed.text);
    assert!(failed.text.contains("of vda: I/O error"), "{}", failed.text);
    let status = guest.check("update_engine_client -status")?;
    assert!(!status.contains("UPDATED_NEED_REBOOT"), "{status}");
    guest.reboot()?;
    guest.expect(&format!("{NAME} 1.0.0"))?;
    guest.wait_for_shell()?;
    assert_eq!(os_version(&mut guest)?, "1.0.0");
    guest.cut_power();
    assert_eq!(disk.flags("USR-B")?.priority(), 0, "what was not written whole does not boot");
    assert!(disk.table_is_whole());

    // The table cannot be written: nothing is handed over.
    let mut guest = with_fault(&path, DiskAccess::Write, SECTOR)?;
    guest.wait_for_shell()?;
    let failed = guest.run("update_engine_client update")?;
    assert!(failed.status != 0, "{}", failed.text);
    guest.cut_power();
    assert_eq!(disk.flags("USR-B")?.priority(), 0);
    assert!(disk.table_is_whole());

    // A file of the running slot that cannot be read any more is fetched.
    let start: Vec<u8> = noise_of(0).take(64).collect();
    let lost = disk.find_once("USR-A", &start)?;
    let before = server.payload_bytes_sent();
    let mut guest = with_fault(&path, DiskAccess::Read, lost)?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    let staged = guest.check("update_engine_client update")?;
    assert!(staged.contains("1.1.0 is staged"), "{staged}");
    println!("{} bytes were fetched for a sector that cannot be read", server.payload_bytes_sent() - before);
    guest.reboot()?;
    guest.expect(&format!("{NAME} 1.1.0 (on trial"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(guest.check("cat /usr/lib/new")?.trim(), "new");
    guest.poweroff()
}

#[test]
fn a_server_that_goes_away_and_comes_back_costs_only_time() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release(NAME, "1.0.0", &noise(NAME, 0..2)?)?.disk(&path, GIB)?;
    let published = channel.publish(&release(NAME, "1.2.0", &noise(NAME, 0..8)?)?)?;
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    // Connections break in the middle, and none is taken after them.
    server.vanish_after(3 << 20);
    guest.check("update_engine_client update --no-wait")?;
    crate::support::wait_for(|| server.refused() > 2, "the machine to ask again")?;
    let status = guest.check("update_engine_client status")?;
    assert!(!status.contains("staged"), "{status}");
    server.come_back();
    assert!(guest.check("update_engine_client update")?.contains("1.2.0 is staged"));
    let sent = server.payload_bytes_sent();
    println!("{sent} bytes were sent of a payload of {}", published.payload_bytes);
    // What had arrived was not asked for again, but for the frames that were under way.
    assert!(sent < published.payload_bytes, "{sent}");
    guest.poweroff()
}
