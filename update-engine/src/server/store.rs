//! What machines reported, on disk. A report is acknowledged when it is in a committed transaction: neither the end of this
//! process nor of the power loses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::causes::chain;
use crate::channel::report::Report;

/// Machine id to [`Entry`] as JSON.
const MACHINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("machines-1");
/// Reports that wait for the writer; beyond that, machines wait.
const QUEUE: usize = 1024;
/// Reports of one transaction: one flush of the disk for all of them.
const BATCH: usize = 256;

/// Why the store does not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It cannot be read or written.
    #[error("cannot use the store")]
    Use(#[source] Box<redb::Error>),
    /// It has as many machines as it may have.
    #[error("there are {0} machines in the store, which is the most that it takes")]
    Full(u64),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

fn used(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Use(Box::new(error.into()))
}

/// The newest report of a machine, and what is known about it since the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix seconds of the first report.
    pub first_seen: u64,
    /// Unix seconds of the newest one.
    pub last_seen: u64,
    /// How many there were.
    pub reports: u64,
    /// The newest one.
    pub report: Report,
}

struct Job {
    report: Report,
    now: u64,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The store, with the thread that writes to it.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store, or makes it. At most `most` machines are kept.
    ///
    /// # Errors
    /// It cannot be opened: another server has it, or it is damaged.
    pub fn open(path: &Path, most: u64) -> Result<Self, StoreError> {
        let failed =
            |source: redb::Error| StoreError::Open { path: path.to_owned(), source: Box::new(source) };
        let database = Database::create(path).map_err(|error| failed(error.into()))?;
        let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
        transaction.open_table(MACHINES).map_err(|error| failed(error.into()))?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        let database = Arc::new(database);
        let (jobs, queue) = sync_channel(QUEUE);
        let own = Arc::clone(&database);
        let writer = thread::spawn(move || write_all(&own, &queue, most));
        Ok(Self { database, jobs: Some(jobs), writer: Some(writer) })
    }

    /// Keeps a report. It is on disk when this returns.
    ///
    /// # Errors
    /// It is not kept.
    pub async fn put(&self, report: Report, now: u64) -> Result<(), StoreError> {
        let (done, result) = oneshot::channel();
        let jobs = self.jobs.clone().ok_or(StoreError::Closed)?;
        let job = Job { report, now, done };
        // The queue may be full: waiting for it must not hold up other requests.
        let sent = tokio::task::spawn_blocking(move || jobs.send(job).is_ok()).await;
        if !matches!(sent, Ok(true)) {
            return Err(StoreError::Closed);
        }
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// All machines, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(&self) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(used)?;
        let table = transaction.open_table(MACHINES).map_err(used)?;
        let mut entries = Vec::new();
        for row in table.iter().map_err(used)? {
            let (_, value) = row.map_err(used)?;
            // One of a later version of this program does not hide the others.
            entries.extend(serde_json::from_slice::<Entry>(value.value()).ok());
        }
        Ok(entries)
    }

    /// Waits until everything that was put is on disk.
    pub fn close(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // It has told those who wait whatever there was to tell.
            let _ = writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes what comes, as much as there is in each transaction, and says so when it is on disk.
fn write_all(database: &Database, queue: &Receiver<Job>, most: u64) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(BATCH - 1)).collect();
        let results = write(database, &batch, most);
        let answers: Vec<Result<(), StoreError>> = match results {
            Ok(results) => results,
            Err(error) => {
                super::log(&format!("reports are lost: {}", chain(&error)));
                batch.iter().map(|_| Err(StoreError::Closed)).collect()
            }
        };
        for (job, answer) in batch.into_iter().zip(answers) {
            // A machine that has gone does not want to know.
            let _ = job.done.send(answer);
        }
    }
}

fn write(database: &Database, batch: &[Job], most: u64) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let transaction = database.begin_write().map_err(used)?;
    let mut results = Vec::new();
    {
        let mut table = transaction.open_table(MACHINES).map_err(used)?;
        for job in batch {
            let machine = job.report.machine.as_str();
            let before = table.get(machine).map_err(used)?;
            let before = before.and_then(|value| serde_json::from_slice::<Entry>(value.value()).ok());
            if before.is_none() && table.len().map_err(used)? >= most {
                results.push(Err(StoreError::Full(most)));
                continue;
            }
            let (first_seen, reports) =
                before.map_or((job.now, 0), |entry| (entry.first_seen, entry.reports));
            let entry =
                Entry { first_seen, last_seen: job.now, reports: reports + 1, report: job.report.clone() };
            let bytes = serde_json::to_vec(&entry).unwrap_or_default();
            table.insert(machine, bytes.as_slice()).map_err(used)?;
            results.push(Ok(()));
        }
    }
    // Durable by default: redb flushes before this returns.
    transaction.commit().map_err(used)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::report::MachineState;

    fn report(machine: u64, version: &str) -> Report {
        Report {
            schema: 1,
            machine: format!("{machine:032x}"),
            product: "ferrite".to_owned(),
            architecture: "x86_64".to_owned(),
            group: "stable".to_owned(),
            version: version.to_owned(),
            target_version: None,
            state: MachineState::Idle,
            last_error: None,
            rollbacks: Vec::new(),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reports_are_there_after_opening_again_and_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.redb");
        let store = Store::open(&path, 2).unwrap();
        store.put(report(1, "1.0.0"), 10).await.unwrap();
        store.put(report(1, "1.1.0"), 20).await.unwrap();
        store.put(report(2, "1.0.0"), 30).await.unwrap();
        assert!(matches!(store.put(report(3, "1.0.0"), 40).await, Err(StoreError::Full(2))));
        store.put(report(2, "1.2.0"), 50).await.unwrap();
        assert!(matches!(Store::open(&path, 2), Err(StoreError::Open { .. })), "one server at a time");
        drop(store);
        let entries = Store::open(&path, 2).unwrap().all().unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.first_seen, entry.last_seen, entry.reports, entry.report.version.as_str()))
            .collect();
        assert_eq!(seen, [(10, 20, 2, "1.1.0"), (30, 50, 2, "1.2.0")]);
    }
}
