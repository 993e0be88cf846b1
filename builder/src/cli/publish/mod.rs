//! `ferrite publish`: releases on channels.

mod add;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use update_engine::channel::key::PublicKey;
use update_engine::channel::metadata::{Date, Role};
use update_engine::channel::sign::Lifetimes;
use update_engine::channel::{ChannelName, Version};

use self::add::AddArgs;
use self::values::{Lifetime, RoleSpec, RolloutArgs};
use super::passphrase::PassphraseArgs;
use super::{FAILED, key, output, style};
use crate::keys::KeyFolder;
use crate::publish::folder::ChannelFolder;
use crate::publish::rotate::RoleKeys;
use crate::publish::view::View;
use crate::publish::{Outcome, Publisher};

/// Arguments of `publish`.
#[derive(Debug, ClapArgs)]
pub struct PublishArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PublishCommand,
}

/// Commands below `publish`.
#[derive(Debug, Subcommand)]
pub enum PublishCommand {
    /// Makes a channel folder
    ///
    /// Each role has the key that is called like it (`root`, `targets`, `snapshot`, `timestamp`), unless --set says otherwise.
    ///
    /// Exit codes: 0 made; 1 refused or failed, stderr says why; 2 wrong use.
    Init(InitArgs),
    /// Adds a release, made of a slot image, to channels
    ///
    /// Refused are: images signed with the development key, other products and architectures, versions and rollback indexes
    /// below what a channel has, steps that lose state or cannot be undone (unless that is declared), and whatever a machine
    /// would refuse.
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Add(Box<AddArgs>),
    /// Brings a release to another channel
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Promote(PromoteArgs),
    /// Changes how a release spreads in a channel
    ///
    /// A larger percentage only ever adds machines; a smaller one takes the release away from machines that have not got it.
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Rollout(ChangeRolloutArgs),
    /// Takes a release out of a channel; machines that run it stay on it
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Withdraw(WithdrawArgs),
    /// Signs the timestamp anew, which a timer must do before it expires
    ///
    /// Snapshot and targets are signed anew as well when less than a third of their life is left and their keys are here.
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Refresh(RefreshArgs),
    /// Makes a new root: other keys, other thresholds, or a longer life
    ///
    /// Holders of root keys may sign one after the other: until enough have signed, the new root waits in
    /// DIR/staged-root.json, and this command without --set adds the signatures of the keys that are here.
    ///
    /// Exit codes: 0 the new root counts; 1 refused or failed, or signatures are missing, stderr says which; 2 wrong use.
    Rotate(RotateArgs),
    /// Shows what machines see; needs no keys
    ///
    /// Exit codes: 0 shown; 1 machines would refuse the folder, or with --verify: a file is missing or damaged; 2 wrong use.
    Show(ShowArgs),
}

/// What all commands that sign have in common.
#[derive(Debug, ClapArgs)]
pub struct SigningArgs {
    /// The channel folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Folder of keys, such as a stick with root keys; may be repeated [default: $FERRITE_KEYS,
    /// $XDG_CONFIG_HOME/ferrite/keys, ~/.config/ferrite/keys]
    #[arg(long, value_name = "DIR")]
    pub keys: Vec<PathBuf>,
    /// Their passphrases.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// For how long what is signed is good, such as timestamp=2d; may be repeated [default: root=365d, targets=90d,
    /// snapshot=90d, timestamp=7d]
    #[arg(long, value_name = "ROLE=TIME")]
    pub lifetime: Vec<Lifetime>,
    /// Check, sign and show everything, but write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl SigningArgs {
    fn key_folders(&self) -> Result<Vec<KeyFolder>> {
        if !self.keys.is_empty() {
            return Ok(self.keys.iter().cloned().map(KeyFolder::new).collect());
        }
        let named = std::env::var_os("FERRITE_KEYS").filter(|value| !value.is_empty());
        Ok(vec![KeyFolder::new(named.map_or_else(key::default_folder, |path| Ok(path.into()))?)])
    }

    fn publisher(&self) -> Result<Publisher<'_>> {
        let mut lifetimes = Lifetimes::default();
        for Lifetime { role, seconds } in &self.lifetime {
            match role {
                Role::Root => lifetimes.root = *seconds,
                Role::Targets => lifetimes.targets = *seconds,
                Role::Snapshot => lifetimes.snapshot = *seconds,
                Role::Timestamp => lifetimes.timestamp = *seconds,
            }
        }
        Ok(Publisher {
            folder: ChannelFolder::lock(&self.folder)?,
            keys: self.key_folders()?,
            passphrases: &self.passphrase,
            now: key::now()?,
            lifetimes,
            dry_run: self.dry_run,
        })
    }
}

/// Arguments of `publish init`.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// Keys of a role, by name or as 64 hexadecimal digits, and how many of them must sign, such as root=ann,bob,eve:2;
    /// may be repeated
    #[arg(long, value_name = "ROLE=KEY,...[:N]")]
    pub set: Vec<RoleSpec>,
}

/// Arguments of `publish promote`.
#[derive(Debug, ClapArgs)]
pub struct PromoteArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// The release
    #[arg(value_name = "VERSION", value_parser = values::version)]
    pub version: Version,
    /// The channel that it comes to
    #[arg(long, value_name = "CHANNEL", value_parser = values::channel)]
    pub to: ChannelName,
    /// How it spreads.
    #[command(flatten)]
    pub rollout: RolloutArgs,
}

/// Arguments of `publish rollout`.
#[derive(Debug, ClapArgs)]
pub struct ChangeRolloutArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// The release
    #[arg(value_name = "VERSION", value_parser = values::version)]
    pub version: Version,
    /// The channel
    #[arg(long, value_name = "CHANNEL", value_parser = values::channel)]
    pub channel: ChannelName,
    /// How it spreads from now on; what is not said stays.
    #[command(flatten)]
    pub rollout: RolloutArgs,
}

/// Arguments of `publish withdraw`.
#[derive(Debug, ClapArgs)]
pub struct WithdrawArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// The release
    #[arg(value_name = "VERSION", value_parser = values::version)]
    pub version: Version,
    /// The channel [default: all that have it]
    #[arg(long, value_name = "CHANNEL", value_parser = values::channel)]
    pub channel: Option<ChannelName>,
    /// Why, in words that owners of machines will read
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Arguments of `publish refresh`.
#[derive(Debug, ClapArgs)]
pub struct RefreshArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// Arguments of `publish rotate`.
#[derive(Debug, ClapArgs)]
pub struct RotateArgs {
    /// Where and with what.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// New keys of a role, by name or as 64 hexadecimal digits, and how many of them must sign, such as
    /// root=ann,eve:2; may be repeated
    #[arg(long, value_name = "ROLE=KEY,...[:N]")]
    pub set: Vec<RoleSpec>,
    /// Forget the root that waits for signatures
    #[arg(long, conflicts_with = "set")]
    pub discard: bool,
}

/// Arguments of `publish show`.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// The channel folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Read every payload and compare its hash as well
    #[arg(long)]
    pub verify: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs a command below `publish`.
///
/// # Errors
/// It is refused, or something cannot be read, signed or written.
pub fn run(args: &PublishArgs) -> Result<ExitCode> {
    let (outcome, json) = match &args.command {
        PublishCommand::Init(args) => (init(args)?, args.signing.json),
        PublishCommand::Add(args) => (args.run()?, args.signing.json),
        PublishCommand::Promote(args) => {
            let publisher = args.signing.publisher()?;
            let rollout = args.rollout.rollout(publisher.now)?;
            (publisher.promote(&args.version, &args.to, rollout)?, args.signing.json)
        }
        PublishCommand::Rollout(args) => {
            let publisher = args.signing.publisher()?;
            let change = args.rollout.change(publisher.now)?;
            (publisher.set_rollout(&args.version, &args.channel, change)?, args.signing.json)
        }
        PublishCommand::Withdraw(args) => {
            let publisher = args.signing.publisher()?;
            (publisher.withdraw(&args.version, args.channel.as_ref(), &args.reason)?, args.signing.json)
        }
        PublishCommand::Refresh(args) => (args.signing.publisher()?.refresh()?, args.signing.json),
        PublishCommand::Rotate(args) => match rotate(args)? {
            Some(outcome) => (outcome, args.signing.json),
            None => return Ok(ExitCode::SUCCESS),
        },
        PublishCommand::Show(args) => return show(args),
    };
    print(&outcome, json)
}

fn init(args: &InitArgs) -> Result<Outcome> {
    let publisher = args.signing.publisher()?;
    let mut roles = role_keys(&publisher.keys, &args.set)?;
    for role in Role::ALL {
        if !roles.contains_key(&role) {
            let own = RoleSpec { role, keys: vec![role.name().to_owned()], threshold: 1 };
            roles.extend(role_keys(&publisher.keys, &[own])?);
        }
    }
    Ok(publisher.init(&roles)?)
}

fn rotate(args: &RotateArgs) -> Result<Option<Outcome>> {
    let publisher = args.signing.publisher()?;
    if args.discard {
        publisher.discard_staged()?;
        return Ok(None);
    }
    let roles = role_keys(&publisher.keys, &args.set)?;
    if roles.is_empty()
        && let Some(outcome) = publisher.sign_staged()?
    {
        return Ok(Some(outcome));
    }
    Ok(Some(publisher.rotate(&roles)?))
}

/// The public keys that are named for roles.
fn role_keys(folders: &[KeyFolder], specs: &[RoleSpec]) -> Result<BTreeMap<Role, RoleKeys>> {
    let mut roles = BTreeMap::new();
    for spec in specs {
        let keys = spec.keys.iter().map(|name| public_key(folders, name)).collect::<Result<Vec<_>>>();
        let keys = keys.with_context(|| format!("cannot find the keys for {}", spec.role))?;
        if roles.insert(spec.role, RoleKeys { keys, threshold: spec.threshold }).is_some() {
            bail!("--set names {} twice", spec.role);
        }
    }
    Ok(roles)
}

fn public_key(folders: &[KeyFolder], name: &str) -> Result<PublicKey> {
    if let Some(bytes) = update_engine::channel::key::unhex(name) {
        return PublicKey::from_bytes(bytes).with_context(|| format!("{name} is no public key"));
    }
    let mut result = Err(anyhow::anyhow!("no folder of keys is named"));
    for folder in folders {
        match folder.get(name) {
            Ok(file) => return Ok(file.public_key()?),
            Err(error) => {
                let hint = format!("hint: `ferrite key new {name}` makes it");
                result = Err(anyhow::anyhow!("{error}; {hint}"));
            }
        }
    }
    result
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let passphrase = PassphraseArgs::default();
    let publisher = Publisher {
        folder: ChannelFolder::new(&args.folder),
        keys: Vec::new(),
        passphrases: &passphrase,
        now: key::now()?,
        lifetimes: Lifetimes::default(),
        dry_run: true,
    };
    let mut view = publisher.show()?;
    let mut good = publisher.folder.seen_by_machine(&[], publisher.now.unix())?.is_ok();
    if args.verify {
        let damaged = publisher.damaged_targets()?;
        good &= damaged.is_empty();
        view.warnings.extend(damaged.into_iter().map(|name| format!("{name} is missing or damaged")));
    }
    if args.json {
        output::print_json(&view)?;
    } else {
        output::print(view.text())?;
        warn(&view);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What came of a change: what was written goes to stderr, what machines see is the result.
fn print(outcome: &Outcome, json: bool) -> Result<ExitCode> {
    if json {
        output::print_json(outcome)?;
    } else {
        let verb = if outcome.dry_run { "would write" } else { "wrote" };
        for name in &outcome.written {
            style::say(&format!("{verb} {name}"));
        }
        output::print(outcome.view.text())?;
        warn(&outcome.view);
    }
    match &outcome.staged_root {
        Some(staged) => {
            style::say(&format!(
                "note: root {} waits in {}: {}",
                staged.version, staged.file, staged.missing
            ));
            Ok(ExitCode::from(FAILED))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

fn warn(view: &View) {
    for warning in &view.warnings {
        style::say(&format!("warning: {warning}"));
    }
}

/// `--start`: a moment, or how long from now.
fn moment(text: &str, now: Date) -> Result<Date> {
    let later = text.strip_prefix('+').map(values::seconds);
    match later {
        Some(Ok(seconds)) => Date::from_unix(now.unix().saturating_add(seconds)).context("the start is too late"),
        Some(Err(error)) => bail!(error),
        None => Date::parse(text).with_context(|| {
            format!("{text:?} is no start; hint: a moment in UTC such as 2026-12-01T08:00:00Z, or +2h for two hours from now")
        }),
    }
}
