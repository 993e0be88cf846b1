//! The scheduler on three machines: the talks' demos that need no container.

mod demos;

use std::time::{Duration, Instant};

use anyhow::Result;
use builder::cluster::protocol::Action;
use builder::cluster::seed::{self, Security};
use ferrite_tests::Image;
use ferrite_tests::bench::{Bench, BenchOptions};

const MACHINES: usize = 3;
/// Tells a hang; nothing is timed by it.
const LIMIT: Duration = Duration::from_secs(600);

/// As a talk has it.
const HELLO: &str = "[Unit]
Description=Hello World
[Service]
ExecStart=/bin/bash -c \"while true; do echo Hello, World; sleep 1; done\"
";
/// Instances that do not share a machine.
const WEB: &str = "[Unit]
Description=Web server %i
[Service]
ExecStart=/usr/bin/busybox httpd -f -p 8000
[X-Fleet]
Conflicts=web@*.service
";
const EVERYWHERE: &str = "[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
Global=true
";

/// Where a unit runs, by `list-units` on a machine.
fn place(bench: &Bench, number: usize, unit: &str) -> Result<Option<usize>> {
    let units = bench.ssh(number, "fleetctl list-units --no-legend --full --fields=unit,machine,active")?;
    let of = |line: &str| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(unit))
            .then(|| (fields.next().map(str::to_owned), fields.next() == Some("active")))
    };
    let Some((Some(machine), true)) = units.lines().find_map(of) else { return Ok(None) };
    for node in 1..=MACHINES {
        if machine.contains(&format!("10.90.0.1{node}")) {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// Waits until a unit runs somewhere that `right` is content with.
fn until_placed(bench: &Bench, number: usize, unit: &str, right: impl Fn(usize) -> bool) -> Result<usize> {
    let begin = Instant::now();
    loop {
        match place(bench, number, unit)? {
            Some(node) if right(node) => return Ok(node),
            _ => std::thread::sleep(Duration::from_secs(1)),
        }
        if begin.elapsed() > LIMIT {
            let status = bench.ssh(number, "fleetctl list-units; fleetctl list-machines")?;
            anyhow::bail!("{unit} does not come up where it should:\n{status}");
        }
    }
}

fn submit(bench: &Bench, name: &str, text: &str) -> Result<()> {
    bench.ssh(1, &format!("cat > {name} << 'EOF'\n{text}EOF\n")).map(drop)
}

/// The product with nginx, and a configuration that needs nothing of what its package's scripts make.
fn image() -> Result<Image> {
    Image::ferrite_release("ferrite-fleet", "1.0.0", |recipe| {
        let conf = "
files:
  - path: /usr/lib/ferrite-test/nginx.conf
    content: |
      daemon off;
      pid /run/nginx.pid;
      error_log stderr;
      events {}
      http {
        access_log off;
        client_body_temp_path /run/nginx-body;
        proxy_temp_path /run/nginx-proxy;
        fastcgi_temp_path /run/nginx-fastcgi;
        uwsgi_temp_path /run/nginx-uwsgi;
        scgi_temp_path /run/nginx-scgi;
        server { listen 80; location / { return 200 'hello from nginx'; } }
      }
";
        recipe.replacen("\npackages:\n", "\npackages:\n  - nginx\n", 1).replacen("\nfiles:\n", conf, 1)
    })
}

#[test]
fn units_find_machines_and_move_when_those_go() -> Result<()> {
    let mut user_data = seed::default_user_data(MACHINES, Security::Plain);
    user_data.push_str(
        "    - name: fleet.service\n      command: start\n  fleet:\n    public-ip: $private_ipv4\n    \
         metadata: region=here\n",
    );
    let image = image()?;
    let options = BenchOptions {
        user_data: user_data.into_bytes(),
        ..BenchOptions::etcd("fleet", &image.raw, MACHINES)
    };
    let bench = Bench::start(&options)?;
    bench.wait_until_healthy()?;
    bench.until(1, "fleetctl list-machines --no-legend", |text| text.lines().count() == MACHINES)?;

    submit(&bench, "hello.service", HELLO)?;
    println!("{}", bench.ssh(1, "fleetctl start hello.service 2>&1")?.trim());
    let home = until_placed(&bench, 2, "hello.service", |_| true)?;
    println!("{}", bench.ssh(3, "fleetctl list-units")?);
    assert!(bench.ssh(home, "systemctl is-active hello.service")?.contains("active"));
    assert!(bench.ssh(home, "fleetctl journal --lines 3 hello.service")?.contains("Hello, World"));
    assert!(bench.ssh(home, "fleetctl status hello.service")?.contains("Active: active"));
    assert!(bench.ssh(2, "fleetctl cat hello.service")?.contains("Description=Hello World"));

    submit(&bench, "web@.service", WEB)?;
    bench.ssh(1, "fleetctl submit web@.service && fleetctl start web@1 web@2 web@3")?;
    let mut homes = Vec::new();
    for instance in 1..=MACHINES {
        homes.push(until_placed(&bench, 1, &format!("web@{instance}.service"), |_| true)?);
    }
    homes.sort_unstable();
    assert_eq!(homes, [1, 2, 3], "conflicting units share no machine");
    let refused =
        bench.ssh(1, "fleetctl start --block-attempts=5 web@4 2>&1; fleetctl status web@4 2>&1 || true")?;
    assert!(refused.contains("onflict"), "it says why nothing takes it: {refused}");
    bench.ssh(1, "fleetctl destroy web@4")?;

    submit(&bench, "everywhere.service", EVERYWHERE)?;
    bench.ssh(1, "fleetctl start everywhere.service")?;
    for node in 1..=MACHINES {
        bench.until(node, "systemctl is-active everywhere.service", |text| text.trim() == "active")?;
    }

    // The talk's demo: a machine whose fleet is stopped gives its units away, and the others keep theirs.
    let begin = Instant::now();
    bench.ssh(home, "sudo systemctl stop fleet")?;
    let other = (1..=MACHINES).find(|node| *node != home).unwrap_or(1);
    let next = until_placed(&bench, other, "hello.service", |node| node != home)?;
    println!(
        "fleet stopped on node{home}: hello.service on node{next} after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    assert!(!bench.ssh(home, "systemctl is-active hello.service || true")?.starts_with("active"));
    bench.ssh(home, "sudo systemctl start fleet")?;
    bench.until(other, "fleetctl list-machines --no-legend", |text| text.lines().count() == MACHINES)?;

    // A restart keeps what runs.
    let pid = bench.ssh(next, "systemctl show -p MainPID hello.service")?;
    bench.ssh(next, "sudo systemctl kill -s KILL fleet; sudo systemctl restart fleet")?;
    bench.until(next, "fleetctl list-machines --no-legend", |text| text.lines().count() == MACHINES)?;
    assert_eq!(bench.ssh(next, "systemctl show -p MainPID hello.service")?, pid);

    let begin = Instant::now();
    bench.act(Action::Kill, &[next])?;
    let witness = (1..=MACHINES).find(|node| *node != next).unwrap_or(1);
    let last = until_placed(&bench, witness, "hello.service", |node| node != next)?;
    println!("node{next} killed: hello.service on node{last} after {:.1} s", begin.elapsed().as_secs_f64());
    bench.act(Action::Start, &[next])?;
    bench.wait_until_healthy()?;
    bench.until(witness, "fleetctl list-machines --no-legend", |text| text.lines().count() == MACHINES)?;
    assert_eq!(place(&bench, witness, "hello.service")?, Some(last), "nothing moves without need");

    bench.until(witness, "fleetctl list-units --no-legend --fields=unit,active", |text| {
        text.lines().filter(|line| line.starts_with("web@") && line.ends_with("\tactive")).count() == MACHINES
    })?;
    demos::sidekick(&bench)?;
    demos::metadata(&bench)?;
    demos::ways(&bench)?;
    bench.down()
}
