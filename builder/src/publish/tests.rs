//! Channel folders on disk: what publishing writes, refuses, and survives.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;
use update_engine::channel::metadata::{Date, Role};
use update_engine::channel::sign::Lifetimes;
use update_engine::channel::{ChannelName, Placement, Release, Rollout, StateFormat, TargetFile, Version};
use zeroize::Zeroizing;

use super::checks::Refusal;
use super::folder::{ChannelFolder, FolderError};
use super::rotate::RoleKeys;
use super::{Outcome, PublishError, Publisher, Source};
use crate::keys::{KeyFolder, Passphrases};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

struct Fixed;

impl Passphrases for Fixed {
    fn of(&self, _: &str) -> io::Result<Zeroizing<String>> {
        Ok(Zeroizing::new("p".to_owned()))
    }

    fn for_new(&self, name: &str) -> io::Result<Zeroizing<String>> {
        self.of(name)
    }
}

/// A channel folder with a key for each role, and further keys.
struct World {
    folder: TempDir,
    keys: KeyFolder,
    now: u64,
}

fn date(unix: u64) -> Date {
    Date::from_unix(unix).unwrap()
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn everybody() -> Rollout {
    Rollout::everybody(date(0))
}

impl World {
    fn new() -> Self {
        let world = Self::empty(&["root", "targets", "snapshot", "timestamp"]);
        let roles = Role::ALL.map(|role| (role, world.role(&[role.name()], 1)));
        world.publisher().init(&roles.into()).unwrap();
        world
    }

    fn empty(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::cheap(folder.path().join("keys"));
        for name in names {
            keys.create(name, date(NOW), &Fixed).unwrap();
        }
        Self { folder, keys, now: NOW }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("channel")
    }

    fn publisher(&self) -> Publisher<'static> {
        Publisher {
            folder: ChannelFolder::lock(&self.path()).unwrap(),
            keys: vec![self.keys.clone()],
            passphrases: &Fixed,
            now: date(self.now),
            lifetimes: Lifetimes::default(),
            dry_run: false,
        }
    }

    /// With some of the keys only.
    fn publisher_with(&self, names: &[&str]) -> Publisher<'static> {
        let some = self.folder.path().join(names.join("+"));
        fs::create_dir_all(&some).unwrap();
        for name in names {
            fs::copy(self.keys.path().join(format!("{name}.key")), some.join(format!("{name}.key"))).unwrap();
        }
        Publisher { keys: vec![KeyFolder::cheap(some)], ..self.publisher() }
    }

    fn role(&self, names: &[&str], threshold: u32) -> RoleKeys {
        let keys = names.iter().map(|name| self.keys.get(name).unwrap().public_key().unwrap()).collect();
        RoleKeys { keys, threshold }
    }

    fn release(&self, text: &str, channels: &[&str]) -> (Release, Vec<Source>) {
        let source = |ending: &str| {
            let path = self.folder.path().join(format!("{text}.{ending}"));
            fs::write(&path, format!("{ending} of {text}")).unwrap();
            let target =
                ChannelFolder::measure(&path, format!("ferrite/x86_64/{text}/f-{text}.{ending}")).unwrap();
            Source { path, target }
        };
        let sources = vec![source("index"), source("payload")];
        let placement = Placement { rollout: everybody(), withdrawn: None };
        let release = Release {
            product: "ferrite".to_owned(),
            architecture: "x86_64".to_owned(),
            version: version(text),
            index: sources[0].target.clone(),
            payload: sources[1].target.clone(),
            slot_bytes: 4096,
            root_hash: [1; 32],
            build_time: NOW,
            minimum_version: None,
            rollback_index: 0,
            minimum_loader: 1,
            state: BTreeMap::new(),
            automatic_rollback: true,
            notes: String::new(),
            channels: channels.iter().map(|name| (channel(name), placement.clone())).collect(),
        };
        (release, sources)
    }

    fn add(
        &self,
        text: &str,
        channels: &[&str],
        change: impl FnOnce(&mut Release),
    ) -> Result<Outcome, PublishError> {
        let (mut release, sources) = self.release(text, channels);
        change(&mut release);
        self.publisher().add(&release, &sources)
    }

    /// What a new machine learns, or the kind of its refusal.
    fn machine(&self) -> Result<Vec<String>, &'static str> {
        let folder = ChannelFolder::new(&self.path());
        match folder.seen_by_machine(&[], self.now).unwrap() {
            Ok(verified) => Ok(verified.releases.iter().map(|release| release.version.to_string()).collect()),
            Err(error) => Err(error.kind()),
        }
    }
}

fn refusal(result: Result<Outcome, PublishError>) -> Refusal {
    match result {
        Err(PublishError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_release_goes_from_channel_to_channel_and_is_withdrawn() {
    let world = World::new();
    world.add("1.0.0", &["stable", "alpha"], |_| {}).unwrap();
    let outcome = world.add("1.1.0", &["alpha"], |_| {}).unwrap();
    assert_eq!(outcome.written.last().unwrap(), "metadata/timestamp.json", "the timestamp comes last");
    assert_eq!(world.machine().unwrap(), ["1.0.0", "1.1.0"]);
    let rollout = Rollout { percentage: 20, start: date(NOW), duration_seconds: 3600 };
    let view = world.publisher().promote(&version("1.1.0"), &channel("stable"), rollout).unwrap().view;
    let stable = view.channels.iter().find(|found| found.name == channel("stable")).unwrap();
    assert_eq!(
        (stable.releases[0].rollout, stable.machines[1].offered.clone()),
        (rollout, Some(version("1.1.0")))
    );
    let raised = world
        .publisher()
        .set_rollout(&version("1.1.0"), &channel("stable"), |rollout| Rollout { percentage: 100, ..rollout })
        .unwrap();
    assert_eq!(raised.view.channels[1].releases[0].rollout.percentage, 100);
    let view = world
        .publisher()
        .withdraw(&version("1.1.0"), Some(&channel("stable")), "it eats disks")
        .unwrap()
        .view;
    let offered = |view: &super::View, name: &str| {
        view.channels.iter().find(|found| found.name == channel(name)).unwrap().machines[1].offered.clone()
    };
    assert_eq!((offered(&view, "stable"), offered(&view, "alpha")), (None, Some(version("1.1.0"))));
    assert!(view.text().contains("nobody: withdrawn, it eats disks"), "{}", view.text());
    assert!(world.publisher().damaged_targets().unwrap().is_empty());
}

#[test]
fn a_dry_run_writes_nothing_and_says_the_same() {
    let world = World::new();
    let before = names(&world.path().join("metadata"));
    let (release, sources) = world.release("1.0.0", &["stable"]);
    let dry = Publisher { dry_run: true, ..world.publisher() }.add(&release, &sources).unwrap();
    assert_eq!(
        (names(&world.path().join("metadata")), names(&world.path().join("targets"))),
        (before, vec![])
    );
    let wet = world.publisher().add(&release, &sources).unwrap();
    assert_eq!((dry.written, dry.view), (wet.written, wet.view));
}

#[test]
fn what_would_leave_machines_stuck_is_refused() {
    let world = World::new();
    world.add("1.0.0", &["stable"], |release| release.rollback_index = 2).unwrap();
    let kind = |result| std::mem::discriminant(&refusal(result));
    let same = |a: &Refusal, b| std::mem::discriminant(a) == b;
    let taken = world.add("1.0.0", &["beta"], |_| {});
    assert_eq!(refusal(taken), Refusal::VersionTaken(version("1.0.0")));
    let other = kind(world.add("2.0.0", &["stable"], |release| release.product = "other".to_owned()));
    assert!(same(&Refusal::OtherMachine { expected: String::new(), found: String::new() }, other));
    let other = kind(world.add("2.0.0", &["stable"], |release| release.architecture = "aarch64".to_owned()));
    assert!(same(&Refusal::OtherMachine { expected: String::new(), found: String::new() }, other));
    assert!(matches!(refusal(world.add("0.9.0", &["stable"], |_| {})), Refusal::NotNewer { .. }));
    assert!(matches!(
        refusal(world.add("1.1.0", &["stable"], |release| release.rollback_index = 1)),
        Refusal::RollbackIndex { newest_index: 2, index: 1, .. }
    ));
    assert!(matches!(
        refusal(world.add("1.1.0", &["stable"], |release| {
            release.rollback_index = 2;
            release.minimum_version = Some(version("1.0.5"));
        })),
        Refusal::OutOfReach { .. }
    ));
    // In a channel of its own nothing stands against an older version.
    world.add("0.9.0", &["lts"], |_| {}).unwrap();
    assert_eq!(world.machine().unwrap(), ["0.9.0", "1.0.0"]);
}

#[test]
fn a_step_that_cannot_be_undone_must_be_declared() {
    // SAFETY 23.
    let world = World::new();
    let etcd = |release: &mut Release, reads: &[&str], writes: &str| {
        let reads = reads.iter().map(|text| (*text).to_owned()).collect();
        release.state.insert("etcd".to_owned(), StateFormat { reads, writes: writes.to_owned() });
    };
    world.add("1.0.0", &["stable"], |release| etcd(release, &["3.4", "3.5"], "3.5")).unwrap();
    let step = world.add("1.1.0", &["stable"], |release| etcd(release, &["3.5", "3.6"], "3.6"));
    assert_eq!(refusal(step), Refusal::OneWay { from: version("1.0.0"), state: vec!["etcd 3.6".to_owned()] });
    world
        .add("1.1.0", &["stable"], |release| {
            etcd(release, &["3.5", "3.6"], "3.6");
            release.automatic_rollback = false;
        })
        .unwrap();
    // Too far: 1.0.0 machines would lose their data, whatever is declared.
    let leap = |release: &mut Release| {
        etcd(release, &["3.6", "3.7"], "3.7");
        release.automatic_rollback = false;
    };
    let step = world.add("1.2.0", &["stable"], leap);
    assert_eq!(
        refusal(step),
        Refusal::StateLost { from: version("1.0.0"), state: vec!["etcd 3.5".to_owned()] }
    );
    world
        .add("1.2.0", &["stable"], |release| {
            leap(release);
            release.minimum_version = Some(version("1.1.0"));
        })
        .unwrap();
}

#[test]
fn an_attackers_folder_is_not_signed() {
    let world = World::new();
    world.add("1.0.0", &["stable"], |_| {}).unwrap();
    // Whoever can write to the web server changes a release and waits for the publisher to sign the next edition.
    let path = world.path().join("metadata/2.targets.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"minimum_loader\": 1", "\"minimum_loader\": 0")).unwrap();
    let error = world.add("1.1.0", &["stable"], |_| {}).unwrap_err();
    assert!(matches!(error, PublishError::Folder(FolderError::Unverified { .. })), "{error:?}");
    // Or puts a folder of their own there.
    let theirs = World::new();
    fs::remove_dir_all(world.path()).unwrap();
    fs::rename(theirs.path(), world.path()).unwrap();
    let error = world.add("1.1.0", &["stable"], |_| {}).unwrap_err();
    assert!(matches!(error, PublishError::Sign(_)), "{error:?}");
}

#[test]
fn refreshing_takes_the_online_key_alone_and_renews_what_it_can() {
    let mut world = World::new();
    world.add("1.0.0", &["stable"], |_| {}).unwrap();
    world.now += 8 * DAY;
    assert_eq!(world.machine(), Err("expired"));
    let outcome = world.publisher_with(&["timestamp"]).refresh().unwrap();
    assert_eq!(outcome.written, ["metadata/timestamp.json"]);
    assert_eq!(world.machine().unwrap(), ["1.0.0"]);
    // Where the timestamp alone would not be believed, that is said before it is written.
    world.now += 100 * DAY;
    let error = world.publisher_with(&["timestamp"]).refresh().unwrap_err();
    assert!(matches!(error, PublishError::Unbelievable(_)), "{error:?}");
    let outcome = world.publisher().refresh().unwrap();
    assert_eq!(
        outcome.written,
        ["metadata/3.targets.json", "metadata/3.snapshot.json", "metadata/timestamp.json"]
    );
    assert_eq!(world.machine().unwrap(), ["1.0.0"]);
}

#[test]
fn holders_of_root_keys_sign_one_after_the_other() {
    let world =
        World::empty(&["root-1", "root-2", "root-3", "targets", "snapshot", "timestamp", "timestamp-2"]);
    let mut roles: BTreeMap<Role, RoleKeys> = [Role::Targets, Role::Snapshot, Role::Timestamp]
        .map(|role| (role, world.role(&[role.name()], 1)))
        .into();
    roles.insert(Role::Root, world.role(&["root-1", "root-2"], 2));
    world.publisher().init(&roles).unwrap();
    world.add("1.0.0", &["stable"], |_| {}).unwrap();
    let change = BTreeMap::from([
        (Role::Root, world.role(&["root-2", "root-3"], 2)),
        (Role::Timestamp, world.role(&["timestamp-2"], 1)),
    ]);
    let first = world.publisher_with(&["root-1"]).rotate(&change).unwrap();
    assert!(first.staged_root.unwrap().missing.contains("takes 2 of the keys"));
    assert_eq!(world.machine().unwrap(), ["1.0.0"]);
    assert!(matches!(world.publisher().rotate(&change), Err(PublishError::RootStaged(_))));
    let second = world.publisher_with(&["root-2"]).sign_staged().unwrap().unwrap();
    assert!(second.staged_root.is_some(), "the third must agree to be a holder");
    // All root signatures are there, but the new online key must sign at the same moment: nothing counts without it.
    let third = world.publisher_with(&["root-3"]).sign_staged().unwrap().unwrap();
    assert!(third.staged_root.unwrap().missing.contains("timestamp"));
    assert_eq!(world.machine().unwrap(), ["1.0.0"]);
    let last = world.publisher_with(&["timestamp-2"]).sign_staged().unwrap().unwrap();
    assert_eq!(last.written, ["metadata/2.root.json", "metadata/timestamp.json"]);
    assert_eq!((last.view.metadata["root"].version, world.machine().unwrap()), (2, vec!["1.0.0".to_owned()]));
    assert!(
        world.publisher_with(&["timestamp"]).refresh().is_err(),
        "the old online key signs nothing any more"
    );
    assert!(world.publisher().sign_staged().unwrap().is_none());
}

#[test]
fn a_command_that_is_cut_short_leaves_a_folder_that_the_next_one_completes() {
    // Every prefix of the files that two commands write, in their order.
    let world = World::new();
    world.add("1.0.0", &["stable"], |_| {}).unwrap();
    let changes: [&dyn Fn(&World) -> Outcome; 2] =
        [&|world| world.add("1.1.0", &["stable"], |_| {}).unwrap(), &|world| {
            world.keys.create("new", date(NOW), &Fixed).unwrap();
            let role = world.role(&["new"], 1);
            world
                .publisher()
                .rotate(&[Role::Targets, Role::Snapshot, Role::Timestamp].map(|r| (r, role.clone())).into())
                .unwrap()
        }];
    for change in changes {
        let before = world.folder.path().join("before");
        copy(&world.path(), &before);
        let written = change(&world).written;
        let after = world.folder.path().join("after");
        copy(&world.path(), &after);
        for cut in 0..=written.len() {
            fs::remove_dir_all(world.path()).unwrap();
            copy(&before, &world.path());
            for name in &written[..cut] {
                fs::create_dir_all(world.path().join(name).parent().unwrap()).unwrap();
                fs::copy(after.join(name), world.path().join(name)).unwrap();
            }
            let seen = world.machine();
            assert!(
                seen.is_ok() || written[0].ends_with(".root.json"),
                "cut at {cut} of {written:?}: {seen:?}"
            );
            world.publisher().refresh().unwrap();
            assert!(world.machine().unwrap().contains(&"1.0.0".to_owned()), "cut at {cut} of {written:?}");
        }
        fs::remove_dir_all(world.path()).unwrap();
        copy(&after, &world.path());
        fs::remove_dir_all(&before).unwrap();
        fs::remove_dir_all(&after).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    crate::folders::copy(from, to, &[".lock"], &|from, to| fs::copy(from, to).map(drop)).unwrap();
}

#[test]
fn one_command_publishes_at_a_time() {
    let world = World::new();
    let first = world.publisher();
    assert!(matches!(ChannelFolder::lock(&world.path()), Err(FolderError::Busy(_))));
    drop(first);
    assert!(ChannelFolder::lock(&world.path()).unwrap().is_locked());
}

#[test]
fn a_damaged_target_is_found() {
    let world = World::new();
    let outcome = world.add("1.0.0", &["stable"], |_| {}).unwrap();
    let payload = outcome.written.iter().find(|name| name.ends_with(".payload")).unwrap().clone();
    let target: TargetFile = world.release("1.0.0", &[]).0.payload;
    assert_eq!(payload, target.url_path());
    fs::write(world.path().join(&payload), "x").unwrap();
    assert_eq!(world.publisher().damaged_targets().unwrap(), [payload]);
}

#[test]
fn a_folder_is_made_once() {
    let world = World::new();
    let roles = Role::ALL.map(|role| (role, world.role(&[role.name()], 1)));
    let error = world.publisher().init(&roles.into()).unwrap_err();
    assert!(matches!(error, PublishError::Folder(FolderError::Exists(_))));
    assert!(matches!(ChannelFolder::new(world.folder.path()).load(), Err(FolderError::None(_))));
}
