//! The caller's terminal while QEMU uses it.

use std::io::{IsTerminal, stdin};
use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// Remembers how the standard streams were set and sets them so again when dropped: QEMU does it too, but not when it is killed.
#[derive(Debug)]
pub struct Terminal {
    modes: Option<Termios>,
    flags: [Option<OFlags>; 3],
}

impl Terminal {
    /// Remembers the state of now.
    pub fn remember() -> Self {
        let modes = stdin().is_terminal().then(|| tcgetattr(stdin()).ok()).flatten();
        Self { modes, flags: streams().map(|stream| fcntl_getfl(stream).ok()) }
    }
}

/// stdin, stdout, stderr.
fn streams() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(modes) = &self.modes
            && may_read()
        {
            let _ = tcsetattr(stdin(), OptionalActions::Now, modes);
        }
        // QEMU makes its streams non-blocking, and they are the same open files as ours.
        for (stream, flags) in streams().into_iter().zip(self.flags) {
            if let Some(flags) = flags {
                let _ = fcntl_setfl(stream, flags);
            }
        }
    }
}

/// Whether reading stdin works: not for a job in the background of a terminal, which the kernel would stop. A terminal that is
/// not the session's own has no such jobs.
pub fn may_read() -> bool {
    let in_background = || tcgetpgrp(stdin()).is_ok_and(|group| group != rustix::process::getpgrp());
    !stdin().is_terminal() || !in_background()
}
