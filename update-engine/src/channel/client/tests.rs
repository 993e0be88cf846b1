//! Attacks on the metadata, each by its name, and what must work in spite of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::channel::key::PrivateKey;
use crate::channel::metadata::Role;
use crate::channel::release::tests::release;
use crate::channel::sign::{self, Edition, Lifetimes, Renewal};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; 32])
}

fn date(unix: u64) -> Date {
    Date::from_unix(unix).unwrap()
}

fn clock() -> Clock {
    Clock { unix_seconds: NOW, synchronised: true, floor: NOW - 100 * DAY }
}

/// The keys of the lab: two for root and targets each (both must sign), one for the others.
const ROOT: [u8; 2] = [1, 2];
const TARGETS: [u8; 2] = [3, 4];
const SNAPSHOT: u8 = 5;
const TIMESTAMP: u8 = 6;

/// A root under another version.
fn numbered(root: &Root, version: u64) -> Root {
    let mut root = root.clone();
    root.version = version;
    root
}

/// A publisher with all keys, and the server that has its files.
#[derive(Clone)]
struct Lab {
    root: Root,
    edition: Edition,
    files: BTreeMap<String, Vec<u8>>,
    seeds: Vec<u8>,
}

impl Lab {
    fn new() -> Self {
        let seeds: Vec<u8> = (1..=20).collect();
        let mut root = Root::new(date(NOW + 365 * DAY));
        root.set_role(Role::Root, &ROOT.map(|seed| key(seed).public()), 2);
        root.set_role(Role::Targets, &TARGETS.map(|seed| key(seed).public()), 2);
        root.set_role(Role::Snapshot, &[key(SNAPSHOT).public()], 1);
        root.set_role(Role::Timestamp, &[key(TIMESTAMP).public()], 1);
        let keys: Vec<_> = seeds.iter().map(|seed| key(*seed)).collect();
        let (edition, files) =
            Edition::first(&root, date(NOW - 10 * DAY), &Lifetimes::default(), &keys).unwrap();
        let mut lab = Self { root: root.clone(), edition, files: BTreeMap::new(), seeds };
        lab.put(files);
        let mut envelope = Envelope::new(&root).unwrap();
        sign::add_root_signatures(&mut envelope, &root, None, &keys);
        lab.files.insert("1.root.json".to_owned(), envelope.to_bytes());
        lab
    }

    fn with(versions: &[&str]) -> Self {
        let mut lab = Self::new();
        lab.publish(versions);
        lab
    }

    fn put(&mut self, files: Vec<sign::File>) {
        self.files.extend(files.into_iter().map(|file| (file.name, file.bytes)));
    }

    fn keys(&self) -> Vec<PrivateKey> {
        self.seeds.iter().map(|seed| key(*seed)).collect()
    }

    fn renew(&mut self, renewal: Renewal, now: u64) {
        let keys = self.keys();
        let (edition, files) =
            self.edition.next(renewal, &self.root, date(now), &Lifetimes::default(), &keys).unwrap();
        self.edition = edition;
        self.put(files);
    }

    /// A new edition with these releases beside what is there.
    fn publish(&mut self, versions: &[&str]) {
        for version in versions {
            assert!(release(version).put(&mut self.edition.targets));
        }
        self.renew(Renewal::Targets, NOW - DAY);
    }

    /// The next root, signed by old and new keys.
    fn rotate(&mut self, change: impl FnOnce(&mut Root)) {
        let before = self.root.clone();
        self.root.version += 1;
        change(&mut self.root);
        let mut envelope = Envelope::new(&self.root).unwrap();
        sign::add_root_signatures(&mut envelope, &self.root, Some(&before), &self.keys());
        sign::root_is_signed(&envelope, &self.root, Some(&before)).unwrap();
        self.files.insert(format!("{}.root.json", self.root.version), envelope.to_bytes());
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(self.files["1.root.json"].clone())
    }

    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.get_mut(name).unwrap()
    }

    /// Signs something in place of a file.
    fn forge(&mut self, name: &str, value: &impl serde::Serialize, seeds: &[u8]) {
        let mut envelope = Envelope::new(value).unwrap();
        seeds.iter().for_each(|seed| envelope.sign(&key(*seed)));
        self.files.insert(name.to_owned(), envelope.to_bytes());
    }
}

/// What an update came to: what is trusted afterwards, the result, and what was asked for.
struct Outcome {
    trusted: Trusted,
    result: Result<Verified, ClientError>,
    asked: Vec<String>,
}

impl Outcome {
    fn versions(&self) -> Vec<&str> {
        let verified = self.result.as_ref().unwrap_or_else(|error| panic!("{error}: {:?}", error.reason));
        verified.releases.iter().map(|release| release.version.as_str()).collect()
    }

    /// What was refused, and the kind of refusal.
    fn refused(&self) -> (&str, &'static str) {
        let error = self.result.as_ref().expect_err("it was accepted");
        (&error.name, error.kind())
    }
}

fn update_with(files: &BTreeMap<String, Vec<u8>>, trusted: Trusted, clock: Clock, limits: Limits) -> Outcome {
    let mut asked = Vec::new();
    let (mut client, mut progress) = match Client::start(trusted.clone(), clock, limits) {
        Ok(started) => started,
        Err(error) => return Outcome { trusted, result: Err(error), asked },
    };
    let mut kept = trusted;
    let result = loop {
        let Some(request) = progress.request else { break client.finish() };
        let name = request.path.strip_prefix("metadata/").unwrap().to_owned();
        let answer = files.get(&name).map_or(Answer::Missing, |bytes| Answer::File(bytes));
        asked.push(name);
        match client.feed(answer) {
            Ok(next) => {
                assert_eq!(next.changed, kept != *client.trusted(), "what changed must be stored");
                kept = client.trusted().clone();
                progress = next;
            }
            Err(error) => {
                assert!(client.feed(Answer::Missing).is_err(), "a refused update is over");
                break Err(error);
            }
        }
    };
    Outcome { trusted: kept, result, asked }
}

fn update(lab: &Lab, trusted: Trusted) -> Outcome {
    update_with(&lab.files, trusted, clock(), Limits::default())
}

#[test]
fn a_new_machine_learns_what_the_publisher_signed() {
    let lab = Lab::with(&["1.0.0", "1.1.0"]);
    let outcome = update(&lab, lab.trusted());
    assert_eq!(outcome.versions(), ["1.0.0", "1.1.0"]);
    assert_eq!(outcome.asked, ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]);
    let verified = outcome.result.unwrap();
    let versions = Versions { root: 1, timestamp: 2, snapshot: 2, targets: 2 };
    assert_eq!((verified.versions, verified.clock_synchronised), (versions, true));
    assert_eq!(verified.expires, date(NOW + 6 * DAY), "the timestamp expires first");
    assert_eq!(verified.floor, NOW - DAY, "the clock is never earlier than the newest timestamp");
}

#[test]
fn what_has_not_changed_is_not_fetched_again() {
    let mut lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    let again = update(&lab, kept.clone());
    assert_eq!(
        (again.versions(), again.asked.as_slice()),
        (vec!["1.0.0"], &["2.root.json", "timestamp.json"].map(str::to_owned)[..])
    );
    assert_eq!(again.trusted, kept);
    lab.renew(Renewal::Timestamp, NOW);
    let refreshed = update(&lab, kept);
    assert_eq!(refreshed.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(refreshed.result.as_ref().unwrap().versions.timestamp, 3);
    lab.renew(Renewal::Snapshot, NOW);
    let asked = update(&lab, refreshed.trusted).asked;
    assert_eq!(asked, ["2.root.json", "timestamp.json", "3.snapshot.json"]);
}

#[test]
fn an_interrupted_update_is_finished_by_the_next_one() {
    let mut lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    lab.publish(&["1.1.0"]);
    for missing in ["timestamp.json", "3.snapshot.json", "3.targets.json"] {
        let mut files = lab.files.clone();
        files.remove(missing);
        let outcome = update_with(&files, kept.clone(), clock(), Limits::default());
        assert_eq!(outcome.refused(), (missing, "missing"));
        assert_eq!(update(&lab, outcome.trusted).versions(), ["1.0.0", "1.1.0"], "after {missing}");
    }
}

#[test]
fn damaged_kept_metadata_costs_a_fetch() {
    let lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    for damage in [b"" as &[u8], b"{}", b"\xff\xff"] {
        let damaged = Trusted {
            root: kept.root.clone(),
            timestamp: Some(damage.to_vec()),
            snapshot: Some(damage.to_vec()),
            targets: Some(damage.to_vec()),
        };
        let outcome = update(&lab, damaged);
        assert_eq!(outcome.versions(), ["1.0.0"]);
        assert_eq!(outcome.trusted, kept);
    }
}

#[test]
fn expired_metadata_is_refused_role_by_role() {
    // Timestamp 7 days, snapshot and targets 90 days, root 365 days.
    let lab = Lab::with(&["1.0.0"]);
    let at = |lab: &Lab, unix_seconds: u64| {
        let clock = Clock { unix_seconds, ..clock() };
        update_with(&lab.files, lab.trusted(), clock, Limits::default())
    };
    assert_eq!(at(&lab, NOW + 6 * DAY - 1).versions(), ["1.0.0"]);
    assert_eq!(at(&lab, NOW + 6 * DAY).refused(), ("timestamp", "expired"));
    let mut lab = lab;
    lab.renew(Renewal::Timestamp, NOW + 89 * DAY);
    assert_eq!(at(&lab, NOW + 90 * DAY).refused(), ("snapshot", "expired"));
    lab.renew(Renewal::Snapshot, NOW + 89 * DAY);
    assert_eq!(at(&lab, NOW + 90 * DAY).refused(), ("targets", "expired"));
    lab.renew(Renewal::Targets, NOW + 364 * DAY);
    assert_eq!(at(&lab, NOW + 365 * DAY).refused(), ("root", "expired"));
}

#[test]
fn expiry_is_final_only_by_a_clock_that_is_known() {
    // SAFETY 25.
    let lab = Lab::with(&["1.0.0"]);
    let expired = NOW + 7 * DAY;
    let cases = [
        // The clock was never set and runs ahead.
        (Clock { unix_seconds: expired, synchronised: false, floor: NOW }, "expired-by-unset-clock", false),
        (Clock { unix_seconds: expired, synchronised: true, floor: NOW }, "expired", true),
        // It stands in 1970, but the machine has seen later metadata.
        (Clock { unix_seconds: 0, synchronised: false, floor: expired }, "expired", true),
    ];
    for (clock, kind, is_final) in cases {
        let outcome = update_with(&lab.files, lab.trusted(), clock, Limits::default());
        assert_eq!(outcome.refused(), ("timestamp", kind));
        assert_eq!(outcome.result.unwrap_err().is_final(), is_final, "{clock:?}");
    }
    let unset = Clock { unix_seconds: 0, synchronised: false, floor: NOW };
    let verified = update_with(&lab.files, lab.trusted(), unset, Limits::default()).result.unwrap();
    assert!(!verified.clock_synchronised);
}

#[test]
fn an_implausible_future_never_becomes_the_floor() {
    // SAFETY 25.
    let set = clock();
    assert_eq!(set.raised_floor(NOW - DAY), NOW - DAY);
    assert_eq!(set.raised_floor(NOW + 1), set.floor, "beyond a synchronised clock");
    assert_eq!(set.raised_floor(5), set.floor, "never down");
    let unset = Clock { unix_seconds: 0, synchronised: false, floor: NOW };
    assert_eq!(unset.raised_floor(NOW + 300 * DAY), NOW + 300 * DAY);
    assert_eq!(unset.raised_floor(NOW + 20 * 365 * DAY), NOW);
}

#[test]
fn a_replayed_timestamp_is_refused() {
    let mut lab = Lab::with(&["1.0.0"]);
    let old = lab.files["timestamp.json"].clone();
    lab.publish(&["1.1.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    *lab.file("timestamp.json") = old;
    let outcome = update(&lab, kept.clone());
    assert_eq!(outcome.refused(), ("timestamp.json", "rolled-back"));
    assert_eq!(outcome.trusted, kept);
}

#[test]
fn a_newer_timestamp_that_lists_an_older_snapshot_is_refused() {
    let mut lab = Lab::with(&["1.0.0"]);
    let old = lab.edition.clone();
    lab.publish(&["1.1.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    let timestamp = Timestamp::new(9, date(NOW), date(NOW + DAY), old.timestamp.snapshot().unwrap().clone());
    lab.forge("timestamp.json", &timestamp, &[TIMESTAMP]);
    assert_eq!(update(&lab, kept).refused(), ("snapshot in timestamp.json", "rolled-back"));
}

#[test]
fn a_newer_snapshot_that_lists_older_targets_or_none_is_refused() {
    let mut lab = Lab::with(&["1.0.0"]);
    lab.publish(&["1.1.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    let listed = |version| MetaFile { version, length: None, hashes: None };
    let mut snapshots = [2, 3].map(|version| Snapshot::new(9, date(NOW + DAY), listed(version)));
    snapshots[1].meta.insert("other.json".to_owned(), listed(7));
    let timestamp = Timestamp::new(9, date(NOW), date(NOW + DAY), listed(9));
    lab.forge("timestamp.json", &timestamp, &[TIMESTAMP]);
    lab.forge("9.snapshot.json", &snapshots[0], &[SNAPSHOT]);
    assert_eq!(update(&lab, kept.clone()).refused(), ("targets.json in 9.snapshot.json", "rolled-back"));
    // A delegated file that is listed no more.
    lab.forge("9.snapshot.json", &snapshots[1], &[SNAPSHOT]);
    let kept = update(&lab, kept).trusted;
    let timestamp = Timestamp::new(10, date(NOW), date(NOW + DAY), listed(10));
    lab.forge("timestamp.json", &timestamp, &[TIMESTAMP]);
    lab.forge("10.snapshot.json", &Snapshot::new(10, date(NOW + DAY), listed(3)), &[SNAPSHOT]);
    assert_eq!(update(&lab, kept).refused(), ("other.json in 10.snapshot.json", "rolled-back"));
}

#[test]
fn files_of_different_moments_do_not_mix() {
    let mut lab = Lab::with(&["1.0.0"]);
    let old = lab.files.clone();
    lab.publish(&["1.1.0"]);
    for (name, old_name) in [("3.snapshot.json", "2.snapshot.json"), ("3.targets.json", "2.targets.json")] {
        let mut mixed = lab.files.clone();
        mixed.insert(name.to_owned(), old[old_name].clone());
        let outcome = update_with(&mixed, lab.trusted(), clock(), Limits::default());
        assert!(["length", "hash"].contains(&outcome.refused().1), "{:?}", outcome.refused());
    }
    // Where the lists have no hashes, versions must fit.
    let listed = |version| MetaFile { version, length: None, hashes: None };
    lab.forge("timestamp.json", &Timestamp::new(9, date(NOW), date(NOW + DAY), listed(9)), &[TIMESTAMP]);
    lab.forge("9.snapshot.json", &Snapshot::new(8, date(NOW + DAY), listed(3)), &[SNAPSHOT]);
    assert_eq!(update(&lab, lab.trusted()).refused(), ("9.snapshot.json", "version"));
    lab.forge("9.snapshot.json", &Snapshot::new(9, date(NOW + DAY), listed(7)), &[SNAPSHOT]);
    let targets = lab.files["3.targets.json"].clone();
    lab.files.insert("7.targets.json".to_owned(), targets);
    assert_eq!(update(&lab, lab.trusted()).refused(), ("7.targets.json", "version"));
}

#[test]
fn a_threshold_is_met_by_that_many_different_keys_of_the_role_alone() {
    let fresh = Lab::with(&["1.0.0"]);
    let listed = |version| MetaFile { version, length: None, hashes: None };
    for (seeds, accepted) in [
        (&[3, 4][..], true),
        (&[3, 4, 9], true),
        (&[3], false),
        // Valid signatures by keys of other roles, and of nobody.
        (&[3, SNAPSHOT], false),
        (&[3, 9], false),
        (&[1, 2], false),
        (&[], false),
    ] {
        let mut lab = fresh.clone();
        lab.forge("timestamp.json", &Timestamp::new(9, date(NOW), date(NOW + DAY), listed(9)), &[TIMESTAMP]);
        lab.forge("9.snapshot.json", &Snapshot::new(9, date(NOW + DAY), listed(9)), &[SNAPSHOT]);
        let targets = Targets::new(9, date(NOW + DAY));
        lab.forge("9.targets.json", &targets, seeds);
        let outcome = update(&lab, lab.trusted());
        match outcome.result {
            Ok(_) => assert!(accepted, "{seeds:?}"),
            Err(_) => assert_eq!(
                (outcome.refused(), accepted),
                (("9.targets.json", "signatures"), false),
                "{seeds:?}"
            ),
        }
    }
}

#[test]
fn one_signature_twice_is_not_two() {
    let mut lab = Lab::with(&["1.0.0"]);
    lab.forge("2.root.json", &numbered(&lab.root, 2), &[1]);
    assert_eq!(update(&lab, lab.trusted()).refused(), ("2.root.json", "signatures"));
    let mut file: serde_json::Value = serde_json::from_slice(&lab.files["2.root.json"]).unwrap();
    let signature = file["signatures"][0].clone();
    file["signatures"].as_array_mut().unwrap().push(signature);
    lab.files.insert("2.root.json".to_owned(), file.to_string().into_bytes());
    assert_eq!(update(&lab, lab.trusted()).refused(), ("2.root.json", "malformed"));
    // The same under another name.
    file["signatures"][1]["keyid"] = serde_json::json!(key(2).public().id());
    lab.files.insert("2.root.json".to_owned(), file.to_string().into_bytes());
    assert_eq!(update(&lab, lab.trusted()).refused(), ("2.root.json", "signatures"));
}

#[test]
fn a_key_that_was_rotated_away_signs_nothing_any_more() {
    let mut lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    lab.rotate(|root| root.set_role(Role::Timestamp, &[key(9).public()], 1));
    // Whoever has the old key signs a newer timestamp.
    let stolen =
        Timestamp::new(50, date(NOW), date(NOW + DAY), lab.edition.timestamp.snapshot().unwrap().clone());
    lab.forge("timestamp.json", &stolen, &[TIMESTAMP]);
    assert_eq!(update(&lab, kept.clone()).refused(), ("timestamp.json", "signatures"));
    lab.renew(Renewal::Timestamp, NOW);
    assert_eq!(update(&lab, kept).versions(), ["1.0.0"]);
}

#[test]
fn roots_are_followed_by_one_step_and_by_several() {
    for steps in [1, 5] {
        let mut lab = Lab::with(&["1.0.0"]);
        // Each step takes one root key away and adds one: in the end none of the first ones is left.
        let seeds = [1, 2, 11, 12, 13, 14, 15];
        for pair in seeds.windows(2).skip(1).take(steps) {
            lab.rotate(|root| root.set_role(Role::Root, &[key(pair[0]).public(), key(pair[1]).public()], 2));
        }
        let outcome = update(&lab, lab.trusted());
        assert_eq!(outcome.versions(), ["1.0.0"]);
        assert_eq!(outcome.result.unwrap().versions.root, steps as u64 + 1);
        assert_eq!(outcome.trusted.root, lab.files[&format!("{}.root.json", steps + 1)]);
    }
}

#[test]
fn an_expired_root_on_the_way_to_a_good_one_does_not_matter() {
    let mut lab = Lab::with(&["1.0.0"]);
    lab.rotate(|root| root.expires = date(NOW - DAY));
    assert_eq!(update(&lab, lab.trusted()).refused(), ("root", "expired"));
    lab.rotate(|root| root.expires = date(NOW + DAY));
    assert_eq!(update(&lab, lab.trusted()).versions(), ["1.0.0"]);
}

#[test]
fn a_root_needs_the_old_keys_and_the_new_ones_and_the_next_version() {
    let lab = Lab::with(&["1.0.0"]);
    let mut next = numbered(&lab.root, 2);
    next.set_role(Role::Root, &[key(11).public(), key(12).public()], 2);
    for (seeds, accepted) in [
        (&[1, 2, 11, 12][..], true),
        (&[11, 12], false),
        (&[1, 2], false),
        (&[1, 11, 12], false),
        (&[1, 2, 11], false),
    ] {
        let mut lab = lab.clone();
        lab.forge("2.root.json", &next, seeds);
        let outcome = update(&lab, lab.trusted());
        assert_eq!(outcome.result.is_ok(), accepted, "{seeds:?}");
        if !accepted {
            assert_eq!(outcome.refused(), ("2.root.json", "signatures"), "{seeds:?}");
        }
    }
    for version in [1, 3, 99] {
        let mut lab = lab.clone();
        lab.forge("2.root.json", &numbered(&lab.root, version), &[1, 2]);
        assert_eq!(update(&lab, lab.trusted()).refused(), ("2.root.json", "version"), "{version}");
    }
}

#[test]
fn a_machine_takes_so_many_roots_in_one_update_and_goes_on_in_the_next() {
    let mut lab = Lab::with(&["1.0.0"]);
    (0..5).for_each(|_| lab.rotate(|_| {}));
    let limits = Limits { root_updates: 2, ..Limits::default() };
    let mut trusted = lab.trusted();
    for expected in [3, 5, 6] {
        let outcome = update_with(&lab.files, trusted, clock(), limits);
        assert_eq!(outcome.result.as_ref().unwrap().versions.root, expected);
        trusted = outcome.trusted;
    }
}

#[test]
fn after_a_fast_forward_attack_new_keys_bring_the_versions_back() {
    let mut lab = Lab::with(&["1.0.0"]);
    // Whoever had the online keys used up the version numbers.
    let honest = lab.clone();
    let listed = |version| MetaFile { version, length: None, hashes: None };
    let (most, soon) = (u64::MAX, date(NOW + DAY));
    lab.forge("timestamp.json", &Timestamp::new(most, date(NOW), soon, listed(most)), &[TIMESTAMP]);
    lab.forge(&format!("{most}.snapshot.json"), &Snapshot::new(most, soon, listed(2)), &[SNAPSHOT]);
    let attacked = update(&lab, lab.trusted());
    assert_eq!(attacked.result.as_ref().unwrap().versions.timestamp, most);
    let mut lab = honest;
    lab.renew(Renewal::Snapshot, NOW);
    assert_eq!(update(&lab, attacked.trusted.clone()).refused(), ("timestamp.json", "rolled-back"));
    lab.rotate(|root| {
        root.set_role(Role::Timestamp, &[key(9).public()], 1);
        root.set_role(Role::Snapshot, &[key(10).public()], 1);
    });
    lab.renew(Renewal::Snapshot, NOW);
    let recovered = update(&lab, attacked.trusted);
    assert_eq!(recovered.versions(), ["1.0.0"]);
    assert_eq!(recovered.result.unwrap().versions.timestamp, 4);
}

#[test]
fn a_key_that_is_only_added_brings_versions_back_as_well() {
    // The old key still verifies what is kept: dropping it must not depend on that.
    let mut lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    lab.rotate(|root| root.set_role(Role::Timestamp, &[key(TIMESTAMP).public(), key(9).public()], 1));
    let outcome = update(&lab, kept);
    assert_eq!(outcome.asked, ["2.root.json", "3.root.json", "timestamp.json", "2.snapshot.json"]);
}

#[test]
fn endless_data_is_cut_off() {
    let lab = Lab::with(&["1.0.0"]);
    let longer = Limits::default();
    for (name, max) in [("2.root.json", longer.root), ("timestamp.json", longer.timestamp)] {
        let mut lab = lab.clone();
        lab.files.insert(name.to_owned(), vec![b' '; usize::try_from(max).unwrap() + 1]);
        assert_eq!(update(&lab, lab.trusted()).refused(), (name, "too-long"));
    }
    // Where a length is signed, not a byte more is read.
    for name in ["2.snapshot.json", "2.targets.json"] {
        let mut lab = lab.clone();
        lab.file(name).push(b' ');
        assert_eq!(update(&lab, lab.trusted()).refused(), (name, "too-long"));
    }
    // A signed length beyond what a machine is ready to read.
    let limits = Limits { targets: 100, ..longer };
    let outcome = update_with(&lab.files, lab.trusted(), clock(), limits);
    assert_eq!(outcome.refused(), ("2.targets.json", "too-long"));
}

#[test]
fn a_wrong_length_or_hash_is_refused() {
    let lab = Lab::with(&["1.0.0"]);
    for name in ["2.snapshot.json", "2.targets.json"] {
        let mut short = lab.clone();
        short.file(name).pop();
        assert_eq!(update(&short, short.trusted()).refused(), (name, "length"));
        let mut other = lab.clone();
        let last = other.file(name).last_mut().unwrap();
        *last = b' ';
        assert_eq!(update(&other, other.trusted()).refused(), (name, "hash"));
    }
}

#[test]
fn keys_of_unknown_types_neither_hurt_nor_count() {
    let mut lab = Lab::with(&["1.0.0"]);
    let mut next: serde_json::Value = serde_json::to_value(numbered(&lab.root, 2)).unwrap();
    next["keys"]["ee"] =
        serde_json::json!({"keytype": "ml-dsa", "scheme": "ml-dsa-65", "keyval": {"public": "PEM"}});
    next["roles"]["root"]["keyids"].as_array_mut().unwrap().push(serde_json::json!("ee"));
    next["roles"]["mirrors"] = serde_json::json!({"keyids": ["ee"], "threshold": 1});
    next["future"] = serde_json::json!({"x": [1]});
    let sign = |lab: &mut Lab, seeds: &[u8]| {
        lab.forge("2.root.json", &next, seeds);
        let mut file: serde_json::Value = serde_json::from_slice(&lab.files["2.root.json"]).unwrap();
        let unknown = serde_json::json!({"keyid": "ee", "sig": "0011"});
        file["signatures"].as_array_mut().unwrap().push(unknown);
        lab.files.insert("2.root.json".to_owned(), file.to_string().into_bytes());
        update(lab, lab.trusted())
    };
    assert_eq!(sign(&mut lab, &[1]).refused(), ("2.root.json", "signatures"));
    let outcome = sign(&mut lab, &[1, 2]);
    assert_eq!(outcome.versions(), ["1.0.0"]);
    assert_eq!(outcome.result.unwrap().versions.root, 2);
}

#[test]
fn metadata_of_one_role_is_not_that_of_another() {
    // With the same keys for everything, only the type tells them apart.
    let mut lab = Lab::with(&["1.0.0"]);
    let all = [1, 2, 3, 4, SNAPSHOT, TIMESTAMP];
    let targets = Targets::new(9, date(NOW + DAY));
    lab.forge("timestamp.json", &targets, &all);
    assert_eq!(update(&lab, lab.trusted()).refused(), ("timestamp.json", "malformed"));
}

#[test]
fn the_images_root_counts_when_it_is_newer_or_the_kept_one_is_damaged() {
    let mut lab = Lab::with(&["1.0.0"]);
    let kept = update(&lab, lab.trusted()).trusted;
    lab.rotate(|_| {});
    let second = lab.files["2.root.json"].clone();
    lab.rotate(|root| root.set_role(Role::Snapshot, &[key(10).public()], 1));
    let third = lab.files["3.root.json"].clone();
    // Newer with the same keys: what is kept stays. With others: it goes (5.3.11).
    assert_eq!(kept.clone().with_image_root(&second), Trusted { root: second.clone(), ..kept.clone() });
    assert_eq!(kept.clone().with_image_root(&third), Trusted::new(third.clone()));
    let newest = Trusted { root: third.clone(), ..kept.clone() };
    assert_eq!(newest.clone().with_image_root(&second), newest);
    assert_eq!(newest.clone().with_image_root(b"damaged"), newest);
    let damaged = Trusted { root: b"damaged".to_vec(), ..kept };
    assert_eq!(damaged.with_image_root(&second), Trusted::new(second));
}

#[test]
fn a_damaged_trusted_root_is_an_error_and_not_a_new_beginning() {
    let lab = Lab::with(&["1.0.0"]);
    assert_eq!(update(&lab, Trusted::new("{}")).refused(), ("trusted root", "malformed"));
    let mut unsigned: serde_json::Value = serde_json::from_slice(&lab.files["1.root.json"]).unwrap();
    unsigned["signatures"] = serde_json::json!([]);
    assert_eq!(update(&lab, Trusted::new(unsigned.to_string())).refused(), ("trusted root", "signatures"));
}

#[test]
fn without_consistent_snapshots_files_have_plain_names() {
    let mut lab = Lab::with(&["1.0.0"]);
    lab.rotate(|root| root.consistent_snapshot = false);
    for (plain, versioned) in [("snapshot.json", "2.snapshot.json"), ("targets.json", "2.targets.json")] {
        let bytes = lab.files.remove(versioned).unwrap();
        lab.files.insert(plain.to_owned(), bytes);
    }
    let outcome = update(&lab, lab.trusted());
    assert_eq!(outcome.versions(), ["1.0.0"]);
    assert_eq!(outcome.asked[2..], ["timestamp.json", "snapshot.json", "targets.json"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One changed byte in any file: refused, or nothing of what was signed is different.
    #[test]
    fn a_changed_byte_changes_nothing_that_is_believed(file: prop::sample::Index, at: prop::sample::Index, by in 1..=255u8) {
        let mut lab = Lab::with(&["1.0.0", "1.1.0"]);
        lab.rotate(|_| {});
        let names = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"];
        let bytes = lab.file(names[file.index(names.len())]);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(verified) = update(&lab, lab.trusted()).result {
            prop_assert_eq!(verified.targets, lab.edition.targets);
        }
    }

    /// A server that shows old and new files in any mixture: a machine only ever goes forward, and only ever believes a
    /// whole edition.
    #[test]
    fn no_mixture_of_old_files_leads_back(choices in prop::collection::vec((0..4usize, 0..4usize, 0..4usize), 1..8)) {
        let mut lab = Lab::with(&["1.0.0"]);
        let mut editions = vec![lab.clone()];
        for version in ["1.1.0", "1.2.0", "1.3.0"] {
            lab.publish(&[version]);
            editions.push(lab.clone());
        }
        let mut trusted = lab.trusted();
        let (mut seen, mut timestamp) = (0, 0);
        for (timestamps, snapshots, targets) in choices {
            let mut files = lab.files.clone();
            files.insert("timestamp.json".to_owned(), editions[timestamps].files["timestamp.json"].clone());
            let expected = timestamps + 2;
            let swap = |files: &mut BTreeMap<String, Vec<u8>>, role: &str, from: usize| {
                files.insert(format!("{expected}.{role}.json"), lab.files[&format!("{}.{role}.json", from + 2)].clone());
            };
            swap(&mut files, "snapshot", snapshots);
            swap(&mut files, "targets", targets);
            let outcome = update_with(&files, trusted, clock(), Limits::default());
            if let Ok(verified) = &outcome.result {
                prop_assert!(verified.versions.timestamp >= timestamp, "back in time");
                timestamp = verified.versions.timestamp;
                prop_assert!(verified.releases.len() >= seen, "releases are gone");
                seen = verified.releases.len();
                prop_assert!(editions.iter().any(|edition| edition.edition.targets == verified.targets));
            }
            trusted = outcome.trusted;
        }
        // And however it was treated, an honest server brings it to the newest.
        let newest = update(&lab, trusted);
        prop_assert_eq!(newest.versions(), ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]);
    }

    /// Any bytes for any file.
    #[test]
    fn any_bytes_of_a_server_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), file in 0..4usize) {
        let mut lab = Lab::with(&["1.0.0"]);
        let name = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"][file];
        lab.files.insert(name.to_owned(), bytes);
        prop_assert!(update(&lab, lab.trusted()).result.is_err());
    }
}
