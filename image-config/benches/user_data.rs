//! What reading user-data costs: `cargo bench -p image-config`.
//!
//! A boot pays the first row, for a config of two hundred lines. The others are what is refused, and how long that takes.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use image_config::user_data::{Addresses, Facts, Outcome, UserData};

/// A config that uses every key.
const TYPICAL: &str = include_str!("../tests/every-key.yml");
const REPEATS: usize = 200;
/// Of what takes long.
const FEW: usize = 5;

fn main() {
    // `cargo test` runs benchmarks with this, to see that they run.
    let is_test = !std::env::args().any(|it| it == "--bench");
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        model.lines().find_map(|it| it.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    println!("image-config {}, {model}", env!("CARGO_PKG_VERSION"));
    println!("{:44} {:>8} {:>10} {:>10} {:>10}", "user-data", "repeats", "least", "middle", "largest");
    row("cloud-config of 198 lines, every key", if is_test { 1 } else { REPEATS }, TYPICAL.as_bytes(), false);
    let ignition = ignition(200);
    row("Ignition, 200 files", if is_test { 1 } else { REPEATS }, ignition.as_bytes(), false);
    let few = if is_test { 1 } else { FEW };
    row("refused: 10,000 levels", few, deep("[", 10_000).as_bytes(), true);
    row("refused: mappings as deep as may be tried", few, deep("{a: ", 12_000).as_bytes(), true);
    row("refused: aliases of aliases", few, laughs().as_bytes(), true);
    row("refused: 10 MB", few, &vec![b' '; 10_000_000], true);
}

fn row(name: &str, repeats: usize, bytes: &[u8], is_refused: bool) {
    let mut times: Vec<Duration> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            let accepted = accepts(black_box(bytes));
            assert_ne!(accepted, is_refused, "{name}");
            start.elapsed()
        })
        .collect();
    times.sort();
    let show = |time: Option<&Duration>| format!("{:.3} ms", time.map_or(0.0, |it| it.as_secs_f64() * 1e3));
    println!(
        "{name:44} {repeats:>8} {:>10} {:>10} {:>10}",
        show(times.first()),
        show(times.get(repeats / 2)),
        show(times.last())
    );
}

/// From bytes to a plan.
fn accepts(bytes: &[u8]) -> bool {
    let facts = Facts { addresses: Addresses::example(), ..Facts::default() };
    match UserData::read("user-data", bytes) {
        Ok(data) => matches!(data.plan(&facts), Outcome::Plan(..)),
        Err(_) => false,
    }
}

fn ignition(files: usize) -> String {
    let file = |index| {
        format!(r#"{{"path": "/etc/many/{index}", "mode": 420, "contents": {{"source": "data:,{index}"}}}}"#)
    };
    let files: Vec<String> = (0..files).map(file).collect();
    format!(r#"{{"ignition": {{"version": "3.5.0"}}, "storage": {{"files": [{}]}}}}"#, files.join(","))
}

fn deep(bracket: &str, levels: usize) -> String {
    format!("#cloud-config\na: {}", bracket.repeat(levels))
}

fn laughs() -> String {
    let mut text = "#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    text
}
