//! Boot marks: when each stage of the boot was reached, in time since power-on.
//!
//! Whoever reaches a mark appends a line to [`FILE`]; the last one that PID 1 waits for prints them all. Before Linux only the
//! processor's counter runs, so [`begin`] takes one sample of it beside the kernel's clock, and the line at the end takes
//! another: from the two follow the counter's rate and the moment of power-on on the kernel's clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use crate::early::cmdline::{CommandLine, LoaderMarks};
use crate::early::console::{Level, chain, say};
use crate::sys::tsc;

/// One mark a line: name, space, microseconds of `CLOCK_BOOTTIME`.
const FILE: &str = "/run/ferrite/marks";
/// Names of the marks that must be there before the line is printed.
const EXPECTED: &str = "/run/ferrite/marks-expected";
/// Exists once the line was printed.
const PRINTED: &str = "/run/ferrite/marks-printed";
/// The first sample: counter, space, microseconds.
const SAMPLE: &str = "/run/ferrite/marks-sample";
/// Marks of the line, in the order of a boot.
const ORDER: &[&str] =
    &["firmware", "loader", "kernel", "pid1", "usr", "network", "etcd", "login", "complete"];
/// Kernels take less than this from the loader's last mark to their own clock; a larger difference means that the counter
/// did not start at power-on.
const PLAUSIBLE_KERNEL_START: u64 = 60_000_000;

/// Starts the marks: the folder, the first sample, and the mark `pid1` (the first process of user space).
pub fn begin() {
    if let Err(error) = std::fs::create_dir_all("/run/ferrite") {
        say(Level::Warning, format_args!("no boot marks: {error}"));
        return;
    }
    if let Some(sample) = Sample::take() {
        let text = format!("{} {}\n", sample.counter, sample.boottime);
        // Without it the line falls back to the loader's mark.
        drop(std::fs::write(SAMPLE, text));
    }
    record("pid1");
}

/// Records that the mark `name` was reached now; only the first time counts. Prints the line when it was the last expected one.
pub fn record(name: &str) {
    let line = format!("{name} {}\n", boottime());
    let opened = OpenOptions::new().create(true).append(true).open(FILE);
    if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
        say(Level::Warning, format_args!("boot mark {name} is lost: {}", chain(&error)));
    }
    print_when_complete();
}

/// Names the marks to wait for; called once by PID 1, which knows what this boot starts.
pub fn expect(names: &[&str]) {
    if let Err(error) = std::fs::write(EXPECTED, names.join("\n")) {
        say(Level::Warning, format_args!("no boot marks: {error}"));
    }
    print_when_complete();
}

/// How long the parts of the boot before services took, for `systemd-analyze`; microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// From power-on to the loader.
    pub firmware: Option<u64>,
    /// From there to the kernel.
    pub loader: Option<u64>,
    /// The first process of user space began, on the kernel's clock.
    pub first_process: Option<u64>,
    /// `/usr` was there and PID 1 began to start services, on the kernel's clock.
    pub usr: Option<u64>,
}

/// The parts of this boot, as far as they are known.
pub fn stages() -> Stages {
    let marks = parse(&std::fs::read_to_string(FILE).unwrap_or_default());
    let loader = CommandLine::read().ok().and_then(|line| line.marks);
    Stages {
        firmware: loader.map(|marks| marks.entry),
        loader: loader.map(|marks| marks.start_image.saturating_sub(marks.entry)),
        first_process: marks.get("pid1").copied(),
        usr: marks.get("usr").copied(),
    }
}

fn print_when_complete() {
    let Ok(expected) = std::fs::read_to_string(EXPECTED) else { return };
    let marks = parse(&std::fs::read_to_string(FILE).unwrap_or_default());
    if expected.lines().any(|name| !marks.contains_key(name)) {
        return;
    }
    // Several processes may see the marks complete; one of them creates the file.
    if OpenOptions::new().write(true).create_new(true).open(PRINTED).is_err() {
        return;
    }
    let loader = CommandLine::read().ok().and_then(|line| line.marks);
    let first = std::fs::read_to_string(SAMPLE).ok().and_then(|text| Sample::parse(&text));
    let origin = kernel_start(loader, first, Sample::take());
    if let Err(error) = print(&line(loader, origin, &marks)) {
        say(Level::Warning, format_args!("boot marks not shown: {error}"));
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut console = OpenOptions::new().write(true).open(Path::new("/dev/console"))?;
    console.write_all(format!("{text}\r\n").as_bytes())
}

/// The processor's counter and the kernel's clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    counter: u64,
    /// Microseconds.
    boottime: u64,
}

impl Sample {
    fn take() -> Option<Self> {
        Some(Self { counter: tsc::read()?, boottime: boottime() })
    }

    fn parse(text: &str) -> Option<Self> {
        let (counter, boottime) = text.trim().split_once(' ')?;
        Some(Self { counter: counter.parse().ok()?, boottime: boottime.parse().ok()? })
    }
}

fn boottime() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0) / 1000)
}

/// Microseconds from power-on to the zero of the kernel's clock.
///
/// From the counter when two samples tell its rate and the result lies just behind the loader's last mark; else that mark;
/// without a loader 0, so that the marks count from the kernel's start.
fn kernel_start(loader: Option<LoaderMarks>, first: Option<Sample>, second: Option<Sample>) -> u64 {
    let started = loader.map_or(0, |marks| marks.start_image);
    let measured = first.zip(second).and_then(|(first, second)| {
        let ticks = u128::from(second.counter.checked_sub(first.counter)?);
        let micros = u128::from(second.boottime.checked_sub(first.boottime)?);
        let since_power_on = (u128::from(second.counter) * micros).checked_div(ticks)?;
        u64::try_from(since_power_on).ok()?.checked_sub(second.boottime)
    });
    match measured {
        Some(origin) if (started..started + PLAUSIBLE_KERNEL_START).contains(&origin) => origin,
        _ => started,
    }
}

/// Reads the file; lines that are no marks are skipped, the first of a name counts.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let mut marks = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, Ok(at))) = line.split_once(' ').map(|(name, at)| (name, at.parse())) {
            marks.entry(name.to_owned()).or_insert(at);
        }
    }
    marks
}

/// The line for the console, in milliseconds since power-on; marks that were not reached are left out.
fn line(loader: Option<LoaderMarks>, origin: u64, marks: &BTreeMap<String, u64>) -> String {
    let mut text = "ferrite: marks".to_owned();
    for name in ORDER {
        let at = match *name {
            "firmware" => loader.map(|marks| marks.entry),
            "loader" => loader.map(|marks| marks.start_image),
            "kernel" => Some(origin),
            name => marks.get(name).map(|at| at.saturating_add(origin)),
        };
        if let Some(at) = at {
            // Writing into a String cannot fail.
            let _ = write!(text, " {name}={}ms", at / 1000);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOADER: LoaderMarks = LoaderMarks { entry: 3_900_000, start_image: 4_200_000 };

    #[test]
    fn the_counter_tells_when_the_kernel_clock_started() {
        // 2 ticks a microsecond, kernel clock zero at 4.5 s.
        let at = |boottime: u64| Some(Sample { counter: 2 * (boottime + 4_500_000), boottime });
        assert_eq!(kernel_start(Some(LOADER), at(2_000_000), at(6_000_000)), 4_500_000);
        assert_eq!(kernel_start(None, at(2_000_000), at(6_000_000)), 4_500_000);
    }

    #[test]
    fn an_implausible_counter_yields_to_the_loader() {
        let early = |boottime: u64| Some(Sample { counter: 2 * (boottime + 1_000_000), boottime });
        assert_eq!(kernel_start(Some(LOADER), early(1), early(9_000_000)), LOADER.start_image);
        let same = Some(Sample { counter: 5, boottime: 5 });
        assert_eq!(kernel_start(Some(LOADER), same, same), LOADER.start_image);
        assert_eq!(kernel_start(Some(LOADER), None, same), LOADER.start_image);
        assert_eq!(kernel_start(None, None, None), 0);
    }

    #[test]
    fn the_line_has_the_order_of_a_boot_and_the_first_of_each_mark() {
        let marks =
            parse("pid1 1000\nusr 2000\nlogin 9000000\nlogin 9999999\nrubbish\nx y\nnetwork 3000000\n");
        assert_eq!(
            line(Some(LOADER), 4_500_000, &marks),
            "ferrite: marks firmware=3900ms loader=4200ms kernel=4500ms pid1=4501ms usr=4502ms network=7500ms login=13500ms"
        );
        assert_eq!(line(None, 0, &BTreeMap::new()), "ferrite: marks kernel=0ms");
    }

    proptest! {
        #[test]
        fn no_sample_and_no_file_panics(a: u64, b: u64, c: u64, d: u64, text: String) {
            kernel_start(None, Some(Sample { counter: a, boottime: b }), Some(Sample { counter: c, boottime: d }));
            parse(&text);
            Sample::parse(&text);
        }
    }
}
