//! An image of the hardest files there are, brought by a folder and by an archive: what no line of a recipe can say.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::Image;

/// Where the folder's files are in the image.
pub const FOLDER: &str = "/usr/lib/hard/folder";
/// Where the archive's files are in the image.
pub const ARCHIVE: &str = "/usr/lib/hard/archive";
/// How many files `many` of the archive has.
pub const MANY: u32 = 70_000;
/// Length of `sparse` in the folder and in the archive.
pub const SPARSE_BYTES: u64 = 2 << 30;
/// What these files hold besides zeros: place and text. The last one ends with the file.
pub const SPARSE_DATA: [(u64, &str); 3] =
    [(0, "first"), ((1 << 30) + 12_345, "middle"), (SPARSE_BYTES - 4, "last")];
/// The longest value of an attribute that EROFS has.
pub const LONGEST_VALUE: usize = 65_535;
/// A name that is no UTF-8.
pub const LATIN_1: &[u8] = b"caf\xe9";
/// A name of 255 bytes, which are the most.
pub const LONG_NAME: [u8; 255] = [b'n'; 255];
/// Another one, with every byte that a name can have.
pub fn odd_name() -> Vec<u8> {
    (1..=255).filter(|byte| *byte != b'/').chain([b'x']).collect()
}

/// The value of the longest attribute, `user.big` of `attributes` in the archive: bytes of every kind.
pub fn longest_value() -> Vec<u8> {
    (0..=u8::MAX).cycle().skip(7).take(LONGEST_VALUE).collect()
}

/// The value of `user.a`, `user.b`, `user.c` and `user.d` of the same file, which fill up what an inode can have.
pub fn long_value() -> Vec<u8> {
    vec![b'v'; 49_139]
}

/// Builds the image.
///
/// # Errors
/// It cannot be built.
pub fn image() -> Result<Image> {
    Image::of_recipe(&recipe()?)
}

/// The recipe: that of the smallest image with the trees and a program that reads attributes.
///
/// # Errors
/// The trees cannot be written.
pub fn recipe() -> Result<PathBuf> {
    // As long as this file is the same, so are the trees: they are written once, since writing them anew would make a new build of it.
    let key = Sha256::digest(include_bytes!("hard_cases.rs"));
    let key: String = key.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("hard-cases-{key}");
    let folder = Image::folder()?.join("recipes");
    let trees = folder.join(&name);
    if !trees.is_dir() {
        fs::create_dir_all(&folder)?;
        let partial = tempfile::TempDir::with_prefix_in("partial-", &folder)?;
        write_folder(&partial.path().join("overlay")).context("cannot write the folder of hard cases")?;
        write_archive(&partial.path().join("hard.tar.zst"))
            .context("cannot write the archive of hard cases")?;
        match fs::rename(partial.path(), &trees) {
            // Another test process was faster.
            Err(_) if trees.is_dir() => {}
            result => result?,
        }
    }
    Image::minimal_recipe("ferrite-test-hard", |recipe| {
        let recipe = recipe.replacen("packages:\n", "packages:\n  - attr\n", 1);
        let folder = FOLDER;
        format!(
            "{recipe}\ntrees:\n  - {{source: {name}/overlay, to: {folder}}}\n  - source: {name}/hard.tar.zst\n"
        )
    })
}

fn write_folder(root: &Path) -> Result<()> {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    for folder in ["one", "two", "loop", "empty"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(at(&LONG_NAME), "long")?;
    fs::write(at(LATIN_1), "latin")?;
    fs::write(at(b"new\nline"), "newline")?;
    fs::write(at(b"one/file"), "linked")?;
    fs::hard_link(at(b"one/file"), at(b"two/file"))?;
    fs::hard_link(at(b"one/file"), at(b"file"))?;
    symlink("b", at(b"loop/a"))?;
    symlink("a", at(b"loop/b"))?;
    symlink("self", at(b"loop/self"))?;
    fs::write(at(b"setuid"), "#!/bin/sh\n")?;
    let sparse = File::create_new(at(b"sparse"))?;
    sparse.set_len(SPARSE_BYTES)?;
    for (place, text) in SPARSE_DATA {
        sparse.write_all_at(text.as_bytes(), place)?;
    }
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Not those of whoever runs the tests.
            if !kind.is_symlink() {
                let mode = if kind.is_dir() { 0o755 } else { 0o644 };
                fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
            }
            folders.extend(kind.is_dir().then(|| entry.path()));
        }
    }
    Ok(fs::set_permissions(at(b"setuid"), Permissions::from_mode(0o4755))?)
}

/// An archive that is written entry by entry, its names and numbers in PAX records where a header is too small for them.
struct Archive<W: Write> {
    builder: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    fn add(
        &mut self,
        kind: EntryType,
        name: &[u8],
        mode: u32,
        content: &[u8],
        records: &[(&str, &[u8])],
    ) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(70_000);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        let (major, minor) = if kind == EntryType::Block { (7, 200) } else { (1, 3) };
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        let path = [ARCHIVE.trim_start_matches('/').as_bytes(), b"/", name].concat();
        let all: Vec<(&str, &[u8])> = records.iter().copied().chain([("path", &path[..])]).collect();
        self.builder.append_pax_extensions(all)?;
        header.set_path("in-the-record")?;
        header.set_cksum();
        Ok(self.builder.append(&header, content)?)
    }

    fn file(&mut self, name: &[u8], mode: u32, content: &[u8]) -> Result<()> {
        self.add(EntryType::Regular, name, mode, content, &[])
    }

    fn link(&mut self, kind: EntryType, name: &[u8], target: &[u8]) -> Result<()> {
        self.add(kind, name, 0o777, b"", &[("linkpath", target)])
    }
}

fn write_archive(path: &Path) -> Result<()> {
    let compressor = zstd::Encoder::new(File::create_new(path)?, 1)?;
    let mut archive = Archive { builder: tar::Builder::new(compressor) };
    for folder in ["", "one", "two", "many", "empty"] {
        archive.add(EntryType::Directory, folder.as_bytes(), 0o755, b"", &[])?;
    }
    archive.file(&odd_name(), 0o644, b"odd")?;
    archive.file(b"setuid", 0o4755, b"#!/bin/sh\n")?;
    archive.file(b"setgid", 0o2755, b"#!/bin/sh\n")?;
    archive.add(EntryType::Directory, b"sticky", 0o1777, b"", &[])?;
    archive.add(EntryType::Char, b"null", 0o666, b"", &[])?;
    archive.add(EntryType::Block, b"block", 0o640, b"", &[])?;
    archive.add(EntryType::Fifo, b"pipe", 0o600, b"", &[])?;
    archive.link(EntryType::Symlink, b"longest-link", &[b"t/".repeat(2047), b"t".to_vec()].concat())?;
    archive.file(b"one/file", 0o644, b"linked")?;
    let target = format!("{}/one/file", ARCHIVE.trim_start_matches('/'));
    archive.link(EntryType::Link, b"two/file", target.as_bytes())?;
    archive.link(EntryType::Link, b"file", target.as_bytes())?;
    let (big, value) = (longest_value(), long_value());
    // In EROFS 262,144 bytes, of the 262,148 that an inode can have.
    archive.add(
        EntryType::Regular,
        b"attributes",
        0o644,
        b"attributed",
        &[
            ("SCHILY.xattr.user.big", &big[..]),
            ("SCHILY.xattr.user.a", &value[..]),
            ("SCHILY.xattr.user.b", &value[..]),
            ("SCHILY.xattr.user.c", &value[..]),
            ("SCHILY.xattr.user.d", &value[..]),
            ("SCHILY.xattr.user.empty", b""),
        ],
    )?;
    // Form 1.0 of files with holes: the map, in a block of its own, then the data.
    let mut content = format!("{}\n", SPARSE_DATA.len());
    for (place, text) in SPARSE_DATA {
        content.push_str(&format!("{place}\n{}\n", text.len()));
    }
    let mut content = content.into_bytes();
    content.resize(content.len().next_multiple_of(512), 0);
    SPARSE_DATA.iter().for_each(|(_, text)| content.extend(text.as_bytes()));
    let (name, size) = (format!("{}/sparse", ARCHIVE.trim_start_matches('/')), SPARSE_BYTES.to_string());
    archive.add(
        EntryType::Regular,
        b"GNUSparseFile.0/sparse",
        0o644,
        &content,
        &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", name.as_bytes()),
            ("GNU.sparse.realsize", size.as_bytes()),
        ],
    )?;
    for number in 0..MANY {
        archive.file(
            format!("many/entry-{number:05}").as_bytes(),
            0o644,
            format!("{number}\n").as_bytes(),
        )?;
    }
    archive.builder.into_inner()?.finish()?;
    Ok(())
}
