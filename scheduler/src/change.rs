//! What people ask for, as transactions: a unit made, replaced, wanted in another state, destroyed; metadata and drains. Each rests
//! on what was seen, and does nothing if that has changed in between.

use kv::{Compare, KeyRange, Op, Transaction};

use crate::keys::{FileObject, JobObject, Key};
use crate::picture::Picture;
use crate::snapshot::TargetState;
use crate::unit_file::UnitFile;

fn seen(picture: &Picture, unit: &str) -> Compare {
    let (key, object) = (Key::Object(unit), picture.jobs().get(unit).and_then(|job| job.object.as_ref()));
    let revision = object.map_or_else(|| picture.revision_of(&key), |object| object.revision);
    Compare::unchanged(picture.keys().of(&key), revision)
}

/// Makes a unit, or gives one another file. The file is written every time, so that nobody can collect it as garbage meanwhile.
#[must_use]
pub fn put_unit(picture: &Picture, unit: &str, file: &UnitFile, wanted: Option<TargetState>) -> Transaction {
    let (keys, hash) = (picture.keys(), file.hash());
    // Plain data into memory: it does not fail.
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let raw = json(serde_json::to_string(&FileObject { raw: file.to_string() }));
    let object = json(serde_json::to_string(&JobObject { name: unit.to_owned(), hash }));
    let mut success =
        vec![Op::put(keys.of(&Key::File(hash)), raw), Op::put(keys.of(&Key::Object(unit)), object)];
    success.extend(wanted.map(|wanted| Op::put(keys.of(&Key::Wanted(unit)), wanted.word())));
    Transaction { compare: vec![seen(picture, unit)], success, failure: Vec::new() }
}

/// Wants a unit in another state.
#[must_use]
pub fn want(picture: &Picture, unit: &str, wanted: TargetState) -> Transaction {
    let success = vec![Op::put(picture.keys().of(&Key::Wanted(unit)), wanted.word())];
    Transaction { compare: vec![seen(picture, unit)], success, failure: Vec::new() }
}

/// Removes a unit. The machine that has it stops it, and removes its states and its `job-state` when it is down: until then no other
/// machine starts one of the same name.
#[must_use]
pub fn destroy(picture: &Picture, unit: &str) -> Transaction {
    let keys = [Key::Object(unit), Key::Wanted(unit), Key::Target(unit)];
    let success = keys.iter().map(|key| Op::Delete(KeyRange::key(picture.keys().of(key)))).collect();
    Transaction { compare: vec![seen(picture, unit)], success, failure: Vec::new() }
}

/// Sets a piece of a machine's metadata from outside; an empty value hides that of the configuration.
#[must_use]
pub fn set_metadata(picture: &Picture, machine: &str, key: &str, value: &str) -> Op {
    Op::put(picture.keys().of(&Key::Metadata(machine, key)), value)
}

/// Lets a machine drain, or not any more.
#[must_use]
pub fn drain(picture: &Picture, machine: &str, why: Option<&str>) -> Op {
    let key = picture.keys().of(&Key::Drain(machine));
    match why {
        Some(why) => Op::put(key, why),
        None => Op::Delete(KeyRange::key(key)),
    }
}
