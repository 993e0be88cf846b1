//! `ferrite key`, `publish`, `serve` and `group` as their users run them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails by panicking is a test that fails"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use builder::signing::SlotSigner;
use builder::slotimage::{Identity, SlotParts, Source, assemble};
use builder::verity::{self, Superblock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A channel folder with its keys.
struct World {
    folder: TempDir,
}

/// What a run came to.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The errors of a refusal.
    fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        self.stderr
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }
}

impl World {
    fn new() -> Self {
        let folder = TempDir::with_prefix_in("publish-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(folder.path().join("passphrase"), "correct horse\n").unwrap();
        Self { folder }
    }

    fn with_channel() -> Self {
        let world = Self::new();
        for role in ["root", "targets", "snapshot", "timestamp", "slot"] {
            world.ferrite(&["key", "new", role]).good();
        }
        world.ferrite(&["publish", "init", "channel"]).good();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env("FERRITE_KEYS", self.path("keys"));
        command.env("FERRITE_KEY_PASSPHRASE", "correct horse");
        command
    }

    fn ferrite(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&self.command(arguments).output().unwrap())
    }

    /// A small slot image, signed by a key of the folder or by the development key.
    fn slot(&self, version: &str, rollback_index: u64, development: bool) -> PathBuf {
        let signer = if development {
            SlotSigner::development().unwrap()
        } else {
            let pem = self.path("slot.pem");
            let text = self.ferrite(&["key", "export", "slot", "--unencrypted"]).good();
            fs::write(&pem, text).unwrap();
            SlotSigner::load(&pem).unwrap()
        };
        let path = self.path(&format!("ferrite-{version}-x86_64.usr"));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        let blocks = 40;
        for block in 0..blocks {
            let text = format!("block {block} of {version}").repeat(200);
            file.write_all_at(&text.as_bytes()[..4096.min(text.len())], block * 4096).unwrap();
        }
        file.set_len(blocks * 4096).unwrap();
        let superblock = Superblock { uuid: [1; 16], data_blocks: blocks, salt: vec![2; 32] };
        let root_hash = verity::write_tree(&file, 0, &superblock, blocks * 4096).unwrap();
        let parts = SlotParts {
            usr: Source::InPlace { bytes: blocks * 4096 },
            verity: Source::InPlace { bytes: verity::tree_len(blocks) },
            kernel: Source::Bytes(b"kernel"),
            initramfs: Source::Bytes(b"initramfs"),
            command_line: Source::Bytes(b"console=ttyS0"),
            root_hash,
            salt: [2; 32],
        };
        let identity = Identity {
            product: "ferrite",
            version,
            architecture: "x86_64",
            minimum_loader: 1,
            rollback_index,
            build_time: 1_789_199_741,
        };
        assemble(&file, &identity, &parts, &signer).unwrap();
        path
    }

    fn add(&self, version: &str, more: &[&str]) -> Outcome {
        let slot = self.slot(version, 0, false);
        self.ferrite(&[&["publish", "add", "channel", slot.to_str().unwrap()], more].concat())
    }
}

#[test]
fn keys_are_made_shown_and_kept_from_others() {
    let world = World::new();
    let made = world.ferrite(&["key", "new", "root", "--json"]).json();
    assert_eq!(made["key_id"].as_str().unwrap().len(), 64);
    let file = fs::read_to_string(made["file"].as_str().unwrap()).unwrap();
    assert!(file.contains("\"scrypt\"") && file.contains("\"xchacha20-poly1305\""), "{file}");
    assert!(world.ferrite(&["key", "new", "root"]).refused().contains("there is a key"));
    let list = world.ferrite(&["key", "list", "--json"]).json();
    assert_eq!(list, json!([made]));
    let shown = world.ferrite(&["key", "show", "root"]).good();
    assert!(shown.contains(made["public"].as_str().unwrap()), "{shown}");
    let pem = world.ferrite(&["key", "show", "root", "--pem"]).good();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    // Recipes take both halves.
    fs::write(world.path("pub.pem"), pem).unwrap();
    let public = builder::signing::PublicKey::load(&world.path("pub.pem")).unwrap();
    fs::write(world.path("key.pem"), world.ferrite(&["key", "export", "root", "--unencrypted"]).good())
        .unwrap();
    assert_eq!(SlotSigner::load(&world.path("key.pem")).unwrap().public(), public);
    assert_eq!(world.ferrite(&["key", "export", "root"]).code, Some(2), "not without saying so");
    fs::write(world.path("new"), "battery staple\n").unwrap();
    world
        .ferrite(&[
            "key",
            "passphrase",
            "root",
            "--passphrase-file",
            "passphrase",
            "--new-passphrase-file",
            "new",
        ])
        .good();
    let refused = world.ferrite(&["key", "export", "root", "--unencrypted"]).refused();
    assert!(refused.contains("the passphrase is wrong"), "{refused}");
    world.ferrite(&["key", "export", "root", "--unencrypted", "--passphrase-file", "new"]).good();
    assert!(world.ferrite(&["key", "show", "other"]).refused().contains("no key \"other\""));
}

#[test]
fn a_release_is_published_promoted_and_withdrawn() {
    let world = World::with_channel();
    let development = world.slot("1.0.0", 0, true);
    let arguments = ["publish", "add", "channel", development.to_str().unwrap(), "--channel", "stable"];
    let refused = world.ferrite(&arguments).refused();
    assert!(refused.contains("development key") && refused.contains("hint:"), "{refused}");
    world.add("1.0.0", &["--channel", "stable,beta"]).good();
    let dry = world.add("1.1.0", &["--channel", "beta", "--dry-run", "--json"]).json();
    assert_eq!(
        (&dry["dry_run"], world.path("channel/metadata/3.targets.json").exists()),
        (&json!(true), false)
    );
    let outcome = world.add("1.1.0", &["--channel", "beta", "--notes", "faster", "--json"]).json();
    assert_eq!(outcome["channels"][0]["releases"][0]["notes"], "faster");
    let written: Vec<&str> =
        outcome["written"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(
        written[2..],
        ["metadata/3.targets.json", "metadata/3.snapshot.json", "metadata/timestamp.json"]
    );
    assert!(written.iter().all(|name| world.path("channel").join(name).is_file()));
    assert!(world.add("0.9.0", &["--channel", "beta"]).refused().contains("versions of a channel only grow"));
    let text = world
        .ferrite(&[
            "publish",
            "promote",
            "channel",
            "1.1.0",
            "--to",
            "stable",
            "--percentage",
            "10",
            "--over",
            "24h",
        ])
        .good();
    assert!(text.contains("channel stable") && text.contains("% now, 10 % on"), "{text}");
    let text = world.ferrite(&[
        "publish",
        "rollout",
        "channel",
        "1.1.0",
        "--channel",
        "stable",
        "--percentage",
        "0",
    ]);
    assert!(text.good().contains("0 %"));
    let text =
        world.ferrite(&["publish", "withdraw", "channel", "1.1.0", "--reason", "it eats disks"]).good();
    assert_eq!(text.matches("withdrawn, it eats disks").count(), 2, "{text}");
    let shown = world.ferrite(&["publish", "show", "channel", "--verify", "--json"]).json();
    let stable = &shown["channels"][1];
    assert_eq!((&stable["name"], &stable["machines"][2]["offered"]), (&json!("stable"), &json!("1.0.0")));
    // No keys are needed for looking, and a damaged payload is found.
    let payload = world.path("channel").join(written[1]);
    fs::write(&payload, "damaged").unwrap();
    let shown = world.ferrite(&["publish", "show", "channel", "--verify"]);
    assert_eq!(shown.code, Some(1));
    assert!(shown.stderr.contains("is missing or damaged"), "{}", shown.stderr);
}

#[test]
fn a_root_is_renewed_and_the_timestamp_refreshed() {
    let world = World::with_channel();
    world.ferrite(&["key", "new", "timestamp-2"]).good();
    let text = world.ferrite(&["publish", "rotate", "channel", "--set", "timestamp=timestamp-2"]).good();
    assert!(text.contains("root      version 2"), "{text}");
    let outcome =
        world.ferrite(&["publish", "refresh", "channel", "--lifetime", "timestamp=1h", "--json"]).json();
    assert_eq!(
        (&outcome["written"], &outcome["metadata"]["timestamp"]["version"]),
        (&json!(["metadata/timestamp.json"]), &json!(3))
    );
    assert!(
        outcome["warnings"][0].as_str().unwrap().starts_with("the timestamp metadata expires in"),
        "{outcome}"
    );
    let refused = world.ferrite(&["publish", "rotate", "channel", "--set", "root=nobody"]).refused();
    assert!(refused.contains("ferrite key new nobody"), "{refused}");
    assert!(world.ferrite(&["publish", "init", "channel"]).refused().contains("is a channel folder already"));
}

/// A running server.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(world: &World) -> Self {
        let mut child = world
            .command(&["serve", "channel", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().trim().trim_end_matches('/').to_owned();
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn request(&self, head: &str, body: &str) -> Response {
        request(&self.address, head, body).unwrap()
    }

    fn get(&self, path: &str, headers: &str) -> Response {
        self.request(&format!("GET {path} HTTP/1.1\r\n{headers}"), "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request on a connection of its own; `head` is the request line and further headers.
fn request(address: &str, head: &str, body: &str) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "{head}Host: x\r\nConnection: close\r\n{length}\r\n{body}")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let at = at.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Ok(Response { status, headers: headers.collect(), body: bytes[at + 4..].to_vec() })
}

fn report(machine: u64, version: &str) -> String {
    let machine = format!("{machine:032x}");
    json!({
        "schema": 1, "machine": machine, "product": "ferrite", "architecture": "x86_64", "group": "stable",
        "version": version, "state": "idle",
        "rollbacks": [{"version": "1.1.0", "root_hash": "aa", "reason": "<b>panic", "at": 5}],
    })
    .to_string()
}

const POST: &str = "POST /v1/report HTTP/1.1\r\nContent-Type: application/json\r\n";

#[test]
fn files_are_served_with_ranges_tags_and_caching() {
    let world = World::with_channel();
    let outcome = world.add("1.0.0", &["--channel", "stable", "--json"]).json();
    let payload = format!("/{}", outcome["written"][1].as_str().unwrap());
    let bytes = fs::read(world.path("channel").join(&payload[1..])).unwrap();
    let server = Server::start(&world);
    let whole = server.get(&payload, "");
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    let etag = whole.header("etag").to_owned();
    let hash = payload.rsplit('/').next().unwrap().split('.').next().unwrap();
    assert_eq!(etag, format!("\"{hash}\""));
    assert!(
        whole.header("cache-control").contains("immutable") && whole.header("last-modified").ends_with("GMT")
    );
    let part = server.get(&payload, &format!("Range: bytes=10-19\r\nIf-Range: {etag}\r\n"));
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[10..20]));
    assert_eq!(part.header("content-range"), format!("bytes 10-19/{}", bytes.len()));
    let other = server.get(&payload, "Range: bytes=10-19\r\nIf-Range: \"other\"\r\n");
    assert_eq!((other.status, other.body.len()), (200, bytes.len()), "another file is sent whole");
    let beyond = server.get(&payload, &format!("Range: bytes={}-\r\n", bytes.len()));
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, format!("bytes */{}", bytes.len()).as_str())
    );
    assert_eq!(server.get(&payload, &format!("If-None-Match: {etag}\r\n")).status, 304);
    let head = server.request(&format!("HEAD {payload} HTTP/1.1\r\n"), "");
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, bytes.len().to_string().as_str(), 0)
    );
    // The timestamp may change at any moment, and its tag with it.
    let timestamp = server.get("/metadata/timestamp.json", "");
    assert_eq!((timestamp.status, timestamp.header("cache-control")), (200, "public, no-cache"));
    world.ferrite(&["publish", "refresh", "channel"]).good();
    let condition = format!("If-None-Match: {}\r\n", timestamp.header("etag"));
    assert_eq!(server.get("/metadata/timestamp.json", &condition).status, 200);
    for path in [
        "/metadata/../keys/root.key",
        "/../passphrase",
        "/metadata/..%2fkeys",
        "/.lock",
        "/channel.state/reports.redb",
        "/metadata",
        "/metadata/99.root.json",
        "/targets/",
        "//etc/passwd",
        "/staged-root.json",
    ] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    let refused = server.request("DELETE /metadata/timestamp.json HTTP/1.1\r\n", "");
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
}

#[test]
fn machines_report_and_groups_hold() {
    let world = World::with_channel();
    let mut server = Server::start(&world);
    let advice = server.request(POST, &report(1, "1.0.0"));
    assert_eq!((advice.status, advice.json()), (200, json!({"hold": false})));
    world.ferrite(&["group", "channel", "stable", "--stop", "--reason", "looking into it"]).good();
    let advice = server.request(POST, &report(2, "1.0.0"));
    assert_eq!(advice.json(), json!({"hold": true, "reason": "looking into it", "ask_again_seconds": 900}));
    world.ferrite(&["group", "channel", "stable", "--start", "--percentage", "0"]).good();
    assert_eq!(server.request(POST, &report(2, "1.0.0")).json()["hold"], true);
    let groups = world.ferrite(&["group", "channel", "stable", "--forget", "--json"]).json();
    assert_eq!(
        (groups, server.request(POST, &report(2, "1.0.1")).json()),
        (json!({}), json!({"hold": false}))
    );
    // What is no report is not kept.
    assert_eq!(server.request(POST, "{}").status, 400);
    assert_eq!(server.request(POST, &format!("\"{}\"", "x".repeat(20_000))).status, 413);
    let form = "POST /v1/report HTTP/1.1\r\nContent-Type: text/plain\r\n";
    assert_eq!(server.request(form, &report(3, "1.0.0")).status, 415);
    assert_eq!(server.get("/v1/report", "").status, 405);
    let machines = server.get("/v1/machines", "").json();
    let machines = machines.as_array().unwrap();
    assert_eq!(
        (machines.len(), &machines[1]["reports"], &machines[1]["report"]["version"]),
        (2, &json!(3), &json!("1.0.1"))
    );
    let status = server.get("/v1/status", "").json();
    assert_eq!((&status["machines"], &status["rollbacks"]["1.1.0"]), (&json!(2), &json!(2)));
    let page = server.get("/", "");
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(text.contains("&lt;b&gt;panic") && !text.contains("<b>") && !text.contains("<script"), "{text}");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "it ends in its own time");
    let server = Server::start(&world);
    assert_eq!(server.get("/v1/machines", "").json().as_array().unwrap().len(), 2);
}

/// By machine, the number of the last report that was sent, and of the last that was acknowledged.
type Reports = BTreeMap<u64, (u64, Option<u64>)>;

#[test]
fn nothing_that_was_acknowledged_is_lost_to_kill_9() {
    let world = World::with_channel();
    let known: Arc<Mutex<Reports>> = Arc::default();
    let total = Arc::new(AtomicU64::new(0));
    let mut next = 0;
    for round in 1..=3u64 {
        let mut server = Server::start(&world);
        let senders: Vec<_> = (0..4)
            .map(|machine| {
                let (address, known, total) =
                    (server.address.clone(), Arc::clone(&known), Arc::clone(&total));
                thread::spawn(move || {
                    // Until the server is gone.
                    for number in next.. {
                        known.lock().unwrap().entry(machine).or_default().0 = number;
                        let Ok(response) =
                            request(&address, POST, &report(machine, &format!("1.0.{number}")))
                        else {
                            break;
                        };
                        assert_eq!(response.status, 200);
                        known.lock().unwrap().entry(machine).or_default().1 = Some(number);
                        total.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let start = Instant::now();
        while total.load(Ordering::SeqCst) < round * 60 {
            assert!(start.elapsed() < Duration::from_secs(120), "no reports are taken");
            thread::yield_now();
        }
        server.signal(Signal::KILL);
        server.child.wait().unwrap();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let server = Server::start(&world);
        let machines = server.get("/v1/machines", "").json();
        for (machine, (sent, acknowledged)) in known.lock().unwrap().iter() {
            let id = format!("{machine:032x}");
            let entry = machines.as_array().unwrap().iter().find(|entry| entry["report"]["machine"] == id);
            let kept =
                entry.map(|entry| entry["report"]["version"].as_str().unwrap().rsplit('.').next().unwrap());
            let kept: Option<u64> = kept.map(|number| number.parse().unwrap());
            // One more may have been written whose acknowledgement was cut off.
            assert!(
                kept >= *acknowledged && kept <= Some(*sent),
                "machine {machine}: {kept:?} of {acknowledged:?}"
            );
        }
        next = known.lock().unwrap().values().map(|(sent, _)| sent + 1).max().unwrap();
    }
}

#[test]
fn a_server_needs_a_folder_and_keeps_its_state_out_of_it() {
    let world = World::with_channel();
    let refused = world.ferrite(&["serve", "nowhere"]).refused();
    assert!(
        refused.contains("is no channel folder") && refused.contains("ferrite publish init"),
        "{refused}"
    );
    let refused = world.ferrite(&["serve", "channel", "--state", "channel/state"]).refused();
    assert!(refused.contains("it would be served") || refused.contains("would be served"), "{refused}");
    let _server = Server::start(&world);
    let refused = world.ferrite(&["serve", "channel", "--listen", "127.0.0.1:0"]).refused();
    assert!(refused.contains("cannot open the store"), "{refused}");
    assert!(Path::new(&world.path("channel.state/reports.redb")).is_file());
}
