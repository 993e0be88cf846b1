//! The thread of a watch.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::client::{Client, Error, WatchStream};
use crate::message::{KeyRange, Revision, Streamed, WatchMessage};
use crate::watch::{Heard, Step, Update, Watcher};

/// Pauses after a stream that brought nothing.
const PAUSES: Backoff = Backoff { first: 200, most: 30_000 };
/// A message that is longer is refused; etcd's own limit is 2 MiB and a little.
const LONGEST_MESSAGE: usize = 32 << 20;
/// Silence after which a stream is taken for dead although the connection stands. etcd reports progress every ten minutes.
const SILENCE: Duration = Duration::from_secs(25 * 60);

/// A watch of a range, in a thread of its own. It ends with this value, within [`READ_LIMIT`](crate::client::READ_LIMIT).
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Watches `range` and hands every piece of news to `tell`, until it says `false`. Trouble is told as well (the message), and
    /// never ends the watch.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        client: &Client,
        range: KeyRange,
        tell: impl FnMut(Result<Update, String>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::run(client, Watcher::new(range), tell)
    }

    /// The same for all changes from `revision` on, without a snapshot at the beginning.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start_from(
        client: &Client,
        range: KeyRange,
        revision: Revision,
        tell: impl FnMut(Result<Update, String>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::run(client, Watcher::from(range, revision), tell)
    }

    fn run(
        client: &Client,
        watcher: Watcher,
        mut tell: impl FnMut(Result<Update, String>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, stopped) = (client.clone(), Arc::clone(&stop));
        thread::Builder::new().name("kv-watch".to_owned()).stack_size(256 << 10).spawn(move || {
            let mut shell = Shell { client, watcher, stop: stopped, failures: 0 };
            while shell.go_on(&mut tell) {}
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Shell {
    client: Client,
    watcher: Watcher,
    stop: Arc<AtomicBool>,
    failures: u32,
}

impl Shell {
    fn wanted(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// One step; `false` when the watch has ended.
    fn go_on(&mut self, tell: &mut dyn FnMut(Result<Update, String>) -> bool) -> bool {
        if !self.wanted() {
            return false;
        }
        let result = match self.watcher.step() {
            Step::Read => {
                self.client.snapshot_of_cluster(self.watcher.range()).map(|(kvs, revision, cluster)| {
                    self.failures = 0;
                    tell(Ok(self.watcher.read(kvs, revision, cluster)))
                })
            }
            Step::Open(revision) => self
                .client
                .open_watch(self.watcher.range(), revision)
                .and_then(|mut stream| self.listen(&mut stream, tell)),
        };
        match result {
            Ok(wanted) => wanted && self.wanted(),
            Err(Error::Compacted) => {
                self.watcher.compacted();
                true
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if !tell(Err(error.to_string())) {
                    return false;
                }
                self.pause();
                self.wanted()
            }
        }
    }

    fn pause(&self) {
        let mut left = PAUSES.pause(self.failures, self.client.random());
        while left > 0 && self.wanted() {
            let slice = left.min(500);
            thread::sleep(Duration::from_millis(slice));
            left -= slice;
        }
    }

    /// Reads a stream to its end; `Ok(false)` when nobody listens any more.
    fn listen(
        &mut self,
        stream: &mut WatchStream,
        tell: &mut dyn FnMut(Result<Update, String>) -> bool,
    ) -> Result<bool, Error> {
        let mut lines = Lines::default();
        let mut buffer = [0; 16 << 10];
        let mut heard_at = std::time::Instant::now();
        let broken = |last: String| Error::Unavailable { last };
        loop {
            let count = match stream.response.read(&mut buffer) {
                Ok(count) => count,
                // The limit of one read; bytes are never lost by it.
                Err(error) if is_timeout(&error) => {
                    if !self.wanted() {
                        return Ok(false);
                    }
                    if heard_at.elapsed() > SILENCE {
                        self.client.watch_failed(stream);
                        return Err(broken("the watch has gone silent".to_owned()));
                    }
                    continue;
                }
                Err(error) => {
                    self.client.watch_failed(stream);
                    return Err(broken(error.to_string()));
                }
            };
            if count == 0 {
                self.client.watch_failed(stream);
                return Err(broken("the stream of the watch has ended".to_owned()));
            }
            heard_at = std::time::Instant::now();
            if !lines.push(buffer.get(..count).unwrap_or_default()) {
                // Too many large changes for one message: all of it is read again, in pages.
                self.watcher.compacted();
                return Ok(true);
            }
            while let Some(line) = lines.next() {
                let message: Streamed<WatchMessage> =
                    serde_json::from_slice(&line).map_err(|error| broken(error.to_string()))?;
                if let Some(error) = message.error {
                    self.client.watch_failed(stream);
                    return Err(broken(error.message));
                }
                let Some(message) = message.result else { continue };
                let why = message.cancel_reason.clone();
                match self.watcher.heard(message) {
                    Heard::Nothing => self.failures = 0,
                    Heard::News(update) => {
                        self.failures = 0;
                        if !tell(Ok(update)) {
                            return Ok(false);
                        }
                    }
                    Heard::Over if self.watcher.step() == Step::Read => return Ok(true),
                    Heard::Over => return Err(broken(format!("the watch was cancelled: {why}"))),
                }
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<reqwest::Error>())
            .is_some_and(reqwest::Error::is_timeout)
}

/// Bytes into lines.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where no newline was found before.
    searched: usize,
}

impl Lines {
    /// `false`: a message is longer than [`LONGEST_MESSAGE`].
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() <= LONGEST_MESSAGE
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = self.bytes.get(self.searched..).unwrap_or_default();
            let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.bytes.len();
                return None;
            };
            let mut line: Vec<u8> = self.bytes.drain(..=self.searched + at).collect();
            self.searched = 0;
            line.pop();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_arrive(text in "[a-c\n]{0,60}", cuts in proptest::collection::vec(1_usize..9, 1..60)) {
            let want: Vec<&str> = {
                let mut lines: Vec<&str> = text.split('\n').collect();
                lines.pop();
                lines.retain(|line| !line.trim().is_empty());
                lines
            };
            let (mut lines, mut got, mut rest) = (Lines::default(), Vec::new(), text.as_bytes());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                prop_assert!(lines.push(now));
                while let Some(line) = lines.next() { got.push(String::from_utf8(line).unwrap()) }
            }
            prop_assert_eq!(got, want);
        }
    }
}
