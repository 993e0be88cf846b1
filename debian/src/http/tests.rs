use super::*;
use crate::progress::Silent;
use crate::testing::{Reply, Server};

fn impatient() -> Patience {
    Patience {
        rounds: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        timeout: Duration::from_millis(500),
    }
}

fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn wanted() -> Wanted {
    let content = content();
    Wanted { path: "pool/file".to_owned(), size: content.len() as u64, sha256: Digest::of(&content) }
}

struct Fixture {
    _folder: tempfile::TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { cache: Cache::at(folder.path()), _folder: folder }
    }

    fn fetch(&self, mirrors: &Mirrors) -> Result<PathBuf, FetchError> {
        let (patience, client) = (impatient(), LazyClient::default());
        Fetcher::new(mirrors, &patience, &client, &Silent).file(&self.cache, &wanted(), &Silent)
    }

    fn fetch_right(&self, mirrors: &Mirrors) {
        assert!(std::fs::read(self.fetch(mirrors).unwrap()).unwrap() == content());
        assert!(!self.cache.partial_path(wanted().sha256).exists());
    }
}

/// An address that refuses connections.
fn dead() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn ranged(request: &crate::testing::Asked) -> Reply {
    let content = content();
    let start =
        request.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        Some(start) => Reply {
            status: 206,
            headers: vec![(
                "Content-Range",
                format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
            )],
            ..Reply::ok(&content[start..])
        },
        None => Reply::ok(&content),
    }
}

#[test]
fn the_next_mirror_is_asked_when_one_fails() {
    let missing = Server::start(|_| Reply::status(404));
    let wrong = Server::start(|_| Reply::ok(&vec![7; content().len()]));
    let good = Server::start(|_| Reply::ok(&content()));
    Fixture::new().fetch_right(&Mirrors::new([&dead(), &missing.base, &wrong.base, &good.base]));
    assert_eq!((missing.paths().len(), wrong.paths().len(), good.paths().len()), (1, 1, 1));
}

#[test]
fn a_broken_download_is_resumed_where_it_stopped() {
    let server = Server::start(|request| match request.times_before {
        0 => Reply { cut: Some(300_000), ..Reply::ok(&content()) },
        _ => ranged(request),
    });
    Fixture::new().fetch_right(&server.mirrors());
    let asked = server.asked();
    let start: u64 =
        asked[1].headers["range"].trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!((1..=300_000).contains(&start), "{start}");
}

#[test]
fn a_download_is_resumed_by_a_later_run() {
    let fixture = Fixture::new();
    let cutting = Server::start(|_| Reply { cut: Some(100_000), ..Reply::ok(&content()) });
    assert!(fixture.fetch(&cutting.mirrors()).is_err());
    let server = Server::start(ranged);
    fixture.fetch_right(&server.mirrors());
    assert!(server.asked()[0].headers.contains_key("range"));
}

#[test]
fn servers_that_cannot_resume_start_over() {
    for status in [200, 206, 416] {
        let fixture = Fixture::new();
        let partial = fixture.cache.partial_path(wanted().sha256);
        create_parent(&partial).unwrap();
        std::fs::write(&partial, &content()[..1000]).unwrap();
        let server = Server::start(move |request| match (request.times_before, status) {
            (0, 416) => Reply::status(416),
            (0, 206) => Reply { status: 206, ..Reply::ok(&content()) },
            _ => Reply::ok(&content()),
        });
        fixture.fetch_right(&server.mirrors());
    }
}

#[test]
fn a_partial_file_that_is_wrong_is_thrown_away() {
    for junk in [vec![9; 1000], vec![9; content().len()], vec![9; content().len() + 5]] {
        let fixture = Fixture::new();
        let partial = fixture.cache.partial_path(wanted().sha256);
        create_parent(&partial).unwrap();
        std::fs::write(&partial, &junk).unwrap();
        fixture.fetch_right(&Server::start(ranged).mirrors());
    }
}

#[test]
fn temporary_errors_are_tried_again_and_lasting_ones_are_not() {
    let server = Server::start(|request| match request.times_before {
        0 => Reply::status(503),
        1 => Reply::status(429),
        _ => Reply::ok(&content()),
    });
    Fixture::new().fetch_right(&server.mirrors());
    let server = Server::start(|_| Reply::status(404));
    let error = Fixture::new().fetch(&server.mirrors()).unwrap_err();
    assert!(error.is_absent());
    assert_eq!(server.paths(), ["pool/file"], "asked once");
    let message = error.to_string();
    let url = format!("{}/pool/file: the server answers 404", server.base);
    assert!(message.contains(&url) && message.contains("hint: the mirror has moved on"), "{message}");
}

#[test]
fn wrong_and_oversized_content_is_never_stored() {
    for body in [vec![7; content().len()], [content(), vec![0]].concat()] {
        let fixture = Fixture::new();
        let server = Server::start(move |_| Reply::ok(&body));
        let message = fixture.fetch(&server.mirrors()).unwrap_err().to_string();
        assert!(
            message.contains("pool/file") && message.contains("something else than the signed index"),
            "{message}"
        );
        assert_eq!(fixture.cache.object(wanted().sha256, None).unwrap(), None);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(4));
        Reply::status(500)
    });
    let start = std::time::Instant::now();
    assert!(Fixture::new().fetch(&server.mirrors()).is_err());
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_proxy_that_refuses_is_passed_over_and_named() {
    for status in [407, 502] {
        let proxy = Server::start(move |_| Reply::status(status));
        let good = Server::start(|_| Reply::ok(&content()));
        Fixture::new().fetch_right(&Mirrors::new([&proxy.base, &good.base]));
        let error = Fixture::new().fetch(&proxy.mirrors()).unwrap_err();
        assert!(!error.is_absent() && !error.is_mismatch() && !error.is_silence(), "{error}");
        let message = error.to_string();
        assert!(message.contains(&status.to_string()) && message.contains("http_proxy"), "{message}");
    }
}

#[test]
fn absence_is_final_only_where_the_file_can_be_had_elsewhere() {
    let (gone, busy) = (Server::start(|_| Reply::status(404)), Server::start(|_| Reply::status(503)));
    let mirrors = Mirrors::new([&gone.base, &busy.base]);
    let (patience, client) = (impatient(), LazyClient::default());
    for (absence, rounds) in [(Absence::MayPass, 3), (Absence::IsFinal, 1)] {
        let before = busy.paths().len();
        let fetcher = Fetcher::new(&mirrors, &patience, &client, &Silent).with_absence(absence);
        let error = fetcher.file(&Fixture::new().cache, &wanted(), &Silent).unwrap_err();
        assert!(error.is_absent());
        assert_eq!(busy.paths().len() - before, rounds, "{absence:?}");
    }
}

#[test]
fn several_builds_fetch_a_file_once() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(50));
        Reply::ok(&content())
    });
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Each with a cache of its own on the same folder, as processes have.
            scope.spawn(|| {
                let own =
                    Fixture { _folder: tempfile::tempdir().unwrap(), cache: Cache::at(fixture.cache.root()) };
                // Whether a partial file is there just now is another thread's business: they wait in line with it.
                assert!(std::fs::read(own.fetch(&server.mirrors()).unwrap()).unwrap() == content());
            });
        }
    });
    assert!(!fixture.cache.partial_path(wanted().sha256).exists());
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn no_mirrors_is_an_error() {
    assert!(matches!(Fixture::new().fetch(&Mirrors::default()), Err(FetchError::NoMirror { .. })));
}

#[test]
fn documents_have_a_largest_size() {
    let server = Server::start(|_| Reply::ok(&[b'x'; 101]));
    let (mirrors, patience, client) = (server.mirrors(), impatient(), LazyClient::default());
    let fetcher = Fetcher::new(&mirrors, &patience, &client, &Silent);
    assert!(fetcher.document("d", 101, None, Ok).is_ok());
    let message = fetcher.document("d", 100, None, Ok).unwrap_err().to_string();
    assert!(message.contains("larger than 100 bytes"), "{message}");
}
