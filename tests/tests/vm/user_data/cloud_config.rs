//! cloud-config: every key on one machine, and its second boot; seed 003's; a broken one.

use std::io::Write as _;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ferrite_tests::{Guest, GuestOptions, Image, scratch};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{FINAL_UNIT, KEY, NETWORK_UNIT, UNIT, cat, status, wait_for_the_end};
use crate::support::{GIB, options};

const ALL_KEYS: &str = include_str!("all-keys.yaml");
/// The address that QEMU's user network gives its guest.
const ADDRESS: &str = "10.0.2.15";

fn gzip(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// Files and what is in them.
fn files_are(guest: &mut Guest, files: &[(&str, &str)]) -> Result<()> {
    for (path, want) in files {
        assert_eq!(cat(guest, path)?, *want, "{path}");
    }
    Ok(())
}

fn owners_are(guest: &mut Guest, files: &[(&str, &str)]) -> Result<()> {
    for (path, want) in files {
        assert_eq!(guest.check(&format!("sudo stat -c '%a %U %G' {path}"))?.trim(), *want, "{path}");
    }
    Ok(())
}

#[test]
fn every_key_makes_the_machine_that_it_asks_for_once() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::ferrite()?.disk(&disk, 4 * GIB)?;
    let packed = BASE64_STANDARD.encode(gzip("from gzip\n")?);
    let text = ALL_KEYS.replace("@KEY@", KEY).replace("@GZIP@", &packed);
    // Packed as a whole as well.
    let text = gzip(&text)?;
    let start = |name| {
        Guest::start_with(&disk, &GuestOptions::named(name), |spec| {
            spec.fw_cfg("opt/ferrite/user-data", text.clone())
        })
    };

    let mut guest = start("all-keys")?;
    guest.wait_for_shell()?;
    wait_for_the_end(&mut guest)?;
    let told = status(&mut guest, NETWORK_UNIT)?;
    assert!(told.contains("fw_cfg opt/ferrite/user-data: applied (instance iid-"), "{told}");
    assert_eq!(guest.check("systemctl --failed --no-legend | cat")?.trim(), "");
    who_the_machine_is(&mut guest)?;
    accounts(&mut guest)?;
    written_files(&mut guest)?;
    daemons(&mut guest)?;
    units(&mut guest)?;
    let cpu = guest.check(&format!("systemctl show -p CPUUsageNSec {UNIT} {NETWORK_UNIT} {FINAL_UNIT}"))?;
    println!("user-data with every key: {}", cpu.split_whitespace().collect::<Vec<_>>().join(" "));

    // What a user changes stays, what happens once does not happen again, and what lies in /run is back.
    guest.check("echo mine | sudo tee /etc/plain > /dev/null; sudo rm /etc/with-mode /home/core/late")?;
    guest.check(
        "sudo systemctl disable enabled-only.service; sudo rm /var/enabled-only /var/hello /var/fleet",
    )?;
    guest.check("echo mine | sudo tee -a /etc/systemd/system/hello.service > /dev/null")?;
    guest.poweroff()?;
    let mut guest = start("all-keys-again")?;
    guest.wait_for_shell()?;
    guest.check("sudo systemctl start multi-user.target hello.service fleet.service")?;
    assert!(status(&mut guest, NETWORK_UNIT)?.contains("applied in an earlier boot"));
    files_are(&mut guest, &[("/etc/plain", "mine"), ("/var/hello", "node-7 hi")])?;
    for gone in ["/etc/with-mode", "/home/core/late", "/var/enabled-only"] {
        assert_ne!(guest.run(&format!("sudo test -e {gone}"))?.status, 0, "{gone} is back");
    }
    assert_eq!(cat(&mut guest, "/var/runcmd")?.lines().count(), 3, "commands ran again");
    assert_eq!(cat(&mut guest, "/var/for-this-boot")?, "boot\nboot");
    assert_eq!(cat(&mut guest, "/var/fleet")?, format!("{ADDRESS} region=us-east-1,disk=ssd"));
    assert!(guest.check("tail -1 /etc/systemd/system/hello.service")?.contains("mine"));
    guest.poweroff()
}

fn who_the_machine_is(guest: &mut Guest) -> Result<()> {
    assert_eq!(guest.check("hostname")?.trim(), "node-7");
    assert_eq!(cat(guest, "/etc/hostname")?, "node-7");
    guest.check("grep -qw node-7 /etc/hosts && grep -qw localhost /etc/hosts")?;
    assert_eq!(guest.check("readlink /etc/localtime")?.trim(), "/usr/share/zoneinfo/Europe/Paris");
    assert!(cat(guest, "/etc/systemd/timesyncd.conf.d/50-user-data.conf")?.contains("10.0.2.2 time.example"));
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let own = ALL_KEYS.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN")).nth(1);
    guest.check(&format!("grep -q '{}' {bundle}", own.unwrap_or_default()))?;
    let count: u32 = guest.check(&format!("grep -c BEGIN {bundle}"))?.trim().parse()?;
    assert!(count > 100, "{count} certificates: those of the image are there as well");
    let mount = guest.check("grep ' /var/scratch ' /proc/mounts")?;
    assert!(
        mount.starts_with("tmpfs") && mount.contains("size=1024k") && mount.contains("mode=711"),
        "{mount}"
    );
    files_are(
        guest,
        &[
            (
                "/etc/oem-release",
                "ID=test\nVERSION_ID=1.2.3\nNAME=\"Test Bench\"\nHOME_URL=\"http://example.org/\"\nBUG_REPORT_URL=\"http://example.org/bugs\"",
            ),
            ("/var/runcmd", "run-shell\nrun-list\nactive"),
        ],
    )?;
    let boot = cat(guest, "/var/bootcmd")?;
    assert!(boot.starts_with("iid-") && boot.ends_with("\nbefore-files"), "{boot}");
    let environment = cat(guest, "/etc/environment")?;
    for line in ["COREOS_PRIVATE_IPV4", "COREOS_PUBLIC_IPV4"] {
        assert!(environment.contains(&format!("{line}={ADDRESS}")), "{environment}");
    }
    Ok(())
}

fn accounts(guest: &mut Guest) -> Result<()> {
    let line = |guest: &mut Guest, file: &str, name: &str| -> Result<String> {
        Ok(guest.check(&format!("sudo grep '^{name}:' /etc/{file}"))?.trim().to_owned())
    };
    assert!(
        line(guest, "passwd", "elroy")?
            .starts_with("elroy:x:1500:1500:Elroy Jetson:/home/jetsons/elroy:/bin/sh")
    );
    assert!(line(guest, "shadow", "elroy")?.starts_with("elroy:!$6$rounds=4096$"));
    assert!(line(guest, "group", "sudo")?.contains("elroy"));
    assert!(line(guest, "group", "operators")?.ends_with(":elroy"));
    assert!(line(guest, "group", "watchers")?.ends_with(":core"));
    let robot = line(guest, "passwd", "robot")?;
    let fields: Vec<&str> = robot.split(':').collect();
    let number: u32 = fields.get(2).unwrap_or(&"").parse()?;
    assert!(number < 1000 && fields.last() == Some(&"/usr/sbin/nologin"), "{robot}");
    assert_ne!(guest.run("test -e /home/robot")?.status, 0);
    owners_are(
        guest,
        &[
            ("/home/jetsons/elroy", "755 elroy elroy"),
            ("/home/jetsons/elroy/.ssh/authorized_keys.d/coreos-cloudinit", "600 elroy elroy"),
            ("/home/core/.ssh/authorized_keys.d/coreos-cloudinit", "600 core core"),
            ("/etc/sudoers.d/90-rosie", "440 root root"),
        ],
    )?;
    // The kernel's own view, and sudo's.
    assert!(guest.check("sudo -u elroy id")?.contains("uid=1500(elroy)"));
    assert!(guest.check("sudo -u rosie sudo -n /usr/bin/id")?.contains("uid=0(root)"));
    guest
        .check("sudo /usr/sbin/sshd -T -C user=elroy | grep -i 'authorizedkeysfile.*authorized_keys.d'")
        .map(drop)
}

fn written_files(guest: &mut Guest) -> Result<()> {
    let plain = format!("private {ADDRESS} public {ADDRESS}\nliteral $private_ipv4\nappended");
    files_are(
        guest,
        &[
            ("/etc/plain", &plain),
            ("/etc/b64", "from base64"),
            ("/etc/base64", "from base64"),
            ("/etc/gz-b64", "from gzip"),
            ("/etc/gzip-base64", "from gzip"),
            ("/etc/gz", "from gzip"),
            ("/home/core/late", "late"),
            ("/etc/systemd/network/30-second.network", "[Match]\nName=second"),
        ],
    )?;
    owners_are(
        guest,
        &[
            ("/etc/plain", "644 root root"),
            ("/etc/with-mode", "640 root operators"),
            ("/etc/octal", "600 root root"),
            ("/home/core/late", "644 core core"),
        ],
    )?;
    assert_eq!(guest.check("/opt/bin/tool")?.trim(), "tool");
    Ok(())
}

fn daemons(guest: &mut Guest) -> Result<()> {
    let drop_in = |unit: &str| format!("/run/systemd/system/{unit}.d/20-cloudinit.conf");
    let etcd = cat(guest, &drop_in("etcd2.service"))?;
    for line in [
        "ETCD_NAME=seven".to_owned(),
        format!("ETCD_ADVERTISE_CLIENT_URLS=http://{ADDRESS}:2379"),
        "ETCD_HEARTBEAT_INTERVAL=200".to_owned(),
    ] {
        assert!(etcd.contains(&format!("Environment=\"{line}\"")), "{etcd}");
    }
    // etcd itself answers to it.
    guest.check("sudo systemctl start etcd.service")?;
    let answer = guest.check("curl -s http://127.0.0.1:2379/version; sudo ls /var/lib/etcd")?;
    assert!(answer.contains("etcdserver") && answer.contains("seven"), "{answer}");
    assert_eq!(cat(guest, "/var/fleet")?, format!("{ADDRESS} region=us-east-1,disk=ssd"));
    let locksmith = cat(guest, &drop_in("locksmithd.service"))?;
    assert!(locksmith.contains("LOCKSMITHD_ENDPOINT=http://127.0.0.1:2379"), "{locksmith}");
    assert!(
        locksmith.contains("REBOOT_WINDOW_START=03:00")
            || locksmith.contains("LOCKSMITHD_REBOOT_WINDOW_START=03:00"),
        "{locksmith}"
    );
    let flannel = cat(guest, "/run/flannel/options.env")?;
    assert!(
        flannel.contains("FLANNELD_ETCD_PREFIX=/coreos.com/network2")
            && flannel.contains("FLANNELD_IP_MASQ=true"),
        "{flannel}"
    );
    let update = cat(guest, "/etc/coreos/update.conf")?;
    assert_eq!(update, "GROUP=alpha\nREBOOT_STRATEGY=off\nSERVER=http://10.0.2.2/updates");
    assert_eq!(cat(guest, "/var/update-engine")?, update, "the engine was started with it");
    Ok(())
}

fn units(guest: &mut Guest) -> Result<()> {
    files_are(
        guest,
        &[("/var/hello", "node-7 hi"), ("/var/enabled-only", "started"), ("/var/for-this-boot", "boot")],
    )?;
    for (unit, want) in [
        ("hello.service", "enabled"),
        ("enabled-only.service", "enabled"),
        ("unwanted.service", "masked"),
        ("locksmithd.service", "masked-runtime"),
    ] {
        let found = guest.run(&format!("systemctl is-enabled {unit}"))?.text;
        assert!(found.trim().starts_with(want), "{unit} is {found}");
    }
    // Started once, in the first boot, by the targets that were on their way already.
    assert!(guest.check("systemctl show -p ActiveState enabled-only.service")?.contains("=active"));
    Ok(())
}

/// Seed 003's, with the header and with `fleet:` where it belongs.
const SEED_003: &str = include_str!("../../../../image-config/tests/seeds/user-data.fixed.yml");

#[test]
fn the_cloud_config_of_the_talk_configures_etcd_and_fleet() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::ferrite()?.disk(&disk, 4 * GIB)?;
    // Discovery aside: the token is one of nobody's, and its service out of reach.
    let text: String = SEED_003
        .lines()
        .filter(|line| !line.contains("discovery:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut guest = Guest::start_with(&disk, &GuestOptions::named("seed-003"), |spec| {
        spec.fw_cfg("opt/ferrite/user-data", text)
    })?;
    guest.wait_for_shell()?;
    guest.check("sudo systemctl start etcd.service")?;
    let etcd = cat(&mut guest, "/run/systemd/system/etcd.service.d/20-cloudinit.conf")?;
    assert!(etcd.contains(&format!("ETCD_ADVERTISE_CLIENT_URLS=http://{ADDRESS}:4001")), "{etcd}");
    let fleet = cat(&mut guest, "/run/systemd/system/fleet.service.d/20-cloudinit.conf")?;
    assert!(fleet.contains("FLEET_METADATA=region=us-east-1,disk=ssd,model=m3.2xlarge"), "{fleet}");
    assert!(fleet.contains(&format!("FLEET_PUBLIC_IP={ADDRESS}")), "{fleet}");
    // The daemon itself listens where the talk wants it.
    assert!(guest.check(&format!("curl -s http://{ADDRESS}:4001/version"))?.contains("etcdserver"));
    guest.poweroff()
}

#[test]
fn a_broken_cloud_config_leaves_a_machine_that_says_why() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::minimal()?.disk(&disk, GIB)?;
    let text = "#cloud-config\nhostname: named\ncoreos:\n  units:\n    - name: x.service\n      command: explode\n  fleet: [\n";
    let mut guest =
        Guest::start_with(&disk, &options("broken"), |spec| spec.fw_cfg("opt/ferrite/user-data", text))?;
    guest.wait_for_shell()?;
    let console = guest.console_text();
    assert!(console.contains("user-data:"), "the console says why:\n{console}");
    let failed = guest.check("systemctl --failed --no-legend | cat")?;
    assert!(failed.contains(UNIT), "{failed}");
    let told = status(&mut guest, UNIT)?;
    assert!(told.contains("with errors"), "{told}");
    guest.poweroff()
}
