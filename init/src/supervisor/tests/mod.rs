//! Tests of the state machine: a simulated world, single scenarios, and random histories.

mod collect;
mod random;
mod scenarios;
mod semantics;
mod triggers;
mod world;
