//! One side of the comparison: an etcdctl and its etcd.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ferrite_tests::etcd::{Etcd, EtcdOptions};
use ferrite_tests::scratch;
use regex_lite::{Captures, Regex};
use tempfile::TempDir;

use super::script::{Call, Scenario, Step};

/// Nothing here takes longer on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(40);
/// What is compared is not how busy the machine is.
pub const LIMITS: [&str; 4] = ["--timeout", "30s", "--total-timeout", "60s"];
const PATIENCE_WITH_DIFFERENCES: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a command came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub status: Option<i32>,
}

/// Whose etcdctl it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Debians,
    Ours,
}

pub struct Side {
    whose: Whose,
    etcd: Etcd,
    folder: TempDir,
    masks: Vec<(Regex, &'static str)>,
}

struct Background {
    call: Call,
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Side {
    pub fn start(whose: Whose) -> Result<Self> {
        let etcd = Etcd::start(EtcdOptions { v2: whose == Whose::Debians, ..EtcdOptions::default() })?;
        let masks = [
            // Revisions.
            (r"(?m) \[\d+\]$", " [N]"),
            (r"Index: [1-9]\d*", "Index: N"),
            (r#"(created|modified)Index":[1-9]\d*"#, "${1}Index\":N"),
            (r"MODIFIED_INDEX=\d+", "MODIFIED_INDEX=N"),
            (r"\[\d+ != \d+\]", "[N != N]"),
            (r"\b0{10}\d{10}\b", "NUMBER"),
            // Times, members, versions.
            (r#""expiration":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z""#, "\"expiration\":\"TIME\""),
            (r"\b[0-9a-f]{12,16}\b", "MEMBER"),
            (r"127\.0\.0\.1:\d{4,}", "127.0.0.1:PORT"),
            (r"(?m)^(   |etcdctl version: )(3\.5\.\d+|\d\.\d\.\d)$", "${1}VERSION"),
        ];
        let masks = masks.into_iter().map(|(pattern, mask)| Ok((Regex::new(pattern)?, mask)));
        Ok(Self { whose, etcd, folder: scratch()?, masks: masks.collect::<Result<_>>()? })
    }

    fn endpoint(&self) -> String {
        self.etcd.endpoints().concat()
    }

    fn command(&self) -> Result<Command> {
        let mut command = match (self.whose, std::env::var_os("ETCDCTL_UNDER_TEST")) {
            (Whose::Debians, _) => self.etcd.plain_etcdctl()?,
            // Another build than this one.
            (Whose::Ours, Some(path)) => Command::new(path),
            (Whose::Ours, None) => Command::new(env!("CARGO_BIN_EXE_etcdctl-under-test")),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCDCTL")) {
            command.env_remove(name);
        }
        command.env("ETCDCTL_API", "2").env("ETCDCTL_ENDPOINTS", self.endpoint()).stdin(Stdio::null());
        command.args(LIMITS);
        Ok(command)
    }

    fn run(&self, words: &[&str]) -> Result<Outcome> {
        let output = self.command()?.args(words).output()?;
        Ok(outcome(&output.stdout, &output.stderr, output.status))
    }

    /// Empties the store.
    fn clear(&self) -> Result<()> {
        if self.whose == Whose::Ours {
            self.etcd.client()?.delete(&kv::KeyRange::prefix(""))?;
            return Ok(());
        }
        let shown = self.run(&["ls"])?.stdout;
        let hidden = ["/_h"].into_iter();
        for key in shown.lines().chain(hidden) {
            self.run(&["rm", "-r", key])?;
        }
        ensure!(self.run(&["ls"])?.stdout.is_empty(), "the store is not empty");
        Ok(())
    }

    fn index_of(&self, key: &str) -> Result<String> {
        let shown = self.run(&["-o", "json", "get", key])?;
        let (_, rest) =
            shown.stdout.split_once("\"modifiedIndex\":").with_context(|| format!("{key}: {shown:?}"))?;
        Ok(rest.chars().take_while(char::is_ascii_digit).collect())
    }

    fn prepared(&self, call: &Call, notes: &BTreeMap<String, String>) -> Result<Command> {
        let mut command = self.command()?;
        for word in &call.words {
            let mut word = word.clone();
            if let Ok(text) = std::str::from_utf8(&word)
                && let Some((before, name)) = text.split_once('@')
                && (before.is_empty() || before.ends_with(','))
            {
                let value = match name {
                    "endpoint" => self.endpoint(),
                    key if key.starts_with('/') => self.index_of(key)?,
                    note => notes.get(note).with_context(|| format!("nothing is noted as {note}"))?.clone(),
                };
                word = format!("{before}{value}").into_bytes();
            }
            command.arg(OsString::from_vec(word));
        }
        command.envs(call.environment.iter().cloned());
        Ok(command)
    }

    /// Runs a scenario; what each of its commands came to.
    pub fn play(&self, scenario: &Scenario) -> Result<Vec<(Call, Outcome)>> {
        self.clear()?;
        let mut notes = BTreeMap::new();
        let mut background: Option<Background> = None;
        let mut outcomes = Vec::new();
        for step in &scenario.steps {
            match step {
                Step::Run(call) => {
                    let outcome = self.finish(call, self.prepared(call, &notes)?)?;
                    outcomes.push((call.clone(), self.masked(call, outcome)));
                }
                Step::Background(call) => background = Some(self.begin(call, self.prepared(call, &notes)?)?),
                Step::Lines(count) => {
                    background.as_mut().context("nothing goes on")?.wait_for_lines(*count)?
                }
                Step::End(count) => {
                    let (call, outcome) = background.take().context("nothing goes on")?.end(*count)?;
                    let outcome = self.masked(&call, outcome);
                    outcomes.push((call, outcome));
                }
                Step::Gone(key) => until("a key to go", || Ok(self.run(&["get", key])?.status == Some(4)))?,
                Step::Note(name, key) => {
                    notes.insert(name.clone(), self.index_of(key)?);
                }
            }
        }
        Ok(outcomes)
    }

    fn finish(&self, call: &Call, mut command: Command) -> Result<Outcome> {
        if call.stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let [stdout, stderr] = ["now-stdout", "now-stderr"].map(|name| self.folder.path().join(name));
        let mut process = command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?).spawn()?;
        if let (Some(text), Some(mut stdin)) = (&call.stdin, process.stdin.take()) {
            // One that does not read it is told nothing.
            let _ = stdin.write_all(text.as_bytes());
        }
        Background { call: call.clone(), process, stdout, stderr }.end(None).map(|(_, outcome)| outcome)
    }

    fn begin(&self, call: &Call, mut command: Command) -> Result<Background> {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.folder.path().join(name));
        // Those that have ended are counted until etcd notices.
        until("watches to end", || Ok(self.watchers()? == 0))?;
        let process = command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?).spawn()?;
        let mut background = Background { call: call.clone(), process, stdout, stderr };
        // Ours watches a node and what is below it by two.
        let recursive = call.words.iter().any(|word| word == b"-r" || word == b"--recursive");
        let root = call.words.iter().any(|word| word == b"/");
        let wanted = if self.whose == Whose::Ours && recursive && !root { 2 } else { 1 };
        until("a watch to begin", || {
            Ok(background.process.try_wait()?.is_some() || self.watchers()? >= wanted)
        })?;
        Ok(background)
    }

    /// How many watches there are, as etcd counts them.
    fn watchers(&self) -> Result<u64> {
        let (path, name) = match self.whose {
            Whose::Debians => ("/v2/stats/store", "\"watchers\":"),
            Whose::Ours => ("/metrics", "\netcd_debugging_mvcc_watcher_total "),
        };
        let place = self.endpoint();
        let mut stream = TcpStream::connect(place.trim_start_matches("http://"))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, rest) = answer.split_once(name).context("etcd does not count watches")?;
        Ok(rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?)
    }

    fn masked(&self, call: &Call, outcome: Outcome) -> Outcome {
        let mask = |text: String| {
            let text = self
                .masks
                .iter()
                .fold(text, |text, (pattern, mask)| pattern.replace_all(&text, *mask).into_owned());
            // Seconds go by; no more than three of them.
            let ttl = Regex::new(r#"(TTL: |"ttl":)([1-9]\d*)"#).unwrap();
            ttl.replace_all(&text, |found: &Captures<'_>| {
                let seconds: u64 = found[2].parse().unwrap_or(0);
                format!("{}{}", &found[1], seconds.next_multiple_of(4))
            })
            .into_owned()
        };
        let mut stdout = mask(outcome.stdout);
        // Without `--sort` v2 lists in no order.
        let has = |word: &str| call.words.iter().any(|own| own == word.as_bytes());
        if has("ls") && !has("--sort") && outcome.status == Some(0) && stdout.starts_with('/') {
            let mut lines: Vec<&str> = stdout.lines().collect();
            lines.sort_unstable();
            stdout = lines.join("\n") + "\n";
        }
        Outcome { stdout, stderr: mask(outcome.stderr), status: outcome.status }
    }
}

impl Background {
    /// A wait in vain is told as an outcome.
    fn wait_for_lines(&mut self, count: usize) -> Result<()> {
        let patience = self.patience();
        let begun = Instant::now();
        while std::fs::read_to_string(&self.stdout)?.lines().count() < count
            && self.process.try_wait()?.is_none()
            && begun.elapsed() < patience
        {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// One of the two may never do what the other does, and the table says so.
    fn patience(&self) -> Duration {
        if self.call.reason.is_some() { PATIENCE_WITH_DIFFERENCES } else { PATIENCE }
    }

    fn end(mut self, count: Option<usize>) -> Result<(Call, Outcome)> {
        let mut status = None;
        if let Some(count) = count {
            self.wait_for_lines(count)?;
            let pid = rustix::process::Pid::from_child(&self.process);
            rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        }
        let begun = Instant::now();
        while status.is_none() && begun.elapsed() < self.patience() {
            status = self.process.try_wait()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        if status.is_none() {
            self.process.kill()?;
            status = Some(self.process.wait()?);
        }
        let read = |path: &PathBuf| std::fs::read(path);
        let status = status.context("no status")?;
        Ok((self.call.clone(), outcome(&read(&self.stdout)?, &read(&self.stderr)?, status)))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended; there is nothing else to be done.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn outcome(stdout: &[u8], stderr: &[u8], status: ExitStatus) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { stdout: text(stdout), stderr: text(stderr), status: status.code() }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > PATIENCE {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
