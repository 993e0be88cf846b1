//! The DHCPv4 client of one link (RFC 2131, figure 5) as a state machine: no sockets, no clock, no randomness of its own.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};

use super::lease::Lease;

/// First pause before a message is sent again. RFC 2131 suggests four seconds; the packet most often lost is the very
/// first one of a boot, on a link that has just come up, and somebody waits for that boot.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause: as in RFC 2131, 4.1.
const LAST_RETRY: Duration = Duration::from_secs(64);
/// Requests for one offer before all servers are asked anew.
const MAX_REQUESTS: u32 = 4;
/// Shortest pause between requests to prolong a lease: as in RFC 2131, 4.4.5.
const MIN_RENEW_RETRY: Duration = Duration::from_secs(60);
/// Pause after a refusal, so that a server that always refuses is not flooded.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// Time since some fixed moment.
pub type Instant = Duration;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Hardware address of the link.
    pub hardware: [u8; 6],
    /// Sent along, for the server's name service; may be empty.
    pub hostname: String,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The link has a carrier.
    LinkUp,
    /// The link has lost it.
    LinkDown,
    /// A message arrived on the link.
    Message(&'a Message),
    /// [`Client::deadline`] has passed.
    Timer,
}

/// How a message reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// As a raw frame to all: there is no address yet.
    RawBroadcast,
    /// From our address to all.
    Broadcast,
    /// From our address to the server that granted it.
    Unicast(Ipv4Addr),
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a message.
    Send(Box<Message>, Via),
    /// The lease is granted or prolonged: make the link match it.
    Configure(Box<Lease>),
    /// The lease is gone: take its address away.
    Release(Box<Lease>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No carrier, nothing granted.
    Off,
    /// Asking all servers.
    Selecting,
    /// Asking for what one server offered.
    Requesting(Box<Lease>),
    /// Granted; `since` is when it was asked for.
    Bound { lease: Box<Lease>, since: Instant },
    /// Asking the server to prolong.
    Renewing { lease: Box<Lease>, since: Instant },
    /// Asking anybody to prolong.
    Rebinding { lease: Box<Lease>, since: Instant },
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    state: State,
    deadline: Option<Instant>,
    /// Transaction in progress.
    transaction: u32,
    /// When it began, for the `secs` field and for the start of the lease.
    begun: Instant,
    /// Messages sent in this state.
    attempts: u32,
    random: u64,
}

impl Client {
    /// A client that waits for a carrier. `seed` should differ from machine to machine and boot to boot.
    pub fn new(identity: Identity, seed: u64) -> Self {
        Self {
            identity,
            state: State::Off,
            deadline: None,
            transaction: 0,
            begun: Duration::ZERO,
            attempts: 0,
            random: seed | 1,
        }
    }

    /// When [`Event::Timer`] is due.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The lease in force.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => {
                Some(lease)
            }
            State::Off | State::Selecting | State::Requesting(_) => None,
        }
    }

    /// Takes one event; returns what to do about it, in order.
    pub fn handle(&mut self, now: Instant, event: Event<'_>) -> Vec<Effect> {
        match event {
            Event::LinkUp => self.link_up(now),
            Event::LinkDown => {
                // The lease stays: cables are pulled and plugged in again.
                if self.lease().is_none() {
                    self.state = State::Off;
                    self.deadline = None;
                }
                Vec::new()
            }
            Event::Message(message) => self.message(now, message),
            Event::Timer if self.deadline.is_some_and(|deadline| deadline <= now) => self.timer(now),
            Event::Timer => Vec::new(),
        }
    }

    fn link_up(&mut self, now: Instant) -> Vec<Effect> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off => self.select(now),
            // Perhaps it is another network now: whoever is there may confirm or refuse the address.
            State::Bound { lease, since }
            | State::Renewing { lease, since }
            | State::Rebinding { lease, since } => {
                self.begin(now);
                self.state = State::Rebinding { lease, since };
                self.timer(now)
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn timer(&mut self, now: Instant) -> Vec<Effect> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off | State::Selecting if self.attempts == 0 => self.select(now),
            State::Off | State::Selecting => {
                self.state = State::Selecting;
                self.send_discover(now)
            }
            State::Requesting(offer) if self.attempts < MAX_REQUESTS => {
                let effects = self.send_request(now, &offer);
                self.state = State::Requesting(offer);
                effects
            }
            State::Requesting(_) => self.select(now),
            State::Bound { lease, since } if now < after(since, lease.rebind) => {
                self.begin(now);
                self.state = State::Renewing { lease, since };
                self.prolong(now)
            }
            // A lease that was granted late, or a machine that slept, may be past both times at once.
            State::Bound { lease, since } | State::Renewing { lease, since }
                if now >= after(since, lease.rebind) =>
            {
                self.begin(now);
                self.state = State::Rebinding { lease, since };
                self.prolong(now)
            }
            state => {
                self.state = state;
                self.prolong(now)
            }
        }
    }

    /// Sends the next request to prolong, or gives the lease up when it has expired.
    fn prolong(&mut self, now: Instant) -> Vec<Effect> {
        let (lease, since, via, next) = match &self.state {
            State::Renewing { lease, since } => {
                (lease.clone(), *since, Via::Unicast(lease.server), Some(after(*since, lease.rebind)))
            }
            State::Rebinding { lease, since } => {
                (lease.clone(), *since, Via::Broadcast, lease.seconds.map(|seconds| after(*since, seconds)))
            }
            _ => return Vec::new(),
        };
        if lease.seconds.is_some_and(|seconds| now >= after(since, seconds)) {
            let mut effects = vec![Effect::Release(lease)];
            effects.extend(self.select(now));
            return effects;
        }
        // Half of what is left, but a fresh look at a changed link is not put off for a minute.
        let retry = match next {
            Some(next) => (next.saturating_sub(now) / 2).max(MIN_RENEW_RETRY),
            None => LAST_RETRY,
        };
        let retry = if self.attempts < MAX_REQUESTS { retry.min(backoff(self.attempts)) } else { retry };
        let wake = now + self.jitter(retry);
        self.deadline = Some(next.map_or(wake, |next| wake.min(next)));
        self.attempts += 1;
        let mut message = self.compose(now, MessageType::Request);
        message.set_ciaddr(lease.address);
        vec![Effect::Send(Box::new(message), via)]
    }

    fn message(&mut self, now: Instant, message: &Message) -> Vec<Effect> {
        let answers_us = message.opcode() == Opcode::BootReply
            && message.xid() == self.transaction
            && usize::from(message.hlen()) == self.identity.hardware.len()
            && message.chaddr() == self.identity.hardware;
        if !answers_us {
            return Vec::new();
        }
        let kind = message.opts().msg_type();
        let lease = Lease::from_message(message).map(Box::new);
        match (&self.state, kind, lease) {
            (State::Selecting, Some(MessageType::Offer), Some(offer)) => {
                // The first offer is taken: a boot does not wait for a better one.
                self.attempts = 0;
                let effects = self.send_request(now, &offer);
                self.state = State::Requesting(offer);
                effects
            }
            (State::Requesting(offer), Some(MessageType::Ack), Some(lease))
                if lease.server == offer.server =>
            {
                self.bind(lease)
            }
            (State::Renewing { .. } | State::Rebinding { .. }, Some(MessageType::Ack), Some(lease)) => {
                let old = self.lease().cloned().filter(|old| old.address != lease.address);
                let mut effects: Vec<Effect> =
                    old.into_iter().map(|old| Effect::Release(Box::new(old))).collect();
                effects.extend(self.bind(lease));
                effects
            }
            (
                State::Requesting(_) | State::Renewing { .. } | State::Rebinding { .. },
                Some(MessageType::Nak),
                _,
            ) => {
                let effects =
                    self.lease().cloned().map(|lease| Effect::Release(Box::new(lease))).into_iter().collect();
                self.state = State::Selecting;
                self.attempts = 0;
                let pause = self.jitter(AFTER_REFUSAL);
                self.deadline = Some(now + pause);
                effects
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, lease: Box<Lease>) -> Vec<Effect> {
        // The lease runs from the moment it was asked for, so that ours never ends after the server's.
        let since = self.begun;
        self.deadline = lease.seconds.map(|_| after(since, lease.renew));
        self.attempts = 0;
        self.state = State::Bound { lease: lease.clone(), since };
        vec![Effect::Configure(lease)]
    }

    fn select(&mut self, now: Instant) -> Vec<Effect> {
        self.begin(now);
        self.state = State::Selecting;
        self.send_discover(now)
    }

    fn begin(&mut self, now: Instant) {
        self.transaction = u32::try_from(self.next_random() >> 32).unwrap_or(0);
        self.begun = now;
        self.attempts = 0;
    }

    fn send_discover(&mut self, now: Instant) -> Vec<Effect> {
        let message = self.compose(now, MessageType::Discover);
        self.arm(now);
        vec![Effect::Send(Box::new(message), Via::RawBroadcast)]
    }

    fn send_request(&mut self, now: Instant, offer: &Lease) -> Vec<Effect> {
        let mut message = self.compose(now, MessageType::Request);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
        self.arm(now);
        vec![Effect::Send(Box::new(message), Via::RawBroadcast)]
    }

    fn arm(&mut self, now: Instant) {
        let pause = self.jitter(backoff(self.attempts));
        self.attempts = self.attempts.saturating_add(1);
        self.deadline = Some(now + pause);
    }

    fn compose(&self, now: Instant, kind: MessageType) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message =
            Message::new_with_id(self.transaction, none, none, none, none, &self.identity.hardware);
        message.set_secs(u16::try_from(now.saturating_sub(self.begun).as_secs()).unwrap_or(u16::MAX));
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        // Type 1 (Ethernet) and the hardware address, as most servers derive it themselves (RFC 2132, 9.14).
        let client: Vec<u8> = [1].into_iter().chain(self.identity.hardware).collect();
        options.insert(DhcpOption::ClientIdentifier(client));
        options.insert(DhcpOption::MaxMessageSize(1472));
        if !self.identity.hostname.is_empty() {
            options.insert(DhcpOption::Hostname(self.identity.hostname.clone()));
        }
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::ClasslessStaticRoute,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::DomainName,
            OptionCode::DomainSearch,
            OptionCode::InterfaceMtu,
            OptionCode::NtpServers,
            OptionCode::AddressLeaseTime,
            OptionCode::Renewal,
            OptionCode::Rebinding,
        ]));
        message
    }

    /// A quarter more or less, so that machines that started together do not go on together.
    fn jitter(&mut self, pause: Duration) -> Duration {
        let quarter = pause / 4;
        let share = u32::try_from(self.next_random() >> 40).unwrap_or(0) % 1000;
        pause - quarter + quarter * 2 * share / 1000
    }

    /// xorshift64* (Marsaglia, Vigna): transaction numbers and jitter, nothing secret.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn after(since: Instant, seconds: u32) -> Instant {
    since + Duration::from_secs(seconds.into())
}

/// Doubles with each message, up to [`LAST_RETRY`].
fn backoff(attempts: u32) -> Duration {
    (FIRST_RETRY * 2_u32.saturating_pow(attempts.min(10))).min(LAST_RETRY)
}

#[cfg(test)]
mod tests;
