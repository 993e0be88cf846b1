//! The machine's side of TUF: a state machine without I/O that follows the client workflow of the specification
//! (section 5) step by step. The numbers in comments are the specification's.
//!
//! It asks for files by name and largest length, is fed what was fetched, and keeps the trusted metadata as plain data.
//! Which mirror is asked, what is tried again and how the state is stored is the caller's business:
//!
//! ```text
//! let (mut client, mut progress) = Client::start(trusted, clock, limits)?;
//! while let Some(request) = progress.request {
//!     let answer = fetch(&request);               // at most max_bytes + 1 are read
//!     progress = client.feed(answer)?;
//!     if progress.changed { store(client.trusted()) }   // also after an error
//! }
//! let verified = client.finish()?;
//! ```

mod error;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use super::METADATA_FOLDER;
use super::metadata::{Date, Envelope, MetaFile, MetadataError, Role, Root, Snapshot, Targets, Timestamp};
use super::release::{Release, Unreadable};

pub use self::error::{ClientError, Reason};

/// The machine's clock at the start of an update, and what is known about it (SAFETY 25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Unix seconds.
    pub unix_seconds: u64,
    /// Whether it was set from a time server since the machine started.
    pub synchronised: bool,
    /// It is at least that late: the later of the slot's build time and the newest verified timestamp
    /// ([`Verified::floor`]).
    pub floor: u64,
}

impl Clock {
    /// An unsynchronised clock may lift its floor by so much: a machine that lay in a drawer for longer asks a time
    /// server first, and metadata by a publisher with a broken clock spoils no machine's floor.
    pub const LARGEST_LEAP: u64 = 3 * 366 * 86_400;

    /// The time to go by.
    pub fn now(&self) -> u64 {
        self.unix_seconds.max(self.floor)
    }

    /// The floor after metadata that was signed at a moment was verified. Never beyond what a synchronised clock says,
    /// and never an implausible future (SAFETY 25).
    pub fn raised_floor(&self, issued: u64) -> u64 {
        let latest =
            if self.synchronised { self.unix_seconds } else { self.floor.saturating_add(Self::LARGEST_LEAP) };
        if issued > latest { self.floor } else { self.floor.max(issued) }
    }
}

/// How much a channel may make a machine read. Each is far above what `ferrite publish` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a root file.
    pub root: u64,
    /// Bytes of the timestamp.
    pub timestamp: u64,
    /// Bytes of the snapshot, if the timestamp does not say.
    pub snapshot: u64,
    /// Bytes of the targets, whatever the snapshot says.
    pub targets: u64,
    /// How many new roots are taken in one update; the next one goes on from there.
    pub root_updates: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { root: 256 << 10, timestamp: 16 << 10, snapshot: 256 << 10, targets: 4 << 20, root_updates: 64 }
    }
}

/// Trusted metadata, as it is kept from update to update: the files as they were fetched. Whatever stands here is
/// checked again before it is used, so a damaged file costs a fetch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trusted {
    /// Root metadata: what everything else is checked against.
    pub root: Vec<u8>,
    /// The newest timestamp.
    pub timestamp: Option<Vec<u8>>,
    /// The newest snapshot.
    pub snapshot: Option<Vec<u8>>,
    /// The newest targets.
    pub targets: Option<Vec<u8>>,
}

impl Trusted {
    /// What a machine trusts at first: the root metadata of its image.
    pub fn new(root: impl Into<Vec<u8>>) -> Self {
        Self { root: root.into(), timestamp: None, snapshot: None, targets: None }
    }

    /// What was kept, or the image's root where that is newer or the kept one cannot be read. The image is covered by
    /// dm-verity; what is kept is not, but only root can write it.
    #[must_use]
    pub fn with_image_root(self, image_root: &[u8]) -> Self {
        let version = |bytes: &[u8]| parse_root(bytes).ok().map(|(_, root)| root);
        match (version(&self.root), version(image_root)) {
            (Some(kept), Some(image)) if kept.version >= image.version => self,
            (Some(kept), Some(image)) if !rotated(&kept, &image) => {
                Self { root: image_root.to_vec(), ..self }
            }
            (Some(_), None) => self,
            _ => Self::new(image_root),
        }
    }
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// Path below the channel's URL; plain characters only.
    pub path: String,
    /// More bytes than that are refused; stop reading behind them.
    pub max_bytes: u64,
}

/// What came of a [`FileRequest`].
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// The file.
    File(&'a [u8]),
    /// The server says that there is no such file (404, 403 as of some object stores). Trouble of the network is no
    /// answer: try again, or another mirror.
    Missing,
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The next file; `None` at the end.
    pub request: Option<FileRequest>,
    /// Whether [`Client::trusted`] has changed and should be stored.
    pub changed: bool,
}

/// Versions of the metadata that an update ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Versions {
    /// Of the root.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the targets.
    pub targets: u64,
}

/// What a channel says, verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Releases in the order of their versions.
    pub releases: Vec<Release>,
    /// Releases that this program makes nothing of.
    pub unreadable: Vec<Unreadable>,
    /// All targets.
    pub targets: Targets,
    /// Which metadata it was.
    pub versions: Versions,
    /// When the first of the files expires.
    pub expires: Date,
    /// Whether the clock was synchronised; if not, what is here may be out of date without being seen to be.
    pub clock_synchronised: bool,
    /// The floor for the clock from now on (SAFETY 25).
    pub floor: u64,
}

#[derive(Debug)]
enum State {
    Root { taken: u32 },
    Timestamp,
    Snapshot(MetaFile),
    Targets(MetaFile),
    Done,
    Failed,
}

/// One update of the metadata.
#[derive(Debug)]
pub struct Client {
    // 5.1: the time is fixed at the start.
    clock: Clock,
    limits: Limits,
    trusted: Trusted,
    changed: bool,
    root: Root,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
    state: State,
}

fn malformed(name: &str) -> impl Fn(MetadataError) -> ClientError + '_ {
    move |source| ClientError::new(name, Reason::Malformed(source))
}

fn parse_root(bytes: &[u8]) -> Result<(Envelope, Root), MetadataError> {
    let envelope = Envelope::parse(bytes)?;
    let root = Root::read(&envelope)?;
    Ok((envelope, root))
}

/// Whether timestamp or snapshot have other keys in another root.
fn rotated(before: &Root, after: &Root) -> bool {
    [Role::Timestamp, Role::Snapshot].into_iter().any(|role| before.role(role) != after.role(role))
}

/// Checks that enough keys of a role have signed.
fn check_signatures(name: &str, envelope: &Envelope, by: &Root, role: Role) -> Result<(), ClientError> {
    let keys = by.role(role);
    let valid = envelope.valid_signatures(&keys);
    if u32::try_from(valid).unwrap_or(u32::MAX) >= keys.threshold() {
        return Ok(());
    }
    let reason = Reason::Signatures { valid, threshold: keys.threshold(), role, root_version: by.version };
    Err(ClientError::new(name, reason))
}

fn check_version_and_hash(name: &str, bytes: &[u8], listed: &MetaFile) -> Result<(), ClientError> {
    if let Some(length) = listed.length
        && length != bytes.len() as u64
    {
        let reason = Reason::Length { listed: length, found: bytes.len() as u64 };
        return Err(ClientError::new(name, reason));
    }
    let hash = listed.sha256(name).map_err(malformed(name))?;
    if hash.is_some_and(|hash| <[u8; 32]>::from(Sha256::digest(bytes)) != hash) {
        return Err(ClientError::new(name, Reason::Hash));
    }
    Ok(())
}

impl Client {
    /// 5.1 and 5.2: fixes the time, loads the trusted root, and says what to fetch first.
    ///
    /// # Errors
    /// The trusted root itself cannot be read, or has not signed itself: the machine's state is damaged.
    pub fn start(trusted: Trusted, clock: Clock, limits: Limits) -> Result<(Self, Progress), ClientError> {
        let (envelope, root) = parse_root(&trusted.root).map_err(malformed("trusted root"))?;
        check_signatures("trusted root", &envelope, &root, Role::Root)?;
        let client = Self {
            clock,
            limits,
            trusted,
            changed: false,
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
            state: State::Root { taken: 0 },
        };
        let progress = Progress { request: client.request(), changed: false };
        Ok((client, progress))
    }

    /// The trusted metadata, for storing. Also worth storing after an error: new roots have been taken by then.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    /// The answer is refused, and with it this update. Nothing of it became trusted; what came before it stays so.
    pub fn feed(&mut self, answer: Answer<'_>) -> Result<Progress, ClientError> {
        let result = self.take(answer);
        if result.is_err() {
            self.state = State::Failed;
        }
        result?;
        Ok(Progress { request: self.request(), changed: std::mem::take(&mut self.changed) })
    }

    /// What the channel says.
    ///
    /// # Errors
    /// The update is not at its end.
    pub fn finish(self) -> Result<Verified, ClientError> {
        let (State::Done, Some(timestamp), Some(snapshot), Some(targets)) =
            (&self.state, self.timestamp, self.snapshot, self.targets)
        else {
            return Err(ClientError::new("metadata", Reason::Unfinished));
        };
        let (releases, unreadable) = Release::all(&targets);
        let expiries = [self.root.expires, timestamp.expires, snapshot.expires];
        Ok(Verified {
            releases,
            unreadable,
            versions: Versions {
                root: self.root.version,
                timestamp: timestamp.version,
                snapshot: snapshot.version,
                targets: targets.version,
            },
            expires: expiries.into_iter().fold(targets.expires, Date::min),
            clock_synchronised: self.clock.synchronised,
            floor: timestamp.issued.map_or(self.clock.floor, |issued| self.clock.raised_floor(issued.unix())),
            targets,
        })
    }

    fn request(&self) -> Option<FileRequest> {
        let versioned = |version: u64, role: Role| {
            // 5.3.12, 6.2: with consistent snapshots a file is named by its version.
            if self.root.consistent_snapshot {
                format!("{version}.{role}.json")
            } else {
                format!("{role}.json")
            }
        };
        let (name, max_bytes) = match &self.state {
            State::Root { .. } => {
                // 5.3.3: version N+1, always named by its version.
                (format!("{}.root.json", self.root.version.saturating_add(1)), self.limits.root)
            }
            State::Timestamp => ("timestamp.json".to_owned(), self.limits.timestamp),
            State::Snapshot(listed) => {
                let most = self.limits.snapshot;
                (
                    versioned(listed.version, Role::Snapshot),
                    listed.length.map_or(most, |length| length.min(most)),
                )
            }
            State::Targets(listed) => {
                let most = self.limits.targets;
                (
                    versioned(listed.version, Role::Targets),
                    listed.length.map_or(most, |length| length.min(most)),
                )
            }
            State::Done | State::Failed => return None,
        };
        Some(FileRequest { path: format!("{METADATA_FOLDER}/{name}"), max_bytes })
    }

    fn take(&mut self, answer: Answer<'_>) -> Result<(), ClientError> {
        let Some(request) = self.request() else {
            return Err(ClientError::new("metadata", Reason::Unfinished));
        };
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let bytes = match answer {
            Answer::File(bytes) if bytes.len() as u64 > request.max_bytes => {
                return Err(ClientError::new(name, Reason::TooLong { max_bytes: request.max_bytes }));
            }
            Answer::File(bytes) => bytes,
            // 5.3.3: no newer root, so the trusted one is the newest.
            Answer::Missing if matches!(self.state, State::Root { .. }) => return self.roots_end(),
            Answer::Missing => return Err(ClientError::new(name, Reason::Missing)),
        };
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Root { taken } => self.take_root(name, bytes, taken),
            State::Timestamp => self.take_timestamp(name, bytes),
            State::Snapshot(listed) => {
                self.take_snapshot(name, bytes, &listed)?;
                self.trusted.snapshot = Some(bytes.to_vec());
                self.changed = true;
                self.after_snapshot()
            }
            State::Targets(listed) => {
                self.take_targets(name, bytes, &listed)?;
                self.trusted.targets = Some(bytes.to_vec());
                self.changed = true;
                Ok(())
            }
            State::Done | State::Failed => Err(ClientError::new(name, Reason::Unfinished)),
        }
    }

    /// 5.3.4 to 5.3.9: one step of the chain of roots.
    fn take_root(&mut self, name: &str, bytes: &[u8], taken: u32) -> Result<(), ClientError> {
        let (envelope, root) = parse_root(bytes).map_err(malformed(name))?;
        // 5.3.4: signed by a threshold of the old keys, and by a threshold of its own.
        check_signatures(name, &envelope, &self.root, Role::Root)?;
        check_signatures(name, &envelope, &root, Role::Root)?;
        // 5.3.5: exactly the next version.
        let expected = self.root.version.saturating_add(1);
        if root.version != expected {
            return Err(ClientError::new(name, Reason::Version { listed: expected, found: root.version }));
        }
        // 5.3.6: its expiry does not matter yet.
        // 5.3.11, already here, so that a power cut between two roots cannot lose it: with new keys, old versions mean
        // nothing, and whoever had the old keys may have used up all version numbers (fast-forward attack).
        if rotated(&self.root, &root) {
            self.trusted.timestamp = None;
            self.trusted.snapshot = None;
        }
        // 5.3.7, 5.3.8
        self.trusted.root = bytes.to_vec();
        self.root = root;
        self.changed = true;
        // 5.3.9
        let taken = taken.saturating_add(1);
        self.state = State::Root { taken };
        if taken >= self.limits.root_updates { self.roots_end() } else { Ok(()) }
    }

    /// 5.3.10: the newest root is known and must not have expired.
    fn roots_end(&mut self) -> Result<(), ClientError> {
        self.check_expiry(Role::Root, self.root.expires)?;
        self.state = State::Timestamp;
        Ok(())
    }

    /// 5.4: the timestamp.
    fn take_timestamp(&mut self, name: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let envelope = Envelope::parse(bytes).map_err(malformed(name))?;
        // 5.4.2
        check_signatures(name, &envelope, &self.root, Role::Timestamp)?;
        let mut timestamp = Timestamp::read(&envelope).map_err(malformed(name))?;
        let trusted = self.trusted_timestamp();
        if let Some(trusted) = trusted {
            // 5.4.3.1: never an older one. Of two with one version the trusted one stays. Deviation: the specification
            // ends the update there; going on with the trusted files also finds what an interrupted update left out.
            if timestamp.version < trusted.version {
                let reason = Reason::RolledBack { trusted: trusted.version, found: timestamp.version };
                return Err(ClientError::new(name, reason));
            }
            let before = trusted.snapshot().map_err(malformed(name))?.version;
            let after = timestamp.snapshot().map_err(malformed(name))?.version;
            if timestamp.version == trusted.version {
                timestamp = trusted;
            } else if after < before {
                // 5.4.3.2
                let reason = Reason::RolledBack { trusted: before, found: after };
                return Err(ClientError::new("snapshot in timestamp.json", reason));
            }
        }
        // 5.4.4
        self.check_expiry(Role::Timestamp, timestamp.expires)?;
        // 5.4.5
        if self.timestamp_is_new(&timestamp) {
            self.trusted.timestamp = Some(bytes.to_vec());
            self.changed = true;
        }
        let listed = timestamp.snapshot().map_err(malformed(name))?.clone();
        self.timestamp = Some(timestamp);
        // 5.5, first with what is here already: a snapshot that is still the newest need not be fetched.
        if let Some(bytes) = self.trusted.snapshot.clone()
            && self.take_snapshot("trusted snapshot", &bytes, &listed).is_ok()
        {
            return self.after_snapshot();
        }
        self.state = State::Snapshot(listed);
        Ok(())
    }

    /// The kept timestamp, if it is signed by the present keys.
    fn trusted_timestamp(&self) -> Option<Timestamp> {
        let envelope = Envelope::parse(self.trusted.timestamp.as_ref()?).ok()?;
        check_signatures("trusted timestamp", &envelope, &self.root, Role::Timestamp).ok()?;
        Timestamp::read(&envelope).ok()
    }

    fn timestamp_is_new(&self, timestamp: &Timestamp) -> bool {
        self.trusted_timestamp().is_none_or(|trusted| trusted.version != timestamp.version)
    }

    /// The kept snapshot, if it is signed by the present keys.
    fn trusted_snapshot(&self) -> Option<Snapshot> {
        let envelope = Envelope::parse(self.trusted.snapshot.as_ref()?).ok()?;
        check_signatures("trusted snapshot", &envelope, &self.root, Role::Snapshot).ok()?;
        Snapshot::read(&envelope).ok()
    }

    /// 5.5.2 to 5.5.6: a snapshot, fetched or kept.
    fn take_snapshot(&mut self, name: &str, bytes: &[u8], listed: &MetaFile) -> Result<(), ClientError> {
        // 5.5.2, before anything is parsed
        check_version_and_hash(name, bytes, listed)?;
        let envelope = Envelope::parse(bytes).map_err(malformed(name))?;
        // 5.5.3
        check_signatures(name, &envelope, &self.root, Role::Snapshot)?;
        let snapshot = Snapshot::read(&envelope).map_err(malformed(name))?;
        // 5.5.4
        if snapshot.version != listed.version {
            return Err(ClientError::new(
                name,
                Reason::Version { listed: listed.version, found: snapshot.version },
            ));
        }
        // 5.5.5: no targets file may be older than it was, or be gone.
        let trusted = self.trusted_snapshot();
        for (file, before) in trusted.iter().flat_map(|trusted| &trusted.meta) {
            let after = snapshot.meta.get(file).map_or(0, |after| after.version);
            if after < before.version {
                let reason = Reason::RolledBack { trusted: before.version, found: after };
                return Err(ClientError::new(&format!("{file} in {name}"), reason));
            }
        }
        // 5.5.6
        self.check_expiry(Role::Snapshot, snapshot.expires)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// 5.6, first with what is here already.
    fn after_snapshot(&mut self) -> Result<(), ClientError> {
        let Some(snapshot) = &self.snapshot else {
            return Err(ClientError::new("snapshot.json", Reason::Unfinished));
        };
        let listed = snapshot.targets().map_err(malformed("snapshot.json"))?.clone();
        if let Some(bytes) = self.trusted.targets.clone()
            && self.take_targets("trusted targets", &bytes, &listed).is_ok()
        {
            return Ok(());
        }
        self.state = State::Targets(listed);
        Ok(())
    }

    /// 5.6.2 to 5.6.5: the targets, fetched or kept. 5.6.7 is left out: there are no delegations here.
    fn take_targets(&mut self, name: &str, bytes: &[u8], listed: &MetaFile) -> Result<(), ClientError> {
        // 5.6.2
        check_version_and_hash(name, bytes, listed)?;
        let envelope = Envelope::parse(bytes).map_err(malformed(name))?;
        // 5.6.3
        check_signatures(name, &envelope, &self.root, Role::Targets)?;
        let targets = Targets::read(&envelope).map_err(malformed(name))?;
        // 5.6.4
        if targets.version != listed.version {
            return Err(ClientError::new(
                name,
                Reason::Version { listed: listed.version, found: targets.version },
            ));
        }
        // 5.6.5
        self.check_expiry(Role::Targets, targets.expires)?;
        self.targets = Some(targets);
        self.state = State::Done;
        Ok(())
    }

    fn check_expiry(&self, role: Role, expires: Date) -> Result<(), ClientError> {
        let now = self.clock.now();
        if now < expires.unix() {
            return Ok(());
        }
        // The floor is never later than the true time; a clock that nobody set may be.
        let certain = self.clock.synchronised || self.clock.floor >= expires.unix();
        Err(ClientError::new(role.name(), Reason::Expired { expires, now, certain }))
    }
}
