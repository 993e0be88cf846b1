//! The image of `recipes/ferrite.yaml`: what its users see, from power-on to power-off and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Error, Result, ensure};
use builder::sshkey;
use ferrite_tests::budgets::{Budgets, Fit};
use ferrite_tests::{DiskFile, Guest, GuestOptions, Image, Tools, post_json, scratch};
use serde_json::json;

use crate::support::{GIB, running_slot, tries};

const ETCD: u16 = 2379;
const SSH: u16 = 22;
/// Marks of every boot, in the order in which they are reached.
const IN_ORDER: [&str; 5] = ["firmware", "loader", "kernel", "pid1", "usr"];
/// Marks that come after those, in any order.
const AFTERWARDS: [&str; 4] = ["network", "etcd", "login", "complete"];

/// How often something is measured before it is held to be too much. A change for the worse is there each time.
const SAMPLES: u32 = 3;

#[test]
fn the_image_does_what_its_users_expect() -> Result<()> {
    let image = Image::ferrite()?;
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    // As `run` does it: a larger disk, and the table where it was built.
    image.copy_to(&path)?;
    let mut disk = DiskFile::open(&path)?;
    disk.enlarge(4 * GIB)?;
    let (key, public_key) = sshkey::ensure(folder.path())?;
    let options = GuestOptions {
        ports: vec![(0, ETCD), (0, SSH)],
        public_key: Some(public_key),
        alone: true,
        smp: 2,
        ..GuestOptions::named("ferrite")
    };

    let mut guest = Guest::start(&path, &options)?;
    guest.wait_for_shell()?;
    assert_eq!(guest.check("id -un")?.trim(), "core");
    let budgets = Budgets::load()?;
    marks_are_complete(&mut guest)?;
    guest.check("sudo systemctl start etcd.service ssh.service")?;
    let mut used = idle(&mut guest)?;
    for _ in 1..SAMPLES {
        if budgets.check("idle", Fit::Loose, &used).is_ok() {
            break;
        }
        used = least(used, idle(&mut guest)?);
    }
    budgets.check("idle", Fit::Loose, &used)?;
    usr_and_root_refuse_writes(&mut guest)?;
    ssh_lets_the_key_in(&guest, &key)?;
    etcd_stores(&mut guest)?;
    guest.check("sudo systemctl start ferrite-mark-good.service")?;
    assert_eq!(guest.check("systemctl is-active boot-complete.target")?.trim(), "active");
    let slot = running_slot(&mut guest)?;
    assert_eq!(slot, disk.partuuid("USR-A")?);
    // No sync: poweroff must flush it.
    guest.check("head -c 20000000 /dev/urandom | sudo tee /var/written > /dev/null")?;
    let sum = guest.check("sha256sum /var/written")?;
    guest.poweroff()?;
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true));
    assert!(disk.table_is_whole());

    let mut guest = Guest::start(&path, &options)?;
    guest.expect(&format!("ferrite-boot: USR-A ferrite {} (tries left 6)", image.recipe.version))?;
    guest.wait_for_shell()?;
    assert_eq!(guest.check("sha256sum /var/written")?, sum);
    let mut marks = after_the_kernel(&marks_are_complete(&mut guest)?)?;
    for _ in 1..SAMPLES {
        if budgets.check("boot", Fit::Loose, &marks).is_ok() {
            break;
        }
        guest.poweroff()?;
        guest = Guest::start(&path, &options)?;
        guest.wait_for_shell()?;
        marks = least(marks, after_the_kernel(&marks_are_complete(&mut guest)?)?);
    }
    budgets.check("boot", Fit::Loose, &marks)?;
    // The store outlives the boot as well.
    guest.check("sudo systemctl start etcd.service")?;
    assert_eq!(get(&guest, KEY)?, Some(VALUE.to_owned()));
    guest.poweroff()
}

/// The least of two measurements: what others do on the host only ever adds to them.
fn least<const N: usize>(
    mut one: [(&'static str, f64); N],
    other: [(&'static str, f64); N],
) -> [(&'static str, f64); N] {
    for (value, (_, least)) in one.iter_mut().zip(other) {
        value.1 = value.1.min(least);
    }
    one
}

/// Reads the line `ferrite: marks a=1ms b=2ms`; prints it.
fn marks_are_complete(guest: &mut Guest) -> Result<BTreeMap<String, u64>> {
    let line = guest.line_with("ferrite: marks")?;
    println!("ferrite: marks{line}");
    let marks: BTreeMap<String, u64> = line
        .split_ascii_whitespace()
        .map(|word| {
            let (name, time) = word.split_once('=').context("no =")?;
            Ok((name.to_owned(), time.strip_suffix("ms").context("no ms")?.parse()?))
        })
        .collect::<Result<_>>()?;
    let at = |name: &str| marks.get(name).copied().with_context(|| format!("no mark {name} in {line}"));
    let mut last = 0;
    for name in IN_ORDER {
        let reached = at(name)?;
        assert!(reached >= last, "{name} comes before its predecessor in {line}");
        last = reached;
    }
    assert!(at("firmware")? > 0 && at("kernel")? > at("firmware")?, "{line}");
    for name in AFTERWARDS {
        assert!(at(name)? > last, "{name} comes before /usr in {line}");
    }
    Ok(marks)
}

/// When the marks of user space were reached: time since its first process, as a part of what firmware, loader and kernel took before
/// it. So a fast and a slow machine give about the same numbers.
fn after_the_kernel(marks: &BTreeMap<String, u64>) -> Result<[(&'static str, f64); 5]> {
    let at = |name: &str| marks.get(name).map(|time| *time as f64).with_context(|| format!("no mark {name}"));
    let pid1 = at("pid1")?;
    // Three digits are more than two runs have in common.
    let share = |name| Ok::<_, Error>((name, ((at(name)? - pid1) / pid1 * 1000.0).round() / 1000.0));
    Ok([share("usr")?, share("network")?, share("etcd")?, share("login")?, share("complete")?])
}

/// What runs and what is used ten seconds later, when nobody does anything.
fn idle(guest: &mut Guest) -> Result<[(&'static str, f64); 2]> {
    // Ten seconds are part of what is measured, not a way of waiting for something.
    let used = "awk '/^MemTotal/ { total = $2 } /^MemAvailable/ { print total - $2 }' /proc/meminfo";
    let used_kib: u64 = guest.check(&format!("sleep 10; {used}"))?.trim().parse()?;
    let processes: u32 = guest.check("ps --ppid 2 -p 2 --deselect -o pid= | wc -l")?.trim().parse()?;
    let threads: u32 = guest.check("ps --ppid 2 -o pid= | wc -l")?.trim().parse()?;
    // Of those that were counted, ps and wc are the measurement.
    let processes = processes - 2;
    println!(
        "idle: {:.1} MiB used of a machine of 512, {processes} processes, {threads} kernel threads",
        used_kib as f64 / 1024.0
    );
    Ok([("memory_kib", used_kib as f64), ("processes", f64::from(processes))])
}

fn usr_and_root_refuse_writes(guest: &mut Guest) -> Result<()> {
    for path in ["/usr/x", "/x", "/usr/bin/busybox"] {
        let refused = guest.run(&format!("sudo touch {path}"))?;
        assert_ne!(refused.status, 0, "{path} could be written");
        assert!(refused.text.contains("Read-only file system"), "{path}: {}", refused.text);
    }
    // The file system itself cannot be written, whatever the mount says.
    let remounted = guest.run("sudo mount -o remount,rw /usr; sudo touch /usr/x")?;
    assert_ne!(remounted.status, 0, "{}", remounted.text);
    // It is not the user that is refused.
    guest.check("sudo touch /var/x /etc/x /run/x /tmp/x && sudo rm /var/x /etc/x").map(drop)
}

fn ssh(guest: &Guest, key: &Path) -> Result<Command> {
    let mut command = Tools::of_packages(&["openssh-client"])?.command("ssh")?;
    command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
    command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    command.args(["-o", "ConnectTimeout=120", "-o", "LogLevel=ERROR", "-p"]);
    command.arg(guest.port(SSH)?.to_string());
    command.arg("-i").arg(key);
    Ok(command)
}

fn ssh_lets_the_key_in(guest: &Guest, key: &Path) -> Result<()> {
    let run = |user: &str, key: &Path, line: &str| -> Result<(bool, String, String)> {
        let output = ssh(guest, key)?.arg(format!("{user}@127.0.0.1")).arg(line).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    };
    let (ok, printed, error) = run("core", key, "id -un; uname -s; sudo -n id -u")?;
    assert!(ok && printed == "core\nLinux\n0", "{printed} {error}");
    // The key counts, not the way in: another key and another user are refused.
    let folder = scratch()?;
    let (other, _) = sshkey::ensure(folder.path())?;
    for (user, key) in [("core", other.as_path()), ("root", key)] {
        let (ok, printed, error) = run(user, key, "echo got in")?;
        assert!(
            !ok && printed.is_empty() && error.contains("Permission denied"),
            "{user}: {printed} {error}"
        );
    }
    Ok(())
}

/// `ferrite-test` and `kept over boots` in base64, as etcd's JSON has bytes.
const KEY: &str = "ZmVycml0ZS10ZXN0";
const VALUE: &str = "a2VwdCBvdmVyIGJvb3Rz";

fn etcd_stores(guest: &mut Guest) -> Result<()> {
    // Debian's etcd listens on the machine's loopback unless it is told otherwise, in the file that Debian has for that.
    guest.check(
        "printf '%s\\n' ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379 ETCD_ADVERTISE_CLIENT_URLS=http://10.0.2.15:2379 \
         | sudo tee /etc/default/etcd > /dev/null",
    )?;
    guest.check("sudo systemctl restart etcd.service")?;
    assert_eq!(get(guest, KEY)?, None, "the store is empty at first");
    let port = guest.port(ETCD)?;
    let put = post_json(port, "/v3/kv/put", &json!({ "key": KEY, "value": VALUE }))?;
    ensure!(put.pointer("/header/revision").is_some(), "{put}");
    assert_eq!(get(guest, KEY)?, Some(VALUE.to_owned()));
    Ok(())
}

fn get(guest: &Guest, key: &str) -> Result<Option<String>> {
    let answer = post_json(guest.port(ETCD)?, "/v3/kv/range", &json!({ "key": key }))?;
    ensure!(answer.pointer("/header/cluster_id").is_some(), "{answer}");
    Ok(answer.pointer("/kvs/0/value").and_then(|value| value.as_str()).map(str::to_owned))
}
