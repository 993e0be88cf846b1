//! `ferrite cluster up`: makes the cluster's folder, starts its owner, waits for its health.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qemu::toolbox::Toolbox;
use qemu::{Emulator, Notice};

use super::args::UpArgs;
use super::{ask_in, folder_of, key_folder, lines_of, status_of};
use crate::cli::args::AccelChoice;
use crate::cli::progress::Terminal;
use crate::cli::{out_folder, output, run as single};
use crate::cluster::plan::{Plan, Processors};
use crate::cluster::protocol::{Request, Status};
use crate::cluster::seed::Security;
use crate::cluster::{client, janitor, owner, seed};
use crate::formats::{DiskImage, Format};
use crate::sshkey;

/// How often it is looked whether the owner is there.
const LOOK: Duration = Duration::from_millis(100);
/// What the owner says, beside the disks.
const OWNER_LOG: &str = "owner.log";

/// Starts a cluster.
///
/// # Errors
/// There is one of that name, the image cannot be had, or a machine does not become healthy.
pub fn run(args: &UpArgs) -> Result<ExitCode> {
    let terminal = Arc::new(Terminal::new());
    // Wherever images go: the other commands look here.
    let out = out_folder(None)?;
    let folder = folder_of(&out, &args.cluster);
    if client::connect(&folder)?.is_some() {
        bail!(
            "the cluster {} is up already\nhint: `ferrite cluster down` ends it, `--name` makes another one",
            args.cluster.name
        );
    }
    // Before anything is built or fetched: a mistake in it is the user's to mend.
    let user_data = match &args.user_data {
        Some(path) => single::checked_user_data(path, args.no_validate)?,
        None => {
            let security = if args.tls { Security::Tls } else { Security::Plain };
            let members = args.members.unwrap_or(args.nodes);
            if members > args.nodes {
                bail!("--members {members} is more than there are machines (--nodes {})", args.nodes);
            }
            seed::default_user_data(members, security).into_bytes()
        }
    };
    let image = match &args.image {
        Some(image) => single::bootable(image, &terminal)?,
        None => single::current_image(&args.build)?,
    };
    // The emulator is fetched here, where the user sees it.
    let emulator = emulator(args.system_qemu, &args.build, &terminal)?;
    terminal.finish();
    prepare(&folder)?;
    let (_, key) = sshkey::ensure(&key_folder(&out)).context("cannot make an ssh key for the machines")?;
    let plan = Plan {
        name: args.cluster.name.clone(),
        nodes: args.nodes,
        off: Vec::new(),
        qcow2: DiskImage::open(&image)?.format() == Format::Qcow2,
        image: keep(&image, &folder)?,
        folder: folder.clone(),
        memory: args.memory,
        smp: args.smp,
        disk_bytes: u64::from(args.disk_size) << 30,
        user_data,
        tls: args.tls,
        keys: format!("{key}{}", single::own_keys()),
        processors: match args.accel {
            AccelChoice::Auto => Processors::Auto,
            AccelChoice::Kvm => Processors::Kvm,
            AccelChoice::Tcg => Processors::Tcg,
        },
        system_qemu: args.system_qemu,
    };
    if args.foreground {
        return foreground(plan, emulator, &terminal);
    }
    drop(emulator);
    let (mut own, log) = spawn_owner(&plan)?;
    let done = wait(&mut own, &log, &folder, &terminal);
    if done.is_err() && matches!(own.try_wait(), Ok(None)) {
        // An owner that is still there goes on for whoever wants to look.
        terminal.say(&format!("{}: consoles and what the owner said", folder.display()));
    }
    done?;
    let status = status_in(&folder, &args.cluster.name)?;
    lines_of(&status).iter().for_each(|line| terminal.say(line));
    if args.json {
        output::print_json(&status)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn status_in(folder: &Path, name: &str) -> Result<Status> {
    status_of(ask_in(folder, name, &Request::Status)?)
}

/// The image under a name that the cluster alone uses: a build in the meantime puts another one in its place, and disks of machines
/// that are off lie over this one.
fn keep(image: &Path, folder: &Path) -> Result<PathBuf> {
    let kept = folder.join("image");
    if fs::hard_link(image, &kept).is_ok() {
        return Ok(kept);
    }
    // On another file system: whoever names an image there knows what becomes of it.
    fs::canonicalize(image).with_context(|| format!("cannot find {}", image.display()))
}

pub(super) fn emulator(
    system: bool,
    build: &crate::cli::args::ImageArgs,
    terminal: &Arc<Terminal>,
) -> Result<Emulator> {
    Ok(if system {
        Emulator::system(Notice::stderr())?
    } else {
        single::toolbox(build, terminal).emulator()?
    })
}

/// An empty folder: what an owner left that was killed together with its janitor goes.
fn prepare(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
    .with_context(|| format!("cannot make {} anew", folder.display()))
}

fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// Starts the process that cleans up if `owner` cannot.
fn spawn_janitor(owner: u32, folder: &Path) -> Result<()> {
    let mut command = Command::new(this_program()?);
    command.args(["cluster", "janitor", &owner.to_string()]).arg(folder).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).context("cannot start the cluster's janitor")
}

/// The owner has a group of its own: a Ctrl-C here is not for it.
/// What it says goes into a file, whose folder is gone when the owner is: hence the open file.
fn spawn_owner(plan: &Plan) -> Result<(Child, File)> {
    let path = plan.folder.join(OWNER_LOG);
    let log = File::options().read(true).append(true).create(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(this_program()?);
    command.args(["cluster", "own"]).stdin(Stdio::piped()).process_group(0);
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut own = command.spawn().context("cannot start the cluster's owner")?;
    spawn_janitor(own.id(), &plan.folder)?;
    let mut stdin = own.stdin.take().context("the owner has no stdin")?;
    stdin.write_all(&serde_json::to_vec(plan)?).context("cannot tell the owner its plan")?;
    Ok((own, log))
}

/// Waits until the owner answers, then until all machines are healthy.
fn wait(own: &mut Child, mut log: &File, folder: &Path, terminal: &Terminal) -> Result<()> {
    let stream = loop {
        if let Some(stream) = client::connect(folder)? {
            break stream;
        }
        if let Some(status) = own.try_wait()? {
            let mut said = String::new();
            log.rewind()?;
            log.read_to_string(&mut said)?;
            bail!("the cluster's owner ended ({status}): {}", said.trim());
        }
        thread::sleep(LOOK);
    };
    await_healthy(&stream, terminal)
}

fn await_healthy(stream: &UnixStream, terminal: &Terminal) -> Result<()> {
    terminal.say("the machines are on; waiting until all are healthy");
    client::ask(stream, &Request::AwaitHealthy, &|line| terminal.say(line))?;
    Ok(())
}

/// The owner is this process.
fn foreground(plan: Plan, emulator: Emulator, terminal: &Terminal) -> Result<ExitCode> {
    // Set by this thread, which lives as long as the process: the signal comes when the parent ends.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    spawn_janitor(std::process::id(), &plan.folder)?;
    let (folder, name) = (plan.folder.clone(), &plan.name.clone());
    thread::scope(|scope| {
        let owned = scope.spawn(|| owner::run(plan, emulator));
        while !owned.is_finished() {
            if let Some(stream) = client::connect(&folder)? {
                await_healthy(&stream, terminal)?;
                lines_of(&status_in(&folder, name)?).iter().for_each(|line| terminal.say(line));
                terminal.say("Ctrl-C ends the cluster");
                break;
            }
            thread::sleep(LOOK);
        }
        owned.join().unwrap_or_else(|_| bail!("the cluster's owner failed"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `ferrite cluster own`.
///
/// # Errors
/// The plan on stdin is none, or as [`owner::run`].
pub fn own() -> Result<ExitCode> {
    let plan: Plan = serde_json::from_reader(io::stdin().lock()).context("no plan on stdin")?;
    let emulator =
        if plan.system_qemu { Emulator::system(Notice::stderr())? } else { Toolbox::of_user().emulator()? };
    owner::run(plan, emulator)?;
    Ok(ExitCode::SUCCESS)
}

/// `ferrite cluster janitor`.
///
/// # Errors
/// As [`janitor::run`].
pub fn clean(owner: u32, folder: &Path) -> Result<ExitCode> {
    janitor::run(owner, folder).with_context(|| format!("cannot clean up {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
