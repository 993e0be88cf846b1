//! The files that are used of a Debian package, written to a folder.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use debian::ar::{self, ArError};
use debian::compression::Compression;
use debian::digest::Digest;
use debian::tarball::{self, EntryKind, TarError};

use super::list::wanted;

/// Largest file that is read into memory; QEMU itself has 28 MiB.
const MAX_FILE: u64 = 256 << 20;

/// A package that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not an archive.
    #[error("not a Debian package")]
    Ar(#[from] ArError),
    /// It has no data.
    #[error("no data.tar in it")]
    NoData,
    /// The data is malformed.
    #[error("its data")]
    Tar(#[from] TarError),
    /// Reading it or writing a file.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A link out of its folder: nothing that is used has one.
    #[error("{} links to {target:?}", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: String,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    move |source| UnpackError::Io { action, path: path.to_path_buf(), source }
}

/// Writes what is used of the package `deb` below `root`. Its bytes have been checked by their digest.
///
/// # Errors
/// The package is malformed, or `root` cannot be written.
pub fn unpack(deb: &Path, root: &Path) -> Result<(), UnpackError> {
    let mut file = File::open(deb).map_err(io_error("open", deb))?;
    let members = ar::members(&mut file)?;
    let data =
        members.iter().find_map(|m| Some((m, Compression::from_suffix(m.name.strip_prefix("data.tar")?)?)));
    let (data, compression) = data.ok_or(UnpackError::NoData)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(data.offset)).map_err(io_error("read", deb))?;
    let stream = compression.decoder(file.take(data.size)).map_err(io_error("read", deb))?;

    let entries = tarball::entries(stream, |path, size, content| {
        let Some(path) = used(path) else {
            // Its digest is not looked at.
            return Ok(Digest([0; 32]));
        };
        let mut bytes = Vec::new();
        content.take(size.min(MAX_FILE)).read_to_end(&mut bytes)?;
        let place = root.join(path);
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&place, &bytes)?;
        Ok(Digest::of(&bytes))
    })?;
    for entry in entries {
        let Some(path) = used(&entry.path) else { continue };
        let place = root.join(path);
        match entry.kind {
            EntryKind::File { .. } => {
                let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                fs::set_permissions(&place, Permissions::from_mode(mode))
                    .map_err(io_error("set the mode of", &place))?;
            }
            EntryKind::Symlink(target) => link(&target, &place)?,
            _ => {}
        }
    }
    Ok(())
}

/// The path without the `./` that archives put before it, when the file is used.
fn used(path: &[u8]) -> Option<&str> {
    let path = std::str::from_utf8(path).ok()?;
    Some(path.strip_prefix("./").unwrap_or(path)).filter(|path| wanted(path))
}

/// Links between versions of a library stay in their folder; licence texts that are shared may link elsewhere and are left out.
fn link(target: &[u8], place: &Path) -> Result<(), UnpackError> {
    if place.file_name().is_some_and(|name| name == "copyright") {
        return Ok(());
    }
    if target.contains(&b'/') {
        let target = String::from_utf8_lossy(target).into_owned();
        return Err(UnpackError::Link { path: place.to_path_buf(), target });
    }
    place.parent().map_or(Ok(()), fs::create_dir_all).map_err(io_error("make the folder of", place))?;
    symlink(std::ffi::OsStr::from_bytes(target), place).map_err(io_error("link", place))
}
