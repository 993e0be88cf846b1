//! The engine's hands: what [`Job`](super::machine::Job)s do to the disk and the network.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use init::boot::clock::FLOOR_FILE;
use init::early::disk::Disk;
use sha2::{Digest as _, Sha256};
use slots::{CommitError, Footer};

use super::blocks::Before;
use super::fill::{Fill, FillError, Progress, Source, Watch};
use super::http::{Http, HttpError};
use super::machine::{Event, Failure, Trouble};
use super::os::{ARCHITECTURE, Facts};
use super::slot::{self, Pair, Place, Proven, SlotError, SlotWriter};
use super::state::{Staged, replace};
use crate::causes::chain;
use crate::channel::key::hex;
use crate::channel::{
    Answer, ChannelName, Client, ClientError, Clock, Limits, Machine, Release, Trusted, Verdict, Version,
    offer,
};
use crate::payload::{Index, Layout, MAX_INDEX_BYTES};

/// How often a download says how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What a check goes by.
#[derive(Debug, Clone)]
pub struct Wish {
    /// URL of the channel folder.
    pub server: String,
    /// The channel.
    pub channel: ChannelName,
    /// The only version that is wanted.
    pub pinned: Option<Version>,
    /// Root hashes of releases that failed here.
    pub denied: std::collections::BTreeSet<[u8; 32]>,
    /// Whether the machine's place in rollouts counts.
    pub waits_its_turn: bool,
}

/// The hands of one machine.
#[derive(Debug, Clone)]
pub struct Work {
    /// The machine.
    pub facts: Arc<Facts>,
    /// The engine's folder.
    pub folder: PathBuf,
    /// Set when the running job is to end.
    pub stop: Arc<AtomicBool>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// The release to take.
    pub release: Option<Box<Release>>,
    /// Newer releases that the machine does not take, and why, for people.
    pub passed_over: Vec<String>,
}

impl Work {
    /// Reads the channel and chooses.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn check(&self, wish: &Wish) -> Result<Checked, Failure> {
        let http = Http::new(&wish.server).map_err(|error| http_failure(&error))?;
        let path = self.folder.join("trusted.json");
        let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Trusted>(&bytes).ok());
        let trusted = kept.unwrap_or_else(|| Trusted::new(&*self.facts.trusted_root));
        let trusted = trusted.with_image_root(&self.facts.trusted_root);
        let clock = self.clock();
        let (mut client, mut progress) =
            Client::start(trusted, clock, Limits::default()).map_err(|error| refused_metadata(&error))?;
        let store = |client: &Client| {
            let bytes = serde_json::to_vec(client.trusted()).map_err(io::Error::other);
            bytes.and_then(|bytes| replace(&path, &bytes)).map_err(|error| scratch_failure(&error))
        };
        while let Some(request) = progress.request.take() {
            let file = http.get(&request.path, request.max_bytes).map_err(|error| http_failure(&error))?;
            let answer = file.as_deref().map_or(Answer::Missing, Answer::File);
            match client.feed(answer) {
                Ok(next) => progress = next,
                Err(error) => {
                    // New roots may have been taken before.
                    store(&client)?;
                    return Err(refused_metadata(&error));
                }
            }
            if progress.changed {
                store(&client)?;
            }
        }
        let verified = client.finish().map_err(|error| refused_metadata(&error))?;
        self.raise_floor(clock.floor, verified.floor)?;
        let machine = Machine {
            product: &self.facts.product,
            architecture: ARCHITECTURE,
            channel: &wish.channel,
            version: &self.facts.version,
            id: &self.facts.machine_id,
            rollback_floor: self.facts.rollback_floor,
            loader_version: self.facts.loader_version,
            pinned: wish.pinned.as_ref(),
            denied: &wish.denied,
            waits_its_turn: wish.waits_its_turn,
        };
        let offered = offer(&verified.releases, &machine, clock.now());
        let newer = offered
            .considered
            .iter()
            .filter(|(_, verdict)| !matches!(verdict, Verdict::Fits | Verdict::Running | Verdict::Older));
        Ok(Checked {
            release: offered.release.cloned().map(Box::new),
            passed_over: newer.map(|(release, verdict)| format!("{}: {verdict}", release.version)).collect(),
        })
    }

    fn clock(&self) -> Clock {
        let saved = std::fs::read_to_string(Path::new("/").join(FLOOR_FILE)).ok();
        let saved = saved.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Clock {
            unix_seconds: unix_now(),
            synchronised: clock_is_synchronised(),
            floor: self.facts.build_time.max(saved),
        }
    }

    /// SAFETY 25: the next boot's clock is not before what signed metadata has proved.
    fn raise_floor(&self, before: u64, floor: u64) -> Result<(), Failure> {
        if floor <= before {
            return Ok(());
        }
        let path = Path::new("/").join(FLOOR_FILE);
        replace(&path, format!("{floor}\n").as_bytes()).map_err(|error| scratch_failure(&error))
    }

    /// Fills the passive slot with a release and proves it. The slot has no flags and no footer afterwards: `apply` is next.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn download(
        &self,
        release: &Release,
        server: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Staged, Proven), Failure> {
        let http = Http::new(server).map_err(|error| http_failure(&error))?;
        let index = self.index(release, &http)?;
        let policy = self.facts.policy();
        let open = || Disk::open_for_content(&self.facts.disk).map_err(|error| disk_failure(&error));
        let mut disk = open()?;
        let before = Pair::read(&mut disk, self.facts.slot).ok();
        let before = before.and_then(|pair| Before::read(&mut disk, &pair.other));
        let mut writer = {
            let mut disk = self.locked()?;
            SlotWriter::begin(&mut disk, self.facts.slot, &index.footer_bytes, &policy)
        }
        .map_err(|error| slot_failure(&error))?;
        let footer = *writer.footer();
        agrees(release, &footer)?;
        let running = self.running(&mut disk);
        let scratch = |name: &str| {
            let path = self.folder.join("download").join(name);
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path).map_err(|error| scratch_failure(&error))
        };
        let (digests, local) = (scratch("digests")?, scratch("local")?);
        let mut fill = Fill::new(&index, &footer, running, digests, local).with_hint(before);
        let mut source = HttpSource { http, path: release.payload.url_path() };
        let mut teller = Teller { tell, stop: &self.stop, told: None };
        let mut laps = Laps::start();
        let learned = fill.learn(&mut disk).and_then(|()| fill.digests(&footer, &mut source, &mut teller));
        learned.map_err(|error| fill_failure(&error))?;
        let learn = laps.lap();
        let brought = fill.bring(&mut disk, &mut writer, &mut source, &mut teller);
        brought.map_err(|error| fill_failure(&error))?;
        let bring = laps.lap();
        (teller.tell)(Event::Verifying);
        let stop = &self.stop;
        let proven = fill.prove(&mut disk, &mut writer).map_err(|error| fill_failure(&error))?;
        if stop.load(Ordering::Relaxed) {
            return Err(fill_failure(&FillError::Stopped));
        }
        eprintln!(
            "{}: {learn:.1} s to learn what there is, {bring:.1} s to fetch {} bytes, copy the rest and read it back, {:.1} s to prove it",
            footer.version,
            fill.fetched(),
            laps.lap()
        );
        Ok((staged(&footer, release.slot_bytes), proven))
    }

    /// The index: from an earlier attempt, or fetched; as signed metadata has it.
    fn index(&self, release: &Release, http: &Http) -> Result<Index, Failure> {
        let path = self.folder.join("download/index");
        let fits = |bytes: &[u8]| {
            bytes.len() as u64 == release.index.length
                && <[u8; 32]>::from(Sha256::digest(bytes)) == release.index.sha256
        };
        let kept = std::fs::read(&path).ok().filter(|bytes| fits(bytes));
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let broken = |message: String| Failure { trouble: Trouble::Mirror, kind: "index", message };
                if release.index.length > MAX_INDEX_BYTES {
                    let message = format!("the release's index has {} bytes", release.index.length);
                    return Err(Failure { trouble: Trouble::Final, kind: "index", message });
                }
                let name = release.index.url_path();
                let bytes = http.get(&name, release.index.length).map_err(|error| http_failure(&error))?;
                let bytes = bytes.ok_or_else(|| broken(format!("the mirror has no {name}")))?;
                if !fits(&bytes) {
                    return Err(broken(format!("the mirror's {name} is not the published one")));
                }
                replace(&path, &bytes).map_err(|error| scratch_failure(&error))?;
                bytes
            }
        };
        Index::parse(&bytes).map_err(|error| Failure {
            trouble: Trouble::Final,
            kind: "index",
            message: format!("the release is broken: {}", chain(&error)),
        })
    }

    /// The running slot, if it can be read as a source of blocks.
    fn running(&self, disk: &mut Disk) -> Option<(Place, Layout)> {
        let pair = Pair::read(disk, self.facts.slot).ok()?;
        let footer = slot::read_footer(disk, &pair.running, &self.facts.policy()).ok()?;
        Some((pair.running, Layout::of(&footer).ok()?))
    }

    /// Seals what is downloaded and lets the next boot try it. `proven` is what the last download ended with, if this process made it.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn apply(&self, proven: Option<&Proven>) -> Result<Staged, Failure> {
        let bytes =
            std::fs::read(self.folder.join("download/index")).map_err(|error| scratch_failure(&error))?;
        let index = Index::parse(&bytes).map_err(|error| Failure {
            trouble: Trouble::Final,
            kind: "index",
            message: format!("the kept index is damaged: {error}"),
        })?;
        let policy = self.facts.policy();
        let failed = |error: SlotError| slot_failure(&error);
        let begun = {
            let mut disk = self.locked()?;
            SlotWriter::begin(&mut disk, self.facts.slot, &index.footer_bytes, &policy)
        };
        let writer = begun.map_err(failed)?;
        let slot_bytes = u64::from(writer.layout().blocks()) * 4096 + slots::FOOTER_LEN as u64;
        let mut disk = Disk::open_for_content(&self.facts.disk).map_err(|error| disk_failure(&error))?;
        let mut laps = Laps::start();
        let footer = writer.seal(&mut disk, &policy, proven, &mut |_| {}).map_err(failed)?;
        eprintln!("{}: {:.1} s to seal and prove the slot", footer.version, laps.lap());
        slot::flip(&mut self.locked()?, self.facts.slot).map_err(failed)?;
        Ok(self.applied(&footer, slot_bytes))
    }

    /// Verifies the whole other slot and lets the next boot try it (SAFETY 19).
    ///
    /// # Errors
    /// [`Failure`]
    pub fn rollback(&self) -> Result<Staged, Failure> {
        let failed = |error: SlotError| slot_failure(&error);
        let mut disk = Disk::open_for_content(&self.facts.disk).map_err(|error| disk_failure(&error))?;
        let pair = Pair::read(&mut disk, self.facts.slot).map_err(failed)?;
        let footer =
            slot::verify(&mut disk, &pair.other, &self.facts.policy(), &mut |_| {}).map_err(failed)?;
        slot::flip(&mut self.locked()?, self.facts.slot).map_err(failed)?;
        let slot_bytes = footer.parts.end().next_multiple_of(4096) + slots::FOOTER_LEN as u64;
        Ok(self.applied(&footer, slot_bytes))
    }

    /// Takes the other slot's flags away.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn withdraw(&self) -> Result<(), Failure> {
        let withdrawn = slot::withdraw(&mut self.locked()?, self.facts.slot);
        withdrawn.map(|_| ()).map_err(|error| slot_failure(&error))
    }

    fn applied(&self, footer: &Footer, slot_bytes: u64) -> Staged {
        Staged { applied: true, boot: Some(self.facts.boot_id.clone()), ..staged(footer, slot_bytes) }
    }

    /// The disk, for changing flags.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn locked(&self) -> Result<Disk, Failure> {
        Disk::open_locked(&self.facts.disk).map_err(|error| disk_failure(&error))
    }
}

fn staged(footer: &Footer, slot_bytes: u64) -> Staged {
    Staged {
        version: footer.version.as_str().to_owned(),
        root_hash: hex(&footer.verity.root_hash),
        slot_bytes,
        applied: false,
        boot: None,
    }
}

/// Metadata and footer are signed by different keys: both must speak of the same slot.
fn agrees(release: &Release, footer: &Footer) -> Result<(), Failure> {
    let same = release.root_hash == footer.verity.root_hash
        && release.version.as_str() == footer.version.as_str()
        && release.product == footer.product.as_str()
        && release.architecture == footer.architecture.as_str();
    if same {
        return Ok(());
    }
    let message = "the release is broken: channel and slot footer name different slots".to_owned();
    Err(Failure { trouble: Trouble::Final, kind: "mismatch", message })
}

/// Seconds between one thing and the next.
struct Laps(Instant);

impl Laps {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
}

struct HttpSource {
    http: Http,
    path: String,
}

impl Source for HttpSource {
    fn open(&mut self, range: Range<u64>) -> io::Result<Box<dyn Read + Send>> {
        let reader = self.http.open(&self.path, &range).map_err(io::Error::other)?;
        Ok(Box::new(reader))
    }
}

struct Teller<'a> {
    tell: &'a mut dyn FnMut(Event),
    stop: &'a AtomicBool,
    told: Option<Instant>,
}

impl Watch for Teller<'_> {
    fn progress(&mut self, now: Progress) -> bool {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            (self.tell)(Event::Progress(now));
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Whether somebody keeps the clock right: whoever does leaves this file, as systemd-timesyncd does. Without it an expired
/// channel is no final answer (SAFETY 25).
fn clock_is_synchronised() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists()
}

fn http_failure(error: &HttpError) -> Failure {
    let (trouble, kind) = match error {
        HttpError::Url(_) | HttpError::Tls(_) => (Trouble::Final, "configuration"),
        HttpError::Request { .. } | HttpError::Read { .. } => (Trouble::Transport, "network"),
        HttpError::Status { status, .. } if status.is_server_error() => (Trouble::Transport, "server"),
        HttpError::Status { .. } | HttpError::Range { .. } | HttpError::TooLong { .. } => {
            (Trouble::Mirror, "server")
        }
    };
    Failure { trouble, kind, message: chain(error) }
}

fn refused_metadata(error: &ClientError) -> Failure {
    let trouble = if error.is_final() { Trouble::Final } else { Trouble::Mirror };
    Failure { trouble, kind: error.kind(), message: chain(error) }
}

fn slot_failure(error: &SlotError) -> Failure {
    let kind = match error {
        SlotError::Unconfirmed => "unconfirmed",
        SlotError::Footer(_) => "loader",
        SlotError::TooSmall { .. } => "room",
        SlotError::Content(_) => "verification",
        SlotError::Io(_) | SlotError::Table(CommitError::Device(_)) => "disk",
        SlotError::Table(_) | SlotError::NoPair(_) | SlotError::Layout(_) => "slots",
    };
    Failure { trouble: Trouble::Final, kind, message: chain(error) }
}

fn fill_failure(error: &FillError) -> Failure {
    let message = chain(error);
    let (trouble, kind) = match error {
        FillError::Transport(inner) => {
            let http = inner.get_ref().and_then(|inner| inner.downcast_ref::<HttpError>());
            return http
                .map_or(Failure { trouble: Trouble::Transport, kind: "network", message }, http_failure);
        }
        FillError::Mirror(_) => (Trouble::Mirror, "hash"),
        FillError::Release(_) => (Trouble::Final, "release"),
        FillError::Slot(error) => return slot_failure(error),
        FillError::Scratch(_) => (Trouble::Final, "state"),
        FillError::Stopped => (Trouble::Stopped, "stopped"),
    };
    Failure { trouble, kind, message }
}

fn scratch_failure(error: &io::Error) -> Failure {
    Failure {
        trouble: Trouble::Final,
        kind: "state",
        message: format!("cannot use {}: {error}", super::os::STATE),
    }
}

fn disk_failure(error: &init::early::disk::DiskError) -> Failure {
    Failure { trouble: Trouble::Final, kind: "disk", message: chain(error) }
}
