//! More of the talks: a sidekick that tells where its service is, metadata from a drop-in, and the ways to another machine.

use anyhow::{Context as _, Result};
use ferrite_tests::bench::Bench;

use super::{MACHINES, submit, until_placed};

/// `nginx@.service` without Docker.
const NGINX: &str = "[Unit]
Description=Nginx

[Service]
TimeoutStartSec=0
ExecStart=/usr/sbin/nginx -c /usr/lib/ferrite-test/nginx.conf

[X-Fleet]
Conflicts=nginx@*.service
";
/// As the talk has it, whose slide broke the long line.
const SIDEKICK: &str = "[Unit]
Description=Nginx sidekick
BindsTo=nginx@%i.service
After=nginx@%i.service

[Service]
ExecStart=/bin/sh -c \"while true; do etcdctl set /services/website/nginx@%i '{ \\\"host\\\": \\\"%H\\\", \\\"port\\\": 80, \
\\\"version\\\": \\\"52c7248a14\\\" }' --ttl 60;sleep 45;done\"
ExecStop=/usr/bin/etcdctl rm /services/website/nginx@%i

[X-Fleet]
MachineOf=nginx@%i.service
";
const META: &str = "[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
MachineMetadata=criticity=dev
";
const HERE: &str = "[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
MachineMetadata=region=here
";
const LOUD: &str = "[Service]
ExecStart=/bin/sh -c 'n=0; while true; do n=$((n + 1)); echo line $n; sleep 1; done'
";

/// The service, and beside it what says in etcd where it is; what is stopped, or gone, is not there any more.
pub fn sidekick(bench: &Bench) -> Result<()> {
    bench.ssh(1, "fleetctl destroy web@1 web@2 web@3")?;
    submit(bench, "nginx@.service", NGINX)?;
    submit(bench, "nginx-discovery@.service", SIDEKICK)?;
    bench.ssh(1, "fleetctl start nginx@1 nginx@2 nginx-discovery@1 nginx-discovery@2 2>&1")?;
    let homes = [1, 2].map(|instance| {
        let main = until_placed(bench, 1, &format!("nginx@{instance}.service"), |_| true)?;
        let beside = until_placed(bench, 1, &format!("nginx-discovery@{instance}.service"), |_| true)?;
        assert_eq!(main, beside, "nginx@{instance} and its sidekick");
        Ok::<_, anyhow::Error>(main)
    });
    let [one, two] = homes;
    let (one, two) = (one?, two?);
    assert_ne!(one, two);
    let told = bench.until(3, "etcdctl ls /services/ --recursive", |text| {
        text.contains("/services/website/nginx@1") && text.contains("/services/website/nginx@2")
    })?;
    print!("{told}");
    assert!(told.starts_with("/services/website\n"), "{told}");
    let value = bench.ssh(2, "etcdctl get /services/website/nginx@2")?;
    assert_eq!(
        value.trim(),
        format!("{{ \"host\": \"node{two}\", \"port\": 80, \"version\": \"52c7248a14\" }}")
    );
    let other = (1..=MACHINES).find(|node| *node != one).context("one machine")?;
    let page = bench.ssh(other, &format!("curl -s http://10.90.0.1{one}/"))?;
    assert_eq!(page.trim(), "hello from nginx");
    // It is bound: it stops with its service, and takes back what it said.
    bench.ssh(1, "fleetctl stop nginx@1")?;
    bench.until(2, "etcdctl ls /services/ --recursive", |text| !text.contains("nginx@1"))?;
    bench.until(1, "fleetctl list-units --no-legend --fields=unit,active", |text| {
        text.lines().any(|line| line.starts_with("nginx-discovery@1") && line.ends_with("inactive"))
    })?;
    assert!(bench.ssh(2, "etcdctl ls /services/website")?.contains("nginx@2"));
    bench.ssh(1, "fleetctl destroy nginx-discovery@1 nginx-discovery@2 nginx@1 nginx@2").map(drop)
}

/// From cloud-config on every machine; on one, a drop-in wins.
pub fn metadata(bench: &Bench) -> Result<()> {
    let listed = bench.ssh(1, "fleetctl list-machines --no-legend --fields=ip,metadata")?;
    assert_eq!(listed.lines().filter(|line| line.ends_with("region=here")).count(), MACHINES, "{listed}");
    submit(bench, "meta.service", META)?;
    let refused = bench.ssh(1, "fleetctl start --block-attempts=10 meta.service 2>&1 || true")?;
    assert!(refused.contains("criticity"), "{refused}");
    bench.ssh(
        2,
        "sudo mkdir -p /etc/systemd/system/fleet.service.d/
        printf '[Service]\\nEnvironment=\"FLEET_METADATA=criticity=dev\"\\n' \
            | sudo tee /etc/systemd/system/fleet.service.d/40-fleet-metadata.conf > /dev/null
        sudo systemctl daemon-reload
        sudo systemctl restart fleet",
    )?;
    bench.until(1, "fleetctl list-machines --no-legend --fields=ip,metadata", |text| {
        text.lines().any(|line| line.starts_with("10.90.0.12") && line.ends_with("criticity=dev"))
    })?;
    bench.ssh(1, "fleetctl start meta.service")?;
    assert_eq!(until_placed(bench, 3, "meta.service", |_| true)?, 2);
    submit(bench, "here.service", HERE)?;
    bench.ssh(1, "fleetctl start here.service")?;
    assert_ne!(until_placed(bench, 3, "here.service", |_| true)?, 2);
    bench.ssh(1, "fleetctl list-unit-files && fleetctl destroy meta.service here.service").map(drop)
}

/// Commands that go to the machine of a unit, and commands that come from outside through one.
pub fn ways(bench: &Bench) -> Result<()> {
    submit(bench, "loud.service", LOUD)?;
    bench.ssh(1, "fleetctl start loud.service")?;
    let home = until_placed(bench, 1, "loud.service", |_| true)?;
    let away = (1..=MACHINES).find(|node| *node != home).context("one machine")?;
    let key = std::fs::read_to_string(bench.key())?;
    bench.ssh(away, &format!("umask 077; mkdir -p ~/.ssh; cat > ~/.ssh/id_ed25519 << 'EOF'\n{key}EOF\n"))?;
    let no = "--strict-host-key-checking=false";
    // Without a terminal nobody can be asked about the machine's key.
    let asked = bench.ssh(away, "fleetctl ssh loud.service hostname < /dev/null 2>&1 || true")?;
    assert!(asked.contains("erification") || asked.contains("host key"), "{asked}");
    let name = bench.ssh(away, &format!("fleetctl {no} ssh loud.service hostname"))?;
    assert_eq!(name.trim(), format!("node{home}"));
    let id = bench.ssh(home, "cut -c1-8 /etc/machine-id")?;
    let name = bench.ssh(away, &format!("fleetctl {no} ssh {} hostname", id.trim()))?;
    assert_eq!(name.trim(), format!("node{home}"));
    // It goes on as there are more lines: ends with the third one.
    let follow = format!("fleetctl {no} journal --lines 1 -f loud.service | grep -m 3 \": line \"");
    let followed = bench.ssh(away, &format!("timeout 180 sh -c '{follow}' || true"))?;
    assert_eq!(followed.lines().count(), 3, "{followed}");
    let status = bench.ssh(away, &format!("fleetctl {no} status loud.service"))?;
    assert!(status.contains("Active: active"), "{status}");
    let tunnel = format!("fleetctl --tunnel 10.90.0.1{home} {no}");
    let machines = bench.ssh(away, &format!("{tunnel} list-machines --no-legend"))?;
    assert_eq!(machines.lines().count(), MACHINES, "{machines}");
    submit(bench, "far@.service", "[Service]\nExecStart=/bin/sleep infinity\n")?;
    if away != 1 {
        bench.ssh(away, "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > far@.service")?;
    }
    // Scenario 43, TunnelScheduleBatchUnits.
    bench.ssh(
        away,
        &format!("{tunnel} submit far@.service && {tunnel} start far@1 && {tunnel} start far@2 far@3 far@4"),
    )?;
    for instance in 1..=4 {
        until_placed(bench, away, &format!("far@{instance}.service"), |_| true)?;
    }
    bench.ssh(away, "fleetctl destroy far@1 far@2 far@3 far@4 far@ loud.service").map(drop)
}
