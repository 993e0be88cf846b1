//! What the switch does with a frame: a state machine without I/O, clock or chance of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// A hardware address.
pub type Mac = [u8; 6];
/// Destination, source and type of an Ethernet frame: what every frame has at least (IEEE 802.3, 3.1.1).
const HEADER_LEN: usize = 14;
/// Frames that may wait on delayed links at once. Beyond it the newest is lost, as in a switch whose memory is full.
const QUEUE_LIMIT: usize = 16_384;
/// Addresses that are remembered. A guest that invents more is flooded to, not remembered.
const TABLE_LIMIT: usize = 4096;

/// What happens to frames from one port to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// How long a frame is under way.
    pub delay: Duration,
    /// Up to so much is added to the delay of each frame. Frames of one link never overtake each other.
    pub jitter: Duration,
    /// Of a thousand frames, how many are lost; 1000 loses all.
    pub loss_per_mille: u16,
}

/// A frame that has arrived where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The port.
    pub port: usize,
    /// The frame, from its destination address on.
    pub frame: Vec<u8>,
}

/// A frame under way; ordered by arrival, then by when it came in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Duration,
    number: u64,
    port: usize,
    frame: Vec<u8>,
}

/// A learning switch with `ports` ports and a policy for each ordered pair of them.
///
/// Times are durations since any fixed moment, the same one for all calls.
#[derive(Debug)]
pub struct Fabric {
    links: Vec<Vec<Link>>,
    /// When the last frame of each ordered pair arrives: the next one comes no earlier.
    last: Vec<Vec<Duration>>,
    learned: BTreeMap<Mac, usize>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    number: u64,
    random: u64,
}

impl Fabric {
    /// A switch whose links are all perfect. The same `seed` and calls lose and delay the same frames.
    pub fn new(ports: usize, seed: u64) -> Self {
        Self {
            links: vec![vec![Link::default(); ports]; ports],
            last: vec![vec![Duration::ZERO; ports]; ports],
            learned: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            number: 0,
            random: seed,
        }
    }

    /// How many ports there are.
    pub fn ports(&self) -> usize {
        self.links.len()
    }

    /// The link from one port to another; `None` for a port that does not exist.
    pub fn link(&self, from: usize, to: usize) -> Option<Link> {
        self.links.get(from)?.get(to).copied()
    }

    /// Sets the link from one port to another; the way back is a link of its own. Frames under way still arrive.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        if let Some(place) = self.links.get_mut(from).and_then(|row| row.get_mut(to)) {
            *place = link;
        }
    }

    /// Takes a frame that came in at a port. What arrives at once comes back with the next [`Self::due`].
    pub fn accept(&mut self, now: Duration, from: usize, frame: &[u8]) {
        if frame.len() < HEADER_LEN || from >= self.ports() {
            return;
        }
        let (Some(destination), Some(source)) = (address(frame, 0), address(frame, 6)) else { return };
        let group = |mac: Mac| mac.first().is_some_and(|byte| byte & 1 == 1);
        if !group(source) && (self.learned.len() < TABLE_LIMIT || self.learned.contains_key(&source)) {
            self.learned.insert(source, from);
        }
        match self.learned.get(&destination).copied().filter(|_| !group(destination)) {
            Some(to) if to == from => {}
            Some(to) => self.send(now, from, to, frame),
            None => (0..self.ports()).filter(|to| *to != from).for_each(|to| self.send(now, from, to, frame)),
        }
    }

    fn send(&mut self, now: Duration, from: usize, to: usize, frame: &[u8]) {
        let Some(link) = self.link(from, to) else { return };
        let lost = link.loss_per_mille > 0 && self.chance(1000) < u64::from(link.loss_per_mille);
        if link.cut || lost || self.waiting.len() >= QUEUE_LIMIT {
            return;
        }
        let jitter = u64::try_from(link.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = if jitter == 0 { 0 } else { self.chance(jitter.saturating_add(1)) };
        let mut at = now.saturating_add(link.delay).saturating_add(Duration::from_micros(jitter));
        if let Some(last) = self.last.get_mut(from).and_then(|row| row.get_mut(to)) {
            at = at.max(*last);
            *last = at;
        }
        self.number += 1;
        self.waiting.push(Reverse(Waiting { at, number: self.number, port: to, frame: frame.to_vec() }));
    }

    /// Takes out what has arrived until `now`.
    pub fn due(&mut self, now: Duration) -> Vec<Delivery> {
        let mut out = Vec::new();
        while self.waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(next)) = self.waiting.pop() {
                out.push(Delivery { port: next.port, frame: next.frame });
            }
        }
        out
    }

    /// When [`Self::due`] has something again.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(next)| next.at)
    }

    /// A number below `bound`, which is not 0: SplitMix64 (Steele, Lea and Flood, 2014), plenty for losing frames.
    fn chance(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

fn address(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BROADCAST: Mac = [0xff; 6];

    fn mac(n: u8) -> Mac {
        [2, 0, 0, 0, 0, n]
    }

    fn frame(to: Mac, from: Mac, number: u8) -> Vec<u8> {
        [&to[..], &from[..], &[8, 0, number]].concat()
    }

    fn ports(deliveries: &[Delivery]) -> Vec<usize> {
        deliveries.iter().map(|delivery| delivery.port).collect()
    }

    #[test]
    fn an_unknown_address_is_flooded_and_a_learned_one_is_not() {
        let mut fabric = Fabric::new(3, 1);
        fabric.accept(Duration::ZERO, 0, &frame(mac(1), mac(0), 0));
        assert_eq!(ports(&fabric.due(Duration::ZERO)), [1, 2]);
        fabric.accept(Duration::ZERO, 1, &frame(mac(0), mac(1), 0));
        assert_eq!(ports(&fabric.due(Duration::ZERO)), [0]);
        fabric.accept(Duration::ZERO, 2, &frame(BROADCAST, mac(2), 0));
        assert_eq!(ports(&fabric.due(Duration::ZERO)), [0, 1]);
        // An address that moved is found where it is now.
        fabric.accept(Duration::ZERO, 2, &frame(mac(1), mac(0), 0));
        fabric.due(Duration::ZERO);
        fabric.accept(Duration::ZERO, 1, &frame(mac(0), mac(1), 0));
        assert_eq!(ports(&fabric.due(Duration::ZERO)), [2]);
    }

    #[test]
    fn a_link_is_cut_one_way() {
        let mut fabric = Fabric::new(2, 1);
        fabric.set_link(0, 1, Link { cut: true, ..Link::default() });
        fabric.accept(Duration::ZERO, 0, &frame(BROADCAST, mac(0), 0));
        assert_eq!(fabric.due(Duration::ZERO), []);
        fabric.accept(Duration::ZERO, 1, &frame(BROADCAST, mac(1), 0));
        assert_eq!(ports(&fabric.due(Duration::ZERO)), [0]);
    }

    #[test]
    fn delayed_frames_arrive_in_order_and_in_time() {
        let mut fabric = Fabric::new(2, 7);
        let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(10));
        fabric.set_link(0, 1, Link { delay, jitter, ..Link::default() });
        for number in 0..50 {
            fabric.accept(Duration::from_millis(number.into()), 0, &frame(BROADCAST, mac(0), number));
        }
        assert_eq!(fabric.due(Duration::from_millis(19)), []);
        assert!(fabric.next_due().is_some_and(|at| at >= delay && at <= delay + jitter));
        let arrived = fabric.due(Duration::from_millis(49) + delay + jitter);
        let numbers: Vec<u8> = arrived.iter().map(|delivery| delivery.frame[14]).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
        assert_eq!(fabric.next_due(), None);
    }

    #[test]
    fn loss_is_what_was_asked_for() {
        let mut fabric = Fabric::new(2, 3);
        for (loss, least, most) in [(0, 1000, 1000), (100, 850, 950), (1000, 0, 0)] {
            fabric.set_link(0, 1, Link { loss_per_mille: loss, ..Link::default() });
            for _ in 0..1000 {
                fabric.accept(Duration::ZERO, 0, &frame(BROADCAST, mac(0), 0));
            }
            let arrived = fabric.due(Duration::ZERO).len();
            assert!((least..=most).contains(&arrived), "loss {loss}: {arrived} of 1000 arrived");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_and_never_come_back_to_their_port(
            frames in proptest::collection::vec((0_usize..4, proptest::collection::vec(any::<u8>(), 0..40)), 0..60)
        ) {
            let mut fabric = Fabric::new(3, 9);
            for (from, bytes) in frames {
                fabric.accept(Duration::ZERO, from, &bytes);
                for delivery in fabric.due(Duration::ZERO) {
                    prop_assert!(delivery.port != from && delivery.port < 3);
                    prop_assert_eq!(&delivery.frame, &bytes);
                }
            }
        }
    }
}
