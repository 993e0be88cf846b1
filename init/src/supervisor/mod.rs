//! The supervisor: units, jobs and services as a state machine without I/O.
