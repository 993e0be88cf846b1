//! The unit files of Debian's packages run as they are: started, asked, reloaded, stopped.

use anyhow::{Result, ensure};
use ferrite_tests::{Guest, GuestOptions, Image, scratch};

use crate::support::{GIB, options};

/// What an image for them has beyond the minimal one; libc-bin, which Debian calls essential, has the locale that services get.
const PACKAGES: &str =
    "  - libc-bin\n  - chrony\n  - nginx\n  - cron\n  - redis-server\n  - apache2\n  - podman\n";
/// Accounts that the packages' scripts make, which never run here.
const USERS: &str =
    "  - name: _chrony\n    uid: 610\n    system: true\n  - name: redis\n    uid: 611\n    system: true\n";
/// Debian packages whose job only maintainer scripts want done, or BusyBox does.
const PROVIDED: &str = "  - adduser (= 3.152)\n  - procps (= 2:4.0.4)\n  - passwd (= 1:4.17.4)\n  - ucf (= 3.0052)\n  - runit-helper (= 2.16.4)\n";

/// What the scripts do besides: owners of folders, the modules that apache2 begins with.
const AS_THE_SCRIPTS_DO: [&str; 8] = [
    "cp /usr/share/chrony/chrony.conf /etc/chrony/chrony.conf",
    "ln -sf ../sites-available/default /etc/nginx/sites-enabled/default",
    "mkdir -p /var/lib/redis /var/log/redis /var/log/apache2 /var/log/nginx /var/lib/nginx /var/lib/chrony /var/log/chrony",
    "chown redis:redis /var/lib/redis /var/log/redis /etc/redis /etc/redis/redis.conf",
    "chown _chrony:_chrony /var/lib/chrony /var/log/chrony",
    // nginx has port 80.
    "echo Listen 8080 > /etc/apache2/ports.conf",
    "cd /etc/apache2/mods-enabled && for module in mpm_event authz_core; do ln -sf ../mods-available/$module.load .; done; cd /",
    "[ ! -e /etc/apache2/mods-available/mpm_event.conf ] || ln -sf ../mods-available/mpm_event.conf /etc/apache2/mods-enabled/",
];

fn image() -> Result<Image> {
    let path = Image::minimal_recipe("ferrite-services", |recipe| {
        let recipe = recipe
            .replacen("\npackages:\n", &format!("\npackages:\n{PACKAGES}"), 1)
            .replacen("\nprovides:\n", &format!("\nprovides:\n{PROVIDED}"), 1)
            .replacen("\nusers:\n", &format!("\nusers:\n{USERS}"), 1)
            .replacen("  - /usr/share\n", "  - /usr/share\n  - \"!/usr/share/chrony\"\n", 1)
            .replacen("\nreplace:\n", "\nreplace:\n  - /usr/bin/ip\n", 1)
            .replacen("  usr: 128MiB", "  usr: 512MiB", 1);
        assert!(recipe.contains(PACKAGES) && recipe.contains(USERS) && recipe.contains("512MiB"));
        recipe
    })?;
    Image::of_recipe(&path)
}

/// A service of a package.
struct Case {
    unit: &'static str,
    /// Succeeds when the service does what it is for.
    works: &'static str,
    reloads: bool,
}

const CASES: [Case; 5] = [
    Case {
        unit: "cron.service",
        works: "systemctl show -p MainPID --value cron.service | grep -qvx 0",
        reloads: false,
    },
    Case {
        unit: "nginx.service",
        works: "wget -S -O /dev/null http://127.0.0.1:80/ 2>&1 | grep -q HTTP/1",
        reloads: true,
    },
    Case { unit: "redis-server.service", works: "redis-cli ping | grep -qx PONG", reloads: false },
    Case { unit: "chrony.service", works: "chronyc -n tracking | grep -q Stratum", reloads: false },
    Case {
        unit: "apache2.service",
        works: "wget -S -O /dev/null http://127.0.0.1:8080/ 2>&1 | grep -q HTTP/1",
        reloads: true,
    },
];

/// The unit's state, with its last log lines in the message of a failure.
fn check(guest: &mut Guest, unit: &str, command: &str, want: i32) -> Result<()> {
    let output = guest.run(command)?;
    if output.status != want {
        let status = guest.run(&format!("systemctl status -n 20 {unit}; tail -n 5 /var/log/*/*.log"))?;
        ensure!(
            false,
            "{command} ended with {}, not {want}:\n{}\n{}",
            output.status,
            output.text,
            status.text
        );
    }
    Ok(())
}

#[test]
fn debians_services_run_by_their_own_unit_files() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    image()?.disk(&path, 2 * GIB)?;
    let mut guest =
        Guest::start(&path, &GuestOptions { memory_mib: 768, direct: true, ..options("services") })?;
    guest.wait_for_shell()?;
    for command in AS_THE_SCRIPTS_DO {
        guest.check(command)?;
    }
    let mut failures = Vec::new();
    for case in &CASES {
        if let Err(error) = life(&mut guest, case) {
            failures.push(format!("{}: {error:#}", case.unit));
        }
    }
    if let Err(error) = podman(&mut guest) {
        failures.push(format!("podman: {error:#}"));
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    guest.poweroff()
}

/// Start, status, reload, stop of one service.
fn life(guest: &mut Guest, Case { unit, works, reloads }: &Case) -> Result<()> {
    check(guest, unit, &format!("systemctl start {unit}"), 0)?;
    check(guest, unit, &format!("systemctl status {unit} > /dev/null"), 0)?;
    // What a service of Type=simple needs before it answers is its own business.
    let patient = format!("for i in $(seq 100); do {works} && break; sleep 0.2; done; {works}");
    check(guest, unit, &patient, 0)?;
    if *reloads {
        check(guest, unit, &format!("systemctl reload {unit}"), 0)?;
        check(guest, unit, &patient, 0)?;
    }
    check(guest, unit, &format!("systemctl is-active -q {unit}"), 0)?;
    check(guest, unit, &format!("systemctl stop {unit}"), 0)?;
    check(guest, unit, &format!("systemctl is-active -q {unit}"), 3)?;
    // Counted by grep: PID 1 may print between the lines.
    let left = format!(
        "systemctl show -p ActiveState,Result,MainPID {unit} | grep -cxE 'ActiveState=inactive|MainPID=0|Result=success'"
    );
    ensure!(
        guest.check(&format!("{left} | grep -x 3")).is_ok(),
        "{unit} after its stop: {}",
        guest.check(&left)?
    );
    Ok(())
}

/// All of podman's units are loaded, and its socket listens.
fn podman(guest: &mut Guest) -> Result<()> {
    let bad = guest.check(
        "for unit in $(systemctl list-unit-files --no-legend 'podman*' | cut -d' ' -f1 | grep -v @); do \
         systemctl show -p LoadState,Id $unit | tr '\\n' ' '; echo; done",
    )?;
    ensure!(bad.contains("podman.service") && bad.contains("podman.socket"), "{bad}");
    ensure!(bad.lines().all(|line| line.contains("LoadState=loaded")), "{bad}");
    check(guest, "podman.socket", "systemctl start podman.socket", 0)?;
    check(
        guest,
        "podman.socket",
        "systemctl show -p SubState podman.socket | grep -qx SubState=listening",
        0,
    )?;
    check(guest, "podman.socket", "test -S /run/podman/podman.sock", 0)?;
    check(guest, "podman.socket", "systemctl stop podman.socket", 0)
}
