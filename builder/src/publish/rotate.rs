//! Roots: the first one, and how each following one comes about. Holders of root keys may sign one after the other, each
//! on a machine of their own: until enough have, the new root waits beside the metadata.

use std::collections::BTreeMap;

use serde::Serialize;
use update_engine::channel::key::PublicKey;
use update_engine::channel::metadata::{Envelope, MetadataError, Role, Root};
use update_engine::channel::sign::SignError;
use update_engine::channel::sign::{self, Edition, Renewal};

use super::folder::{Content, FolderError};
use super::view::View;
use super::{Outcome, PublishError, Publisher, counts};

/// The keys that a role gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// A new root that is not signed by enough yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staged {
    /// Its version.
    pub version: u64,
    /// Where it waits.
    pub file: String,
    /// What is missing.
    pub missing: String,
}

fn metadata(role: Role) -> impl Fn(MetadataError) -> PublishError {
    move |source| SignError::Metadata { role, source }.into()
}

impl Publisher<'_> {
    /// Makes a channel folder: the first root and an edition without a release.
    ///
    /// # Errors
    /// There is one already; keys are missing.
    pub fn init(&self, roles: &BTreeMap<Role, RoleKeys>) -> Result<Outcome, PublishError> {
        if self.folder.exists() {
            return Err(FolderError::Exists(self.folder.path().to_owned()).into());
        }
        let mut root = Root::new(self.lifetimes.expiry(Role::Root, self.now)?);
        for (role, keys) in roles {
            root.set_role(*role, &keys.keys, keys.threshold);
        }
        for role in Role::ALL {
            self.need_keys(&root, role)?;
        }
        let keys = self.unlock(&|key| Role::ALL.into_iter().any(|role| counts(&root, role, key)))?;
        let mut envelope = Envelope::new(&root).map_err(metadata(Role::Root))?;
        sign::add_root_signatures(&mut envelope, &root, None, &keys);
        sign::root_is_signed(&envelope, &root, None)?;
        let (edition, mut files) = Edition::first(&root, self.now, &self.lifetimes, &keys)?;
        // Last: with it the folder is one.
        files.push(sign::File { name: "1.root.json".to_owned(), bytes: envelope.to_bytes() });
        self.finish(&root, &[], (edition, files), &[])
    }

    /// Begins a new root with other keys, or one that only lives longer, and signs it with the keys here.
    ///
    /// # Errors
    /// One waits already; a role would have fewer keys than must sign.
    pub fn rotate(&self, roles: &BTreeMap<Role, RoleKeys>) -> Result<Outcome, PublishError> {
        if self.folder.staged_root()?.is_some() {
            return Err(PublishError::RootStaged(self.folder.staged_root_path()));
        }
        let mut root = self.folder.load()?.root;
        root.version = root.version.saturating_add(1);
        root.expires = self.lifetimes.expiry(Role::Root, self.now)?;
        for (role, keys) in roles {
            root.set_role(*role, &keys.keys, keys.threshold);
        }
        let envelope = Envelope::new(&root).map_err(metadata(Role::Root))?;
        self.sign_root(envelope, &root)
    }

    /// Signs the root that waits with the keys here.
    ///
    /// # Errors
    /// None waits, or it is not the next one any more.
    pub fn sign_staged(&self) -> Result<Option<Outcome>, PublishError> {
        match self.folder.staged_root()? {
            Some((envelope, root)) => self.sign_root(envelope, &root).map(Some),
            None => Ok(None),
        }
    }

    /// Forgets the root that waits.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn discard_staged(&self) -> Result<(), PublishError> {
        if self.dry_run { Ok(()) } else { Ok(self.folder.stage_root(None)?) }
    }

    /// Adds the signatures of the keys here. When it has enough, the root counts, and what its new keys must sign is signed
    /// anew.
    fn sign_root(&self, mut envelope: Envelope, root: &Root) -> Result<Outcome, PublishError> {
        let content = self.folder.load()?;
        let before = &content.root;
        let is_root_key = |key| counts(before, Role::Root, key) || counts(root, Role::Root, key);
        let keys = self.unlock(&is_root_key)?;
        sign::add_root_signatures(&mut envelope, root, Some(before), &keys);
        let complete = sign::root_is_signed(&envelope, root, Some(before));
        // What has other keys now must be signed by them in the same moment.
        let next = match complete {
            Ok(()) => self.after_root(before, root, &content.edition),
            Err(missing) => Err(missing.into()),
        };
        let next = match next {
            Err(PublishError::Sign(missing)) => return self.stage(&envelope, root, &content, &missing),
            result => result?,
        };
        let file = sign::File { name: format!("{}.root.json", root.version), bytes: envelope.to_bytes() };
        let outcome = self.finish(root, &[], next, &[file])?;
        if !self.dry_run {
            self.folder.stage_root(None)?;
        }
        Ok(outcome)
    }

    /// The edition that goes with a new root.
    fn after_root(
        &self,
        before: &Root,
        root: &Root,
        edition: &Edition,
    ) -> Result<(Edition, Vec<sign::File>), PublishError> {
        let changed = |role| before.role(role) != root.role(role);
        if changed(Role::Targets) {
            self.next(root, edition, Renewal::Targets)
        } else if changed(Role::Snapshot) {
            self.next(root, edition, Renewal::Snapshot)
        } else if changed(Role::Timestamp) {
            self.next(root, edition, Renewal::Timestamp)
        } else {
            Ok((edition.clone(), Vec::new()))
        }
    }

    /// Keeps a root until it is signed by enough.
    fn stage(
        &self,
        envelope: &Envelope,
        root: &Root,
        content: &Content,
        missing: &SignError,
    ) -> Result<Outcome, PublishError> {
        if !self.dry_run {
            self.folder.stage_root(Some(envelope))?;
        }
        let staged = Staged {
            version: root.version,
            file: self.folder.staged_root_path().display().to_string(),
            missing: missing.to_string(),
        };
        let verified = &content.verified;
        let view = View::new(
            &content.root,
            &content.edition,
            &verified.releases,
            &verified.unreadable,
            self.now.unix(),
        );
        Ok(Outcome { dry_run: self.dry_run, written: Vec::new(), staged_root: Some(staged), view })
    }
}
