//! What the loader does about a slot with something wrong, with its line on the console (SAFETY 9, 11).

use anyhow::Result;
use builder::signing::SlotSigner;
use ferrite_tests::{DiskFile, Guest, Image, scratch};
use slots::KeyId;

use crate::support::{GIB, MINIMAL, disk_with_b, options, running_slot, tries};

/// An Ed25519 key that no loader trusts: its seed is 32 times 0x42.
const FOREIGN_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC\n\
    -----END PRIVATE KEY-----\n";
/// How far a byte that is flipped lies behind the start of its part.
const INSIDE: u64 = 100;

type Damage = fn(&mut DiskFile) -> Result<()>;

#[test]
fn a_damaged_slot_is_skipped_with_the_reason_and_the_other_one_boots() -> Result<()> {
    let cases: [(&str, Damage); 5] = [
        ("bad footer: wrong signature", |disk| {
            let footer = disk.footer_offset("USR-A")?;
            disk.flip_bit(footer + INSIDE)
        }),
        ("wrong hash of kernel", |disk| {
            let at = disk.partition("USR-A")?.start + disk.footer("USR-A")?.parts.kernel.offset;
            disk.flip_bit(at + INSIDE)
        }),
        ("wrong hash of initramfs", |disk| {
            let part = disk.footer("USR-A")?.parts.initramfs;
            let at = disk.partition("USR-A")?.start + part.offset + part.length - 1;
            disk.flip_bit(at)
        }),
        ("wrong hash of command line", |disk| {
            let at = disk.partition("USR-A")?.start + disk.footer("USR-A")?.parts.command_line.offset;
            disk.flip_bit(at)
        }),
        // The start of the SHA-256 of its public half.
        ("bad footer: signed by untrusted key 3097e2dee2cb4a34", sign_with_foreign_key),
    ];
    let folder = scratch()?;
    for (number, (reason, damage)) in cases.into_iter().enumerate() {
        let path = folder.path().join(format!("disk{number}.raw"));
        let mut disk = disk_with_b(&path, 1, 7, true)?;
        damage(&mut disk)?;
        let mut guest = Guest::start(&path, &options("damaged-slot"))?;
        let before = guest.expect(&format!("ferrite-boot: USR-A skipped: {reason}"))?;
        assert_eq!(before.matches("ferrite-boot:").count(), 1, "{before}");
        // In the same power cycle: nothing but this line comes before B.
        let between = guest.expect(&format!("ferrite-boot: USR-B {MINIMAL} (tries left 6)"))?;
        assert!(!between.contains("rebooting"), "{between}");
        guest.wait_for_shell()?;
        assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-B")?, "{reason}");
        guest.cut_power();
        assert_eq!(tries(&mut disk, "USR-A")?, (7, true), "a slot that never started lost no try: {reason}");
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// All is well with this footer but who signed it.
fn sign_with_foreign_key(disk: &mut DiskFile) -> Result<()> {
    let folder = scratch()?;
    let file = folder.path().join("foreign.key");
    std::fs::write(&file, FOREIGN_KEY)?;
    let signer = SlotSigner::load(&file)?;
    let mut footer = disk.footer("USR-A")?;
    footer.key_id = KeyId(signer.public().id());
    disk.write_footer("USR-A", &footer, |signed| signer.sign(signed))
}

#[test]
fn with_no_slot_left_the_loader_says_what_it_found_and_starts_anew_after_a_pause() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let footer = disk.footer_offset("USR-A")?;
    disk.flip_bit(footer + INSIDE)?;
    let mut guest = Guest::start(&path, &options("no-slot"))?;
    guest.expect("ferrite-boot: USR-A skipped: bad footer: wrong signature")?;
    guest.expect("ferrite-boot: no slot can be started on disk ")?;
    guest.expect("USR-A priority=2 tries=7 successful=1: bad footer: wrong signature")?;
    guest.expect("USR-B priority=0 tries=0 successful=0: never boots")?;
    guest.expect("ferrite-boot: nothing to start; rebooting in 30 s")?;
    // The machine starts anew: firmware, loader, the same finding.
    guest.expect("ferrite-boot: USR-A skipped: bad footer: wrong signature")?;
    guest.cut_power();
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true));
    Ok(())
}
