use std::path::Path;
use std::time::Duration;

use super::*;
use crate::archive::Suite;
use crate::digest::Digest;
use crate::mirrors::Mirrors;
use crate::package::Pin;
use crate::progress::Silent;
use crate::testing::{Item, Key, Reply, Server, deb_with, noon};

/// A package by name, and what a server answers in its place.
type Exception = (&'static str, fn() -> Reply);

/// Packages of a lock whose mirrors and snapshot archive are made up by each test.
struct Fixture {
    folder: tempfile::TempDir,
    key: Key,
    debs: Vec<(Arc<Package>, Vec<u8>)>,
}

impl Fixture {
    fn new() -> Self {
        let debs = ["one", "two", "three"].map(|name| {
            let content = vec![name.as_bytes()[0]; 100_000];
            let bytes = deb_with(name, "1", "Section: misc\n", &[Item::File("./usr/file", &content, 0o644)]);
            let pin = Pin {
                name: name.to_owned(),
                version: "1".parse().unwrap(),
                architecture: "all".to_owned(),
                suite: "trixie".into(),
                filename: format!("pool/{name}.deb"),
                size: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            };
            (Arc::new(Package::from_pin(pin)), bytes)
        });
        Self { folder: tempfile::tempdir().unwrap(), key: Key::new(), debs: debs.into() }
    }

    fn packages(&self) -> Vec<Arc<Package>> {
        self.debs.iter().map(|(package, _)| Arc::clone(package)).collect()
    }

    /// A server that has all packages but these, which are answered so.
    fn server(&self, other: &[Exception]) -> Server {
        let (debs, other) = (self.debs.clone(), other.to_vec());
        Server::start(move |request| {
            let name = request.path.rsplit('/').next().unwrap().trim_end_matches(".deb").to_owned();
            if let Some((_, reply)) = other.iter().find(|(of, _)| *of == name) {
                return reply();
            }
            let found = debs.iter().find(|(package, _)| request.path.ends_with(&package.filename));
            found.map_or(Reply::status(404), |(_, bytes)| Reply::ok(bytes))
        })
    }

    fn pool(&self, mirrors: &[&str], snapshots: &[&str]) -> Pool {
        self.pool_at(self.folder.path(), mirrors, snapshots, false)
    }

    fn pool_at(&self, cache: &Path, mirrors: &[&str], snapshots: &[&str], offline: bool) -> Pool {
        let suite = Suite {
            name: "trixie".to_owned(),
            components: vec!["main".to_owned()],
            mirrors: Mirrors::new(mirrors),
            snapshots: Mirrors::new(snapshots),
        };
        let config = Config {
            cache: Cache::at(cache),
            suites: vec![suite],
            architecture: "amd64".to_owned(),
            offline,
            allow_expired: false,
            revalidate_after: Duration::ZERO,
            keyring: self.key.keyring(),
            now: noon(),
            patience: Patience {
                rounds: 3,
                first_pause: Duration::from_millis(1),
                longest_pause: Duration::from_millis(1),
                timeout: Duration::from_secs(5),
            },
            downloads: 1,
        };
        Pool::new(config, Arc::new(Silent))
    }

    fn unpack(&self, pool: &Pool) -> Result<FromLock, ArchiveError> {
        pool.unpack_locked(&self.packages(), Integrity::Full)
    }
}

fn gone() -> Reply {
    Reply::status(404)
}

/// An address that refuses connections.
fn dead() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn names(packages: &[Arc<Package>]) -> Vec<&str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

#[test]
fn locked_packages_need_no_index_and_describe_themselves() {
    let fixture = Fixture::new();
    let server = fixture.server(&[]);
    let found = fixture.unpack(&fixture.pool(&[&server.base], &[])).unwrap();
    assert!(server.paths().iter().all(|path| path.starts_with("pool/")), "{:?}", server.paths());
    let described = found.unpacked[0].clone().described().unwrap();
    assert_eq!(
        (described.package.section.as_str(), described.package.to_string().as_str()),
        ("misc", "one 1")
    );
    // From the cache alone, and with no server at all.
    let offline = fixture.pool_at(fixture.folder.path(), &[], &[], true);
    assert_eq!(fixture.unpack(&offline).unwrap().unpacked.len(), 3);
}

#[test]
fn a_package_that_is_another_one_than_the_lock_says_is_refused() {
    let fixture = Fixture::new();
    let server = fixture.server(&[]);
    let renamed = Package { version: "2".parse().unwrap(), ..(*fixture.debs[0].0).clone() };
    let pool = fixture.pool(&[&server.base], &[]);
    let found = pool.unpack_locked(&[Arc::new(renamed)], Integrity::OnRead).unwrap();
    let error = found.unpacked[0].clone().described().unwrap_err();
    assert!(error.source.to_string().contains("it is one_1_all, but"), "{error:?}");
}

#[test]
fn the_snapshot_archive_is_asked_for_what_every_mirror_has_dropped() {
    let fixture = Fixture::new();
    let (old, new) = (fixture.server(&[("two", gone)]), fixture.server(&[("one", gone), ("two", gone)]));
    let snapshot = fixture.server(&[]);
    let early = format!("{}/archive/debian/20260911T000000Z", snapshot.base);
    let late = format!("{}/archive/debian/20260912T000000Z", snapshot.base);
    let found = fixture.unpack(&fixture.pool(&[&new.base, &old.base], &[&late, &early])).unwrap();
    assert_eq!(names(&found.from_snapshots), ["two"]);
    assert_eq!(snapshot.paths(), ["archive/debian/20260912T000000Z/pool/two.deb"]);
    assert_eq!(found.unpacked.len(), 3);
}

#[test]
fn what_is_nowhere_any_more_is_told_in_full_and_the_rest_is_fetched() {
    let fixture = Fixture::new();
    let mirror = fixture.server(&[("one", gone), ("two", gone)]);
    let snapshot = fixture.server(&[("one", gone), ("two", gone)]);
    for snapshots in [vec![snapshot.base.as_str()], vec![]] {
        let Err(ArchiveError::Dropped(dropped)) = fixture.unpack(&fixture.pool(&[&mirror.base], &snapshots))
        else {
            panic!("two packages are gone")
        };
        assert_eq!(dropped.iter().map(|d| d.package.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(dropped[0].failures.len(), 1 + snapshots.len());
        let message = ArchiveError::Dropped(dropped).to_string();
        assert!(message.contains("2 packages") && message.contains("\n  one 1\n  two 1"), "{message}");
    }
    let left = fixture.packages().split_off(2);
    let offline = fixture.pool_at(fixture.folder.path(), &[], &[], true);
    assert!(offline.fetch(&left).is_ok());
}

#[test]
fn a_dead_mirror_does_not_make_an_absence_less_certain() {
    let fixture = Fixture::new();
    let mirror = fixture.server(&[("one", gone), ("two", gone)]);
    let snapshot = fixture.server(&[]);
    let found = fixture.unpack(&fixture.pool(&[&dead(), &mirror.base], &[&snapshot.base])).unwrap();
    assert_eq!(names(&found.from_snapshots), ["one", "two"]);
    // Each was asked for once: nobody waits for a mirror to get a package back.
    assert_eq!(mirror.paths().iter().filter(|path| *path == "pool/one.deb").count(), 1);
}

#[test]
fn mirrors_that_are_out_of_reach_are_an_error_of_their_own() {
    let fixture = Fixture::new();
    let snapshot = fixture.server(&[]);
    let error = fixture.unpack(&fixture.pool(&[&dead()], &[&snapshot.base])).unwrap_err();
    assert!(matches!(&error, ArchiveError::Fetch(_)), "{error:?}");
    assert!(error.to_string().contains("check the network"), "{error}");
    assert_eq!(snapshot.paths().len(), 0, "nobody has said that a package is gone");
}

#[test]
fn a_snapshot_archive_that_says_nothing_is_asked_once() {
    let fixture = Fixture::new();
    let mirror = fixture.server(&[("one", gone), ("two", gone), ("three", gone)]);
    let silent = Server::start(|_| Reply { cut: Some(0), status: 200, headers: Vec::new(), body: vec![1] });
    let error = fixture.unpack(&fixture.pool(&[&mirror.base], &[&dead()])).unwrap_err();
    let ArchiveError::Dropped(dropped) = error else { panic!("{error:?}") };
    let asked: Vec<usize> = dropped.iter().map(|dropped| dropped.failures.len()).collect();
    assert_eq!(asked.iter().sum::<usize>(), 4, "three times the mirror, once the archive: {asked:?}");
    // One that answers, however badly, is asked again: it may have the next package.
    let error = fixture.unpack(&fixture.pool(&[&mirror.base], &[&silent.base])).unwrap_err();
    let ArchiveError::Dropped(dropped) = error else { panic!("{error:?}") };
    assert!(dropped.iter().all(|dropped| dropped.failures.len() == 2), "{dropped:?}");
}

#[test]
fn wrong_content_is_never_taken_and_never_counts_as_moved_on() {
    let wrong: fn() -> Reply = || Reply::ok(b"a page of a hotel's network");
    let fixture = Fixture::new();
    let mirror = fixture.server(&[("one", wrong)]);
    let good = fixture.server(&[]);
    // Another mirror, else the snapshot archive, has the right one.
    assert_eq!(fixture.unpack(&fixture.pool(&[&mirror.base, &good.base], &[])).unwrap().unpacked.len(), 3);
    let fixture = Fixture::new();
    let (mirror, good) = (fixture.server(&[("one", wrong)]), fixture.server(&[]));
    let found = fixture.unpack(&fixture.pool(&[&mirror.base], &[&good.base])).unwrap();
    assert_eq!(names(&found.from_snapshots), ["one"]);
    let fixture = Fixture::new();
    let mirror = fixture.server(&[("one", wrong)]);
    let error = fixture.unpack(&fixture.pool(&[&mirror.base], &[&mirror.base])).unwrap_err();
    assert!(matches!(&error, ArchiveError::Fetch(_)), "{error:?}");
    assert!(error.to_string().contains("something else than the signed index"), "{error}");
}

#[test]
fn an_interrupted_download_of_a_locked_package_is_resumed() {
    let fixture = Fixture::new();
    let debs = fixture.debs.clone();
    let server = Server::start(move |request| {
        let (_, bytes) = debs.iter().find(|(package, _)| package.filename == request.path).unwrap();
        let range = request
            .headers
            .get("range")
            .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-'));
        match range.map(|start| start.parse::<usize>().unwrap()) {
            None => Reply { cut: Some(bytes.len() / 2), ..Reply::ok(bytes) },
            Some(start) => Reply {
                status: 206,
                headers: vec![(
                    "Content-Range",
                    format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
                )],
                ..Reply::ok(&bytes[start..])
            },
        }
    });
    assert_eq!(fixture.unpack(&fixture.pool(&[&server.base], &[])).unwrap().unpacked.len(), 3);
    let resumed = server.asked().iter().filter(|asked| asked.headers.contains_key("range")).count();
    assert_eq!(resumed, 3);
}

#[test]
fn offline_a_missing_package_is_named_and_nobody_is_asked() {
    let fixture = Fixture::new();
    let server = fixture.server(&[]);
    let offline = fixture.pool_at(fixture.folder.path(), &[&server.base], &[&server.base], true);
    let message = fixture.unpack(&offline).unwrap_err().to_string();
    assert!(message.contains("one_1_all, ") && message.contains("without --offline"), "{message}");
    assert_eq!(server.paths().len(), 0);
}
