//! User-data on the machine that builds and runs images: checked before any machine sees it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_config::diagnostic::Diagnostics;
use image_config::user_data::{Format, UserData};

/// Why a file cannot be a machine's user-data.
#[derive(Debug, thiserror::Error)]
pub enum UserDataError {
    /// The file.
    #[error("cannot read the user-data {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has errors.
    #[error("{0}")]
    Refused(Diagnostics),
}

/// User-data that a machine can be given.
#[derive(Debug)]
pub struct Checked {
    /// The file as it is.
    pub bytes: Vec<u8>,
    /// What should be looked at.
    pub warnings: Diagnostics,
    /// Its file's name in the OEM partition, where each format has its own.
    pub oem_name: &'static str,
    /// Whether it is for a machine's first boot alone.
    pub is_ignition: bool,
}

/// How gzip begins.
pub const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a file and checks it as `ferrite validate` does.
///
/// # Errors
/// It cannot be read, or a machine would refuse it.
pub fn load(path: &Path) -> Result<Checked, UserDataError> {
    let bytes = read(path)?;
    let name = path.display().to_string();
    let user_data = UserData::read(&name, &bytes).map_err(UserDataError::Refused)?;
    let warnings = user_data.validate().map_err(UserDataError::Refused)?;
    let has = |format: Format| user_data.parts().iter().any(|part| part.format == format);
    let is_packed = bytes.starts_with(&GZIP);
    let oem_name = if has(Format::Ignition) && !is_packed {
        "config.ign"
    } else if bytes.starts_with(b"#cloud-config") {
        "cloud-config.yml"
    } else {
        "user-data"
    };
    let is_ignition = has(Format::Ignition);
    Ok(Checked { bytes, warnings, oem_name, is_ignition })
}

/// Reads a file without a look at what it says.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, UserDataError> {
    fs::read(path).map_err(|source| UserDataError::Read { path: path.to_owned(), source })
}
