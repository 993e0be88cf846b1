//! Thresholds, and keys that come and go.

use super::*;

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
