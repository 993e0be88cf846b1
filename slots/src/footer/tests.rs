use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;

const SLOT_LEN: u64 = 1 << 20;

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn trusted() -> TrustedKey {
    TrustedKey(signing_key().verifying_key().to_bytes())
}

fn policy(keys: &[TrustedKey]) -> Policy<'_> {
    Policy { keys, product: Some("ferrite"), architecture: "x86_64", loader_version: 1, rollback_floor: 0 }
}

fn part(offset: u64, length: u64) -> Part {
    Part { offset, length, sha256: [3; 32] }
}

fn footer() -> Footer {
    Footer {
        product: Text::new("ferrite").unwrap(),
        version: Text::new("1.2.3").unwrap(),
        architecture: Text::new("x86_64").unwrap(),
        minimum_loader: 1,
        rollback_index: 4,
        build_time: 1_700_000_000,
        verity: VerityInfo { root_hash: [1; 32], salt: [2; 32], data_blocks: 2, superblock_offset: 8192 },
        parts: Parts {
            usr: part(0, 8192),
            verity: part(8192, 8192),
            kernel: part(16384, 5000),
            initramfs: part(24576, 100),
            command_line: part(28672, 20),
        },
        key_id: trusted().id(),
    }
}

fn signed(footer: &Footer) -> [u8; FOOTER_LEN] {
    footer.to_bytes(|bytes| signing_key().sign(bytes).to_bytes())
}

fn verify(footer: &Footer) -> Result<Footer, FooterError> {
    Footer::verify(&signed(footer), SLOT_LEN, &policy(&[trusted()]))
}

#[test]
fn a_signed_footer_verifies_to_what_was_written() {
    assert_eq!(verify(&footer()), Ok(footer()));
}

#[test]
fn each_policy_is_enforced() {
    let keys = [trusted()];
    let block = signed(&footer());
    let cases = [
        (Policy { product: Some("other"), ..policy(&keys) }, "belongs to product ferrite"),
        (Policy { architecture: "aarch64", ..policy(&keys) }, "built for x86_64"),
        (Policy { loader_version: 0, ..policy(&keys) }, "needs loader >= 1, this is 1"),
        (Policy { rollback_floor: 5, ..policy(&keys) }, "rollback index 4 is below the floor 5"),
        (Policy { keys: &[], ..policy(&keys) }, "bad footer: signed by untrusted key"),
    ];
    for (policy, message) in cases {
        let error = Footer::verify(&block, SLOT_LEN, &policy).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn parts_out_of_place_are_refused_although_they_are_signed() {
    let change = |edit: &dyn Fn(&mut Footer)| {
        let mut changed = footer();
        edit(&mut changed);
        verify(&changed)
    };
    assert_eq!(change(&|f| f.parts.kernel.offset += 512), Err(FooterError::Part("kernel")));
    assert_eq!(change(&|f| f.parts.kernel.length = 0), Err(FooterError::Part("kernel")));
    assert_eq!(change(&|f| f.parts.kernel.length = u64::MAX), Err(FooterError::Part("kernel")));
    assert_eq!(change(&|f| f.parts.initramfs.offset = 16384), Err(FooterError::Part("initramfs")));
    assert_eq!(change(&|f| f.parts.command_line.length = SLOT_LEN), Err(FooterError::Part("command line")));
    assert_eq!(change(&|f| f.verity.data_blocks = 3), Err(FooterError::Verity));
    assert_eq!(change(&|f| f.verity.superblock_offset = 0), Err(FooterError::Verity));
}

#[test]
fn blank_foreign_and_newer_footers_are_told_apart() {
    let keys = [trusted()];
    let verify = |block: &[u8; FOOTER_LEN]| Footer::verify(block, SLOT_LEN, &policy(&keys));
    assert_eq!(verify(&[0; FOOTER_LEN]), Err(FooterError::Blank));
    assert_eq!(verify(&[0xff; FOOTER_LEN]), Err(FooterError::Magic));
    let mut newer = signed(&footer());
    newer[8] = 2;
    assert_eq!(verify(&newer), Err(FooterError::Version(2)));
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(byte in 0..FOOTER_LEN, bit in 0u8..8) {
        let mut block = signed(&footer());
        block[byte] ^= 1 << bit;
        prop_assert!(Footer::verify(&block, SLOT_LEN, &policy(&[trusted()])).is_err());
    }

    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), FOOTER_LEN), keep_frame: bool) {
        let mut block: [u8; FOOTER_LEN] = bytes.try_into().unwrap();
        if keep_frame {
            block[..24].copy_from_slice(&signed(&footer())[..24]);
        }
        if let Ok(parsed) = Footer::parse(&block) {
            let _ = parsed.check_places(SLOT_LEN);
        }
    }
}
