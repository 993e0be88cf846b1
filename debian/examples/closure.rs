//! Resolves package names and prints the closure with sizes and reasons.
//!
//! ```text
//! cargo run --release -p debian --example closure -- [--suite trixie] [--mirror URL] [--offline]
//!     [--provide NAME]... [--unpack] [--extract DIR] [--check] NAME[=VERSION]...
//! ```
//! `--check` reads every stanza of the indexes in full.
//! `--unpack` fetches and unpacks into the cache; `--extract` writes the files to a new folder as well. Times go to
//! stderr. The cache is the user's (`FERRITE_CACHE`).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use debian::archive::{Archive, Config};
use debian::cache::Cache;
use debian::mirrors::MirrorSet;
use debian::progress::{Progress, Silent, Task, Unit};
use debian::resolve::{Provided, Request, Why};
use debian::unpack::Integrity;

/// Notes and starts of tasks, one line each.
struct Lines;

impl Progress for Lines {
    fn begin(&self, label: &str, total: u64, unit: Unit) -> Box<dyn Task> {
        eprintln!("{label}: {total} {unit:?}");
        Box::new(Silent)
    }

    fn note(&self, message: &str) {
        eprintln!("note: {message}");
    }
}

#[derive(Default)]
struct Arguments {
    suite: Option<String>,
    mirrors: Vec<String>,
    offline: bool,
    unpack: bool,
    check: bool,
    extract: Option<PathBuf>,
    provided: Vec<Provided>,
    requests: Vec<Request>,
}

fn parse_arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut parsed = Arguments::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--suite" => parsed.suite = Some(value()?),
            "--mirror" => parsed.mirrors.push(value()?),
            "--offline" => parsed.offline = true,
            "--check" => parsed.check = true,
            "--unpack" => parsed.unpack = true,
            "--extract" => parsed.extract = Some(value()?.into()),
            "--provide" => parsed.provided.push(Provided { name: value()?, version: None }),
            name => parsed.requests.push(name.parse()?),
        }
    }
    Ok(parsed)
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = parse_arguments()?;
    let suite = arguments.suite.as_deref().unwrap_or("trixie");
    let mirrors = MirrorSet::discover(&arguments.mirrors, &[], Path::new("/"));
    let mut config = Config::debian(suite, &mirrors, Cache::from_env())?;
    config.offline = arguments.offline;
    let start = Instant::now();
    let archive = Archive::open(config, Arc::new(Lines))?;
    eprintln!("opened {} packages in {:?}", archive.index().len(), start.elapsed());
    if arguments.check {
        let start = Instant::now();
        let bytes: u64 = archive.index().iter().map(|p| p.map(|p| p.size)).sum::<Result<u64, _>>()?;
        eprintln!("every stanza is fine ({bytes} bytes of packages), read in {:?}", start.elapsed());
    }
    let start = Instant::now();
    let closure = archive.resolve(&arguments.requests, &arguments.provided)?;
    eprintln!("resolved in {:?}", start.elapsed());
    for selected in &closure.selected {
        let why = match &selected.why {
            Why::Requested => "requested".to_owned(),
            Why::Essential => "essential".to_owned(),
            Why::Dependency { by, dependency } => format!("{by}: {dependency}"),
        };
        println!("{:>10} {} [{}]  {why}", selected.package.size, selected.package, selected.package.suite);
    }
    println!("{:>10} bytes in {} packages", closure.download_bytes(), closure.selected.len());
    if arguments.unpack {
        let start = Instant::now();
        let unpacked = archive.unpack(&closure.packages(), Integrity::Full)?;
        let entries: usize = unpacked.iter().map(|u| u.entries.len()).sum();
        eprintln!("unpacked {entries} entries in {:?}", start.elapsed());
    }
    if let Some(dest) = arguments.extract {
        let start = Instant::now();
        archive.fetch_closure_to_dir(&arguments.requests, &arguments.provided, &dest)?;
        eprintln!("extracted in {:?}", start.elapsed());
    }
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
    ExitCode::FAILURE
}
