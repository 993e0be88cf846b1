//! Tests of the state machine: a simulated world, single scenarios, and random histories.

mod random;
mod scenarios;
mod semantics;
mod triggers;
mod world;
