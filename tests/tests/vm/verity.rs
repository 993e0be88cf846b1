//! A block of `/usr` that is not what was signed is an error, and its content is never seen.

use anyhow::{Context as _, Result};
use ferrite_tests::{Guest, Image, scratch};

use crate::support::{GIB, options, tries, wait_until_good};

/// More than a block, so that the file has blocks of its own.
const LINES: usize = 400;

/// A file whose lines are found nowhere else.
fn marker(name: &str) -> String {
    (0..LINES).map(|line| format!("{name} LINE {line:04}\n")).collect()
}

#[test]
fn a_flipped_bit_in_usr_is_an_error_and_never_data() -> Result<()> {
    let (intact, flipped) = (marker("INTACT"), marker("FLIPPED"));
    let files = [
        ("/usr/lib/ferrite-test/intact", intact.as_str()),
        ("/usr/lib/ferrite-test/flipped", flipped.as_str()),
    ];
    let image = Image::minimal_with("ferrite-test-verity", &files)?;
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = image.disk(&path, GIB)?;
    // In the middle: no page of the file but this one is wrong.
    let at = disk.find_once("USR-A", b"FLIPPED LINE 0300")?;
    disk.flip_bit(at)?;

    let options = ferrite_tests::GuestOptions { exit_on_reboot: true, ..options("verity") };
    let mut guest = Guest::start(&path, &options)?;
    guest.wait_for_shell()?;
    // The tries are back, so that what is on the disk at the end is not the loader's doing.
    wait_until_good(&mut guest)?;
    // The same way of reading shows what is whole.
    let whole = guest.check("cat /usr/lib/ferrite-test/intact")?;
    assert!(whole == intact, "{whole}");
    guest.vm().console().send("cat /usr/lib/ferrite-test/flipped; echo READ''-ENDED\n")?;
    let reported = guest.expect("is corrupted")?;
    let line = reported.lines().last().context("no line")?.to_owned();
    assert!(line.contains("verity") && line.contains("data block"), "{line}");
    guest.expect("Kernel panic")?;
    // What the kernel stopped for, the machine starts anew for.
    guest.wait_end("guest-reset")?;
    let console = guest.console_text();
    // One byte of the text is another one: the lines around it are what cat would have shown.
    for wrong in ["GLIPPED LINE 0300", "LINE 0299\n", "LINE 0301\n"] {
        let shown = console.replace('\r', "").replace("INTACT LINE", "").contains(wrong);
        assert!(!shown, "cat showed a block with a flipped bit: {wrong:?}");
    }
    assert!(!console.contains("READ-ENDED"));
    println!("verity: {}", line.trim());
    drop(guest);
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true), "a good slot stays a good one");
    Ok(())
}
