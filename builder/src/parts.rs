//! Results that are dear to make, kept in the cache folder by a digest of everything that they are made from.
//!
//! A part is never more than a saving: one that is missing, damaged or cannot be written means that the work is done again.
//!
//! ```text
//! parts/ab/abcd...    16 bytes magic, SHA-256 of what follows, the part
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use debian::cache::Cache;
use debian::temporary::Temporary;
use sha2::{Digest as _, Sha256};

use crate::signing::hex;

/// Its number changes with the form of the file.
const MAGIC: &[u8; 16] = b"FERRITE-PART-1\0\0";
const DIGEST_BYTES: usize = 32;
/// When the parts come to more than this, those that were not used for longest go: far above what one recipe needs (about 10 MB).
const MOST_BYTES: u64 = 512 << 20;
/// Parts read more recently than this are not marked as used again.
const MARK_AFTER: Duration = Duration::from_secs(3600);

/// What decides about a part: the digest of its inputs.
#[derive(Debug, Clone)]
pub struct Key(Sha256);

impl Key {
    /// A key for parts of one kind. `kind` also names the form of the part's bytes: it changes with it.
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).with(kind.as_bytes())
    }

    /// The key with one more input. Inputs are told apart by their lengths.
    #[must_use]
    pub fn with(mut self, input: &[u8]) -> Self {
        self.add(input);
        self
    }

    /// Adds one more input.
    pub fn add(&mut self, input: &[u8]) {
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
    }

    /// The digest of all inputs so far.
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        self.0.clone().finalize().into()
    }
}

/// The parts of a cache folder.
#[derive(Debug, Clone)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// The parts in this cache.
    pub fn of(cache: &Cache) -> Self {
        Self { folder: cache.root().join("parts") }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name = hex(&key.digest());
        self.folder.join(name.get(..2).unwrap_or_default()).join(&name)
    }

    /// The part with this key, if it is there and whole. One that is damaged is removed.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let bytes = fs::read(&path).ok()?;
        let Some(part) = unwrap(&bytes) else {
            // A part that cannot be removed is overwritten by the one that is made in its place.
            let _ = fs::remove_file(&path);
            return None;
        };
        mark_used(&path);
        Some(part.to_vec())
    }

    /// Keeps a part.
    ///
    /// # Errors
    /// The cache cannot be written; the part is not kept then.
    pub fn put(&self, key: &Key, part: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(part).into();
        let name = format!("tmp-{}-{:?}", std::process::id(), std::thread::current().id());
        let temporary = Temporary::new(path.with_extension(name));
        let written = fs::write(temporary.path(), [MAGIC.as_slice(), &digest, part].concat())
            .and_then(|()| temporary.publish(&path));
        self.make_room(MOST_BYTES);
        written
    }

    /// Removes the parts that were not used for longest until the rest has at most `most` bytes. Nothing depends on it, so errors
    /// do not matter.
    fn make_room(&self, most: u64) {
        let mut all = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if let Ok(metadata) = file.metadata() {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    all.push((used, metadata.len(), file.path()));
                }
            }
        }
        all.sort();
        let mut bytes: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in all {
            if bytes <= most {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= size;
        }
    }
}

/// The part in a file of the cache.
fn unwrap(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, part) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST_BYTES)?;
    (Sha256::digest(part).as_slice() == digest).then_some(part)
}

/// Notes that a part was used; without it, it merely goes earlier.
fn mark_used(path: &Path) {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|used| used.elapsed());
    if age.is_ok_and(|age| age.unwrap_or_default() > MARK_AFTER) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> (tempfile::TempDir, Parts) {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::of(&Cache::at(folder.path()));
        (folder, parts)
    }

    #[test]
    fn keys_tell_inputs_apart() {
        let keys = [
            Key::new("a"),
            Key::new("a").with(b""),
            Key::new("a").with(b"bc"),
            Key::new("a").with(b"b").with(b"c"),
            Key::new("ab").with(b"c"),
        ];
        let mut digests: Vec<_> = keys.iter().map(Key::digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), keys.len());
    }

    #[test]
    fn a_part_comes_back_until_it_is_damaged() {
        let (_folder, parts) = parts();
        let key = Key::new("test").with(b"1");
        assert_eq!(parts.get(&key), None);
        parts.put(&key, b"content").unwrap();
        assert_eq!(parts.get(&key).as_deref(), Some(&b"content"[..]));
        assert_eq!(parts.get(&Key::new("test").with(b"2")), None);
        for (at, byte) in [(0, b'X'), (20, 0), (50, b'!')] {
            parts.put(&key, b"content").unwrap();
            let mut bytes = fs::read(parts.path(&key)).unwrap();
            bytes[at] ^= byte | 1;
            fs::write(parts.path(&key), bytes).unwrap();
            assert_eq!(parts.get(&key), None, "byte {at}");
            assert!(!parts.path(&key).exists());
        }
        fs::create_dir_all(parts.path(&key).parent().unwrap()).unwrap();
        fs::write(parts.path(&key), "short").unwrap();
        assert_eq!(parts.get(&key), None);
    }

    #[test]
    fn the_parts_that_were_not_used_for_longest_go_first() {
        let (_folder, parts) = parts();
        let keys: Vec<_> = (0..4u8).map(|number| Key::new("test").with(&[number])).collect();
        for (age, key) in keys.iter().enumerate() {
            parts.put(key, &[0; 100]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(10_000 * (age as u64 + 1));
            File::options().append(true).open(parts.path(key)).unwrap().set_modified(used).unwrap();
        }
        // Reading the oldest makes it the youngest.
        assert!(parts.get(&keys[3]).is_some());
        parts.make_room(2 * (100 + 48));
        let kept: Vec<_> = keys.iter().map(|key| parts.get(key).is_some()).collect();
        assert_eq!(kept, [true, false, false, true]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_keeps_nothing_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("parts"), "a file").unwrap();
        let parts = Parts::of(&Cache::at(folder.path()));
        assert!(parts.put(&Key::new("test"), b"x").is_err());
        assert_eq!(parts.get(&Key::new("test")), None);
    }
}
