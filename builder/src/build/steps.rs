//! How long each step of a build took.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use debian::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};

/// One finished step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: Cow<'static, str>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The steps of a build, shown and measured one after the other.
pub struct Steps {
    start: Instant,
    done: Vec<Step>,
    progress: Arc<dyn Progress>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Steps {
    /// Starts the clock; `progress` shows each step while it lasts.
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self { start: Instant::now(), done: Vec::new(), progress }
    }

    /// Runs, shows and measures a step.
    pub fn measure<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let task = self.progress.begin(name, 0, Unit::Items);
        let result = work();
        drop(task);
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
