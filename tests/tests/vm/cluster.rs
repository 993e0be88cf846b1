//! Clusters of machines: broken and mended, with a lost disk, alone and without a quorum, and with clients that remember what they were told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use builder::cluster::protocol::{Action, Request};
use builder::cluster::seed::{self, Security};
use ferrite_tests::bench::{Bench, BenchOptions};
use ferrite_tests::etcd::{Etcd, EtcdOptions};
use ferrite_tests::{Image, Tools, history, scratch};
use serde_json::{Value, json};

use crate::support::GIB;

/// How long etcd may take to answer: an election on a busy host.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something is tried that is to fail: longer than etcd's own limit of 7 s for a write.
const IN_VAIN: Duration = Duration::from_secs(10);
/// After so long PID 1 gives an unconfirmed boot up (SAFETY 15).
const HEALTH_LIMIT: Duration = Duration::from_secs(180);

/// `key` and `one`, as etcd's JSON has bytes.
const KEY: &str = "a2V5";
const ONE: &str = "b25l";
const TWO: &str = "dHdv";

fn put(bench: &Bench, number: usize, value: &str, limit: Duration) -> Result<Value> {
    bench.etcd(number, "/v3/kv/put", &json!({ "key": KEY, "value": value }), limit)
}

fn get(bench: &Bench, number: usize) -> Result<Option<String>> {
    let answer = bench.etcd(number, "/v3/kv/range", &json!({ "key": KEY }), PATIENCE)?;
    Ok(answer.pointer("/kvs/0/value").and_then(Value::as_str).map(str::to_owned))
}

/// The machine whose member leads.
fn leader(bench: &Bench, machines: usize) -> Result<usize> {
    for number in 1..=machines {
        let status = bench.etcd(number, "/v3/maintenance/status", &json!({}), PATIENCE)?;
        if status.pointer("/leader").is_some_and(|leader| Some(leader) == status.pointer("/header/member_id"))
        {
            return Ok(number);
        }
    }
    anyhow::bail!("nobody leads")
}

/// Writes through any of these machines until one is acknowledged; how long that took.
fn until_written(bench: &Bench, numbers: &[usize], value: &str) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        if numbers.iter().any(|number| put(bench, *number, value, PATIENCE).is_ok()) {
            return Ok(begin.elapsed());
        }
        ensure!(begin.elapsed() < Duration::from_secs(300), "no write is acknowledged");
    }
}

/// How often a machine's loader ran.
fn boots(bench: &Bench, number: usize) -> Result<usize> {
    let log = std::fs::read_to_string(bench.folder().join("timeline.log"))?;
    let from = format!("node{number} | ");
    Ok(log.lines().filter(|line| line.contains(&from) && line.contains("ferrite-boot: USR-")).count())
}

#[test]
fn three_machines_are_one_cluster_that_is_broken_and_mended() -> Result<()> {
    let begin = Instant::now();
    let bench = Bench::start(&BenchOptions::etcd("broken", &Image::ferrite()?.raw, 3))?;
    bench.wait_until_healthy()?;
    println!("three machines: {:.1} s to a healthy cluster", begin.elapsed().as_secs_f64());
    for number in 1..=3 {
        assert_eq!(bench.ssh(number, "hostname")?.trim(), format!("node{number}"));
    }
    // The ports of today and of etcd 0.4, and the unit's old name.
    bench.ssh(1, "for port in 2379 4001; do curl -sSf http://127.0.0.1:$port/health || exit 1; done")?;
    assert_eq!(bench.ssh(1, "systemctl is-active etcd2.service")?.trim(), "active");

    put(&bench, 1, ONE, PATIENCE)?;
    let said = bench.ssh(1, "sudo etcd-member defragment")?;
    assert!(said.contains("not worth it"), "{said}");
    let said = bench.ssh(1, "sudo etcd-member defragment --always")?;
    assert!(said.contains("bytes before") && said.trim_end().ends_with("now"), "{said}");
    assert!(bench.ssh(1, "systemctl list-timers")?.contains("etcd-defragment.timer"));
    minority_refuses(&bench)?;
    leader_dies(&bench)?;

    let (before, ports) = (boots(&bench, 3)?, bench.ports(3)?);
    bench.act(Action::PowerCut, &[3])?;
    bench.wait_until("node3 is away", |status| !status.healthy)?;
    bench.wait_until_healthy()?;
    assert_eq!(get(&bench, 3)?.as_deref(), Some(ONE));
    assert_eq!(boots(&bench, 3)?, before + 1, "a power cut is one more boot");
    assert_eq!(bench.ports(3)?, ports, "it is found where it was");

    bench.act(Action::Pause, &[2])?;
    let paused = bench.status()?;
    assert_eq!(paused.nodes.get(1).map(|node| node.state.as_str()), Some("paused"));
    assert!(bench.act(Action::Start, &[2]).is_err(), "it is on");
    bench.act(Action::Resume, &[2])?;
    bench.wait_until_healthy()?;

    snapshot_is_restored(&bench)?;
    bench.down()
}

fn minority_refuses(bench: &Bench) -> Result<()> {
    bench.cut(&[1], &[2, 3])?;
    println!(
        "cut off: writes of the others after {:.1} s",
        until_written(bench, &[2, 3], TWO)?.as_secs_f64()
    );
    bench.wait_until("node1 knows", |status| {
        status.nodes.iter().map(|node| node.healthy).eq([false, true, true])
    })?;
    assert!(put(bench, 1, ONE, IN_VAIN).is_err(), "a minority takes a write");
    let read = bench.etcd(1, "/v3/kv/range", &json!({ "key": KEY }), IN_VAIN);
    assert!(read.is_err(), "a minority answers a read: {read:?}");
    assert_eq!(bench.status()?.links, ["node1 <-> node2 cut", "node1 <-> node3 cut"]);
    bench.ask(&Request::Heal)?;
    bench.wait_until_healthy()?;
    assert_eq!(get(bench, 1)?.as_deref(), Some(TWO), "it caught up");
    Ok(())
}

fn leader_dies(bench: &Bench) -> Result<()> {
    let dead = leader(bench, 3)?;
    let others: Vec<usize> = (1..=3).filter(|number| *number != dead).collect();
    bench.act(Action::Kill, &[dead])?;
    println!("leader killed: writes after {:.1} s", until_written(bench, &others, ONE)?.as_secs_f64());
    assert!(bench.act(Action::Kill, &[dead]).is_err(), "it is off");
    bench.act(Action::Start, &[dead])?;
    bench.wait_until_healthy()?;
    assert_eq!(get(bench, dead)?.as_deref(), Some(ONE));
    Ok(())
}

/// docs/cluster.md, "Snapshot and restore", by its own commands.
fn snapshot_is_restored(bench: &Bench) -> Result<()> {
    let folder = scratch()?;
    let snapshot = folder.path().join("snapshot.db");
    let saved = Tools::of_packages(&["etcd-client"])?
        .command("etcdctl")?
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=http://127.0.0.1:{}", bench.ports(1)?.1))
        .args(["snapshot", "save"])
        .arg(&snapshot)
        .output()?;
    ensure!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    put(bench, 1, TWO, PATIENCE)?;
    for number in 1..=3 {
        bench.ssh(number, "sudo systemctl stop etcd.service")?;
    }
    for number in 1..=3 {
        let copied = bench
            .ssh_command(number)?
            .arg("cat > snapshot.db")
            .stdin(std::fs::File::open(&snapshot)?)
            .status()?;
        ensure!(copied.success(), "the snapshot does not reach node{number}");
        bench.ssh(number, "sudo etcd-member restore snapshot.db")?;
    }
    bench.wait_until_healthy()?;
    for number in 1..=3 {
        assert_eq!(get(bench, number)?.as_deref(), Some(ONE), "node{number} has what was saved");
    }
    Ok(())
}

#[test]
fn a_machine_without_a_member_asks_those_that_have_one() -> Result<()> {
    let user_data = seed::default_user_data(1, Security::Plain).into_bytes();
    let image = Image::ferrite()?;
    let bench = Bench::start(&BenchOptions { user_data, ..BenchOptions::etcd("worker", &image.raw, 2) })?;
    bench.wait_until_healthy()?;
    alone(&bench, 2, Duration::ZERO)?;
    let post = "curl -sSf http://127.0.0.1:2379/v3/kv";
    bench.ssh(2, &format!("{post}/put -d '{{\"key\":\"{KEY}\",\"value\":\"{ONE}\"}}'"))?;
    assert_eq!(get(&bench, 1)?.as_deref(), Some(ONE));
    let members = bench.etcd(2, "/v3/cluster/member/list", &json!({}), PATIENCE)?;
    assert_eq!(members.pointer("/members").and_then(Value::as_array).map(Vec::len), Some(1), "{members}");
    // It comes up although nobody answers.
    bench.act(Action::Kill, &[1])?;
    bench.act(Action::PowerCut, &[2])?;
    alone(&bench, 2, Duration::ZERO)?;
    bench.act(Action::Start, &[1])?;
    bench.wait_until_healthy()?;
    assert_eq!(get(&bench, 2)?.as_deref(), Some(ONE));
    bench.down()
}

#[test]
fn a_machine_with_a_new_disk_takes_its_place_in_a_cluster_with_tls() -> Result<()> {
    let user_data = seed::default_user_data(3, Security::Tls).into_bytes();
    let options =
        BenchOptions { user_data, tls: true, ..BenchOptions::etcd("lost-disk", &Image::ferrite()?.raw, 3) };
    let bench = Bench::start(&options)?;
    // The owner asks with the client's certificate.
    bench.wait_until_healthy()?;
    let files = "--cacert /etc/etcd/tls/ca.pem";
    let own = "--cert /etc/etcd/tls/machine.pem --key /etc/etcd/tls/machine-key.pem";
    let ask =
        |more: &str| bench.ssh(1, &format!("sudo curl -sS {files} {more} https://10.90.0.12:2379/health"));
    assert!(ask(own)?.contains("true"));
    assert!(ask("").is_err(), "it answers somebody without a certificate");
    assert!(bench.ssh(1, "curl -sSf http://127.0.0.1:2379/health").is_err(), "it answers without TLS");
    let post = format!("sudo curl -sSf {files} {own} https://localhost:2379/v3/kv");
    bench.ssh(1, &format!("{post}/put -d '{{\"key\":\"{KEY}\",\"value\":\"{ONE}\"}}'"))?;

    bench.act(Action::Kill, &[3])?;
    for file in ["node3.qcow2", "node3.vars.fd"] {
        std::fs::remove_file(bench.folder().join(file)).with_context(|| file.to_owned())?;
    }
    bench.act(Action::Start, &[3])?;
    // Its name is taken: nobody but a person knows that the other one is gone for good.
    bench.ssh(
        3,
        "until sudo journalctl -u etcd --no-pager | grep -q 'already been bootstrapped'; do sleep 1; done",
    )?;
    assert!(!bench.status()?.healthy);
    assert!(
        bench.ssh(1, "sudo etcd-member rejoin").is_err(),
        "a machine that has a store does not give it up"
    );
    println!("etcd-member: {}", bench.ssh(3, "sudo etcd-member rejoin 2>&1")?.trim());
    bench.wait_until_healthy()?;
    let read = bench.ssh(3, &format!("{post}/range -d '{{\"key\":\"{KEY}\",\"serializable\":true}}'"))?;
    assert!(read.contains(ONE), "{read}");
    // It is a member like any other: it comes back by itself.
    bench.act(Action::PowerCut, &[3])?;
    bench.wait_until("node3 is away", |status| !status.healthy)?;
    bench.wait_until_healthy()?;
    bench.down()
}

#[test]
#[ignore = "takes eight minutes: twice it waits for what an unconfirmed boot has"]
fn machines_that_are_alone_stay_up_safety_15() -> Result<()> {
    let folder = scratch()?;
    let image = folder.path().join("disk.raw");
    // A boot on trial, with the other slot to fall back to.
    let mut disk = Image::ferrite()?.disk(&image, 4 * GIB)?;
    disk.copy_slot("USR-A", "USR-B")?;
    disk.set_flags("USR-A", 1, 7, true)?;
    disk.set_flags("USR-B", 2, 1, false)?;
    drop(disk);
    let options = BenchOptions { off: vec![2, 3], ..BenchOptions::etcd("alone", &image, 3) };
    let bench = Bench::start(&options)?;
    alone(&bench, 1, Duration::ZERO)?;
    let state = bench.ssh(1, "systemctl is-active etcd.service || true")?;
    assert_eq!(state.trim(), "activating", "etcd waits for the others");
    // Longer than an unconfirmed boot has.
    alone(&bench, 1, HEALTH_LIMIT + Duration::from_secs(30))?;
    bench.act(Action::Start, &[2])?;
    let two = bench.wait_until("two of three serve", |status| {
        status.nodes.iter().map(|node| node.healthy).eq([true, true, false])
    })?;
    println!("the second machine: a quorum after {:.1} s", two.as_secs_f64());
    bench.act(Action::Start, &[3])?;
    bench.wait_until_healthy()?;
    for number in 1..=3 {
        alone(&bench, number, Duration::ZERO)?;
        assert_eq!(boots(&bench, number)?, 1, "node{number}");
    }
    // A cluster that lost its quorum, and a machine that boots meanwhile.
    bench.act(Action::Kill, &[2, 3])?;
    bench.act(Action::PowerCut, &[1])?;
    alone(&bench, 1, HEALTH_LIMIT + Duration::from_secs(30))?;
    assert_eq!(boots(&bench, 1)?, 2, "the power cut's, and no other");
    bench.act(Action::Start, &[2, 3])?;
    bench.wait_until_healthy()?;
    bench.down()
}

/// A machine's boot has proved itself, and it is up for at least so long.
fn alone(bench: &Bench, number: usize, at_least: Duration) -> Result<()> {
    bench.ssh(number, "sudo systemctl start ferrite-mark-good.service")?;
    assert_eq!(bench.ssh(number, "systemctl is-active boot-complete.target")?.trim(), "active");
    let slot = bench.ssh(number, "cat /proc/cmdline")?;
    println!("node{number}: good, {}", slot.split_whitespace().find(|it| it.contains("trial")).unwrap_or(""));
    let seconds = at_least.as_secs();
    bench
        .ssh(number, &format!("until [ \"$(cut -d. -f1 /proc/uptime)\" -ge {seconds} ]; do sleep 1; done"))?;
    Ok(())
}

/// Clients that remember, for a time that a test may take.
#[test]
fn no_acknowledged_write_is_lost() -> Result<()> {
    no_write_is_lost(Duration::from_secs(120))
}

/// The same for an hour, or for `FERRITE_HISTORY_SECONDS`; docs/cluster.md has the command.
#[test]
#[ignore = "takes an hour"]
fn no_acknowledged_write_is_lost_in_an_hour() -> Result<()> {
    let seconds = std::env::var("FERRITE_HISTORY_SECONDS").ok();
    let seconds = seconds.map_or(Ok(3600), |text| text.parse()).context("FERRITE_HISTORY_SECONDS")?;
    no_write_is_lost(Duration::from_secs(seconds))
}

fn no_write_is_lost(duration: Duration) -> Result<()> {
    let seed = match std::env::var("FERRITE_HISTORY_SEED") {
        Ok(text) => text.parse().context("FERRITE_HISTORY_SEED")?,
        Err(_) => std::process::id().into(),
    };
    println!("FERRITE_HISTORY_SEED={seed}");
    let bench = Bench::start(&BenchOptions::etcd("history", &Image::ferrite()?.raw, 3))?;
    bench.wait_until_healthy()?;
    let figures = history::run::run(&bench, 3, seed, duration)?;
    println!("{figures}");
    assert!(figures.acknowledged > 20 && figures.reads > 20 && figures.faults > 2, "{figures}");
    bench.down()
}

/// Puts a second of one client and of eight, through the gateway of one member, in the machines and on the host; what the
/// machines' daemons cost etcd while nobody asks for anything; how long three machines take: docs/cluster.md has the figures.
#[test]
#[ignore = "measures, for which the machine must be idle"]
fn etcd_in_the_machines_beside_etcd_on_the_host() -> Result<()> {
    let begin = Instant::now();
    let bench = Bench::start(&BenchOptions::etcd("figures", &Image::ferrite()?.raw, 3))?;
    bench.wait_until_healthy()?;
    println!("three machines: {:.1} s to a healthy cluster", begin.elapsed().as_secs_f64());
    for number in 1..=3 {
        alone(&bench, number, Duration::ZERO)?;
    }
    let endpoint = format!("http://127.0.0.1:{}", bench.ports(leader(&bench, 3)?)?.1);
    let operations = || -> Result<f64> {
        let mut all = 0.0;
        for number in 1..=3 {
            let metrics = bench.ssh(number, "curl -sS http://127.0.0.1:2379/metrics")?;
            // Of clients; the members' own talk is no call of these services.
            let calls = metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total"));
            let calls = calls.filter(|line| line.contains("etcdserverpb.") && line.contains("OK"));
            all += calls.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(all)
    };
    // The bench's own questions stop, too: it asks for health only when it is asked.
    let (before, start) = (operations()?, Instant::now());
    std::thread::sleep(Duration::from_secs(120));
    let cost = (operations()? - before) / start.elapsed().as_secs_f64() / 3.0;
    println!("at rest: {cost:.3} operations a second and machine");
    puts(
        "three machines, the leader asked",
        &kv::Config { endpoints: vec![endpoint], ..kv::Config::default() },
    )?;
    bench.down()?;
    let etcd = Etcd::start(EtcdOptions { members: 3, durable: true, ..EtcdOptions::default() })?;
    puts("three members on this host", &etcd.config())
}

/// Puts for some seconds, by one client and by eight at once.
fn puts(whose: &str, config: &kv::Config) -> Result<()> {
    const TIME: Duration = Duration::from_secs(10);
    for clients in [1, 8] {
        let begin = Instant::now();
        let counts = std::thread::scope(|scope| {
            let one = |number: usize| -> Result<usize> {
                let client = kv::Client::new(config.clone())?;
                let mut count = 0;
                while begin.elapsed() < TIME {
                    client.put(format!("figures/{number}/{}", count % 100).as_bytes(), &[b'x'; 256], 0)?;
                    count += 1;
                }
                Ok(count)
            };
            let running: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<usize>>| {
                thread.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))
            };
            running.into_iter().map(join).sum::<Result<usize>>()
        })?;
        println!(
            "{whose}: {:.0} puts a second by {clients} clients",
            counts as f64 / begin.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
