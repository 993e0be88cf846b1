//! `fleetctl`: fleet's commands, over the HTTP API.

mod answer;
mod args;
mod client;
mod direct;
mod drain;
mod endpoint;
mod list;
mod remote;
mod table;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kv::TlsFiles;

use self::args::Parsed;
use self::client::Api;
use self::direct::Direct;
use self::endpoint::{DEFAULT_ENDPOINT, Endpoint, Remote};
use self::remote::Ssh;
use crate::keys::DEFAULT_PREFIX;
use crate::place::short;
use crate::snapshot::TargetState;

/// Unless `--request-timeout` says something else. fleet had 3 s: less than etcd may take for an election, while fleetd still waits for it.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// One command's dealings with the cluster.
struct Session<'a> {
    api: &'a mut dyn Api,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Addresses of machines.
    names: BTreeMap<String, String>,
}

impl Session<'_> {
    /// A line of data.
    fn say(&mut self, line: &str) {
        // Whoever has closed stdout does not want it.
        let _closed = writeln!(self.out, "{line}");
    }

    fn print(&mut self, text: &str) {
        let _closed = self.out.write_all(text.as_bytes());
    }

    /// A line of talk.
    fn tell(&mut self, line: &str) {
        let _closed = writeln!(self.err, "{line}");
    }

    fn run(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let name = parsed.command.map_or("help", |command| command.name);
        match name {
            "submit" => self.submit(parsed, TargetState::Inactive),
            "load" => self.submit(parsed, TargetState::Loaded),
            "start" => self.submit(parsed, TargetState::Launched),
            "stop" => self.lower(parsed, TargetState::Loaded),
            "unload" => self.lower(parsed, TargetState::Inactive),
            "destroy" => self.destroy(parsed),
            "restart" => self.restart(parsed),
            "status" => self.status(parsed),
            "journal" => self.journal(parsed),
            "ssh" => self.ssh(parsed),
            "cat" => self.cat(parsed),
            "list-units" => self.list_units(parsed),
            "list-unit-files" => self.list_unit_files(parsed),
            "list-machines" => self.list_machines(parsed),
            "verify" => self.verify(parsed),
            "drain" => self.drain(parsed),
            "undrain" => self.undrain(parsed),
            _ => Err(format!("{name} is not understood")),
        }
    }
}

/// `abcdef12.../10.0.0.1`, or the whole id.
fn machine_name(id: &str, ip: &str, full: bool) -> String {
    let id = if full { id.to_owned() } else { format!("{}...", short(id)) };
    if ip.is_empty() { id } else { format!("{id}/{ip}") }
}

/// Runs `fleetctl` with the words behind its name.
pub fn run(words: &[String]) -> ExitCode {
    let parsed = match args::parse(words, |name| std::env::var(name).ok()) {
        Ok(parsed) => parsed,
        Err(problem) => {
            eprintln!("fleetctl: {problem}");
            return ExitCode::FAILURE;
        }
    };
    match carry_out(&parsed) {
        Ok(status) => ExitCode::from(status),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(parsed: &Parsed) -> Result<u8, String> {
    let name = parsed.command.map(|command| command.name);
    if parsed.has("version") || name == Some("version") {
        println!("fleetctl version {}", crate::VERSION);
        return Ok(0);
    }
    if parsed.has("help") || name.is_none() || name == Some("help") {
        let about = match (name, parsed.arguments.first()) {
            (Some("help"), Some(word)) => args::COMMANDS.iter().find(|command| command.name == word),
            (Some("help") | None, _) => None,
            _ => parsed.command,
        };
        print!("{}", args::help(about));
        return Ok(0);
    }
    if name == Some("fd-forward") {
        let [path] = parsed.arguments.as_slice() else { return Err("fd-forward takes a socket".to_owned()) };
        return remote::forward(path).map(|()| 0).map_err(|error| format!("{path}: {error}"));
    }
    let mut api = connect(parsed)?;
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut session = Session { api: api.as_mut(), out: &mut out, err: &mut err, names: BTreeMap::new() };
    session.run(parsed)
}

/// The way to the cluster that the command line names.
fn connect(parsed: &Parsed) -> Result<Box<dyn Api>, String> {
    let limit = parsed.seconds("request-timeout")?.unwrap_or(REQUEST_LIMIT);
    let (debug, tunnel) = (parsed.has("debug"), Ssh::tunnel(parsed)?);
    let file = |name: &str| parsed.value(name).map(PathBuf::from);
    let tls = TlsFiles { ca: file("ca-file"), certificate: file("cert-file"), key: file("key-file") };
    match parsed.value("driver").map(str::to_ascii_lowercase).as_deref() {
        None | Some("api") => {
            let text = parsed.value("endpoint").unwrap_or(DEFAULT_ENDPOINT);
            if text.contains(',') {
                eprintln!("only the first endpoint counts");
            }
            Ok(Box::new(Remote { endpoint: Endpoint::parse(text)?, tls, tunnel, limit, debug }))
        }
        Some("etcd") if tunnel.is_some() => {
            Err("--driver=etcd does not go through a tunnel: without --driver, --tunnel reaches a fleetd"
                .to_owned())
        }
        Some("etcd") => {
            let mut config = kv::Config { tls, ..kv::Config::default() };
            if let Some(text) = parsed.value("endpoint") {
                config.endpoints = kv::config::endpoints(text).map_err(|error| error.to_string())?;
            }
            let prefix = parsed.value("etcd-key-prefix").unwrap_or(DEFAULT_PREFIX);
            Ok(Box::new(Direct::open(config, prefix, limit, debug)?))
        }
        Some(other) => Err(format!("--driver is API or etcd, not {other:?}")),
    }
}
