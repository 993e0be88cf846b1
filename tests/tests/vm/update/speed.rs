//! How fast an update of everything is, beside the disk, the link and the hash alone: `cargo test --workspace --test vm
//! update::speed -- --ignored --nocapture`.

use anyhow::{Context as _, Result};
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, scratch};

use super::{configure, noise, options, release};
use crate::support::{GIB, wait_until_good};

const NAME: &str = "ferrite-speed";
/// Files of 1 MiB in each release, all of them others than in the one before.
const FILES: u64 = 64;
const REPEATS: usize = 3;

/// Seconds that a command takes in the machine.
fn seconds(guest: &mut Guest, command: &str) -> Result<f64> {
    let script = format!(
        "set -e; read from _ < /proc/uptime; {command}; read to _ < /proc/uptime; echo \"TOOK $from $to\""
    );
    let text = guest.check(&format!("sh -c '{script}'"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("TOOK ")).context("no times")?;
    let times: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    match times.as_slice() {
        [from, to] => Ok(to - from),
        _ => anyhow::bail!("{line}"),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[test]
#[ignore = "a measurement of minutes, for an idle machine"]
fn an_update_beside_the_disk_and_the_link() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release(NAME, "1.0.0", &noise(NAME, 0..FILES)?)?.disk(&path, GIB)?;
    let image = release(NAME, "1.1.0", &noise(NAME, FILES..2 * FILES)?)?;
    let published = channel.publish(&image)?;
    let slot_mib = std::fs::metadata(&image.usr)?.len() >> 20;
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    let payload = format!("http://10.0.2.2:{}/{}", server.port, published.payload_path);
    let write = format!(
        "dd if=/dev/zero of=/dev/disk/by-partlabel/USR-B bs=1M count={slot_mib} oflag=direct 2> /dev/null"
    );
    let hash = format!("dd if=/dev/zero bs=1M count={slot_mib} 2> /dev/null | sha256sum > /dev/null");
    let mut rows = [const { Vec::new() }; 4];
    for _ in 0..REPEATS {
        guest.check("update_engine_client reset")?;
        let commands = [
            &write,
            &format!("wget -q -O /dev/null {payload}"),
            &hash,
            "update_engine_client update > /dev/null",
        ];
        for (row, command) in rows.iter_mut().zip(commands) {
            row.push(seconds(&mut guest, command)?);
        }
    }
    let memory = guest.check("grep -E 'VmHWM|RssAnon' /proc/$(pidof update-engine)/status")?;
    let [write, link, hash, update] = rows.map(median);
    println!(
        "update of everything, slot of {slot_mib} MiB, payload of {} MB, medians of {REPEATS} in one machine: \
         dd oflag=direct {write:.2} s, payload by wget {link:.2} s, sha256sum of the slot's bytes {hash:.2} s, \
         update_engine_client update {update:.2} s\n{memory}",
        published.payload_bytes / 1_000_000
    );
    guest.poweroff()
}
