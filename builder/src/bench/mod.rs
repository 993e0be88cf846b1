//! `ferrite bench`: how long builds take, beside what others take for the same packages, in one run.
//!
//! Every figure is one whole process, several times over, from caches of the benchmark's own; the peers run in turn with ours, so that a
//! machine that gets slower meanwhile slows all of them.

mod machine;
mod measure;
mod mkosi;
mod scratch;
mod update;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_config::recipe::RecipeError;
use serde::Serialize;

pub use self::machine::Machine;
pub use self::measure::{Row, Sample};
use self::mkosi::Mkosi;
use self::scratch::Scratch;
pub use self::update::{Cost, UpdateBench, UpdateBenchError, updates};
use crate::folders::FolderError;
use crate::guest::GuestError;
use crate::packages::PackagesError;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The sources of the guest programs.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The recipe's packages.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// The benchmark's copies.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file of the benchmark.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is measured fails.
    #[error("{name} fails")]
    Run {
        /// What it is.
        name: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The recipe.
    pub recipe: PathBuf,
    /// Runs of each command.
    pub repeats: u32,
    /// An empty folder for everything that is written.
    pub scratch: PathBuf,
    /// A folder with the peer mkosi, made when it is not there; it stays, for the next time. None: mkosi is not measured.
    pub mkosi: Option<PathBuf>,
}

/// A ratio or figure with what it should come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aim {
    /// What it is.
    pub what: String,
    /// What was found; of wall times, the medians.
    pub found: f64,
    /// It should be no more than this.
    pub most: f64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bench {
    /// Where.
    pub machine: Machine,
    /// The commands.
    pub rows: Vec<Row>,
    /// What they should come to.
    pub aims: Vec<Aim>,
    /// What could not be measured here, and why.
    pub notes: Vec<String>,
}

/// Names of the rows, as they are shown.
const FULL: &str = "full build, .deb files cached";
const UNPACKED: &str = "full build, packages unpacked before";
const ONE_FILE: &str = "one file changed";
const NOTHING: &str = "nothing changed";
const UNPACK_ONLY: &str = "dpkg-deb --fsys-tarfile | sha256sum, each package";
const MKOSI: &str = "mkosi, .deb files cached";

/// Measures builds.
///
/// # Errors
/// Something that is measured fails, or the scratch folder cannot be written.
pub fn builds(options: &BenchOptions, say: &dyn Fn(&str)) -> Result<Bench, BenchError> {
    let scratch = Scratch::prepare(&options.scratch, &options.recipe)?;
    let mut notes = Vec::new();
    let has_dpkg =
        Command::new("dpkg-deb").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_dpkg {
        notes.push("no dpkg-deb on this machine: unpacking alone was not measured".to_owned());
    }
    let mkosi = options.mkosi.as_deref().map(|tree| {
        say("making the tree that mkosi runs in, and its first build");
        Mkosi::prepare(tree, scratch.recipe(), &scratch.packages())
    });
    let mkosi = mkosi.transpose()?;
    match &mkosi {
        Some(mkosi) => notes.push(format!("the peer is {}", mkosi.version()?)),
        None => notes.push("mkosi was not measured: --mkosi DIR does".to_owned()),
    }
    let mut rows = Rows::default();
    for repeat in 1..=options.repeats {
        say(&format!("run {repeat} of {}", options.repeats));
        scratch.forget_unpacked()?;
        rows.add(FULL, run(FULL, scratch.build())?);
        if has_dpkg {
            rows.add(UNPACK_ONLY, run(UNPACK_ONLY, scratch.unpack_only())?);
        }
        if let Some(mkosi) = &mkosi {
            rows.add(MKOSI, run(MKOSI, mkosi.build())?);
        }
        scratch.forget_output()?;
        rows.add(UNPACKED, run(UNPACKED, scratch.build())?);
        scratch.change_a_file(repeat)?;
        rows.add(ONE_FILE, run(ONE_FILE, scratch.build())?);
        rows.add(NOTHING, run(NOTHING, scratch.build())?);
    }
    let aims = aims(&rows.0);
    Ok(Bench { machine: Machine::here(), rows: rows.0, aims, notes })
}

fn run(name: &'static str, mut command: Command) -> Result<Sample, BenchError> {
    measure::run(&mut command).map_err(|source| BenchError::Run { name, source })
}

/// Rows in the order in which they first appear.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, name: &str, sample: Sample) {
        match self.0.iter_mut().find(|row| row.name == name) {
            Some(row) => row.samples.push(sample),
            None => self.0.push(Row { name: name.to_owned(), samples: vec![sample] }),
        }
    }
}

/// What the figures should come to: a full build little more than unpacking; an edit and a look in no time.
fn aims(rows: &[Row]) -> Vec<Aim> {
    let wall = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.wall()[1]);
    let ratio = |ours: &str, theirs: &str| Some(wall(ours)? / wall(theirs)?);
    let ours = |row: &&Row| ![UNPACK_ONLY, MKOSI].contains(&row.name.as_str());
    let peak = rows.iter().filter(ours).map(Row::peak_bytes).max().unwrap_or(0);
    let all = [
        ("full build / unpacking alone", ratio(FULL, UNPACK_ONLY), 1.5),
        ("full build / mkosi", ratio(FULL, MKOSI), 0.05),
        ("one file changed, s", wall(ONE_FILE), 2.0),
        ("nothing changed, s", wall(NOTHING), 0.3),
        ("peak memory, MiB", Some(peak as f64 / f64::from(1 << 20)), 512.0),
    ];
    all.into_iter()
        .filter_map(|(what, found, most)| Some(Aim { what: what.to_owned(), found: found?, most }))
        .collect()
}

/// Adds what was tried with which file to an error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BenchError {
    let path = path.to_owned();
    move |source| BenchError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_ratios_of_medians() {
        let mut rows = Rows::default();
        let mut add = |name: &str, walls: [f64; 3]| {
            for wall in walls {
                rows.add(name, Sample { wall, cpu: wall, peak_bytes: 64 << 20 });
            }
        };
        add(FULL, [3.0, 9.0, 2.0]);
        add(UNPACK_ONLY, [6.0, 6.5, 5.0]);
        add(MKOSI, [30.0, 31.0, 60.0]);
        add(NOTHING, [0.1, 0.2, 0.1]);
        let found: Vec<_> = aims(&rows.0).into_iter().map(|aim| (aim.what, aim.found)).collect();
        let want = [
            ("full build / unpacking alone", 0.5),
            ("full build / mkosi", 3.0 / 31.0),
            ("nothing changed, s", 0.1),
            ("peak memory, MiB", 64.0),
        ];
        assert_eq!(found, want.map(|(what, found)| (what.to_owned(), found)));
    }
}
