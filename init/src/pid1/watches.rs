//! What the loop waits for: descriptors in epoll, each with what it is.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::logs::LineBuffer;
use crate::supervisor::{ProcessId, UnitId};

/// Events that are taken in at a time; the rest comes with the next wait.
const MOST_READY: usize = 32;

/// Something that epoll watches.
#[derive(Debug)]
pub enum Source {
    Signals,
    Notify,
    Cgroups,
    Listener,
    Client,
    /// Says whether a new process could become its program.
    Report(ProcessId, OwnedFd),
    /// Output of a unit's process.
    Output {
        unit: UnitId,
        pid: u32,
        pipe: OwnedFd,
        lines: LineBuffer,
    },
    /// A process that was adopted and may not be our child. Its pidfd is only polled.
    Adopted(ProcessId, #[expect(dead_code, reason = "open for as long as it is polled")] OwnedFd),
    /// The kernel's ACPI events.
    PowerButton,
    /// A descriptor of a socket unit, by its place.
    Socket(UnitId, usize),
    /// What a path unit watches with.
    Paths(UnitId),
    /// The table of mounts or swaps.
    Tables,
    /// The kernel's device events.
    Devices,
    /// A descriptor that is kept for a service.
    Stored(UnitId),
    /// The folder of `/etc/localtime`.
    Zone,
    /// Becomes ready when somebody sets the clock.
    Clock,
    /// Streams that the journal hands over.
    Journal,
}

/// The descriptors that are watched. A key stands for one of them until it is removed; keys are not used again.
#[derive(Debug)]
pub struct Watches {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    last_key: u64,
}

impl Watches {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Watches> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Watches { epoll, sources: BTreeMap::new(), last_key: 0 })
    }

    /// Watches a descriptor for input; answers with its key.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<u64> {
        self.enter(descriptor, EventFlags::IN)?;
        self.sources.insert(self.last_key, source);
        Ok(self.last_key)
    }

    /// Watches a descriptor that the source is to own.
    ///
    /// # Errors
    /// The kernel's; the descriptor is closed then.
    pub fn add_owned(
        &mut self,
        descriptor: OwnedFd,
        source: impl FnOnce(OwnedFd) -> Source,
    ) -> io::Result<u64> {
        self.enter(&descriptor, EventFlags::IN)?;
        self.sources.insert(self.last_key, source(descriptor));
        Ok(self.last_key)
    }

    /// Watches a table of the kernel, which tells of a change as of something urgent (proc_pid_mounts(5)).
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_table(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        self.enter(descriptor, EventFlags::PRI)?;
        self.sources.insert(self.last_key, source);
        Ok(())
    }

    /// Watches a descriptor for errors and for the end of whoever is at its other end, which epoll always tells.
    ///
    /// # Errors
    /// The kernel's: `EPERM` for what cannot be waited for.
    pub fn add_end(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<u64> {
        self.enter(descriptor, EventFlags::empty())?;
        self.sources.insert(self.last_key, source);
        Ok(self.last_key)
    }

    fn enter(&mut self, descriptor: impl AsFd, flags: EventFlags) -> io::Result<()> {
        self.last_key = self.last_key.wrapping_add(1);
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(self.last_key), flags)?)
    }

    /// Also waits for room to write, or no more.
    ///
    /// # Errors
    /// The kernel's, for a descriptor that is not watched.
    pub fn want_output(&self, descriptor: impl AsFd, key: u64, wanted: bool) -> io::Result<()> {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, wanted);
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(key), flags)?)
    }

    /// Stops watching a descriptor that stays open.
    pub fn release(&mut self, descriptor: impl AsFd, key: u64) {
        // A descriptor that is watched can be taken out.
        let _cannot_fail = epoll::delete(&self.epoll, descriptor);
        self.remove(key);
    }

    /// Forgets a source; its descriptor, if it owns it, is closed, which takes it out of epoll. Others are closed by their owners.
    pub fn remove(&mut self, key: u64) {
        self.sources.remove(&key);
    }

    /// What a key stands for; nothing when it was removed after it had become ready.
    pub fn get(&self, key: u64) -> Option<&Source> {
        self.sources.get(&key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Source> {
        self.sources.get_mut(&key)
    }

    /// All sources with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Source)> {
        self.sources.iter().map(|(key, source)| (*key, source))
    }

    /// Waits for at most `timeout`; the keys of what is ready. A signal ends the wait early.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, timeout: &Timespec) -> io::Result<Vec<u64>> {
        let mut ready = Vec::with_capacity(MOST_READY);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(ready.iter().map(|event| event.data.u64()).collect()),
            Err(error) => Err(error.into()),
        }
    }
}
