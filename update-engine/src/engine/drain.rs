//! Before a reboot under the lock the cluster moves this machine's units elsewhere, and after it the machine takes units again.
//!
//! `fleetctl` does both. A mark on STATE, written before the first, makes sure of the second, whatever happens in between. A machine
//! that somebody else drains is left alone.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use kv::backoff::Backoff;
use serde::Deserialize;

use super::os::is_active;
use super::state::replace;

/// The mark's name in the engine's folder.
const MARK: &str = "drained";
const FLEET: &str = "fleet.service";
const FLEETCTL: &str = "/usr/bin/fleetctl";
/// The most that a reboot waits for units to be up elsewhere, in seconds.
const PATIENCE: u32 = 60;
/// What `fleetctl list-machines` says of the machine.
const WHY: &str = "reboot";
/// Until the machine takes units again: milliseconds between attempts.
const PAUSES: Backoff = Backoff { first: 5_000, most: 300_000 };

/// Drains machine `id`: comes back when its units are up elsewhere, when nobody takes them, or after a minute. Whatever goes wrong is
/// told, and no reason not to reboot.
pub fn drain(folder: &Path, id: &str) {
    if !is_active(FLEET) {
        return;
    }
    match draining(id) {
        Ok(why) if !why.is_empty() && !is_marked(folder) => {
            eprintln!("this machine drains already: {why}");
            return;
        }
        Ok(_) => {}
        Err(problem) => {
            eprintln!("cannot ask fleet about this machine: {problem}");
            return;
        }
    }
    // A machine that nobody would give units any more is worse than a short pause of its units.
    if let Err(error) = replace(&folder.join(MARK), WHY.as_bytes()) {
        eprintln!("this machine's units are not moved: cannot write {}/{MARK}: {error}", folder.display());
        return;
    }
    let told = Command::new(FLEETCTL)
        .args(["drain", &format!("--wait={PATIENCE}"), &format!("--why={WHY}"), id])
        .stdin(Stdio::null())
        .status();
    match told {
        Ok(status) if status.success() => {}
        problem => eprintln!("cannot move this machine's units elsewhere: {problem:?}"),
    }
}

/// Why the cluster gives a machine no units; empty if it does.
fn draining(id: &str) -> Result<String, String> {
    let output = Command::new(FLEETCTL)
        .args(["list-machines", "-o", "json"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    why(&output.stdout, id)
}

fn why(json: &[u8], id: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        draining: String,
    }
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let own = entries.into_iter().find(|entry| entry.id == id);
    own.map(|entry| entry.draining).ok_or_else(|| "it does not know this machine".to_owned())
}

/// Whether the cluster gives this machine no units because of [`drain`].
pub fn is_marked(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// Takes units again, if [`drain`] is why there are none; whether that is settled.
pub fn undrain(folder: &Path, id: &str) -> bool {
    if !is_marked(folder) {
        return true;
    }
    if !is_active(FLEET) {
        return false;
    }
    match Command::new(FLEETCTL).args(["undrain", id]).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        problem => {
            eprintln!("this machine takes no units yet: {problem:?}");
            return false;
        }
    }
    match std::fs::remove_file(folder.join(MARK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            eprintln!("cannot remove {}/{MARK}: {error}", folder.display());
            false
        }
        _ => true,
    }
}

#[derive(Debug)]
enum Order {
    Drain,
    Undrain,
}

/// The thread that does both, one after the other. It ends with this value.
#[derive(Debug)]
pub struct Drainer {
    orders: Sender<Order>,
}

impl Drainer {
    /// Starts it; `drained` hears that a drain is over.
    pub fn start(folder: PathBuf, id: String, drained: impl Fn() + Send + 'static) -> Self {
        let (orders, inbox) = channel();
        thread::spawn(move || serve(&folder, &id, &inbox, &drained));
        Self { orders }
    }

    /// Begins a drain.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Ends one, also of an earlier boot, sooner or later.
    pub fn undrain(&self) {
        self.order(Order::Undrain);
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            eprintln!("the thread that drains this machine has ended");
        }
    }
}

fn serve(folder: &Path, id: &str, inbox: &Receiver<Order>, drained: &impl Fn()) {
    // Attempts to undrain that have failed.
    let mut failed: Option<u32> = None;
    loop {
        let order = match failed {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(failures) => {
                let pause = PAUSES.pause(failures, RandomState::new().hash_one(failures));
                inbox.recv_timeout(Duration::from_millis(pause))
            }
        };
        match order {
            Ok(Order::Drain) => {
                failed = None;
                drain(folder, id);
                drained();
            }
            Ok(Order::Undrain) | Err(RecvTimeoutError::Timeout) => {
                let failures = failed.map_or(1, |failures| failures.saturating_add(1));
                failed = (!undrain(folder, id)).then_some(failures);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_found_among_those_of_the_cluster() {
        let json = br#"[{"id": "a", "primaryIP": "10.0.0.1"}, {"id": "b", "draining": "disk"}]"#;
        assert_eq!((why(json, "a"), why(json, "b")), (Ok(String::new()), Ok("disk".to_owned())));
        assert_eq!(why(json, "c"), Err("it does not know this machine".to_owned()));
        assert!(why(b"nonsense", "a").is_err());
    }

    #[test]
    fn without_a_mark_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_marked(folder.path()) && undrain(folder.path(), "a"));
    }
}
