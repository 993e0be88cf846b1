//! A machine with an etcd of its own: `locksmithctl`, an update whose reboot goes under the lock, and a bad release that keeps it.

use std::path::Path;

use anyhow::Result;
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, GuestOptions, Image, scratch};

use crate::support::{GIB, failing_member, wait_until_good};

const NAME: &str = "ferrite-lock";

/// The smallest image with etcd as one release.
fn release(version: &str, more: &str, enabled: &str) -> Result<Image> {
    let recipe = Image::minimal_recipe(NAME, |recipe| {
        let recipe = recipe
            .replacen("version: 0.1.0\n", &format!("version: {version}\n"), 1)
            .replacen("\npackages:\n", "\npackages:\n  - etcd-server\n", 1)
            .replacen("\nprovides:\n", "\nprovides:\n  - adduser (= 3.152)\n", 1);
        format!("{recipe}{more}\nunits:\n  enable: [{enabled}]\n")
    })?;
    Image::of_recipe(&recipe)
}

fn start(disk: &Path) -> Result<Guest> {
    let options = GuestOptions { login: Some("root"), memory_mib: 448, ..GuestOptions::named("reboot-lock") };
    let mut guest = Guest::start(disk, &options)?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    Ok(guest)
}

/// Updates come from the host; the reboot follows soon, under the lock.
fn configure(guest: &mut Guest, server: &FileServer) -> Result<()> {
    guest.check(&format!(
        "mkdir -p /etc/coreos && printf 'SERVER=http://10.0.2.2:{}\\nREBOOT_STRATEGY=etcd-lock\\n\
         LOCKSMITHD_REBOOT_DELAY=5s\\n' > /etc/coreos/update.conf",
        server.port
    ))?;
    Ok(())
}

/// Waits until a command's output has a text, and returns it.
fn until(guest: &mut Guest, command: &str, text: &str) -> Result<String> {
    // A machine that has just come up has an etcd that does not answer yet.
    guest.check(&format!("until {command} 2>/dev/null | grep -q '{text}'; do sleep 1; done; {command}"))
}

fn fails(guest: &mut Guest, command: &str, says: &str) -> Result<()> {
    let output = guest.run(command)?;
    assert!(output.status == 1 && output.text.contains(says), "{command}: {} {}", output.status, output.text);
    Ok(())
}

#[test]
fn locksmithctl_does_what_it_did_and_an_update_reboots_under_the_lock() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release("1.0.0", "", "etcd.service")?.disk(&path, GIB)?;
    channel.publish(&release("1.1.0", "", "etcd.service")?)?;
    let mut guest = start(&path)?;

    assert_eq!(guest.check("locksmithctl status")?, "Available: 1\nMax: 1\n");
    let id = guest.check("cat /etc/machine-id")?.trim().to_owned();
    assert_eq!(guest.check("locksmithctl lock")?, "");
    assert_eq!(guest.check("locksmithctl status")?, format!("Available: 0\nMax: 1\n\nMACHINE ID\n{id}\n"));
    fails(&mut guest, "locksmithctl lock", "Error locking: semaphore is at 0")?;
    assert_eq!(guest.check("locksmithctl set-max 2")?, "Old-Max: 1\nMax: 2\n");
    fails(&mut guest, "locksmithctl lock", "Error locking: holder exists")?;
    fails(&mut guest, "locksmithctl set-max", "New maximum value must be set.")?;
    guest.check("locksmithctl lock other")?;
    assert!(guest.check("locksmithctl status --long")?.contains("other\t"));
    assert_eq!(guest.check("locksmithctl -group else status")?, "Available: 1\nMax: 1\n");
    guest.check("locksmithctl unlock")?;
    fails(&mut guest, "locksmithctl unlock", "Error unlocking: holder does not exist")?;
    assert_eq!(guest.run("locksmithctl frob")?.status, 2);
    guest.check("locksmithctl set-max 1")?;

    // `other` is down: nobody else reboots.
    configure(&mut guest, &server)?;
    guest.check("systemctl stop locksmithd")?;
    assert!(guest.check("update_engine_client update")?.contains("1.1.0 is staged"));
    let status = guest.check("update_engine_client status")?;
    assert!(status.contains("locksmithd.service is not started"), "{status}");
    guest.check("systemctl start locksmithd")?;
    let status = until(&mut guest, "update_engine_client status", "waiting for the reboot lock")?;
    assert!(status.contains("held by other for"), "{status}");

    // It is back: this machine's turn, at once.
    guest.check("locksmithctl unlock other")?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.1.0 (on trial, tries left 0)"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert!(guest.check("cat /etc/os-release")?.contains("VERSION_ID=\"1.1.0\""));
    assert_eq!(until(&mut guest, "locksmithctl status", "Available: 1")?, "Available: 1\nMax: 1\n");
    guest.check("until ! [ -e /var/lib/update-engine/reboot-lock.json ]; do sleep 1; done")?;

    // By hand, and for one that holds it already.
    guest.check("locksmithctl lock")?;
    guest.check("locksmithctl set-max 2")?;
    guest.vm().console().send("locksmithctl reboot\n")?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.1.0"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    until(&mut guest, "locksmithctl status", "Available: 2")?;
    guest.poweroff()
}

#[test]
fn a_machine_whose_release_failed_keeps_the_lock_so_that_nobody_follows_it() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release("1.0.0", "", "etcd.service")?.disk(&path, GIB)?;
    channel.publish(&release("1.2.0", &failing_member("ssh.service"), "etcd.service, ssh.service")?)?;
    let mut guest = start(&path)?;
    configure(&mut guest, &server)?;
    guest.check("update_engine_client update --no-wait")?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.2.0 (on trial, tries left 0)"))?;
    guest.expect(&format!("ferrite-boot: USR-A {NAME} 1.0.0"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    let status = until(&mut guest, "locksmithctl status --long", "FAILED 1.2.0")?;
    assert!(status.starts_with("Available: 0\n"), "{status}");
    fails(&mut guest, "locksmithctl lock next", "semaphore is at 0")?;
    let status = guest.check("update_engine_client status")?;
    assert!(status.contains("keeps the reboot lock"), "{status}");

    // A release that is sound heals it.
    channel.publish(&release("1.3.0", "", "etcd.service")?)?;
    guest.check("update_engine_client update --no-wait")?;
    guest.expect(&format!("ferrite-boot: USR-B {NAME} 1.3.0 (on trial, tries left 0)"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(until(&mut guest, "locksmithctl status", "Available: 1")?, "Available: 1\nMax: 1\n");
    guest.poweroff()
}
