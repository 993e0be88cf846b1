//! The reboot lock against the real etcd: its model of etcd with the same histories, and fifty machines that contend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ferrite_tests::etcd::{Etcd, EtcdOptions};
use ferrite_tests::scratch;
use kv::model::Model;
use kv::{Client, Compare, KeyRange, KeyValue, Op, OpResult, Transaction, TransactionResult};
use update_engine::engine::config::LockSettings;
use update_engine::lock::agent::{Goal, News};
use update_engine::lock::plan::{Keys, Record, View};
use update_engine::lock::shell::{Identity, Locker, Note, look};
use update_engine::lock::simulation::{Options, World};

const PATIENCE: Duration = Duration::from_secs(240);

/// A sequence of numbers that looks random and is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Puts a history before the real etcd. Its revisions are the model's and `offset`: the store was not new.
fn replay(client: &Client, history: &[(Transaction, TransactionResult)], offset: i64) -> Result<()> {
    for (number, (transaction, expected)) in history.iter().enumerate() {
        let compare = transaction.compare.iter().map(|compare| match compare.parts() {
            (key, kv::message::Wanted::ModRevision(revision)) if *revision > 0 => {
                Compare::unchanged(key, revision + offset)
            }
            _ => compare.clone(),
        });
        let shifted = Transaction { compare: compare.collect(), ..transaction.clone() };
        let mut result = client.transact(&shifted)?;
        result.revision -= offset;
        for found in result.results.iter_mut().filter_map(|result| match result {
            OpResult::Range(kvs) => Some(kvs),
            OpResult::Put | OpResult::Delete(_) => None,
        }) {
            for kv in found {
                kv.create_revision -= offset;
                kv.mod_revision -= offset;
            }
        }
        ensure!(
            result == *expected,
            "transaction {number}: {transaction:?}\netcd: {result:?}\nmodel: {expected:?}"
        );
    }
    Ok(())
}

#[test]
fn the_model_of_etcd_does_what_etcd_does_with_the_same_histories() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions::default())?;
    let client = etcd.client()?;
    let clear = || -> Result<i64> {
        client.delete(&KeyRange::prefix(""))?;
        Ok(client.range(&KeyRange::key("x"))?.1)
    };
    let mut transactions = 0;
    // Of the simulated machines.
    for seed in 1..40 {
        let options = Options {
            machines: 2 + seed as usize % 6,
            max: 1 + seed as i64 % 3,
            rough_steps: 500,
            crashes: 60,
            deaths: seed % 2 == 0,
            people: seed % 3 == 0,
            take_over_after: (seed % 4 == 0).then_some(3_600_000),
        };
        let mut world = World::new(options, seed);
        world.run().map_err(anyhow::Error::msg)?;
        let offset = clear()? - 1;
        replay(&client, &world.history, offset).with_context(|| format!("seed {seed}"))?;
        let seen = look(&client, &Keys::of_group("simulated")).map_err(anyhow::Error::msg)?;
        let without_revisions = |view: &View| {
            let records: BTreeMap<_, _> =
                view.records.iter().map(|(id, (record, _))| (id.clone(), record.clone())).collect();
            (view.semaphore.clone(), records)
        };
        ensure!(without_revisions(&seen) == without_revisions(&world.view()), "seed {seed}: the end differs");
        transactions += world.history.len();
    }
    // And wilder ones: every sort of step and condition, on few keys.
    let mut chance = Chance(11);
    for round in 0..20 {
        let mut model = Model::default();
        let offset = clear()? - 1;
        let mut history = Vec::new();
        while history.len() < 60 {
            let transaction = wild(&mut chance, &model);
            match model.transact(&transaction) {
                Some(result) => history.push((transaction, result)),
                None => ensure!(client.transact(&transaction).is_err(), "etcd takes {transaction:?}"),
            }
        }
        replay(&client, &history, offset).with_context(|| format!("round {round}"))?;
        let (real, _) = client.range(&KeyRange::prefix(""))?;
        let shifted: Vec<KeyValue> = real
            .into_iter()
            .map(|kv| KeyValue {
                create_revision: kv.create_revision - offset,
                mod_revision: kv.mod_revision - offset,
                ..kv
            })
            .collect();
        assert_eq!(shifted, model.range(&KeyRange::prefix("")));
        transactions += history.len();
    }
    println!("{transactions} transactions, no difference");
    Ok(())
}

fn wild(chance: &mut Chance, model: &Model) -> Transaction {
    let key = |chance: &mut Chance| format!("k/{}", chance.below(4)).into_bytes();
    let mut compare = Vec::new();
    for _ in 0..chance.below(3) {
        let key = key(chance);
        let kv = model.range(&KeyRange::key(key.clone())).pop();
        compare.push(match chance.below(4) {
            0 => Compare::absent(key),
            1 => Compare::holds(key, format!("{}", chance.below(3))),
            // Often the right one.
            _ => Compare::unchanged(key, kv.map_or(chance.below(9) as i64, |kv| kv.mod_revision)),
        });
    }
    let ops = |chance: &mut Chance| {
        let mut ops = Vec::new();
        for _ in 0..chance.below(4) {
            let key = key(chance);
            ops.push(match chance.below(5) {
                0 => Op::Delete(KeyRange::key(key)),
                1 => Op::Delete(KeyRange::prefix("k/")),
                2 => Op::Range(KeyRange::prefix("k/")),
                _ => Op::put(key, format!("{}", chance.below(3))),
            });
        }
        ops
    };
    Transaction { compare, success: ops(chance), failure: ops(chance) }
}

/// A machine without a machine.
struct Contender {
    locker: Locker,
    news: Receiver<News>,
    settings: LockSettings,
    boot: String,
    _folder: tempfile::TempDir,
}

impl Contender {
    fn new(etcd: &Etcd, id: &str) -> Result<Self> {
        let folder = scratch()?;
        let (sender, news) = channel();
        let boot = format!("boot of {id}");
        let identity = Identity { id: id.to_owned(), boot: boot.clone(), folder: folder.path().to_owned() };
        let locker = Locker::start(identity, move |news| drop(sender.send(news)));
        let settings = LockSettings {
            endpoints: etcd.endpoints(),
            group: "fifty".to_owned(),
            ..LockSettings::default()
        };
        Ok(Self { locker, news, settings, boot, _folder: folder })
    }

    fn take(&self) {
        let record = Record { since: 1, boot: self.boot.clone(), why: "test".to_owned(), failed: None };
        let note = Note { group: self.settings.group.clone(), ..Note::default() };
        self.locker.take(&self.settings, Goal::Take(record), note);
    }

    fn wait_for(&self, wanted: &News) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = PATIENCE.checked_sub(begun.elapsed()).context("out of patience")?;
            match self.news.recv_timeout(left).with_context(|| format!("no {wanted:?}"))? {
                news if news == *wanted => return Ok(()),
                News::Trouble(trouble) => println!("{trouble}"),
                News::Waits { .. } | News::Won | News::Released | News::Kept => {}
            }
        }
    }
}

#[test]
fn fifty_machines_contend_for_three_places_in_the_real_etcd() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions { members: 3, ..EtcdOptions::default() })?;
    let client = etcd.client()?;
    let keys = Keys::of_group("fifty");
    client.put(&keys.semaphore(), br#"{"semaphore":3,"max":3,"holders":null}"#, 0)?;
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let before = operations(&etcd)?;
    let threads: Vec<_> = (0..50)
        .map(|number| {
            let machine = Contender::new(&etcd, &format!("machine-{number:02}"))?;
            let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
            Ok(std::thread::spawn(move || -> Result<()> {
                machine.take();
                machine.wait_for(&News::Won)?;
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(100));
                inside.fetch_sub(1, Ordering::SeqCst);
                machine.locker.want(&machine.settings, Goal::Release { of_this_boot: true }, false);
                machine.wait_for(&News::Released)
            }))
        })
        .collect::<Result<_>>()?;
    let mut ended = 0;
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a machine has panicked"))??;
        ended += 1;
    }
    let view = look(&client, &keys).map_err(anyhow::Error::msg)?;
    assert_eq!((view.semaphore.available(), view.semaphore.holders().len(), view.records.len()), (3, 0, 0));
    assert_eq!(
        client.get(keys.semaphore())?.context("semaphore")?.value,
        br#"{"semaphore":3,"max":3,"holders":[]}"#
    );
    let most = most.load(Ordering::SeqCst);
    println!(
        "{ended} machines in {:.1} s, {most} at once, {} operations",
        begun.elapsed().as_secs_f64(),
        operations(&etcd)? - before
    );
    ensure!((2..=3).contains(&most), "{most} at once");
    Ok(())
}

#[test]
fn a_machine_that_waits_costs_etcd_next_to_nothing() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions::default())?;
    let client = etcd.client()?;
    let keys = Keys::of_group("fifty");
    client.put(&keys.semaphore(), br#"{"semaphore":0,"max":1,"holders":["gone"]}"#, 0)?;
    let machine = Contender::new(&etcd, "waits")?;
    machine.take();
    let held = News::Waits {
        max: 1,
        holders: vec![update_engine::lock::agent::Holder { id: "gone".to_owned(), record: None }],
    };
    machine.wait_for(&held)?;
    let (begun, before) = (Instant::now(), operations(&etcd)?);
    std::thread::sleep(Duration::from_secs(40));
    let rate = (operations(&etcd)? - before) as f64 / begun.elapsed().as_secs_f64();
    println!("the first 40 s of waiting: {rate:.3} operations a second (the pauses grow to five minutes)");
    ensure!(rate < 0.15, "{rate}");
    // It hears of the change at once all the same.
    let begun = Instant::now();
    client.put(&keys.semaphore(), br#"{"semaphore":1,"max":1,"holders":[]}"#, 0)?;
    machine.wait_for(&News::Won)?;
    ensure!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    println!("and {:?} from a free lock to a taken one", begun.elapsed());
    Ok(())
}

/// Calls that all members have seen from outside, as they count themselves.
fn operations(etcd: &Etcd) -> Result<u64> {
    use std::io::{Read as _, Write as _};
    let mut sum = 0;
    for url in etcd.endpoints() {
        let address = url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let counted = text.lines().filter(|line| {
            line.starts_with("grpc_server_started_total{")
                && (line.contains("etcdserverpb.KV")
                    || line.contains("etcdserverpb.Lease")
                    || line.contains("etcdserverpb.Watch"))
        });
        let mut found = false;
        for line in counted {
            found = true;
            let number: f64 = line.rsplit(' ').next().context("a number")?.parse()?;
            sum += number as u64;
        }
        if !found {
            bail!("{url} has no metrics of its calls");
        }
    }
    Ok(sum)
}
