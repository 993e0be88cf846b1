//! Digests of a slot's blocks as they are on the disk, on several processors: one thread reads, others hash. Taking digests is most
//! of what an update costs, and it is done once more each time the slot is proven.

use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use slots::Device;

use super::slot::{Place, RUN, SlotError, runs};
use crate::payload::{BLOCK, BlockHasher, Digest};

/// A thread that hashes, and what it was given and has not given back.
struct Hasher {
    work: Sender<Vec<u8>>,
    done: Receiver<(Vec<u8>, Vec<Digest>)>,
    busy: bool,
}

/// Reads blocks of a slot past every cache and gives the digest of each to `each`, in order.
///
/// # Errors
/// [`SlotError`]: of what could not be read, or of `each`. Digests of all that was read before it have been given.
pub(super) fn for_each_digest<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    range: Range<u32>,
    hasher: &BlockHasher,
    mut each: impl FnMut(&Digest) -> Result<(), SlotError>,
) -> Result<(), SlotError> {
    let most = range.len().div_ceil(RUN);
    thread::scope(|scope| {
        let mut hashers: Vec<Hasher> = Vec::new();
        for _ in 0..hasher.threads().min(most) {
            let (work, inbox) = channel::<Vec<u8>>();
            let (outbox, done) = channel();
            scope.spawn(move || {
                for buffer in inbox {
                    let digests = buffer.as_chunks::<BLOCK>().0.iter().map(|block| hasher.digest(block));
                    let digests = digests.collect();
                    if outbox.send((buffer, digests)).is_err() {
                        return;
                    }
                }
            });
            hashers.push(Hasher { work, done, busy: false });
        }
        let mut result = Ok(());
        // In turn: whose turn it is has the oldest run.
        let mut turn = 0;
        for (at, length) in runs(range) {
            let Some(next) = hashers.get_mut(turn) else { break };
            let mut buffer = next.take(&mut each)?.unwrap_or_default();
            buffer.resize(length, 0);
            result = place.read(disk, at, &mut buffer);
            if result.is_err() {
                break;
            }
            // The thread ends after this side has closed.
            next.busy = next.work.send(buffer).is_ok();
            turn = (turn + 1) % hashers.len();
        }
        let (newer, older) = hashers.split_at_mut(turn);
        for hasher in older.iter_mut().chain(newer) {
            hasher.take(&mut each)?;
        }
        result
    })
}

impl Hasher {
    /// Takes what it was given last, when it is done with it.
    fn take(
        &mut self,
        each: &mut impl FnMut(&Digest) -> Result<(), SlotError>,
    ) -> Result<Option<Vec<u8>>, SlotError> {
        if !std::mem::take(&mut self.busy) {
            return Ok(None);
        }
        let Ok((buffer, digests)) = self.done.recv() else {
            return Err(io::Error::other("a thread that takes digests has ended").into());
        };
        digests.iter().try_for_each(each)?;
        Ok(Some(buffer))
    }
}
