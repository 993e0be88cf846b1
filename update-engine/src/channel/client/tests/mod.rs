//! Attacks on the metadata, each by its name, and what must work in spite of them.

mod files;
mod keys;

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
