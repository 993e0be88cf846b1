//! Where a benchmark ran: without it, its figures say nothing.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// A machine and the versions of what ran on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them this process may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The running kernel.
    pub kernel: String,
    /// Of this program.
    pub ferrite: String,
    /// Of the compiler; empty when there is none.
    pub rustc: String,
}

impl Machine {
    /// The machine that this runs on. What cannot be found out is empty or 0.
    pub fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kib = memory.strip_suffix("kB").and_then(|number| number.trim().parse::<u64>().ok());
        let rustc = Command::new("rustc").arg("--version").output();
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(0, Into::into),
            memory_mib: kib.unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            ferrite: env!("CARGO_PKG_VERSION").to_owned(),
            rustc: rustc
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} processors, {} MiB, Linux {}; ferrite {}, {}",
            self.processor, self.processors, self.memory_mib, self.kernel, self.ferrite, self.rustc
        )
    }
}
