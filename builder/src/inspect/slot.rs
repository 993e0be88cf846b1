//! One slot: footer, signature, parts.

use rayon::prelude::*;
use slots::{FOOTER_LEN, Footer, FooterError, LOADER_VERSION, Part, Policy, SlotFlags, TrustedKey};

use super::report::{LoaderReport, PartReport, SignatureState, SlotReport, VerityReport};
use super::tree;
use crate::formats::{DiskImage, ReadAt as _};
use crate::signing::{PublicKey, hex};
use crate::slotimage::hash_range;
use crate::slotimage::verity_argument;

/// Longest command line that is shown (Linux takes 2047 bytes on x86).
const LONGEST_COMMAND_LINE: u64 = 2047;

/// Place of a slot in the file, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

/// The keys that can make a signature valid.
pub struct KeyRing {
    keys: Vec<TrustedKey>,
    development: Option<[u8; 32]>,
    product: Option<String>,
}

impl KeyRing {
    /// The keys of the loader in the image; where there is none, the development key.
    pub fn new(loader: Option<&LoaderReport>) -> Self {
        let development = PublicKey::development().ok();
        let trusted = loader.filter(|loader| loader.error.is_none());
        let keys = match trusted {
            Some(loader) => loader.keys.iter().filter_map(|key| parse_key(&key.public_key)).collect(),
            None => development.iter().map(|key| TrustedKey(key.to_bytes())).collect(),
        };
        Self {
            keys,
            development: development.map(PublicKey::id),
            product: trusted.and_then(|loader| loader.product.clone()),
        }
    }
}

fn parse_key(digits: &str) -> Option<TrustedKey> {
    let mut key = [0; 32];
    for (place, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(TrustedKey(key))
}

/// Inspects the slot at `place`; `flags` are those of its partition.
pub fn inspect_slot(
    file: &DiskImage,
    place: Extent,
    flags: Option<SlotFlags>,
    ring: &KeyRing,
    verify: bool,
) -> SlotReport {
    let mut report = blank(flags);
    let mut block = [0; FOOTER_LEN];
    let footer_at = place.offset.saturating_add(place.bytes.saturating_sub(FOOTER_LEN as u64));
    if let Err(error) = file.read_exact_at(&mut block, footer_at) {
        report.problems.push(format!("footer cannot be read: {error}"));
        return report;
    }
    let policy = Policy {
        keys: &ring.keys,
        product: ring.product.as_deref(),
        architecture: boot::select::ARCHITECTURE,
        loader_version: LOADER_VERSION,
        rollback_floor: 0,
    };
    let verdict = Footer::verify(&block, place.bytes, &policy);
    report.signature = match verdict {
        Ok(_) => SignatureState::Valid,
        Err(FooterError::UnknownKey(_)) => SignatureState::UnknownKey,
        Err(FooterError::Signature) => SignatureState::Wrong,
        Err(FooterError::Blank | FooterError::Magic | FooterError::Version(_)) => SignatureState::Absent,
        // These are looked at behind the signature only.
        Err(_) => SignatureState::Valid,
    };
    report.empty = verdict == Err(FooterError::Blank);
    report.problems.extend(verdict.err().map(|error| error.to_string()));
    if let Ok(footer) = Footer::parse(&block) {
        describe(&footer, ring, &mut report);
        // Wherever a signed or unsigned footer points, no more than the slot is read.
        if footer.check_places(place.bytes).is_ok() {
            check_parts(file, place, &footer, verify, &mut report);
        }
    }
    report
}

fn blank(flags: Option<SlotFlags>) -> SlotReport {
    SlotReport {
        priority: flags.map(SlotFlags::priority),
        tries: flags.map(SlotFlags::tries),
        successful: flags.map(SlotFlags::successful),
        empty: false,
        product: None,
        version: None,
        architecture: None,
        minimum_loader: None,
        rollback_index: None,
        build_time: None,
        signature: SignatureState::Absent,
        key_id: None,
        development_key: false,
        parts: Vec::new(),
        verity: None,
        command_line: None,
        problems: Vec::new(),
    }
}

fn describe(footer: &Footer, ring: &KeyRing, report: &mut SlotReport) {
    report.product = Some(footer.product.to_string());
    report.version = Some(footer.version.to_string());
    report.architecture = Some(footer.architecture.to_string());
    report.minimum_loader = Some(footer.minimum_loader);
    report.rollback_index = Some(footer.rollback_index);
    report.build_time = Some(footer.build_time);
    report.key_id = Some(hex(&footer.key_id.0));
    report.development_key = ring.development == Some(footer.key_id.0);
    report.parts = footer
        .parts
        .named()
        .map(|(name, part)| PartReport {
            name,
            offset: part.offset,
            length: part.length,
            sha256: hex(&part.sha256),
            verified: None,
        })
        .to_vec();
    report.verity = Some(VerityReport {
        root_hash: hex(&footer.verity.root_hash),
        salt: hex(&footer.verity.salt),
        data_blocks: footer.verity.data_blocks,
        hash_offset: footer.verity.superblock_offset,
        verified: None,
    });
}

fn check_parts(file: &DiskImage, place: Extent, footer: &Footer, verify: bool, report: &mut SlotReport) {
    let named = footer.parts.named();
    let wanted = |name: &str| verify || !matches!(name, "usr" | "verity");
    let check = |(name, part): (&'static str, Part)| {
        wanted(name).then(|| hash_range(file, place.offset + part.offset, part.length))
    };
    let results: Vec<_> = named.into_par_iter().map(check).collect();
    for (row, (result, (name, part))) in report.parts.iter_mut().zip(results.into_iter().zip(named)) {
        match result {
            None => {}
            Some(Ok(hash)) => {
                row.verified = Some(hash == part.sha256);
                if hash != part.sha256 {
                    report.problems.push(format!("wrong hash of {name}"));
                }
            }
            Some(Err(error)) => report.problems.push(format!("{name} cannot be read: {error}")),
        }
    }
    check_command_line(file, place, footer, report);
    if verify {
        let faults = tree::verify(file, place.offset, &footer.verity, footer.parts.verity.length);
        if let Some(verity) = &mut report.verity {
            verity.verified = Some(faults.is_ok());
        }
        report.problems.extend(faults.err().map(|fault| format!("hash tree: {fault}")));
    }
}

fn check_command_line(file: &DiskImage, place: Extent, footer: &Footer, report: &mut SlotReport) {
    let part = footer.parts.command_line;
    let mut bytes = vec![0; usize::try_from(part.length.min(LONGEST_COMMAND_LINE)).unwrap_or(0)];
    if part.length > LONGEST_COMMAND_LINE {
        report
            .problems
            .push(format!("command line of {} bytes; Linux takes {LONGEST_COMMAND_LINE}", part.length));
    }
    if file.read_exact_at(&mut bytes, place.offset + part.offset).is_err() {
        return;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let expected = verity_argument(&footer.verity);
    if !text.split(' ').any(|word| word == expected) {
        report.problems.push(format!("the command line does not say {expected}"));
    }
    report.command_line = Some(text);
}
