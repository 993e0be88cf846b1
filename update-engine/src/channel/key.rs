//! Keys of the metadata: Ed25519, named by the SHA-256 of their canonical description (TUF specification 4.2).

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::canonical::canonical;

/// `keytype` and `scheme` of the keys that count here.
pub const ED25519: &str = "ed25519";

/// Name of a key in metadata: 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The id of a key's description: SHA-256 of its canonical form. `None` when that has a fraction in it.
    pub fn of(description: &Value) -> Option<Self> {
        canonical(description).ok().map(|bytes| Self(hex(&Sha256::digest(bytes))))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for tables.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.short())
    }
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From the 32 bytes of the key. `None` if they are no point of the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(&bytes).ok().map(|_| Self(bytes))
    }

    /// The 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The key's description in metadata.
    pub fn description(self) -> Value {
        json!({"keytype": ED25519, "scheme": ED25519, "keyval": {"public": hex(&self.0)}})
    }

    /// The key's name in metadata.
    pub fn id(self) -> KeyId {
        // Its description has texts only, so it has a canonical form.
        KeyId::of(&self.description()).unwrap_or_else(|| KeyId(String::new()))
    }

    /// Whether a signature of `message` is by this key. Strict: no malleable signatures, no weak keys.
    pub fn verifies(self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.0))
    }
}

/// A private key that signs metadata. Its memory is wiped when it goes.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// From the 32 secret bytes (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs (deterministically).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    /// Shows the public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public())
    }
}

/// A key as metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribedKey {
    /// One whose signatures count.
    Ed25519(PublicKey),
    /// Of a type or scheme that is not known here: its signatures never count (TUF specification 4.2).
    Unknown,
}

/// What is wrong with a key's description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an object with `keytype`, `scheme` and `keyval`.
    #[error("key {id} has no `keytype`, `scheme` and `keyval`")]
    Form {
        /// The name that the metadata gives it.
        id: KeyId,
    },
    /// No point of the curve in 64 hexadecimal digits.
    #[error("key {id} is no Ed25519 public key")]
    Public {
        /// The name that the metadata gives it.
        id: KeyId,
    },
    /// The name is not the hash of the description.
    #[error("key {id} has the name of another: by its description it is {computed}")]
    Name {
        /// The name that the metadata gives it.
        id: KeyId,
        /// The name that it has.
        computed: KeyId,
    },
}

impl DescribedKey {
    /// Reads a key's description under the name that metadata gives it.
    ///
    /// # Errors
    /// An Ed25519 key that is malformed, or whose name is not its own.
    pub fn parse(id: &KeyId, description: &Value) -> Result<Self, KeyError> {
        let text = |name: &str| description.get(name).and_then(Value::as_str);
        let (Some(kind), Some(scheme), Some(keyval)) =
            (text("keytype"), text("scheme"), description.get("keyval"))
        else {
            return Err(KeyError::Form { id: id.clone() });
        };
        if (kind, scheme) != (ED25519, ED25519) {
            return Ok(Self::Unknown);
        }
        let public = keyval.get("public").and_then(Value::as_str).and_then(unhex::<32>);
        let public = public.and_then(PublicKey::from_bytes);
        let public = public.ok_or_else(|| KeyError::Public { id: id.clone() })?;
        match KeyId::of(description) {
            Some(computed) if computed != *id => Err(KeyError::Name { id: id.clone(), computed }),
            _ => Ok(Self::Ed25519(public)),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes from lower-case hexadecimal digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_ids_are_those_of_the_specification() {
        // The public key of RFC 8032, 7.1, test 1; the text is what python-securesystemslib hashes.
        let public = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let id = PublicKey::from_bytes(public).unwrap().id();
        let text = concat!(
            r#"{"keytype":"ed25519","keyval":{"public":"#,
            r#""d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},"scheme":"ed25519"}"#
        );
        assert_eq!(id.as_str(), hex(&Sha256::digest(text)));
    }

    #[test]
    fn a_signature_counts_for_its_key_and_its_message() {
        let (key, other) = (PrivateKey::from_seed(&[1; 32]), PrivateKey::from_seed(&[2; 32]));
        let signature = key.sign(b"m");
        assert!(key.public().verifies(b"m", &signature));
        assert!(!key.public().verifies(b"n", &signature));
        assert!(!other.public().verifies(b"m", &signature));
    }

    #[test]
    fn a_weak_key_verifies_nothing() {
        // The neutral element: without strictness one signature fits every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let weak = PublicKey::from_bytes(identity).unwrap();
        assert!(!weak.verifies(b"anything", &signature));
    }

    #[test]
    fn keys_of_other_types_are_known_as_unknown_and_wrong_names_are_refused() {
        let key = PrivateKey::from_seed(&[1; 32]).public();
        let parse = |id: &KeyId, value: Value| DescribedKey::parse(id, &value);
        assert_eq!(parse(&key.id(), key.description()), Ok(DescribedKey::Ed25519(key)));
        let rsa = json!({"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "PEM"}});
        assert_eq!(parse(&key.id(), rsa), Ok(DescribedKey::Unknown));
        let other = PrivateKey::from_seed(&[2; 32]).public();
        assert!(matches!(parse(&other.id(), key.description()), Err(KeyError::Name { .. })));
        let short = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}});
        assert!(matches!(parse(&key.id(), short), Err(KeyError::Public { .. })));
        assert!(matches!(parse(&key.id(), json!(3)), Err(KeyError::Form { .. })));
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_round_trip(bytes: [u8; 8], text in "\\PC{0,20}") {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
            let _ = unhex::<8>(&text);
        }
    }
}
