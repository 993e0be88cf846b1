//! Cleans up after an owner that can no longer do it: one that was killed.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Waits until process `owner` ends, in whatever way, and removes the cluster's folder.
///
/// # Errors
/// The process cannot be watched, or the folder cannot be removed.
pub fn run(owner: u32, folder: &Path) -> io::Result<()> {
    // The signals that end the owner's session are the owner's; this process ends after it.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let pid = i32::try_from(owner).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => wait(&process)?,
        Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    // Sockets of the machines and of the network. What cannot be removed now goes when the next machine starts.
    let _ = qemu::remove_leftovers(&qemu::temporary_root());
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A descriptor of a process can be read when the process has ended (pidfd_open(2)).
fn wait(process: &impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_when_the_owner_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cluster");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("disk"), b"x").unwrap();
        let mut owner = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let (id, watched) = (owner.id(), folder.clone());
        let janitor = std::thread::spawn(move || run(id, &watched));
        assert!(folder.exists());
        owner.kill().unwrap();
        owner.wait().unwrap();
        janitor.join().unwrap().unwrap();
        assert!(!folder.exists());
    }
}
