//! Puts the trusted keys into a loader that was compiled without them.

use std::ops::Range;

use boot::trust::{SECTION_LEN, SECTION_NAME, Trust, TrustError};

/// Why a loader could not be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// The file is not a PE image.
    #[error("the loader is not a PE file")]
    NotPe,
    /// The PE image has no section for the keys.
    #[error("the loader has no .ferrkey section of {SECTION_LEN} bytes; it was not built from this source")]
    NoSection,
    /// The section is there, but holds something else.
    #[error("the loader's .ferrkey section is not ours")]
    Foreign(#[source] TrustError),
}

/// Returns the loader with `trust` in its key section.
///
/// # Errors
/// The file is not our loader.
pub fn configure(loader: &[u8], trust: &Trust) -> Result<Vec<u8>, LoaderError> {
    match read_trust(loader) {
        Ok(_) | Err(LoaderError::Foreign(TrustError::Unconfigured)) => {}
        Err(error) => return Err(error),
    }
    let mut configured = loader.to_vec();
    let section = configured.get_mut(section_range(loader)?).ok_or(LoaderError::NoSection)?;
    section.copy_from_slice(&trust.to_bytes());
    Ok(configured)
}

/// Reads the key section of a loader.
///
/// # Errors
/// The file is not our loader, or its section is damaged or was never filled in.
pub fn read_trust(loader: &[u8]) -> Result<Trust, LoaderError> {
    let section = loader.get(section_range(loader)?).ok_or(LoaderError::NoSection)?;
    Trust::parse(section).map_err(LoaderError::Foreign)
}

/// Where the key section's bytes are in the file (PE format, "COFF file header" and "section table").
fn section_range(file: &[u8]) -> Result<Range<usize>, LoaderError> {
    let pe = u32_at(file, 0x3c).ok_or(LoaderError::NotPe)?;
    if file.get(..2) != Some(b"MZ") || file.get(pe..).and_then(|rest| rest.get(..4)) != Some(b"PE\0\0") {
        return Err(LoaderError::NotPe);
    }
    let sections = u16_at(file, pe + 6).ok_or(LoaderError::NotPe)?;
    let optional_header = u16_at(file, pe + 20).ok_or(LoaderError::NotPe)?;
    let table = pe + 24 + optional_header;
    let rows = file.get(table..).ok_or(LoaderError::NotPe)?.chunks_exact(40).take(sections);
    for row in rows {
        if row.get(..8) == Some(SECTION_NAME.as_slice()) {
            let raw_len = u32_at(row, 16).ok_or(LoaderError::NotPe)?;
            let start = u32_at(row, 20).ok_or(LoaderError::NotPe)?;
            let fits = raw_len >= SECTION_LEN;
            return if fits { Ok(start..start + SECTION_LEN) } else { Err(LoaderError::NoSection) };
        }
    }
    Err(LoaderError::NoSection)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_le_bytes(*field)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot::trust::{ConfiguredKey, UNCONFIGURED};
    use proptest::prelude::*;
    use slots::{Text, TrustedKey};

    /// The smallest file that has what the reader looks at.
    fn pe() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x80;
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x86] = 2;
        file[0x94] = 0x10;
        let row = 0x80 + 24 + 0x10 + 40;
        file[row..row + 8].copy_from_slice(&SECTION_NAME);
        file[row + 16..row + 20].copy_from_slice(&4096u32.to_le_bytes());
        file[row + 20..row + 24].copy_from_slice(&0x400u32.to_le_bytes());
        file.extend(UNCONFIGURED);
        file.extend([0xee; 64]);
        file
    }

    fn trust() -> Trust {
        let key = ConfiguredKey { key: TrustedKey([3; 32]), development: true };
        Trust::new(Text::new("ferrite").unwrap(), 1 << 30, &[key]).unwrap()
    }

    #[test]
    fn keys_go_into_the_section_and_nowhere_else() {
        let before = pe();
        let after = configure(&before, &trust()).unwrap();
        assert_eq!(read_trust(&after).unwrap(), trust());
        assert_eq!((&after[..0x400], &after[0x1400..]), (&before[..0x400], &before[0x1400..]));
        assert_eq!(
            configure(&after, &trust()).unwrap(),
            after,
            "a configured loader can be configured again"
        );
    }

    #[test]
    fn files_that_are_not_our_loader_are_refused() {
        assert_eq!(configure(b"#!/bin/sh", &trust()), Err(LoaderError::NotPe));
        let mut other = pe();
        other[0x80 + 24 + 0x10 + 40] = b'x';
        assert_eq!(configure(&other, &trust()), Err(LoaderError::NoSection));
        let mut foreign = pe();
        foreign[0x400] = b'x';
        assert_eq!(configure(&foreign, &trust()), Err(LoaderError::Foreign(TrustError::Magic)));
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0usize..0x200, value: [u8; 4]) {
            let mut file = pe();
            file[at..at + 4].copy_from_slice(&value);
            let _ = configure(&file, &trust());
        }
    }
}
