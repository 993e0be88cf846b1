//! Old, mixed, long and damaged files.

use super::*;

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
fn metadata_of_one_role_is_not_that_of_another() {
    // With the same keys for everything, only the type tells them apart.
    let mut lab = Lab::with(&["1.0.0"]);
    let all = [1, 2, 3, 4, SNAPSHOT, TIMESTAMP];
    let targets = Targets::new(9, date(NOW + DAY));
    lab.forge("timestamp.json", &targets, &all);
    assert_eq!(update(&lab, lab.trusted()).refused(), ("timestamp.json", "malformed"));
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
