//! A captured serial console: everything that the machine printed, searched as it arrives.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A machine that prints without end must not eat the host's memory; a boot prints some 100 KiB.
const LOG_LIMIT: usize = 128 << 20;
/// Lines of the console in an error.
const TAIL_LINES: usize = 30;

/// What went wrong with a console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The text did not come.
    #[error("the console did not print {wanted} within {limit:?}{}", kept(tail, log.as_deref()))]
    Timeout {
        /// What was waited for.
        wanted: String,
        /// How long.
        limit: Duration,
        /// The last lines of the console.
        tail: String,
        /// Where the whole console was written.
        log: Option<PathBuf>,
    },
    /// The machine ended first.
    #[error("the machine ended before its console printed {wanted}{}", kept(tail, log.as_deref()))]
    Ended {
        /// What was waited for.
        wanted: String,
        /// The last lines of the console.
        tail: String,
        /// Where the whole console was written.
        log: Option<PathBuf>,
    },
    /// The machine does not take input any more.
    #[error("write to the console")]
    Write(#[source] std::io::Error),
}

fn kept(tail: &str, log: Option<&Path>) -> String {
    let place = log.map(|path| format!("; whole console in {}", path.display())).unwrap_or_default();
    format!("{place}; its last lines:\n{tail}")
}

/// The console of a running (or ended) machine.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    shared: Arc<Shared>,
    /// Everything before this was consumed by a match.
    cursor: usize,
    log_file: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    ended: bool,
}

impl Shared {
    // A panic elsewhere cannot leave half a log: appending is the only change.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Reads `stream` from now on. `log_file` is where the log goes when an expectation fails.
    ///
    /// # Errors
    /// No further thread or file descriptor.
    pub(crate) fn new(stream: UnixStream, log_file: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut reader = stream.try_clone()?;
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = reader.read(&mut chunk);
                let mut log = writer.lock();
                match read {
                    Ok(n @ 1..) => {
                        if log.bytes.len() < LOG_LIMIT {
                            log.bytes.extend(chunk.get(..n).unwrap_or_default());
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => log.ended = true,
                }
                writer.grown.notify_all();
                if log.ended {
                    return;
                }
            }
        })?;
        Ok(Self { stream, shared, cursor: 0, log_file })
    }

    /// Stands for the console of a machine that uses the caller's terminal.
    pub(crate) fn elsewhere() -> std::io::Result<Self> {
        let (stream, _) = UnixStream::pair()?;
        let log = Log { bytes: b"(its console is the user's terminal)\n".to_vec(), ended: true };
        let shared = Arc::new(Shared { log: Mutex::new(log), grown: Condvar::new() });
        Ok(Self { stream, shared, cursor: 0, log_file: PathBuf::from("/dev/null") })
    }

    /// Waits until the machine prints `text`, looking only at what no earlier call consumed. Returns what was printed up to
    /// the end of the match.
    ///
    /// # Errors
    /// The text does not come within `limit`, or the machine ends first; the error has the console's last lines, and the
    /// whole console is kept in a file that it names.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String, ConsoleError> {
        self.expect_any(&[text], limit).map(|(_, seen)| seen)
    }

    /// As [`Self::expect`] for the first of several texts; also tells which one.
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub fn expect_any(&mut self, texts: &[&str], limit: Duration) -> Result<(usize, String), ConsoleError> {
        let deadline = Instant::now() + limit;
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
        let shared = Arc::clone(&self.shared);
        let mut log = shared.lock();
        let mut from = self.cursor;
        loop {
            if let Some((which, end)) = first_match(&log.bytes, from, texts) {
                let seen =
                    String::from_utf8_lossy(log.bytes.get(self.cursor..end).unwrap_or_default()).into_owned();
                self.cursor = end;
                return Ok((which, seen));
            }
            // A match may begin in what is there and end in what comes.
            from = log.bytes.len().saturating_sub(longest.saturating_sub(1)).max(from);
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                let wanted = texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or ");
                let tail = tail(&log.bytes);
                let ended = log.ended;
                drop(log);
                let log = self.keep_log();
                return Err(match ended {
                    true => ConsoleError::Ended { wanted, tail, log },
                    false => ConsoleError::Timeout { wanted, limit, tail, log },
                });
            }
            log = shared.grown.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types `text`; a line ends with `\n`.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn send(&mut self, text: &str) -> Result<(), ConsoleError> {
        self.stream.write_all(text.as_bytes()).map_err(ConsoleError::Write)
    }

    /// Everything printed until now.
    pub fn log(&self) -> Vec<u8> {
        self.shared.lock().bytes.clone()
    }

    /// What was printed after the first `seen` bytes.
    pub fn since(&self, seen: usize) -> Vec<u8> {
        self.shared.lock().bytes.get(seen..).unwrap_or_default().to_vec()
    }

    /// Everything printed until now without escape sequences and control characters.
    pub fn text(&self) -> String {
        plain(&self.shared.lock().bytes)
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().bytes)
    }

    /// Writes the log to its file; `None` when that fails, because the caller is about to report something worse.
    pub fn keep_log(&self) -> Option<PathBuf> {
        if let Some(folder) = self.log_file.parent() {
            std::fs::create_dir_all(folder).ok()?;
        }
        std::fs::write(&self.log_file, self.log()).ok()?;
        Some(self.log_file.clone())
    }

    /// Waits until the machine has closed its end; everything that it printed is in the log then.
    pub(crate) fn wait_end(&self, limit: Duration) {
        let log = self.shared.lock();
        drop(self.shared.grown.wait_timeout_while(log, limit, |log| !log.ended));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Ends the reader thread; fails only when the machine did so already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// The match that ends first at or after `from`: which text, and where it ends.
fn first_match(bytes: &[u8], from: usize, texts: &[&str]) -> Option<(usize, usize)> {
    let rest = bytes.get(from..)?;
    let find = |text: &str| match text.len() {
        0 => Some(from),
        n => rest.windows(n).position(|window| window == text.as_bytes()).map(|at| from + at + n),
    };
    texts
        .iter()
        .enumerate()
        .filter_map(|(which, text)| Some((which, find(text)?)))
        .min_by_key(|&(_, end)| end)
}

fn tail(bytes: &[u8]) -> String {
    // Escape sequences make lines long; this many bytes hold the lines in any case that matters.
    let bytes = bytes.get(bytes.len().saturating_sub(64 << 10)..).unwrap_or_default();
    let text = plain(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// Text without escape sequences (ECMA-48: `ESC [ parameters final`, `ESC x`) and control characters but line feed and tab.
pub fn plain(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('\x40'..='\x7e').contains(c));
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn console(dir: &Path) -> (UnixStream, Console) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (theirs, Console::new(ours, dir.join("logs").join("console.log")).unwrap())
    }

    #[test]
    fn a_text_split_over_two_writes_is_found_and_consumed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut console) = console(dir.path());
        let writer = std::thread::spawn(move || {
            machine.write_all(b"boot\r\nferrite lo").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            machine.write_all(b"gin: x login:").unwrap();
            machine
        });
        assert_eq!(console.expect("login:", LIMIT).unwrap(), "boot\r\nferrite login:");
        assert_eq!(console.expect("login:", LIMIT).unwrap(), " x login:");
        drop(writer.join().unwrap());
        assert!(matches!(console.expect("login:", LIMIT), Err(ConsoleError::Ended { .. })));
    }

    #[test]
    fn the_earliest_of_several_texts_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut console) = console(dir.path());
        machine.write_all(b"aa panic bb login cc").unwrap();
        assert_eq!(console.expect_any(&["login", "panic"], LIMIT).unwrap(), (1, "aa panic".to_owned()));
        assert_eq!(console.expect_any(&["login", "panic"], LIMIT).unwrap().0, 0);
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_keeps_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut console) = console(dir.path());
        machine.write_all(b"\x1b[2J\x1b[01;01Hno bootable device\r\n").unwrap();
        let error = console.expect("login:", Duration::from_millis(100)).unwrap_err();
        let ConsoleError::Timeout { log: Some(log), tail, .. } = &error else { panic!("{error}") };
        assert_eq!(tail, "no bootable device");
        assert!(std::fs::read(log).unwrap().starts_with(b"\x1b[2J"));
        assert!(error.to_string().contains("\"login:\" within 100ms; whole console in /"), "{error}");
        assert!(error.to_string().ends_with("no bootable device"), "{error}");
    }

    #[test]
    fn the_end_of_the_machine_is_noticed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, mut console) = console(dir.path());
        drop(machine);
        let start = Instant::now();
        assert!(matches!(console.expect("x", Duration::from_secs(60)), Err(ConsoleError::Ended { .. })));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn input_reaches_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut console) = console(dir.path());
        console.send("id\n").unwrap();
        let mut got = [0; 3];
        machine.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"id\n");
    }

    proptest! {
        #[test]
        fn plain_text_has_no_control_characters(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(plain(&bytes).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }

        // However the stream is cut into chunks, the same match is found.
        #[test]
        fn matches_do_not_depend_on_chunk_borders(before in "[ab]{0,12}", cuts in proptest::collection::vec(1_usize..5, 1..8)) {
            let dir = tempfile::tempdir().unwrap();
            let (mut machine, mut console) = console(dir.path());
            let stream = format!("{before}abc-rest");
            let want = stream.find("abc").map(|at| stream[..at + 3].to_owned()).unwrap();
            let feeder = std::thread::spawn(move || {
                let mut rest = stream.as_bytes();
                for cut in cuts.into_iter().cycle() {
                    let (now, later) = rest.split_at(cut.min(rest.len()));
                    machine.write_all(now).unwrap();
                    rest = later;
                    if rest.is_empty() { break }
                    std::thread::yield_now();
                }
                machine
            });
            prop_assert_eq!(console.expect("abc", LIMIT).unwrap(), want);
            drop(feeder.join().unwrap());
        }
    }
}
