//! The etcd client against the real etcd, and beside the real etcdctl.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ferrite_tests::etcd::{Certificates, Etcd, EtcdOptions};
use ferrite_tests::scratch;
use kv::watch::{Update, Watch};
use kv::{
    Client, Compare, Config, Credentials, Error, EventKind, KeyRange, Op, OpResult, TlsFiles, Transaction,
};

/// The longest wait for something that a healthy cluster does at once; elections under load included.
const PATIENCE: Duration = Duration::from_secs(60);

fn single() -> Result<Etcd> {
    Etcd::start(EtcdOptions::default())
}

#[test]
fn ranges_and_transactions_are_what_etcdctl_sees() -> Result<()> {
    let etcd = single()?;
    let client = etcd.client()?;
    let first = client.put(b"/a/1", "täxt\0\n".as_bytes(), 0)?;
    assert_eq!(client.put(b"/a/2", b"", 0)?, first + 1);
    client.put(b"/b", b"x", 0)?;
    assert_eq!(etcd.ctl(&["get", "--prefix", "/a/", "--print-value-only"])?, "täxt\0\n\n\n");
    etcd.ctl(&["put", "/a/3", "by etcdctl"])?;
    let (kvs, revision) = client.range(&KeyRange::prefix("/a/"))?;
    let keys: Vec<&[u8]> = kvs.iter().map(|kv| kv.key.as_slice()).collect();
    assert_eq!(keys, [b"/a/1", b"/a/2", b"/a/3"]);
    assert_eq!(
        (kvs[2].value.as_slice(), kvs[2].mod_revision, revision),
        (&b"by etcdctl"[..], first + 3, first + 3)
    );

    let swap = |expected: i64| Transaction {
        compare: vec![
            Compare::unchanged("/a/1", expected),
            Compare::absent("/a/9"),
            Compare::holds("/b", "x"),
        ],
        success: vec![
            Op::put("/a/1", "new"),
            Op::Delete(KeyRange::prefix("/a/2")),
            Op::Range(KeyRange::prefix("/a/")),
        ],
        failure: vec![Op::Range(KeyRange::key("/a/1"))],
    };
    let done = client.transact(&swap(first))?;
    assert!(done.succeeded && done.revision == first + 4, "{done:?}");
    assert_eq!(done.results[1], OpResult::Delete(1));
    let OpResult::Range(kvs) = &done.results[2] else { bail!("{done:?}") };
    assert_eq!(kvs.len(), 2);
    let refused = client.transact(&swap(first))?;
    assert!(!refused.succeeded && refused.revision == first + 4, "{refused:?}");
    assert_eq!(client.delete(&KeyRange::prefix("/"))?.0, 3);
    assert_eq!(client.get("/a/1")?, None);
    let twice =
        Transaction { success: vec![Op::put("/x", "1"), Op::put("/x", "2")], ..Transaction::default() };
    assert!(matches!(client.transact(&twice), Err(Error::Refused { code: 3, .. })));

    // More keys than a page has.
    for hundred in 0..11 {
        let puts = (0..100).map(|one| Op::put(format!("/many/{hundred:02}{one:02}"), "v"));
        client.transact(&Transaction { success: puts.collect(), ..Transaction::default() })?;
    }
    let (kvs, revision) = client.snapshot(&KeyRange::prefix("/many/"))?;
    assert_eq!((kvs.len(), kvs[1099].key.as_slice()), (1100, &b"/many/1099"[..]));
    client.compact(revision)?;
    assert!(matches!(client.compact(revision - 1), Err(Error::Compacted)));
    Ok(())
}

#[test]
fn keys_go_with_their_lease() -> Result<()> {
    let etcd = single()?;
    let client = etcd.client()?;
    let (lease, ttl) = client.grant(2)?;
    client.put(b"/presence/a", b"here", lease)?;
    assert!(etcd.ctl(&["lease", "list"])?.contains(&format!("{lease:016x}")));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(client.keep_alive(lease)?, ttl);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(client.get("/presence/a")?.context("kept alive")?.lease, lease);
    wait_for("the lease to end", || Ok(client.get("/presence/a")?.is_none()))?;
    assert_eq!(client.keep_alive(lease)?, 0);
    let (lease, _) = client.grant(1000)?;
    client.put(b"/presence/a", b"here", lease)?;
    client.revoke(lease)?;
    client.revoke(lease)?;
    assert_eq!(client.get("/presence/a")?, None);
    Ok(())
}

fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A picture of a range, kept by a watch.
struct Picture {
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    news: Receiver<Update>,
    snapshots: usize,
    _watch: Watch,
}

impl Picture {
    fn of(client: &Client, prefix: &str) -> Result<Self> {
        let (sender, news) = channel();
        let watch = Watch::start(client, KeyRange::prefix(prefix), move |update| match update {
            Ok(update) => sender.send(update).is_ok(),
            Err(trouble) => {
                println!("watch: {trouble}");
                true
            }
        })?;
        Ok(Self { keys: BTreeMap::new(), news, snapshots: 0, _watch: watch })
    }

    /// Waits until the picture shows what etcd has.
    fn wait_until_it_is(&mut self, client: &Client, prefix: &str) -> Result<()> {
        let (kvs, _) = client.range(&KeyRange::prefix(prefix))?;
        let want: BTreeMap<_, _> = kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        let begun = Instant::now();
        while self.keys != want {
            let left = PATIENCE.checked_sub(begun.elapsed()).context("the watch does not follow")?;
            match self.news.recv_timeout(left)? {
                Update::Snapshot { kvs, .. } => {
                    self.snapshots += 1;
                    self.keys = kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
                }
                Update::Events { events, .. } => {
                    for event in events {
                        match event.kind {
                            EventKind::Put => self.keys.insert(event.kv.key, event.kv.value),
                            EventKind::Delete => self.keys.remove(&event.kv.key),
                        };
                    }
                }
            }
        }
        Ok(())
    }
}

#[test]
fn a_watch_misses_nothing_through_a_restart_and_a_compaction() -> Result<()> {
    // Durable: an acknowledged write must be there after the kill.
    let mut etcd = Etcd::start(EtcdOptions { durable: true, ..EtcdOptions::default() })?;
    let client = etcd.client()?;
    client.put(b"/w/0", b"before", 0)?;
    client.put(b"/other", b"x", 0)?;
    let mut picture = Picture::of(&client, "/w/")?;
    picture.wait_until_it_is(&client, "/w/")?;
    for number in 0..50 {
        client.put(format!("/w/{}", number % 7).as_bytes(), number.to_string().as_bytes(), 0)?;
        client.put(b"/other", number.to_string().as_bytes(), 0)?;
    }
    client.delete(&KeyRange::key("/w/3"))?;
    picture.wait_until_it_is(&client, "/w/")?;
    assert_eq!(picture.snapshots, 1, "nothing had to be read again");

    etcd.kill(0)?;
    etcd.restart(0)?;
    etcd.wait_until_ready()?;
    client.put(b"/w/after", b"1", 0)?;
    picture.wait_until_it_is(&client, "/w/")?;
    assert_eq!(picture.snapshots, 1, "resumed at its revision");

    // While the stream is away its revision goes.
    let line = Line::to(&etcd)?;
    let config = Config { endpoints: vec![format!("http://127.0.0.1:{}", line.port)], ..etcd.config() };
    let mut far = Picture::of(&Client::new(config)?, "/w/")?;
    far.wait_until_it_is(&client, "/w/")?;
    line.cut();
    client.delete(&KeyRange::key("/w/0"))?;
    let revision = client.put(b"/w/last", b"2", 0)?;
    client.compact(revision)?;
    line.mend();
    far.wait_until_it_is(&client, "/w/")?;
    assert_eq!(far.snapshots, 2, "read again");
    client.put(b"/w/last", b"3", 0)?;
    far.wait_until_it_is(&client, "/w/")?;
    picture.wait_until_it_is(&client, "/w/")?;
    assert_eq!((picture.snapshots, far.snapshots), (1, 2));
    Ok(())
}

/// A line to etcd that can be cut.
struct Line {
    port: u16,
    whole: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(etcd: &Etcd) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let target = etcd.endpoints()[0].trim_start_matches("http://").to_owned();
        let line = Self {
            port: listener.local_addr()?.port(),
            whole: Arc::new(AtomicBool::new(true)),
            streams: Arc::default(),
        };
        let (whole, streams) = (Arc::clone(&line.whole), Arc::clone(&line.streams));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Some(far) = TcpStream::connect(&target).ok().filter(|_| whole.load(Ordering::SeqCst))
                else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    streams.lock().unwrap().push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Ok(line)
    }

    fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_member_that_is_dead_stopped_or_without_a_quorum_is_left_for_another_one() -> Result<()> {
    let mut etcd = Etcd::start(EtcdOptions { members: 3, durable: true, ..EtcdOptions::default() })?;
    let client = etcd.client()?;
    client.put(b"/f", b"0", 0)?;
    // The client's own endpoint is killed; whoever was the leader, another one is found.
    etcd.kill(0)?;
    put_somehow(&client, b"/f", b"1")?;
    assert_eq!(client.get("/f")?.context("/f")?.value, b"1");
    etcd.restart(0)?;
    etcd.wait_until_ready()?;
    // One that does not answer, though its connection stands.
    for index in 0..3 {
        etcd.let_run(index, false)?;
        put_somehow(&client, b"/f", b"2")?;
        assert_eq!(client.get("/f")?.context("/f")?.value, b"2");
        etcd.let_run(index, true)?;
    }
    // A minority refuses, within the deadline.
    etcd.kill(1)?;
    etcd.kill(2)?;
    let begun = Instant::now();
    assert!(matches!(client.get("/f"), Err(Error::Unavailable { .. })));
    assert!(matches!(client.put(b"/f", b"3", 0), Err(Error::Unknown { .. } | Error::Unavailable { .. })));
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    etcd.restart(1)?;
    put_somehow(&client, b"/f", b"4")?;
    assert_eq!(client.get("/f")?.context("/f")?.value, b"4");
    Ok(())
}

/// Puts until it is certain; the same value twice does no harm.
fn put_somehow(client: &Client, key: &[u8], value: &[u8]) -> Result<()> {
    let begun = Instant::now();
    loop {
        match client.put(key, value, 0) {
            Ok(_) => return Ok(()),
            Err(error @ (Error::Unknown { .. } | Error::Unavailable { .. })) => {
                println!("{:?}: {error}", begun.elapsed());
                if begun.elapsed() > PATIENCE {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn tls_wants_the_right_ca_and_a_client_certificate() -> Result<()> {
    let folder = scratch()?;
    let certificates = Certificates::new(folder.path())?;
    let etcd =
        Etcd::start(EtcdOptions { certificates: Some(certificates.clone()), ..EtcdOptions::default() })?;
    let client = etcd.client()?;
    client.put(b"/tls", b"yes", 0)?;
    assert_eq!(etcd.ctl(&["get", "/tls", "--print-value-only"])?, "yes\n");
    let mut picture = Picture::of(&client, "/tls")?;
    picture.wait_until_it_is(&client, "/tls")?;
    client.put(b"/tls", b"watched", 0)?;
    picture.wait_until_it_is(&client, "/tls")?;
    let deadline = Duration::from_secs(1);
    let without = Config {
        tls: TlsFiles { ca: Some(certificates.file("ca.pem")), ..TlsFiles::default() },
        deadline,
        ..etcd.config()
    };
    assert!(Client::new(without)?.get("/tls").is_err(), "no certificate");
    let stranger = TlsFiles { ca: Some(certificates.file("client.pem")), ..certificates.of_client() };
    let stranger = Config { tls: stranger, deadline, ..etcd.config() };
    assert!(Client::new(stranger)?.get("/tls").is_err(), "another CA");
    Ok(())
}

#[test]
fn a_user_of_etcds_own_gets_in_by_password() -> Result<()> {
    let etcd = single()?;
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "lock:word"],
        &["role", "add", "locker"],
        &["role", "grant-permission", "locker", "readwrite", "--prefix=true", "/coreos.com/"],
        &["user", "grant-role", "root", "root"],
        &["user", "grant-role", "lock", "locker"],
        &["auth", "enable"],
    ] {
        etcd.ctl(words)?;
    }
    let with = |user: &str, password: &str| {
        let credentials = Some(Credentials { user: user.to_owned(), password: password.to_owned() });
        Client::new(Config { credentials, ..etcd.config() })
    };
    assert!(matches!(etcd.client()?.get("/coreos.com/x"), Err(Error::Refused { .. })));
    assert!(matches!(with("lock", "wrong")?.get("/coreos.com/x"), Err(Error::Refused { .. })));
    let client = with("lock", "word")?;
    client.put(b"/coreos.com/x", b"1", 0)?;
    assert!(matches!(client.put(b"/elsewhere", b"1", 0), Err(Error::Refused { code: 7, .. })));
    Ok(())
}

/// Not a promise, a figure: run with `--nocapture` on an idle machine.
#[test]
fn operations_a_second_beside_etcdctl() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions { durable: true, ..EtcdOptions::default() })?;
    let client = etcd.client()?;
    let value = [b'v'; 256];
    let rate = |count: u32, mut each: Box<dyn FnMut(u32) -> Result<()> + '_>| -> Result<f64> {
        let begun = Instant::now();
        for number in 0..count {
            each(number)?;
        }
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    };
    let text = String::from_utf8(value.to_vec())?;
    let puts = rate(
        400,
        Box::new(|number| Ok(client.put(format!("/bench/{number}").as_bytes(), &value, 0).map(drop)?)),
    )?;
    let gets = rate(400, Box::new(|number| Ok(client.get(format!("/bench/{number}")).map(drop)?)))?;
    let swaps = rate(
        400,
        Box::new(|number| {
            let transaction = Transaction {
                compare: vec![Compare::absent(format!("/swap/{number}"))],
                success: vec![Op::put(format!("/swap/{number}"), value)],
                ..Transaction::default()
            };
            Ok(client.transact(&transaction).map(drop)?)
        }),
    )?;
    let their_puts =
        rate(20, Box::new(|number| etcd.ctl(&["put", &format!("/bench/{number}"), &text]).map(drop)))?;
    let their_gets = rate(20, Box::new(|number| etcd.ctl(&["get", &format!("/bench/{number}")]).map(drop)))?;
    println!(
        "256-byte values, one after the other, one durable member: put {puts:.0}/s, get {gets:.0}/s, compare-and-put {swaps:.0}/s; \
         etcdctl, a process each: put {their_puts:.1}/s, get {their_gets:.1}/s"
    );
    assert!(puts > their_puts && gets > their_gets);
    Ok(())
}
