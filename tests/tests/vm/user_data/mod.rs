//! User-data on machines: where it comes from, what becomes of each of its keys, and what becomes of a machine whose user-data is
//! broken. `docs/user-data.md` is what these tests hold the product to.

mod cloud_config;
mod ignition;
mod sources;

use anyhow::Result;
use ferrite_tests::Guest;

/// The unit that finds user-data and carries it out.
const UNIT: &str = "ferrite-user-data.service";
/// The one that does so once the network is there.
const NETWORK_UNIT: &str = "ferrite-user-data-network.service";
/// The one of commands and scripts.
const FINAL_UNIT: &str = "ferrite-user-data-final.service";

/// What `systemctl status` says of a unit, whatever its exit status.
fn status(guest: &mut Guest, unit: &str) -> Result<String> {
    Ok(guest.run(&format!("systemctl status --no-pager {unit}"))?.text)
}

/// A file's content, without the line end behind it.
fn cat(guest: &mut Guest, path: &str) -> Result<String> {
    // The smallest image has no sudo, and its shell is root's.
    Ok(guest.check(&format!("$(command -v sudo) cat {path} && echo"))?.trim_end().to_owned())
}

/// Waits until commands and scripts are done.
fn wait_for_the_end(guest: &mut Guest) -> Result<()> {
    guest.check(&format!("sudo systemctl start {FINAL_UNIT}")).map(drop)
}

/// The keys that are put into texts of tests in place of `@KEY@`: a real one, of nobody.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPsZ0a4bnRxVfR3k2Tt1TE1cQ2E0ZDe0rM5zXQZ1eZzt nobody";
