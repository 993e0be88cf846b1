//! How long work is reported. The library prints nothing itself.

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Items,
}

/// Receives the progress of long work. Called from several threads.
pub trait Progress: Send + Sync {
    /// Work begins that is `total` units long, or as long as it takes when that is 0. The task ends when it is dropped.
    fn begin(&self, label: &str, total: u64, unit: Unit) -> Box<dyn Task>;

    /// Something happened that a person may want to know: a mirror that failed, an older index that is used.
    fn note(&self, message: &str);
}

/// Work that is under way.
pub trait Task: Send + Sync {
    /// So many more units are done.
    fn advance(&self, units: u64);
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: u64, _unit: Unit) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, _message: &str) {}
}

impl Task for Silent {
    fn advance(&self, _units: u64) {}
}
