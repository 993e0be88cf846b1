//! Descriptors that are kept for services over their restarts: `FDSTORE=1` of sd_notify(3), `FileDescriptorStoreMax=` of
//! systemd.service(5).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use image_config::unit::{DirectoryPreserve, is_descriptor_name};

use super::shell::Shell;
use super::watches::Source;
use crate::supervisor::{Level, Notification, UnitId};
use crate::sys::descriptor;

/// The name of a descriptor that has been given none.
const UNNAMED: &str = "stored";

/// A descriptor that is kept.
#[derive(Debug)]
pub(super) struct Stored {
    pub descriptor: OwnedFd,
    pub name: String,
    /// The watch that tells when nobody is at its other end any more; none with `FDPOLL=0`.
    pub key: Option<u64>,
    pub polled: bool,
}

/// What is kept, by service; the newest first, as systemd hands them over.
pub(super) type Stores = BTreeMap<UnitId, Vec<Stored>>;

impl Shell {
    /// Takes in what came with a message, as far as the message and the unit's file say that it is to be kept.
    pub(super) fn told_of_descriptors(&mut self, unit: UnitId, message: &Notification, came: Vec<OwnedFd>) {
        let name = message.fd_name.as_deref().unwrap_or(UNNAMED);
        if message.fd_store_remove {
            self.forget_stored(unit, |stored| stored.name == name);
        } else if message.fd_store {
            let name = if is_descriptor_name(name) { name } else { UNNAMED };
            came.into_iter().for_each(|descriptor| self.store(unit, descriptor, name, message.fd_poll));
        }
    }

    /// `FileDescriptorStoreMax=`
    pub(super) fn store_limit(&self, unit: UnitId) -> usize {
        let service = self.units.get(&unit).and_then(|file| file.service());
        service.map_or(0, |service| usize::try_from(service.fd_store_max).unwrap_or(usize::MAX))
    }

    fn store(&mut self, unit: UnitId, descriptor: OwnedFd, name: &str, polled: bool) {
        let most = self.store_limit(unit);
        let known = self.stored.entry(unit).or_default();
        // The same file once more means the same, whatever its name is.
        if known.iter().any(|stored| descriptor::is_same(stored.descriptor.as_fd(), descriptor.as_fd())) {
            return;
        }
        if known.len() >= most {
            let text = format!("a descriptor that it wants kept is closed: FileDescriptorStoreMax={most}");
            return self.log_unit(Some(unit), Level::Warning, &text);
        }
        self.keep(unit, descriptor, name.to_owned(), polled);
    }

    /// Keeps a descriptor, and watches it if that is wished; one that cannot be watched (a file) is kept all the same.
    pub(super) fn keep(&mut self, unit: UnitId, descriptor: OwnedFd, name: String, polled: bool) {
        let key = polled.then(|| self.watches.add_end(&descriptor, Source::Stored(unit)).ok()).flatten();
        self.stored.entry(unit).or_default().insert(0, Stored { descriptor, name, key, polled });
    }

    /// The other end of one that is kept is gone.
    pub(super) fn stored_ended(&mut self, unit: UnitId, key: u64) {
        self.forget_stored(unit, |stored| stored.key == Some(key));
    }

    /// The unit is down: what was kept for it goes, unless its file says otherwise.
    pub(super) fn release_stored(&mut self, unit: UnitId, restarting: bool) {
        let preserve =
            self.units.get(&unit).and_then(|file| file.service()).map(|service| service.fd_store_preserve);
        let stays = match preserve {
            Some(DirectoryPreserve::Yes) => true,
            Some(DirectoryPreserve::Restart) => restarting,
            Some(DirectoryPreserve::No) | None => false,
        };
        if !stays {
            self.forget_stored(unit, |_| true);
        }
    }

    pub(super) fn forget_stored(&mut self, unit: UnitId, which: impl Fn(&Stored) -> bool) {
        let Some(known) = self.stored.remove(&unit) else { return };
        let (gone, left): (Vec<Stored>, Vec<Stored>) = known.into_iter().partition(which);
        for stored in gone {
            if let Some(key) = stored.key {
                self.watches.release(&stored.descriptor, key);
            }
        }
        if !left.is_empty() {
            self.stored.insert(unit, left);
        }
    }

    /// Copies for a process of the unit, with their names.
    pub(super) fn stored_for(&self, unit: UnitId) -> Vec<(OwnedFd, String)> {
        let stored = self.stored.get(&unit).into_iter().flatten();
        stored.filter_map(|stored| Some((stored.descriptor.try_clone().ok()?, stored.name.clone()))).collect()
    }
}
