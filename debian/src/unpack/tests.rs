use super::*;
use crate::testing::{Item, deb};

fn package(deb: &[u8]) -> Arc<Package> {
    let text = format!(
        "Package: a\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: {}\nSHA256: {}\n",
        deb.len(),
        Digest::of(deb)
    );
    Arc::new(Package::parse(text.as_bytes(), 0, &"trixie".into()).unwrap())
}

struct Fixture {
    folder: tempfile::TempDir,
    cache: Cache,
    package: Arc<Package>,
}

impl Fixture {
    fn new(deb: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.deb"), deb).unwrap();
        Self { cache: Cache::at(folder.path().join("cache")), package: package(deb), folder }
    }

    fn create(&self) -> Result<Unpacked, UnpackError> {
        Unpacked::create(&self.cache, &self.package, &self.folder.path().join("a.deb"))
    }

    fn load(&self) -> Option<Unpacked> {
        Unpacked::load(&self.cache, &self.package, Integrity::Full).unwrap()
    }
}

fn sample() -> Vec<u8> {
    let items = [
        Item::Dir("./"),
        Item::File("./etc/a.conf", b"key = value\n", 0o644),
        Item::Hard("./etc/b.conf", "./etc/a.conf"),
        Item::Link("./etc/c", "a.conf"),
    ];
    deb("a", "1", &items)
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(chain).unwrap_or_default();
    format!("{error}: {cause}")
}

#[test]
fn files_are_read_from_the_cache_the_second_time() {
    let fixture = Fixture::new(&sample());
    assert!(fixture.load().is_none());
    fixture.create().unwrap();
    fs::remove_file(fixture.folder.path().join("a.deb")).unwrap();
    let unpacked = fixture.load().unwrap();
    assert_eq!(unpacked.control["control"], b"Package: a\nVersion: 1\nArchitecture: all\n");
    for path in [&b"etc/a.conf"[..], b"etc/b.conf"] {
        let entry = unpacked.entry(path).unwrap();
        assert_eq!(unpacked.read(entry).unwrap().unwrap(), b"key = value\n");
    }
    assert_eq!(unpacked.read(unpacked.entry(b"etc/c").unwrap()).unwrap(), None);
    let EntryKind::File { offset, size, .. } = unpacked.entries[0].kind else { panic!() };
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    unpacked.open().unwrap().read_exact_at(&mut bytes, offset).unwrap();
    assert_eq!(bytes, b"key = value\n");
}

#[test]
fn every_compression_gives_the_same_tree() {
    let members = ar::members(&mut io::Cursor::new(sample())).unwrap();
    let data = &members[2];
    let start = usize::try_from(data.offset).unwrap();
    let xz = &sample()[start..start + usize::try_from(data.size).unwrap()];
    let mut plain = Vec::new();
    Compression::Xz.decoder(xz).unwrap().read_to_end(&mut plain).unwrap();
    let mut gz = Vec::new();
    flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast()).read_to_end(&mut gz).unwrap();
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let control = crate::testing::tar(&[Item::File("control", b"Package: a\n", 0o644)]);
    let expected = Fixture::new(&sample()).create().unwrap().entries;
    for (name, content) in [("data.tar", &plain), ("data.tar.gz", &gz), ("data.tar.zst", &zst)] {
        let deb = ar::archive(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (name, content)]);
        assert_eq!(Fixture::new(&deb).create().unwrap().entries, expected, "{name}");
    }
}

#[test]
fn tampered_content_and_index_are_noticed() {
    let fixture = Fixture::new(&sample());
    let unpacked = fixture.create().unwrap();
    let data = fs::read(&*unpacked.data).unwrap();
    let at = data.windows(5).position(|w| w == b"value").unwrap();
    let mut changed = data.clone();
    changed[at] = b'V';
    fs::write(&*unpacked.data, &changed).unwrap();
    let message = chain(&unpacked.read(&unpacked.entries[0]).unwrap_err());
    assert!(message.contains("package a 1") && message.contains("\"etc/a.conf\" has changed"), "{message}");
    assert!(unpacked.verify().is_err());
    assert!(fixture.load().is_none(), "a damaged folder counts as missing");
    assert!(!unpacked.data.exists(), "and is removed");

    let index = fixture.create().unwrap().data.with_file_name("index.bin");
    let bytes = fs::read(&index).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(decode(&changed).is_none(), "byte {at}");
    }
    fs::write(&index, &bytes[..bytes.len() - 1]).unwrap();
    assert!(fixture.load().is_none());
}

#[test]
fn broken_packages_are_refused_by_name_and_leave_nothing_behind() {
    let good = sample();
    let cases: [(Vec<u8>, &str); 6] = [
        (b"junk".to_vec(), "not an ar archive"),
        (ar::archive(&[("x", b"2.0\n")]), "first member is not `debian-binary`"),
        (ar::archive(&[("debian-binary", b"3.0\n")]), "version is not 2"),
        (ar::archive(&[("debian-binary", b"2.0\n"), ("control.tar.lz", b"")]), "no control.tar"),
        (deb("a", "1", &[Item::File("../x", b"", 0o644)]), "`..`"),
        (good[..good.len() - 40].to_vec(), "beyond the end"),
    ];
    for (deb, want) in cases {
        let fixture = Fixture::new(&deb);
        let message = chain(&fixture.create().unwrap_err());
        assert!(message.contains(want) && message.contains("package a 1"), "{message:?} has {want:?}");
        let left = fs::read_dir(fixture.cache.unpacked_path(fixture.package.sha256).parent().unwrap());
        assert_eq!(left.map_or(0, Iterator::count), 0, "{want}");
    }
}

#[test]
fn a_flipped_bit_in_compressed_data_is_an_error() {
    let mut deb = sample();
    let at = deb.len() - 60;
    deb[at] ^= 0x10;
    assert!(Fixture::new(&deb).create().is_err());
}

#[test]
fn two_builds_that_unpack_at_once_both_succeed() {
    let fixture = Fixture::new(&sample());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| fixture.create().unwrap())).collect();
        for thread in threads {
            thread.join().unwrap().verify().unwrap();
        }
    });
}

#[test]
fn what_a_killed_build_left_is_removed_a_day_later() {
    let fixture = Fixture::new(&sample());
    let folder = fixture.cache.unpacked_path(fixture.package.sha256);
    let left = |n: u32| folder.with_file_name(format!("{}.tmp-{n}-0", fixture.package.sha256));
    for (n, days) in [(1, 2), (2, 0)] {
        fs::create_dir_all(left(n)).unwrap();
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        File::open(left(n)).unwrap().set_modified(time).unwrap();
    }
    fixture.create().unwrap();
    assert!(!left(1).exists() && left(2).exists() && folder.exists());
}
