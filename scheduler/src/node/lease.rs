//! The machine's one lease.

use kv::LeaseId;
use kv::lease::{Keep, Keeper};

use super::{Output, PAUSES, Record};

/// It is renewed after half of its time, as fleet's heartbeat was.
const PARTS: u64 = 2;

#[derive(Debug, Clone)]
enum State {
    Wanted { not_before: u64 },
    Asked,
    Held { id: LeaseId, keeper: Keeper, renewing: bool },
    GivenUp,
}

/// The lease.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    state: State,
    failures: u32,
}

impl Lease {
    /// That of the last daemon, as far as it is known to hold.
    pub fn resumed(record: &Record, ttl: u64) -> Self {
        let state = if record.lease == 0 {
            State::Wanted { not_before: 0 }
        } else {
            let keeper = Keeper::in_parts(ttl, record.ends.saturating_sub(ttl), PARTS);
            State::Held { id: record.lease, keeper, renewing: false }
        };
        Self { state, failures: 0 }
    }

    pub const fn given_up() -> Self {
        Self { state: State::GivenUp, failures: 0 }
    }

    pub const fn id(&self) -> Option<LeaseId> {
        match &self.state {
            State::Held { id, .. } => Some(*id),
            _ => None,
        }
    }

    pub const fn ends(&self) -> Option<u64> {
        match &self.state {
            State::Held { keeper, .. } => Some(keeper.ends()),
            _ => None,
        }
    }

    pub fn granted(&mut self, now: u64, random: u64, sent: u64, answer: Option<(LeaseId, u64)>) {
        if !matches!(self.state, State::Asked) {
            return;
        }
        self.state = if let Some((id, ttl)) = answer {
            self.failures = 0;
            State::Held { id, keeper: Keeper::in_parts(ttl, sent, PARTS), renewing: false }
        } else {
            self.failures = self.failures.saturating_add(1);
            State::Wanted { not_before: now.saturating_add(PAUSES.pause(self.failures, random)) }
        };
    }

    pub fn renewed(&mut self, now: u64, random: u64, lease: LeaseId, sent: u64, answer: Option<u64>) {
        let State::Held { id, keeper, renewing } = &mut self.state else { return };
        if *id != lease {
            return;
        }
        *renewing = false;
        match answer {
            Some(ttl) => keeper.answered(sent, ttl),
            None => keeper.failed(now, random),
        }
    }

    /// Asks at once if it has to be asked for.
    pub fn retry(&mut self, now: u64) {
        if let State::Wanted { not_before } = &mut self.state {
            *not_before = (*not_before).min(now);
        }
    }

    pub fn poll(&mut self, now: u64, ttl: u64, wanted: bool, out: &mut Vec<Output>) {
        if let State::Held { id, keeper, renewing } = &mut self.state {
            match keeper.next(now) {
                Keep::Rest(_) => {}
                Keep::Renew if *renewing => {}
                Keep::Renew => {
                    *renewing = true;
                    out.push(Output::Renew(*id));
                }
                Keep::Lost => {
                    out.push(Output::Say("the lease is lost; units keep running".to_owned()));
                    self.state = State::Wanted { not_before: now };
                }
            }
        }
        if let State::Wanted { not_before } = self.state
            && wanted
            && now >= not_before
        {
            self.state = State::Asked;
            out.push(Output::Grant(ttl));
        }
    }

    pub fn wake(&self, now: u64) -> u64 {
        match &self.state {
            State::Wanted { not_before } => (*not_before).max(now),
            State::Asked | State::GivenUp => u64::MAX,
            State::Held { keeper, renewing, .. } => match keeper.next(now) {
                Keep::Rest(pause) => now.saturating_add(pause),
                Keep::Renew if *renewing => keeper.ends(),
                Keep::Renew | Keep::Lost => now,
            },
        }
    }
}
