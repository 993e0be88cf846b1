//! Slots for tests: small, signed, and with everything that a real one has.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest as _, Sha256};
use slots::{FOOTER_LEN, Footer, KeyId, LOADER_VERSION, Part, Parts, Text, TrustedKey, VerityInfo};

use crate::payload::{BLOCK, BlockHasher, Digest, TreeBuilder};

/// The key that signs test slots.
pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Its public half.
pub(crate) fn trusted_key() -> TrustedKey {
    TrustedKey(signing_key().verifying_key().to_bytes())
}

/// What a test slot is made of.
#[derive(Clone)]
pub(crate) struct TestSlot {
    pub(crate) version: String,
    pub(crate) usr: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
    pub(crate) initramfs: Vec<u8>,
    pub(crate) product: &'static str,
    pub(crate) architecture: &'static str,
    pub(crate) rollback_index: u64,
    pub(crate) minimum_loader: u32,
}

/// Bytes that do not compress to nothing and differ for each `seed`.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
        out.extend_from_slice(b"words");
    }
    out.truncate(bytes);
    out
}

impl TestSlot {
    /// A slot with `blocks` blocks of `/usr`, every seventh one zeros.
    pub(crate) fn new(version: &str, blocks: usize) -> Self {
        let mut usr = Vec::new();
        for block in 0..blocks {
            usr.extend(if block % 7 == 3 { vec![0; BLOCK] } else { noise(block as u64, BLOCK) });
        }
        Self {
            version: version.to_owned(),
            usr,
            kernel: noise(1000, 9000),
            initramfs: noise(2000, 5 * BLOCK),
            product: "ferrite",
            architecture: "x86_64",
            rollback_index: 0,
            minimum_loader: LOADER_VERSION,
        }
    }

    /// The slot image (`.usr`) and its footer.
    pub(crate) fn build(&self) -> (Vec<u8>, Footer) {
        let salt: [u8; 32] = Sha256::digest(b"salt of the product").into();
        let hasher = BlockHasher::new(&salt);
        let digests: Vec<Digest> = self.usr.chunks(BLOCK).map(|block| hasher.digest(block)).collect();
        let mut image = self.usr.clone();
        let superblock = image.len();
        image.extend(noise(77, 100));
        image.resize(superblock + BLOCK, 0);
        let mut builder = TreeBuilder::new(hasher, digests.len() as u64);
        for digest in &digests {
            let mut emit = |block: u64, bytes: &[u8; BLOCK]| {
                let at = superblock + BLOCK * (1 + block as usize);
                image.resize(image.len().max(at + BLOCK), 0);
                image[at..at + BLOCK].copy_from_slice(bytes);
                Ok::<(), ()>(())
            };
            builder.push(digest, &mut emit).unwrap();
        }
        let root_hash = builder.root().unwrap();
        let part = |image: &[u8], from: usize, to: usize| Part {
            offset: from as u64,
            length: (to - from) as u64,
            sha256: Sha256::digest(&image[from..to]).into(),
        };
        let usr = part(&image, 0, superblock);
        let verity = part(&image, superblock, image.len());
        let mut more = Vec::new();
        let command_line = format!("ferrite.image=ferrite,{}", self.version);
        for bytes in [&self.kernel[..], &self.initramfs, command_line.as_bytes()] {
            let from = image.len();
            image.extend_from_slice(bytes);
            more.push(part(&image, from, image.len()));
            image.resize(image.len().next_multiple_of(BLOCK), 0);
        }
        let footer = Footer {
            product: Text::new(self.product).unwrap(),
            version: Text::new(&self.version).unwrap(),
            architecture: Text::new(self.architecture).unwrap(),
            minimum_loader: self.minimum_loader,
            rollback_index: self.rollback_index,
            build_time: 1_700_000_000,
            verity: VerityInfo {
                root_hash,
                salt,
                data_blocks: digests.len() as u64,
                superblock_offset: superblock as u64,
            },
            parts: Parts { usr, verity, kernel: more[0], initramfs: more[1], command_line: more[2] },
            key_id: KeyId(trusted_key().id().0),
        };
        let bytes: [u8; FOOTER_LEN] = footer.to_bytes(|signed| signing_key().sign(signed).to_bytes());
        image.extend_from_slice(&bytes);
        (image, footer)
    }

    /// The slot image as a file.
    pub(crate) fn file(&self) -> (File, Footer) {
        let (image, footer) = self.build();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&image, 0).unwrap();
        (file, footer)
    }
}

/// A machine without tzdata.
pub struct Utc;

impl image_config::unit::time::TimeZones for Utc {
    fn local(&self) -> image_config::unit::time::TimeZone {
        image_config::unit::time::TimeZone::utc()
    }

    fn named(&self, _: &str) -> Option<image_config::unit::time::TimeZone> {
        None
    }
}
