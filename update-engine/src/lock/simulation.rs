//! Machines that contend for the lock in a world where everything goes wrong: crashes between any two steps, pauses, answers that
//! are lost, transactions that arrive late, machines that never come back, people who lend a hand. Time is simulated; chance comes
//! from a seed, so that a run can be run again. After every step the invariants are checked.
//!
//! [`World::history`] has every transaction in the order in which the model of etcd took it, so that the same can be put before the
//! real one.

use kv::model::{Chance, Model};
use kv::{Transaction, TransactionResult};

use super::agent::{Agent, Committed, Goal, News, Next};
use super::plan::{Keys, Plan, Record, View, Wish, plan};

/// How the world is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Machines; each wants to reboot once.
    pub machines: usize,
    /// How many may at a time.
    pub max: i64,
    /// Steps in which things go wrong; after them the world is kind, and everything has to come to an end.
    pub rough_steps: usize,
    /// Of 1000 steps of a machine, so many are a crash.
    pub crashes: u64,
    /// Whether machines die for good.
    pub deaths: bool,
    /// Whether people unlock what is not theirs and change the maximum.
    pub people: bool,
    /// Milliseconds after which a dead holder is taken over from.
    pub take_over_after: Option<u64>,
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Up, and wants the lock.
    Wants,
    /// Down by a reboot under the lock, until then.
    Reboots(u64),
    /// Down by a crash, until then.
    Crashed(u64),
    /// Up and good, and gives the lock back.
    Settles,
    /// Up, and has done all that it wanted.
    Rests,
    /// Down for good.
    Dead,
}

#[derive(Debug)]
struct Machine {
    id: String,
    phase: Phase,
    agent: Agent,
    /// Decided, and not yet sent.
    pending: Option<Transaction>,
    /// It may hold the lock: on its disk.
    note: bool,
    /// It has been down under the lock: on its disk.
    updated: bool,
    boots: u64,
}

/// The world.
#[derive(Debug)]
pub struct World {
    options: Options,
    keys: Keys,
    model: Model,
    machines: Vec<Machine>,
    /// Sent by somebody who has given up waiting.
    late: Vec<Transaction>,
    now: u64,
    dice: Chance,
    /// Every transaction with what came of it.
    pub history: Vec<(Transaction, TransactionResult)>,
    /// Reads and writes that etcd has seen.
    pub operations: u64,
    /// The largest number of machines that were down under the lock at once.
    pub most_down: usize,
    /// Somebody has put a holder out that was not dead: from then on more may be down than hold.
    meddled: bool,
}

const GROUP: &str = "simulated";

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let keys = Keys::of_group(GROUP);
        let machines = (0..options.machines).map(|number| Machine::new(&keys, number, &options)).collect();
        let mut world = Self {
            options,
            keys,
            model: Model::default(),
            machines,
            late: Vec::new(),
            now: 1,
            dice: Chance(seed | 1),
            history: Vec::new(),
            operations: 0,
            most_down: 0,
            meddled: false,
        };
        if options.max != 1 {
            world.by_hand(&Wish::SetMax(options.max));
        }
        world
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// An invariant that was broken, or an end that was not reached.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.rough_steps {
            self.step(true)?;
        }
        let begun = self.now;
        while !self.is_over() {
            self.step(false)?;
            // A day for each machine: reboots take minutes.
            let limit = 86_400_000 * (self.options.machines as u64 + 1);
            if self.now - begun > limit {
                return Err(format!(
                    "no end after {} simulated hours: {self:#?}",
                    (self.now - begun) / 3_600_000
                ));
            }
        }
        Ok(())
    }

    /// Simulated milliseconds.
    #[must_use]
    pub const fn elapsed(&self) -> u64 {
        self.now
    }

    /// The semaphore and the records as they are.
    ///
    /// # Panics
    /// Somebody has written nonsense.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the simulation is a test")]
    pub fn view(&self) -> View {
        let result = self.model.clone().transact(&self.keys.read()).expect("a sound transaction");
        View::of(&self.keys, &result.results).expect("locksmith's JSON")
    }

    fn random(&mut self) -> u64 {
        self.dice.number()
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.random() % 1000 < of_1000
    }

    fn is_over(&self) -> bool {
        let ended = |machine: &Machine| matches!(machine.phase, Phase::Rests | Phase::Dead);
        // Without takeover the dead may keep all places: then the others wait for people.
        let blocked = || {
            let view = self.view();
            let dead = |id: &String| self.machines.iter().any(|it| it.phase == Phase::Dead && it.id == *id);
            let places = i64::try_from(view.semaphore.holders().iter().filter(|id| dead(id)).count());
            self.options.take_over_after.is_none()
                && places.is_ok_and(|places| places >= view.semaphore.max())
                && self.machines.iter().all(|machine| ended(machine) || machine.phase == Phase::Wants)
        };
        self.late.is_empty() && (self.machines.iter().all(ended) || blocked())
    }

    fn apply(&mut self, transaction: Transaction) -> bool {
        self.operations += 1;
        let Some(result) = self.model.transact(&transaction) else { return false };
        let succeeded = result.succeeded;
        self.history.push((transaction, result));
        succeeded
    }

    /// Somebody at a keyboard.
    fn by_hand(&mut self, wish: &Wish<'_>) {
        if let Ok(Plan::Commit(transaction)) = plan(&self.keys, &self.view(), wish) {
            self.apply(transaction);
        }
    }

    fn step(&mut self, rough: bool) -> Result<(), String> {
        let before = self.view();
        let count = self.machines.len() as u64;
        match self.random() % 100 {
            0..3 if !self.late.is_empty() => {
                let index = usize::try_from(self.random() % self.late.len() as u64).unwrap_or(0);
                let late = self.late.swap_remove(index);
                self.apply(late);
            }
            3 if rough && self.options.people => self.people(),
            4..20 => self.now += self.random() % 20_000,
            20 => self.now += self.random() % 600_000,
            _ => {
                let index = usize::try_from(self.random() % count).unwrap_or(0);
                self.machine_step(index, rough)?;
            }
        }
        self.check(&before)
    }

    fn people(&mut self) {
        let max = i64::try_from(self.random() % 4).unwrap_or(1);
        if self.chance(500) {
            self.by_hand(&Wish::SetMax(max));
        } else {
            let holders = self.view().semaphore.holders().to_vec();
            let Some(id) = holders.first() else { return };
            self.meddled |=
                self.machines.iter().any(|machine| machine.id == *id && machine.phase != Phase::Dead);
            self.by_hand(&Wish::Release { id, fence: false });
        }
        // In the end there is room again.
        if self.view().semaphore.max() < 1 {
            self.by_hand(&Wish::SetMax(1));
        }
    }

    fn machine_step(&mut self, index: usize, rough: bool) -> Result<(), String> {
        let (now, random) = (self.now, self.random());
        let crash = rough && self.chance(self.options.crashes);
        let death = crash && self.options.deaths && self.chance(100);
        let boot_seconds = 30 + self.random() % 240;
        let Some(machine) = self.machines.get_mut(index) else { return Ok(()) };
        match machine.phase {
            Phase::Dead | Phase::Rests => return Ok(()),
            Phase::Reboots(until) | Phase::Crashed(until) => {
                if death {
                    machine.phase = Phase::Dead;
                } else if now >= until {
                    machine.boot(&self.keys, &self.options, now);
                }
                return Ok(());
            }
            Phase::Wants | Phase::Settles if crash => {
                // What it has sent may be on its way all the same.
                let sent = machine.pending.take();
                machine.phase = if death { Phase::Dead } else { Phase::Crashed(now + boot_seconds * 1000) };
                self.late.extend(sent);
                return Ok(());
            }
            Phase::Wants | Phase::Settles => {}
        }
        if let Some(transaction) = machine.pending.take() {
            return self.commit(index, transaction, rough);
        }
        match machine.agent.next(now) {
            Next::Rest | Next::Wait(_) => Ok(()),
            Next::Read => {
                let deaf = rough && self.chance(100);
                let view = if deaf { Err("no answer".to_owned()) } else { Ok(self.view()) };
                self.operations += u64::from(!deaf);
                let Some(machine) = self.machines.get_mut(index) else { return Ok(()) };
                let (transaction, news) = machine.agent.seen(now, random, view);
                machine.pending = transaction;
                self.hear(index, news);
                Ok(())
            }
        }
    }

    fn commit(&mut self, index: usize, transaction: Transaction, rough: bool) -> Result<(), String> {
        let (now, random) = (self.now, self.random());
        let outcome = match (rough, self.random() % 10) {
            (true, 0) => Committed::Unknown,
            (true, 1) => {
                self.apply(transaction);
                Committed::Unknown
            }
            (true, 2) => {
                self.late.push(transaction);
                Committed::Unknown
            }
            _ if self.apply(transaction) => Committed::Yes,
            _ => Committed::No,
        };
        let Some(machine) = self.machines.get_mut(index) else { return Ok(()) };
        let news = machine.agent.committed(now, random, outcome);
        if news == Some(News::Won) && !self.model_has(index) {
            return Err(format!("machine {index} believes that it holds the lock"));
        }
        self.hear(index, news);
        // Those who wait hear of every change.
        if outcome == Committed::Yes {
            for (number, machine) in (0..).zip(&mut self.machines) {
                machine.agent.changed(now, random.rotate_left(number));
            }
        }
        Ok(())
    }

    fn model_has(&self, index: usize) -> bool {
        self.machines.get(index).is_some_and(|machine| self.view().semaphore.is_held_by(&machine.id))
    }

    fn hear(&mut self, index: usize, news: Option<News>) {
        let down = 60_000 + self.random() % 240_000;
        let now = self.now;
        let Some(machine) = self.machines.get_mut(index) else { return };
        match news {
            Some(News::Won) => {
                machine.updated = true;
                machine.phase = Phase::Reboots(now + down);
            }
            Some(News::Released | News::Kept) => {
                machine.note = false;
                machine.phase = if machine.updated { Phase::Rests } else { Phase::Wants };
                if machine.phase == Phase::Wants {
                    machine.take(now);
                }
            }
            Some(News::Waits { .. } | News::Trouble(_)) | None => {}
        }
    }

    fn check(&mut self, before: &View) -> Result<(), String> {
        let view = self.view();
        let (semaphore, old) = (&view.semaphore, &before.semaphore);
        let count = i64::try_from(semaphore.holders().len()).unwrap_or(i64::MAX);
        if semaphore.available() != semaphore.max() - count {
            return Err(format!("free and taken do not add up: {semaphore:?}"));
        }
        if count > semaphore.max() && semaphore.holders().len() > old.holders().len() {
            return Err(format!("a holder too many: {old:?}, {semaphore:?}"));
        }
        if let Some(id) = view.records.keys().find(|id| !semaphore.is_held_by(id)) {
            return Err(format!("{id} has a record and is no holder"));
        }
        if let Some(id) = semaphore.holders().iter().find(|id| !view.records.contains_key(*id)) {
            return Err(format!("{id} holds the lock without a record"));
        }
        let down = self.machines.iter().filter(|machine| matches!(machine.phase, Phase::Reboots(_)));
        let down: Vec<&Machine> = down.collect();
        self.most_down = self.most_down.max(down.len());
        let trusted = !self.meddled && self.options.take_over_after.is_none();
        if let (true, Some(machine)) =
            (trusted, down.iter().find(|machine| !semaphore.is_held_by(&machine.id)))
        {
            return Err(format!("{} is down and does not hold the lock", machine.id));
        }
        Ok(())
    }
}

impl Machine {
    fn new(keys: &Keys, number: usize, options: &Options) -> Self {
        let id = format!("machine-{number:02}");
        let agent = Agent::new(keys.clone(), id.clone(), format!("boot-{number}-0"), options.take_over_after);
        let mut machine =
            Self { id, phase: Phase::Wants, agent, pending: None, note: false, updated: false, boots: 0 };
        machine.take(0);
        machine
    }

    fn take(&mut self, now: u64) {
        // The note is on the disk before anything is sent.
        self.note = true;
        let record = Record {
            since: now / 1000,
            boot: format!("boot-{}-{}", self.id, self.boots),
            why: "update".to_owned(),
            failed: None,
        };
        self.agent.want(now, Goal::Take(record));
    }

    fn boot(&mut self, keys: &Keys, options: &Options, now: u64) {
        self.boots += 1;
        let boot = format!("boot-{}-{}", self.id, self.boots);
        self.agent = Agent::new(keys.clone(), self.id.clone(), boot, options.take_over_after);
        self.pending = None;
        if self.note {
            self.agent.distrust();
        }
        self.phase = Phase::Settles;
        self.agent.want(now, Goal::Release { of_this_boot: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fifty_machines_take_their_turns() {
        for max in [1, 3] {
            let options = Options {
                machines: 50,
                max,
                rough_steps: 0,
                crashes: 0,
                deaths: false,
                people: false,
                take_over_after: None,
            };
            let mut world = World::new(options, 7);
            world.run().unwrap();
            assert_eq!(world.most_down, usize::try_from(max).unwrap());
            assert!(world.view().semaphore.holders().is_empty());
            let hours = world.elapsed() as f64 / 3_600_000.0;
            println!(
                "50 machines, {max} at a time: {hours:.1} simulated hours, {} operations, {:.4} a second and machine",
                world.operations,
                world.operations as f64 / (world.elapsed() as f64 / 1000.0) / 50.0
            );
        }
    }

    #[test]
    fn fifty_machines_with_crashes_do_so_too() {
        for seed in 1..6 {
            let options = Options {
                machines: 50,
                max: 2,
                rough_steps: 4000,
                crashes: 20,
                deaths: false,
                people: false,
                take_over_after: None,
            };
            let mut world = World::new(options, seed);
            world.run().unwrap();
            assert!(world.most_down <= 2);
        }
    }

    #[test]
    fn a_dead_holder_blocks_until_it_is_taken_over_from() {
        let mut blocked = 0;
        for seed in 1..120 {
            let options = Options {
                machines: 3,
                max: 1,
                rough_steps: 200,
                crashes: 60,
                deaths: true,
                people: false,
                take_over_after: None,
            };
            let mut world = World::new(options, seed);
            world.run().unwrap();
            let waiting = world.machines.iter().any(|machine| machine.phase == Phase::Wants);
            if waiting {
                blocked += 1;
                // The same world, and permission.
                let mut world = World::new(Options { take_over_after: Some(3_600_000), ..options }, seed);
                world.run().unwrap();
                let all = world.machines.iter().all(|it| matches!(it.phase, Phase::Rests | Phase::Dead));
                assert!(all, "{world:#?}");
            }
        }
        assert!(blocked > 0, "no seed has a dead holder: the test shows nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
        #[test]
        fn whatever_dies_when_there_are_never_more_holders_than_max(
            seed: u64,
            machines in 1_usize..7,
            max in 1_i64..4,
            crashes in 0_u64..120,
            deaths: bool,
            people: bool,
            take_over: bool,
        ) {
            let take_over_after = take_over.then_some(3_600_000);
            let options = Options { machines, max, rough_steps: 600, crashes, deaths, people, take_over_after };
            let mut world = World::new(options, seed);
            if let Err(problem) = world.run() {
                prop_assert!(false, "{problem}");
            }
        }
    }
}
