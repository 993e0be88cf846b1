//! Signing keys: files in a folder, encrypted, and where their passphrases come from.

pub mod file;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use update_engine::channel::key::{PrivateKey, PublicKey};
use update_engine::channel::metadata::Date;
use zeroize::Zeroizing;

use self::file::{Cost, KeyFile, KeyFileError, RANDOM_LEN};

/// Ending of key files.
const ENDING: &str = "key";
/// Key files are a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot {does} {}", path.display())]
    Io {
        /// `read`, `write`...
        does: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no key.
    #[error("cannot use the key {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// There is a key of that name.
    #[error("there is a key {} already", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// There is no key of that name.
    #[error("there is no key {name:?} in {}", folder.display())]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[source] io::Error),
    /// Nobody said the passphrase.
    #[error("cannot get the passphrase of the key {name:?}")]
    Passphrase {
        /// The key.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Where passphrases come from.
pub trait Passphrases {
    /// The passphrase of an existing key.
    ///
    /// # Errors
    /// There is none to be had.
    fn of(&self, name: &str) -> io::Result<Zeroizing<String>>;

    /// The passphrase for a new key.
    ///
    /// # Errors
    /// There is none to be had, or it was typed differently the second time.
    fn for_new(&self, name: &str) -> io::Result<Zeroizing<String>>;
}

/// A folder of key files.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    path: PathBuf,
    cost: Cost,
}

impl KeyFolder {
    /// Nothing is looked at yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, cost: Cost::STANDARD }
    }

    /// Whose new keys are cheap to guess, for tests that make many.
    #[cfg(test)]
    pub fn cheap(path: PathBuf) -> Self {
        Self { path, cost: Cost::CHEAP }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys, in the order of their names. A folder that is not there has none.
    ///
    /// # Errors
    /// The folder or a file in it cannot be read; a file that ends in `.key` is no key.
    pub fn list(&self) -> Result<Vec<KeyFile>, KeysError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(self.io("read"))?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry.map_err(self.io("read"))?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                keys.push(read(&path)?);
            }
        }
        keys.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(keys)
    }

    /// The key of a name.
    ///
    /// # Errors
    /// There is none, or its file cannot be read.
    pub fn get(&self, name: &str) -> Result<KeyFile, KeysError> {
        let path = self.file_of(name)?;
        match read(&path) {
            Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(KeysError::Unknown { name: name.to_owned(), folder: self.path.clone() })
            }
            result => result,
        }
    }

    /// Makes a key and its file, which only the user can read.
    ///
    /// # Errors
    /// There is one of that name, no passphrase, or the folder cannot be written.
    pub fn create(&self, name: &str, now: Date, passphrases: &dyn Passphrases) -> Result<KeyFile, KeysError> {
        let path = self.file_of(name)?;
        if path.symlink_metadata().is_ok() {
            return Err(KeysError::Exists { path });
        }
        let mut seed = Zeroizing::new([0; 32]);
        random(seed.as_mut_slice())?;
        let passphrase = passphrases
            .for_new(name)
            .map_err(|source| KeysError::Passphrase { name: name.to_owned(), source })?;
        let file = self.seal(name, &seed, now, &passphrase)?;
        self.write(&path, &file, true)?;
        Ok(file)
    }

    /// Encrypts a key under another passphrase.
    ///
    /// # Errors
    /// The old passphrase is wrong, or the file cannot be written.
    pub fn change_passphrase(
        &self,
        name: &str,
        old: &dyn Passphrases,
        new: &dyn Passphrases,
    ) -> Result<(), KeysError> {
        let file = self.get(name)?;
        let seed = self.secret(&file, old)?;
        let passphrase =
            new.for_new(name).map_err(|source| KeysError::Passphrase { name: name.to_owned(), source })?;
        let file = self.seal(name, &seed, file.created(), &passphrase)?;
        self.write(&self.file_of(name)?, &file, false)
    }

    /// Decrypts those of the keys here whose public half is wanted. Passphrases of others are not asked for.
    ///
    /// # Errors
    /// A passphrase is wrong, or the folder cannot be read.
    pub fn unlock(
        &self,
        passphrases: &dyn Passphrases,
        wanted: &dyn Fn(PublicKey) -> bool,
    ) -> Result<Vec<PrivateKey>, KeysError> {
        let mut keys = Vec::new();
        for file in self.list()? {
            let public = file.public_key().map_err(|source| self.file_error(&file, source))?;
            if wanted(public) {
                let seed = self.secret(&file, passphrases)?;
                keys.push(PrivateKey::from_seed(&seed));
            }
        }
        Ok(keys)
    }

    /// Decrypts one key's 32 secret bytes.
    ///
    /// # Errors
    /// The passphrase is wrong.
    pub fn secret(
        &self,
        file: &KeyFile,
        passphrases: &dyn Passphrases,
    ) -> Result<Zeroizing<[u8; 32]>, KeysError> {
        let name = file.name().to_owned();
        let passphrase = passphrases.of(&name).map_err(|source| KeysError::Passphrase { name, source })?;
        file.open(&passphrase).map_err(|source| self.file_error(file, source))
    }

    fn seal(
        &self,
        name: &str,
        seed: &[u8; 32],
        created: Date,
        passphrase: &str,
    ) -> Result<KeyFile, KeysError> {
        let mut bytes = [0; RANDOM_LEN];
        random(&mut bytes)?;
        let sealed = KeyFile::seal(self.cost, name, seed, created, passphrase, &bytes);
        sealed.map_err(|source| KeysError::File { path: self.path.join(name), source })
    }

    fn file_of(&self, name: &str) -> Result<PathBuf, KeysError> {
        let path = self.path.join(format!("{name}.{ENDING}"));
        file::check_name(name).map_err(|source| KeysError::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a key file: whole or not at all, since it may be the only copy.
    fn write(&self, path: &Path, file: &KeyFile, new: bool) -> Result<(), KeysError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(self.io("make"))?;
        let failed = |source| KeysError::Io { does: "write", path: path.to_owned(), source };
        let temporary = self.path.join(format!(".{}.{}", file.name(), std::process::id()));
        let result = (|| {
            let mut out =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            out.write_all(&file.to_bytes())?;
            out.sync_all()?;
            // A link refuses to replace: two commands at once do not overwrite each other's key.
            if new {
                fs::hard_link(&temporary, path)?
            } else {
                fs::rename(&temporary, path)?
            }
            File::open(&self.path)?.sync_all()
        })();
        // After a rename it is gone already.
        let _ = fs::remove_file(&temporary);
        match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(KeysError::Exists { path: path.to_owned() })
            }
            result => result.map_err(failed),
        }
    }

    fn io(&self, does: &'static str) -> impl Fn(io::Error) -> KeysError + '_ {
        move |source| KeysError::Io { does, path: self.path.clone(), source }
    }

    fn file_error(&self, file: &KeyFile, source: KeyFileError) -> KeysError {
        KeysError::File { path: self.path.join(format!("{}.{ENDING}", file.name())), source }
    }
}

fn random(bytes: &mut [u8]) -> Result<(), KeysError> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled +=
            getrandom(rest, GetRandomFlags::empty()).map_err(|error| KeysError::Random(error.into()))?;
    }
    Ok(())
}

/// Reads one key file.
///
/// # Errors
/// It cannot be read, or is no key.
pub fn read(path: &Path) -> Result<KeyFile, KeysError> {
    use io::Read as _;
    let failed = |source| KeysError::Io { does: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    KeyFile::parse(&bytes).map_err(|source| KeysError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Fixed(&'static str);

    impl Passphrases for Fixed {
        fn of(&self, _: &str) -> io::Result<Zeroizing<String>> {
            Ok(Zeroizing::new(self.0.to_owned()))
        }

        fn for_new(&self, name: &str) -> io::Result<Zeroizing<String>> {
            self.of(name)
        }
    }

    #[test]
    fn keys_are_made_listed_and_unlocked_and_nobody_else_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::cheap(folder.path().join("keys"));
        assert!(keys.list().unwrap().is_empty());
        let now = Date::from_unix(1_800_000_000).unwrap();
        let made = keys.create("root", now, &Fixed("p")).unwrap();
        assert!(matches!(keys.create("root", now, &Fixed("p")), Err(KeysError::Exists { .. })));
        assert_eq!(keys.list().unwrap(), std::slice::from_ref(&made));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(keys.path()), mode(&keys.path().join("root.key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(keys.path()).unwrap().count(), 1, "nothing is left beside it");
        let public = made.public_key().unwrap();
        let unlocked = keys.unlock(&Fixed("p"), &|key| key == public).unwrap();
        assert_eq!(unlocked[0].public(), public);
        assert!(
            keys.unlock(&Fixed("wrong"), &|_| false).unwrap().is_empty(),
            "no passphrase is needed for nothing"
        );
        assert!(keys.unlock(&Fixed("wrong"), &|_| true).is_err());
        keys.change_passphrase("root", &Fixed("p"), &Fixed("q")).unwrap();
        assert!(keys.unlock(&Fixed("p"), &|_| true).is_err());
        assert_eq!(keys.unlock(&Fixed("q"), &|_| true).unwrap()[0].public(), public);
        assert!(matches!(keys.get("other"), Err(KeysError::Unknown { .. })));
    }
}
