//! One step that may wait for ever, in a process of its own with a limit.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys::signals::{self, Ending};
use crate::sys::spawn;

/// How often is looked whether something moves.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Does `work` in a copy of this process and waits until `limit` has gone by without it ending and without `moves` saying that
/// it comes on. One that hangs in the kernel is left behind.
///
/// # Errors
/// That of the work; `TimedOut`; no process is to be had.
pub fn run(
    limit: Duration,
    moves: &mut dyn FnMut() -> bool,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let code = |result: io::Result<()>| match result {
        Ok(()) => 0,
        // Numbers of errors fit: the largest is 133.
        Err(error) => u8::try_from(error.raw_os_error().unwrap_or(libc::EIO)).unwrap_or(u8::MAX),
    };
    let child = spawn::copy(|| code(work()))?;
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut until = Instant::now() + limit;
    loop {
        match signals::reap(child) {
            Some(Ending::Exited(0)) => return Ok(()),
            Some(Ending::Exited(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Ending::Killed(..)) => return Err(io::Error::other("its process was killed")),
            None => {}
        }
        if moves() {
            until = Instant::now() + limit;
        }
        if Instant::now() >= until {
            signals::send(child, libc::SIGKILL);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no end after {} s", limit.as_secs()),
            ));
        }
        match &pidfd {
            // An error is a short wait.
            Some(pidfd) => drop(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&LOOK_EVERY))),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_fails_or_is_given_up() {
        let never = &mut || false;
        run(Duration::from_secs(60), never, || Ok(())).unwrap();
        let busy = run(Duration::from_secs(60), never, || Err(io::Error::from_raw_os_error(libc::EBUSY)));
        assert_eq!(busy.unwrap_err().raw_os_error(), Some(libc::EBUSY));
        let hangs = || loop {
            std::thread::sleep(Duration::from_secs(1000));
        };
        let hung = run(Duration::from_millis(10), never, hangs);
        assert_eq!(hung.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut turns = 3;
        let mut moves = || {
            turns -= 1;
            turns >= 0
        };
        run(Duration::from_millis(1), &mut moves, hangs).unwrap_err();
        assert_eq!(turns, -1);
    }
}
