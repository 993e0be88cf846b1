//! What the table says about boots that were: an update that waits, a trial that failed (SAFETY 17).

use std::io;
use std::path::Path;

use init::boot::panics;
use init::boot::trial::Trial;
use slots::Device;

use super::os::Facts;
use super::slot::{self, Pair, SlotError};
use super::state::{Saved, Staged};
use super::trial::{Evidence, Judgement, judge, note_rearmed};
use crate::channel::key::hex;

/// Why the hardware watchdog thinks that the machine started; `WDIOF_CARDRESET` is 0x20.
const WATCHDOG_STATUS: &str = "/sys/class/watchdog/watchdog0/bootstatus";
const CARD_RESET: u64 = 0x20;

/// What was found.
#[derive(Debug, Default)]
pub struct Past {
    /// What the next boot tries, if that is not the running slot.
    pub pending: Option<Staged>,
    /// Lines for log and console.
    pub said: Vec<String>,
}

/// Looks at the table as it is after a boot, and settles what is open: a failed trial is held against its release or gets its try
/// back. `disk` is locked. Notes go to `saved`.
///
/// # Errors
/// The table cannot be read or changed.
pub fn settle<D: Device<Error = io::Error>>(
    disk: &mut D,
    facts: &Facts,
    evidence: impl FnOnce(&[u8; 32]) -> Evidence,
    saved: &mut Saved,
    now: u64,
) -> Result<Past, SlotError> {
    let pair = Pair::read(disk, facts.slot)?;
    let mut past = Past::default();
    let flags = pair.other.flags;
    if flags.priority() == 0 || flags.successful() || !pair.running.flags.successful() {
        return Ok(past);
    }
    // The other slot was to be tried, and here runs the one that it was to replace.
    let footer = match slot::read_footer(disk, &pair.other, &facts.policy()) {
        Ok(footer) => footer,
        Err(SlotError::Footer(error)) => {
            slot::withdraw(disk, facts.slot)?;
            past.said.push(format!("{} is not tried: {error}", pair.other.name));
            return Ok(past);
        }
        Err(error) => return Err(error),
    };
    let root = footer.verity.root_hash;
    let version = footer.version.as_str().to_owned();
    let slot_bytes = footer.parts.end().next_multiple_of(4096) + slots::FOOTER_LEN as u64;
    let staged = Staged {
        version: version.clone(),
        root_hash: hex(&root),
        slot_bytes,
        applied: true,
        boot: Some(facts.boot_id.clone()),
    };
    if flags.tries() > 0 {
        let known = saved.staged.as_ref().filter(|known| known.root_hash == staged.root_hash);
        let since = known.and_then(|known| known.boot.clone());
        if since.is_none_or(|boot| boot == facts.boot_id) {
            past.pending = Some(staged);
            return Ok(past);
        }
        // A boot has come and gone, and the loader passed the slot over.
        let found = slot::verify(disk, &pair.other, &facts.policy(), &mut |_| {});
        let why =
            found.err().map_or_else(|| "the loader did not start it".to_owned(), |error| error.to_string());
        deny(
            disk,
            facts,
            saved,
            &version,
            &root,
            &format!("the loader passed it over: {why}"),
            now,
            &mut past,
        )?;
        return Ok(past);
    }
    match judge(&evidence(&root), &root, saved) {
        Judgement::Deny { reason } => deny(disk, facts, saved, &version, &root, &reason, now, &mut past)?,
        Judgement::Rearm { times } => {
            // Noted first: a cut between the two must not give more tries than it says.
            note_rearmed(saved, &root, times);
            saved.happened(
                now,
                "rearm",
                Some(&version),
                format!("its boot was cut off: try {} follows", times + 1),
            );
            past.said.push(format!("the boot of {version} was cut off: it is tried again"));
            past.pending = Some(staged);
        }
    }
    Ok(past)
}

#[expect(clippy::too_many_arguments, reason = "one place for what both ways to a rollback do")]
fn deny<D: Device<Error = io::Error>>(
    disk: &mut D,
    facts: &Facts,
    saved: &mut Saved,
    version: &str,
    root: &[u8; 32],
    reason: &str,
    now: u64,
    past: &mut Past,
) -> Result<(), SlotError> {
    saved.deny(version, root, reason, now);
    saved.happened(now, "rollback", Some(version), reason);
    saved.staged = None;
    past.said.push(format!("ROLLED BACK from {version} to {}: {reason}", facts.version));
    slot::withdraw(disk, facts.slot)?;
    Ok(())
}

/// Gathers what the machine has against the trial of a slot; what a panic left was carried to STATE in the boot `boot_id`, which is
/// the running one.
pub fn evidence(root_hash: &[u8; 32], boot_id: &str) -> Evidence {
    let recorded = Trial::load(Path::new("/")).filter(|trial| trial.root_hash == hex(root_hash));
    let status = std::fs::read_to_string(WATCHDOG_STATUS).ok();
    let status = status.and_then(|text| {
        let text = text.trim();
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
    });
    Evidence {
        recorded: recorded.and_then(|trial| trial.reason),
        panic: panics::reason(&panics::folder(boot_id)),
        watchdog: status.is_some_and(|status| status & CARD_RESET != 0),
        content: None,
    }
}
