//! Packages without their compression.
//!
//! `data.tar` is decompressed once into the cache, beside an index of its entries; later builds open ranges of that
//! file. Nothing is extracted: whoever builds an image reads what it needs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ar::{self, ArError, Member};
use crate::cache::{Cache, CacheError, create_parent, io_error, temporary_beside};
use crate::compression::Compression;
use crate::deb822;
use crate::digest::{Digest, Hasher};
use crate::package::{ControlError, Package, StanzaError};
use crate::tarball::{self, Entry, EntryKind, TarError};

/// The control files of a package by name: `control`, `conffiles`, `md5sums`, `postinst`, `triggers`, ...
pub type ControlFiles = BTreeMap<String, Vec<u8>>;

/// A package whose files can be read without decompressing anything.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The package.
    pub package: Arc<Package>,
    /// The uncompressed `data.tar` in the cache; [`EntryKind::File`] has offsets into it.
    pub data: Arc<PathBuf>,
    /// Entries in the order of the archive, without the root folder.
    pub entries: Vec<Entry>,
    /// Control files, for reading: no script of them is ever run.
    pub control: ControlFiles,
}

/// A package that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("cannot unpack package {package} ({})", path.display())]
pub struct UnpackError {
    /// Name and version.
    pub package: String,
    /// The `.deb`, or a file of the cache.
    pub path: PathBuf,
    /// What is wrong.
    pub source: Box<Problem>,
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The outer archive.
    #[error(transparent)]
    Ar(#[from] ArError),
    /// The members are not those of a package.
    #[error("it is no Debian package of format 2: {0}")]
    Format(&'static str),
    /// One of the inner archives.
    #[error("member {member}")]
    Tar {
        /// Its name.
        member: String,
        /// What is wrong.
        source: TarError,
    },
    /// Writing or reading the cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Reading.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// What the package says of itself.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A cached file that is not what it was when it was stored.
    #[error("the cached content of {path:?} has changed; remove the folder of this file and build again")]
    Tampered {
        /// The entry's path.
        path: String,
    },
}

/// How cached content is checked before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integrity {
    /// Every byte is hashed, in parallel.
    #[default]
    Full,
    /// Only the index and the size are checked: for callers that read files through [`Unpacked::read`], which checks
    /// what it returns.
    OnRead,
}

/// Content of `index.bin`, behind [`INDEX_MAGIC`] and the SHA-256 of what follows.
#[derive(Serialize, Deserialize)]
struct Stored {
    data_bytes: u64,
    entries: Vec<Entry>,
    control: ControlFiles,
}

/// Its number changes with the format or with the rules for entries: older folders are then made anew.
const INDEX_MAGIC: &[u8; 16] = b"FERRITE-UNPACK-1";
/// Largest control archive and largest single control file.
const MAX_CONTROL_BYTES: u64 = 64 << 20;
/// Largest data archive. The largest package of trixie unpacks to about 6 GiB.
const MAX_DATA_BYTES: u64 = 32 << 30;

impl Unpacked {
    fn fail(package: &Package, path: &Path, problem: impl Into<Problem>) -> UnpackError {
        UnpackError { package: package.to_string(), path: path.to_owned(), source: Box::new(problem.into()) }
    }

    /// From the cache, if it is there. A folder that is damaged counts as missing and is removed.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn load(
        cache: &Cache,
        package: &Arc<Package>,
        integrity: Integrity,
    ) -> Result<Option<Self>, UnpackError> {
        let folder = cache.unpacked_path(package.sha256);
        let fail = |problem: CacheError| Self::fail(package, &folder, problem);
        let index = folder.join("index.bin");
        let bytes = match fs::read(&index) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(io_error("read", &index)(error))),
        };
        let data = folder.join("data.tar");
        let length = fs::metadata(&data).map(|m| m.len()).unwrap_or(0);
        let unpacked = decode(&bytes).filter(|stored| stored.data_bytes == length).map(|stored| Self {
            package: Arc::clone(package),
            data: Arc::new(data),
            entries: stored.entries,
            control: stored.control,
        });
        match unpacked {
            Some(unpacked) if integrity == Integrity::OnRead || unpacked.verify().is_ok() => {
                Ok(Some(unpacked))
            }
            _ => {
                fs::remove_dir_all(&folder)
                    .map_err(|e| fail(io_error("remove the damaged folder", &folder)(e)))?;
                Ok(None)
            }
        }
    }

    /// Unpacks a `.deb` into the cache.
    ///
    /// # Errors
    /// A file that is no package, an entry that no package may have, a cache that cannot be written. Nothing is left
    /// behind then.
    pub fn create(cache: &Cache, package: &Arc<Package>, deb: &Path) -> Result<Self, UnpackError> {
        let folder = cache.unpacked_path(package.sha256);
        let temporary = temporary_beside(&folder);
        remove_leftovers(&folder);
        let result = unpack_into(deb, temporary.path()).and_then(|stored| {
            match temporary.publish(&folder) {
                // Another build was faster: its folder is as good.
                Err(_) if folder.join("index.bin").exists() => {}
                result => result.map_err(io_error("write", &folder))?,
            }
            Ok(stored)
        });
        let stored = result.map_err(|problem| Self::fail(package, deb, problem))?;
        Ok(Self {
            package: Arc::clone(package),
            data: Arc::new(folder.join("data.tar")),
            entries: stored.entries,
            control: stored.control,
        })
    }

    /// The same files, with [`Unpacked::package`] as the package's own control file describes it. So a package is described
    /// alike whether an index was read or not.
    ///
    /// # Errors
    /// The control file is missing, malformed or of another package.
    pub fn described(self) -> Result<Self, UnpackError> {
        let control = self.control.get("control").ok_or(ControlError::Missing);
        let described = control.and_then(|control| self.package.described_by(control));
        match described {
            Ok(package) => Ok(Self { package: Arc::new(package), ..self }),
            Err(error) => Err(Self::fail(&self.package, &self.data, error)),
        }
    }

    /// The package's stanza as an index would have it: its control file, and where the package is.
    ///
    /// # Errors
    /// The control file is missing or malformed.
    pub fn index_stanza(&self) -> Result<Vec<u8>, UnpackError> {
        let fail = |error: ControlError| Self::fail(&self.package, &self.data, error);
        let control = self.control.get("control").ok_or_else(|| fail(ControlError::Missing))?;
        let mut stanza = Vec::new();
        for field in deb822::fields(control, 0) {
            let field = field.map_err(|error| fail(StanzaError::from(error).into()))?;
            for part in [field.name, b": ", field.value, b"\n"] {
                stanza.extend_from_slice(part);
            }
        }
        let Package { filename, size, sha256, .. } = &*self.package;
        stanza.extend(format!("Filename: {filename}\nSize: {size}\nSHA256: {sha256}\n\n").bytes());
        Ok(stanza)
    }

    /// The entry at a path in the form of [`Entry::path`].
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Opens the uncompressed archive, for reading ranges of it.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn open(&self) -> Result<File, UnpackError> {
        File::open(&*self.data)
            .map_err(|e| Self::fail(&self.package, &self.data, io_error("open", &self.data)(e)))
    }

    /// The regular file that an entry means: itself, or the target of a hard link.
    fn file_of<'a>(&'a self, entry: &'a Entry) -> Option<(&'a Entry, u64, u64, Digest)> {
        let mut entry = entry;
        // Links point to earlier entries; the bound is for an index that was tampered with.
        for _ in 0..=self.entries.len() {
            match &entry.kind {
                EntryKind::File { offset, size, sha256 } => return Some((entry, *offset, *size, *sha256)),
                EntryKind::HardLink(target) => entry = self.entry(target)?,
                _ => return None,
            }
        }
        None
    }

    /// Copies the content of a regular file, or of the file that a hard link means, in pieces, and returns its
    /// length; `None` for other kinds. When this fails, `writer` may have got a part, or wrong bytes.
    ///
    /// # Errors
    /// The cache cannot be read, the content is not what it was, or the writer fails.
    pub fn copy_to(&self, entry: &Entry, writer: &mut impl Write) -> Result<Option<u64>, UnpackError> {
        let Some((entry, offset, size, sha256)) = self.file_of(entry) else { return Ok(None) };
        let fail = |problem| Self::fail(&self.package, &self.data, problem);
        let mut file = self.open()?;
        let mut copy = || {
            file.seek(SeekFrom::Start(offset))?;
            let mut tee = Tee { reader: (&mut file).take(size), writer: &mut *writer, length: 0 };
            let (digest, length) = Digest::of_reader(&mut tee)?;
            Ok((digest, length))
        };
        let (digest, length) = copy().map_err(|e: io::Error| fail(e.into()))?;
        if digest != sha256 || length != size {
            return Err(fail(Problem::Tampered { path: String::from_utf8_lossy(&entry.path).into_owned() }));
        }
        Ok(Some(size))
    }

    /// As [`Unpacked::copy_to`], into memory.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, entry: &Entry) -> Result<Option<Vec<u8>>, UnpackError> {
        let mut bytes = Vec::new();
        Ok(self.copy_to(entry, &mut bytes)?.map(|_| bytes))
    }

    /// Hashes the content of every file, in parallel.
    ///
    /// # Errors
    /// The first file whose content is not what it was.
    pub fn verify(&self) -> Result<(), UnpackError> {
        let file = self.open()?;
        self.entries.par_iter().try_for_each_init(
            || vec![0; 256 << 10],
            |buffer, entry| {
                let EntryKind::File { offset, size, sha256 } = entry.kind else { return Ok(()) };
                let found = hash_range(&file, offset, size, buffer)
                    .map_err(|e| Self::fail(&self.package, &self.data, e))?;
                let path = || String::from_utf8_lossy(&entry.path).into_owned();
                if found == sha256 {
                    Ok(())
                } else {
                    Err(Self::fail(&self.package, &self.data, Problem::Tampered { path: path() }))
                }
            },
        )
    }
}

/// Removes what builds that were killed left of this package, a day later: younger folders may be in use. Nothing
/// depends on it, so errors do not matter.
fn remove_leftovers(folder: &Path) {
    let prefix = format!("{}.tmp-", folder.file_name().unwrap_or_default().to_string_lossy());
    for entry in folder.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).map(|t| t.elapsed().unwrap_or_default());
        let old = age.is_ok_and(|age| age.as_secs() > 86_400);
        if old && entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn hash_range(file: &File, mut offset: u64, mut size: u64, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    while size > 0 {
        let want = usize::try_from(size).map_or(buffer.len(), |size| size.min(buffer.len()));
        let part = buffer.get_mut(..want).unwrap_or_default();
        file.read_exact_at(part, offset)?;
        hasher.write_all(part)?;
        offset += part.len() as u64;
        size -= part.len() as u64;
    }
    Ok(hasher.finish())
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let (digest, body) = bytes.strip_prefix(INDEX_MAGIC)?.split_at_checked(32)?;
    if Digest::of(body).0 != *digest {
        return None;
    }
    postcard::from_bytes(body).ok()
}

fn encode(stored: &Stored) -> Result<Vec<u8>, io::Error> {
    let body = postcard::to_stdvec(stored).map_err(io::Error::other)?;
    Ok([INDEX_MAGIC.as_slice(), &Digest::of(&body).0, &body].concat())
}

/// The members of a `.deb`: `debian-binary`, `control.tar*`, `data.tar*`, in this order; others may stand between.
struct Deb {
    control: (Member, Compression),
    data: (Member, Compression),
}

fn read_deb(file: &mut File) -> Result<Deb, Problem> {
    let members = ar::members(file)?;
    let first = members.first().filter(|m| m.name == "debian-binary" && m.size <= 64);
    let first = first.ok_or(Problem::Format("its first member is not `debian-binary`"))?;
    let mut format = vec![0; usize::try_from(first.size).unwrap_or_default()];
    file.read_exact_at(&mut format, first.offset)?;
    if !format.starts_with(b"2.") {
        return Err(Problem::Format("its format version is not 2"));
    }
    let find = |stem: &str, missing: &'static str| {
        let known = |m: &Member| Some((m.clone(), Compression::from_suffix(m.name.strip_prefix(stem)?)?));
        members.iter().find_map(known).ok_or(Problem::Format(missing))
    };
    Ok(Deb {
        control: find(
            "control.tar",
            "it has no control.tar in a compression that is known (none, gz, xz, zst)",
        )?,
        data: find("data.tar", "it has no data.tar in a compression that is known (none, gz, xz, zst)")?,
    })
}

/// A decompressing reader of a member, ending with an error when more than `limit` bytes come.
fn open_member(
    file: &File,
    (member, compression): &(Member, Compression),
    limit: u64,
) -> Result<Limited<Box<dyn Read + Send>>, Problem> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(member.offset))?;
    Ok(Limited { inner: compression.decoder(file.take(member.size))?, left: limit })
}

struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("the content is larger than any package's: this is a decompression bomb")
        })?;
        Ok(count)
    }
}

/// Writes all that is read through it.
struct Tee<R, W> {
    reader: R,
    writer: W,
    length: u64,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.writer.write_all(buffer.get(..count).unwrap_or_default())?;
        self.length += count as u64;
        Ok(count)
    }
}

fn unpack_into(deb: &Path, folder: &Path) -> Result<Stored, Problem> {
    let mut file = File::open(deb).map_err(io_error("open", deb))?;
    let parts = read_deb(&mut file)?;
    let control = read_control(&file, &parts.control)?;
    create_parent(folder)?;
    fs::create_dir(folder).map_err(io_error("create the folder", folder))?;
    let data_path = folder.join("data.tar");
    let data = File::create(&data_path).map_err(io_error("create", &data_path))?;
    let reader = open_member(&file, &parts.data, MAX_DATA_BYTES)?;
    let mut tee = Tee { reader, writer: BufWriter::with_capacity(256 << 10, data), length: 0 };
    let tar_error = |source| Problem::Tar { member: parts.data.0.name.clone(), source };
    let entries = tarball::entries(&mut tee, tarball::hash_content).map_err(tar_error)?;
    // The rest, so that the decoder has seen its checksums and the copy is a whole archive.
    io::copy(&mut tee, &mut io::sink()).map_err(|e| tar_error(e.into()))?;
    tee.writer.flush().map_err(io_error("write", &data_path))?;
    let stored = Stored { data_bytes: tee.length, entries, control };
    let index = folder.join("index.bin");
    encode(&stored).and_then(|bytes| fs::write(&index, bytes)).map_err(io_error("write", &index))?;
    Ok(stored)
}

fn read_control(file: &File, member: &(Member, Compression)) -> Result<ControlFiles, Problem> {
    let mut reader = open_member(file, member, MAX_CONTROL_BYTES)?;
    let mut contents: Vec<Vec<u8>> = Vec::new();
    let entries = tarball::entries(&mut reader, |_, _, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let digest = Digest::of(&bytes);
        contents.push(bytes);
        Ok(digest)
    });
    let tar_error = |source| Problem::Tar { member: member.0.name.clone(), source };
    let entries = entries.map_err(tar_error)?;
    io::copy(&mut reader, &mut io::sink()).map_err(|e| tar_error(e.into()))?;
    let files = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let name = |entry: Entry| String::from_utf8_lossy(&entry.path).into_owned();
    Ok(files.map(name).zip(contents).collect())
}

#[cfg(test)]
mod tests;
