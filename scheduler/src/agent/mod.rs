//! What a machine does with its units: what is wanted of it and what it has, to tasks for PID 1. Pure.

mod plan;

pub use self::plan::{LocalTask, LocalUnit, Observed, Wanted, plan};
