//! Updates from a channel on the host: forward, refused while a boot is not confirmed, back by itself, resumed (SAFETY 15-20).

mod faults;
mod host;
mod sick;
mod speed;
mod users;

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{DiskFile, Guest, GuestOptions, Image, scratch, write_whole};

use crate::support::{GIB, failing_member, running_slot, wait_for, wait_until_good};

const NAME: &str = "ferrite-update";
const RESUMED: &str = "ferrite-resume";

/// The smallest image as one release of a product; `more` is added to its recipe.
fn recipe(name: &str, version: &str, more: &str) -> Result<PathBuf> {
    Image::minimal_recipe(name, |recipe| {
        let recipe = recipe.replacen("version: 0.1.0\n", &format!("version: {version}\n"), 1);
        format!("{recipe}\n{more}")
    })
}

fn release(name: &str, version: &str, more: &str) -> Result<Image> {
    Image::of_recipe(&recipe(name, version, more)?)
}

fn options() -> GuestOptions {
    GuestOptions { login: Some("root"), memory_mib: 256, ..GuestOptions::named("update") }
}

/// Tells the machine where its channel is; it reboots when it is told to.
fn configure(guest: &mut Guest, server: &FileServer) -> Result<()> {
    guest.check(&format!(
        "mkdir -p /etc/coreos && printf 'SERVER=http://10.0.2.2:{}\\nREBOOT_STRATEGY=off\\n' > /etc/coreos/update.conf",
        server.port
    ))?;
    Ok(())
}

fn os_version(guest: &mut Guest) -> Result<String> {
    let release = guest.check("cat /etc/os-release")?;
    let version = release.lines().find_map(|line| line.strip_prefix("VERSION_ID=\""));
    Ok(version.unwrap_or_default().trim_end_matches('"').to_owned())
}

#[test]
fn a_good_release_stays_and_a_sick_one_goes_safety_15_17_18() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    let mut disk = release(NAME, "1.0.0", "")?.disk(&path, GIB)?;
    let published = channel.publish(&release(NAME, "1.1.0", "")?)?;

    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    let status = guest.check("update_engine_client -status")?;
    assert_eq!(
        status,
        "LAST_CHECKED_TIME=0\nPROGRESS=0.000000\nCURRENT_OP=UPDATE_STATUS_IDLE\nNEW_VERSION=0.0.0\nNEW_SIZE=0\n"
    );
    let refused = guest.run("update_engine_client update")?;
    assert!(refused.status == 1 && refused.text.contains("no server is configured"), "{}", refused.text);
    configure(&mut guest, &server)?;
    assert!(guest.check("update_engine_client check")?.contains("1.1.0 is available"));
    let staged = guest.check("update_engine_client update")?;
    assert!(staged.contains("1.1.0 is staged"), "{staged}");
    let fetched = server.payload_bytes_sent();
    println!("1.0.0 -> 1.1.0: {fetched} bytes of {} fetched", published.payload_bytes);
    assert!(fetched * 2 < published.payload_bytes, "{fetched} of {}", published.payload_bytes);
    let status = guest.check("update_engine_client -status")?;
    assert!(status.contains("CURRENT_OP=UPDATE_STATUS_UPDATED_NEED_REBOOT\nNEW_VERSION=1.1.0\n"), "{status}");

    // The trial, its proof, and what it leaves.
    guest.reboot()?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.1.0 (on trial, tries left 0)"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-B")?);
    assert_eq!(os_version(&mut guest)?, "1.1.0");
    let status = guest.check("update_engine_client status --json")?;
    assert!(status.contains("\"confirmed\": true"), "{status}");
    guest.line_with("this boot is ON TRIAL")?;

    // A release that does not get healthy.
    let sick = failing_member("etcd.service") + "units:\n  enable: [etcd.service]\n";
    channel.publish(&release(NAME, "1.2.0", &sick)?)?;
    let staged = guest.check("update_engine_client update")?;
    assert!(staged.contains("1.2.0 is staged"), "{staged}");
    guest.reboot()?;
    guest.expect(&format!("ferrite-boot: USR-A {NAME} 1.2.0 (on trial, tries left 0)"))?;
    guest.wait_for_shell()?;
    // SAFETY 18: an update now would destroy the only good slot.
    channel.publish(&release(NAME, "1.3.0", "")?)?;
    let refused = guest.run("update_engine_client update")?;
    assert!(refused.status == 1 && refused.text.contains("not confirmed yet"), "{}", refused.text);
    let status = guest.check("update_engine_client status")?;
    assert!(status.contains("NOT YET CONFIRMED"), "{status}");
    guest.expect("this boot is not healthy in time")?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.1.0"))?;
    guest.wait_for_shell()?;
    guest.line_with("ROLLED BACK from 1.2.0 to 1.1.0: not healthy in time")?;
    assert_eq!(os_version(&mut guest)?, "1.1.0");
    let status = guest.check("update_engine_client status")?;
    assert!(status.contains("failed: 1.2.0"), "{status}");
    let history = guest.check("update_engine_client history")?;
    assert!(history.contains("rollback") && history.contains("etcd.service"), "{history}");
    guest.poweroff()?;
    assert!(disk.table_is_whole());
    assert_eq!(disk.flags("USR-A")?.priority(), 0, "the bad slot does not boot any more");
    Ok(())
}

#[test]
fn a_download_goes_on_after_kill_9_and_after_a_power_cut() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release(RESUMED, "1.0.0", "")?.disk(&path, GIB)?;
    // Three frames of eight files: blocks are there when their frame is.
    let files = 0..24;
    let more = noise(RESUMED, files.clone())?;
    channel.publish(&release(RESUMED, "1.1.0", &more)?)?;

    let starts: Vec<Vec<u8>> = files.map(|file| noise_of(file).take(64).collect()).collect();
    // What has arrived may be on its way to the disk; what is there is what counts.
    let has_begun = |count| -> Result<()> {
        let mut disk = DiskFile::open(&path)?;
        let found = || disk.beginnings("USR-B", &starts).is_ok_and(|found| found >= count);
        wait_for(found, "files of the release in the passive slot")
    };

    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    // Before them comes the frame of the initramfs.
    server.stall_after(20 << 20);
    guest.check("update_engine_client update --no-wait")?;
    has_begun(8)?;
    guest.check("kill -9 $(pidof update-engine)")?;
    server.stall_after(12 << 20);
    guest.check("systemctl reset-failed update-engine.service; systemctl restart update-engine.service")?;
    guest.check("update_engine_client update --no-wait")?;
    has_begun(16)?;
    guest.check("sync")?;
    guest.cut_power();
    let before = server.payload_bytes_sent();
    server.come_back();
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert!(guest.check("update_engine_client update")?.contains("1.1.0 is staged"));
    let rest = server.payload_bytes_sent() - before;
    println!("after two interruptions: {rest} bytes of more than {} were left", 24 << 20);
    // The third frame, and what every release changes.
    assert!(rest < 10 << 20, "{rest}");
    guest.poweroff()
}

/// Adds files of 1 MiB whose bytes do not compress to a product's recipes: several frames of payload. What is returned goes into
/// the recipe.
fn noise(name: &str, files: Range<u64>) -> Result<String> {
    let recipes = recipe(name, "1.0.0", "")?;
    let mut more = "\nfiles:\n".to_owned();
    for number in files {
        let file = format!("noise-{number}");
        let noise: Vec<u8> = noise_of(number).take(1 << 20).collect();
        write_whole(&recipes.with_file_name(&file), &noise)?;
        more.push_str(&format!("  - {{path: /usr/lib/noise/{file}, source: {file}}}\n"));
    }
    Ok(more)
}

/// The bytes of the file with this number.
fn noise_of(number: u64) -> impl Iterator<Item = u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
