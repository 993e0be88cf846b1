//! The one writer: everything that is logged goes through it to the [`Store`]. A store that cannot be opened or written
//! to costs entries at worst, never a sender's time.

use std::collections::VecDeque;
use std::io;

use super::entry::{Entry, Priority, Stamp};
use super::store::Store;

/// Bytes of entries that wait in memory while the store fails; the oldest are dropped beyond it.
const RING_BYTES: usize = 256 << 10;
/// How long a store that failed is left alone, in microseconds.
const PAUSE: u64 = 2_000_000;

/// Opens the store; asked again when it failed.
pub type Open = Box<dyn FnMut() -> io::Result<Box<dyn Store>> + Send>;

/// The writer.
pub struct Keeper {
    open: Open,
    store: Option<Box<dyn Store>>,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    lost: u64,
    /// Why it failed last, and when it is tried again.
    trouble: Option<(String, u64)>,
    sync_interval: u64,
    sync_at: Option<u64>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("store", &self.store)
            .field("waiting", &self.waiting.len())
            .field("lost", &self.lost)
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// A writer whose store is opened with the first entry. What is kept is synced after `sync_interval` microseconds.
    pub fn new(open: Open, sync_interval: u64) -> Keeper {
        Keeper {
            open,
            store: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lost: 0,
            trouble: None,
            sync_interval,
            sync_at: None,
        }
    }

    /// Keeps an entry, or remembers it while that is not possible.
    pub fn keep(&mut self, entry: Entry) {
        let now = entry.stamp.monotonic;
        let urgent = entry.priority() <= Priority::CRITICAL;
        self.waiting_bytes += entry.size();
        self.waiting.push_back(entry);
        if self.trouble.as_ref().is_none_or(|(_, again)| now >= *again) {
            self.flush(now);
        }
        while self.waiting_bytes > RING_BYTES && self.trouble.is_some() {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(oldest.size());
            self.lost = self.lost.saturating_add(1);
        }
        if urgent {
            self.sync();
        } else if self.sync_at.is_none() {
            self.sync_at = Some(now.saturating_add(self.sync_interval));
        }
    }

    /// Writes what waits.
    fn flush(&mut self, now: u64) {
        if let Err(error) = self.try_flush() {
            self.trouble = Some((error.to_string(), now.saturating_add(PAUSE)));
            return;
        }
        let Some((why, _)) = self.trouble.take() else { return };
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.keep(own_entry(
                Stamp::now(),
                Priority::WARNING,
                &format!("{lost} messages were lost because they could not be written: {why}"),
            ));
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while let Some(entry) = self.waiting.front() {
            if self.store.is_none() {
                self.store = Some((self.open)()?);
            }
            if let Some(store) = &mut self.store {
                store.append(entry)?;
            }
            self.waiting_bytes = self.waiting_bytes.saturating_sub(entry.size());
            self.waiting.pop_front();
        }
        self.waiting.shrink_to(16);
        Ok(())
    }

    /// Makes what was kept outlive a power cut. Failing is the disk's trouble, which the next entry meets again.
    pub fn sync(&mut self) {
        self.sync_at = None;
        if let Some(store) = &mut self.store {
            let _next_entry_tells = store.sync();
        }
    }

    /// When [`Keeper::tick`] has something to do, by the monotonic clock.
    pub fn next(&self) -> Option<u64> {
        let again = self.trouble.as_ref().map(|(_, again)| *again).filter(|_| !self.waiting.is_empty());
        self.sync_at.into_iter().chain(again).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        if self.sync_at.is_some_and(|at| now >= at) {
            self.sync();
        }
        if !self.waiting.is_empty() && self.trouble.as_ref().is_some_and(|(_, again)| now >= *again) {
            self.flush(now);
        }
    }

    /// Begins a new file.
    ///
    /// # Errors
    /// The store's.
    pub fn rotate(&mut self) -> io::Result<()> {
        self.store.as_mut().map_or(Ok(()), |store| store.rotate())
    }

    /// Closes the store; the next entry opens it where it belongs now.
    pub fn reopen(&mut self) {
        self.sync();
        self.store = None;
        self.trouble = None;
    }

    /// Where entries are kept.
    pub fn place(&self) -> String {
        self.store.as_ref().map_or_else(|| "nowhere".to_owned(), |store| store.place())
    }
}

/// An entry of the journal's own.
pub fn own_entry(stamp: Stamp, level: u8, text: &str) -> Entry {
    let mut entry = Entry::new(stamp);
    entry.push("_TRANSPORT", "driver");
    entry.push("PRIORITY", level.to_string());
    entry.push("SYSLOG_FACILITY", "3");
    entry.push("SYSLOG_IDENTIFIER", "systemd-journald");
    entry.push("MESSAGE", text);
    entry
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, Default)]
    struct Disk {
        full: bool,
        kept: Vec<String>,
    }

    #[derive(Debug)]
    struct Fake(Arc<Mutex<Disk>>);

    impl Store for Fake {
        fn append(&mut self, entry: &Entry) -> io::Result<()> {
            let mut disk = self.0.lock().unwrap();
            if disk.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.kept.push(String::from_utf8_lossy(entry.get("MESSAGE").unwrap()).into_owned());
            Ok(())
        }
        fn rotate(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn place(&self) -> String {
            String::new()
        }
    }

    fn entry(at: u64, text: &str) -> Entry {
        own_entry(Stamp { realtime: at, monotonic: at }, 6, text)
    }

    #[test]
    fn a_full_disk_costs_the_oldest_and_says_how_many() {
        let disk = Arc::new(Mutex::new(Disk::default()));
        let theirs = Arc::clone(&disk);
        let mut keeper =
            Keeper::new(Box::new(move || Ok(Box::new(Fake(Arc::clone(&theirs))) as Box<dyn Store>)), 100);
        keeper.keep(entry(1, "before"));
        disk.lock().unwrap().full = true;
        let long = "x".repeat(RING_BYTES / 10);
        (0..30).for_each(|number| keeper.keep(entry(2, &format!("{number} {long}"))));
        assert!(keeper.waiting_bytes <= RING_BYTES);
        disk.lock().unwrap().full = false;
        // Not before the pause is over, then in order.
        keeper.keep(entry(3, "during"));
        assert_eq!(disk.lock().unwrap().kept.len(), 1);
        assert_eq!(keeper.next(), Some(101), "a sync is due first");
        keeper.tick(2 + PAUSE);
        let kept = disk.lock().unwrap().kept.clone();
        assert_eq!(kept.first().unwrap(), "before");
        assert_eq!(kept[kept.len() - 2], "during");
        let lost = 32 - (kept.len() - 1);
        assert!(kept.last().unwrap().starts_with(&format!("{lost} messages were lost")), "{:?}", kept.last());
    }

    #[test]
    fn a_store_that_does_not_open_is_tried_again() {
        let disk = Arc::new(Mutex::new(Disk::default()));
        let theirs = Arc::clone(&disk);
        let mut refusals = 1;
        let mut keeper = Keeper::new(
            Box::new(move || {
                if std::mem::take(&mut refusals) > 0 {
                    return Err(io::ErrorKind::ReadOnlyFilesystem.into());
                }
                Ok(Box::new(Fake(Arc::clone(&theirs))) as Box<dyn Store>)
            }),
            100,
        );
        keeper.keep(entry(1, "early"));
        keeper.keep(entry(1 + PAUSE, "late"));
        assert_eq!(disk.lock().unwrap().kept, ["early", "late"]);
    }
}
