use super::*;
use crate::progress::Silent;
use crate::testing::{Item, Key, Reply, Repository, Server, days, deb, noon};
use std::fs;

fn config(cache: &Path, mirrors: Mirrors, key: &Key) -> Config {
    let suite = Suite {
        name: "trixie".to_owned(),
        components: vec!["main".to_owned()],
        mirrors,
        snapshots: Mirrors::default(),
    };
    Config {
        cache: Cache::at(cache),
        suites: vec![suite],
        architecture: "amd64".to_owned(),
        offline: false,
        allow_expired: false,
        revalidate_after: Duration::ZERO,
        keyring: key.keyring(),
        now: noon() + Duration::from_secs(60),
        patience: Patience {
            rounds: 2,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(1),
            timeout: Duration::from_secs(5),
        },
        downloads: 2,
    }
}

fn open(config: Config) -> Result<Archive, ArchiveError> {
    Archive::open(config, Arc::new(Silent))
}

fn repository(key: &Key) -> Repository {
    let tool = deb("tool", "1", &[Item::File("./bin/tool", b"tool", 0o755)]);
    let library = deb("library", "2", &[Item::File("./usr/lib/library", b"library", 0o644)]);
    Repository::new(key, &[("tool", "1", "Depends: library\n", tool), ("library", "2", "", library)])
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(chain).unwrap_or_default();
    format!("{error}: {cause}")
}

fn requests() -> Vec<Request> {
    vec!["tool".parse().unwrap()]
}

#[test]
fn a_closure_is_fetched_verified_and_extracted_and_then_comes_from_the_cache() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let server = repository(&key).serve();
    let archive = open(config(folder.path(), server.mirrors(), &key)).unwrap();
    let closure = archive.fetch_closure_to_dir(&requests(), &[], &folder.path().join("one")).unwrap();
    assert_eq!(closure.selected.len(), 2);
    assert_eq!(fs::read(folder.path().join("one/usr/bin/tool")).unwrap(), b"tool");
    assert!(folder.path().join("one/usr/lib/library").exists());

    let asked = server.paths().len();
    let offline = Config { offline: true, ..config(folder.path(), server.mirrors(), &key) };
    let archive = open(offline.clone()).unwrap();
    archive.fetch_closure_to_dir(&requests(), &[], &folder.path().join("two")).unwrap();
    let other_mirrors = Mirrors::new(["http://127.0.0.1:1"]);
    let suites = vec![Suite { mirrors: other_mirrors, ..offline.suites[0].clone() }];
    open(Config { suites, ..offline }).unwrap();
    assert_eq!(server.paths().len(), asked, "offline asks nobody");
}

#[test]
fn offline_names_what_the_cache_lacks() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let server = repository(&key).serve();
    let offline = || Config { offline: true, ..config(folder.path(), server.mirrors(), &key) };
    let message = open(offline()).unwrap_err().to_string();
    assert!(
        message.contains("lacks the signed index of suite trixie") && message.contains("hint"),
        "{message}"
    );
    open(config(folder.path(), server.mirrors(), &key)).unwrap();
    let archive = open(offline()).unwrap();
    let closure = archive.resolve(&requests(), &[]).unwrap();
    let message = archive.fetch(&closure.packages()).unwrap_err().to_string();
    assert!(message.contains("library_2_all, tool_1_all"), "{message}");
}

/// Serves the repository with one file changed and returns what opening and fetching from it says.
fn with_change(key: &Key, change: impl FnOnce(&mut Repository)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut repository = repository(key);
    change(&mut repository);
    let server = repository.serve();
    let result = open(config(folder.path(), server.mirrors(), key))
        .and_then(|archive| archive.fetch_closure_to_dir(&requests(), &[], &folder.path().join("out")));
    chain(&result.unwrap_err())
}

fn replace(repository: &mut Repository, part: &str, change: impl Fn(&mut Vec<u8>)) {
    for (_, bytes) in repository.files.iter_mut().filter(|(path, _)| path.contains(part)) {
        change(bytes);
    }
}

#[test]
fn tampered_files_stop_the_build_with_their_name() {
    let key = Key::new();
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let message = with_change(&key, |r| {
        replace(r, "InRelease", |b| {
            let text = String::from_utf8(b.clone()).unwrap();
            *b = text.replace("stable", "stabke").into_bytes();
        })
    });
    assert!(
        message.contains("dists/trixie/InRelease") && message.contains("does not match the text"),
        "{message}"
    );
    let message = with_change(&key, |r| replace(r, "binary-amd64", flip));
    assert!(message.contains("binary-amd64") && message.contains("has SHA-256"), "{message}");
    let message = with_change(&key, |r| replace(r, "library_2.deb", flip));
    assert!(message.contains("pool/library_2.deb") && message.contains("has SHA-256"), "{message}");
    let message = with_change(&key, |r| replace(r, "library_2.deb", |b| b.truncate(100)));
    assert!(message.contains("pool/library_2.deb") && message.contains("got 100 bytes"), "{message}");
    let message = with_change(&key, |r| r.sign(&Key::new(), noon(), ""));
    assert!(
        message.contains("dists/trixie/InRelease") && message.contains("not by a trusted key"),
        "{message}"
    );
}

#[test]
fn a_mirror_with_a_bad_signature_is_passed_over() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let mut bad = repository(&key);
    bad.sign(&Key::new(), noon(), "");
    let (bad, good) = (bad.serve(), repository(&key).serve());
    open(config(folder.path(), Mirrors::new([&bad.base, &good.base]), &key)).unwrap();
}

#[test]
fn an_expired_index_is_refused_unless_allowed_or_offline() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let server = repository(&key).serve();
    let later = || Config { now: noon() + days(10), ..config(folder.path(), server.mirrors(), &key) };
    let message = open(later()).unwrap_err().to_string();
    assert!(message.contains("expired 3 days ago"), "{message}");
    open(Config { allow_expired: true, ..later() }).unwrap();
    open(Config { offline: true, ..later() }).unwrap();
}

#[test]
fn another_suite_under_the_name_is_refused() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let mut files = repository(&key);
    let release = files.files["dists/trixie/InRelease"].clone();
    files.files.insert("dists/forky/InRelease".to_owned(), release);
    let server = files.serve();
    let mut config = config(folder.path(), server.mirrors(), &key);
    config.suites[0].name = "forky".to_owned();
    let message = open(config).unwrap_err().to_string();
    assert!(message.contains("codename \"trixie\", but \"forky\" was asked for"), "{message}");
}

#[test]
fn an_older_index_than_the_cached_one_is_refused() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let newer = {
        let mut repository = repository(&key);
        repository.sign(&key, noon() + Duration::from_secs(3600), "");
        repository.files["dists/trixie/InRelease"].clone()
    };
    let older = repository(&key);
    let server = Server::start(move |request| {
        if request.path.ends_with("InRelease") && request.times_before == 0 {
            return Reply::ok(&newer);
        }
        older.files.get(&request.path).map_or(Reply::status(404), |b| Reply::ok(b))
    });
    open(config(folder.path(), server.mirrors(), &key)).unwrap();
    let message = open(config(folder.path(), server.mirrors(), &key)).unwrap_err().to_string();
    assert!(message.contains("older than the one in the cache"), "{message}");
}

#[test]
fn a_confirmed_index_is_not_asked_for_again_and_an_old_one_conditionally() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let files = repository(&key);
    let modified = "Sat, 12 Sep 2026 07:56:18 GMT";
    let server = Server::start(move |request| match request.headers.get("if-modified-since") {
        Some(since) if since == modified => Reply::status(304),
        _ => Reply {
            headers: vec![("Last-Modified", modified.to_owned())],
            ..files.files.get(&request.path).map_or(Reply::status(404), |b| Reply::ok(b))
        },
    });
    let count = || server.paths().iter().filter(|path| path.ends_with("InRelease")).count();
    let now = SystemTime::now();
    let with = |revalidate_after| Config {
        revalidate_after,
        now,
        allow_expired: true,
        ..config(folder.path(), server.mirrors(), &key)
    };
    open(with(Duration::ZERO)).unwrap();
    open(with(Duration::ZERO)).unwrap();
    assert_eq!(count(), 2);
    assert!(server.asked().last().unwrap().headers.contains_key("if-modified-since"));
    let fresh = |seconds| {
        let confirmed = Duration::from_secs(seconds);
        Config { revalidate_after: Duration::from_secs(600), now: now + confirmed, ..with(Duration::ZERO) }
    };
    // The fixture has expired long before the wall clock's now: only then is it asked for again.
    open(Config { now: noon() + Duration::from_secs(60), ..fresh(0) }).unwrap();
    let file = walk(&folder.path().join("releases"));
    fs::File::options().append(true).open(&file).unwrap().set_modified(noon()).unwrap();
    let before = count();
    open(Config { now: noon() + Duration::from_secs(599), ..fresh(0) }).unwrap();
    assert_eq!(count(), before, "confirmed less than ten minutes ago");
    open(Config { now: noon() + Duration::from_secs(601), ..fresh(0) }).unwrap();
    assert_eq!(count(), before + 1);
}

fn walk(folder: &Path) -> PathBuf {
    fs::read_dir(folder).unwrap().next().unwrap().unwrap().path().join("InRelease")
}

#[test]
fn mirrors_without_by_hash_serve_indexes_by_name() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let mut files = repository(&key);
    files.files.retain(|path, _| !path.contains("by-hash"));
    open(config(folder.path(), files.serve().mirrors(), &key)).unwrap();
}

#[test]
fn a_damaged_cache_is_repaired_by_fetching_again() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let server = repository(&key).serve();
    let archive = open(config(folder.path(), server.mirrors(), &key)).unwrap();
    let packages = archive.resolve(&requests(), &[]).unwrap().packages();
    let unpacked = archive.unpack(&packages, Integrity::Full).unwrap();
    fs::write(archive.cache().object_path(packages[0].sha256), b"junk").unwrap();
    fs::write(&*unpacked[0].data, b"junk").unwrap();
    let release = walk(&folder.path().join("releases"));
    fs::write(&release, b"junk").unwrap();
    let archive = open(config(folder.path(), server.mirrors(), &key)).unwrap();
    let again = archive.unpack(&packages, Integrity::Full).unwrap();
    assert_eq!(again[0].entries, unpacked[0].entries);
}

#[test]
fn the_components_index_must_exist() {
    let (key, folder) = (Key::new(), tempfile::tempdir().unwrap());
    let server = repository(&key).serve();
    let mut config = config(folder.path(), server.mirrors(), &key);
    config.suites[0].components = vec!["contrib".to_owned()];
    let message = open(config).unwrap_err().to_string();
    assert!(message.contains("suite trixie has no index contrib/binary-amd64/Packages"), "{message}");
}
