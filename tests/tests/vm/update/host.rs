//! How fast the engine's own code updates everything on this machine's processor and disk, without an emulator between them; as root, for a
//! loop device: `cargo test --workspace --test vm update::host -- --ignored --nocapture`.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use builder::signing::{PublicKey, development_channel_root};
use init::early::disk::Disk;
use sha2::{Digest as _, Sha256};
use slots::{Device as _, FOOTER_LEN, FOOTER_VERSION, Guid, LOADER_VERSION, TrustedKey};
use update_engine::channel::{ChannelName, Version};
use update_engine::engine::http::Http;
use update_engine::engine::os::Facts;
use update_engine::engine::work::{Wish, Work};

use super::*;

const NAME: &str = "ferrite-host";
/// Files of 1 MiB in each release, all of them others than in the one before.
const FILES: u64 = 128;
const REPEATS: usize = 5;
/// Lines, and the bytes that they bring in a second.
const LINKS: [(&str, u64); 3] =
    [("loopback", u64::MAX), ("a line of a gigabit", 125_000_000), ("a line of 200 megabit", 25_000_000)];

fn seconds(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    what()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Writes a slot image to a slot of a disk in a file: body and footer.
fn refill(disk: &Path, slot: &std::ops::Range<u64>, image: &Image) -> Result<()> {
    let bytes = std::fs::read(&image.usr)?;
    let (body, footer) = bytes.split_at(bytes.len() - FOOTER_LEN);
    let file = std::fs::File::options().write(true).open(disk)?;
    file.write_all_at(body, slot.start)?;
    file.write_all_at(footer, slot.end - FOOTER_LEN as u64)?;
    Ok(file.sync_all()?)
}

/// A loop device over a file, past the page cache; detached when dropped.
struct Loop(String);

impl Loop {
    fn attach(path: &Path) -> Result<Self> {
        let mut losetup = Command::new("losetup");
        let output = losetup.args(["--find", "--show", "--direct-io=on"]).arg(path).output()?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn release(version: &str, files: &str) -> Result<Image> {
    Image::of_recipe(&Image::minimal_recipe(NAME, |recipe| {
        let recipe = recipe.replacen("version: 0.1.0\n", &format!("version: {version}\n"), 1).replacen(
            "  usr: 128MiB",
            "  usr: 320MiB",
            1,
        );
        format!("{recipe}\n{files}")
    })?)
}

#[test]
#[ignore = "a measurement for an idle machine, as root"]
fn an_update_beside_the_disk_and_the_link() -> Result<()> {
    let folder = scratch()?;
    let served = folder.path().join("channel");
    let mut channel = Channel::new(&served)?;
    let server = FileServer::start(&served)?;
    let base = format!("http://127.0.0.1:{}", server.port);
    let path = folder.path().join("disk.raw");
    let first = release("1.0.0", &noise(NAME, 0..FILES)?)?;
    first.disk(&path, 2 * GIB)?;
    let image = release("1.1.0", &noise(NAME, FILES..2 * FILES)?)?;
    let published = channel.publish(&image)?;
    let slot_bytes = std::fs::metadata(&image.usr)?.len();
    // As a confirmed boot leaves it.
    let mut disk = DiskFile::open(&path)?;
    disk.set_flags("USR-A", 15, 0, true)?;
    let passive = disk.partition("USR-B")?;
    let footer = disk.footer("USR-A")?;
    let slot: Guid = disk.partuuid("USR-A")?.parse().map_err(|error| anyhow!("{error}"))?;
    drop(disk);
    let device = Loop::attach(&path)?;

    let facts = Facts {
        disk: device.0.rsplit('/').next().context("no name")?.to_owned(),
        slot,
        trial: false,
        product: NAME.to_owned(),
        version: Version::parse("1.0.0").map_err(|error| anyhow!("{error:?}"))?,
        root_hash: footer.verity.root_hash,
        build_time: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
        keys: vec![TrustedKey(PublicKey::development()?.to_bytes())],
        loader_version: LOADER_VERSION,
        footer_version: FOOTER_VERSION,
        rollback_floor: 0,
        machine_id: "0".repeat(32),
        boot_id: String::new(),
        trusted_root: development_channel_root()?,
    };
    let engine = folder.path().join("engine");
    std::fs::create_dir_all(engine.join("download"))?;
    let work = Work { facts: Arc::new(facts), folder: engine, stop: Arc::default() };
    let wish = Wish {
        server: base.clone(),
        channel: ChannelName::parse("stable").context("stable")?,
        pinned: None,
        denied: std::collections::BTreeSet::new(),
        waits_its_turn: false,
    };
    let failed = |failure| anyhow!("{failure:?}");
    let zeroes = vec![0; 1 << 20];
    let (mut disk_alone, mut hash) = (Vec::new(), Vec::new());
    let mut links = Vec::new();
    for (name, bytes_a_second) in LINKS {
        server.pace(bytes_a_second);
        let (mut link, mut update, mut fetched) = (Vec::new(), Vec::new(), 0);
        for _ in 0..REPEATS {
            disk_alone.push(seconds(|| {
                let mut raw = Disk::open_for_content(&work.facts.disk)?;
                for at in (passive.start..passive.start + slot_bytes).step_by(1 << 20) {
                    raw.write(at, &zeroes)?;
                }
                Ok(raw.flush()?)
            })?);
            hash.push(seconds(|| {
                let mut sha = Sha256::new();
                (0..slot_bytes >> 20).for_each(|_| sha.update(&zeroes));
                ensure!(sha.finalize().iter().any(|byte| *byte != 0));
                Ok(())
            })?);
            link.push(seconds(|| {
                let http = Http::new(&base).map_err(|error| anyhow!("{error}"))?;
                let range = 0..published.payload_bytes;
                let mut body =
                    http.open(&published.payload_path, &range).map_err(|error| anyhow!("{error}"))?;
                let mut buffer = vec![0; 1 << 20];
                while body.read(&mut buffer)? > 0 {}
                Ok(())
            })?);
            // A slot that was sealed, with what the running one holds: what an update finds.
            refill(&path, &passive, &first)?;
            let before = server.payload_bytes_sent();
            update.push(seconds(|| {
                let checked = work.check(&wish).map_err(failed)?;
                let release = checked.release.context("no release is offered")?;
                let (_, proven) = work.download(&release, &base, &mut |_| {}).map_err(failed)?;
                work.apply(Some(&proven)).map_err(failed)?;
                Ok(())
            })?);
            fetched = server.payload_bytes_sent() - before;
            work.withdraw().map_err(failed)?;
            std::fs::remove_dir_all(work.folder.join("download"))?;
            std::fs::create_dir(work.folder.join("download"))?;
        }
        links.push((name, median(link), median(update), fetched));
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "update of everything: slot of {:.0} MB, payload of {:.0} MB; medians of {REPEATS} on this host",
        mb(slot_bytes),
        mb(published.payload_bytes)
    );
    println!("{:7.2} s  the disk: the slot written past the cache, flushed", median(disk_alone));
    println!("{:7.2} s  SHA-256 of the slot, one thread", median(hash));
    for (name, link, update, fetched) in links {
        let speed = mb(published.payload_bytes) / link;
        println!("{name}:");
        println!("{link:7.2} s  the link: the payload read, {speed:.0} MB/s");
        println!("{update:7.2} s  the update, from asking the channel to the flip");
        for (what, bytes) in [("bytes fetched", fetched), ("bytes of the slot", slot_bytes)] {
            let reached = mb(bytes) / update;
            println!("{reached:7.0} MB/s  {what}: {:.0} % of the link", 100.0 * reached / speed);
        }
    }
    Ok(())
}
