use super::*;
use crate::keys::{DEFAULT_PREFIX, FileObject, JobObject};
use kv::watch::Update;
use kv::{Event, EventKind, KeyValue};
use proptest::prelude::*;

fn kv_of(key: &str, value: &str, revision: Revision) -> KeyValue {
    KeyValue {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        mod_revision: revision,
        lease: 7,
        ..KeyValue::default()
    }
}

fn events(list: &[(&Key<'_>, Option<&str>)], revision: Revision) -> Update {
    let keys = Keys::default();
    let events = list.iter().map(|(key, value)| Event {
        kind: if value.is_some() { EventKind::Put } else { EventKind::Delete },
        kv: kv_of(&keys.of(key), value.unwrap_or_default(), revision),
    });
    Update::Events { events: events.collect(), revision }
}

fn file(text: &str) -> (Hash, String) {
    let file = UnitFile::parse(text).unwrap();
    (file.hash(), serde_json::to_string(&FileObject { raw: file.to_string() }).unwrap())
}

#[test]
fn units_and_their_files_come_in_any_order() {
    let mut picture = Picture::new(Keys::default());
    let (hash, raw) = file("[X-Fleet]\nGlobal=true\n");
    let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
    picture.apply(events(&[(&Key::Object("a.service"), Some(&object))], 5));
    assert!(picture.unit("a.service").is_none());
    let changes = picture.apply(events(&[(&Key::File(hash), Some(&raw))], 6));
    assert!(changes.decisive && picture.unit("a.service").unwrap().requirements().global);
    assert_eq!(picture.unit("a.service").unwrap().wanted(), TargetState::Inactive);
    let changes = picture.apply(events(&[(&Key::State("a.service", "m"), Some("{}"))], 7));
    assert!(!changes.decisive);
    picture.apply(events(&[(&Key::Object("a.service"), None), (&Key::State("a.service", "m"), None)], 8));
    assert!(picture.jobs().is_empty() && picture.revision() == 8);
}

/// Reference 1.4: what is set from outside wins, and an empty value hides.
#[test]
fn metadata_from_outside_wins() {
    let mut picture = Picture::new(Keys::default());
    let object = r#"{"ID":"m","PublicIP":"","Metadata":{"a":"1","b":"2"},"Capabilities":null,"Version":""}"#;
    picture.apply(events(
        &[
            (&Key::Machine("m"), Some(object)),
            (&Key::Metadata("m", "a"), Some("9")),
            (&Key::Metadata("m", "b"), Some("")),
            (&Key::Metadata("m", "c"), Some("3")),
        ],
        4,
    ));
    let merged = picture.machines()["m"].merged();
    assert_eq!(merged, BTreeMap::from([("a".to_owned(), "9".to_owned()), ("c".to_owned(), "3".to_owned())]));
    let changes = picture.apply(events(&[(&Key::Machine("m"), None)], 5));
    assert_eq!(changes.gone.len(), 1);
    // What was set from outside outlives the machine.
    assert!(picture.machine("m").is_none() && picture.machines().contains_key("m"));
}

#[test]
fn the_current_state_is_worked_out() {
    let mut picture = Picture::new(Keys::default());
    let (hash, raw) = file("[Service]\nExecStart=/bin/true\n");
    let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
    let unit = "a.service";
    let current = |picture: &Picture| picture.unit(unit).unwrap().current();
    picture.apply(events(&[(&Key::File(hash), Some(&raw)), (&Key::Object(unit), Some(&object))], 2));
    assert_eq!(current(&picture), Some(TargetState::Inactive));
    picture.apply(events(&[(&Key::Target(unit), Some("m"))], 3));
    assert_eq!(current(&picture), Some(TargetState::Inactive));
    picture.apply(events(&[(&Key::State(unit, "m"), Some("{}"))], 4));
    assert_eq!(current(&picture), Some(TargetState::Loaded));
    picture.apply(events(&[(&Key::Launched(unit), Some("other"))], 5));
    assert_eq!(current(&picture), Some(TargetState::Loaded));
    picture.apply(events(&[(&Key::Launched(unit), Some("m"))], 6));
    assert_eq!(current(&picture), Some(TargetState::Launched));
}

/// `etcdctl mkdir` keeps a directory by a key that ends in a slash (`docs/etcdctl.md`): it is none of fleet's, wherever it is.
#[test]
fn directories_of_etcdctl_are_skipped() {
    let mut picture = Picture::new(Keys::default());
    let marker = |key: &str| Event { kind: EventKind::Put, kv: kv_of(key, "", 3) };
    let prefix = DEFAULT_PREFIX;
    let names = [
        "",
        "job/",
        "job/a.service/",
        "job/a.service/object/",
        "machines/",
        "machines/m/",
        "states/",
        "unit/",
        "lease/",
        "mine/",
    ];
    let events = names.iter().map(|name| marker(&format!("{prefix}{name}"))).collect();
    let changes = picture.apply(Update::Events { events, revision: 3 });
    assert_eq!(changes, Changes::default());
    assert!(picture.jobs().is_empty() && picture.machines().is_empty() && picture.files().is_empty());
}

#[test]
fn garbage_is_told_once_and_stays_until_it_is_better() {
    let mut picture = Picture::new(Keys::default());
    let (hash, raw) = file("[Service]\nExecStart=/bin/true\n");
    let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
    let unit = "a.service";
    let good = [
        (&Key::File(hash), Some(&*raw)),
        (&Key::Object(unit), Some(&*object)),
        (&Key::Target(unit), Some("m")),
    ];
    picture.apply(events(&good, 2));
    let changes = picture.apply(events(&[(&Key::Object(unit), Some("{"))], 3));
    let told = &changes.garbage[0];
    assert_eq!((changes.garbage.len(), told.0.as_str()), (1, "/_coreos.com/fleet/job/a.service/object"));
    assert!(told.1.contains("EOF while parsing"), "{told:?}");
    assert!(picture.unit(unit).is_none() && picture.is_garbled(unit));
    assert_eq!(picture.revision_of(&Key::Object(unit)), 3);
    assert_eq!(picture.apply(events(&[(&Key::Object(unit), Some("}"))], 4)).garbage, []);
    // Nor is it told again when everything is read anew.
    let kvs = vec![
        kv_of(&picture.keys().of(&Key::Object(unit)), "}", 4),
        kv_of(&picture.keys().of(&Key::File(hash)), &raw, 2),
    ];
    assert_eq!(picture.apply(Update::Snapshot { kvs, revision: 5 }).garbage, []);
    assert_eq!(picture.revision_of(&Key::Object(unit)), 4);
    picture.apply(events(&[(&Key::Object(unit), Some(&*object))], 6));
    assert!(picture.unit(unit).is_some() && !picture.is_garbled(unit));
    assert_eq!(picture.revision_of(&Key::Object(unit)), 0);
}

#[test]
fn what_is_garbage_says_why() {
    let hash = Hash::from_hex(&"1".repeat(40)).unwrap();
    let cases: &[(Key<'_>, &[u8], i64, &str)] = &[
        (Key::Machine("m"), b"1", 7, "invalid type"),
        (Key::Machine("m"), b"{}", 0, "no lease vouches for it"),
        (Key::Leader, b"m", 0, "no lease vouches for it"),
        (Key::Launched("a.service"), b"m", 0, "no lease vouches for it"),
        (Key::State("a.service", "m"), b"{}", 0, "no lease vouches for it"),
        (Key::State("a.service", "m"), b"1", 7, "invalid type"),
        (Key::Wanted("a.service"), b"gone", 0, "\"gone\" is no state of a unit"),
        (Key::Wanted("a.service"), b"\xff", 0, "it is no text"),
        (Key::Target("a"), b"m", 0, "is no unit name"),
        (Key::File(hash), br#"{"Raw":"[A]\nb\n"}"#, 0, "line 2: the line has no `=`: b"),
        (Key::EngineVersion, b"one", 0, "it is no number"),
    ];
    for (key, value, lease, want) in cases {
        let mut picture = Picture::new(Keys::default());
        let kv = KeyValue { value: value.to_vec(), lease: *lease, ..kv_of(&picture.keys().of(key), "", 9) };
        let changes =
            picture.apply(Update::Events { events: vec![Event { kind: EventKind::Put, kv }], revision: 9 });
        assert!(
            matches!(&*changes.garbage, [(_, why)] if why.contains(want)),
            "{key:?}: {:?}",
            changes.garbage
        );
        assert_eq!(picture.revision_of(key), 9, "{key:?}");
        assert!(
            picture.jobs().is_empty() && picture.machines().is_empty() && picture.leader().is_none(),
            "{key:?}"
        );
        picture.apply(events(&[(key, None)], 10));
        assert_eq!(picture.revision_of(key), 0, "{key:?}");
    }
}

proptest! {
    #[test]
    fn any_values_are_taken_in_without_panic(
        values in proptest::collection::vec((0_usize..8, proptest::option::of("[\\PC]{0,12}")), 0..30),
    ) {
        let mut picture = Picture::new(Keys::default());
        let (hash, raw) = file("[A]\nb=c\n");
        let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
        picture.apply(events(&[(&Key::File(hash), Some(&raw)), (&Key::Object("a.service"), Some(&object))], 1));
        let keys = [
            Key::Machine("m"), Key::Metadata("m", "k"), Key::File(hash), Key::Object("a.service"), Key::Wanted("a.service"),
            Key::Target("a.service"), Key::State("a.service", "m"), Key::Leader,
        ];
        for (revision, (which, value)) in (2..).zip(values) {
            picture.apply(events(&[(&keys[which], value.as_deref())], revision));
            let _ = picture.snapshot([].into_iter());
        }
    }
}
