//! From a suite's name to the verified text of its `Packages` files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{ArchiveError, Config, Suite};
use crate::cache::{io_error, write_atomically};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::http::{Fetcher, Fresh, LazyClient, Wanted};
use crate::index::IndexText;
use crate::progress::{Progress, Unit};
use crate::release::{Release, ReleaseError};

/// Debian's own are about 150 KiB.
const MAX_RELEASE_BYTES: u64 = 16 << 20;
/// Debian's largest `Packages` is about 60 MiB; a signed index that says more is not believed.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// What opening a suite needs.
pub(super) struct Opener<'a> {
    pub config: &'a Config,
    pub progress: &'a dyn Progress,
    pub client: &'a LazyClient,
}

/// The signed indexes of several suites, verified. Use them with the pool that gave them.
#[derive(Debug)]
pub struct Releases(pub(super) Vec<Signed>);

/// The signed index of a suite.
#[derive(Debug)]
pub(super) struct Signed {
    suite: String,
    release: Release,
}

impl Releases {
    /// The suites, in the order of the configuration, and when their signed indexes were made.
    pub fn dates(&self) -> impl Iterator<Item = (&str, SystemTime)> {
        self.0.iter().map(|signed| (signed.suite.as_str(), signed.release.date))
    }

    /// A digest of all that the signed indexes name: equal when every index is the same.
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        for Signed { suite, release } in &self.0 {
            text.push_str(&format!("{suite}\n"));
            let files = release.files.iter();
            text.extend(files.map(|(path, (size, digest))| format!("{digest} {size} {path}\n")));
        }
        Digest::of(text.as_bytes())
    }
}

/// An `InRelease` in the cache.
struct Cached {
    release: Release,
    path: PathBuf,
    /// When a mirror last said that it is current.
    confirmed: Option<SystemTime>,
}

impl Opener<'_> {
    /// The suite's signed index, verified.
    pub fn release_of(&self, suite: &Suite) -> Result<Signed, ArchiveError> {
        let release = self.release(suite, &self.fetcher(suite))?;
        Ok(Signed { suite: suite.name.clone(), release })
    }

    /// The `Packages` files of the suite's components.
    pub fn indexes_of(&self, suite: &Suite, releases: &Releases) -> Result<Vec<IndexText>, ArchiveError> {
        let signed = releases.0.iter().find(|signed| signed.suite == suite.name);
        let Some(Signed { release, .. }) = signed else {
            unreachable!("a pool is used with the releases that it gave")
        };
        let fetcher = self.fetcher(suite);
        suite.components.iter().map(|component| self.packages(suite, release, component, &fetcher)).collect()
    }

    fn fetcher<'b>(&'b self, suite: &'b Suite) -> Fetcher<'b> {
        Fetcher::new(&suite.mirrors, &self.config.patience, self.client, self.progress)
    }

    /// Verified and parsed, of the right suite. Whether it has expired is another question.
    fn check(&self, suite: &Suite, path: &str, bytes: &[u8]) -> Result<Release, ArchiveError> {
        let verified = self.config.keyring.verify(bytes, self.config.now);
        let verified =
            verified.map_err(|source| ArchiveError::Signature { path: path.to_owned(), source })?;
        let release = Release::parse(verified.text.as_bytes());
        let checked = release.and_then(|release| release.check_suite(&suite.name).map(|()| release));
        checked.map_err(|source| ArchiveError::Release { path: path.to_owned(), source })
    }

    /// Checks the time; what has expired is an error, or a note when that is allowed.
    fn check_time(&self, path: &str, release: &Release) -> Result<(), ReleaseError> {
        match release.check_time(self.config.now) {
            Err(error @ ReleaseError::Expired { .. }) if self.config.allow_expired || self.config.offline => {
                self.progress.note(&format!("{path}: {error}; used all the same"));
                Ok(())
            }
            result => result,
        }
    }

    /// Where the `InRelease` of a suite from these mirrors is kept.
    fn cached_path(&self, suite: &Suite) -> PathBuf {
        let key = Digest::of(suite.mirrors.urls().join("\n").as_bytes()).to_string();
        let folder = format!("{}-{}", suite.name.replace('/', "_"), key.get(..16).unwrap_or_default());
        self.config.cache.releases_path().join(folder).join("InRelease")
    }

    /// An `InRelease` of the cache, if there is one and it verifies.
    fn cached(&self, suite: &Suite, path: PathBuf) -> Result<Option<Cached>, ArchiveError> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error).into()),
        };
        let release = self.check(suite, &path.display().to_string(), &bytes)?;
        let confirmed = fs::metadata(&path).and_then(|m| m.modified()).ok();
        Ok(Some(Cached { release, path, confirmed }))
    }

    fn release(&self, suite: &Suite, fetcher: &Fetcher<'_>) -> Result<Release, ArchiveError> {
        if self.config.offline {
            return self.offline_release(suite);
        }
        let path = self.cached_path(suite);
        let known = match self.cached(suite, path.clone()) {
            Ok(known) => known,
            Err(error) => {
                self.progress.note(&format!("{}: {error}; fetching it again", path.display()));
                None
            }
        };
        if let Some(known) = known.as_ref().filter(|k| self.is_recent(k)) {
            return Ok(known.release.clone());
        }
        let since = known.as_ref().map(|k| k.release.date);
        let validator_path = path.with_file_name("last-modified");
        let validator = fs::read_to_string(&validator_path).ok().filter(|_| known.is_some());
        let url_path = format!("dists/{}/InRelease", suite.name);
        let fetched = fetcher.document(&url_path, MAX_RELEASE_BYTES, validator.as_deref(), |bytes| {
            let release = self.check(suite, &url_path, &bytes).map_err(|e| chain(&e))?;
            self.check_time(&url_path, &release).map_err(|e| chain(&e))?;
            if since.is_some_and(|since| release.date < since) {
                return Err("it is older than the one in the cache: the mirror is out of date".to_owned());
            }
            Ok((release, bytes))
        })?;
        match (fetched, known) {
            (Fresh::New { value: (release, bytes), last_modified }, _) => {
                // Without the old validator in between, it never stands beside a file that it does not belong to.
                let _ = fs::remove_file(&validator_path);
                write_atomically(&path, &bytes)?;
                if let Some(last_modified) = last_modified {
                    write_atomically(&validator_path, last_modified.as_bytes())?;
                }
                Ok(release)
            }
            (Fresh::Unchanged, Some(known)) => {
                self.check_time(&url_path, &known.release)
                    .map_err(|source| ArchiveError::Release { path: url_path, source })?;
                self.confirm(&known.path)?;
                Ok(known.release)
            }
            (Fresh::Unchanged, None) => unreachable!("nothing is unchanged when nothing was known"),
        }
    }

    fn is_recent(&self, known: &Cached) -> bool {
        let age = known.confirmed.and_then(|confirmed| self.config.now.duration_since(confirmed).ok());
        age.is_some_and(|age| age < self.config.revalidate_after)
            && known.release.check_time(self.config.now).is_ok()
    }

    /// Notes that a mirror has just said that the file is current.
    fn confirm(&self, path: &Path) -> Result<(), ArchiveError> {
        let touch = fs::File::options().append(true).open(path).and_then(|f| f.set_modified(self.config.now));
        touch.map_err(|error| io_error("touch", path)(error).into())
    }

    /// The one of these mirrors, else the newest one of this suite from any mirror.
    fn offline_release(&self, suite: &Suite) -> Result<Release, ArchiveError> {
        let own = self.cached_path(suite);
        let mut found = self.cached(suite, own)?;
        if found.is_none() {
            let folders = fs::read_dir(self.config.cache.releases_path()).into_iter().flatten().flatten();
            let prefix = format!("{}-", suite.name);
            for folder in folders {
                let name = folder.file_name();
                let of_suite =
                    name.to_str().and_then(|n| n.strip_prefix(&prefix)).is_some_and(|key| key.len() == 16);
                let other =
                    if of_suite { self.cached(suite, folder.path().join("InRelease"))? } else { None };
                let newer = |a: &Cached, b: &Cached| a.release.date > b.release.date;
                found = match (found, other) {
                    (Some(a), Some(b)) => Some(if newer(&b, &a) { b } else { a }),
                    (a, b) => a.or(b),
                };
            }
        }
        let Some(found) = found else {
            let missing = vec![format!("the signed index of suite {}", suite.name)];
            return Err(ArchiveError::Offline { cache: self.config.cache.root().to_owned(), missing });
        };
        let path = found.path.display().to_string();
        self.check_time(&path, &found.release).map_err(|source| ArchiveError::Release { path, source })?;
        Ok(found.release)
    }

    /// The text of a component's `Packages`: from the cache, else fetched in the best compression there is.
    fn packages(
        &self,
        suite: &Suite,
        release: &Release,
        component: &str,
        fetcher: &Fetcher<'_>,
    ) -> Result<IndexText, ArchiveError> {
        let plain = format!("{component}/binary-{}/Packages", self.config.architecture);
        let label = format!("dists/{}/{plain}", suite.name);
        let text = |bytes| IndexText {
            suite: suite.name.as_str().into(),
            label: label.clone(),
            text: Arc::new(bytes),
        };
        let plain_digest = release.files.get(&plain).copied();
        if let Some((_, digest)) = plain_digest
            && let Some(bytes) = self.config.cache.read(digest)?
        {
            return Ok(text(bytes));
        }
        let choices = [".xz", ".gz", ""].map(|suffix| format!("{plain}{suffix}"));
        let mut last_error = None;
        for (path, compression) in choices.iter().zip([Compression::Xz, Compression::Gzip, Compression::None])
        {
            let Some((size, digest)) =
                release.files.get(path).copied().filter(|(size, _)| *size <= MAX_INDEX_BYTES)
            else {
                continue;
            };
            match self.fetch_index(suite, release.by_hash, path, size, digest, fetcher) {
                Ok(file) => {
                    let bytes = decompress(&file, compression, path, plain_digest)?;
                    if let Some((_, digest)) = plain_digest {
                        self.config.cache.store(digest, &bytes)?;
                    }
                    return Ok(text(bytes));
                }
                // A mirror may lack one compression; any other trouble is the same with all of them.
                Err(ArchiveError::Fetch(error)) if error.is_absent() => last_error = Some(error.into()),
                Err(error @ ArchiveError::Offline { .. }) => last_error = last_error.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(last_error.unwrap_or(ArchiveError::NoIndex { suite: suite.name.clone(), path: plain }))
    }

    /// By its digest where the archive offers that (the name alone may mean a newer file already), else by its name.
    fn fetch_index(
        &self,
        suite: &Suite,
        by_hash: bool,
        path: &str,
        size: u64,
        digest: Digest,
        fetcher: &Fetcher<'_>,
    ) -> Result<PathBuf, ArchiveError> {
        let cache = &self.config.cache;
        if let Some(file) = cache.object(digest, Some(size))? {
            return Ok(file);
        }
        if self.config.offline {
            let missing = vec![format!("dists/{}/{path}", suite.name)];
            return Err(ArchiveError::Offline { cache: cache.root().to_owned(), missing });
        }
        let task = self.progress.begin(&format!("fetching index of {}", suite.name), size, Unit::Bytes);
        let named = format!("dists/{}/{path}", suite.name);
        let folder = named.rsplit_once('/').map_or("", |(folder, _)| folder);
        let by_hash_path = format!("{folder}/by-hash/SHA256/{digest}");
        let fetch = |path: String| fetcher.file(cache, &Wanted { path, size, sha256: digest }, &*task);
        if !by_hash {
            return Ok(fetch(named)?);
        }
        match fetch(by_hash_path) {
            Ok(file) => Ok(file),
            // A mirror that does not follow by-hash; what matters to the reader is then the file's real name.
            Err(error) if error.is_absent() => Ok(fetch(named)?),
            Err(error) => Err(error.into()),
        }
    }
}

/// Decompresses an index and checks it against what the signed index says of the uncompressed file.
fn decompress(
    file: &Path,
    compression: Compression,
    path: &str,
    plain: Option<(u64, Digest)>,
) -> Result<Vec<u8>, ArchiveError> {
    let bad = |source| ArchiveError::BadIndex { path: path.to_owned(), source };
    let compressed = fs::File::open(file).map_err(io_error("open", file))?;
    let limit = plain.map_or(MAX_INDEX_BYTES, |(size, _)| size);
    let mut bytes = Vec::with_capacity(
        usize::try_from(plain.map_or(0, |(size, _)| size.min(MAX_INDEX_BYTES))).unwrap_or(0),
    );
    let decoder = compression.decoder(std::io::BufReader::new(compressed)).map_err(|e| bad(Some(e)))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, limit + 1), &mut bytes)
        .map_err(|e| bad(Some(e)))?;
    let right = plain.is_none_or(|(size, digest)| bytes.len() as u64 == size && Digest::of(&bytes) == digest);
    if right && bytes.len() as u64 <= limit { Ok(bytes) } else { Err(bad(None)) }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
