//! Who may sign an archive's `InRelease`, and whether somebody of them did.
//!
//! `pgp` verifies single signatures; everything that makes them mean something is decided here: which keys are
//! trusted, by fingerprint; that the key or subkey was bound, meant for signing, neither expired nor revoked; that
//! the hash is strong; and that only the text under the signature is used afterwards.

use std::fmt;
use std::time::{Duration, SystemTime};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

/// The archive keys of Debian 12 and 13 with the fingerprints of their primary keys.
///
/// Taken with `gpg --export-options export-minimal` from the package `debian-archive-keyring` 2025.1 of trixie
/// (SHA-256 `9ea7778e443144ca490668737a8ab22dd3e748bb99e805e22ec055abeb3c7fac`); the fingerprints are those of
/// <https://ftp-master.debian.org/keys.html>.
const DEBIAN_KEYS: [(&str, &str); 6] = [
    ("04b54c3cdca79751b16bc6b5225629df75b188bd", include_str!("../keys/trixie-automatic.asc")),
    ("5e04a1e3223a19a20706e20f9904613d4cce68c6", include_str!("../keys/trixie-security-automatic.asc")),
    ("41587f7db8c774bccf131416762f67a0b2c39de4", include_str!("../keys/trixie-stable.asc")),
    ("b8b80b5b623eab6ad8775c45b7c5d7d6350947f8", include_str!("../keys/bookworm-automatic.asc")),
    ("05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0", include_str!("../keys/bookworm-security-automatic.asc")),
    ("4d64fec119c2029067d6e791f8d2585b8783d481", include_str!("../keys/bookworm-stable.asc")),
];

/// Keys whose signature makes an `InRelease` trusted.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// A key that cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no OpenPGP key.
    #[error("cannot read the key {expected}")]
    Parse {
        /// The fingerprint that was expected.
        expected: String,
        /// The cause.
        source: Box<pgp::errors::Error>,
    },
    /// The key is another one.
    #[error("the key's fingerprint is {found}, expected {expected}")]
    Fingerprint {
        /// The pinned fingerprint.
        expected: String,
        /// The key's.
        found: String,
    },
}

/// An `InRelease` that nobody trusted has signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Not a clear-signed message.
    #[error("it is not an OpenPGP clear-signed text")]
    Format(#[source] Box<pgp::errors::Error>),
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Utf8,
    /// No signature by a trusted key counts.
    #[error("none of its signatures is good: {}", list(.0))]
    Untrusted(Vec<Verdict>),
}

/// What became of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Fingerprint or key id of the signer, as the signature claims it.
    pub signer: String,
    /// Why it does not count.
    pub refusal: Refusal,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signer is not pinned.
    #[error("not by a trusted key")]
    UnknownKey,
    /// The mathematics say no: text or signature was changed.
    #[error("the signature does not match the text")]
    Mismatch,
    /// MD5, SHA-1, RIPEMD-160, SHA-224.
    #[error("the hash is too weak")]
    WeakHash,
    /// A signature of another kind than on a document.
    #[error("it is no signature of a document")]
    WrongType,
    /// The key was not valid when it signed.
    #[error("the key had expired, or did not exist yet, when it signed")]
    KeyExpired,
    /// The key is revoked.
    #[error("the key is revoked")]
    KeyRevoked,
    /// The signature has an end, and it is over; or it is from the future.
    #[error("the signature has expired or is from the future")]
    SignatureExpired,
    /// The key is not meant for signing, or the subkey is not bound to its primary key.
    #[error("the key is not meant for signing")]
    NotForSigning,
}

fn list(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "there is none".to_owned();
    }
    let shown: Vec<String> = verdicts.iter().map(|v| format!("{}: {}", v.signer, v.refusal)).collect();
    shown.join("; ")
}

/// Text that a trusted key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The signed text, with `\n` line ends: all that may be used of the file.
    pub text: String,
    /// Fingerprint of the primary key of the signer.
    pub signer: String,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.fingerprint().to_string())).finish()
    }
}

/// Signatures may be dated this far ahead of our clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

impl Keyring {
    /// Debian's archive keys.
    ///
    /// # Errors
    /// None that a build which passed its tests can meet.
    pub fn debian() -> Result<Self, KeyError> {
        Self::pinned(&DEBIAN_KEYS)
    }

    /// Keys in ASCII armour, each with the fingerprint (lower-case hex) it must have.
    ///
    /// # Errors
    /// A text that is no key, or another key.
    pub fn pinned(keys: &[(&str, &str)]) -> Result<Self, KeyError> {
        let read = |(expected, armour): &(&str, &str)| {
            let (key, _) = SignedPublicKey::from_string(armour)
                .map_err(|e| KeyError::Parse { expected: (*expected).to_owned(), source: Box::new(e) })?;
            let found = key.fingerprint().to_string();
            if found != *expected {
                return Err(KeyError::Fingerprint { expected: (*expected).to_owned(), found });
            }
            Ok(key)
        };
        Ok(Self { keys: keys.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Verifies a clear-signed file: at least one good signature by a trusted key. Signatures by other keys do not
    /// harm.
    ///
    /// # Errors
    /// A file that is no clear-signed text; no signature that counts, with the reason for each.
    pub fn verify(&self, file: &[u8], now: SystemTime) -> Result<Verified, SignatureError> {
        let file = std::str::from_utf8(file).map_err(|_| SignatureError::Utf8)?;
        let (message, _) = CleartextSignedMessage::from_string(file)
            .map_err(|error| SignatureError::Format(Box::new(error)))?;
        let signed = message.signed_text();
        let mut verdicts = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, signed.as_bytes(), now) {
                Ok(signer) => return Ok(Verified { text: signed.replace("\r\n", "\n"), signer }),
                Err(refusal) => verdicts.push(Verdict { signer: claimed_signer(signature), refusal }),
            }
        }
        Err(SignatureError::Untrusted(verdicts))
    }

    /// Checks one signature against every trusted key; returns the fingerprint of the primary key.
    fn check(&self, signature: &Signature, text: &[u8], now: SystemTime) -> Result<String, Refusal> {
        let mut best = Refusal::UnknownKey;
        for key in &self.keys {
            match check_against(key, signature, text, now) {
                Ok(()) => return Ok(key.fingerprint().to_string()),
                Err(Refusal::UnknownKey) => {}
                Err(refusal) => best = refusal,
            }
        }
        Err(best)
    }
}

/// The signer's name for messages. It is only a claim.
fn claimed_signer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let key_id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint.or_else(key_id).unwrap_or_else(|| "unnamed signer".to_owned())
}

fn is_claimed_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

fn strong(signature: &Signature) -> bool {
    let strong = [
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha384,
        HashAlgorithm::Sha512,
        HashAlgorithm::Sha3_256,
        HashAlgorithm::Sha3_512,
    ];
    signature.hash_alg().is_some_and(|hash| strong.contains(&hash))
}

fn check_against(
    key: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    now: SystemTime,
) -> Result<(), Refusal> {
    let subkey = key.public_subkeys.iter().find(|subkey| is_claimed_by(signature, &subkey.key));
    let by_primary = is_claimed_by(signature, &key.primary_key);
    if subkey.is_none() && !by_primary {
        return Err(Refusal::UnknownKey);
    }
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Err(Refusal::WrongType);
    }
    if !strong(signature) {
        return Err(Refusal::WeakHash);
    }
    let made = check_signature_time(signature, now)?;
    check_primary(key, by_primary, made)?;
    match subkey {
        Some(subkey) if !by_primary => {
            check_subkey(key, subkey, made)?;
            verify_text(signature, &subkey.key, text)
        }
        _ => verify_text(signature, &key.primary_key, text),
    }
}

fn verify_text(signature: &Signature, key: &impl VerifyingKey, text: &[u8]) -> Result<(), Refusal> {
    signature.verify(key, text).map_err(|_| Refusal::Mismatch)
}

/// When the signature was made, if that is a time at which it counts.
fn check_signature_time(signature: &Signature, now: SystemTime) -> Result<SystemTime, Refusal> {
    let made: SystemTime = signature.created().ok_or(Refusal::SignatureExpired)?.into();
    let end = signature.signature_expiration_time().map(Duration::from).filter(|d| !d.is_zero());
    let over = end.is_some_and(|duration| made + duration <= now);
    let early = made.duration_since(now).is_ok_and(|by| by > CLOCK_TOLERANCE);
    if over || early { Err(Refusal::SignatureExpired) } else { Ok(made) }
}

/// Whether a key made at `created`, with the validity that its self-signature gives, was valid at `at`.
fn valid_at(created: SystemTime, binding: &Signature, at: SystemTime) -> bool {
    let life = binding.key_expiration_time().map(Duration::from).filter(|d| !d.is_zero());
    created <= at && life.is_none_or(|life| at < created + life)
}

/// The latest of some self-signatures that existed at `at`.
fn latest<'a>(signatures: impl Iterator<Item = &'a Signature>, at: SystemTime) -> Option<&'a Signature> {
    let made = |s: &Signature| s.created().map(SystemTime::from);
    signatures.filter(|s| made(s).is_some_and(|t| t <= at)).max_by_key(|s| made(s))
}

/// The primary key: not revoked, with a self-signature, valid at the time, and meant for signing when it signed.
fn check_primary(key: &SignedPublicKey, signs: bool, at: SystemTime) -> Result<(), Refusal> {
    let primary = &key.primary_key;
    // A revocation counts whenever it was made: a lost key can sign with any date.
    if key.details.revocation_signatures.iter().any(|s| s.verify_key(primary).is_ok()) {
        return Err(Refusal::KeyRevoked);
    }
    let by_users = key.details.users.iter().flat_map(|user| {
        let of_user = user.signatures.iter().filter(|s| s.is_certification() && strong(s));
        of_user.filter(|s| s.verify_certification(primary, Tag::UserId, &user.id).is_ok())
    });
    let direct = key.details.direct_signatures.iter().filter(|s| strong(s) && s.verify_key(primary).is_ok());
    // As in GnuPG, the signature over the user id says what the key is for and how long. Debian's keys have direct
    // signatures as well, made later and without either (they name who may revoke the key): those may only take away.
    let (by_user, direct) = (latest(by_users, at), latest(direct, at));
    let binding = by_user.or(direct).ok_or(Refusal::NotForSigning)?;
    let created = primary.created_at().into();
    if ![Some(binding), direct].into_iter().flatten().all(|s| valid_at(created, s, at)) {
        return Err(Refusal::KeyExpired);
    }
    if signs && !binding.key_flags().sign() { Err(Refusal::NotForSigning) } else { Ok(()) }
}

/// A subkey: not revoked, bound by the primary key and agreeing to it, valid at the time, meant for signing.
fn check_subkey(
    key: &SignedPublicKey,
    subkey: &pgp::composed::SignedPublicSubKey,
    at: SystemTime,
) -> Result<(), Refusal> {
    let primary = &key.primary_key;
    let bound = |s: &&Signature| s.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of_type = |kind| move |s: &&Signature| s.typ() == Some(kind);
    let mut revocations = subkey.signatures.iter().filter(of_type(SignatureType::SubkeyRevocation));
    if revocations.any(|s| bound(&s)) {
        return Err(Refusal::KeyRevoked);
    }
    let bindings = subkey.signatures.iter().filter(of_type(SignatureType::SubkeyBinding));
    let binding = latest(bindings.filter(|s| strong(s)).filter(bound), at).ok_or(Refusal::NotForSigning)?;
    let back = binding.embedded_signature();
    let agrees =
        back.is_some_and(|s| strong(s) && s.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || !agrees {
        return Err(Refusal::NotForSigning);
    }
    if valid_at(subkey.key.created_at().into(), binding, at) { Ok(()) } else { Err(Refusal::KeyExpired) }
}

#[cfg(test)]
mod tests;
