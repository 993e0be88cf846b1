//! `ferrite publish add`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use debian::progress::{Progress as _, Unit};
use debian::temporary::Temporary;
use update_engine::channel::{ChannelName, Placement, StateFormat, TARGETS_FOLDER, Version};
use update_engine::payload::{Index, write};

use super::super::progress::Terminal;
use super::super::style;
use super::SigningArgs;
use super::values::{self, RolloutArgs, StateSpec};
use crate::build::{Manifest, manifest_path};
use crate::erofs::BLOCK_BYTES;
use crate::payload::groups as payload_groups;
use crate::publish::folder::ChannelFolder;
use crate::publish::slot::{Declared, read_footer, release, state_of, target_path};
use crate::publish::{Outcome, Source, checks};
use crate::signing::PublicKey;

/// Arguments of `publish add`.
#[derive(Debug, ClapArgs)]
pub struct AddArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// The slot image (.usr), which `ferrite build` writes beside the disk image
    #[arg(value_name = "SLOT")]
    pub slot: PathBuf,
    /// Channels that get it, separated by commas; may be repeated
    #[arg(long, value_name = "CHANNEL", value_delimiter = ',', required = true, value_parser = values::channel)]
    pub channel: Vec<ChannelName>,
    /// How it spreads there.
    #[command(flatten)]
    pub rollout: RolloutArgs,
    /// Oldest version that can go to this one in one step
    #[arg(long, value_name = "VERSION", value_parser = values::version)]
    pub minimum_version: Option<Version>,
    /// A kind of state, the format that is written and those that are read, such as etcd=3.5:3.4,3.5; may be repeated
    /// [default: what follows from the packages in the image's manifest]
    #[arg(long, value_name = "KIND=WRITES[:READS,...]")]
    pub state: Vec<StateSpec>,
    /// Declare that machines cannot go back from this release by themselves once it was good
    #[arg(long)]
    pub no_automatic_rollback: bool,
    /// What is new, for people
    #[arg(long, value_name = "TEXT", conflicts_with = "notes_file")]
    pub notes: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE")]
    pub notes_file: Option<PathBuf>,
    /// Publish an image that is signed with the development key, which everybody has
    #[arg(long)]
    pub allow_development_key: bool,
    /// Index of a payload that exists already, in place of making one
    #[arg(long, value_name = "FILE", requires = "payload")]
    pub index: Option<PathBuf>,
    /// The payload that belongs to it
    #[arg(long, value_name = "FILE", requires = "index")]
    pub payload: Option<PathBuf>,
}

/// Index and payload, where they are, and what was made for them.
struct Files {
    index: PathBuf,
    payload: PathBuf,
    /// Removed when the release has been published.
    _made: Vec<Temporary>,
}

impl AddArgs {
    /// Publishes the release.
    ///
    /// # Errors
    /// It is refused, or something cannot be read, signed or written.
    pub fn run(&self) -> Result<Outcome> {
        let (footer, slot_bytes) = read_footer(&self.slot)?;
        checks::check_slot_key(&footer, PublicKey::development()?.id(), self.allow_development_key)?;
        let publisher = self.signing.publisher()?;
        let rollout = self.rollout.rollout(publisher.now)?;
        let manifest = self.manifest()?;
        let place = |name: &ChannelName| (name.clone(), Placement { rollout, withdrawn: None });
        let declared = Declared {
            minimum_version: self.minimum_version.clone(),
            state: self.state(manifest.as_ref()),
            automatic_rollback: !self.no_automatic_rollback,
            notes: self.notes()?,
            channels: self.channel.iter().map(place).collect(),
        };
        let files = self.files(manifest.as_ref(), publisher.folder.path())?;
        let source = |path: &Path, ending: &str| {
            let target = ChannelFolder::measure(path, target_path(&footer, ending)?)?;
            anyhow::Ok(Source { path: path.to_owned(), target })
        };
        let sources = [source(&files.index, "index")?, source(&files.payload, "payload")?];
        let [index, payload] = sources.each_ref().map(|source| source.target.clone());
        let release = release(&footer, slot_bytes, index, payload, declared)?;
        Ok(publisher.add(&release, &sources)?)
    }

    fn notes(&self) -> Result<String> {
        match &self.notes_file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read the notes from {}", path.display())),
            None => Ok(self.notes.clone().unwrap_or_default()),
        }
    }

    /// The manifest beside the slot image, if there is one.
    fn manifest(&self) -> Result<Option<Manifest>> {
        let path = manifest_path(&self.slot);
        match Manifest::load(&path) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read the manifest {}", path.display())),
        }
    }

    /// What follows from the packages, and what is said here, which wins.
    fn state(&self, manifest: Option<&Manifest>) -> BTreeMap<String, StateFormat> {
        let mut state = manifest.map(state_of).unwrap_or_default();
        state.extend(self.state.iter().map(|spec| (spec.kind.clone(), spec.format.clone())));
        state
    }

    /// The index and payload that are named, or new ones, made in the channel folder.
    fn files(&self, manifest: Option<&Manifest>, folder: &Path) -> Result<Files> {
        if let (Some(index), Some(payload)) = (&self.index, &self.payload) {
            // A machine would fetch it only to find that it makes nothing of it.
            let bytes =
                fs::read(index).with_context(|| format!("cannot read the index {}", index.display()))?;
            Index::parse(&bytes).with_context(|| format!("cannot use the index {}", index.display()))?;
            return Ok(Files { index: index.clone(), payload: payload.clone(), _made: Vec::new() });
        }
        let place = |ending: &str| {
            Temporary::new(folder.join(TARGETS_FOLDER).join(format!(".{ending}.{}", std::process::id())))
        };
        let (index, payload) = (place("index"), place("payload"));
        let slot = File::open(&self.slot).with_context(|| format!("cannot read {}", self.slot.display()))?;
        let blocks = slot.metadata().map(|metadata| metadata.len() / BLOCK_BYTES)?;
        let groups = manifest.map(payload_groups).unwrap_or_default();
        if manifest.is_none() {
            style::say("note: without the manifest beside the slot image, updates fetch more than they need");
        }
        let terminal = Terminal::new();
        let task = terminal.begin("compressing", blocks, Unit::Items);
        let failed = || format!("cannot make the payload of {}", self.slot.display());
        let mut out = BufWriter::new(File::create(payload.path()).with_context(failed)?);
        let made = write::write(&slot, &groups, &mut out, |blocks| task.advance(u64::from(blocks)));
        let made = made.with_context(failed)?;
        out.flush().with_context(failed)?;
        drop(task);
        terminal.finish();
        fs::write(index.path(), made.to_bytes()).with_context(failed)?;
        Ok(Files {
            index: index.path().to_owned(),
            payload: payload.path().to_owned(),
            _made: vec![index, payload],
        })
    }
}
