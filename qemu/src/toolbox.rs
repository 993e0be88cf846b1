//! The toolbox: QEMU, its firmware and its libraries from Debian, unpacked in the cache and run from there without root.
//!
//! `toolbox.lock` names the packages with their digests, so what is fetched is what was tested. When a mirror has moved on, the
//! current packages of the same names are taken by Debian's signed index, with a line that says so. A toolbox that is unpacked
//! is used without a look at the network.

pub mod list;
mod unpack;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use debian::archive::{Archive, ArchiveError, Config};
use debian::cache::{Cache, CacheError};
use debian::http::{Failure, FetchError, Fetcher, LazyClient, Patience, Wanted};
use debian::index::IndexError;
use debian::mirrors::MirrorSet;
use debian::progress::{Progress, Task, Unit};
use debian::signature::KeyError;
use debian::temporary::Temporary;

use crate::emulator::{Emulator, Firmware, Notice, Program};
use list::{Entry, ListError, Set};

/// The packages that this version was tested with.
pub const LOCK: &str = include_str!("../toolbox.lock");

/// The suite that the packages are from.
const SUITE: &str = "trixie";
/// Downloads at a time: mirrors answer a small file slowly, and most of these are small.
const WORKERS: usize = 6;
/// Folder of the libraries, and the loader among them, below the toolbox.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The package whose version is the emulator's.
const EMULATOR_PACKAGE: &str = "qemu-system-x86";

/// A toolbox that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolboxError {
    /// The list in the program.
    #[error("list of the toolbox")]
    List(#[from] ListError),
    /// The cache.
    #[error("cache")]
    Cache(#[from] CacheError),
    /// A download.
    #[error("fetch QEMU")]
    Fetch(#[from] FetchError),
    /// Debian's index, needed because a mirror has moved on.
    #[error("look up the current packages of QEMU")]
    Archive(#[from] ArchiveError),
    /// A stanza of that index.
    #[error("look up the current packages of QEMU")]
    Index(#[from] IndexError),
    /// The pinned keys of that index.
    #[error("keys of Debian's archive")]
    Key(#[from] KeyError),
    /// A package has neither its locked nor another version any more.
    #[error("Debian {SUITE} has no package {0} any more")]
    NoPackage(String),
    /// Offline, and not everything is in the cache.
    #[error("offline, and the cache in {} lacks QEMU's packages {}; run once without --offline", cache.display(), missing.join(", "))]
    Offline {
        /// The cache.
        cache: PathBuf,
        /// Names.
        missing: Vec<String>,
    },
    /// A package cannot be unpacked.
    #[error("unpack {package}")]
    Unpack {
        /// Name.
        package: String,
        /// Cause.
        source: unpack::UnpackError,
    },
    /// A file operation.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The programs do not start: a library is missing, or the host's kernel is too old.
    #[error("{program} of the toolbox does not start here: {messages}")]
    DoesNotStart {
        /// Which one.
        program: String,
        /// What it or the loader said.
        messages: String,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ToolboxError {
    move |source| ToolboxError::Io { action, path: path.to_path_buf(), source }
}

/// Where the toolbox comes from and where it is kept.
#[derive(Clone)]
pub struct Toolbox {
    /// Downloads and the unpacked toolbox.
    pub cache: Cache,
    /// Where packages are fetched.
    pub mirrors: MirrorSet,
    /// Shows downloads.
    pub progress: Arc<dyn Progress>,
    /// Says what happens.
    pub notice: Notice,
    /// Uses the cache alone.
    pub offline: bool,
}

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toolbox")
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// A download or an unpacked toolbox.
enum Obtained {
    /// Whole, under its final name.
    At(PathBuf),
    /// A mirror lacks a locked version.
    Gone(FetchError),
}

impl Toolbox {
    /// The user's cache, the host's mirrors, no progress bars, notices on standard error: for tests.
    pub fn of_user() -> Self {
        Self {
            cache: Cache::from_env(),
            mirrors: MirrorSet::discover(&[], &[], Path::new("/")),
            progress: Arc::new(debian::progress::Silent),
            notice: Notice::stderr(),
            offline: false,
        }
    }

    /// The emulator, fetched and unpacked when the cache does not have it yet.
    ///
    /// # Errors
    /// It cannot be fetched or unpacked, or does not run on this host.
    pub fn emulator(&self) -> Result<Emulator, ToolboxError> {
        let (root, entries) = self.obtain(Set::Emulator)?;
        let version =
            entries.iter().find(|entry| entry.name == EMULATOR_PACKAGE).map(|entry| entry.version.clone());
        let share = root.join("usr/share");
        Ok(Emulator {
            program: program(&root, &root, "qemu-system-x86_64"),
            data: vec![share.join("qemu"), share.join("seabios")],
            firmware: Some(Firmware {
                code: share.join("OVMF/OVMF_CODE_4M.fd"),
                vars: share.join("OVMF/OVMF_VARS_4M.fd"),
            }),
            version: version.unwrap_or_default(),
            notice: self.notice.clone(),
        })
    }

    /// The emulator's folder, if it was fetched and unpacked before; nothing is fetched.
    ///
    /// # Errors
    /// The list in the program.
    pub fn unpacked(&self) -> Result<Option<PathBuf>, ToolboxError> {
        let home = self.cache.root();
        let root = home.join(list::folder_name(&of_set(&list::parse(LOCK)?, Set::Emulator)));
        if root.is_dir() {
            return Ok(Some(root));
        }
        let Ok(text) = fs::read_to_string(root.with_extension("instead")) else { return Ok(None) };
        let instead = home.join(list::folder_name(&list::parse(&text)?));
        Ok(instead.is_dir().then_some(instead))
    }

    /// `qemu-img`, fetched when the cache does not have it yet.
    ///
    /// # Errors
    /// As [`Self::emulator`].
    pub fn qemu_img(&self) -> Result<Program, ToolboxError> {
        let (libraries, _) = self.obtain(Set::Emulator)?;
        let (tools, _) = self.obtain(Set::Tools)?;
        let program = program(&libraries, &tools, "qemu-img");
        starts(&program, "qemu-img")?;
        Ok(program)
    }

    /// The folder of an unpacked set, and what is in it.
    fn obtain(&self, set: Set) -> Result<(PathBuf, Vec<Entry>), ToolboxError> {
        self.obtain_listed(of_set(&list::parse(LOCK)?, set))
    }

    /// The folder of these packages unpacked, or of their successors, which are returned then.
    fn obtain_listed(&self, locked: Vec<Entry>) -> Result<(PathBuf, Vec<Entry>), ToolboxError> {
        let home = self.cache.root();
        let root = home.join(list::folder_name(&locked));
        if root.is_dir() {
            return Ok((root, locked));
        }
        fs::create_dir_all(home).map_err(io_error("make", home))?;
        // One process fetches, others wait and find it done.
        let lock = home.join("toolbox.lock");
        let file = File::create(&lock).map_err(io_error("open", &lock))?;
        if file.try_lock().is_err() {
            self.notice.say("waiting for another process that fetches QEMU");
            file.lock().map_err(io_error("lock", &lock))?;
        }
        // What was taken instead of these packages, when a mirror had moved on.
        let instead = root.with_extension("instead");
        if let Ok(text) = fs::read_to_string(&instead) {
            let entries = list::parse(&text)?;
            let root = home.join(list::folder_name(&entries));
            if root.is_dir() {
                return Ok((root, entries));
            }
        }
        let error = match self.fetch_and_unpack(&locked)? {
            Obtained::At(root) => return Ok((root, locked)),
            Obtained::Gone(error) => error,
        };
        let current = self.current(&locked)?;
        self.notice.say(&format!("the mirror has moved on: {}", changes(&locked, &current)));
        match self.fetch_and_unpack(&current)? {
            Obtained::At(root) => {
                fs::write(&instead, list::format(&current)).map_err(io_error("write", &instead))?;
                Ok((root, current))
            }
            Obtained::Gone(_) => Err(error.into()),
        }
    }

    fn fetch_and_unpack(&self, entries: &[Entry]) -> Result<Obtained, ToolboxError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let root = self.cache.root().join(list::folder_name(entries));
        if root.is_dir() {
            return Ok(Obtained::At(root));
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let new = Temporary::new(root.with_extension(format!("new-{}-{number}", std::process::id())));
        match self.make(entries, new.path())? {
            Some(error) => Ok(Obtained::Gone(error)),
            None => {
                new.publish(&root).map_err(io_error("make", &root))?;
                Ok(Obtained::At(root))
            }
        }
    }

    /// Fetches and unpacks into `new`; a download that the mirrors do not have any more is returned.
    fn make(&self, entries: &[Entry], new: &Path) -> Result<Option<FetchError>, ToolboxError> {
        fs::create_dir_all(new).map_err(io_error("make", new))?;
        let jobs = Jobs { toolbox: self, entries, new, next: AtomicUsize::new(0), failed: Mutex::new(None) };
        if let Err(error) = jobs.run() {
            return match error {
                ToolboxError::Fetch(error) if is_gone(&error) => Ok(Some(error)),
                error => Err(error),
            };
        }
        if entries.iter().any(|entry| entry.set == Set::Emulator) {
            starts(&program(new, new, "qemu-system-x86_64"), "qemu-system-x86_64")?;
        }
        // The final name promises whole files, after a power cut too.
        let folder = File::open(new).map_err(io_error("open", new))?;
        rustix::fs::syncfs(&folder).map_err(|error| io_error("write out", new)(error.into()))?;
        Ok(None)
    }

    /// The highest versions of the same packages in Debian's index of now.
    fn current(&self, entries: &[Entry]) -> Result<Vec<Entry>, ToolboxError> {
        let mut config = Config::debian(SUITE, &self.mirrors, self.cache.clone())?;
        config.offline = self.offline;
        current(&Archive::open(config, Arc::clone(&self.progress))?, entries)
    }
}

/// The highest versions of the packages of `entries` in an archive.
///
/// # Errors
/// A package is not there any more, or the index is malformed.
pub fn current(archive: &Archive, entries: &[Entry]) -> Result<Vec<Entry>, ToolboxError> {
    let newest = |entry: &Entry| {
        let found = archive.index().find(&entry.name)?.into_iter().next();
        let package = found.ok_or_else(|| ToolboxError::NoPackage(entry.name.clone()))?;
        Ok(Entry {
            set: entry.set,
            name: package.name,
            version: package.version.to_string(),
            size: package.size,
            sha256: package.sha256,
            path: package.filename,
        })
    };
    entries.iter().map(newest).collect()
}

fn of_set(entries: &[Entry], set: Set) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.set == set).cloned().collect()
}

/// Which packages changed, in words.
fn changes(locked: &[Entry], current: &[Entry]) -> String {
    let changed = locked.iter().zip(current).filter(|(old, new)| old.sha256 != new.sha256);
    let words: Vec<String> = changed
        .map(|(old, new)| format!("{} {} instead of {}", new.name, new.version, old.version))
        .collect();
    format!("QEMU's packages are {}", words.join(", "))
}

/// Whether no mirror has the file, and at least one of them says that it does not exist.
fn is_gone(error: &FetchError) -> bool {
    let FetchError::AllMirrors { attempts, .. } = error else { return false };
    attempts.iter().any(
        |attempt| matches!(&attempt.failure, Failure::Status(status) if matches!(status.as_u16(), 404 | 410)),
    )
}

/// A program of the toolbox, started by the toolbox's dynamic loader with its libraries.
fn program(libraries: &Path, root: &Path, name: &str) -> Program {
    let libraries = libraries.join(LIBRARIES);
    Program {
        path: libraries.join("ld-linux-x86-64.so.2"),
        first_arguments: vec![
            "--library-path".into(),
            libraries.clone().into(),
            "--argv0".into(),
            name.into(),
            root.join("usr/bin").join(name).into(),
        ],
        // QEMU looks for modules beside its own file, which it takes to be the loader.
        environment: vec![("QEMU_MODULE_DIR".into(), libraries.join("qemu").into())],
    }
}

/// Tries a program, so that a missing library is found now and named.
fn starts(program: &Program, name: &str) -> Result<(), ToolboxError> {
    let output = program.command().arg("--version").output().map_err(io_error("run", &program.path))?;
    if output.status.success() {
        return Ok(());
    }
    let messages = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(ToolboxError::DoesNotStart { program: name.to_owned(), messages })
}

/// Packages being fetched and unpacked by several threads.
struct Jobs<'a> {
    toolbox: &'a Toolbox,
    entries: &'a [Entry],
    new: &'a Path,
    next: AtomicUsize,
    failed: Mutex<Option<ToolboxError>>,
}

impl Jobs<'_> {
    fn run(self) -> Result<(), ToolboxError> {
        let cache = &self.toolbox.cache;
        let mut missing = BTreeSet::new();
        for entry in self.entries {
            if cache.object(entry.sha256, Some(entry.size))?.is_none() {
                missing.insert(entry.name.as_str());
            }
        }
        if self.toolbox.offline && !missing.is_empty() {
            let missing = missing.into_iter().map(str::to_owned).collect();
            return Err(ToolboxError::Offline { cache: cache.root().to_path_buf(), missing });
        }
        let bytes = self
            .entries
            .iter()
            .filter(|entry| missing.contains(entry.name.as_str()))
            .map(|entry| entry.size)
            .sum();
        let task = self.toolbox.progress.begin("fetching QEMU", bytes, Unit::Bytes);
        let (client, patience) = (LazyClient::default(), Patience::default());
        let progress = &*self.toolbox.progress;
        let main = Fetcher::new(&self.toolbox.mirrors.debian, &patience, &client, progress);
        let security = Fetcher::new(&self.toolbox.mirrors.security, &patience, &client, progress);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(entry) = self.entries.get(self.next.fetch_add(1, Ordering::Relaxed)) {
                        // The security archive's packages are the ones below this path.
                        let fetcher = if entry.path.starts_with("pool/updates/") { &security } else { &main };
                        if let Err(error) = self.one(entry, fetcher, &*task) {
                            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            // The others stop after what they are at.
                            self.next.store(self.entries.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn one(&self, entry: &Entry, fetcher: &Fetcher<'_>, task: &dyn Task) -> Result<(), ToolboxError> {
        let cache = &self.toolbox.cache;
        let deb = match cache.object(entry.sha256, Some(entry.size))? {
            Some(deb) => deb,
            None => {
                let wanted = Wanted { path: entry.path.clone(), size: entry.size, sha256: entry.sha256 };
                fetcher.file(cache, &wanted, task)?
            }
        };
        let unpacked = unpack::unpack(&deb, self.new);
        unpacked.map_err(|source| ToolboxError::Unpack { package: entry.name.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_is_whole() {
        let entries = list::parse(LOCK).unwrap();
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), entries.len(), "each package once");
        for name in [EMULATOR_PACKAGE, "qemu-system-data", "seabios", "ovmf", "libc6", "qemu-utils"] {
            assert!(names.contains(name), "{name}");
        }
        assert_eq!(list::format(&entries), LOCK);
    }

    #[test]
    fn offline_an_empty_cache_is_an_error_that_names_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let toolbox = Toolbox { cache: Cache::at(dir.path()), offline: true, ..Toolbox::of_user() };
        let error = toolbox.emulator().unwrap_err();
        let ToolboxError::Offline { missing, .. } = &error else { panic!("{error}") };
        assert!(missing.iter().any(|name| name == "ovmf"), "{missing:?}");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("new-")), "{left:?}");
    }

    #[test]
    fn a_version_that_the_mirror_lacks_is_replaced_by_the_current_one_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&told);
        let notice = Notice::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        let toolbox = Toolbox { notice, ..Toolbox::of_user() };
        let gone = Entry {
            set: Set::Tools,
            name: "libaio1t64".to_owned(),
            version: "0.0-0".to_owned(),
            size: 1,
            sha256: debian::digest::Digest([7; 32]),
            path: "pool/main/liba/libaio/libaio1t64_0.0-0_amd64.deb".to_owned(),
        };
        let (root, entries) = toolbox.obtain_listed(vec![gone.clone()]).unwrap();
        assert!(root.join(LIBRARIES).join("libaio.so.1t64").exists());
        assert_ne!(entries[0].version, "0.0-0");
        let replaced = |line: &String| line.contains("libaio1t64") && line.contains("instead of 0.0-0");
        assert_eq!(told.lock().unwrap().iter().filter(|line| replaced(line)).count(), 1, "{told:?}");
        // The second time nothing is looked up.
        let offline = Toolbox { offline: true, ..toolbox.clone() };
        assert_eq!(offline.obtain_listed(vec![gone.clone()]).unwrap(), (root.clone(), entries));
        fs::remove_dir_all(root).unwrap();
        fs::remove_file(toolbox.cache.root().join(list::folder_name(&[gone])).with_extension("instead"))
            .unwrap();
    }

    #[test]
    fn a_replaced_package_is_named_with_both_versions() {
        let locked = list::parse(LOCK).unwrap();
        let mut current = locked.clone();
        current[0].version = "9:9".to_owned();
        current[0].sha256 = debian::digest::Digest([0; 32]);
        let words = changes(&locked, &current);
        let want = format!("QEMU's packages are {} 9:9 instead of {}", locked[0].name, locked[0].version);
        assert_eq!(words, want);
    }

    #[test]
    fn a_program_that_does_not_start_is_an_error_with_its_words() {
        let program = Program {
            first_arguments: vec!["-c".into(), "echo no libz >&2; exit 3".into()],
            ..Program::direct("/bin/sh")
        };
        let error = starts(&program, "qemu-img").unwrap_err().to_string();
        assert_eq!(error, "qemu-img of the toolbox does not start here: exit status: 3: no libz");
    }
}
