//! How long each step of a build took.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One finished step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: Cow<'static, str>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The steps of a build, measured one after the other.
#[derive(Debug)]
pub struct Steps {
    start: Instant,
    done: Vec<Step>,
}

impl Steps {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { start: Instant::now(), done: Vec::new() }
    }

    /// Runs and measures a step.
    pub fn measure<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(name, start.elapsed());
        result
    }

    /// Adds a step that was measured elsewhere.
    pub fn add(&mut self, name: &'static str, took: Duration) {
        self.done.push(Step { name: Cow::Borrowed(name), seconds: took.as_secs_f64() });
    }

    /// Seconds since the start, and the steps.
    pub fn finish(self) -> (f64, Vec<Step>) {
        (self.start.elapsed().as_secs_f64(), self.done)
    }
}
