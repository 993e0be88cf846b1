//! The command line's grammar.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::bench;
use super::cluster;
use super::completions::CompletionsArgs;
use super::diff::DiffArgs;
use super::doctor::DoctorArgs;
use super::key::KeyArgs;
use super::lock::LockArgs;
use super::man::ManArgs;
use super::publish::PublishArgs;
use super::self_check;
use super::size::SizeArgs;
use super::why::WhyArgs;
use crate::formats::Format;

/// Builds minimal, immutable Linux images with two slots, and boots them
///
/// Exit codes: 0 it worked; 1 something was refused or failed, stderr says what; 2 wrong use; 130 ended by Ctrl-C, as every
/// signal ends a program with 128 and its number.
#[derive(Debug, Parser)]
#[command(name = "ferrite", version, propagate_version = false)]
pub struct Args {
    /// When to colour what is for people
    #[arg(long, value_name = "WHEN", value_enum, global = true, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Builds a disk image from a recipe and prints its path
    ///
    /// The path is that of the first format; `--json` has all of them. Nothing stands under an image's name before it is
    /// whole, and images of an earlier build in formats that are not asked for any more are deleted.
    ///
    /// Exit codes: 0 built; 1 refused or failed, stderr says why; 2 wrong use.
    Build(BuildArgs),
    /// Boots an image in QEMU; builds it first when there is none
    ///
    /// The console is this terminal: Ctrl-A X ends the machine. Its disk lies beside the image, which is never written.
    ///
    /// Exit codes: 0 the machine ended; 1 refused or failed, stderr says why; 2 wrong use.
    Run(RunArgs),
    /// Starts several machines on a network that can be broken, and breaks them and it
    ///
    /// Exit codes: 0 done; 1 refused or failed, stderr says why; 2 wrong use.
    Cluster(cluster::args::Args),
    /// Explains an image: partitions, slots, signatures, hashes
    ///
    /// Exit codes: 0 the image boots and nothing is wrong; 1 it would not boot, something in it is damaged or it is no image;
    /// 2 wrong use.
    Inspect(InspectArgs),
    /// Writes the lock file of a recipe: the very packages that builds take
    ///
    /// The recipe's packages are resolved anew against the mirrors' signed indexes. The file lies beside the recipe, with the
    /// ending `.lock`; it is written when a package or the recipe has changed. What has changed is printed, one package a line:
    /// `+ NAME VERSION`, `- NAME VERSION`, `~ NAME VERSION -> VERSION`.
    ///
    /// Exit codes: 0 written, or nothing to write; 1 refused or failed, stderr says why, with --check: the file is missing,
    /// malformed, of another recipe or behind the mirrors; 2 wrong use, with --check: or that could not be found out.
    Lock(LockArgs),
    /// Checks a recipe, a lock file, user-data or a unit file and shows every problem with its place
    ///
    /// User-data is a cloud-config, an Ignition config, a script, or several of them as MIME multipart, packed with gzip or not: what
    /// docs/user-data.md describes. What a file is, its name and its first lines tell.
    ///
    /// Exit codes: 0 valid, perhaps with warnings; 1 errors, or with --strict warnings; 2 wrong use, or the file cannot be read.
    Validate(ValidateArgs),
    /// Builds an image twice under conditions that must not matter, and compares every byte
    ///
    /// The second build has another user, umask, time zone, locale, number of threads and home, and its checkout, cache and target folder lie
    /// elsewhere, under names with spaces and characters beyond ASCII. The guest programs are compiled anew for it, which takes minutes.
    ///
    /// Exit codes: 0 all files are the same; 1 the first that differs is named, or a build failed; 2 wrong use.
    SelfCheck(self_check::Args),
    /// Measures how long builds take, beside others that do the same work
    ///
    /// Prints the machine, every row's least, middle and largest figure, and what the figures should come to.
    ///
    /// Exit codes: 0 measured; 1 something failed; 2 wrong use.
    Bench(bench::Args),
    /// Tells what brought a package or a path into an image
    ///
    /// Exit codes: 0 it is in the image; 1 it is not; 2 wrong use, or there is no such image.
    Why(WhyArgs),
    /// Compares two images: packages, files, bytes
    ///
    /// A recipe stands for its last build. What a recipe would become now is for `ferrite build` to find out.
    ///
    /// Exit codes: 0 the same; 1 different; 2 wrong use, or there is no such image, as of diff(1).
    Diff(DiffArgs),
    /// Shows what takes the space of an image
    ///
    /// Bytes are room in the slot, so that everything adds up to it; files with equal content count once.
    ///
    /// Exit codes: 0 shown; 1 there is no such image, or no such path in it; 2 wrong use.
    Size(SizeArgs),
    /// Makes and shows the keys that sign channels and images
    ///
    /// Exit codes: 0 done; 1 refused or failed, stderr says why; 2 wrong use.
    Key(KeyArgs),
    /// Publishes releases on the channels of a channel folder, which any HTTP server can serve
    ///
    /// Each command says what machines will see. A folder is changed by one command at a time, and a power cut leaves the old
    /// edition or the new one.
    ///
    /// Exit codes: 0 published; 1 refused or failed, stderr says why; 2 wrong use.
    Publish(PublishArgs),
    /// Serves a channel folder over HTTP, and keeps what machines report
    ///
    /// The first page shows what machines run; /v1/status and /v1/machines are the same as JSON. It listens on loopback unless told
    /// otherwise, and signs nothing: it needs no keys.
    ///
    /// Exit codes: 0 ended by SIGTERM or SIGINT; 1 failed, stderr says why; 2 wrong use.
    Serve(update_engine::server::Options),
    /// Shows or changes the groups of machines that the channel server withholds updates from
    ///
    /// A group can only withhold what signed metadata offers: nobody (--stop), or all but a percentage. A running server sees a change
    /// at once.
    ///
    /// Exit codes: 0 shown or changed; 1 failed, stderr says why; 2 wrong use.
    Group(update_engine::server::GroupOptions),
    /// Says what this machine lacks for building and running images, and how to get it
    ///
    /// Nothing is changed or fetched; a mirror is asked for one small file.
    ///
    /// Exit codes: 0 images can be built here; 1 something that a build needs is missing; 2 wrong use.
    Doctor(DoctorArgs),
    /// Prints the completions of a shell
    ///
    /// Exit codes: 0 printed; 1 stdout cannot be written; 2 wrong use.
    Completions(CompletionsArgs),
    /// Prints a manual page, or writes all of them into a folder
    ///
    /// Exit codes: 0 printed or written; 1 they cannot be written; 2 wrong use, or there is no such command.
    Man(ManArgs),
}

/// When something is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR, CLICOLOR=0 or TERM=dumb say no; CLICOLOR_FORCE says yes
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Arguments of `build`.
#[derive(Debug, ClapArgs)]
pub struct BuildArgs {
    /// Which image, and from where.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Formats of the image, separated by commas; may be repeated
    #[arg(
        long = "format",
        value_name = "FORMAT",
        value_enum,
        value_delimiter = ',',
        default_value = "raw,qcow2"
    )]
    pub formats: Vec<Format>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to build, shared by `build` and `run`.
#[derive(Debug, ClapArgs)]
pub struct ImageArgs {
    /// The recipe [default: recipes/ferrite.yaml]
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Where the image goes [default: ferrite/ in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Version of the image, in place of the recipe's
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Use what the cache holds and no network
    #[arg(long)]
    pub offline: bool,
    /// Take exactly the packages of the recipe's lock file, or fail
    #[arg(long)]
    pub locked: bool,
    /// Debian mirror, in place of the recipe's and the host's; may be repeated
    #[arg(long, value_name = "URL", value_parser = parse_mirror)]
    pub mirror: Vec<String>,
    /// Archive that is asked for locked packages which the mirrors have dropped, in place of the recipe's [default:
    /// http://snapshot.debian.org/archive]
    #[arg(long, value_name = "URL", env = "FERRITE_SNAPSHOT", value_parser = parse_mirror)]
    pub snapshot: Option<String>,
}

/// Arguments of `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The image to boot (.raw, .qcow2 or .vhd), in place of the recipe's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipe", "out", "version"])]
    pub image: Option<PathBuf>,
    /// Which image to build when there is none.
    #[command(flatten)]
    pub build: ImageArgs,
    /// Memory of the machine in MiB (512, 512M or 2G)
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = parse_mib)]
    pub memory: u32,
    /// Number of its processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// Forward a TCP port of this machine's loopback to the VM, HOST:GUEST; may be repeated [default: 2222:22 when free]
    #[arg(long = "port", value_name = "HOST:GUEST", value_parser = parse_port)]
    pub ports: Vec<(u16, u16)>,
    /// Hand the machine this user-data: cloud-config, Ignition, a script, MIME, plain or in gzip
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Hand it over even when it has errors
    #[arg(long, requires = "user_data")]
    pub no_validate: bool,
    /// Start the kernel without firmware and boot loader
    #[arg(long)]
    pub direct: bool,
    /// How the processor is run
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,
    /// Use the QEMU of this system (8.2 or later) in place of the fetched one
    #[arg(long)]
    pub system_qemu: bool,
    /// Size of the VM's disk in GiB (8 or 8G); what is larger than the image becomes STATE
    #[arg(long, value_name = "GIB", default_value = "8", value_parser = parse_gib)]
    pub disk_size: u32,
    /// Throw away everything that this run writes
    #[arg(long, conflicts_with = "reset")]
    pub ephemeral: bool,
    /// Throw away what earlier runs wrote
    #[arg(long)]
    pub reset: bool,
}

/// Choice of the accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where it works, emulation elsewhere
    Auto,
    /// KVM or nothing
    Kvm,
    /// Emulation
    Tcg,
}

/// Arguments of `inspect`.
#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// A disk image (.raw, .qcow2, .raw.zst, .vhd) or a slot image (.usr)
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Check every block of /usr against the hash tree as well
    #[arg(long)]
    pub verify: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `validate`.
#[derive(Debug, ClapArgs)]
pub struct ValidateArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_port(text: &str) -> Result<(u16, u16), String> {
    let wrong =
        || format!("{text:?} is not HOST:GUEST, two port numbers from 1 to 65535, for example 2222:22");
    let (host, guest) = text.split_once(':').ok_or_else(wrong)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    Ok((port(host)?, port(guest)?))
}

pub(super) fn parse_mirror(text: &str) -> Result<String, String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("not a URL such as http://deb.debian.org/debian (http or https)".to_owned()),
    }
}

/// A number with an optional unit, of which only the first letter counts (`G`, `GiB`, `GB`); powers of 1024.
fn parse_size(text: &str, units: &[(char, u32)]) -> Option<u32> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number = digits.parse::<u32>().ok()?;
    let unit = text.get(digits.len()..)?;
    match unit.chars().next() {
        None => Some(number),
        Some(letter) => {
            let whole = ["", "B", "iB"].contains(&unit.get(1..)?);
            let (_, factor) = units.iter().find(|(known, _)| whole && *known == letter)?;
            number.checked_mul(*factor)
        }
    }
}

pub(super) fn parse_mib(text: &str) -> Result<u32, String> {
    let wrong = || "a size from 128 MiB to 64 GiB, for example 512, 512M or 2G".to_owned();
    parse_size(text, &[('M', 1), ('G', 1024)]).filter(|mib| (128..=65_536).contains(mib)).ok_or_else(wrong)
}

pub(super) fn parse_gib(text: &str) -> Result<u32, String> {
    let wrong = || "a size from 4 GiB to 2048 GiB, for example 8 or 8G".to_owned();
    parse_size(text, &[('G', 1), ('T', 1024)]).filter(|gib| (4..=2048).contains(gib)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn mirrors_are_urls_of_the_web() {
        assert!(parse_mirror("http://127.0.0.1:8000/debian").is_ok());
        for text in ["", "ftp://a/b", "http://", "http:///x", "/mirror", "deb.debian.org"] {
            assert!(parse_mirror(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_take_the_usual_units() {
        for (text, mib) in [("512", 512), ("512M", 512), ("512MiB", 512), ("2G", 2048), ("2GB", 2048)] {
            assert_eq!(parse_mib(text), Ok(mib), "{text}");
        }
        for text in ["", "M", "127", "65537", "1.5G", "2g", "2Gx", "2K", "-5", "4294967295G"] {
            assert!(parse_mib(text).is_err(), "{text}");
        }
        assert_eq!((parse_gib("8"), parse_gib("8G"), parse_gib("1TiB")), (Ok(8), Ok(8), Ok(1024)));
        assert!(parse_gib("512M").is_err());
    }

    #[test]
    fn ports_are_pairs_of_numbers() {
        assert_eq!(parse_port("2222:22"), Ok((2222, 22)));
        for text in ["22", "0:22", "a:b", "1:70000", ""] {
            assert!(parse_port(text).is_err(), "{text}");
        }
    }
}
