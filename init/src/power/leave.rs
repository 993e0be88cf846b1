//! Leaving the root: PID 1 moves into a tmpfs that holds nothing but its own binary, so that it is in nobody's way.

use std::ffi::CString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use rustix::process::{chdir, chroot, pivot_root};

use super::limited;
use crate::early::mounts::{MountError, mount_kernel_trees, mount_virtual};
use crate::early::watchdog::{FD_VARIABLE, Watchdog};
use crate::sys::{descriptors, spawn};

/// Where the tmpfs is put together.
const FOLDER: &str = "/run/ferrite/shutdown";
/// The binary in the tmpfs.
pub const PROGRAM: &str = "/init";
/// Where the old root is in the tmpfs.
pub const OLD_ROOT: &str = "/oldroot";
/// This program, whatever has become of its name.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long reading the binary may take, from a disk that may be broken.
const COPY_LIMIT: Duration = Duration::from_secs(10);

/// Why the root cannot be left.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// A mount, whose error has the reason.
    #[error("{}", crate::early::console::chain(.0))]
    Mount(#[from] MountError),
    /// Something else.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> LeaveError {
    move |error| LeaveError::Io { action, source: error.into() }
}

/// Makes the tmpfs `/`, with the old root at [`OLD_ROOT`]. When it fails, everything is where it was.
///
/// # Errors
/// [`LeaveError`]
pub fn pivot() -> Result<(), LeaveError> {
    let folder = Path::new(FOLDER);
    let make = |path: &Path| DirBuilder::new().mode(0o700).recursive(true).create(path);
    make(folder).map_err(failed("make its folder"))?;
    // Room for the binary, which has 4 MiB, and a few folders.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_virtual("tmpfs", folder, flags, c"mode=0700,size=32m,nr_inodes=64")?;
    for name in ["dev", "proc", "sys", OLD_ROOT.trim_start_matches('/')] {
        make(&folder.join(name)).map_err(failed("make folders in a tmpfs"))?;
    }
    let program: PathBuf = folder.join(PROGRAM.trim_start_matches('/'));
    limited::run(COPY_LIMIT, &mut || false, || copy(&program)).map_err(failed("copy the service manager"))?;
    mount_kernel_trees(folder)?;
    // pivot_root(2) takes no mount that others share.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("make the mounts private"))?;
    chdir(folder).map_err(failed("enter a tmpfs"))?;
    pivot_root(".", OLD_ROOT.trim_start_matches('/')).map_err(failed("change roots"))?;
    // Where it is already; pivot_root(2) alone does not promise that.
    chroot(".").map_err(failed("change the root"))?;
    chdir("/").map_err(failed("enter the new root"))
}

fn copy(target: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(target)?;
    io::copy(&mut fs::File::open(OWN_PROGRAM)?, &mut file).map(drop)
}

/// Becomes the binary in the tmpfs, with no descriptor of the old root left open; returns only with the reason why not.
pub fn execute(action: &str, watchdog: &mut Option<Watchdog>) -> io::Error {
    descriptors::close_all_on_execute();
    let mut environment = vec!["PATH=/".to_owned()];
    environment.extend(watchdog.as_ref().and_then(Watchdog::survive).map(|fd| format!("{FD_VARIABLE}={fd}")));
    if let Err(error) = renew_streams() {
        // The old console keeps the old /dev busy, which is nothing on a disk.
        super::say(&format!("the standard streams stay as they are: {error}"));
    }
    let strings = |list: &[String]| -> Result<Vec<CString>, _> {
        list.iter().map(|text| CString::new(text.as_str())).collect()
    };
    let words = [PROGRAM, super::VERB, action].map(str::to_owned);
    match (CString::new(PROGRAM), strings(&words), strings(&environment)) {
        (Ok(program), Ok(words), Ok(environment)) => spawn::execute(&program, &words, &environment),
        _ => io::ErrorKind::InvalidInput.into(),
    }
}

/// The console of the new `/dev` instead of that of the old one.
fn renew_streams() -> io::Result<()> {
    let flags = i32::try_from((OFlags::NOCTTY | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let console = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    Ok(rustix::stdio::dup2_stderr(&console)?)
}
