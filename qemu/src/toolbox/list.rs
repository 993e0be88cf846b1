//! The list of the packages that make up the toolbox (`toolbox.lock`), and which of their files are used.
//!
//! Grammar: a line is empty, a comment (`#`), a section (`[emulator]`, `[tools]`), or a package: name, version, size in bytes,
//! SHA-256, path below the archive's base, separated by single spaces. The list is part of the program, so its digests are as
//! trustworthy as the program: no index and no signature is needed to fetch what it names.

use debian::digest::Digest;

/// A set of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// QEMU, its firmware and libraries.
    Emulator,
    /// `qemu-img` (its libraries are among the emulator's).
    Tools,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Set.
    pub set: Set,
    /// Name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the package file.
    pub sha256: Digest,
    /// Path below the archive's base.
    pub path: String,
}

/// A line that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("toolbox.lock line {line}: {problem}")]
pub struct ListError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Reads a list.
///
/// # Errors
/// The first line that does not follow the grammar.
pub fn parse(text: &str) -> Result<Vec<Entry>, ListError> {
    let mut set = None;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let error = |problem| ListError { line: index + 1, problem };
        match line {
            "" => {}
            "[emulator]" => set = Some(Set::Emulator),
            "[tools]" => set = Some(Set::Tools),
            comment if comment.starts_with('#') => {}
            line => {
                let set = set.ok_or_else(|| error("a package before the first section"))?;
                entries.push(entry(set, line).map_err(error)?);
            }
        }
    }
    Ok(entries)
}

fn entry(set: Set, line: &str) -> Result<Entry, &'static str> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [name, version, size, sha256, path] = fields.as_slice() else {
        return Err("not five fields: name version size sha256 path");
    };
    if !path.starts_with("pool/") || path.split('/').any(|part| part == "..") {
        return Err("the path is not below pool/");
    }
    Ok(Entry {
        set,
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        size: size.parse().map_err(|_| "the size is not a number")?,
        sha256: sha256.parse().map_err(|_| "the digest is not 64 hexadecimal digits")?,
        path: (*path).to_owned(),
    })
}

/// Writes a list.
pub fn format(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# Packages of the toolbox: name version size sha256 path. Written by `cargo run -p qemu --example toolbox-lock`.\n",
    );
    for (set, title) in [(Set::Emulator, "[emulator]"), (Set::Tools, "[tools]")] {
        out.push_str(&format!("\n{title}\n"));
        for e in entries.iter().filter(|entry| entry.set == set) {
            out.push_str(&format!("{} {} {} {} {}\n", e.name, e.version, e.size, e.sha256, e.path));
        }
    }
    out
}

/// Raised whenever [`wanted`] or the layout changes, so that an older unpacked toolbox is not taken for this one.
const LAYOUT: u8 = 1;

/// The name of the folder that holds these packages unpacked: equal lists, equal names.
pub fn folder_name(entries: &[Entry]) -> String {
    let mut content = vec![LAYOUT];
    for entry in entries {
        content.extend(entry.sha256.0);
    }
    let digest = Digest::of(&content).to_string();
    format!("toolbox-{}", digest.get(..16).unwrap_or(&digest))
}

/// Files of `usr/share/qemu` that a PC without display needs: helpers for a kernel given on the command line, and for TPR access.
const QEMU_DATA: [&str; 3] = ["kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin"];

/// Whether a file of a package, by its path without leading `./` or `/`, is unpacked. Most of what the packages hold is for
/// other machines, other displays, and for reading.
pub fn wanted(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match folder {
        "usr/lib/x86_64-linux-gnu" => name.contains(".so"),
        "usr/bin" => matches!(name, "qemu-system-x86_64" | "qemu-img"),
        "usr/share/qemu" => QEMU_DATA.contains(&name),
        "usr/share/seabios" => name == "bios-256k.bin",
        "usr/share/OVMF" => matches!(name, "OVMF_CODE_4M.fd" | "OVMF_VARS_4M.fd"),
        // Whoever passes the cache on passes the licences on.
        _ => {
            name == "copyright"
                && folder.strip_prefix("usr/share/doc/").is_some_and(|package| !package.contains('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<Entry> {
        let entry = |set, name: &str, byte| Entry {
            set,
            name: name.to_owned(),
            version: "1:10.0+ds-1".to_owned(),
            size: 7,
            sha256: Digest([byte; 32]),
            path: format!("pool/main/x/{name}.deb"),
        };
        vec![
            entry(Set::Emulator, "ovmf", 1),
            entry(Set::Emulator, "seabios", 2),
            entry(Set::Tools, "qemu-utils", 3),
        ]
    }

    #[test]
    fn a_written_list_is_read_back() {
        assert_eq!(parse(&format(&sample())).unwrap(), sample());
    }

    #[test]
    fn wrong_lines_are_named() {
        let digest = "0".repeat(64);
        let cases = [
            (format!("x 1 2 {digest} pool/x"), "line 1: a package before the first section"),
            ("[emulator]\nx 1 2".to_owned(), "line 2: not five fields"),
            (format!("[tools]\nx 1 two {digest} pool/x"), "the size is not a number"),
            ("[tools]\nx 1 2 abc pool/x".to_owned(), "the digest is not"),
            (format!("[tools]\nx 1 2 {digest} /etc/passwd"), "not below pool/"),
            (format!("[tools]\nx 1 2 {digest} pool/../../x"), "not below pool/"),
        ];
        for (text, words) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "got {error:?}, want {words:?}");
        }
    }

    #[test]
    fn the_folder_changes_with_any_package() {
        let sample = sample();
        assert_ne!(folder_name(&sample), folder_name(&sample[..2]));
        assert!(folder_name(&sample).starts_with("toolbox-"));
    }

    #[test]
    fn only_what_runs_is_unpacked() {
        let cases = [
            ("usr/lib/x86_64-linux-gnu/libc.so.6", true),
            ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", true),
            ("usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", false),
            ("usr/bin/qemu-system-x86_64", true),
            ("usr/bin/qemu-system-i386", false),
            ("usr/share/OVMF/OVMF_CODE_4M.fd", true),
            ("usr/share/doc/ovmf/copyright", true),
            ("usr/share/doc/qemu-system-common/system/index.html", false),
            ("usr/share/doc/../../copyright", false),
            ("copyright", false),
            ("", false),
        ];
        for (path, want) in cases {
            assert_eq!(wanted(path), want, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in r"(\[emulator\]\n)?([a-z0-9 /.\n\[\]#]{0,80})") {
            let _ = parse(&text);
        }
    }
}
