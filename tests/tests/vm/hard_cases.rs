//! The hardest files that a recipe's trees can bring, as the kernel of the image has them.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use ferrite_tests::hard_cases::{
    self, ARCHIVE, FOLDER, LATIN_1, LONG_NAME, LONGEST_VALUE, MANY, SPARSE_BYTES, SPARSE_DATA,
};
use ferrite_tests::{Guest, scratch};
use sha2::{Digest as _, Sha256};

use crate::support::{GIB, options};

/// A path in quotes of the shell, with every byte but letters, digits and a few others by its number.
fn quoted(place: &str, name: &[u8]) -> String {
    let mut text = String::from("\"$(printf '");
    for byte in [place.as_bytes(), b"/", name].concat() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                text.push(char::from(byte))
            }
            _ => _ = write!(text, "\\{byte:03o}"),
        }
    }
    text + "')\""
}

fn stat(guest: &mut Guest, format: &str, place: &str, name: &[u8]) -> Result<String> {
    Ok(guest.check(&format!("stat -c '{format}' {}", quoted(place, name)))?.trim().to_owned())
}

#[test]
fn the_kernel_has_what_the_trees_had() -> Result<()> {
    let (image, folder) = (hard_cases::image()?, scratch()?);
    let path = folder.path().join("disk.raw");
    image.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("hard-cases"))?;
    guest.wait_for_shell()?;
    names(&mut guest)?;
    holes(&mut guest)?;
    links(&mut guest)?;
    modes_and_devices(&mut guest)?;
    attributes(&mut guest)?;
    let many = guest.check(&format!("ls {ARCHIVE}/many | wc -l"))?;
    assert_eq!(many.trim(), MANY.to_string());
    // Looked up one by one as well, the first, the last, and one that is not there.
    for number in [0, 1, 34_567, MANY - 1] {
        assert_eq!(guest.check(&format!("cat {ARCHIVE}/many/entry-{number:05}"))?.trim(), number.to_string());
    }
    let missing = guest.run(&format!("cat {ARCHIVE}/many/entry-{MANY}"))?;
    assert!(missing.text.contains("No such file or directory"), "{}", missing.text);
    guest.poweroff()
}

fn names(guest: &mut Guest) -> Result<()> {
    let odd = hard_cases::odd_name();
    let files: [(&str, &[u8], &str); 4] = [
        (FOLDER, &LONG_NAME, "long"),
        (FOLDER, LATIN_1, "latin"),
        (FOLDER, b"new\nline", "newline"),
        (ARCHIVE, &odd, "odd"),
    ];
    for (place, name, content) in files {
        let found = guest.check(&format!("cat {}; echo", quoted(place, name)))?;
        assert_eq!(found.trim(), content, "{}", name.escape_ascii());
    }
    // The folder lists the very bytes (BusyBox's ls would show question marks).
    let listed = guest.check(&format!("find {FOLDER} -type f | od -An -tx1 -v | tr -d ' \\n'; echo"))?;
    assert!(listed.contains("636166e90a"), "{listed}");
    for place in [FOLDER, ARCHIVE] {
        assert_eq!(guest.check(&format!("ls -A {place}/empty | wc -l"))?.trim(), "0");
        assert_eq!(stat(guest, "%F %h", place, b"empty")?, "directory 2");
    }
    Ok(())
}

fn holes(guest: &mut Guest) -> Result<()> {
    for place in [FOLDER, ARCHIVE] {
        assert_eq!(stat(guest, "%s", place, b"sparse")?, SPARSE_BYTES.to_string());
        for (at, text) in SPARSE_DATA {
            // What is before and after the text is a hole, or the file's end.
            let start = at.saturating_sub(8);
            let command =
                format!("dd if={place}/sparse bs=1 skip={start} count=24 2> /dev/null | od -An -c -v");
            let found = guest.check(&command)?;
            let found: String =
                found.split_whitespace().map(|word| if word == "\\0" { "0" } else { word }).collect();
            let before = "0".repeat(usize::try_from(at - start)?);
            let rest = usize::try_from((SPARSE_BYTES - start).min(24))?;
            let want = format!("{:0<rest$}", format!("{before}{text}"));
            assert_eq!(found, want, "{place} at {at}");
        }
        let hole =
            format!("dd if={place}/sparse bs=64k skip=25000 count=16 2> /dev/null | tr -d '\\000' | wc -c");
        assert_eq!(guest.check(&hole)?.trim(), "0", "a hole reads as zeros");
    }
    Ok(())
}

fn links(guest: &mut Guest) -> Result<()> {
    for place in [FOLDER, ARCHIVE] {
        let mut inodes = Vec::new();
        for name in ["file", "one/file", "two/file"] {
            let found = stat(guest, "%i %h", place, name.as_bytes())?;
            let (inode, links) = found.split_once(' ').context("no blank")?;
            assert_eq!(links, "3", "{place}/{name}");
            assert_eq!(guest.check(&format!("cat {place}/{name}; echo"))?.trim(), "linked");
            inodes.push(inode.to_owned());
        }
        inodes.dedup();
        assert_eq!(inodes.len(), 1, "{place}: {inodes:?}");
    }
    for (name, target) in [("a", "b"), ("b", "a"), ("self", "self")] {
        assert_eq!(guest.check(&format!("readlink {FOLDER}/loop/{name}"))?.trim(), target);
        let refused = guest.run(&format!("cat {FOLDER}/loop/{name}"))?;
        assert_ne!(refused.status, 0);
        // ELOOP, as musl and glibc call it.
        let is_loop = ["Too many levels of symbolic links", "Symbolic link loop"];
        assert!(is_loop.iter().any(|text| refused.text.contains(text)), "{}", refused.text);
    }
    assert_eq!(guest.check(&format!("readlink -n {ARCHIVE}/longest-link | wc -c"))?.trim(), "4095");
    Ok(())
}

fn modes_and_devices(guest: &mut Guest) -> Result<()> {
    let files: [(&str, &str, &str); 7] = [
        (FOLDER, "setuid", "4755 0 0 regular file"),
        (ARCHIVE, "setuid", "4755 1234 70000 regular file"),
        (ARCHIVE, "setgid", "2755 1234 70000 regular file"),
        (ARCHIVE, "sticky", "1777 1234 70000 directory"),
        (ARCHIVE, "null", "666 1234 70000 character special file"),
        (ARCHIVE, "block", "640 1234 70000 block special file"),
        (ARCHIVE, "pipe", "600 1234 70000 fifo"),
    ];
    for (place, name, want) in files {
        assert_eq!(stat(guest, "%a %u %g %F", place, name.as_bytes())?, want, "{place}/{name}");
    }
    // Major and minor in hexadecimal.
    assert_eq!(stat(guest, "%t %T", ARCHIVE, b"null")?, "1 3");
    assert_eq!(stat(guest, "%t %T", ARCHIVE, b"block")?, "7 c8");
    Ok(())
}

fn attributes(guest: &mut Guest) -> Result<()> {
    let file = format!("{ARCHIVE}/attributes");
    let names = guest.check(&format!("/usr/bin/getfattr --absolute-names {file}"))?;
    let names: Vec<&str> = names.lines().filter(|line| line.starts_with("user.")).collect();
    assert_eq!(names, ["user.a", "user.b", "user.big", "user.c", "user.d", "user.empty"]);
    let value = hard_cases::longest_value();
    assert_eq!(value.len(), LONGEST_VALUE);
    for (name, value) in [("big", value), ("d", hard_cases::long_value()), ("empty", Vec::new())] {
        let command =
            format!("/usr/bin/getfattr --absolute-names --only-values -n user.{name} {file} | sha256sum");
        let digest: String = Sha256::digest(&value).iter().map(|byte| format!("{byte:02x}")).collect();
        let found = guest.check(&command)?;
        assert_eq!(found.split_whitespace().next(), Some(digest.as_str()), "user.{name}");
    }
    Ok(())
}
