//! How fast an update of everything is, beside the disk, the link and the hash alone, and beside RAUC in the same machine:
//! `cargo test --workspace --test vm update::speed -- --ignored --nocapture`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, GuestOptions, Image, Tools, scratch};

use super::{configure, median, noise, options};
use crate::support::{GIB, wait_until_good};

const NAME: &str = "ferrite-speed";
/// Files of 1 MiB in each release, all of them others than in the one before.
const FILES: u64 = 64;
const REPEATS: usize = 3;

/// What RAUC needs of an image.
fn release(version: &str, files: &str) -> Result<Image> {
    Image::of_recipe(&Image::minimal_recipe(NAME, |recipe| {
        let recipe = recipe
            .replacen("version: 0.1.0\n", &format!("version: {version}\n"), 1)
            .replacen("\npackages:\n", "\npackages:\n  - rauc\n  - rauc-service\n  - dbus\n", 1)
            .replacen("  - /usr/share\n", "  - /usr/share\n  - \"!/usr/share/dbus-1\"\n", 1)
            .replacen("  modules:\n", "  modules:\n    - drivers/block/loop.ko*\n    - fs/squashfs/**\n", 1)
            .replacen("\nreplace:\n", "\nreplace:\n  - /usr/bin/awk\n", 1)
            .replacen("  usr: 128MiB", "  usr: 256MiB", 1);
        format!("{recipe}\n{files}")
    })?)
}

/// RAUC's configuration: the same two slots, and a boot loader that it leaves alone.
const SYSTEM: &str = "[system]
compatible=ferrite-speed
bootloader=noop
mountprefix=/run/rauc
[keyring]
path=/etc/rauc/cert.pem
[slot.rootfs.0]
device=/dev/disk/by-partlabel/USR-A
bootname=A
[slot.rootfs.1]
device=/dev/disk/by-partlabel/USR-B
bootname=B
";
const MANIFEST: &str = "[update]
compatible=ferrite-speed
version=1.1.0
[bundle]
format=verity
[image.rootfs]
filename=rootfs.img
";

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A verity bundle with a slot image, and the certificate that it is signed with.
fn bundle(slot: &Path, folder: &Path) -> Result<(PathBuf, String)> {
    let tools = Tools::of_packages(&["rauc", "squashfs-tools", "openssl"])?;
    let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
    let mut openssl = tools.command("openssl")?;
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test"]);
    openssl.env("OPENSSL_CONF", tools.root().join("etc/ssl/openssl.cnf"));
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert))?;
    let content = folder.join("content");
    fs::create_dir(&content)?;
    fs::copy(slot, content.join("rootfs.img"))?;
    fs::write(content.join("manifest.raucm"), MANIFEST)?;
    // RAUC looks for mksquashfs by its name; this one starts Debian's with Debian's libraries.
    let programs = folder.join("bin");
    fs::create_dir(&programs)?;
    let mksquashfs = tools.command("mksquashfs")?;
    let words = std::iter::once(mksquashfs.get_program()).chain(mksquashfs.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let script = programs.join("mksquashfs");
    fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", line.join(" ")))?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs).chain(std::env::split_paths(&path));
    let bundle = folder.join("bundle.raucb");
    let mut rauc = tools.command("rauc")?;
    rauc.env("PATH", std::env::join_paths(paths)?).arg("bundle");
    rauc.arg("--cert").arg(&cert).arg("--key").arg(&key).arg(&content).arg(&bundle);
    run(&mut rauc)?;
    Ok((bundle, fs::read_to_string(cert)?))
}

/// Seconds that a command takes in the machine.
fn seconds(guest: &mut Guest, command: &str) -> Result<f64> {
    let script = format!(
        "set -e; read from _ < /proc/uptime; {command}; read to _ < /proc/uptime; echo \"TOOK $from $to\""
    );
    let text = guest.check(&format!("sh -c '{script}'"))?;
    let (_, times) = text.split_once("TOOK ").with_context(|| format!("no times: {text:?}"))?;
    let times: Vec<f64> = times.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match times.as_slice() {
        [from, to] => Ok(to - from),
        _ => anyhow::bail!("{text:?}"),
    }
}

#[test]
#[ignore = "a measurement of minutes, for an idle machine"]
fn an_update_beside_the_disk_the_link_and_rauc() -> Result<()> {
    let folder = scratch()?;
    let served = folder.path().join("channel");
    let mut channel = Channel::new(&served)?;
    let server = FileServer::start(&served)?;
    let path = folder.path().join("disk.raw");
    release("1.0.0", &noise(NAME, 0..FILES)?)?.disk(&path, 2 * GIB)?;
    let image = release("1.1.0", &noise(NAME, FILES..2 * FILES)?)?;
    let published = channel.publish(&image)?;
    let (bundle, cert) = bundle(&image.usr, folder.path())?;
    fs::copy(&bundle, served.join("bundle.raucb"))?;
    fs::write(served.join("cert.pem"), cert)?;
    fs::write(served.join("system.conf"), SYSTEM)?;
    let slot_mib = fs::metadata(&image.usr)?.len() >> 20;

    let mut guest = Guest::start(&path, &GuestOptions { memory_mib: 512, smp: 2, ..options() })?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    let base = format!("http://10.0.2.2:{}", server.port);
    guest.check("mkdir -p /etc/rauc && cd /etc/rauc")?;
    for file in ["system.conf", "cert.pem"] {
        guest.check(&format!("wget -q -O /etc/rauc/{file} {base}/{file}"))?;
    }
    guest.check("modprobe loop && modprobe squashfs")?;
    guest.check("systemctl start dbus.service")?;
    guest.check("(rauc --override-boot-slot=A service > /var/rauc.log 2>&1 &)")?;
    guest.check(
        "for i in $(seq 100); do rauc status > /dev/null 2>&1 && break; sleep 0.2; done; rauc status",
    )?;
    let commands = [
        format!(
            "dd if=/dev/zero of=/dev/disk/by-partlabel/USR-B bs=1M count={slot_mib} oflag=direct 2> /dev/null"
        ),
        format!("wget -q -O /dev/null {base}/{}", published.payload_path),
        format!("dd if=/dev/zero bs=1M count={slot_mib} 2> /dev/null | sha256sum > /dev/null"),
        "update_engine_client update > /dev/null".to_owned(),
        format!("wget -q -O /var/bundle.raucb {base}/bundle.raucb"),
        "rauc install /var/bundle.raucb > /var/said 2>&1 || { cat /var/said /var/rauc.log; false; }"
            .to_owned(),
    ];
    let mut rows = vec![Vec::new(); commands.len()];
    for _ in 0..REPEATS {
        guest.check("update_engine_client reset")?;
        for (row, command) in rows.iter_mut().zip(&commands) {
            row.push(seconds(&mut guest, command)?);
        }
    }
    let memory = guest.check("grep -E 'VmHWM|RssAnon' /proc/$(pidof update-engine)/status")?;
    println!(
        "update of everything: slot of {slot_mib} MiB, payload of {} MB, bundle of {} MB; medians of {REPEATS} in one machine",
        published.payload_bytes / 1_000_000,
        fs::metadata(&bundle)?.len() / 1_000_000
    );
    for (row, command) in rows.into_iter().zip(&commands) {
        println!("{:7.2} s  {command}", median(row));
    }
    println!("{memory}");
    println!("{}", guest.check("journalctl --no-pager -o cat -u update-engine | grep ' s to ' | tail -n 2")?);
    guest.poweroff()
}
