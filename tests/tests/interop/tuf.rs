//! Channel folders read by python-tuf, the reference implementation of TUF, and its repositories read by our client.
//!
//! Debian's `python3-tuf` is the real package; it brings its own Python. Its repository is signed with `python3-cryptography`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use builder::keys::{KeyFolder, Passphrases};
use builder::publish::folder::ChannelFolder;
use builder::publish::rotate::RoleKeys;
use builder::publish::{Publisher, Source};
use ferrite_tests::{Tools, scratch};
use serde_json::Value;
use update_engine::channel::metadata::{Date, Role};
use update_engine::channel::sign::Lifetimes;
use update_engine::channel::{
    Answer, ChannelName, Client, Clock, Limits, Placement, Release, Rollout, Trusted, Verified, Version,
};
use zeroize::Zeroizing;

use super::{check, run};

/// Updates from a folder as a machine would over HTTP, downloads the target that is named, and prints what it saw.
const CLIENT: &str = r#"
import json, os, sys
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

folder, state, path = sys.argv[1:4]

class Local(FetcherInterface):
    def _fetch(self, url):
        try:
            with open(os.path.join(folder, url.removeprefix("channel:/")), "rb") as file:
                yield file.read()
        except FileNotFoundError:
            raise DownloadHTTPError("missing", 404)

os.makedirs(os.path.join(state, "targets"), exist_ok=True)
updater = Updater(state, "channel:/metadata/", os.path.join(state, "targets"), "channel:/targets/", fetcher=Local())
try:
    updater.refresh()
    target = updater.get_targetinfo(path)
    file = updater.download_target(target)
    trusted = updater._trusted_set
    with open(file, "rb") as content:
        content = content.read().decode()
    print(json.dumps({"content": content, "custom": target.custom, "root": trusted.root.version}))
except Exception as error:
    print(json.dumps({"refused": type(error).__name__, "why": str(error)}))
"#;

/// Writes a repository with python-tuf: two root keys of which both sign, one root rotation, one target.
const PUBLISHER: &str = r#"
import json, os, sys
from datetime import datetime, timezone
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Key, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp)
from tuf.api.serialization.json import JSONSerializer

folder = sys.argv[1]
end = datetime(2200, 1, 1, tzinfo=timezone.utc)
signers = {name: CryptoSigner.generate_ed25519() for name in ["r1", "r2", "r3", "targets", "snapshot", "timestamp"]}

def write(name, metadata, keys):
    for key in keys:
        metadata.sign(signers[key], append=True)
    metadata.to_file(os.path.join(folder, name), JSONSerializer(compact=name.startswith("2")))

root = Root(expires=end, consistent_snapshot=True)
for name in ["r1", "r2"]:
    root.add_key(signers[name].public_key, "root")
root.roles["root"].threshold = 2
for role in ["targets", "snapshot", "timestamp"]:
    root.add_key(signers[role].public_key, role)
write("1.root.json", Metadata(root), ["r1", "r2"])
root.version = 2
root.revoke_key(signers["r1"].public_key.keyid, "root")
root.add_key(signers["r3"].public_key, "root")
write("2.root.json", Metadata(root), ["r1", "r2", "r3"])
target = TargetFile.from_data("folder/file.txt", b"hello", ["sha256", "sha512"])
target.unrecognized_fields["custom"] = {"anything": ["\u00e9\"\\", 1, None]}
targets = Targets(expires=end, targets={target.path: target})
write("1.targets.json", Metadata(targets), ["targets"])
write("1.snapshot.json", Metadata(Snapshot(expires=end)), ["snapshot"])
write("timestamp.json", Metadata(Timestamp(expires=end)), ["timestamp"])
print(signers["r1"].public_key.keyid)
"#;

struct Fixed;

impl Passphrases for Fixed {
    fn of(&self, _: &str) -> io::Result<Zeroizing<String>> {
        Ok(Zeroizing::new("correct horse".to_owned()))
    }

    fn for_new(&self, name: &str) -> io::Result<Zeroizing<String>> {
        self.of(name)
    }
}

fn python(script: &str) -> Command {
    let tools = Tools::of_packages(&["python3-tuf", "python3-cryptography"]).unwrap();
    let mut command = tools.command("python3").unwrap();
    let usr = tools.root().join("usr");
    command.env("PYTHONHOME", &usr).env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").args(["-s", "-c", script]);
    command
}

fn now() -> Date {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Date::from_unix(since.as_secs()).unwrap()
}

struct Repository {
    folder: tempfile::TempDir,
    keys: KeyFolder,
}

impl Repository {
    fn new() -> Self {
        let folder = scratch().unwrap();
        let keys = KeyFolder::new(folder.path().join("keys"));
        for name in ["root-1", "root-2", "root-3", "targets", "snapshot", "timestamp", "timestamp-2"] {
            keys.create(name, now(), &Fixed).unwrap();
        }
        let repository = Self { folder, keys };
        let mut roles: BTreeMap<Role, RoleKeys> = [Role::Targets, Role::Snapshot, Role::Timestamp]
            .map(|role| (role, repository.role(&[role.name()], 1)))
            .into();
        roles.insert(Role::Root, repository.role(&["root-1", "root-2"], 2));
        repository.publisher().init(&roles).unwrap();
        repository
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("channel")
    }

    fn role(&self, names: &[&str], threshold: u32) -> RoleKeys {
        let keys = names.iter().map(|name| self.keys.get(name).unwrap().public_key().unwrap()).collect();
        RoleKeys { keys, threshold }
    }

    fn publisher(&self) -> Publisher<'static> {
        Publisher {
            folder: ChannelFolder::lock(&self.path()).unwrap(),
            keys: vec![self.keys.clone()],
            passphrases: &Fixed,
            now: now(),
            lifetimes: Lifetimes::default(),
            dry_run: false,
        }
    }

    /// Publishes a release; the path of its index.
    fn add(&self, text: &str) -> String {
        let sources = ["index", "payload"].map(|ending| {
            let path = self.folder.path().join(format!("{text}.{ending}"));
            fs::write(&path, format!("{ending} of {text}")).unwrap();
            let target = format!("ferrite/x86_64/{text}/ferrite-{text}.{ending}");
            Source { target: ChannelFolder::measure(&path, target).unwrap(), path }
        });
        let placement = Placement { rollout: Rollout::everybody(now()), withdrawn: None };
        let release = Release {
            product: "ferrite".to_owned(),
            architecture: "x86_64".to_owned(),
            version: Version::parse(text).unwrap(),
            index: sources[0].target.clone(),
            payload: sources[1].target.clone(),
            slot_bytes: 4096,
            root_hash: [1; 32],
            build_time: 1_789_199_741,
            minimum_version: None,
            rollback_index: 7,
            minimum_loader: 1,
            state: BTreeMap::new(),
            automatic_rollback: true,
            notes: "what is \"new\": caf\u{e9}\n\\o/".to_owned(),
            channels: BTreeMap::from([(ChannelName::parse("stable").unwrap(), placement)]),
        };
        self.publisher().add(&release, &sources).unwrap();
        release.index.path
    }
}

/// What python-tuf makes of a channel folder with what it knows from earlier.
fn python_client(folder: &Path, state: &Path, target: &str) -> Value {
    let text = check(python(CLIENT).args([folder, state]).arg(target));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn copy(from: &Path, to: &Path) {
    check(Command::new("cp").arg("-r").args([from, to]));
}

/// What an attacker does to a folder, given an older state of it.
type Attack = fn(&Path, &Path);

#[test]
fn python_tuf_accepts_a_channel_follows_a_rotation_and_refuses_tampering() {
    let repository = Repository::new();
    let state = repository.folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::copy(repository.path().join("metadata/1.root.json"), state.join("root.json")).unwrap();
    let first = repository.add("1.0.0");
    let seen = python_client(&repository.path(), &state, &first);
    assert_eq!((&seen["content"], &seen["root"]), (&"index of 1.0.0".into(), &1.into()), "{seen}");
    let custom = &seen["custom"]["ferrite"];
    assert_eq!((&custom["version"], &custom["rollback_index"]), (&"1.0.0".into(), &7.into()));
    assert_eq!(custom["notes"], "what is \"new\": caf\u{e9}\n\\o/");
    let old = repository.folder.path().join("old");
    copy(&repository.path(), &old);

    // Another holder of a root key, and another online key.
    let change = BTreeMap::from([
        (Role::Root, repository.role(&["root-2", "root-3"], 2)),
        (Role::Timestamp, repository.role(&["timestamp-2"], 1)),
    ]);
    assert!(repository.publisher().rotate(&change).unwrap().staged_root.is_none());
    fs::copy(repository.path().join("metadata/timestamp.json"), old.join("metadata/newer.json")).unwrap();
    let second = repository.add("1.1.0");
    let seen = python_client(&repository.path(), &state, &second);
    assert_eq!((&seen["content"], &seen["root"]), (&"index of 1.1.0".into(), &2.into()), "{seen}");

    // Each attack on a copy of the folder, with a client that has seen the newest edition.
    let attacks: [(&str, Attack, &str); 6] = [
        (
            "timestamp by the old key",
            |folder, old| replay(folder, &old.join("metadata/timestamp.json")),
            "UnsignedMetadataError",
        ),
        (
            "replayed timestamp",
            |folder, old| replay(folder, &old.join("metadata/newer.json")),
            "BadVersionNumberError",
        ),
        (
            "changed timestamp",
            |folder, _| flip(&folder.join("metadata/timestamp.json"), "\"version\": "),
            "UnsignedMetadataError",
        ),
        ("changed payload", |folder, _| flip(&index_in(folder), "index of"), "RepositoryError"),
        ("root by the old keys alone", |folder, _| forge_root(folder), "UnsignedMetadataError"),
        (
            "changed targets",
            |folder, _| flip(&newest(folder, "targets"), "\"minimum_loader\": "),
            "LengthOrHashMismatchError",
        ),
    ];
    for (name, attack, want) in attacks {
        let (folder, copy_of_state) =
            (repository.folder.path().join("attacked"), repository.folder.path().join("client"));
        copy(&repository.path(), &folder);
        copy(&state, &copy_of_state);
        // So that files that are known already are asked for again.
        for known in ["targets.json", "snapshot.json", "targets"] {
            let known = copy_of_state.join(known);
            drop(if known.is_dir() { fs::remove_dir_all(&known) } else { fs::remove_file(&known) });
        }
        attack(&folder, &old);
        let seen = python_client(&folder, &copy_of_state, &second);
        let refused = seen["refused"].as_str().unwrap_or_else(|| panic!("{name} was accepted: {seen}"));
        assert!(
            refused == want || (want == "RepositoryError" && refused.ends_with("Error")),
            "{name}: {seen}"
        );
        fs::remove_dir_all(&folder).unwrap();
        fs::remove_dir_all(&copy_of_state).unwrap();
    }
}

fn replay(folder: &Path, timestamp: &Path) {
    fs::copy(timestamp, folder.join("metadata/timestamp.json")).unwrap();
}

/// Changes the byte behind a text.
fn flip(path: &Path, behind: &str) {
    let mut bytes = fs::read(path).unwrap();
    let at =
        bytes.windows(behind.len()).position(|window| window == behind.as_bytes()).unwrap() + behind.len();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn newest(folder: &Path, role: &str) -> PathBuf {
    let name = |version: u32| folder.join(format!("metadata/{version}.{role}.json"));
    name((1..).take_while(|version| name(*version).exists()).last().unwrap())
}

fn index_in(folder: &Path) -> PathBuf {
    let folder = folder.join("targets/ferrite/x86_64/1.1.0");
    let mut entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.extension().is_some_and(|ending| ending == "index")).unwrap()
}

/// The second root once more as the third, with its signatures: none of them fits.
fn forge_root(folder: &Path) {
    let text = fs::read_to_string(folder.join("metadata/2.root.json")).unwrap();
    fs::write(folder.join("metadata/3.root.json"), text.replace("\"version\": 2", "\"version\": 3")).unwrap();
}

/// What our client makes of a folder of metadata.
fn our_client(folder: &Path, target: &str) -> Verified {
    let clock = Clock { unix_seconds: now().unix(), synchronised: true, floor: 0 };
    let trusted = Trusted::new(fs::read(folder.join("1.root.json")).unwrap());
    let (mut client, mut progress) = Client::start(trusted, clock, Limits::default()).unwrap();
    while let Some(request) = progress.request {
        let bytes = fs::read(folder.join(request.path.strip_prefix("metadata/").unwrap())).ok();
        progress = client.feed(bytes.as_deref().map_or(Answer::Missing, Answer::File)).unwrap();
    }
    let verified = client.finish().unwrap();
    assert!(verified.targets.targets.contains_key(target));
    verified
}

#[test]
fn a_repository_of_python_tuf_is_read_by_our_client() {
    let folder = scratch().unwrap();
    let (code, text) = run(python(PUBLISHER).arg(folder.path()));
    assert_eq!(code, 0, "{text}");
    let verified = our_client(folder.path(), "folder/file.txt");
    assert_eq!((verified.versions.root, verified.releases.len()), (2, 0));
    // Their name of a key is ours, too: a wrong one would have been refused, and this is what it is made of.
    let root: Value = serde_json::from_slice(&fs::read(folder.path().join("1.root.json")).unwrap()).unwrap();
    assert!(root["signed"]["keys"].as_object().unwrap().contains_key(text.trim()));
}
