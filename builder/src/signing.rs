//! Keys that sign slot images, and the public keys that a loader trusts.
//!
//! Private keys are PKCS #8 PEM, public keys SubjectPublicKeyInfo PEM: what `openssl genpkey -algorithm ed25519` and
//! `openssl pkey -pubout` write. Text before the `-----BEGIN` line is allowed and ignored.

use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::DecodePublicKey;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use update_engine::channel::key::PrivateKey;
pub use update_engine::channel::key::hex;
use update_engine::channel::metadata::{Date, Envelope, MetadataError, Role, Root};

/// The private half of the development key: published with the sources, so it proves nothing about who built.
const DEVELOPMENT_PRIVATE: &str = include_str!("../../keys/development.key");
const DEVELOPMENT_PUBLIC: &str = include_str!("../../keys/development.pub");

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file could not be read.
    #[error("cannot read key file {}", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not an Ed25519 private key.
    #[error("{origin} is not an Ed25519 private key in PKCS #8 PEM form")]
    Private {
        /// File name, or which built-in key.
        origin: String,
        /// What the decoder said.
        source: pkcs8::Error,
    },
    /// The file is not root metadata of a channel.
    #[error("`keys: channel:` is not root metadata of a channel")]
    ChannelRoot(#[source] MetadataError),
    /// The file is not an Ed25519 public key.
    #[error("{origin} is not an Ed25519 public key in PEM form")]
    Public {
        /// File name, or which built-in key.
        origin: String,
        /// What the decoder said.
        source: pkcs8::spki::Error,
    },
}

/// Root metadata of the channel that images of the development key trust: that key signs everything in it. The same bytes always.
///
/// # Errors
/// Only if the key that was compiled in is damaged.
pub fn development_channel_root() -> Result<Vec<u8>, SigningError> {
    let key = SlotSigner::development()?.channel_key();
    // The end of 2099: for a key that protects nothing there is nothing to renew.
    let Some(expires) = Date::from_unix(4_102_444_799) else { unreachable!("metadata knows the year 2099") };
    let mut root = Root::new(expires);
    for role in Role::ALL {
        root.set_role(role, &[key.public()], 1);
    }
    let mut envelope = Envelope::new(&root).map_err(SigningError::ChannelRoot)?;
    envelope.sign(&key);
    Ok(envelope.to_bytes())
}

/// An Ed25519 key that signs slot footers.
pub struct SlotSigner {
    key: SigningKey,
}

impl SlotSigner {
    /// The committed development key (two people with the same inputs get the same bytes).
    ///
    /// # Errors
    /// Only if the key that was compiled in is damaged.
    pub fn development() -> Result<Self, SigningError> {
        Self::from_pem(DEVELOPMENT_PRIVATE, "the built-in development key")
    }

    /// Loads a private key file.
    ///
    /// # Errors
    /// The file cannot be read, or is not an Ed25519 key in PKCS #8 PEM form.
    pub fn load(path: &Path) -> Result<Self, SigningError> {
        let pem = read(path)?;
        Self::from_pem(&pem, &path.display().to_string())
    }

    fn from_pem(pem: &str, origin: &str) -> Result<Self, SigningError> {
        SigningKey::from_pkcs8_pem(pem)
            .map(|key| Self { key })
            .map_err(|source| SigningError::Private { origin: origin.to_owned(), source })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { key: self.key.verifying_key() }
    }

    /// The same key for signing metadata: of the development channel, which has no other.
    pub fn channel_key(&self) -> PrivateKey {
        PrivateKey::from_seed(&self.key.to_bytes())
    }

    /// Signs `message` (Ed25519, deterministic).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SlotSigner {
    /// Shows the public half only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotSigner").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// An Ed25519 public key that a loader may trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
}

impl PublicKey {
    /// The public half of the committed development key.
    ///
    /// # Errors
    /// Only if the key that was compiled in is damaged.
    pub fn development() -> Result<Self, SigningError> {
        Self::from_pem(DEVELOPMENT_PUBLIC, "the built-in development key")
    }

    /// Loads a public key file.
    ///
    /// # Errors
    /// The file cannot be read, or is not an Ed25519 key in SubjectPublicKeyInfo PEM form.
    pub fn load(path: &Path) -> Result<Self, SigningError> {
        let pem = read(path)?;
        Self::from_pem(&pem, &path.display().to_string())
    }

    fn from_pem(pem: &str, origin: &str) -> Result<Self, SigningError> {
        VerifyingKey::from_public_key_pem(pem)
            .map(|key| Self { key })
            .map_err(|source| SigningError::Public { origin: origin.to_owned(), source })
    }

    /// The 32 bytes of the key.
    pub fn to_bytes(self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The key's id: SHA-256 of its 32 bytes.
    pub fn id(self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// True for the committed development key, which everybody can sign with.
    pub fn is_development(self) -> bool {
        Self::development().is_ok_and(|development| development == self)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", hex(&self.to_bytes()))
    }
}

fn read(path: &Path) -> Result<String, SigningError> {
    std::fs::read_to_string(path).map_err(|source| SigningError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signature;

    #[test]
    fn the_two_halves_of_the_development_key_belong_together() {
        let signer = SlotSigner::development().unwrap();
        assert_eq!(signer.public(), PublicKey::development().unwrap());
        assert!(signer.public().is_development());
        let signature = Signature::from_bytes(&signer.sign(b"slot"));
        assert!(signer.public().key.verify_strict(b"slot", &signature).is_ok());
        assert!(signer.public().key.verify_strict(b"slit", &signature).is_err());
    }

    #[test]
    fn a_key_of_one_s_own_is_not_the_development_key() {
        let own = PublicKey { key: SigningKey::from_bytes(&[7; 32]).verifying_key() };
        assert!(!own.is_development());
        assert_eq!(hex(&own.id()).len(), 64);
    }

    #[test]
    fn a_file_that_is_no_key_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.key");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        let error = SlotSigner::load(&path).unwrap_err();
        assert!(error.to_string().contains("wrong.key"), "{error}");
        let error = PublicKey::load(&folder.path().join("absent.pub")).unwrap_err();
        assert!(error.to_string().contains("absent.pub"), "{error}");
    }
}
