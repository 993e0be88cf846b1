//! Talk on stderr: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use debian::progress::{Progress, Task, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style;

/// Work that is shorter than this gets no plain line.
const QUIET: Duration = Duration::from_secs(2);

/// Where a command talks to its user.
#[derive(Debug)]
pub struct Terminal {
    /// `None` when stderr is no terminal, or one that only prints.
    bars: Option<MultiProgress>,
    /// Bytes of all tasks that fetch something.
    fetched: Arc<AtomicU64>,
}

impl Terminal {
    /// Bars when stderr is a terminal on which the cursor can be moved.
    pub fn new() -> Self {
        let moves = std::env::var_os("TERM").is_some_and(|name| name != "dumb");
        let bars = (moves && std::io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { bars, fetched: Arc::default() }
    }

    /// Bytes that came over the network so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Prints a line above the bars.
    pub fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| style::say(line)),
            None => style::say(line),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            drop(bars.clear());
        }
    }
}

impl Progress for Terminal {
    fn begin(&self, label: &str, total: u64, unit: Unit) -> Box<dyn Task> {
        let fetched = if label.starts_with("fetching") { Arc::clone(&self.fetched) } else { Arc::default() };
        let Some(bars) = &self.bars else { return Box::new(Line::new(label, unit, fetched)) };
        let template = match unit {
            // Work of unknown length.
            _ if total == 0 => "{msg:28!} {spinner} {elapsed}",
            Unit::Bytes => "{msg:28!} {wide_bar} {bytes:>11} of {total_bytes:<11} {eta:>4}",
            Unit::Items => "{msg:28!} {wide_bar} {pos:>11} of {len:<11} {eta:>4}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bars.add(
            ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(label.to_owned()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Box::new(Bar { bar, fetched })
    }

    fn note(&self, message: &str) {
        self.say(message);
    }
}

struct Bar {
    bar: ProgressBar,
    fetched: Arc<AtomicU64>,
}

impl Task for Bar {
    fn advance(&self, units: u64) {
        self.bar.inc(units);
        self.fetched.fetch_add(units, Ordering::Relaxed);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A task without a terminal: one line when it ends, if it took a while.
struct Line {
    label: String,
    unit: Unit,
    start: Instant,
    done: AtomicU64,
    fetched: Arc<AtomicU64>,
}

impl Line {
    fn new(label: &str, unit: Unit, fetched: Arc<AtomicU64>) -> Self {
        Self { label: label.to_owned(), unit, start: Instant::now(), done: AtomicU64::new(0), fetched }
    }
}

impl Task for Line {
    fn advance(&self, units: u64) {
        self.done.fetch_add(units, Ordering::Relaxed);
        self.fetched.fetch_add(units, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        if elapsed < QUIET {
            return;
        }
        let done = self.done.load(Ordering::Relaxed);
        let amount = match self.unit {
            Unit::Bytes => format!(", {:.1} MB", done as f64 / 1e6),
            Unit::Items => String::new(),
        };
        style::say(&format!("{}: {:.1} s{amount}", self.label, elapsed.as_secs_f64()));
    }
}
