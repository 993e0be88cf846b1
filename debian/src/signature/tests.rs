use super::*;
use crate::testing::{Key, KeySpec, days, noon};
use proptest::prelude::*;

fn refusals(keyring: &Keyring, file: &str) -> Vec<Refusal> {
    match keyring.verify(file.as_bytes(), noon()) {
        Err(SignatureError::Untrusted(verdicts)) => verdicts.into_iter().map(|v| v.refusal).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn debians_keys_are_the_pinned_ones_and_can_sign() {
    let keyring = Keyring::debian().unwrap();
    assert_eq!(keyring.keys.len(), DEBIAN_KEYS.len());
    for key in &keyring.keys {
        // A time at which all of them are valid.
        assert_eq!(check_primary(key, true, noon()), Ok(()), "{}", key.fingerprint());
        for subkey in &key.public_subkeys {
            assert_eq!(check_subkey(key, subkey, noon()), Ok(()), "{}", subkey.key.fingerprint());
        }
        // None of them lives longer than ten years.
        assert_eq!(
            check_primary(key, true, noon() + days(3650)),
            Err(Refusal::KeyExpired),
            "{}",
            key.fingerprint()
        );
    }
}

#[test]
fn a_key_with_another_fingerprint_is_refused() {
    let (fingerprint, armour) = Key::new().armoured();
    let other = Key::new().armoured().0;
    assert!(matches!(Keyring::pinned(&[(&other, &armour)]), Err(KeyError::Fingerprint { .. })));
    assert!(matches!(Keyring::pinned(&[(&fingerprint, "nonsense")]), Err(KeyError::Parse { .. })));
}

#[test]
fn a_signed_text_is_returned_without_its_armour() {
    for subkey in [false, true] {
        let key = Key::with(&KeySpec { subkey, ..KeySpec::default() });
        let verified =
            key.keyring().verify(key.sign("Suite: x\n- dash\n\nend\n").as_bytes(), noon()).unwrap();
        assert_eq!(verified.text.trim_end(), "Suite: x\n- dash\n\nend");
        assert_eq!(verified.signer, key.armoured().0);
    }
}

#[test]
fn every_changed_byte_of_text_or_signature_is_noticed() {
    let key = Key::new();
    let file = key.sign("Suite: x\nDate: y\n");
    let keyring = key.keyring();
    for at in 0..file.len() {
        let mut bytes = file.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        if let Ok(verified) = keyring.verify(&bytes, noon()) {
            // Bytes that nobody signs (armour headers, checksum) may change; the text must not.
            assert_eq!(verified.text.trim_end(), "Suite: x\nDate: y", "byte {at}");
        }
    }
    assert_eq!(refusals(&keyring, &file.replace("Suite: x", "Suite: z")), [Refusal::Mismatch]);
}

#[test]
fn text_before_or_behind_the_signed_part_is_not_used() {
    let key = Key::new();
    let file = key.sign("Suite: x\n");
    for forged in [format!("Suite: evil\n{file}"), format!("{file}Suite: evil\n")] {
        if let Ok(verified) = key.keyring().verify(forged.as_bytes(), noon()) {
            assert!(!verified.text.contains("evil"));
        }
    }
}

#[test]
fn signers_that_are_not_pinned_do_not_count() {
    let file = Key::new().sign("x\n");
    assert_eq!(refusals(&Key::new().keyring(), &file), [Refusal::UnknownKey]);
    let (fingerprint, armour) = Key::new().armoured();
    let empty = Keyring::pinned(&[]).unwrap();
    assert_eq!(refusals(&empty, &file), [Refusal::UnknownKey]);
    assert!(Keyring::pinned(&[(&fingerprint, &armour)]).is_ok());
}

#[test]
fn keys_that_had_expired_when_they_signed_do_not_count() {
    let key = Key::with(&KeySpec { life: Some(days(50)), ..KeySpec::default() });
    assert_eq!(refusals(&key.keyring(), &key.sign("x\n")), [Refusal::KeyExpired]);
    let in_time = key.sign_at("x\n", noon() - days(60), HashAlgorithm::Sha256);
    assert!(key.keyring().verify(in_time.as_bytes(), noon()).is_ok(), "it signed while it was valid");
}

#[test]
fn signatures_before_the_key_or_from_the_future_do_not_count() {
    let key = Key::new();
    let early = key.sign_at("x\n", noon() - days(200), HashAlgorithm::Sha256);
    assert_eq!(refusals(&key.keyring(), &early), [Refusal::NotForSigning], "no self-signature existed then");
    let late = key.sign_at("x\n", noon() + days(3), HashAlgorithm::Sha256);
    assert_eq!(refusals(&key.keyring(), &late), [Refusal::SignatureExpired]);
}

#[test]
fn keys_that_are_not_meant_for_signing_do_not_count() {
    let key = Key::with(&KeySpec { can_sign: false, ..KeySpec::default() });
    assert_eq!(refusals(&key.keyring(), &key.sign("x\n")), [Refusal::NotForSigning]);
}

#[test]
fn a_subkey_that_the_primary_key_did_not_bind_does_not_count() {
    let spec = KeySpec { subkey: true, ..KeySpec::default() };
    let (key, mut thief) = (Key::with(&spec), Key::with(&spec));
    // The thief's subkey under the victim's primary key, with the thief's own binding.
    std::mem::swap(&mut thief.secret.details, &mut Key::with(&spec).secret.details);
    let mut forged = key.public();
    forged.public_subkeys = thief.public().public_subkeys;
    let keyring = Keyring { keys: vec![forged] };
    assert_eq!(refusals(&keyring, &thief.sign("x\n")), [Refusal::NotForSigning]);
}

#[test]
fn weak_hashes_do_not_count() {
    let key = Key::new();
    // `pgp` makes no weak signature with such a key: a good one is changed to claim one.
    let file = key.sign("x\n");
    let (message, _) = CleartextSignedMessage::from_string(&file).unwrap();
    for (hash, strong_enough) in
        [(HashAlgorithm::Sha1, false), (HashAlgorithm::Sha224, false), (HashAlgorithm::Sha256, true)]
    {
        let mut config = message.signatures()[0].config().unwrap().clone();
        config.hash_alg = hash;
        let bytes = message.signatures()[0].signature().unwrap().clone();
        let weak = Signature::from_config(config, [0, 0], bytes).unwrap();
        let verdict = check_against(&key.public(), &weak, b"x\r\n", noon());
        assert_eq!(verdict, Err(if strong_enough { Refusal::Mismatch } else { Refusal::WeakHash }));
    }
    let file = key.sign_at("x\n", noon(), HashAlgorithm::Sha512);
    assert!(key.keyring().verify(file.as_bytes(), noon()).is_ok());
}

#[test]
fn files_without_a_signature_are_refused() {
    let keyring = Key::new().keyring();
    for file in ["", "Suite: x\n", "-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n"] {
        assert!(
            matches!(keyring.verify(file.as_bytes(), noon()), Err(SignatureError::Format(_))),
            "{file:?}"
        );
    }
    assert!(matches!(keyring.verify(&[0xff, 0xfe], noon()), Err(SignatureError::Utf8)));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[ -~\n]{0,100}") {
        let keyring = Keyring { keys: Vec::new() };
        let _ = keyring.verify(&bytes, noon());
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}\n-----BEGIN PGP SIGNATURE-----\n\n{text}\n-----END PGP SIGNATURE-----\n"
        );
        let _ = keyring.verify(signed.as_bytes(), noon());
    }
}
