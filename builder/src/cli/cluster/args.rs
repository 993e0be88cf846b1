//! The command line of `ferrite cluster`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::args::{AccelChoice, ImageArgs, parse_gib, parse_mib};
use crate::cluster::certs;
use crate::cluster::layout::{MOST, Node};

/// Arguments of `cluster`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts a cluster and returns when it is healthy
    ///
    /// The machines run one image on a private network (10.90.0.0/24), each with a second card to this machine, through which
    /// ssh and etcd's clients reach them. Unless user-data says otherwise, they are one etcd cluster. One process owns all of it;
    /// with it everything ends and is removed.
    ///
    /// Exit codes: 0 healthy; 1 refused, failed or not healthy in time, stderr says why; 2 wrong use.
    Up(UpArgs),
    /// Shows the machines, their health and the links that are not whole
    ///
    /// Exit codes: 0 healthy; 1 not healthy, or there is no such cluster; 2 wrong use.
    Status(StatusArgs),
    /// Cuts all links between groups of machines
    ///
    /// `partition 1 2,3` cuts node1 off from the other two; `partition 1` from all others. This machine reaches all of them as before,
    /// and the network's DHCP server does too.
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine; 2 wrong use.
    Partition(PartitionArgs),
    /// Makes links slow or lossy, or cuts them
    ///
    /// What is said replaces what was said before of the same links; without options they are whole again.
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine; 2 wrong use.
    Link(LinkArgs),
    /// Makes all links whole again
    ///
    /// Exit codes: 0 done; 1 there is no such cluster; 2 wrong use.
    Heal(Named),
    /// Ends machines at once, as by a power cut; they stay off
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine, or one is off; 2 wrong use.
    Kill(NodesArgs),
    /// Switches on machines that are off
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine, or one is on; 2 wrong use.
    Start(NodesArgs),
    /// Cuts the power of machines and switches them on again
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine, or one is off; 2 wrong use.
    PowerCut(NodesArgs),
    /// Stops the processors of machines
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine, or one is off; 2 wrong use.
    Pause(NodesArgs),
    /// Lets paused machines go on
    ///
    /// Exit codes: 0 done; 1 there is no such cluster or machine, or one is off; 2 wrong use.
    Resume(NodesArgs),
    /// Opens a shell on a machine, or runs a command there
    ///
    /// The exit code is that of ssh, which has that of the command.
    ///
    /// Exit codes: 0 it ended well; 1 there is no such cluster or machine, or it is off; 2 wrong use.
    Ssh(SshArgs),
    /// Prints what all consoles printed and what was done to the machines, in one timeline
    ///
    /// Exit codes: 0 printed; 1 there is no such cluster; 2 wrong use.
    Logs(LogsArgs),
    /// Makes certificates for etcd: an authority, one for each machine, one for a client
    ///
    /// The authority of DIR is used when there is one. Beside the PEM files lies NAME.yml for each machine, a cloud-config that puts its
    /// files into /etc/etcd/tls. The files of a machine that has them already are made anew.
    ///
    /// Exit codes: 0 made; 1 refused or failed, stderr says why; 2 wrong use.
    Certs(CertsArgs),
    /// Ends a cluster and removes everything that belongs to it
    ///
    /// Exit codes: 0 ended, or there was none; 1 failed, stderr says why; 2 wrong use.
    Down(Named),
    /// Owns a cluster: reads its plan from stdin
    #[command(hide = true)]
    Own,
    /// Removes FOLDER when process OWNER has ended
    #[command(hide = true)]
    Janitor {
        /// Process id.
        owner: u32,
        /// The folder.
        folder: PathBuf,
    },
}

/// Which cluster.
#[derive(Debug, Clone, ClapArgs)]
pub struct Named {
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_name)]
    pub name: String,
}

/// Arguments of `cluster up`.
#[derive(Debug, ClapArgs)]
pub struct UpArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Number of machines
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = parse_count)]
    pub nodes: usize,
    /// How many of them are members of the etcd cluster; the others reach it through theirs [default: all]
    #[arg(long, value_name = "N", value_parser = parse_count, conflicts_with = "user_data")]
    pub members: Option<usize>,
    /// User-data for all machines, in place of a cloud-config that makes one etcd cluster of them
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Hand over user-data that has mistakes
    #[arg(long, requires = "user_data")]
    pub no_validate: bool,
    /// Give etcd certificates, made for this cluster; with --user-data, a plain cloud-config that uses /etc/etcd/tls
    #[arg(long)]
    pub tls: bool,
    /// The image to boot (.raw or .qcow2), in place of the recipe's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipe", "version"])]
    pub image: Option<PathBuf>,
    /// Which image to build when there is none.
    #[command(flatten)]
    pub build: ImageArgs,
    /// Memory of each machine in MiB (512, 512M or 2G)
    #[arg(long, value_name = "MIB", default_value = "512", value_parser = parse_mib)]
    pub memory: u32,
    /// Number of processors of each machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// How the processors are run
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,
    /// Use the QEMU of this system (8.2 or later) in place of the fetched one
    #[arg(long)]
    pub system_qemu: bool,
    /// Size of each machine's disk in GiB (8 or 8G)
    #[arg(long, value_name = "GIB", default_value = "8", value_parser = parse_gib)]
    pub disk_size: u32,
    /// Stay here as the owner; the cluster ends with this command
    #[arg(long)]
    pub foreground: bool,
    /// Print JSON: what `status --json` prints
    #[arg(long, conflicts_with = "foreground")]
    pub json: bool,
}

/// Arguments of `cluster status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cluster partition`.
#[derive(Debug, ClapArgs)]
pub struct PartitionArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Groups of machines, numbers or names with commas between them; with one group, the others are the second
    #[arg(value_name = "GROUP", required = true, value_parser = parse_group)]
    pub groups: Vec<Group>,
    /// Cut only what the first group sends
    #[arg(long)]
    pub one_way: bool,
}

/// Arguments of `cluster link`.
#[derive(Debug, ClapArgs)]
pub struct LinkArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Machines at one end
    #[arg(value_name = "FROM", value_parser = parse_group)]
    pub from: Group,
    /// Machines at the other end
    #[arg(value_name = "TO", value_parser = parse_group)]
    pub to: Group,
    /// Leave the way back as it is
    #[arg(long)]
    pub one_way: bool,
    /// Milliseconds that a frame is under way
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=600_000))]
    pub delay: u32,
    /// Up to so many milliseconds more
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=600_000))]
    pub jitter: u32,
    /// Percent of the frames that are lost
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = parse_loss)]
    pub loss: u16,
    /// Let nothing pass
    #[arg(long, conflicts_with_all = ["delay", "jitter", "loss"])]
    pub cut: bool,
}

/// Arguments of what is done to machines.
#[derive(Debug, ClapArgs)]
pub struct NodesArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Machines, by number or name
    #[arg(value_name = "NODE", required = true)]
    pub nodes: Vec<Node>,
}

/// Arguments of `cluster ssh`.
#[derive(Debug, ClapArgs)]
pub struct SshArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// The machine, by number or name
    #[arg(value_name = "NODE")]
    pub node: Node,
    /// What to run there, in place of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Arguments of `cluster logs`.
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Named,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of `cluster certs`.
#[derive(Debug, ClapArgs)]
pub struct CertsArgs {
    /// Folder of the certificates, made when it is not there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Machines: the name, and the addresses that others reach it at
    #[arg(value_name = "NAME=ADDRESS[,ADDRESS]", value_parser = parse_machine)]
    pub machines: Vec<Machine>,
    /// How long certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = 1095, value_parser = clap::value_parser!(u32).range(1..=7000))]
    pub days: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A machine that gets a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Where others reach it.
    pub addresses: Vec<IpAddr>,
}

/// Machines that are named together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub Vec<Node>);

fn parse_group(text: &str) -> Result<Group, String> {
    text.split(',').map(str::parse).collect::<Result<Vec<Node>, String>>().map(Group)
}

fn parse_machine(text: &str) -> Result<Machine, String> {
    let (name, addresses) = text.split_once('=').ok_or("a name, `=` and an address: node1=10.0.0.11")?;
    // It becomes the name of files as well.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(plain) {
        return Err(format!("{name:?} is no host name"));
    }
    if [certs::AUTHORITY, certs::CLIENT].contains(&name) {
        return Err(format!("{name:?} is the name of a file that is not a machine's"));
    }
    let addresses = addresses
        .split(',')
        .map(|address| address.parse().map_err(|_| format!("{address:?} is no IP address")))
        .collect::<Result<_, _>>()?;
    Ok(Machine { name: name.to_owned(), addresses })
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse::<usize>().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| format!("a number from 1 to {MOST}"))
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=24).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 24 letters, digits and hyphens".to_owned())
    }
}

/// Percent with at most one decimal, in thousandths.
fn parse_loss(text: &str) -> Result<u16, String> {
    let number =
        text.trim_end_matches('%').parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    let number = number.ok_or_else(|| "a percentage from 0 to 100, for example 2.5".to_owned())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000, see above")]
    let thousandths = (number * 10.0).round() as u16;
    Ok(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_counts_names_and_losses() {
        assert_eq!(parse_group("1,node3").map(|group| group.0.len()), Ok(2));
        assert!(parse_group("1,,2").is_err() && parse_group("").is_err());
        assert!(parse_count("3").is_ok() && parse_count("0").is_err() && parse_count("33").is_err());
        assert!(parse_name("my-test").is_ok() && parse_name("a/b").is_err() && parse_name("").is_err());
        assert_eq!((parse_loss("2.5"), parse_loss("100%")), (Ok(25), Ok(1000)));
        assert!(parse_machine("a=10.0.0.1,::1").is_ok_and(|machine| machine.addresses.len() == 2));
        for wrong in ["a", "=10.0.0.1", "a=", "a=x", "a/b=10.0.0.1", "ca=10.0.0.1", "-a=10.0.0.1"] {
            assert!(parse_machine(wrong).is_err(), "{wrong}");
        }
        assert!(parse_loss("101").is_err() && parse_loss("x").is_err() && parse_loss("NaN").is_err());
    }
}
