//! `ferrite key`: the keys that sign channels and images.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use update_engine::channel::key::hex;
use update_engine::channel::metadata::Date;

use super::output;
use super::passphrase::PassphraseArgs;
use crate::keys::KeyFolder;
use crate::keys::file::KeyFile;

/// Arguments of `key`.
#[derive(Debug, ClapArgs)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// Commands below `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a signing key, encrypted under a passphrase, and prints its file
    ///
    /// A channel folder needs keys for four roles; those that are called `root`, `targets`, `snapshot` and `timestamp` are what
    /// `ferrite publish init` takes by itself. Keep the root keys off the machine that publishes.
    ///
    /// Exit codes: 0 made; 1 refused or failed, stderr says why; 2 wrong use.
    New(NewArgs),
    /// Lists the keys of a folder
    ///
    /// Exit codes: 0 listed; 1 the folder cannot be read; 2 wrong use.
    List(ListArgs),
    /// Shows the public half of a key
    ///
    /// Exit codes: 0 shown; 1 there is no such key; 2 wrong use.
    Show(ShowArgs),
    /// Gives a key another passphrase
    ///
    /// Exit codes: 0 changed; 1 refused or failed, stderr says why; 2 wrong use.
    Passphrase(ChangeArgs),
    /// Prints the private key as unencrypted PKCS #8, which `keys: signing:` of a recipe takes
    ///
    /// Exit codes: 0 printed; 1 refused or failed, stderr says why; 2 wrong use.
    Export(ExportArgs),
}

/// Where keys are.
#[derive(Debug, ClapArgs)]
pub struct FolderArgs {
    /// Folder of the keys [default: $XDG_CONFIG_HOME/ferrite/keys, ~/.config/ferrite/keys]
    #[arg(long, value_name = "DIR", env = "FERRITE_KEYS")]
    pub keys: Option<PathBuf>,
}

impl FolderArgs {
    fn folder(&self) -> Result<KeyFolder> {
        self.keys.clone().map_or_else(default_folder, Ok).map(KeyFolder::new)
    }
}

/// Arguments of `key new`.
#[derive(Debug, ClapArgs)]
pub struct NewArgs {
    /// Its name: lower-case letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Its passphrase.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `key list`.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Where.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `key show`.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// The key
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Print the public key in PEM form, which `keys: trusted:` of a recipe takes
    #[arg(long, conflicts_with = "json")]
    pub pem: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `key passphrase`.
#[derive(Debug, ClapArgs)]
pub struct ChangeArgs {
    /// The key
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The passphrase that it has.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// File whose first line is the new passphrase, in place of asking
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

/// Arguments of `key export`.
#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// The key
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// Its passphrase.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Yes, print it: whoever reads the output can sign with it
    #[arg(long, required = true)]
    pub unencrypted: bool,
}

/// A key, without its secret.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    file: PathBuf,
    created: Date,
    /// 32 bytes.
    public: String,
    /// What channel metadata calls it.
    key_id: String,
    /// What slot footers call it.
    slot_key_id: String,
}

impl Shown {
    fn of(file: &KeyFile, folder: &KeyFolder) -> Result<Self> {
        let public = file.public_key()?;
        Ok(Self {
            name: file.name().to_owned(),
            file: folder.path().join(format!("{}.key", file.name())),
            created: file.created(),
            public: hex(&public.to_bytes()),
            key_id: public.id().to_string(),
            slot_key_id: hex(&Sha256::digest(public.to_bytes())),
        })
    }

    fn text(&self) -> String {
        format!(
            "{}\n  file                   {}\n  made                   {}\n  public key             {}\n  \
             id in channel metadata {}\n  id in slot footers     {}\n",
            self.name,
            self.file.display(),
            self.created,
            self.public,
            self.key_id,
            self.slot_key_id
        )
    }
}

/// The folder of keys unless one is named.
///
/// # Errors
/// There is no home.
pub fn default_folder() -> Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = home("XDG_CONFIG_HOME").or_else(|| home("HOME").map(|home| home.join(".config")));
    let config = config.context("no folder of keys; hint: --keys names one where HOME is not set")?;
    Ok(config.join("ferrite/keys"))
}

/// The time, from the system's clock.
///
/// # Errors
/// It is before 1970 or after 9999.
pub fn now() -> Result<Date> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    seconds.ok().and_then(Date::from_unix).context("the system's clock is set to no usable time")
}

/// Runs a command below `key`.
///
/// # Errors
/// A key cannot be made, read or decrypted.
pub fn run(args: &KeyArgs) -> Result<ExitCode> {
    match &args.command {
        KeyCommand::New(args) => new(args)?,
        KeyCommand::List(args) => list(args)?,
        KeyCommand::Show(args) => show(args)?,
        KeyCommand::Passphrase(args) => {
            let new = PassphraseArgs { passphrase_file: args.new_passphrase_file.clone() };
            if new.passphrase_file.is_none() && args.passphrase.passphrase_file.is_some() {
                bail!(
                    "--passphrase-file has the old passphrase; hint: --new-passphrase-file has the new one"
                );
            }
            args.folder.folder()?.change_passphrase(&args.name, &args.passphrase, &new)?;
        }
        KeyCommand::Export(args) => export(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(args: &NewArgs) -> Result<()> {
    let folder = args.folder.folder()?;
    let file = folder.create(&args.name, now()?, &args.passphrase)?;
    let shown = Shown::of(&file, &folder)?;
    if args.json {
        output::print_json(&shown)
    } else {
        output::print(format_args!("{}\n", shown.file.display()))
    }
}

fn list(args: &ListArgs) -> Result<()> {
    let folder = args.folder.folder()?;
    let keys = folder.list()?;
    let keys = keys.iter().map(|key| Shown::of(key, &folder)).collect::<Result<Vec<_>>>()?;
    if args.json {
        return output::print_json(&keys);
    }
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let line = |key: &Shown| format!("{:width$}  {}  {}\n", key.name, key.key_id, key.created);
    output::print(keys.iter().map(line).collect::<String>())
}

fn show(args: &ShowArgs) -> Result<()> {
    let folder = args.folder.folder()?;
    let file = folder.get(&args.name)?;
    if args.pem {
        let public = ed25519_dalek::VerifyingKey::from_bytes(&file.public_key()?.to_bytes())?;
        return output::print(public.to_public_key_pem(LineEnding::LF)?);
    }
    let shown = Shown::of(&file, &folder)?;
    if args.json { output::print_json(&shown) } else { output::print(shown.text()) }
}

fn export(args: &ExportArgs) -> Result<()> {
    let folder = args.folder.folder()?;
    let file = folder.get(&args.name)?;
    let secret = folder.secret(&file, &args.passphrase)?;
    let pem = SigningKey::from_bytes(&secret).to_pkcs8_pem(LineEnding::LF)?;
    output::print(pem.as_str())
}
