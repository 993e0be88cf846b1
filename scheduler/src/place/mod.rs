//! Which unit goes to which machine: a snapshot in, tasks with reasons out. Pure, and always the same for the same snapshot.
//!
//! Three rounds over the units, in the order of their names, but peers (`MachineOf=`) before those that follow them: what is where
//! it may be stays; what is nowhere goes to the machine with the fewest units that bears it (the lower id among equals); who
//! `Replaces=` pushes away goes to another machine, if there is one. Nothing is moved for balance.
//!
//! A unit that its old machine still runs is given to the next one only when the old one has said that it is down.

mod refusal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::{Machine, Snapshot, Unit};

pub use self::refusal::{Departure, Refusal, Unplaced, short};

/// One thing that the engine does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Gives a unit to a machine.
    Schedule {
        /// The unit.
        unit: String,
        /// The machine.
        machine: String,
        /// The machine that has it so far, and why it loses it. That machine does not run it.
        from: Option<(String, Departure)>,
    },
    /// Takes a unit away from a machine.
    Unschedule {
        /// The unit.
        unit: String,
        /// The machine.
        machine: String,
        /// Why.
        why: Departure,
    },
}

impl Task {
    /// The unit.
    #[must_use]
    pub fn unit(&self) -> &str {
        match self {
            Self::Schedule { unit, .. } | Self::Unschedule { unit, .. } => unit,
        }
    }
}

/// What a snapshot comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// What is to be done, at most one task for a unit, in the order of names.
    pub tasks: Vec<Task>,
    /// Units that should be on a machine and cannot.
    pub unplaced: BTreeMap<String, Unplaced>,
}

/// A machine while units are given to it.
struct Place<'a> {
    machine: &'a Machine,
    /// May get units.
    takes: bool,
    /// Units that were given to it, and global ones.
    residents: BTreeMap<&'a str, &'a Unit>,
    /// Units that it runs, whether it should or not.
    running: BTreeMap<&'a str, &'a Unit>,
}

struct Board<'a> {
    snapshot: &'a Snapshot,
    places: BTreeMap<&'a str, Place<'a>>,
    /// Where each unit is.
    at: BTreeMap<&'a str, &'a str>,
    departures: BTreeMap<&'a str, Departure>,
    /// Units that push each other away in a circle, so that no order of them comes to an end: they are kept apart instead.
    rivals: BTreeSet<&'a str>,
    /// Until then a global unit counts as being wherever it fits.
    has_globals: bool,
}

/// Decides.
#[must_use]
pub fn place(snapshot: &Snapshot) -> Decisions {
    let mut board = Board::new(snapshot);
    let (order, circles) = order(snapshot);
    let mut unplaced = BTreeMap::new();
    for name in &order {
        board.keep(name);
    }
    board.add_globals();
    for name in &order {
        if let Some(why) = board.settle(name) {
            unplaced.insert((*name).to_owned(), why);
        }
    }
    board.push_away(&order);
    let members: Vec<String> = circles.iter().map(|&name| name.to_owned()).collect();
    for name in circles {
        board.departures.insert(name, Departure::Circle);
        unplaced.insert(name.to_owned(), Unplaced::Circle(members.clone()));
    }
    board.decisions(&order, unplaced)
}

/// The units that are to be on one machine: by name, peers before followers; and those whose peers go round in circles, with what
/// follows them.
fn order(snapshot: &Snapshot) -> (Vec<&str>, Vec<&str>) {
    let units: BTreeMap<&str, &Unit> = snapshot
        .units
        .iter()
        .filter(|(_, unit)| unit.is_to_place())
        .map(|(name, unit)| (name.as_str(), unit))
        .collect();
    let mut followers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, unit) in &units {
        let peers: BTreeSet<&str> = unit.requirements.machine_of.iter().map(String::as_str).collect();
        let known = peers.into_iter().filter(|peer| units.contains_key(peer));
        let mut count = 0;
        for peer in known {
            followers.entry(peer).or_default().push(name);
            count += 1;
        }
        missing.insert(name, count);
    }
    let mut ready: BTreeSet<&str> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(units.len());
    while let Some(name) = ready.pop_first() {
        order.push(name);
        missing.remove(name);
        for follower in followers.get(name).into_iter().flatten() {
            if let Some(count) = missing.get_mut(follower) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(follower);
                }
            }
        }
    }
    (order, missing.into_keys().collect())
}

impl<'a> Board<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let of = |(id, machine): (&'a String, &'a Machine), takes: bool| {
            let (takes, residents, running) = (takes && !machine.drains, BTreeMap::new(), BTreeMap::new());
            (id.as_str(), Place { machine, takes, residents, running })
        };
        let awaited = snapshot.awaited.iter().map(|it| of(it, false));
        let present = snapshot.machines.iter().map(|it| of(it, true));
        let mut places: BTreeMap<&str, Place<'_>> = awaited.chain(present).collect();
        for (name, unit) in &snapshot.units {
            if let Some(place) = unit.launched_on.as_deref().and_then(|machine| places.get_mut(machine)) {
                place.running.insert(name, unit);
            }
        }
        let (at, departures, rivals) = (BTreeMap::new(), BTreeMap::new(), rivals(snapshot));
        Self { snapshot, places, at, departures, rivals, has_globals: false }
    }

    fn unit(&self, name: &str) -> Option<(&'a str, &'a Unit)> {
        self.snapshot.units.get_key_value(name).map(|(name, unit)| (name.as_str(), unit))
    }

    fn put(&mut self, name: &'a str, unit: &'a Unit, machine: &'a str) {
        if let Some(place) = self.places.get_mut(machine) {
            place.residents.insert(name, unit);
            self.at.insert(name, machine);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(machine) = self.at.remove(name)
            && let Some(place) = self.places.get_mut(machine)
        {
            place.residents.remove(name);
        }
    }

    /// First round: stays where it may be.
    fn keep(&mut self, name: &str) {
        let Some((name, unit)) = self.unit(name) else { return };
        let Some(target) = &unit.target else { return };
        let Some((machine, place)) = self.places.get_key_value(target.as_str()) else {
            self.departures.insert(name, Departure::MachineLost);
            return;
        };
        // What one that is away has is its own, until it is given up.
        let awaited = self.snapshot.awaited.contains_key(*machine);
        let refusal = if awaited { None } else { self.refusal(name, unit, machine, place) };
        match refusal {
            None => self.put(name, unit, machine),
            Some(refusal) => {
                self.departures.insert(name, Departure::Refused(refusal));
            }
        }
    }

    /// Global units run beside what was given to a machine; among themselves the first name wins.
    fn add_globals(&mut self) {
        let globals = self.snapshot.units.iter().filter(|(_, unit)| unit.is_global());
        for (name, unit) in globals {
            for place in self.places.values_mut() {
                if suits(unit, place.machine).is_none() && conflict(name, unit, &place.residents).is_none() {
                    place.residents.insert(name, unit);
                }
            }
        }
        self.has_globals = true;
        // Now it is known which followers of global units were kept in vain.
        let kept: Vec<(&str, &str)> = self.at.iter().map(|(name, machine)| (*name, *machine)).collect();
        for (name, machine) in kept {
            let Some((name, unit)) = self.unit(name) else { continue };
            let Some(place) = self.places.get(machine) else { continue };
            if let Some(peer) = unit.requirements.machine_of.iter().find(|peer| !self.is_beside(peer, place))
            {
                self.departures.insert(name, Departure::Refused(Refusal::PeerMissing(peer.clone())));
                self.remove(name);
            }
        }
    }

    /// Second round: what is nowhere, or on a machine that drains, looks for a machine.
    fn settle(&mut self, name: &str) -> Option<Unplaced> {
        let (name, unit) = self.unit(name)?;
        let here = self.at.get(name).copied();
        if let Some(here) = here {
            let drains = self.places.get(here).is_some_and(|place| place.machine.drains);
            if !drains || self.snapshot.awaited.contains_key(here) {
                return None;
            }
            self.remove(name);
        }
        if let Some(machine) = self.best(name, unit, |_| true) {
            self.put(name, unit, machine);
            if here.is_some() {
                self.departures.insert(name, Departure::Drains);
            }
            return None;
        }
        // Nowhere to go: a machine that drains keeps it, unless its peer has left.
        if let Some((machine, place)) = here.and_then(|here| self.places.get_key_value(here)) {
            match self.refusal(name, unit, machine, place) {
                None => {
                    self.put(name, unit, machine);
                    return None;
                }
                Some(refusal) => {
                    self.departures.insert(name, Departure::Refused(refusal));
                }
            }
        }
        Some(self.refusals(name, unit))
    }

    fn refusals(&self, name: &str, unit: &Unit) -> Unplaced {
        if self.snapshot.machines.is_empty() {
            return Unplaced::NoMachines;
        }
        let each = self.places.iter().filter(|(id, _)| self.snapshot.machines.contains_key(**id));
        let told = each.map(|(id, place)| {
            let refusal = self.refusal(name, unit, id, place).or_else(|| self.in_the_way(name, unit, id));
            let refusal = refusal.unwrap_or(Refusal::Drains);
            ((*id).to_owned(), refusal)
        });
        Unplaced::Refused(told.collect())
    }

    /// The machine with the fewest units that bears it; one where it would be pushed away is the last choice.
    fn best(&self, name: &str, unit: &Unit, may: impl Fn(&str) -> bool) -> Option<&'a str> {
        let able = self.places.iter().filter(|(id, place)| place.takes && may(id));
        let mut ranked: Vec<(bool, usize, &'a str, &Place<'a>)> = able
            .map(|(id, place)| {
                (self.pusher(name, unit, &place.residents).is_some(), place.residents.len(), *id, place)
            })
            .collect();
        ranked.sort_unstable_by_key(|(pushed, load, id, _)| (*pushed, *load, *id));
        let bears = |id: &str, place: &Place<'_>| {
            self.refusal(name, unit, id, place).is_none() && self.in_the_way(name, unit, id).is_none()
        };
        ranked.into_iter().find(|(_, _, id, place)| bears(id, place)).map(|(_, _, id, _)| id)
    }

    /// A unit that leaves the machine, but still runs there and does not bear this one.
    fn in_the_way(&self, name: &str, unit: &Unit, id: &str) -> Option<Refusal> {
        let running = self.places.get(id)?.running.iter();
        let leaving = running.filter(|(other, _)| self.at.get(*other) != Some(&id));
        let leaving: BTreeMap<&str, &Unit> = leaving.map(|(other, unit)| (*other, *unit)).collect();
        if leaving.is_empty() { None } else { conflict(name, unit, &leaving) }
    }

    /// Third round: `Replaces=`.
    fn push_away(&mut self, order: &[&'a str]) {
        for name in order {
            let Some((name, unit)) = self.unit(name) else { continue };
            let Some(here) = self.at.get(name).copied() else { continue };
            let Some(by) = self.places.get(here).and_then(|place| self.pusher(name, unit, &place.residents))
            else {
                continue;
            };
            // Followers would have to come along: a unit with any on this machine stays.
            let followed = |other: &Unit| other.requirements.machine_of.iter().any(|peer| peer == name);
            if self.places.get(here).is_some_and(|place| place.residents.values().any(|it| followed(it))) {
                continue;
            }
            let free = |id: &str| {
                let place = self.places.get(id);
                id != here && place.is_some_and(|place| self.pusher(name, unit, &place.residents).is_none())
            };
            if let Some(machine) = self.best(name, unit, free) {
                self.remove(name);
                self.put(name, unit, machine);
                self.departures.insert(name, Departure::Replaced(by.to_owned()));
            }
        }
    }

    /// Why a machine does not bear a unit, as things stand on the board; a resident is judged as if it were just coming.
    fn refusal(&self, name: &str, unit: &Unit, id: &str, place: &Place<'_>) -> Option<Refusal> {
        let wanted = &unit.requirements;
        if let Some(wanted) = &wanted.machine_id
            && wanted != id
            && wanted != short(id)
        {
            return Some(Refusal::OtherMachine(wanted.clone()));
        }
        suits(unit, place.machine)
            .or_else(|| {
                let elsewhere = wanted.machine_of.iter().find(|peer| !self.is_beside(peer, place))?;
                Some(match self.at.get(elsewhere.as_str()) {
                    Some(machine) => {
                        Refusal::PeerElsewhere { peer: elsewhere.clone(), machine: short(machine).to_owned() }
                    }
                    None => Refusal::PeerMissing(elsewhere.clone()),
                })
            })
            .or_else(|| conflict(name, unit, &place.residents))
            .or_else(|| self.rival(name, unit, &place.residents))
    }

    fn are_rivals(&self, one: &str, other: &str) -> bool {
        self.rivals.contains(one) && self.rivals.contains(other)
    }

    /// A unit on a machine that would have to go because of this one, or the other way round, and neither may.
    fn rival(&self, name: &str, unit: &Unit, residents: &BTreeMap<&str, &Unit>) -> Option<Refusal> {
        let others = residents.iter().filter(|(other, _)| **other != name && self.are_rivals(name, other));
        let pushes = |other: &str, resident: &Unit| {
            unit.requirements.replaces(other) || resident.requirements.replaces(name)
        };
        let found = others.into_iter().find(|(other, resident)| pushes(other, resident));
        found.map(|(other, _)| Refusal::ReplaceEachOther((*other).to_owned()))
    }

    /// The unit on a machine that pushes this one away.
    fn pusher(&self, name: &str, unit: &Unit, residents: &BTreeMap<&'a str, &'a Unit>) -> Option<&'a str> {
        let pushes = |other: &str, resident: &Unit| {
            other != name
                && resident.requirements.replaces(name)
                && !unit.requirements.replaces(other)
                && !self.are_rivals(name, other)
        };
        residents.iter().find(|(other, resident)| pushes(other, resident)).map(|(other, _)| *other)
    }

    fn is_beside(&self, peer: &str, place: &Place<'_>) -> bool {
        let global = || {
            let (_, unit) = self.unit(peer)?;
            (!self.has_globals && unit.is_global() && suits(unit, place.machine).is_none()).then_some(())
        };
        place.residents.contains_key(peer) || global().is_some()
    }

    /// Units that cannot be at their places yet: another machine still runs them, or their peers are not there yet; and why.
    fn waiting(&self, order: &[&'a str]) -> BTreeMap<&'a str, Unplaced> {
        let mut waiting: BTreeMap<&str, Unplaced> = BTreeMap::new();
        for name in order {
            let Some((name, unit)) = self.unit(name) else { continue };
            let Some(goal) = self.at.get(name) else { continue };
            let still_on = unit.launched_on.as_ref().filter(|it| self.snapshot.machines.contains_key(*it));
            let peer = unit.requirements.machine_of.iter().find(|peer| waiting.contains_key(peer.as_str()));
            let why = match (still_on, peer) {
                (Some(machine), _) if machine != goal && unit.target.as_deref() != Some(*goal) => {
                    Unplaced::Stops(machine.clone())
                }
                (_, Some(peer)) => Unplaced::Follows(peer.clone()),
                _ => continue,
            };
            waiting.insert(name, why);
        }
        waiting
    }

    /// What has to change so that things are as they are on the board.
    fn decisions(self, order: &[&'a str], mut unplaced: BTreeMap<String, Unplaced>) -> Decisions {
        let mut tasks = Vec::new();
        let why = |name: &str| self.departures.get(name).cloned().unwrap_or(Departure::NotWanted);
        let mut waiting = self.waiting(order);
        for (name, unit) in &self.snapshot.units {
            let waits = waiting.remove(name.as_str());
            let goal = self.at.get(name.as_str()).copied().filter(|_| waits.is_none());
            match (&unit.target, goal) {
                (None, None) => {}
                (Some(target), Some(goal)) if target == goal => {}
                (target, Some(goal)) => {
                    let from = target.clone().map(|target| (target, why(name)));
                    tasks.push(Task::Schedule { unit: name.clone(), machine: goal.to_owned(), from });
                }
                (Some(target), None) => {
                    let why = match &waits {
                        Some(Unplaced::Follows(peer)) => {
                            Departure::Refused(Refusal::PeerMissing(peer.clone()))
                        }
                        _ => why(name),
                    };
                    tasks.push(Task::Unschedule { unit: name.clone(), machine: target.clone(), why });
                }
            }
            if let Some(waits) = waits {
                unplaced.insert(name.clone(), waits);
            }
        }
        Decisions { tasks, unplaced }
    }
}

/// `MachineMetadata=`
fn suits(unit: &Unit, machine: &Machine) -> Option<Refusal> {
    unit.requirements.metadata.iter().find_map(|(key, wanted)| {
        let has = machine.metadata.get(key);
        let fits = has.is_some_and(|value| wanted.contains(value));
        (!fits).then(|| Refusal::Metadata { key: key.clone(), wanted: wanted.clone(), has: has.cloned() })
    })
}

/// `Conflicts=` of either side, and `Replaces=` of both, with one of the units on a machine.
fn conflict(name: &str, unit: &Unit, residents: &BTreeMap<&str, &Unit>) -> Option<Refusal> {
    residents.iter().filter(|(other, _)| **other != name).find_map(|(other, resident)| {
        let own = unit.requirements.conflict_with(other).map(|pattern| (pattern, false));
        let theirs = || resident.requirements.conflict_with(name).map(|pattern| (pattern, true));
        if let Some((pattern, theirs)) = own.or_else(theirs) {
            return Some(Refusal::Conflict { with: (*other).to_owned(), pattern: pattern.0.clone(), theirs });
        }
        let both = unit.requirements.replaces(other) && resident.requirements.replaces(name);
        both.then(|| Refusal::ReplaceEachOther((*other).to_owned()))
    })
}

/// Units whose `Replaces=` go round in circles, and what lies between such circles.
fn rivals(snapshot: &Snapshot) -> BTreeSet<&str> {
    let pushing = snapshot.units.iter().filter(|(_, unit)| !unit.requirements.replaces.is_empty());
    let mut left: BTreeMap<&str, &Unit> = pushing.map(|(name, unit)| (name.as_str(), unit)).collect();
    loop {
        let pushes = |unit: &Unit, name: &str| {
            left.keys().any(|other| *other != name && unit.requirements.replaces(other))
        };
        let is_pushed =
            |name: &str| left.iter().any(|(other, unit)| *other != name && unit.requirements.replaces(name));
        let ends: Vec<&str> = left
            .iter()
            .filter(|(name, unit)| !pushes(unit, name) || !is_pushed(name))
            .map(|(name, _)| *name)
            .collect();
        if ends.is_empty() {
            return left.into_keys().collect();
        }
        for name in ends {
            left.remove(name);
        }
    }
}

/// What is to be on a machine: units that are given to it, and global ones that fit beside them.
#[must_use]
pub fn residents<'a>(snapshot: &'a Snapshot, machine: &str) -> BTreeMap<&'a str, &'a Unit> {
    let Some(itself) = snapshot.machines.get(machine) else { return BTreeMap::new() };
    let mut found: BTreeMap<&str, &Unit> = snapshot
        .units
        .iter()
        .filter(|(_, unit)| unit.is_to_place() && unit.target.as_deref() == Some(machine))
        .map(|(name, unit)| (name.as_str(), unit))
        .collect();
    for (name, unit) in snapshot.units.iter().filter(|(_, unit)| unit.is_global()) {
        if suits(unit, itself).is_none() && conflict(name, unit, &found).is_none() {
            found.insert(name, unit);
        }
    }
    found
}
