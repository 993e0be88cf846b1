//! Private keys as they lie on disk: encrypted under a passphrase (`docs/formats/key.md`).
//!
//! Without I/O; randomness is an argument.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use update_engine::channel::canonical::canonical;
use update_engine::channel::key::{PrivateKey, PublicKey, hex, unhex};
use update_engine::channel::metadata::Date;
use zeroize::Zeroizing;

/// What the file calls itself.
pub const FORMAT: &str = "ferrite-key";
/// The form that this code reads and writes.
pub const VERSION: u32 = 1;
/// Name of the derivation of the key from the passphrase (RFC 7914).
const SCRYPT: &str = "scrypt";
/// Name of the cipher (draft-irtf-cfrg-xchacha): its nonces are long enough to be random.
const XCHACHA: &str = "xchacha20-poly1305";
/// The most that a file may ask for: 1 GiB. More would be an attack on memory.
const MOST: Cost = Cost { log_n: 20, r: 8, p: 4 };

/// Random bytes that a new file takes: salt and nonce.
pub const RANDOM_LEN: usize = 16 + 24;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not JSON with the fields of a key file.
    #[error("not a key file of Ferrite's")]
    Form(#[source] serde_json::Error),
    /// Of another form.
    #[error("a key file of form {0}, this program reads {VERSION}")]
    Version(u32),
    /// With a derivation or cipher that is not known here, or one that asks for too much.
    #[error("it is encrypted in a way that this program does not know or does not allow: {0}")]
    Cipher(String),
    /// A field does not have the hexadecimal digits that it must have.
    #[error("`{0}` is damaged")]
    Damaged(&'static str),
    /// The passphrase is another one, or the file was changed.
    #[error("the passphrase is wrong, or the file was changed")]
    Passphrase,
    /// The name is none.
    #[error("{0:?} is no name of a key: lower-case letters, digits, `.`, `_` and `-`, at most 64")]
    Name(String),
}

/// scrypt's parameters: what each guess at a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Binary logarithm of N.
    log_n: u8,
    r: u32,
    p: u32,
}

impl Cost {
    /// 64 MiB and about a fifth of a second.
    pub const STANDARD: Self = Self { log_n: 16, r: 8, p: 1 };
    /// Next to nothing, for tests alone.
    #[cfg(test)]
    pub const CHEAP: Self = Self { log_n: 4, r: 8, p: 1 };
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kdf {
    name: String,
    #[serde(flatten)]
    cost: Cost,
    salt: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cipher {
    name: String,
    nonce: String,
}

/// A key file. Everything but the secret can be read without the passphrase, and is authenticated with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    format: String,
    version: u32,
    name: String,
    created: Date,
    public: String,
    kdf: Kdf,
    cipher: Cipher,
    /// Encrypted; the tag is its last 16 bytes.
    secret: String,
}

impl KeyFile {
    /// Encrypts a key.
    ///
    /// # Errors
    /// The name is none.
    pub fn seal(
        cost: Cost,
        name: &str,
        seed: &[u8; 32],
        created: Date,
        passphrase: &str,
        random: &[u8; RANDOM_LEN],
    ) -> Result<Self, KeyFileError> {
        check_name(name)?;
        let (salt, nonce) = random.split_at(16);
        let mut file = Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            name: name.to_owned(),
            created,
            public: hex(&PrivateKey::from_seed(seed).public().to_bytes()),
            kdf: Kdf { name: SCRYPT.to_owned(), cost, salt: hex(salt) },
            cipher: Cipher { name: XCHACHA.to_owned(), nonce: hex(nonce) },
            secret: String::new(),
        };
        let cipher = file.cipher(passphrase)?;
        let payload = Payload { msg: seed, aad: &file.header()? };
        // It fails for messages of 256 GiB only.
        let secret = cipher.encrypt(&file.nonce()?, payload).map_err(|_| KeyFileError::Passphrase)?;
        file.secret = hex(&secret);
        Ok(file)
    }

    /// Reads a key file, without decrypting it.
    ///
    /// # Errors
    /// It is none, or of an unknown form.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        let value: Value = serde_json::from_slice(bytes).map_err(KeyFileError::Form)?;
        let version = value.get("version").and_then(Value::as_u64);
        if value.get("format").and_then(Value::as_str) == Some(FORMAT)
            && let Some(version) = version.and_then(|version| u32::try_from(version).ok())
            && version != VERSION
        {
            return Err(KeyFileError::Version(version));
        }
        let file: Self = serde_json::from_value(value).map_err(KeyFileError::Form)?;
        if file.format != FORMAT {
            return Err(KeyFileError::Damaged("format"));
        }
        check_name(&file.name)?;
        file.public_key()?;
        Ok(file)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and whole numbers only, which always have a JSON form.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was made.
    pub fn created(&self) -> Date {
        self.created
    }

    /// The public half. Not proven to be of the secret before [`open`](Self::open).
    ///
    /// # Errors
    /// It is damaged.
    pub fn public_key(&self) -> Result<PublicKey, KeyFileError> {
        unhex(&self.public).and_then(PublicKey::from_bytes).ok_or(KeyFileError::Damaged("public"))
    }

    /// Decrypts the key's 32 secret bytes.
    ///
    /// # Errors
    /// The passphrase is wrong, or something in the file was changed.
    pub fn open(&self, passphrase: &str) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        let secret: [u8; 48] = unhex(&self.secret).ok_or(KeyFileError::Damaged("secret"))?;
        let payload = Payload { msg: &secret, aad: &self.header()? };
        let cipher = self.cipher(passphrase)?;
        let seed = cipher.decrypt(&self.nonce()?, payload).map_err(|_| KeyFileError::Passphrase)?;
        let seed = Zeroizing::new(seed);
        let seed: [u8; 32] = seed.as_slice().try_into().map_err(|_| KeyFileError::Damaged("secret"))?;
        Ok(Zeroizing::new(seed))
    }

    /// What is authenticated with the secret: all other fields, in their canonical form.
    fn header(&self) -> Result<Vec<u8>, KeyFileError> {
        let header = Self { secret: String::new(), ..self.clone() };
        let header = serde_json::to_value(header).map_err(KeyFileError::Form)?;
        canonical(&header).map_err(|_| KeyFileError::Damaged("kdf"))
    }

    fn nonce(&self) -> Result<XNonce, KeyFileError> {
        let nonce: [u8; 24] = unhex(&self.cipher.nonce).ok_or(KeyFileError::Damaged("nonce"))?;
        Ok(XNonce::from(nonce))
    }

    fn cipher(&self, passphrase: &str) -> Result<XChaCha20Poly1305, KeyFileError> {
        if self.cipher.name != XCHACHA {
            return Err(KeyFileError::Cipher(self.cipher.name.clone()));
        }
        let cost = self.kdf.cost;
        let allowed = (1..=MOST.log_n).contains(&cost.log_n) && cost.r <= MOST.r && cost.p <= MOST.p;
        let refused = || KeyFileError::Cipher(format!("{} with {cost:?}", self.kdf.name));
        if self.kdf.name != SCRYPT || !allowed {
            return Err(refused());
        }
        let salt: [u8; 16] = unhex(&self.kdf.salt).ok_or(KeyFileError::Damaged("salt"))?;
        let params = scrypt::Params::new(cost.log_n, cost.r, cost.p).map_err(|_| refused())?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(passphrase.as_bytes(), &salt, &params, key.as_mut_slice()).map_err(|_| refused())?;
        Ok(XChaCha20Poly1305::new(&Key::from(*key)))
    }
}

/// Checks the rule for names, which become names of files.
///
/// # Errors
/// The rule is broken.
pub fn check_name(name: &str) -> Result<(), KeyFileError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if first && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(KeyFileError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed() -> KeyFile {
        let created = Date::from_unix(1_800_000_000).unwrap();
        KeyFile::seal(Cost::CHEAP, "root-1", &[7; 32], created, "correct horse", &[3; RANDOM_LEN]).unwrap()
    }

    #[test]
    fn a_key_comes_back_with_its_passphrase_and_not_without() {
        let file = KeyFile::parse(&sealed().to_bytes()).unwrap();
        assert_eq!(file, sealed());
        assert_eq!(*file.open("correct horse").unwrap(), [7; 32]);
        assert_eq!(file.public_key().unwrap(), PrivateKey::from_seed(&[7; 32]).public());
        for wrong in ["", "correct horse ", "Correct horse"] {
            assert!(matches!(file.open(wrong), Err(KeyFileError::Passphrase)), "{wrong:?}");
        }
        let text = String::from_utf8(file.to_bytes()).unwrap();
        assert!(!text.contains(&hex(&[7; 32])), "the secret is in the file");
    }

    #[test]
    fn the_cost_of_a_guess_is_what_it_should_be() {
        let created = Date::from_unix(1_800_000_000).unwrap();
        let file = KeyFile::seal(Cost::STANDARD, "a", &[7; 32], created, "p", &[3; RANDOM_LEN]).unwrap();
        assert_eq!(file.kdf.cost, Cost { log_n: 16, r: 8, p: 1 });
        assert_eq!(*file.open("p").unwrap(), [7; 32]);
    }

    #[test]
    fn no_field_can_be_changed() {
        // A public half that is swapped would make people trust another key than the one they have.
        let changes: [fn(&mut KeyFile); 6] = [
            |file| file.name = "root-2".to_owned(),
            |file| file.public = hex(&PrivateKey::from_seed(&[8; 32]).public().to_bytes()),
            |file| file.created = Date::from_unix(1).unwrap(),
            |file| file.cipher.nonce = hex(&[4; 24]),
            |file| file.kdf.salt = hex(&[4; 16]),
            |file| file.secret.replace_range(0..1, if file.secret.starts_with('0') { "1" } else { "0" }),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut file = sealed();
            change(&mut file);
            assert!(matches!(file.open("correct horse"), Err(KeyFileError::Passphrase)), "change {number}");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_all_the_memory() {
        for cost in [
            Cost { log_n: 40, ..Cost::CHEAP },
            Cost { r: 9, ..Cost::CHEAP },
            Cost { p: 5, ..Cost::CHEAP },
            Cost { log_n: 0, ..Cost::CHEAP },
        ] {
            let mut file = sealed();
            file.kdf.cost = cost;
            assert!(matches!(file.open("x"), Err(KeyFileError::Cipher(_))), "{cost:?}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused_with_its_reason() {
        assert!(matches!(KeyFile::parse(b"-----BEGIN PRIVATE KEY-----"), Err(KeyFileError::Form(_))));
        let mut newer: Value = serde_json::from_slice(&sealed().to_bytes()).unwrap();
        newer["version"] = 2.into();
        assert!(matches!(KeyFile::parse(newer.to_string().as_bytes()), Err(KeyFileError::Version(2))));
        for name in ["", "../x", "A", "a b", "-a", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeyFile::parse(&bytes);
        }
    }
}
