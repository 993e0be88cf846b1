//! A cluster that serves while it is updated, machine by machine, under the reboot lock: a good release, one that panics, and
//! a machine that dies while it holds the lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use builder::cluster::protocol::Action;
use builder::cluster::seed::{self, Security};
use ferrite_tests::bench::{Bench, BenchOptions};
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Image, post_json_within, scratch};
use serde_json::{Value, json};

const NAME: &str = "ferrite-rolling";
const MACHINES: usize = 3;
/// Tells a hang; nothing is timed by it.
const LIMIT: Duration = Duration::from_secs(1200);
/// How long the writer waits for one machine's answer before it asks the next one.
const PATIENCE: Duration = Duration::from_secs(2);
/// The writer is never refused for longer: elections on a busy host, and the patience with machines that are away. Two
/// machines that are away at once take far longer to come back.
const GAP: Duration = Duration::from_secs(30);

/// A service that ends the kernel: this release cannot prove itself anywhere.
const PANICS: &str = "
  - path: /usr/lib/systemd/system/ssh.service.d/panic.conf
    content: |
      [Service]
      ExecStartPre=/bin/sh -c 'echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger'
";

/// What the cluster serves, on two of its machines.
const WEB: &str = "[Service]
ExecStart=/usr/bin/busybox httpd -f -p 8000 -h /etc
[X-Fleet]
Conflicts=web@*.service
";
/// Asks all machines for it; 9: nobody answers. One that is away is told by its silence, one that is slow is not.
const ASK: &str = "for i in 1 2 3; do curl -sf --connect-timeout 3 -m 15 http://10.90.0.1$i:8000/hostname && exit 0; done; exit 9";

fn release(version: &str, files: &str) -> Result<Image> {
    Image::ferrite_release(NAME, version, |recipe| {
        recipe.replacen("\nfiles:\n", &format!("\nfiles:{files}\n"), 1)
    })
}

/// One etcd cluster of machines that update themselves from the host, and reboot under the lock soon after.
fn user_data(server: &FileServer) -> Vec<u8> {
    let mut text = seed::default_user_data(MACHINES, Security::Plain);
    text.push_str(&format!(
        "    - name: fleet.service\n      command: start\n  fleet:\n    public-ip: $private_ipv4\n\
         write_files:\n  - path: /etc/coreos/update.conf\n    content: |\n      SERVER=http://10.0.2.2:{}\n      \
         REBOOT_STRATEGY=etcd-lock\n      LOCKSMITHD_REBOOT_DELAY=5s\n",
        server.port
    ));
    text.into_bytes()
}

/// Appends through etcd, at whichever machine answers, until it is told to end.
struct Writer<'b> {
    bench: &'b Bench,
    over: AtomicBool,
    acknowledged: Mutex<BTreeMap<String, Instant>>,
}

impl Writer<'_> {
    fn run(&self) {
        let mut machine = 0;
        for number in 0.. {
            let key = format!("writer/{number:08}");
            let body = json!({ "key": BASE64_STANDARD.encode(&key), "value": BASE64_STANDARD.encode(&key) });
            loop {
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                let port = self.bench.ports(machine % MACHINES + 1);
                if port.and_then(|(_, port)| post_json_within(port, "/v3/kv/put", &body, PATIENCE)).is_ok() {
                    break;
                }
                machine += 1;
                thread::sleep(Duration::from_millis(50));
            }
            self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Instant::now());
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// The longest time without an acknowledged write since `from`; nothing that was acknowledged is lost.
    fn judge(&self, what: &str, from: Instant) -> Result<()> {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = from;
        let mut longest = Duration::ZERO;
        let times = acknowledged.values().filter(|time| **time >= from);
        for time in times.copied().chain([Instant::now()]) {
            longest = longest.max(time.saturating_duration_since(last));
            last = time;
        }
        println!(
            "{what}: {:.1} s, {} writes in all, the longest gap {:.1} s",
            from.elapsed().as_secs_f64(),
            acknowledged.len(),
            longest.as_secs_f64()
        );
        ensure!(longest < GAP, "{what}: no write for {longest:?}");
        let range = json!({
            "key": BASE64_STANDARD.encode("writer/"), "range_end": BASE64_STANDARD.encode("writer0"), "keys_only": true,
        });
        let ask = |number| self.bench.etcd(number, "/v3/kv/range", &range, Duration::from_secs(60));
        let answer = (1..=MACHINES).find_map(|number| ask(number).ok()).context("nobody answers a read")?;
        let there = answer.get("kvs").and_then(Value::as_array).context("no keys")?;
        let there: Vec<_> =
            there.iter().filter_map(|entry| entry.get("key").and_then(Value::as_str)).collect();
        let lost = acknowledged.keys().find(|key| !there.contains(&BASE64_STANDARD.encode(key).as_str()));
        ensure!(lost.is_none(), "{what}: {lost:?} was acknowledged and is lost");
        Ok(())
    }
}

/// Somebody who uses what the cluster serves: asks whichever machine lets him in.
struct Visitor<'b> {
    bench: &'b Bench,
    over: AtomicBool,
    /// Asked, and not answered by anybody although two machines were asked to ask.
    answered: Mutex<(usize, Vec<String>)>,
}

impl Visitor<'_> {
    fn run(&self) {
        let (mut machine, mut refused) = (0, None);
        while !self.over.load(Ordering::SeqCst) {
            let number = machine % MACHINES + 1;
            let asked = self
                .bench
                .ssh_command_within(number, Duration::from_secs(4))
                .and_then(|mut command| Ok(command.arg(ASK).output()?));
            let mut told = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            match asked.map(|output| output.status.code()) {
                Ok(Some(0)) => {
                    told.0 += 1;
                    refused = None;
                }
                // A machine that goes down has no network any more: another one has to say so, too.
                Ok(Some(9)) => {
                    machine += 1;
                    if let Some(before) = refused.replace(number).filter(|before| *before != number) {
                        told.1.push(format!("neither node{before} nor node{number} gets an answer"));
                    }
                    continue;
                }
                _ => machine += 1,
            }
            drop(told);
            thread::sleep(Duration::from_millis(250));
        }
    }

    fn judge(&self) -> Result<()> {
        let told = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        println!("web@1 and web@2: {} requests, {} without an answer", told.0, told.1.len());
        ensure!(told.1.is_empty() && told.0 > 0, "{:?} beside {} answers", told.1, told.0);
        Ok(())
    }
}

/// Two instances, on two machines, as long as nothing moves them.
fn serve(bench: &Bench) -> Result<()> {
    bench.until(1, "fleetctl list-machines --no-legend", |text| text.lines().count() == MACHINES)?;
    bench.ssh(1, &format!("cat > web@.service << 'EOF'\n{WEB}EOF\nfleetctl start web@1 web@2"))?;
    bench.until(1, "fleetctl list-units --no-legend --fields=unit,active", |text| {
        text.lines().filter(|line| line.starts_with("web@") && line.ends_with("\tactive")).count() == 2
    })?;
    Ok(())
}

fn version(bench: &Bench, number: usize) -> Result<String> {
    let text = bench.ssh(number, "cat /etc/os-release")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    Ok(line.unwrap_or_default().trim_matches('"').to_owned())
}

/// All machines look at the channel at once.
fn look(bench: &Bench, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
    numbers
        .into_iter()
        .try_for_each(|number| bench.ssh(number, "sudo update_engine_client update --no-wait").map(drop))
}

/// Every machine runs this version, has proved it, and nobody holds the lock.
fn until_all_run(bench: &Bench, wanted: &str) -> Result<()> {
    for number in 1..=MACHINES {
        bench.until(number, "cat /etc/os-release; update_engine_client status", |text| {
            text.contains(&format!("VERSION_ID=\"{wanted}\"")) && !text.contains("NOT YET CONFIRMED")
        })?;
    }
    bench.until(1, "locksmithctl status", |text| text.starts_with("Available: 1\nMax: 1\n"))?;
    bench.wait_until_healthy()?;
    Ok(())
}

/// How often each machine's loader ran.
fn boots(bench: &Bench) -> Result<Vec<usize>> {
    let log = std::fs::read_to_string(bench.folder().join("timeline.log"))?;
    let of = |number: usize| {
        let from = format!("node{number} | ");
        log.lines().filter(|line| line.contains(&from) && line.contains("ferrite-boot: USR-")).count()
    };
    Ok((1..=MACHINES).map(of).collect())
}

#[test]
fn a_live_cluster_updates_machine_by_machine_and_stops_at_a_bad_release() -> Result<()> {
    let folder = scratch()?;
    let served = folder.path().join("channel");
    let mut channel = Channel::new(&served)?;
    let server = FileServer::start(&served)?;
    let image = release("1.0.0", "")?;
    let options =
        BenchOptions { user_data: user_data(&server), ..BenchOptions::etcd("rolling", &image.raw, MACHINES) };
    channel.publish(&release("1.1.0", "")?)?;
    let bench = Bench::start(&options)?;
    bench.wait_until_healthy()?;
    serve(&bench)?;
    let writer = Writer { bench: &bench, over: AtomicBool::new(false), acknowledged: Mutex::default() };
    let visitor = Visitor { bench: &bench, over: AtomicBool::new(false), answered: Mutex::default() };
    thread::scope(|scope| {
        scope.spawn(|| writer.run());
        scope.spawn(|| visitor.run());
        let result = good(&bench, &writer)
            .and_then(|()| bad(&bench, &writer, &mut channel, &server))
            .and_then(|stopped| dies(&bench, &writer, &mut channel, stopped));
        writer.over.store(true, Ordering::SeqCst);
        visitor.over.store(true, Ordering::SeqCst);
        result
    })?;
    visitor.judge()?;
    let drains = bench.ssh(1, "fleetctl list-machines --no-legend --fields=draining")?;
    assert!(drains.lines().all(|line| line == "-"), "all machines take units again: {drains}");
    bench.down()
}

fn good(bench: &Bench, writer: &Writer<'_>) -> Result<()> {
    let begin = Instant::now();
    until_all_run(bench, "1.0.0")?;
    look(bench, 1..=MACHINES)?;
    until_all_run(bench, "1.1.0")?;
    assert_eq!(boots(bench)?, [2, 2, 2], "one reboot each");
    writer.judge("1.1.0 on three machines", begin)
}

/// The machine that took the bad release, and keeps the lock.
fn bad(bench: &Bench, writer: &Writer<'_>, channel: &mut Channel, server: &FileServer) -> Result<usize> {
    let begin = Instant::now();
    let before = boots(bench)?;
    channel.publish(&release("1.2.0", PANICS)?)?;
    look(bench, 1..=MACHINES)?;
    let mut status = String::new();
    bench
        .until(1, "locksmithctl status --long", |text| text.contains("FAILED 1.2.0"))
        .map(|text| status = text)?;
    ensure!(status.starts_with("Available: 0\n"), "{status}");
    let after = boots(bench)?;
    let rebooted: Vec<usize> =
        (1..=MACHINES).filter(|number| after.get(number - 1) != before.get(number - 1)).collect();
    let [stopped] = rebooted.as_slice() else { anyhow::bail!("{rebooted:?} have rebooted, not one machine") };
    for number in 1..=MACHINES {
        let says = if number == *stopped { "keeps the reboot lock" } else { "FAILED" };
        bench.until(number, "update_engine_client status", |text| text.contains(says))?;
        assert_eq!(version(bench, number)?, "1.1.0", "node{number}");
    }
    let id = bench.ssh(*stopped, "cat /etc/machine-id")?;
    let told = |report: &Value| {
        report.get("machine").and_then(Value::as_str) == Some(id.trim())
            && report.pointer("/rollbacks/0/version").and_then(Value::as_str) == Some("1.2.0")
    };
    let waiting = Instant::now();
    while !server.reports().iter().any(told) {
        ensure!(waiting.elapsed() < LIMIT, "node{stopped} does not report: {:?}", server.reports());
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(boots(bench)?, after, "nobody follows");
    writer.judge("1.2.0 stopped after one machine", begin)?;
    Ok(*stopped)
}

/// The machine that holds the lock takes the next release, and dies in the boot that tries it.
fn dies(bench: &Bench, writer: &Writer<'_>, channel: &mut Channel, holder: usize) -> Result<()> {
    let begin = Instant::now();
    let before = boots(bench)?;
    let booted =
        |number: usize| -> Result<bool> { Ok(boots(bench)?.get(number - 1) != before.get(number - 1)) };
    channel.publish(&release("1.3.0", "")?)?;
    look(bench, 1..=MACHINES)?;
    while !booted(holder)? {
        ensure!(begin.elapsed() < LIMIT, "node{holder} does not take 1.3.0");
        thread::sleep(Duration::from_millis(200));
    }
    bench.act(Action::Kill, &[holder])?;
    let others: Vec<usize> = (1..=MACHINES).filter(|number| *number != holder).collect();
    for number in &others {
        let status = bench.until(*number, "update_engine_client status", |text| {
            text.contains("waiting for the reboot lock") && text.contains("1.3.0")
        })?;
        assert!(status.contains("held by"), "its age is told: {status}");
        assert_eq!(version(bench, *number)?, "1.1.0", "node{number} has not moved");
    }
    assert!(
        others.iter().all(|number| booted(*number).is_ok_and(|booted| !booted)),
        "nobody follows a dead machine"
    );
    writer.judge("a machine died with the lock", begin)?;
    bench.act(Action::Start, &[holder])?;
    // A cut in its first boot was not the release's fault (SAFETY 17).
    until_all_run(bench, "1.3.0")?;
    writer.judge("1.3.0 on three machines", begin)
}
