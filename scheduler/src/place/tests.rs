use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::name;
use crate::requirements::Requirements;
use crate::snapshot::TargetState;
use crate::unit_file::{Hash, UnitFile};

/// A unit that is to run, with lines of `[X-Fleet]`.
pub fn unit(name: &str, section: &str) -> Unit {
    let file = UnitFile::parse(&format!("[X-Fleet]\n{section}\n")).unwrap();
    let (requirements, _) = Requirements::of(&name::check(name).unwrap(), &file);
    Unit {
        hash: Hash::default(),
        requirements: Arc::new(requirements),
        wanted: TargetState::Launched,
        target: None,
        launched_on: None,
    }
}

fn cluster(machines: &[&str], units: &[(&str, &str)]) -> Snapshot {
    Snapshot {
        machines: machines.iter().map(|&id| (id.to_owned(), Machine::default())).collect(),
        units: units.iter().map(|(name, section)| ((*name).to_owned(), unit(name, section))).collect(),
        awaited: BTreeMap::new(),
    }
}

/// What etcd holds afterwards; agents have done what they are to do.
fn apply(snapshot: &mut Snapshot, decisions: &Decisions) {
    for task in &decisions.tasks {
        let unit = snapshot.units.get_mut(task.unit()).unwrap();
        unit.target = match task {
            Task::Schedule { machine, .. } => Some(machine.clone()),
            Task::Unschedule { .. } => None,
        };
        unit.launched_on = unit.target.clone();
    }
}

/// Until nothing is left to do.
fn settle(snapshot: &mut Snapshot) -> Decisions {
    for _ in 0..6 {
        let decisions = place(snapshot);
        if decisions.tasks.is_empty() {
            return decisions;
        }
        apply(snapshot, &decisions);
    }
    panic!("it goes round in circles: {:#?}", place(snapshot));
}

fn at<'a>(snapshot: &'a Snapshot, unit: &str) -> Option<&'a str> {
    snapshot.units[unit].target.as_deref()
}

fn told(decisions: &Decisions, unit: &str) -> String {
    decisions.unplaced[unit].to_string()
}

/// Complaint 4, as far as it is in reach: a machine that joins gets what comes next, until it has as much as the others; nothing moves
/// by itself, but what a drain moves goes there. Loads of processors and memory do not count.
#[test]
fn a_machine_that_joins_gets_what_comes_next() {
    let mut all = cluster(&["m1", "m2"], &[("a.service", ""), ("b.service", ""), ("c.service", "")]);
    settle(&mut all);
    all.machines.insert("m3".to_owned(), Machine::default());
    assert_eq!(place(&all), Decisions::default());
    all.units.insert("d.service".to_owned(), unit("d.service", ""));
    settle(&mut all);
    assert_eq!(at(&all, "d.service"), Some("m3"));
    all.machines.get_mut("m1").unwrap().drains = true;
    settle(&mut all);
    let mut loads = ["m2", "m3"].map(|id| residents(&all, id).len());
    loads.sort_unstable();
    assert_eq!((loads, residents(&all, "m1").len()), ([2, 2], 0));
}

#[test]
fn the_machine_with_the_fewest_units_comes_first_and_the_lower_id_among_equals() {
    let mut all = cluster(
        &["m1", "m2", "m3"],
        &[("a.service", ""), ("b.service", ""), ("c.service", ""), ("d.service", "")],
    );
    settle(&mut all);
    let places: Vec<_> =
        ["a", "b", "c", "d"].iter().map(|name| at(&all, &format!("{name}.service")).unwrap()).collect();
    assert_eq!(places, ["m1", "m2", "m3", "m1"]);
    // A machine more changes nothing.
    all.machines.insert("m0".to_owned(), Machine::default());
    assert_eq!(place(&all), Decisions::default());
}

/// Scenario 21, ScheduleConflicts: of five that do not bear each other, three run on three machines.
#[test]
fn schedule_conflicts() {
    let names: Vec<String> = (0..5).map(|number| format!("conflict.{number}.service")).collect();
    let units: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "Conflicts=conflict.*.service")).collect();
    let mut all = cluster(&["m1", "m2", "m3"], &units);
    let decisions = settle(&mut all);
    let machines: BTreeSet<_> = all.units.values().filter_map(|unit| unit.target.clone()).collect();
    assert_eq!(machines.len(), 3);
    assert_eq!(decisions.unplaced.len(), 2);
    assert_eq!(
        told(&decisions, "conflict.4.service"),
        "m1: conflict.0.service is there, and this unit has Conflicts=conflict.*.service; \
         m2: conflict.1.service is there, and this unit has Conflicts=conflict.*.service; \
         m3: conflict.2.service is there, and this unit has Conflicts=conflict.*.service"
    );
}

/// Scenario 22, ScheduleOneWayConflict: the pattern of the one that is there keeps another out, until it is destroyed.
#[test]
fn schedule_one_way_conflict() {
    let mut all = cluster(&["m1"], &[("a.service", "Conflicts=b.service")]);
    settle(&mut all);
    all.units.insert("b.service".to_owned(), unit("b.service", ""));
    let decisions = settle(&mut all);
    assert_eq!(
        told(&decisions, "b.service"),
        "m1: a.service is there, and a.service has Conflicts=b.service"
    );
    all.units.remove("a.service");
    settle(&mut all);
    assert_eq!(at(&all, "b.service"), Some("m1"));
}

/// Scenario 23, ScheduleMultipleConflicts: several patterns in one line, and in several lines.
#[test]
fn schedule_multiple_conflicts() {
    for section in ["Conflicts=a.service b.service", "Conflicts=a.service\nConflicts=b.service"] {
        let mut all = cluster(&["m1", "m2"], &[("a.service", ""), ("b.service", ""), ("c.service", section)]);
        let decisions = settle(&mut all);
        assert!(decisions.unplaced.contains_key("c.service"), "{section}");
        all.machines.insert("m3".to_owned(), Machine::default());
        settle(&mut all);
        assert_eq!(at(&all, "c.service"), Some("m3"));
    }
}

/// Scenario 20, ScheduleMachineOf: pairs stay together, also when their machine goes.
#[test]
fn schedule_machine_of() {
    let pairs: Vec<(String, String)> =
        (0..3).map(|number| (format!("ping.{number}.service"), format!("pong.{number}.service"))).collect();
    let sections: Vec<String> = pairs.iter().map(|(ping, _)| format!("MachineOf={ping}")).collect();
    let mut units: Vec<(&str, &str)> = Vec::new();
    for ((ping, pong), section) in pairs.iter().zip(&sections) {
        units.extend([(ping.as_str(), ""), (pong.as_str(), section.as_str())]);
    }
    let mut all = cluster(&["m1", "m2", "m3"], &units);
    let together = |all: &Snapshot| {
        pairs.iter().all(|(ping, pong)| at(all, ping).is_some() && at(all, ping) == at(all, pong))
    };
    settle(&mut all);
    assert!(together(&all), "{all:#?}");
    let before = all.clone();
    let lost = at(&all, "ping.1.service").unwrap().to_owned();
    all.machines.remove(&lost);
    settle(&mut all);
    assert!(together(&all), "{all:#?}");
    for (name, old) in &before.units {
        let moved = all.units[name].target != old.target;
        assert_eq!(moved, old.target.as_deref() == Some(&lost), "{name}");
    }
}

#[test]
fn a_follower_moves_with_its_peer_and_says_what_it_waits_for() {
    let mut all = cluster(&["m1", "m2"], &[("z.service", ""), ("a.service", "MachineOf=z.service")]);
    let mut alone = all.clone();
    settle(&mut all);
    assert_eq!(at(&all, "a.service"), at(&all, "z.service"));
    alone.units.get_mut("z.service").unwrap().wanted = TargetState::Inactive;
    let decisions = settle(&mut alone);
    assert_eq!(
        told(&decisions, "a.service"),
        "m1: MachineOf=z.service is not scheduled; m2: MachineOf=z.service is not scheduled"
    );
    let mut circle =
        cluster(&["m1"], &[("a.service", "MachineOf=b.service"), ("b.service", "MachineOf=a.service")]);
    let decisions = settle(&mut circle);
    assert_eq!(told(&decisions, "a.service"), "MachineOf= goes round in a circle: a.service, b.service");
}

#[test]
fn a_follower_of_a_global_unit_goes_where_that_one_is() {
    let mut all = cluster(
        &["m1", "m2"],
        &[("g.service", "Global=true\nMachineMetadata=disk=ssd"), ("f.service", "MachineOf=g.service")],
    );
    all.machines.get_mut("m2").unwrap().metadata.insert("disk".to_owned(), "ssd".to_owned());
    settle(&mut all);
    assert_eq!(at(&all, "f.service"), Some("m2"));
    assert_eq!(at(&all, "g.service"), None);
    assert_eq!(residents(&all, "m2").len(), 2);
    assert!(residents(&all, "m1").is_empty());
}

/// Scenario 24, ScheduleReplace: the one that is replaced goes to another machine.
#[test]
fn schedule_replace() {
    let mut all = cluster(&["m1"], &[("old.service", "")]);
    settle(&mut all);
    all.units.insert("new.service".to_owned(), unit("new.service", "Replaces=old.service"));
    settle(&mut all);
    // There is no other machine: nothing happens.
    assert_eq!((at(&all, "old.service"), at(&all, "new.service")), (Some("m1"), Some("m1")));
    all.machines.insert("m2".to_owned(), Machine::default());
    let first = place(&all);
    let why = Departure::Replaced("new.service".to_owned());
    assert_eq!(first.tasks, [Task::Unschedule { unit: "old.service".into(), machine: "m1".into(), why }]);
    settle(&mut all);
    assert_eq!((at(&all, "old.service"), at(&all, "new.service")), (Some("m2"), Some("m1")));
}

/// Scenario 25, ScheduleCircularReplace: of two that replace each other, one runs on a machine; they do not push each other
/// about.
#[test]
fn schedule_circular_replace() {
    let units = [("r.0.service", "Replaces=r.1.service"), ("r.1.service", "Replaces=r.0.service")];
    let mut all = cluster(&["m1"], &units);
    let decisions = settle(&mut all);
    assert_eq!(at(&all, "r.0.service"), Some("m1"));
    assert_eq!(
        told(&decisions, "r.1.service"),
        "m1: r.0.service is there, and by Replaces= each would push the other away"
    );
}

/// The same in a larger circle: with fewer machines than units somebody has to wait, and nobody is pushed about for ever.
#[test]
fn units_that_push_each_other_round_in_a_circle_are_kept_apart() {
    let units = [
        ("a.service", "Replaces=b.service"),
        ("b.service", "Replaces=c.service"),
        ("c.service", "Replaces=a.service"),
    ];
    let mut all = cluster(&["m1", "m2"], &units);
    let decisions = settle(&mut all);
    assert_eq!((at(&all, "a.service"), at(&all, "b.service")), (Some("m1"), Some("m2")));
    let why = told(&decisions, "c.service");
    assert_eq!(why.matches("by Replaces= each would push the other away").count(), 2, "{why}");
    all.machines.insert("m3".to_owned(), Machine::default());
    settle(&mut all);
    assert_eq!(at(&all, "c.service"), Some("m3"));
}

/// Scenario 26, ScheduleConditionMachineID: each unit on its machine, by the whole id or its first eight characters.
#[test]
fn schedule_condition_machine_id() {
    let machines = ["aaaaaaaa1111", "bbbbbbbb2222"];
    let units = [
        ("a.service", "MachineID=bbbbbbbb2222"),
        ("b.service", "X-ConditionMachineID=aaaaaaaa"),
        ("c.service", "MachineID=cc"),
    ];
    let mut all = cluster(&machines, &units);
    let decisions = settle(&mut all);
    assert_eq!((at(&all, "a.service"), at(&all, "b.service")), (Some("bbbbbbbb2222"), Some("aaaaaaaa1111")));
    assert_eq!(
        told(&decisions, "c.service"),
        "aaaaaaaa: MachineID=cc is another machine; bbbbbbbb: MachineID=cc is another machine"
    );
}

/// Scenario 19, TemplatesWithSpecifiersInMetadata: each instance lands on the machine that its name says.
#[test]
fn templates_with_specifiers_in_metadata() {
    let section = "MachineMetadata=hostname=%i";
    let mut all = cluster(
        &["m1", "m2"],
        &[("x@one.service", section), ("x@two.service", section), ("x@six.service", section)],
    );
    for (id, host) in [("m1", "two"), ("m2", "one")] {
        all.machines.get_mut(id).unwrap().metadata.insert("hostname".to_owned(), host.to_owned());
    }
    let decisions = settle(&mut all);
    assert_eq!((at(&all, "x@one.service"), at(&all, "x@two.service")), (Some("m2"), Some("m1")));
    assert_eq!(
        told(&decisions, "x@six.service"),
        "m1: metadata hostname is two, not six; m2: metadata hostname is one, not six"
    );
}

/// Scenario 28, ScheduleGlobalConflicts: of two global units that do not bear each other, the second runs nowhere.
#[test]
fn schedule_global_conflicts() {
    let mut all = cluster(
        &["m1", "m2"],
        &[("g0.service", "Global=true"), ("g1.service", "Global=true\nConflicts=g0.service")],
    );
    assert_eq!(settle(&mut all), Decisions::default());
    for id in ["m1", "m2"] {
        assert_eq!(residents(&all, id).into_keys().collect::<Vec<_>>(), ["g0.service"]);
    }
}

/// Scenario 27, ScheduleGlobalUnits, as far as it is a decision: on all machines, beside others.
#[test]
fn schedule_global_units() {
    let mut all = cluster(&["m1", "m2", "m3"], &[("a.service", ""), ("g.service", "Global=true")]);
    settle(&mut all);
    assert!(["m1", "m2", "m3"].iter().all(|id| residents(&all, id).contains_key("g.service")));
    assert_eq!((at(&all, "a.service"), at(&all, "g.service")), (Some("m1"), None));
}

/// Scenario 6, DynamicClusterNewMemberUnitMigration: a machine goes, and nothing but its unit moves.
#[test]
fn only_the_units_of_a_lost_machine_move() {
    let units = [
        ("c.0.service", "Conflicts=c.*"),
        ("c.1.service", "Conflicts=c.*"),
        ("c.2.service", "Conflicts=c.*"),
    ];
    let mut all = cluster(&["m1", "m2", "m3", "m4"], &units);
    settle(&mut all);
    let lost = all.machines.remove("m2").unwrap();
    all.awaited.insert("m2".to_owned(), lost);
    assert_eq!(place(&all), Decisions::default(), "it may come back");
    all.awaited.clear();
    let decisions = place(&all);
    let from = Some(("m2".to_owned(), Departure::MachineLost));
    assert_eq!(decisions.tasks, [Task::Schedule { unit: "c.1.service".into(), machine: "m4".into(), from }]);
}

#[test]
fn a_machine_that_drains_gives_away_what_others_take_and_keeps_the_rest() {
    let units = [
        ("a.service", ""),
        ("b.service", "MachineID=m1"),
        ("f.service", "MachineOf=a.service"),
        ("g.service", "Global=true"),
    ];
    let mut all = cluster(&["m1", "m2"], &units);
    settle(&mut all);
    assert_eq!(at(&all, "a.service"), Some("m1"));
    all.machines.get_mut("m1").unwrap().drains = true;
    let first = place(&all);
    assert!(first.tasks.contains(&Task::Unschedule {
        unit: "a.service".into(),
        machine: "m1".into(),
        why: Departure::Drains
    }));
    settle(&mut all);
    let places = ["a.service", "b.service", "f.service"].map(|name| at(&all, name));
    assert_eq!(places, [Some("m2"), Some("m1"), Some("m2")]);
    assert!(residents(&all, "m1").contains_key("g.service"));
    all.units.insert("n.service".to_owned(), unit("n.service", "MachineID=m1"));
    assert_eq!(told(&settle(&mut all), "n.service"), "m1: it drains; m2: MachineID=m1 is another machine");
}

#[test]
fn the_next_machine_waits_until_the_last_one_has_stopped_it() {
    let mut all = cluster(&["m1", "m2"], &[("a.service", "MachineMetadata=x=1")]);
    all.machines.get_mut("m2").unwrap().metadata.insert("x".to_owned(), "1".to_owned());
    all.units.get_mut("a.service").unwrap().launched_on = Some("m1".to_owned());
    let waits = place(&all);
    assert!(waits.tasks.is_empty());
    assert_eq!(told(&waits, "a.service"), "it still stops on m1");
    // One that is gone stops nothing any more.
    all.machines.remove("m1");
    assert_eq!(place(&all).tasks.len(), 1);
    assert_eq!(told(&place(&cluster(&[], &[("a.service", "")])), "a.service"), "there are no machines");
}

/// 100 machines and 2,000 units from cold, conflicts and peers among them.
#[test]
fn a_large_cluster_is_placed_in_one_pass() {
    let machines: Vec<String> = (0..100).map(|number| format!("{number:032x}")).collect();
    let ids: Vec<&str> = machines.iter().map(String::as_str).collect();
    let mut all = cluster(&ids, &[]);
    for number in 0..500 {
        for (kind, section) in [
            ("plain", String::new()),
            ("spread", format!("Conflicts=spread-{}-*", number % 10)),
            ("peer", "MachineOf=plain-%i".replace("%i", &format!("{}-{number}.service", number % 10))),
            ("meta", format!("MachineMetadata=rack=r{}", number % 5)),
        ] {
            let name = format!("{kind}-{}-{number}.service", number % 10);
            all.units.insert(name.clone(), unit(&name, &section));
        }
    }
    for (number, machine) in all.machines.values_mut().enumerate() {
        machine.metadata.insert("rack".to_owned(), format!("r{}", number % 5));
    }
    let begun = std::time::Instant::now();
    let decisions = place(&all);
    let took = begun.elapsed();
    assert_eq!(decisions.tasks.len(), 2000);
    assert!(decisions.unplaced.is_empty());
    apply(&mut all, &decisions);
    let begun = std::time::Instant::now();
    assert_eq!(place(&all), Decisions::default());
    println!(
        "100 machines, 2000 units: placed from cold in {took:?}; a pass with nothing to do {:?}",
        begun.elapsed()
    );
    let loads: Vec<usize> = ids.iter().map(|id| residents(&all, id).len()).collect();
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    assert!(most - least <= 4, "{loads:?}");
}

fn sections() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        2 => (0_u8..4).prop_map(|number| format!("Conflicts=u{number}@*")),
        1 => Just("Conflicts=u1@?.service u2@*".to_owned()),
        2 => (0_u8..8).prop_map(|number| format!("MachineOf=u{}@{}.service", number % 4, number % 2)),
        1 => (0_u8..3).prop_map(|number| format!("MachineMetadata=rack={number}")),
        1 => (0_u8..4).prop_map(|number| format!("MachineID=m{number}")),
        1 => Just("Global=true".to_owned()),
        1 => (0_u8..4).prop_map(|number| format!("Global=true\nConflicts=u{number}@*")),
        1 => (0_u8..4).prop_map(|number| format!("Replaces=u{number}@*")),
    ]
}

prop_compose! {
    fn snapshots()(
        machines in proptest::collection::btree_map("m[0-4]", (0_u8..3, proptest::bool::weighted(0.2)), 0..5),
        units in proptest::collection::btree_map("u[0-3]@[0-2]\\.service", (sections(), 0_u8..3), 0..12),
    ) -> Snapshot {
        let machines = machines.into_iter().map(|(id, (rack, drains))| {
            let metadata = BTreeMap::from([("rack".to_owned(), rack.to_string())]);
            (id, Machine { metadata, drains })
        });
        let units = units.into_iter().map(|(name, (section, state))| {
            let mut made = unit(&name, &section);
            made.wanted = [TargetState::Launched, TargetState::Loaded, TargetState::Inactive][usize::from(state)];
            (name, made)
        });
        Snapshot { machines: machines.collect(), units: units.collect(), awaited: BTreeMap::new() }
    }
}

fn check_conflicts(snapshot: &Snapshot) -> Result<(), TestCaseError> {
    for id in snapshot.machines.keys() {
        let here = residents(snapshot, id);
        for (name, unit) in &here {
            prop_assert_eq!(conflict(name, unit, &here), None, "{} on {}", name, id);
            for peer in &unit.requirements.machine_of {
                prop_assert!(here.contains_key(peer.as_str()), "{} without {} on {}", name, peer, id);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever happens to a cluster, decisions keep the rules after each pass, come to an end, and say of each unit where it is or
    /// why it is nowhere.
    #[test]
    fn placement_keeps_its_rules(first in snapshots(), second in snapshots()) {
        let mut all = first;
        settle(&mut all);
        check_conflicts(&all)?;
        // Units come, go and change, machines as well; what was given stays given.
        all.machines = second.machines;
        for (name, mut unit) in second.units {
            if let Some(old) = all.units.get(&name) {
                unit.target.clone_from(&old.target);
                unit.launched_on.clone_from(&old.launched_on);
            }
            all.units.insert(name, unit);
        }
        for _ in 0..6 {
            let decisions = place(&all);
            let names: BTreeSet<&str> = decisions.tasks.iter().map(Task::unit).collect();
            prop_assert_eq!(names.len(), decisions.tasks.len(), "two tasks for one unit");
            for task in &decisions.tasks {
                if let Task::Schedule { machine, .. } = task {
                    prop_assert!(all.machines.get(machine).is_some_and(|machine| !machine.drains));
                }
            }
            apply(&mut all, &decisions);
            check_conflicts(&all)?;
            for (name, unit) in all.units.iter().filter(|(_, unit)| unit.is_to_place()) {
                let (placed, unplaced) = (unit.target.is_some(), decisions.unplaced.get(name));
                prop_assert!(placed != unplaced.is_some(), "{}: {:?}, {:?}", name, unit.target, unplaced);
                if let Some(Unplaced::Refused(refusals)) = unplaced {
                    prop_assert!(refusals.iter().map(|(id, _)| id).eq(all.machines.keys()));
                }
            }
        }
        prop_assert_eq!(place(&all).tasks, vec![]);
    }

    /// What runs where it may is not moved because machines come, or because others go.
    #[test]
    fn nothing_moves_without_need(first in snapshots(), lost in 0_usize..5) {
        let mut all = first;
        settle(&mut all);
        let before = all.clone();
        all.machines.insert("m9".to_owned(), Machine::default());
        for task in place(&all).tasks {
            let old = &before.units[task.unit()];
            // A machine that drains, or a unit that pushes, has waited for it.
            let is_pushed = before.units.values().any(|other| other.requirements.replaces(task.unit()));
            let freed = old.target.as_ref().is_none_or(|id| before.machines[id].drains || is_pushed);
            prop_assert!(freed, "{:?}", task);
        }
        let Some(lost) = before.machines.keys().nth(lost).cloned() else { return Ok(()) };
        let mut all = before.clone();
        all.machines.remove(&lost);
        for task in place(&all).tasks {
            let old = &before.units[task.unit()];
            let is_pushed = before.units.values().any(|other| other.requirements.replaces(task.unit()));
            prop_assert!(old.target.as_ref().is_none_or(|target| *target == lost) || is_pushed, "{:?}", task);
        }
    }
}
