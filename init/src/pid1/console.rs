//! Status lines on `/dev/console`: few, short, failures loud.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// The console. Writing never blocks: a terminal that is stopped by its user must not stop PID 1.
#[derive(Debug)]
pub struct Console {
    file: Option<File>,
    quiet: bool,
}

impl Console {
    /// Opens `/dev/console`; without one all output is dropped. `quiet` keeps good news to itself.
    pub fn open(quiet: bool) -> Console {
        let flags = i32::try_from((OFlags::NOCTTY | OFlags::NONBLOCK).bits()).unwrap_or(0);
        Console { file: OpenOptions::new().write(true).custom_flags(flags).open("/dev/console").ok(), quiet }
    }

    /// The standard error stream instead, for tests on a host.
    pub fn standard_error() -> Console {
        let copy = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3).ok();
        Console { file: copy.map(File::from), quiet: false }
    }

    /// Good news.
    pub fn good(&mut self, text: impl Display) {
        if !self.quiet {
            self.line(format_args!("[  OK  ] {text}"));
        }
    }

    /// Keeps good news to itself, or no longer: while somebody may be typing at a prompt they are in the way.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Bad news.
    pub fn bad(&mut self, text: impl Display) {
        self.line(format_args!("[FAILED] {text}"));
    }

    /// Something that is neither.
    pub fn note(&mut self, text: impl Display) {
        self.line(format_args!("         {text}"));
    }

    fn line(&mut self, text: impl Display) {
        if let Some(file) = &mut self.file {
            // Lost status lines are in the log; there is nowhere better to complain.
            let _lost = file.write_all(format!("{text}\r\n").as_bytes());
        }
    }
}
