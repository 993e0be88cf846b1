use super::*;
use crate::journal::entry::{Entry, Stamp};
use crate::journal::store::{FileStore, Limits, Store};

/// Three boots with ten entries each, two files a boot.
fn sample(folder: &Path) -> Journal {
    let mut at = 0;
    for boot in 1..=3 {
        let mut store = FileStore::open(folder, Id(boot), Limits::DEFAULT, None).unwrap();
        for number in 0..10 {
            at += 1_000_000;
            let mut entry = Entry::new(Stamp { realtime: at, monotonic: at });
            entry.push("MESSAGE", format!("message {boot}.{number}"));
            entry.push("PRIORITY", (number % 8).to_string());
            entry.push("_SYSTEMD_UNIT", if number % 2 == 0 { "a.service" } else { "b@x.service" });
            store.append(&entry).unwrap();
            if number == 4 {
                store.rotate().unwrap();
            }
        }
    }
    Journal::open(vec![folder.to_owned(), folder.join("none")]).unwrap()
}

fn all(journal: &mut Journal, filter: &Filter) -> Vec<String> {
    let mut record = Record::default();
    let mut found = Vec::new();
    journal.seek_start();
    while journal.next(&mut record, &|file| filter.skips(file)).unwrap() {
        if filter.wants(&record) {
            found.push(record.text("MESSAGE").unwrap().trim_start_matches("message ").to_owned());
        }
    }
    found
}

fn reversed(journal: &mut Journal, filter: &Filter) -> Vec<String> {
    let mut record = Record::default();
    let mut found = Vec::new();
    journal.seek_end().unwrap();
    while journal.back(&mut record, &|file| filter.skips(file)).unwrap() {
        if filter.wants(&record) {
            found.push(record.text("MESSAGE").unwrap().trim_start_matches("message ").to_owned());
        }
    }
    found.reverse();
    found
}

#[test]
fn filters_hold_in_both_directions_and_across_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = sample(folder.path());
    let boot = Some(Id(2));
    let cases = [
        (Filter::default(), 30),
        (Filter { boot, ..Filter::default() }, 10),
        (Filter { boot: Some(Id(9)), ..Filter::default() }, 0),
        (Filter { units: vec!["a.service".into()], boot, ..Filter::default() }, 5),
        (Filter { units: vec!["b@*".into()], ..Filter::default() }, 15),
        (Filter { units: vec!["a.service".into(), "b@x.service".into()], ..Filter::default() }, 30),
        (Filter { levels: Some(0b11), ..Filter::default() }, 12),
        (Filter { since: Some(11_000_000), until: Some(12_000_000), ..Filter::default() }, 2),
        (Filter { grep: regex_lite::Regex::new("[13]\\.[45]").ok(), ..Filter::default() }, 4),
    ];
    for (filter, count) in cases {
        let found = all(&mut journal, &filter);
        assert_eq!(found.len(), count, "{filter:?}");
        assert_eq!(reversed(&mut journal, &filter), found, "{filter:?}");
    }
}

#[test]
fn words_of_one_field_are_alternatives_and_of_several_all_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = sample(folder.path());
    let mut filter = Filter::default();
    filter.add("PRIORITY", b"1");
    filter.add("PRIORITY", b"2");
    assert_eq!(all(&mut journal, &filter).len(), 9);
    filter.add("_SYSTEMD_UNIT", b"a.service");
    assert_eq!(all(&mut journal, &filter).len(), 3);
    filter.groups.push(Vec::new());
    filter.add("_BOOT_ID", Id(1).to_string().as_bytes());
    assert_eq!(all(&mut journal, &filter).len(), 12);
}

#[test]
fn the_last_entries_are_found_from_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = sample(folder.path());
    let filter = Filter { units: vec!["a.service".into()], ..Filter::default() };
    assert_eq!(seek_tail(&mut journal, &filter, 7).unwrap(), 7);
    let mut record = Record::default();
    assert!(journal.next(&mut record, &|_| false).unwrap());
    assert_eq!(record.text("MESSAGE").unwrap(), "message 2.6");
    assert_eq!(seek_tail(&mut journal, &filter, 100).unwrap(), 15);
    let lines = tail_of(vec![folder.path().to_owned()], &filter, 2).unwrap();
    assert!(lines.len() == 2 && lines[1].ends_with(" message 3.8"), "{lines:?}");
}

#[test]
fn boots_are_listed_with_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let journal = sample(folder.path());
    let found: Vec<(Id, u64, u64)> = boots(&journal)
        .unwrap()
        .iter()
        .map(|boot| (boot.id, boot.first.stamp.realtime, boot.last.stamp.realtime))
        .collect();
    assert_eq!(
        found,
        [(Id(1), 1_000_000, 10_000_000), (Id(2), 11_000_000, 20_000_000), (Id(3), 21_000_000, 30_000_000)]
    );
}

#[test]
fn what_is_written_after_the_end_is_followed_across_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = sample(folder.path());
    journal.seek_end().unwrap();
    let mut record = Record::default();
    assert!(!journal.follow(&mut record).unwrap());
    let mut store = FileStore::open(folder.path(), Id(3), Limits::DEFAULT, None).unwrap();
    for number in 0..4 {
        let mut entry = Entry::new(Stamp::now());
        entry.push("MESSAGE", format!("new {number}"));
        store.append(&entry).unwrap();
        store.rotate().unwrap();
    }
    for number in 0..4 {
        assert!(journal.follow(&mut record).unwrap());
        assert_eq!(record.text("MESSAGE").unwrap(), format!("new {number}"));
    }
    assert!(!journal.follow(&mut record).unwrap());
}
