//! Whole images in virtual machines. Each test has disks of its own; the emulator admits as many machines at once as the
//! host has room for. Figures are printed: run with `--nocapture` to see them.

mod bench_init;
mod cluster;
mod conformance;
mod direct;
mod ferrite;
mod fleet;
mod hard_cases;
mod loader;
mod power;
mod reboot_lock;
mod rolling;
mod services;
mod state;
mod support;
mod sweep;
mod table;
mod torture;
mod tries;
mod update;
mod user_data;
mod verity;
