//! The journal with real sockets and files: what is sent on each of them is found by `journalctl`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use init::journal::config::Config;
use init::journal::daemon::{Journald, Machine, Setup};
use init::journal::entry::Id;
use init::journal::ports::{Inherited, Ports};
use init::journal::stream::Header;
use init::journal::{client, native, sockets, varlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const MACHINE: Machine = Machine { machine: Id(0xfe), boot: Id(0xb0) };

struct Bench {
    root: tempfile::TempDir,
    ports: Ports,
    store: OwnedFd,
    lent: OwnedFd,
}

impl Bench {
    fn new() -> Bench {
        let root = tempfile::tempdir().unwrap();
        let ports = Ports::bind(&root.path().join("run/systemd/journal")).unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (store, lent) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        Bench { root, ports, store, lent }
    }

    fn journal(&self, config: Config, streams: Vec<(String, OwnedFd)>) -> Journald {
        let copy = |socket: &OwnedFd| socket.try_clone().unwrap();
        let ports = Ports {
            native: copy(&self.ports.native),
            stdout: copy(&self.ports.stdout),
            syslog: copy(&self.ports.syslog),
        };
        Journald::new(Setup {
            root: self.root.path().to_owned(),
            inherited: Inherited { ports, streams, keeper: Some(copy(&self.lent)) },
            config,
            machine: MACHINE,
            kernel: None,
            signals: None,
            pulse: None,
        })
        .unwrap()
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.root.path().join("run/systemd/journal").join(name)
    }

    fn send(&self, name: &str, bytes: &[u8]) {
        UnixDatagram::unbound().unwrap().send_to(bytes, self.socket(name)).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("var/log/journal").join(MACHINE.machine.to_string())
    }

    fn journalctl(&self, words: &[&str]) -> (String, Option<i32>) {
        journalctl(&self.folder(), words)
    }
}

fn journalctl(folder: &Path, words: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_init"))
        .args(["journalctl", "-D", folder.to_str().unwrap()])
        .args(words)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

fn header(unit: &str) -> Header {
    Header {
        identifier: "app".to_owned(),
        unit: unit.to_owned(),
        priority: 30,
        level_prefix: true,
        to_console: false,
    }
}

fn settle(journal: &mut Journald) {
    while journal.turn(Some(0)) {}
}

#[test]
fn every_socket_leads_to_journalctl() {
    let bench = Bench::new();
    // Sent before the journal runs: it waits in the sockets.
    bench.send("dev-log", b"<27>Nov 26 02:56:09 cron[99]: by syslog\n");
    bench.send(
        "socket",
        &native::message([("MESSAGE", &b"by native"[..]), ("PRIORITY", b"4"), ("_UID", b"9")]),
    );
    let mut stream =
        File::from(client::open_stream(&bench.socket("stdout"), &header("app.service")).unwrap());
    stream.write_all(b"<3>by stream\nno end").unwrap();
    drop(stream);
    let mut journal = bench.journal(Config::default(), Vec::new());
    settle(&mut journal);

    let (text, code) = bench.journalctl(&["-o", "json"]);
    assert_eq!(code, Some(0));
    let entries: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str| entries.iter().find(|entry| entry["MESSAGE"] == message).unwrap();
    let syslog = find("by syslog");
    assert_eq!(
        (&syslog["SYSLOG_PID"], &syslog["_TRANSPORT"], &syslog["PRIORITY"]),
        (&"99".into(), &"syslog".into(), &"3".into())
    );
    let native = find("by native");
    let own = std::process::id().to_string();
    assert_eq!(native["_PID"], own.as_str());
    assert_ne!(native["_UID"], "9", "nobody sets trusted fields");
    assert_eq!(native["_BOOT_ID"], MACHINE.boot.to_string());
    for field in
        ["_COMM", "_EXE", "_CMDLINE", "_HOSTNAME", "_MACHINE_ID", "__CURSOR", "__MONOTONIC_TIMESTAMP"]
    {
        assert!(native[field].is_string(), "{field}");
    }
    assert_eq!(
        (&find("by stream")["PRIORITY"], &find("no end")["_LINE_BREAK"]),
        (&"3".into(), &"eof".into())
    );
    let is_root = rustix::process::getuid().is_root();
    let (text, _) = bench.journalctl(&["-u", "app", "-o", "cat"]);
    // The unit of a stream is believed when root opens it, unless the test runs in a unit itself.
    assert!(!is_root || text.contains("by stream") || find("by stream")["_SYSTEMD_UNIT"].is_string());
    let (text, _) =
        bench.journalctl(&["-p", "err", "-n1", "-o", "cat", "--grep", "STREAM", "--case-sensitive=no"]);
    assert_eq!(text, "by stream\n");
    let (text, code) = bench.journalctl(&["-g", "nothing like it"]);
    assert_eq!((text.as_str(), code), ("-- No entries --\n", Some(1)));
}

#[test]
fn a_large_message_comes_in_a_file_and_other_files_are_refused() {
    let bench = Bench::new();
    let mut journal = bench.journal(Config::default(), Vec::new());
    let memory = rustix::fs::memfd_create("message", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut memory = File::from(memory);
    let long = vec![b'x'; 1 << 20];
    memory.write_all(&native::message([("MESSAGE", &b"large"[..]), ("DATA", &long)])).unwrap();
    memory.rewind().unwrap();
    let socket = client::open_native(&bench.socket("socket")).unwrap();
    sockets::send(&socket, b"", &[memory.as_fd()]).unwrap();
    let fifo = rustix::pipe::pipe().unwrap().0;
    sockets::send(&socket, b"", &[fifo.as_fd()]).unwrap();
    settle(&mut journal);
    let (text, _) = bench.journalctl(&["-o", "json", "-a", "MESSAGE=large"]);
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(entry["DATA"].as_str().unwrap().len(), long.len());
    let (text, _) = bench.journalctl(&["-o", "cat", "-t", "systemd-journald"]);
    assert!(text.contains("is refused: it is no regular file"), "{text}");
}

#[test]
fn a_stream_goes_on_in_the_next_journal() {
    let bench = Bench::new();
    let mut stream = File::from(client::open_stream(&bench.socket("stdout"), &header("")).unwrap());
    stream.write_all(b"first life\n").unwrap();
    let mut journal = bench.journal(Config::default(), Vec::new());
    settle(&mut journal);
    let mut buffer = [0; 2048];
    let kept = sockets::receive(&bench.store, &mut buffer).unwrap();
    let name = String::from_utf8(buffer[..kept.count].to_vec()).unwrap();
    drop(journal);
    stream.write_all(b"between lives\n").unwrap();
    let streams = kept.descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)).collect();
    let mut journal = bench.journal(Config::default(), streams);
    settle(&mut journal);
    let (text, _) = bench.journalctl(&["-t", "app", "-o", "cat"]);
    assert_eq!(text, "first life\nbetween lives\n");
    // Its end is told, so that the copy is closed.
    drop(stream);
    settle(&mut journal);
    let told = sockets::receive(&bench.store, &mut buffer).unwrap();
    assert_eq!((&buffer[..told.count], told.descriptors.len()), (name.as_bytes(), 0));
}

#[test]
fn a_flood_is_cut_and_counted() {
    let bench = Bench::new();
    let config = Config { rate_burst: 10, rate_interval: 3_600_000_000, ..Config::default() };
    let mut journal = bench.journal(config, Vec::new());
    let mut stream = File::from(client::open_stream(&bench.socket("stdout"), &header("")).unwrap());
    for _ in 0..500 {
        stream.write_all(b"flood\n").unwrap();
    }
    settle(&mut journal);
    let (text, _) = bench.journalctl(&["-t", "app", "-o", "cat"]);
    assert_eq!(text.lines().count(), 10);
}

#[test]
fn journalctl_rotates_syncs_and_vacuums() {
    let bench = Bench::new();
    let mut journal = bench.journal(Config::default(), Vec::new());
    for round in 0..3 {
        bench.send("socket", &native::message([("MESSAGE", format!("round {round}").as_bytes())]));
        let path = bench.socket(varlink::NAME);
        let asker = std::thread::spawn(move || {
            varlink::call(&path, "Synchronize").and_then(|()| varlink::call(&path, "Rotate"))
        });
        while !asker.is_finished() {
            // Woken by the asker's connection; the limit is for its end.
            let soon = init::journal::entry::Stamp::now().monotonic + 50_000;
            journal.turn(Some(soon));
        }
        let answer = asker.join().unwrap();
        assert!(answer.is_ok() || !rustix::process::getuid().is_root(), "{answer:?}");
    }
    let count = || fs::read_dir(bench.folder()).unwrap().count();
    let (text, _) = bench.journalctl(&["-o", "cat", "_TRANSPORT=journal"]);
    assert_eq!(text, "round 0\nround 1\nround 2\n");
    let (text, _) = bench.journalctl(&["-r", "-n", "2", "-o", "cat"]);
    assert_eq!(text, "round 2\nround 1\n");
    let before = count();
    let (_, code) = bench.journalctl(&["--vacuum-size=1"]);
    assert_eq!((code, count()), (Some(0), 1.min(before)));
}

#[test]
fn cursors_boots_and_errors_are_as_in_journalctl() {
    let bench = Bench::new();
    let mut journal = bench.journal(Config::default(), Vec::new());
    for number in 0..5 {
        bench.send("socket", &native::message([("MESSAGE", format!("m{number}").as_bytes())]));
    }
    settle(&mut journal);
    let (text, _) = bench.journalctl(&["-n", "+2", "-o", "cat", "--show-cursor"]);
    let cursor = text.lines().last().unwrap().strip_prefix("-- cursor: ").unwrap().to_owned();
    let (text, _) = bench.journalctl(&["--after-cursor", &cursor, "-o", "cat"]);
    assert_eq!(text, "m2\nm3\nm4\n");
    let (text, _) = bench.journalctl(&["--cursor", &cursor, "-o", "cat", "-n", "2"]);
    assert_eq!(text, "m1\nm2\n");
    let (text, _) = bench.journalctl(&["--list-boots"]);
    assert!(text.starts_with("IDX BOOT ID") && text.contains(&format!("  0 {}", MACHINE.boot)), "{text}");
    let (text, _) = bench.journalctl(&["-b", "-o", "export"]);
    assert_eq!(text.matches("__REALTIME_TIMESTAMP=").count(), 5);
    assert_eq!(bench.journalctl(&["-b", "-3"]), (String::new(), Some(1)));
    assert_eq!(bench.journalctl(&["--badopt"]).1, Some(1));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(journalctl(empty.path(), &[]), ("-- No entries --\n".to_owned(), Some(0)));
}

#[test]
fn follow_shows_what_comes_across_a_rotation() {
    let bench = Bench::new();
    let mut journal = bench.journal(Config::default(), Vec::new());
    let send = |text: &str| bench.send("socket", &native::message([("MESSAGE", text.as_bytes())]));
    send("before");
    settle(&mut journal);
    let mut child = Command::new(env!("CARGO_BIN_EXE_init"))
        .args(["journalctl", "-D", bench.folder().to_str().unwrap(), "-f", "-o", "cat"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // Each line is waited for before the next is sent; it comes when the child has seen the change.
    assert_eq!(lines.next().unwrap(), "before");
    for round in 0..3 {
        send(&format!("round {round}"));
        settle(&mut journal);
        assert_eq!(lines.next().unwrap(), format!("round {round}"));
        // The next entry goes to a file of its own.
        drop(journal);
        let newest = fs::read_dir(bench.folder()).unwrap().count() + 1;
        let name = format!("system-{newest:08}-{}.export", MACHINE.boot);
        File::create(bench.folder().join(name)).unwrap();
        journal = bench.journal(Config::default(), Vec::new());
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
