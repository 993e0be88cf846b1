//! Measuring whole processes from outside.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Clock ticks of `/proc/PID/stat` in a second; the same on every Linux that programs see (proc(5), `sysconf(_SC_CLK_TCK)`).
const TICKS: f64 = 100.0;
/// How often a process's peak memory is read: the kernel keeps the maximum, so only a last rise just before the end can be missed.
const POLL: Duration = Duration::from_millis(5);

/// One run of a command.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// From start to end, in seconds.
    pub wall: f64,
    /// Of all processors, its children's included, in seconds (of 0.01 s).
    pub cpu: f64,
    /// Largest resident memory of the process itself, in bytes.
    pub peak_bytes: u64,
}

/// Several runs of one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was run.
    pub name: String,
    /// Each run, in order.
    pub samples: Vec<Sample>,
}

impl Row {
    /// Least, middle and largest wall time, in seconds.
    pub fn wall(&self) -> [f64; 3] {
        self.spread(|sample| sample.wall)
    }

    /// Least, middle and largest time of processors, in seconds.
    pub fn cpu(&self) -> [f64; 3] {
        self.spread(|sample| sample.cpu)
    }

    /// Largest memory of all runs, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or(0)
    }

    fn spread(&self, of: impl Fn(&Sample) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
    }
}

/// Runs a command to its end. Its output is thrown away but for what it says on stderr, which a failure returns.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run(command: &mut Command) -> io::Result<Sample> {
    let before = children_seconds();
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (ended, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let status = format!("/proc/{}/status", child.id());
    let (output, wall) = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if let Some(bytes) = fs::read_to_string(&status).ok().as_deref().and_then(peak_of) {
                    peak.store(bytes, Ordering::Relaxed);
                }
                thread::sleep(POLL);
            }
        });
        let output = child.wait_with_output();
        let wall = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (output, wall)
    });
    let output = output?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(Sample { wall, cpu: children_seconds() - before, peak_bytes: peak.load(Ordering::Relaxed) })
}

/// `VmHWM` of a status file, in bytes.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of all children that have ended, in seconds.
fn children_seconds() -> f64 {
    fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(children_of).unwrap_or(0.0)
}

/// Fields 16 and 17 (`cutime`, `cstime`) of a stat file, whose second field may hold anything in parentheses.
fn children_of(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(13);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_where_proc_has_them() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"), Some(2048 * 1024));
        assert_eq!(peak_of("VmHWM: lots\n"), None);
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 250 50 20 0";
        assert_eq!(children_of(stat), Some(3.0));
        assert_eq!(children_of("42"), None);
    }

    #[test]
    fn a_row_has_its_middle_run() {
        let sample = |wall| Sample { wall, cpu: 2.0 * wall, peak_bytes: 7 };
        let row = Row { name: "x".into(), samples: [3.0, 1.0, 2.0].map(sample).to_vec() };
        assert_eq!((row.wall(), row.cpu(), row.peak_bytes()), ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 7));
    }

    #[test]
    fn a_failure_is_told_with_what_the_command_said() {
        assert!(run(&mut Command::new("true")).is_ok());
        let failed = run(Command::new("sh").args(["-c", "echo no room >&2; exit 3"])).unwrap_err();
        assert_eq!(failed.to_string(), "no room\n");
    }
}
