//! A channel folder on disk: read with the eyes of a machine, written so that a power cut leaves the old edition or the
//! new one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use debian::temporary::Temporary;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use update_engine::channel::metadata::{Envelope, MetadataError, Root, Snapshot, Timestamp};
use update_engine::channel::sign::{self, Edition};
use update_engine::channel::{
    Answer, Client, ClientError, Clock, Limits, METADATA_FOLDER, TARGETS_FOLDER, TargetFile, Trusted,
    Verified,
};

/// Name of a new root that waits for signatures.
const STAGED_ROOT: &str = "staged-root.json";
/// Taken while a command writes.
const LOCK: &str = ".lock";
/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Why a channel folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something cannot be read or written.
    #[error("cannot {does} {}", path.display())]
    Io {
        /// `read`, `write`...
        does: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none.
    #[error("{} is no channel folder: it has no {METADATA_FOLDER}/1.root.json", .0.display())]
    None(PathBuf),
    /// It is one already.
    #[error("{} is a channel folder already", .0.display())]
    Exists(PathBuf),
    /// Another command writes to it.
    #[error("another command is publishing to {}", .0.display())]
    Busy(PathBuf),
    /// Its metadata does not verify: nothing in it may be signed again.
    #[error("the metadata in {} does not verify", path.display())]
    Unverified {
        /// The folder.
        path: PathBuf,
        /// What a machine would say.
        source: ClientError,
    },
    /// A file of the metadata cannot be read.
    #[error("cannot use {}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MetadataError,
    },
    /// A file changed while it was copied.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
}

/// What a folder holds, verified from its first root on.
#[derive(Debug)]
pub struct Content {
    /// The newest root.
    pub root: Root,
    /// The rest of the metadata.
    pub edition: Edition,
    /// What machines make of it.
    pub verified: Verified,
    /// The newest root was not followed by metadata that its keys have signed: a command was cut short in between. Machines
    /// refuse the folder until everything is signed anew.
    pub root_alone: bool,
}

/// A channel folder.
#[derive(Debug)]
pub struct ChannelFolder {
    path: PathBuf,
    /// Held until the command ends.
    lock: Option<File>,
}

impl ChannelFolder {
    /// For reading.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// For writing: one command at a time.
    ///
    /// # Errors
    /// Another command writes to it, or it cannot be written.
    pub fn lock(path: &Path) -> Result<Self, FolderError> {
        let folder = Self::new(path);
        for below in [METADATA_FOLDER, TARGETS_FOLDER] {
            let below = path.join(below);
            fs::create_dir_all(&below).map_err(|source| FolderError::Io {
                does: "make",
                path: below,
                source,
            })?;
        }
        let lock = path.join(LOCK);
        let failed = |source| FolderError::Io { does: "open", path: lock.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { lock: Some(file), ..folder }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::Busy(path.to_owned())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`Self::lock`] made this.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether there is a first root.
    pub fn exists(&self) -> bool {
        self.metadata("1.root.json").is_file()
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.path.join(METADATA_FOLDER).join(name)
    }

    /// Reads the folder as a machine would that has its first root, at a time before anything expires: what has expired
    /// can be renewed, what is not signed by the right keys cannot.
    ///
    /// # Errors
    /// It is no channel folder, or what is in it does not verify.
    pub fn load(&self) -> Result<Content, FolderError> {
        let first = self.read("1.root.json")?.ok_or_else(|| FolderError::None(self.path.clone()))?;
        let start = Trusted::new(first);
        let (error, newest) = match self.walk(start.clone(), u64::MAX)? {
            Walk::End(content) => return Ok(*content),
            Walk::Refused { error, newest } => (error, newest),
        };
        // Perhaps a command was cut short after it had written a root: then the files fit the root before.
        let before = newest.version.saturating_sub(1);
        match self.walk(start, before)? {
            Walk::End(content) if before > 0 => Ok(Content { root: newest, root_alone: true, ..*content }),
            _ => Err(FolderError::Unverified { path: self.path.clone(), source: error }),
        }
    }

    /// What a machine makes of the folder when it sees roots up to a version.
    fn walk(&self, start: Trusted, last_root: u64) -> Result<Walk, FolderError> {
        let clock = Clock { unix_seconds: 0, synchronised: false, floor: 0 };
        let limits = Limits { root_updates: u32::MAX, ..Limits::default() };
        let unverified = |source| FolderError::Unverified { path: self.path.clone(), source };
        let (mut client, mut progress) = Client::start(start, clock, limits).map_err(unverified)?;
        let result = loop {
            let Some(request) = progress.request else { break Ok(()) };
            let name = request.path.rsplit('/').next().unwrap_or_default();
            let hidden = root_version(name).is_some_and(|version| version > last_root);
            let bytes = if hidden { None } else { self.read(name)? };
            match client.feed(bytes.as_deref().map_or(Answer::Missing, Answer::File)) {
                Ok(next) => progress = next,
                Err(error) => break Err(error),
            }
        };
        let trusted = client.trusted().clone();
        let root = self.part("root.json", Some(&trusted.root), Root::read)?;
        if let Err(error) = result {
            return Ok(Walk::Refused { error, newest: root });
        }
        let verified = client.finish().map_err(unverified)?;
        let edition = Edition {
            targets: verified.targets.clone(),
            snapshot: self.part("snapshot.json", trusted.snapshot.as_ref(), Snapshot::read)?,
            timestamp: self.part("timestamp.json", trusted.timestamp.as_ref(), Timestamp::read)?,
        };
        Ok(Walk::End(Box::new(Content { root, edition, verified, root_alone: false })))
    }

    fn part<T>(
        &self,
        name: &str,
        bytes: Option<&Vec<u8>>,
        read: impl Fn(&Envelope) -> Result<T, MetadataError>,
    ) -> Result<T, FolderError> {
        let envelope = Envelope::parse(bytes.map(Vec::as_slice).unwrap_or_default());
        let result = envelope.and_then(|envelope| read(&envelope));
        result.map_err(|source| FolderError::Metadata { path: self.metadata(name), source })
    }

    /// A metadata file; `None` if it is not there. One byte more than a machine would read is enough to see that it is too
    /// long.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        read_file(&self.metadata(name))
    }

    /// The root that waits for signatures.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn staged_root(&self) -> Result<Option<(Envelope, Root)>, FolderError> {
        let path = self.path.join(STAGED_ROOT);
        let Some(bytes) = read_file(&path)? else { return Ok(None) };
        let parsed = Envelope::parse(&bytes).and_then(|envelope| Ok((Root::read(&envelope)?, envelope)));
        let (root, envelope) = parsed.map_err(|source| FolderError::Metadata { path, source })?;
        Ok(Some((envelope, root)))
    }

    /// Where [`Self::staged_root`] is.
    pub fn staged_root_path(&self) -> PathBuf {
        self.path.join(STAGED_ROOT)
    }

    /// Keeps a root until it is signed, or forgets it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn stage_root(&self, envelope: Option<&Envelope>) -> Result<(), FolderError> {
        let path = self.path.join(STAGED_ROOT);
        match envelope {
            Some(envelope) => self.write_whole(&path, &envelope.to_bytes()),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(FolderError::Io { does: "remove", path, source: error })
                }
                _ => Ok(()),
            },
        }
    }

    /// Writes metadata files, each whole and on disk before the next one: what refers to others comes last.
    ///
    /// # Errors
    /// One cannot be written; those before it are.
    pub fn write(&self, files: &[sign::File]) -> Result<(), FolderError> {
        files.iter().try_for_each(|file| self.write_whole(&self.metadata(&file.name), &file.bytes))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
        let failed = |source| FolderError::Io { does: "write", path: path.to_owned(), source };
        let temporary = temporary_beside(path);
        let write = || {
            let mut file = File::create(temporary.path())?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(failed)?;
        temporary.publish(path).and_then(|()| sync_folder_of(path)).map_err(failed)
    }

    /// The length and hash of a file, under its path in the targets folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn measure(source: &Path, path: String) -> Result<TargetFile, FolderError> {
        let mut sink = io::sink();
        copy(source, &mut sink).map(|(length, sha256)| TargetFile { path, length, sha256 })
    }

    /// Copies a file that was measured to its place, under a name with its hash. What is there already, whole, stays.
    ///
    /// # Errors
    /// It cannot be copied, or has changed since.
    pub fn put_target(&self, source: &Path, file: &TargetFile) -> Result<(), FolderError> {
        let place = self.path.join(file.url_path());
        if self.holds(file)? {
            return Ok(());
        }
        let failed = |error| FolderError::Io { does: "write", path: place.clone(), source: error };
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let temporary = temporary_beside(&place);
        let mut out = File::create(temporary.path()).map_err(failed)?;
        let (length, sha256) = copy(source, &mut out)?;
        if (length, sha256) != (file.length, file.sha256) {
            return Err(FolderError::Changed(source.to_owned()));
        }
        out.sync_all().map_err(failed)?;
        temporary.publish(&place).map_err(failed)?;
        // Every folder on the way may be new.
        let folders = place.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.path));
        folders.into_iter().try_for_each(|folder| File::open(folder)?.sync_all()).map_err(failed)
    }

    /// Whether a target is there with the bytes that it must have.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn holds(&self, file: &TargetFile) -> Result<bool, FolderError> {
        let place = self.path.join(file.url_path());
        match place.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FolderError::Io { does: "read", path: place, source }),
            Ok(metadata) if metadata.len() != file.length => Ok(false),
            Ok(_) => copy(&place, &mut io::sink()).map(|(_, sha256)| sha256 == file.sha256),
        }
    }

    /// What a machine would make of the folder with some files replaced, at a moment (Unix seconds).
    ///
    /// # Errors
    /// A file cannot be read; a machine would refuse it.
    pub fn seen_by_machine(
        &self,
        replaced: &[sign::File],
        now: u64,
    ) -> Result<Result<Verified, ClientError>, FolderError> {
        let replaced: BTreeMap<&str, &[u8]> =
            replaced.iter().map(|file| (file.name.as_str(), file.bytes.as_slice())).collect();
        let read = |name: &str| match replaced.get(name) {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => self.read(name),
        };
        let first = read("1.root.json")?.ok_or_else(|| FolderError::None(self.path.clone()))?;
        let clock = Clock { unix_seconds: now, synchronised: true, floor: 0 };
        let limits = Limits { root_updates: u32::MAX, ..Limits::default() };
        let (mut client, mut progress) = match Client::start(Trusted::new(first), clock, limits) {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(request) = progress.request {
            let bytes = read(request.path.rsplit('/').next().unwrap_or_default())?;
            match client.feed(bytes.as_deref().map_or(Answer::Missing, Answer::File)) {
                Ok(next) => progress = next,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(client.finish())
    }
}

/// What came of reading a folder.
enum Walk {
    End(Box<Content>),
    Refused { error: ClientError, newest: Root },
}

fn root_version(name: &str) -> Option<u64> {
    name.strip_suffix(".root.json")?.parse().ok()
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    let most = Limits::default().targets + 1;
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FolderError::Io { does: "read", path: path.to_owned(), source }),
    }
}

fn temporary_beside(path: &Path) -> Temporary {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Temporary::new(path.with_file_name(format!(".{name}.{}", std::process::id())))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Copies a file; its length and hash.
fn copy(source: &Path, out: &mut dyn io::Write) -> Result<(u64, [u8; 32]), FolderError> {
    let failed = |error| FolderError::Io { does: "copy", path: source.to_owned(), source: error };
    let mut file = File::open(source).map_err(failed)?;
    let (mut buffer, mut hash, mut length) = (vec![0; CHUNK], Sha256::new(), 0);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
        out.write_all(chunk).map_err(failed)?;
        length += chunk.len() as u64;
    }
    Ok((length, hash.finalize().into()))
}
