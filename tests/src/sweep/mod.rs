//! The power-cut sweep (SAFETY 26-30): what a machine did to its disk is recorded, every state that a power cut could have left is
//! made, and each is judged.
//!
//! `docs/sweep.md` says what is enumerated, what is sampled, and what the model leaves out. Start reading at [`record`].

pub mod boots;
pub mod campaign;
pub mod enumerate;
pub mod ext4;
pub mod history;
pub mod judge;
pub mod machine;
pub mod model;
pub mod mutants;
pub mod nbd;
pub mod phases;
pub mod readers;
pub mod record;
pub mod run;
pub mod sectors;
pub mod standin;
pub mod update;
