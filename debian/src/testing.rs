//! What the tests of several modules need: signing keys, packages, a repository, a server that misbehaves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, Password, SigningKey, Tag, Timestamp};

use crate::digest::Digest;
use crate::mirrors::Mirrors;
use crate::signature::Keyring;

/// A fixed time: Sat, 12 Sep 2026 07:55:41 UTC.
pub fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_789_199_741)
}

pub fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn timestamp(time: SystemTime) -> Timestamp {
    time.try_into().unwrap()
}

/// A signing key and what its self-signature says.
pub struct Key {
    pub secret: SignedSecretKey,
}

/// What a key's self-signature says.
pub struct KeySpec {
    pub life: Option<Duration>,
    pub can_sign: bool,
    pub subkey: bool,
}

impl Default for KeySpec {
    fn default() -> Self {
        Self { life: None, can_sign: true, subkey: false }
    }
}

impl Key {
    pub fn new() -> Self {
        Self::with(&KeySpec::default())
    }

    /// Made 100 days before [`noon`].
    pub fn with(spec: &KeySpec) -> Self {
        let made = timestamp(noon() - days(100));
        let mut builder = SecretKeyParamsBuilder::default();
        builder
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(spec.can_sign)
            .can_certify(true)
            .created_at(made)
            .primary_user_id("Test Archive <test@example.org>".to_owned());
        if spec.subkey {
            let mut subkey = SubkeyParamsBuilder::default();
            builder.subkey(
                subkey.key_type(KeyType::Ed25519Legacy).can_sign(true).created_at(made).build().unwrap(),
            );
        }
        let mut secret = builder.build().unwrap().generate(rand::thread_rng()).unwrap();
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(spec.can_sign);
        let mut data = vec![SubpacketData::KeyFlags(flags)];
        if let Some(life) = spec.life {
            data.push(SubpacketData::KeyExpirationTime(pgp::types::Duration::try_from(life).unwrap()));
        }
        let certify = subpackets(
            &secret.primary_key,
            SignatureType::CertPositive,
            made.into(),
            HashAlgorithm::Sha256,
            data,
        );
        let public = secret.primary_key.public_key().clone();
        let user = secret.details.users.first_mut().unwrap();
        let signature = certify
            .sign_certification(&secret.primary_key, &public, &Password::empty(), Tag::UserId, &user.id)
            .unwrap();
        user.signatures = vec![signature];
        for subkey in &mut secret.secret_subkeys {
            // The builder dates the binding now; the tests live at another time.
            let mut flags = KeyFlags::default();
            flags.set_sign(true);
            let back = config_of(&subkey.key, SignatureType::KeyBinding, made.into());
            let back = back.sign_primary_key_binding(
                &subkey.key,
                &subkey.key.public_key(),
                &Password::empty(),
                &public,
            );
            let data = vec![
                SubpacketData::KeyFlags(flags),
                SubpacketData::EmbeddedSignature(Box::new(back.unwrap())),
            ];
            let binding = subpackets(
                &secret.primary_key,
                SignatureType::SubkeyBinding,
                made.into(),
                HashAlgorithm::Sha256,
                data,
            );
            let binding = binding
                .sign_subkey_binding(
                    &secret.primary_key,
                    &public,
                    &Password::empty(),
                    &subkey.key.public_key(),
                )
                .unwrap();
            subkey.signatures = vec![binding];
        }
        Self { secret }
    }

    pub fn public(&self) -> SignedPublicKey {
        self.secret.to_public_key()
    }

    pub fn armoured(&self) -> (String, String) {
        let public = self.public();
        (public.fingerprint().to_string(), public.to_armored_string(ArmorOptions::default()).unwrap())
    }

    pub fn keyring(&self) -> Keyring {
        let (fingerprint, armour) = self.armoured();
        Keyring::pinned(&[(&fingerprint, &armour)]).unwrap()
    }

    /// Signs a text as `InRelease` files are signed, at [`noon`].
    pub fn sign(&self, text: &str) -> String {
        self.sign_at(text, noon(), HashAlgorithm::Sha256)
    }

    pub fn sign_at(&self, text: &str, at: SystemTime, hash: HashAlgorithm) -> String {
        match self.secret.secret_subkeys.first() {
            Some(subkey) => clear_sign(&subkey.key, text, at, hash),
            None => clear_sign(&self.secret.primary_key, text, at, hash),
        }
    }
}

fn config_of(key: &impl SigningKey, kind: SignatureType, at: SystemTime) -> SignatureConfig {
    subpackets(key, kind, at, HashAlgorithm::Sha256, Vec::new())
}

fn subpackets(
    key: &impl SigningKey,
    kind: SignatureType,
    at: SystemTime,
    hash: HashAlgorithm,
    data: Vec<SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), hash);
    let common = [
        SubpacketData::SignatureCreationTime(timestamp(at)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ];
    let packets = common.into_iter().chain(data).map(|data| Subpacket::regular(data).unwrap());
    config.hashed_subpackets = packets.collect();
    config
}

fn clear_sign(key: &impl SigningKey, text: &str, at: SystemTime, hash: HashAlgorithm) -> String {
    let config = subpackets(key, SignatureType::Text, at, hash, Vec::new());
    let message = CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

/// One tar entry for [`tar`].
pub enum Item<'a> {
    Dir(&'a str),
    File(&'a str, &'a [u8], u32),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
}

/// A tar archive with the names as they are given, however wrong.
pub fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        let (name, content, link): (&str, &[u8], &str) = match item {
            Item::Dir(name) => (name, b"", ""),
            Item::File(name, content, _) => (name, content, ""),
            Item::Link(name, target) | Item::Hard(name, target) => (name, b"", target),
        };
        header.set_entry_type(match item {
            Item::Dir(_) => tar::EntryType::Directory,
            Item::File(..) => tar::EntryType::Regular,
            Item::Link(..) => tar::EntryType::Symlink,
            Item::Hard(..) => tar::EntryType::Link,
        });
        header.set_mode(if let Item::File(_, _, mode) = item { *mode } else { 0o755 });
        header.set_size(content.len() as u64);
        header.set_mtime(1_000_000);
        header.set_uid(0);
        header.set_gid(0);
        // The crate refuses names that it would not unpack; the tests want them.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `.deb` whose control file has name and version.
pub fn deb(name: &str, version: &str, items: &[Item<'_>]) -> Vec<u8> {
    deb_with(name, version, "", items)
}

/// The same with further fields, each a line.
pub fn deb_with(name: &str, version: &str, fields: &str, items: &[Item<'_>]) -> Vec<u8> {
    let control = format!("Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}");
    let control = tar(&[Item::Dir("./"), Item::File("./control", control.as_bytes(), 0o644)]);
    let xz = |bytes: &[u8]| {
        let mut out = Vec::new();
        liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
        out
    };
    let data = xz(&tar(items));
    crate::ar::archive(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", &xz(&control)),
        ("data.tar.xz", &data),
    ])
}

/// The files of an archive with one suite `trixie`, by URL path.
pub struct Repository {
    pub files: BTreeMap<String, Vec<u8>>,
    pub packages: String,
}

impl Repository {
    /// With packages given as (name, version, further fields, content of the `.deb`).
    pub fn new(key: &Key, packages: &[(&str, &str, &str, Vec<u8>)]) -> Self {
        let mut repository = Self { files: BTreeMap::new(), packages: String::new() };
        for (name, version, extra, deb) in packages {
            let path = format!("pool/{name}_{version}.deb");
            let (size, digest) = (deb.len(), Digest::of(deb));
            repository.packages += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\n{extra}Filename: {path}\nSize: {size}\nSHA256: {digest}\n\n"
            );
            repository.files.insert(path, deb.clone());
        }
        repository.sign(key, noon(), "Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\n");
        repository
    }

    /// Makes index files and `InRelease` anew.
    pub fn sign(&mut self, key: &Key, date: SystemTime, extra: &str) {
        let plain = self.packages.clone().into_bytes();
        let mut gz = Vec::new();
        flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast()).read_to_end(&mut gz).unwrap();
        let folder = "main/binary-amd64";
        let seconds = date.duration_since(noon()).unwrap_or_default().as_secs();
        let mut text = format!(
            "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 {:02}:55:41 UTC\n{extra}Acquire-By-Hash: yes\nSHA256:\n",
            7 + seconds / 3600
        );
        for (name, bytes) in [("Packages", plain), ("Packages.gz", gz)] {
            let digest = Digest::of(&bytes);
            text += &format!(" {digest} {} {folder}/{name}\n", bytes.len());
            if name != "Packages" {
                self.files.insert(format!("dists/trixie/{folder}/by-hash/SHA256/{digest}"), bytes.clone());
                self.files.insert(format!("dists/trixie/{folder}/{name}"), bytes);
            }
        }
        self.files.insert("dists/trixie/InRelease".to_owned(), key.sign(&text).into_bytes());
    }

    pub fn serve(self) -> Server {
        Server::start(move |request| match self.files.get(&request.path) {
            Some(bytes) => Reply::ok(bytes),
            None => Reply::status(404),
        })
    }
}

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Without the leading slash.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How often this path was asked for before.
    pub times_before: usize,
}

/// What the server answers.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Closes the connection after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn ok(body: &[u8]) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok(b"") }
    }
}

/// An HTTP server on the loopback. Its thread ends with the process.
pub struct Server {
    pub base: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (shared, answer) = (Arc::clone(&log), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                std::thread::spawn(move || serve_one(stream, &log, &*answer));
            }
        });
        Self { base, log }
    }

    pub fn mirrors(&self) -> Mirrors {
        Mirrors::new([&self.base])
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

fn serve_one(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    });
    let headers = headers.collect();
    let asked = {
        let mut log = log.lock().unwrap();
        let times_before = log.iter().filter(|a| a.path == path).count();
        log.push(Asked { path, headers, times_before });
        log.last().unwrap().clone()
    };
    let reply = answer(&asked);
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(body));
}
