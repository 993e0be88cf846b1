//! `ferrite publish`: the publisher's side of a channel folder.
//!
//! Every change goes the same way: read the folder as a machine would, check the change ([`checks`], pure), sign the next
//! edition (`update_engine::channel::sign`, pure), let a machine's client judge it, write it with the timestamp last, and
//! say what machines will see ([`view`], pure).

pub mod checks;
pub mod folder;
pub mod rotate;
pub mod slot;
#[cfg(test)]
mod tests;
pub mod view;

use std::path::PathBuf;

use serde::Serialize;
use update_engine::channel::key::{PrivateKey, PublicKey};
use update_engine::channel::metadata::{Date, Role, Root};
use update_engine::channel::sign::{self, Edition, Lifetimes, Renewal, SignError};
use update_engine::channel::{
    ChannelName, ClientError, Placement, Release, Rollout, TargetFile, Version, Withdrawal,
};

use self::checks::Refusal;
use self::folder::{ChannelFolder, Content, FolderError};
use self::view::View;
use crate::keys::{KeyFolder, KeysError, Passphrases};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Signatures are missing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It would do harm.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A machine would refuse what was about to be written.
    #[error("machines would refuse this edition, so it was not written")]
    Unbelievable(#[source] ClientError),
    /// The description of the release does not fit into metadata.
    #[error("the release {0} cannot be described: its build time or a name is out of range")]
    Description(Version),
    /// A root is half signed.
    #[error(
        "a new root waits for signatures in {}; hint: `publish rotate` without --set signs it, --discard forgets it",
        .0.display()
    )]
    RootStaged(PathBuf),
}

/// What was published, or would be.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Files that were written, below the folder, in this order.
    pub written: Vec<String>,
    /// A new root that waits for more signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_root: Option<rotate::Staged>,
    /// What machines see.
    #[serde(flatten)]
    pub view: View,
}

/// Somebody who publishes.
pub struct Publisher<'a> {
    /// Where.
    pub folder: ChannelFolder,
    /// Folders of keys.
    pub keys: Vec<KeyFolder>,
    /// Their passphrases.
    pub passphrases: &'a dyn Passphrases,
    /// The time, for all of this command.
    pub now: Date,
    /// For how long what is signed is good.
    pub lifetimes: Lifetimes,
    /// Do everything but write.
    pub dry_run: bool,
}

impl std::fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("folder", &self.folder)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A file to publish and where it comes from.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What it is in the metadata.
    pub target: TargetFile,
}

impl Publisher<'_> {
    /// Adds a release to channels.
    ///
    /// # Errors
    /// [`PublishError`]
    pub fn add(&self, release: &Release, sources: &[Source]) -> Result<Outcome, PublishError> {
        self.change(sources, |releases| {
            checks::check_new(release, releases)?;
            for channel in release.channels.keys() {
                checks::check_placement(release, channel, releases)?;
            }
            Ok(release.clone())
        })
    }

    /// Brings a release to another channel.
    ///
    /// # Errors
    /// [`PublishError`]
    pub fn promote(
        &self,
        version: &Version,
        to: &ChannelName,
        rollout: Rollout,
    ) -> Result<Outcome, PublishError> {
        self.change(&[], |releases| {
            let mut release = find(releases, version)?.clone();
            if let Some(withdrawal) =
                release.channels.get(to).and_then(|placement| placement.withdrawn.as_ref())
            {
                let reason = withdrawal.reason.clone();
                return Err(Refusal::Withdrawn { version: version.clone(), channel: to.clone(), reason });
            }
            checks::check_placement(&release, to, releases)?;
            release.channels.insert(to.clone(), Placement { rollout, withdrawn: None });
            Ok(release)
        })
    }

    /// Changes how a release spreads.
    ///
    /// # Errors
    /// [`PublishError`]
    pub fn set_rollout(
        &self,
        version: &Version,
        channel: &ChannelName,
        rollout: impl FnOnce(Rollout) -> Rollout,
    ) -> Result<Outcome, PublishError> {
        self.change(&[], |releases| {
            let mut release = find(releases, version)?.clone();
            let placement = placement(&mut release, channel)?;
            placement.rollout = rollout(placement.rollout);
            Ok(release)
        })
    }

    /// Takes a release out of a channel, or out of all.
    ///
    /// # Errors
    /// [`PublishError`]
    pub fn withdraw(
        &self,
        version: &Version,
        channel: Option<&ChannelName>,
        reason: &str,
    ) -> Result<Outcome, PublishError> {
        self.change(&[], |releases| {
            let mut release = find(releases, version)?.clone();
            let channels: Vec<ChannelName> = match channel {
                Some(channel) => vec![channel.clone()],
                None => release.channels.keys().cloned().collect(),
            };
            for channel in &channels {
                let withdrawal = Withdrawal { at: self.now, reason: reason.to_owned() };
                placement(&mut release, channel)?.withdrawn = Some(withdrawal);
            }
            Ok(release)
        })
    }

    /// Signs the timestamp anew, and what else would expire soon and can be signed with the keys here.
    ///
    /// # Errors
    /// [`PublishError`]
    pub fn refresh(&self) -> Result<Outcome, PublishError> {
        let content = self.folder.load()?;
        let edition = &content.edition;
        let old = |role: Role, expires: Date| {
            let left = expires.unix().saturating_sub(self.now.unix());
            left < self.lifetimes.of(role) / 3 && self.has_keys(&content.root, role).unwrap_or(false)
        };
        let renewal = if content.root_alone || old(Role::Targets, edition.targets.expires) {
            Renewal::Targets
        } else if old(Role::Snapshot, edition.snapshot.expires) {
            Renewal::Snapshot
        } else {
            Renewal::Timestamp
        };
        let next = self.next(&content.root, edition, renewal)?;
        self.finish(&content.root, &[], next, &[])
    }

    /// What machines see now. Needs no keys.
    ///
    /// # Errors
    /// The folder cannot be read, or does not verify.
    pub fn show(&self) -> Result<View, PublishError> {
        let Content { root, edition, verified, root_alone } = self.folder.load()?;
        let mut view = View::new(&root, &edition, &verified.releases, &verified.unreadable, self.now.unix());
        if root_alone {
            let text = "a command was cut short: machines refuse this folder until `publish refresh` has run with all keys";
            view.warnings.push(text.to_owned());
        }
        if let Some((_, root)) = self.folder.staged_root()? {
            view.warnings.push(format!("root {} waits for signatures: `publish rotate`", root.version));
        }
        Ok(view)
    }

    /// The targets that are missing or damaged, by their paths.
    ///
    /// # Errors
    /// The folder cannot be read, or does not verify.
    pub fn damaged_targets(&self) -> Result<Vec<String>, PublishError> {
        let content = self.folder.load()?;
        let mut damaged = Vec::new();
        for release in &content.verified.releases {
            for file in [&release.index, &release.payload] {
                if !self.folder.holds(file)? {
                    damaged.push(file.url_path());
                }
            }
        }
        Ok(damaged)
    }

    /// One change of one release.
    fn change(
        &self,
        sources: &[Source],
        change: impl FnOnce(&[Release]) -> Result<Release, Refusal>,
    ) -> Result<Outcome, PublishError> {
        let content = self.folder.load()?;
        let release = change(&content.verified.releases)?;
        let mut edition = content.edition.clone();
        if !release.put(&mut edition.targets) {
            return Err(PublishError::Description(release.version));
        }
        let next = self.next(&content.root, &edition, Renewal::Targets)?;
        self.finish(&content.root, sources, next, &[])
    }

    fn next(
        &self,
        root: &Root,
        edition: &Edition,
        renewal: Renewal,
    ) -> Result<(Edition, Vec<sign::File>), PublishError> {
        let roles: &[Role] = match renewal {
            Renewal::Timestamp => &[Role::Timestamp],
            Renewal::Snapshot => &[Role::Snapshot, Role::Timestamp],
            Renewal::Targets => &[Role::Targets, Role::Snapshot, Role::Timestamp],
        };
        // Before anybody is asked for a passphrase.
        for role in roles {
            self.need_keys(root, *role)?;
        }
        let keys = self.unlock(&|key| roles.iter().any(|role| counts(root, *role, key)))?;
        Ok(edition.next(renewal, root, self.now, &self.lifetimes, &keys)?)
    }

    /// Lets a machine judge the next edition, writes it, and says what machines see.
    fn finish(
        &self,
        root: &Root,
        sources: &[Source],
        (edition, files): (Edition, Vec<sign::File>),
        before: &[sign::File],
    ) -> Result<Outcome, PublishError> {
        let files: Vec<sign::File> = before.iter().cloned().chain(files).collect();
        let seen = self.folder.seen_by_machine(&files, self.now.unix())?;
        let seen = seen.map_err(PublishError::Unbelievable)?;
        let mut written = Vec::new();
        for source in sources {
            written.push(source.target.url_path());
            if !self.dry_run {
                self.folder.put_target(&source.path, &source.target)?;
            }
        }
        written.extend(
            files.iter().map(|file| format!("{}/{}", update_engine::channel::METADATA_FOLDER, file.name)),
        );
        if !self.dry_run {
            self.folder.write(&files)?;
        }
        let view = View::new(root, &edition, &seen.releases, &seen.unreadable, self.now.unix());
        Ok(Outcome { dry_run: self.dry_run, written, staged_root: None, view })
    }

    /// Decrypts keys in all folders; one that lies in two of them counts once.
    fn unlock(&self, wanted: &dyn Fn(PublicKey) -> bool) -> Result<Vec<PrivateKey>, KeysError> {
        let mut keys: Vec<PrivateKey> = Vec::new();
        for folder in &self.keys {
            let seen: Vec<PublicKey> = keys.iter().map(PrivateKey::public).collect();
            keys.extend(folder.unlock(self.passphrases, &|key| wanted(key) && !seen.contains(&key))?);
        }
        Ok(keys)
    }

    /// The public halves of all keys here.
    fn public_keys(&self) -> Result<Vec<PublicKey>, KeysError> {
        let mut keys = Vec::new();
        for folder in &self.keys {
            for file in folder.list()? {
                let path = folder.path().join(file.name());
                keys.push(file.public_key().map_err(|source| KeysError::File { path, source })?);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// How many keys of a role are here.
    fn found(&self, root: &Root, role: Role) -> Result<usize, KeysError> {
        Ok(self.public_keys()?.into_iter().filter(|key| counts(root, role, *key)).count())
    }

    fn has_keys(&self, root: &Root, role: Role) -> Result<bool, KeysError> {
        Ok(self.need_keys(root, role).is_ok())
    }

    fn need_keys(&self, root: &Root, role: Role) -> Result<(), PublishError> {
        let (found, wanted) = (self.found(root, role)?, root.role(role));
        if u32::try_from(found).is_ok_and(|found| found >= wanted.threshold()) {
            return Ok(());
        }
        let of = wanted.keys().keys().cloned().collect();
        Err(SignError::Keys { role, needed: wanted.threshold(), found, of }.into())
    }
}

fn counts(root: &Root, role: Role, key: PublicKey) -> bool {
    root.role(role).keys().values().any(|own| *own == key)
}

fn find<'a>(releases: &'a [Release], version: &Version) -> Result<&'a Release, Refusal> {
    let found = releases.iter().find(|release| release.version == *version);
    found.ok_or_else(|| Refusal::NoRelease(version.clone()))
}

/// A release's place in a channel that it is in and was not withdrawn from.
fn placement<'a>(release: &'a mut Release, channel: &ChannelName) -> Result<&'a mut Placement, Refusal> {
    let version = release.version.clone();
    let placement = release.channels.get_mut(channel);
    let placement = placement
        .ok_or_else(|| Refusal::NotInChannel { version: version.clone(), channel: channel.clone() })?;
    match &placement.withdrawn {
        Some(withdrawal) => {
            let reason = withdrawal.reason.clone();
            Err(Refusal::Withdrawn { version, channel: channel.clone(), reason })
        }
        None => Ok(placement),
    }
}
