//! The QEMU process: started so that it cannot outlive the caller, ended whatever happens.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::sys;

/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(10);

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on a thread that lives as long as this process. A child's parent-death signal comes when the *thread* that
/// started it ends, and tests run on threads that end.
fn on_lasting_thread<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static JOBS: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (send, jobs) = channel::<Job>();
        // When there is no thread, the channel is closed and the send below fails.
        let _ = std::thread::Builder::new()
            .name("vm-parent".to_owned())
            .spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(send)
    });
    let (send, result) = channel();
    let job: Job = Box::new(move || {
        // The receiver waits below.
        let _ = send.send(job());
    });
    let gone = || io::Error::other("the thread that starts virtual machines is gone");
    jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// Standard streams of the process.
#[derive(Debug)]
pub enum Streams {
    /// Input and output are this socket.
    Socket(UnixStream),
    /// Input and output are the caller's. `input` is false when reading would stop the process: see [`crate::terminal`].
    Inherited {
        /// Whether it may read.
        input: bool,
    },
}

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its messages going to `messages`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(mut command: Command, streams: Streams, messages: &Path) -> io::Result<Self> {
        command.stderr(File::create(messages)?);
        match streams {
            Streams::Socket(socket) => {
                command.stdin(OwnedFd::from(socket.try_clone()?)).stdout(OwnedFd::from(socket));
                // Ctrl-C in the terminal is for the caller, which then ends the machine in order.
                command.process_group(0);
                sys::die_with_parent(&mut command, Signal::KILL);
            }
            Streams::Inherited { input } => {
                command.stdin(if input { Stdio::inherit() } else { Stdio::null() }).stdout(Stdio::inherit());
                // Stays in the terminal's foreground group, or it could not read. SIGTERM lets it restore the terminal.
                sys::die_with_parent(&mut command, Signal::TERM);
            }
        }
        let child = on_lasting_thread(move || command.spawn())?;
        Ok(Self { child, ended: None })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The kernel does not know the process.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            let ended = self.ended()?;
            if ended.is_some() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(ended);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it at once and waits until it is gone: what a power cut is to the guest.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // Both fail only when it has ended.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Asks it to end by SIGTERM: QEMU then restores the terminal.
    pub fn terminate(&self) {
        if self.ended.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn cat() -> (UnixStream, Process, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process =
            Process::start(Command::new("cat"), Streams::Socket(theirs), &dir.path().join("messages"))
                .unwrap();
        (ours, process, dir)
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it_and_not_its_owner() {
        let (mut stream, mut process, _dir) = std::thread::spawn(cat).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(process.ended().unwrap(), None);
        stream.write_all(b"still here").unwrap();
        let mut got = [0; 10];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"still here");
        drop(process);
        assert_eq!(stream.read(&mut got).unwrap(), 0, "its end of the socket is closed");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let command = Command::new("/nonexistent/qemu");
        assert!(Process::start(command, Streams::Socket(theirs), &dir.path().join("messages")).is_err());
    }
}
