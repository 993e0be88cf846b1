//! What a slot image says about the release that it becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use slots::{FOOTER_LEN, Footer, FooterError};
use update_engine::channel::{Placement, Release, StateFormat, TargetFile, Version};

use super::checks::Refusal;
use crate::build::Manifest;

/// The package whose data is a state format of its own.
const ETCD: &str = "etcd-server";

/// Why a slot image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The file cannot be read.
    #[error("cannot read the slot image {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no slot image.
    #[error("{} is no slot image: {problem}; hint: `ferrite build` writes one beside each image, it ends in `.usr`", path.display())]
    Footer {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: FooterError,
    },
}

/// Reads the footer of a slot image. Whose signature it bears is not looked at.
///
/// # Errors
/// The file cannot be read, or is no slot image.
pub fn read_footer(path: &Path) -> Result<(Footer, u64), SlotError> {
    let failed = |source| SlotError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut block = [0; FOOTER_LEN];
    let problem = |problem| SlotError::Footer { path: path.to_owned(), problem };
    let at = length.checked_sub(FOOTER_LEN as u64).ok_or_else(|| problem(FooterError::Magic))?;
    file.read_exact_at(&mut block, at).map_err(failed)?;
    let footer = Footer::parse(&block).map_err(problem)?;
    footer.check_places(length).map_err(problem)?;
    Ok((footer, length))
}

/// What the publisher adds to what the footer says.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Least version to come from.
    pub minimum_version: Option<Version>,
    /// State formats by kind.
    pub state: BTreeMap<String, StateFormat>,
    /// Whether machines may go back by themselves.
    pub automatic_rollback: bool,
    /// What is new.
    pub notes: String,
    /// Channels and how it spreads there.
    pub channels: BTreeMap<update_engine::channel::ChannelName, Placement>,
}

/// The folder of a release's targets and the stem of their names.
///
/// # Errors
/// The product, version or architecture cannot be part of a path.
pub fn target_path(footer: &Footer, ending: &str) -> Result<String, Refusal> {
    let (product, version, architecture) =
        (footer.product.as_str(), footer.version.as_str(), footer.architecture.as_str());
    for (name, text) in [("product", product), ("version", version), ("architecture", architecture)] {
        if text.contains('/') || !update_engine::channel::metadata::is_target_path(text) {
            return Err(Refusal::Name(name));
        }
    }
    Ok(format!("{product}/{architecture}/{version}/{product}-{version}-{architecture}.{ending}"))
}

/// The release that a slot image becomes.
///
/// # Errors
/// Its version is none that a release can have.
pub fn release(
    footer: &Footer,
    slot_bytes: u64,
    index: TargetFile,
    payload: TargetFile,
    declared: Declared,
) -> Result<Release, Refusal> {
    Ok(Release {
        product: footer.product.as_str().to_owned(),
        architecture: footer.architecture.as_str().to_owned(),
        version: Version::parse(footer.version.as_str()).map_err(|_| Refusal::Name("version"))?,
        index,
        payload,
        slot_bytes,
        root_hash: footer.verity.root_hash,
        build_time: footer.build_time,
        minimum_version: declared.minimum_version,
        rollback_index: footer.rollback_index,
        minimum_loader: footer.minimum_loader,
        state: declared.state,
        automatic_rollback: declared.automatic_rollback,
        notes: declared.notes,
        channels: declared.channels,
    })
}

/// State formats that follow from an image's packages. An etcd reads the data of its own minor version and of the one
/// before, and data that it has written is not for the one before (SAFETY 23).
pub fn state_of(manifest: &Manifest) -> BTreeMap<String, StateFormat> {
    let etcd = manifest.packages.iter().find(|package| package.name == ETCD);
    let etcd = etcd.and_then(|package| etcd_format(&package.version));
    etcd.map(|format| ("etcd".to_owned(), format)).into_iter().collect()
}

/// `3.5` from Debian's `3.5.16-4`.
fn etcd_format(version: &str) -> Option<StateFormat> {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut parts = upstream.split(['.', '-', '+', '~']);
    let (major, minor) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let own = format!("{major}.{minor}");
    let before = minor.checked_sub(1).map(|before| format!("{major}.{before}"));
    let reads: BTreeSet<String> = before.into_iter().chain([own.clone()]).collect();
    Some(StateFormat { reads, writes: own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_reads_its_own_minor_version_and_the_one_before() {
        let format = etcd_format("3.5.16-4").unwrap();
        assert_eq!(
            (format.reads.into_iter().collect::<Vec<_>>(), format.writes.as_str()),
            (vec!["3.4".to_owned(), "3.5".to_owned()], "3.5")
        );
        assert_eq!(etcd_format("1:4.0~rc1").unwrap().reads.len(), 1);
        assert!(etcd_format("unknown").is_none());
    }
}
