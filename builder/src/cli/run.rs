//! `ferrite run`: an image in a virtual machine, with the user on its console.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use debian::mirrors::MirrorSet;
use debian::progress::Progress;
use flate2::Compression;
use flate2::write::GzEncoder;
use image_config::diagnostic::Diagnostics;
use image_config::recipe::Recipe;
use qemu::toolbox::Toolbox;
use qemu::{AccelChoice, Disk, DiskFormat, Emulator, Notice, Serial, VmSpec};
use serde::{Deserialize, Serialize};

use super::args::{AccelChoice as AccelArg, ImageArgs, RunArgs};
use super::progress::Terminal;
use super::{build_image, out_folder, recipe_path, style};
use crate::build;
use crate::formats::{DiskImage, Format};
use crate::userdata::{self, UserDataError};
use crate::{direct, inspect, sshkey};

/// What the machine's user-data is called in QEMU's fw_cfg.
const USER_DATA: &str = "opt/ferrite/user-data";
/// The guest's kernel reads fw_cfg byte by byte, and every page of it from the start: user-data above this is packed. Machines unpack it.
const PACKED_ABOVE: usize = 16 << 10;
/// Who is logged in on the console, and whose keys are installed.
const USER: &str = "core";
const GIB: u64 = 1 << 30;
/// The guest's ssh port, and where it is tried first on the host.
const SSH: (u16, u16) = (2222, 22);

/// What belongs to one image's machine, beside the image.
struct Machine {
    image: PathBuf,
    overlay: PathBuf,
    variables: PathBuf,
    /// Which image the overlay lies over.
    record: PathBuf,
}

/// Tells two images under one name apart: an overlay over another image is garbage.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Underlay {
    bytes: u64,
    modified: Option<u64>,
}

/// Runs the command until the machine or the user ends it.
///
/// # Errors
/// The image cannot be built or found, or the emulator cannot be had or started.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let terminal = Arc::new(Terminal::new());
    // Before anything is built or fetched: a mistake in it is the user's to mend.
    let user_data = args.user_data.as_deref().map(|path| user_data(path, args.no_validate)).transpose()?;
    let image = match &args.image {
        Some(image) => bootable(image, &terminal)?,
        None => current_image(&args.build)?,
    };
    let emulator = if args.system_qemu {
        Emulator::system(Notice::stderr())?
    } else {
        toolbox(&args.build, &terminal).emulator()?
    };
    terminal.finish();
    let machine = Machine::beside(&image);
    if !args.ephemeral {
        machine.prepare(args.reset, &terminal)?;
    }
    if user_data.as_ref().is_some_and(|found| found.is_ignition)
        && !args.ephemeral
        && machine.overlay.exists()
    {
        terminal.say("note: this machine has booted before, and Ignition configures machines in their first boot only: --reset");
    }
    let mut spec = machine.spec(args, &terminal)?;
    if let Some(found) = user_data {
        spec = spec.fw_cfg(USER_DATA, found.bytes);
    }
    let mut vm = emulator.start(&spec, Serial::Interactive)?;
    if let Some(port) = vm.forwarded(SSH.1) {
        let (key, _) = sshkey::ensure(&key_folder(&image))?;
        terminal.say(&format!("ssh -p {port} -i {} {USER}@127.0.0.1", key.display()));
    }
    terminal.say("Ctrl-A X ends the machine at once, `sudo poweroff` in it shuts it down");
    let status = vm.wait_exit(std::time::Duration::MAX)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// User-data for the machine.
struct UserData {
    bytes: Vec<u8>,
    is_ignition: bool,
}

/// Reads and checks user-data; warnings are printed, errors refuse it unless nobody wants them to.
fn user_data(path: &Path, no_validate: bool) -> Result<UserData> {
    let (bytes, is_ignition) = match userdata::load(path) {
        Ok(checked) => {
            print_findings(&checked.warnings);
            (checked.bytes, checked.is_ignition)
        }
        Err(UserDataError::Refused(findings)) => {
            print_findings(&findings);
            if !no_validate {
                bail!(
                    "{} is refused\nhint: --no-validate hands it to the machine as it is; `ferrite validate` prints this alone",
                    path.display()
                );
            }
            (userdata::read(path)?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let bytes =
        if bytes.len() > PACKED_ABOVE && !bytes.starts_with(&userdata::GZIP) { pack(&bytes)? } else { bytes };
    Ok(UserData { bytes, is_ignition })
}

/// The same for machines that are given it as a file: its bytes, as they are.
pub(super) fn checked_user_data(path: &Path, no_validate: bool) -> Result<Vec<u8>> {
    user_data(path, no_validate).map(|found| found.bytes)
}

fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn print_findings(findings: &Diagnostics) {
    findings.as_slice().iter().for_each(|finding| style::say(&style::finding(finding)));
}

/// The fetched emulator, from the mirrors that were asked for.
pub(super) fn toolbox(build: &ImageArgs, terminal: &Arc<Terminal>) -> Toolbox {
    let usual = Toolbox::of_user();
    let mirrors = MirrorSet::named(&build.mirror).unwrap_or_else(|| usual.mirrors.clone());
    Toolbox { mirrors, offline: build.offline, progress: Arc::clone(terminal) as Arc<dyn Progress>, ..usual }
}

/// The recipe's image, built when there is none or when what it is made of has changed.
pub(super) fn current_image(args: &ImageArgs) -> Result<PathBuf> {
    let recipe_file = recipe_path(args.recipe.as_deref())?;
    let out = out_folder(args.out.as_deref())?;
    let mut recipe = Recipe::load(&recipe_file)?;
    if let Some(version) = &args.version {
        recipe.version = build::parse_version(version)?;
    }
    let image = out.join(format!("{}.raw", recipe.file_stem()));
    if build::is_current(&image, &recipe, &recipe_file)? {
        return Ok(image);
    }
    Ok(build_image(args, &[Format::Raw])?.image)
}

/// An image that the user names, if it is one of a disk: the firmware would only say that it found nothing. What is wrong
/// inside it is for the boot loader to tell, and a reason to look.
pub(super) fn bootable(image: &Path, terminal: &Terminal) -> Result<PathBuf> {
    if disk_format(image)?.is_none() {
        bail!(
            "{} is compressed as a whole, and a machine's disk is not\nhint: `zstd -d {0}` unpacks it; a .qcow2 is compressed and \
             boots as it is",
            image.display()
        );
    }
    let report =
        inspect::inspect(image, false).with_context(|| format!("cannot boot {}", image.display()))?;
    if report.kind != "disk" {
        bail!("{} is a slot image, which goes into a disk: boot the .raw file beside it", image.display());
    }
    for problem in &report.problems {
        terminal.say(&format!("note: {problem}"));
    }
    Ok(image.to_owned())
}

/// An image's format as QEMU knows it; `None` when QEMU has no driver for it.
fn disk_format(image: &Path) -> Result<Option<DiskFormat>> {
    let image = DiskImage::open(image).with_context(|| format!("cannot boot {}", image.display()))?;
    Ok(match image.format() {
        Format::Raw => Some(DiskFormat::Raw),
        Format::Qcow2 => Some(DiskFormat::Qcow2),
        Format::Vhd => Some(DiskFormat::Vhd),
        Format::RawZst => None,
    })
}

fn key_folder(image: &Path) -> PathBuf {
    image.parent().unwrap_or(Path::new(".")).join("ssh")
}

impl Machine {
    fn beside(image: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = image.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            image.with_file_name(name)
        };
        Self {
            image: image.to_owned(),
            overlay: with(".disk.qcow2"),
            variables: with(".vars.fd"),
            record: with(".disk.json"),
        }
    }

    /// Makes sure that the overlay, if there is one, lies over this very image.
    fn prepare(&self, reset: bool, terminal: &Terminal) -> Result<()> {
        let metadata = fs::metadata(&self.image)
            .with_context(|| format!("cannot open the image {}", self.image.display()))?;
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let underlay = Underlay {
            bytes: metadata.len(),
            modified: modified.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        };
        let recorded =
            fs::read(&self.record).ok().and_then(|bytes| serde_json::from_slice::<Underlay>(&bytes).ok());
        if self.overlay.exists() && (reset || recorded.as_ref() != Some(&underlay)) {
            if !reset {
                terminal.say("the image was built anew: the machine's disk starts from it, what the last one wrote is gone");
            }
            for path in [&self.overlay, &self.variables] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                    }
                    _ => {}
                }
            }
        }
        let mut file =
            File::create(&self.record).with_context(|| format!("cannot write {}", self.record.display()))?;
        file.write_all(&serde_json::to_vec(&underlay)?)?;
        Ok(())
    }

    fn spec(&self, args: &RunArgs, terminal: &Terminal) -> Result<VmSpec> {
        let name = self
            .image
            .file_stem()
            .map_or_else(|| "ferrite".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let size = u64::from(args.disk_size) * GIB;
        let format = disk_format(&self.image)?.context("no format that a machine's disk can have")?;
        let disk = Disk { format, ..Disk::raw(&self.image) };
        let disk = if args.ephemeral { disk.ephemeral(size) } else { disk.overlay(&self.overlay, size) };
        let (_, public_key) =
            sshkey::ensure(&key_folder(&self.image)).context("cannot make an ssh key for the machine")?;
        let spec = VmSpec::new(name, args.memory, args.smp)
            .disk(disk)
            .user_net(forwards(&args.ports, terminal)?)
            .fw_cfg("opt/ferrite/console-login", USER)
            .fw_cfg("opt/ferrite/ssh-authorized-keys", format!("{public_key}{}", own_keys()))
            .accel(match args.accel {
                AccelArg::Auto => AccelChoice::Auto,
                AccelArg::Kvm => AccelChoice::Kvm,
                AccelArg::Tcg => AccelChoice::Tcg,
            });
        Ok(if args.direct {
            let files = direct::extract(&self.image)?;
            spec.direct(files.kernel, Some(&files.initramfs), files.command_line)
        } else if args.ephemeral {
            spec.firmware()
        } else {
            spec.firmware_with_vars(&self.variables)
        })
    }
}

/// The ports to forward: those asked for, and ssh on 2222 or, when that is taken, on a free one.
fn forwards(asked: &[(u16, u16)], terminal: &Terminal) -> Result<Vec<(u16, u16)>> {
    for (index, (host, _)) in asked.iter().enumerate() {
        if asked.iter().take(index).any(|(other, _)| other == host) {
            bail!("port {host} of this machine is to be forwarded twice");
        }
        if !is_free(*host) {
            bail!("port {host} of this machine is in use; choose another with --port HOST:GUEST");
        }
    }
    let mut forwards = asked.to_vec();
    if !asked.iter().any(|(_, guest)| *guest == SSH.1) {
        let host = if is_free(SSH.0) { SSH.0 } else { 0 };
        if host == 0 {
            terminal.say(&format!("port {} is in use, ssh gets another one", SSH.0));
        }
        forwards.push((host, SSH.1));
    }
    Ok(forwards)
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The user's own public keys, so that plain `ssh -p` works for those who have some.
pub(super) fn own_keys() -> String {
    let Some(home) = std::env::var_os("HOME") else { return String::new() };
    let mut keys = String::new();
    for name in ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"] {
        if let Ok(key) = fs::read_to_string(Path::new(&home).join(".ssh").join(name)) {
            keys.push_str(key.trim_end());
            keys.push('\n');
        }
    }
    keys
}
