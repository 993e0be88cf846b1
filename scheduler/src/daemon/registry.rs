//! etcd as the daemon's threads see it: what they ask is counted and timed, and trouble is told once, until it is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kv::{Client, Error};

use crate::metrics::{Meter, Operation};

/// See above.
pub(super) struct Registry {
    pub client: Client,
    meter: Mutex<Meter>,
    /// Since when it does not answer.
    away: Mutex<Option<Instant>>,
    /// Trouble is told every time.
    verbose: bool,
}

impl Registry {
    pub const fn new(client: Client, verbose: bool) -> Self {
        Self { client, meter: Mutex::new(Meter::new()), away: Mutex::new(None), verbose }
    }

    /// What was counted.
    pub fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    /// Asks for a change.
    pub fn ask<T>(&self, call: impl FnOnce(&Client) -> Result<T, Error>) -> Result<T, Error> {
        let begun = Instant::now();
        let result = call(&self.client);
        let took = begun.elapsed();
        self.meter().asked(Operation::Set, result.is_ok());
        if result.is_ok() {
            self.meter().changed(took);
        }
        match &result {
            Ok(_) => self.answers(),
            Err(error @ (Error::Unavailable { .. } | Error::Unknown { .. })) => {
                self.is_away(&error.to_string())
            }
            // It answers, but not as it should: never the same for long.
            Err(error) => eprintln!("etcd: {error}"),
        }
        result
    }

    /// It has answered.
    pub fn answers(&self) {
        if let Some(since) = lock(&self.away).take() {
            eprintln!("etcd answers again, after {} s", since.elapsed().as_secs());
        }
    }

    /// It has not.
    pub fn is_away(&self, problem: &str) {
        let mut away = lock(&self.away);
        if away.is_none() {
            eprintln!("etcd: {problem}; it is asked again until it answers, and units keep running");
        } else if self.verbose {
            eprintln!("etcd: {problem}");
        }
        away.get_or_insert_with(Instant::now);
    }

    /// Everything was read.
    pub fn has_read_all(&self) {
        self.answers();
        self.meter().asked(Operation::GetAll, true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
