//! The command line's grammar.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Builds minimal, immutable Linux images with two slots, and boots them.
///
/// Exit codes: 0 it worked; 1 something was refused or failed, stderr says what; 2 wrong use.
#[derive(Debug, Parser)]
#[command(name = "ferrite", version, propagate_version = false)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Builds a disk image from a recipe and prints its path
    Build(BuildArgs),
    /// Boots an image in QEMU; builds it first when there is none
    Run(RunArgs),
    /// Explains an image: partitions, slots, signatures, hashes
    ///
    /// Exit code 1 when the image would not boot or something in it is damaged.
    Inspect(InspectArgs),
    /// Checks a recipe and shows every problem with its place
    ///
    /// Exit codes: 0 valid, 1 errors, 2 the file cannot be read.
    Validate(ValidateArgs),
}

/// Arguments of `build`, shared by `run`.
#[derive(Debug, Clone, ClapArgs)]
pub struct BuildArgs {
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
    /// Debian mirror, in place of the recipe's and the host's; may be repeated
    #[arg(long, value_name = "URL")]
    pub mirror: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The image to boot, in place of the recipe's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipe", "out", "version"])]
    pub image: Option<PathBuf>,
    /// Which image to build when there is none.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=65536))]
    pub memory: u32,
    /// Number of its processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// Forward a TCP port of this machine's loopback to the VM, HOST:GUEST; may be repeated [default: 2222:22 when free]
    #[arg(long = "port", value_name = "HOST:GUEST", value_parser = parse_port)]
    pub ports: Vec<(u16, u16)>,
    /// Start the kernel without firmware and boot loader
    #[arg(long)]
    pub direct: bool,
    /// How the processor is run
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,
    /// Use the QEMU of this system (8.2 or later) in place of the fetched one
    #[arg(long)]
    pub system_qemu: bool,
    /// Size of the VM's disk, in GiB; what is larger than the image becomes STATE
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(4..=2048))]
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
    /// A disk image (.raw) or a slot image (.usr)
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
    /// The recipe
    pub file: PathBuf,
}

fn parse_port(text: &str) -> Result<(u16, u16), String> {
    let wrong =
        || format!("{text:?} is not HOST:GUEST, two port numbers from 1 to 65535, for example 2222:22");
    let (host, guest) = text.split_once(':').ok_or_else(wrong)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    Ok((port(host)?, port(guest)?))
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
    fn ports_are_pairs_of_numbers() {
        assert_eq!(parse_port("2222:22"), Ok((2222, 22)));
        for text in ["22", "0:22", "a:b", "1:70000", ""] {
            assert!(parse_port(text).is_err(), "{text}");
        }
    }
}
