//! Makes histories: clients that write and read through a cluster's machines, and somebody who breaks the machines and the network.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use builder::cluster::protocol::{Action, LinkChange, Request};
use serde_json::{Value as Json, json};

use super::{Call, Event, Key, Revision, Value, check};
use crate::bench::{Bench, node};

/// Clients at once.
const CLIENTS: u64 = 4;
/// Keys that are written again and again; writes to all others are the only ones of their key.
const SHARED: u64 = 5;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two calls of a client, at most: many calls for an election, few for the emulator.
const PAUSE_MILLIS: u64 = 200;

/// A generator of numbers: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn machine(&mut self, machines: usize) -> usize {
        1 + usize::try_from(self.below(machines as u64)).unwrap_or(0)
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes of which nobody knows.
    pub unknown: usize,
    /// Reads that were answered.
    pub reads: usize,
    /// Faults.
    pub faults: usize,
    /// The longest time without an acknowledged write.
    pub longest_gap: Duration,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { acknowledged, unknown, reads, faults, longest_gap } = self;
        write!(
            f,
            "history: faults={faults} acknowledged={acknowledged} unknown={unknown} reads={reads} longest_gap={:.1}s",
            longest_gap.as_secs_f64()
        )
    }
}

struct Run<'b> {
    bench: &'b Bench,
    machines: usize,
    begin: Instant,
    over: AtomicBool,
    values: AtomicU64,
    events: Mutex<Vec<Event>>,
}

/// Lets clients work on a healthy cluster and breaks it for `duration`; then mends it, reads everything from every machine, and checks
/// the history. The same `seed` breaks the same things.
///
/// # Errors
/// The history is impossible, or the cluster does not recover.
pub fn run(bench: &Bench, machines: usize, seed: u64, duration: Duration) -> Result<Figures> {
    let run = Run {
        bench,
        machines,
        begin: Instant::now(),
        over: AtomicBool::new(false),
        values: AtomicU64::new(SHARED),
        events: Mutex::new(Vec::new()),
    };
    let faults = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let run = &run;
            scope.spawn(move || run.client(Random(seed ^ (client + 1).wrapping_mul(0x5851_f42d_4c95_7f2d))));
        }
        let faults = run.break_things(&mut Random(seed), duration);
        run.over.store(true, Ordering::SeqCst);
        faults
    })?;
    bench.wait_until_healthy()?;
    run.read_everything()?;
    let events = run.events.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wrong = check(&events);
    ensure!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    Ok(figures(&events, faults))
}

fn figures(events: &[Event], faults: usize) -> Figures {
    let mut figures = Figures { acknowledged: 0, unknown: 0, reads: 0, faults, longest_gap: Duration::ZERO };
    let mut acknowledged: Vec<Duration> = Vec::new();
    for event in events {
        match event.call {
            Call::Put { revision: Some(_), .. } => acknowledged.push(event.ended),
            Call::Put { revision: None, .. } => figures.unknown += 1,
            Call::Get { .. } => figures.reads += 1,
        }
    }
    acknowledged.sort_unstable();
    figures.acknowledged = acknowledged.len();
    let gaps = acknowledged.iter().zip(acknowledged.iter().skip(1)).map(|(one, next)| *next - *one);
    figures.longest_gap = gaps.max().unwrap_or_default();
    figures
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn number(json: &Json, pointer: &str) -> Option<u64> {
    json.pointer(pointer)?.as_str()?.parse().ok()
}

fn decoded(json: &Json, pointer: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(json.pointer(pointer)?.as_str()?).ok()?;
    std::str::from_utf8(&bytes).ok()?.rsplit('/').next()?.parse().ok()
}

fn name(key: Key) -> String {
    encode(&format!("history/{key:020}"))
}

impl Run<'_> {
    fn client(&self, mut random: Random) {
        while !self.over.load(Ordering::SeqCst) {
            let machine = random.machine(self.machines);
            match random.below(3) {
                0 => self.get(machine, random.below(SHARED)),
                kind => {
                    let value = self.values.fetch_add(1, Ordering::SeqCst);
                    self.put(machine, if kind == 1 { random.below(SHARED) } else { value }, value);
                }
            }
            thread::sleep(Duration::from_millis(random.below(PAUSE_MILLIS)));
        }
    }

    fn put(&self, machine: usize, key: Key, value: Value) {
        // A machine that is off was never asked.
        let Ok((_, port)) = self.bench.ports(machine) else { return };
        let begun = self.begin.elapsed();
        let body = json!({ "key": name(key), "value": encode(&value.to_string()) });
        let answer = crate::post_json_within(port, "/v3/kv/put", &body, PATIENCE);
        let revision = answer.ok().and_then(|json| number(&json, "/header/revision"));
        self.happened(begun, Call::Put { key, value, revision });
    }

    fn get(&self, machine: usize, key: Key) {
        let Ok((_, port)) = self.bench.ports(machine) else { return };
        let begun = self.begin.elapsed();
        let answer = crate::post_json_within(port, "/v3/kv/range", &json!({ "key": name(key) }), PATIENCE);
        let Ok(json) = answer else { return };
        let Some(revision) = number(&json, "/header/revision") else { return };
        let found = decoded(&json, "/kvs/0/value").zip(number(&json, "/kvs/0/mod_revision"));
        self.happened(begun, Call::Get { key, revision, found });
    }

    fn happened(&self, begun: Duration, call: Call) {
        let event = Event { begun, ended: self.begin.elapsed(), call };
        self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }

    /// Reads of every key that was written, answered by each machine.
    fn read_everything(&self) -> Result<()> {
        for machine in 1..=self.machines {
            let begun = self.begin.elapsed();
            let body = json!({ "key": encode("history/"), "range_end": encode("history0") });
            let json = self.bench.etcd(machine, "/v3/kv/range", &body, Duration::from_secs(120))?;
            let revision = number(&json, "/header/revision").context("no revision")?;
            let mut there: std::collections::BTreeMap<Key, (Value, Revision)> =
                std::collections::BTreeMap::new();
            for entry in json.get("kvs").and_then(Json::as_array).into_iter().flatten() {
                let value = decoded(entry, "/value").context("a value of somebody else")?;
                let at = number(entry, "/mod_revision").context("no revision")?;
                there.insert(decoded(entry, "/key").context("a key of somebody else")?, (value, at));
            }
            let keys = 0..self.values.load(Ordering::SeqCst);
            for key in keys {
                self.happened(begun, Call::Get { key, revision, found: there.get(&key).copied() });
            }
        }
        Ok(())
    }

    /// Breaks one thing after the other, holds it, mends it; says how many.
    fn break_things(&self, random: &mut Random, duration: Duration) -> Result<usize> {
        let mut faults = 0;
        while self.begin.elapsed() < duration {
            let machine = random.machine(self.machines);
            self.fault(random, machine)?;
            faults += 1;
            thread::sleep(Duration::from_millis(2_000 + random.below(8_000)));
            self.mend()?;
            thread::sleep(Duration::from_millis(random.below(8_000)));
            // Every third time all come back before it goes on, so that not all the run is an outage.
            if random.below(3) == 0 {
                self.bench.wait_until_healthy()?;
            }
        }
        Ok(faults)
    }

    fn fault(&self, random: &mut Random, machine: usize) -> Result<()> {
        let others: Vec<usize> = (1..=self.machines).filter(|other| *other != machine).collect();
        let nodes = |numbers: &[usize]| numbers.iter().map(|number| node(*number)).collect::<Result<_>>();
        let link = LinkChange { from: nodes(&[machine])?, to: nodes(&others)?, ..LinkChange::default() };
        let (what, request) = match random.below(8) {
            0 => ("cut off", Request::Link(LinkChange { cut: true, ..link })),
            1 => ("cut off one way", Request::Link(LinkChange { cut: true, one_way: true, ..link })),
            2 => ("lossy", Request::Link(LinkChange { loss_per_mille: 300, ..link })),
            3 => ("slow", Request::Link(LinkChange { delay_ms: 400, jitter_ms: 800, ..link })),
            4 => ("paused", Request::Act(Action::Pause, nodes(&[machine])?)),
            5 => ("killed", Request::Act(Action::Kill, nodes(&[machine])?)),
            6 => ("killed with others", Request::Act(Action::Kill, nodes(&others)?)),
            _ => ("power cut", Request::Act(Action::PowerCut, nodes(&[machine])?)),
        };
        println!("{:7.1} node{machine}: {what}", self.begin.elapsed().as_secs_f64());
        self.bench.ask(&request).map(drop)
    }

    /// Links are whole, machines are on and run.
    fn mend(&self) -> Result<()> {
        self.bench.ask(&Request::Heal)?;
        for (number, machine) in (1..).zip(self.bench.machines()?) {
            match machine.state.as_str() {
                "off" => self.bench.act(Action::Start, &[number])?,
                "paused" => self.bench.act(Action::Resume, &[number])?,
                _ => {}
            }
        }
        Ok(())
    }
}
