//! What is printed for people is judged as what people write: every sample of `docs/`, and every cloud-config and unit file of the talks that
//! the project started from (`tests/seeds`, see `docs/seeds.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use image_config::diagnostic::Severity;
use image_config::unit::{System, Unit, UnitFile, UnitName};
use image_config::user_data::UserData;

/// Severity, line and message of a finding.
type Finding = (Severity, usize, String);

fn user_data(name: &str, bytes: &[u8]) -> Vec<Finding> {
    let found = match UserData::read(name, bytes) {
        Ok(data) => data.validate().unwrap_or_else(|found| found),
        Err(found) => found,
    };
    let one = |it: &image_config::diagnostic::Diagnostic| {
        (it.severity, it.position.map_or(0, |at| at.line), it.message.clone())
    };
    found.as_slice().iter().map(one).collect()
}

fn unit(name: &UnitName, bytes: &[u8], is_drop_in: bool) -> Vec<Finding> {
    let instance = if name.is_template() { name.with_instance("1").unwrap() } else { name.clone() };
    let warnings = if is_drop_in {
        let (file, mut warnings) = UnitFile::parse(&instance, &[("unit", bytes)]);
        warnings.extend(file.typed(&System::default()).1.into_iter().filter(|it| it.line > 0));
        warnings
    } else {
        Unit::parse(&instance, &[("unit", bytes)], &System::default()).1
    };
    let mut found: Vec<Finding> = warnings
        .into_iter()
        .map(|it| (Severity::Warning, usize::try_from(it.line).unwrap(), it.message))
        .collect();
    found.sort_by_key(|(_, line, _)| *line);
    found
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Severity, line and a part of the message of a finding.
type Want = (Severity, usize, &'static str);

/// What is found in a file of `tests/seeds`: lines and parts of messages.
const SEEDS: &[(&str, &[Want])] = {
    use Severity::{Error, Warning};
    &[
        ("user-data.yml", &[(Error, 15, "the indentation of `fleet:` does not match")]),
        (
            "user-data.fixed.yml",
            &[
                (Warning, 3, "etcd 0.4"),
                (Warning, 6, "the discovery URL is not valid"),
                (Warning, 16, "`coreos.fleet` is a list"),
            ],
        ),
        ("fleet.service.d/40-fleet-metadata.conf", &[]),
        ("myapp.service", &[]),
        ("sinatra@.service", &[]),
        ("nginx@.service", &[]),
        ("nginx-sidekick@.service", &[(Warning, 7, "ExecStart"), (Warning, 8, ""), (Warning, 9, "")]),
        ("nginx-sidekick@.fixed.service", &[]),
        (
            "nginx-lb.service",
            &[
                (Warning, 0, ""),
                (Warning, 5, "EnvironmentFile"),
                (Warning, 9, "ExecStartPre"),
                (Warning, 10, "ExecStartPre"),
                (Warning, 11, "ExecStartPre"),
                (Warning, 12, "ExecStart"),
                (Warning, 16, "ExecStop"),
            ],
        ),
        ("nginx-lb.fixed.service", &[]),
        ("docker.service", &[]),
        ("docker.fixed.service", &[]),
        ("template@.fixed.service", &[]),
    ]
};

#[test]
fn the_talks_files_are_judged_as_the_page_says() {
    for (name, want) in SEEDS {
        let path = folder("tests/seeds").join(name);
        let bytes = fs::read(&path).unwrap();
        let found = judge(&path, &bytes);
        assert_eq!(found.len(), want.len(), "{name}: {found:#?}");
        for (finding, (severity, line, message)) in found.iter().zip(*want) {
            assert_eq!((finding.0, finding.1), (*severity, *line), "{name}: {found:#?}");
            assert!(finding.2.contains(message), "{name}: {found:#?}");
        }
    }
}

#[test]
fn what_is_no_unit_as_printed_is_told() {
    // Lines that explain a unit, and lines of one without the others: not meant to be loaded, and said to be wrong.
    for name in ["skeleton.service", "fleet-options.service", "template@.service"] {
        let path = folder("tests/seeds").join(name);
        assert!(!judge(&path, &fs::read(&path).unwrap()).is_empty(), "{name}");
    }
    let all = fs::read_dir(folder("tests/seeds")).unwrap().count();
    assert_eq!(all, SEEDS.len() + 3, "every file is looked at by a test");
}

fn judge(path: &Path, bytes: &[u8]) -> Vec<Finding> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    match (UnitName::parse(name), folder.strip_suffix(".d")) {
        (Ok(unit_name), _) => unit(&unit_name, bytes, false),
        (_, Some(unit_name)) => unit(&UnitName::parse(unit_name).unwrap(), bytes, true),
        _ => user_data(name, bytes),
    }
}

#[test]
fn the_config_with_every_key_is_valid() {
    let text = fs::read_to_string(folder("tests/every-key.yml")).unwrap();
    let found = user_data("every-key.yml", text.as_bytes());
    assert_eq!(found, [], "{found:#?}");
    // It is what it says: each key of the page's tables occurs in it, those of daemons and old names aside.
    let page = fs::read_to_string(folder("../docs/user-data.md")).unwrap();
    let keys = page[page.find("### Top level").unwrap()..page.find("### `coreos.oem`").unwrap()]
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2));
    for key in keys.filter(|key| !["hashed_passwd", "source"].contains(key)) {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}

/// A fenced block of a page.
struct Sample {
    page: String,
    line: usize,
    /// What stands behind the backquotes: the language, then the name of a file, or `broken`.
    words: Vec<String>,
    text: String,
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut pages: Vec<PathBuf> =
        fs::read_dir(folder("../docs")).unwrap().map(|it| it.unwrap().path()).collect();
    pages.push(folder("../README.md"));
    pages.sort();
    for path in pages.iter().filter(|path| path.extension().is_some_and(|it| it == "md")) {
        let page = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let mut open: Option<Sample> = None;
        for (index, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(_), Some(sample)) => samples.push(sample),
                (Some(words), None) => {
                    let words = words.split_whitespace().map(str::to_owned).collect();
                    open = Some(Sample { page: page.clone(), line: index + 1, words, text: String::new() });
                }
                (None, Some(mut sample)) => {
                    sample.text += &format!("{line}\n");
                    open = Some(sample);
                }
                (None, None) => {}
            }
        }
    }
    samples
}

#[test]
fn samples_of_the_docs_are_valid() {
    let (mut judged, mut of_pages) = (0, Vec::new());
    for Sample { page, line, words, text } in samples() {
        let language = words.first().map(String::as_str).unwrap_or_default();
        let name = words.get(1).map(String::as_str).unwrap_or_default();
        let is_user_data = text.starts_with("#cloud-config")
            || (language == "json" && text.contains("\"ignition\""))
            || text.starts_with("Content-Type: multipart/")
            || (language == "sh" && text.starts_with("#!"));
        let found = if is_user_data {
            user_data(&page, text.as_bytes())
        } else if language == "ini" && !name.is_empty() {
            match name.split_once(".d/") {
                Some((unit_name, _)) => unit(&UnitName::parse(unit_name).unwrap(), text.as_bytes(), true),
                None => unit(&UnitName::parse(name).unwrap(), text.as_bytes(), false),
            }
        } else {
            continue;
        };
        judged += 1;
        of_pages.push(page.clone());
        if words.iter().any(|word| word == "broken") {
            assert!(!found.is_empty(), "{page}:{line} is said to be broken");
        } else {
            assert!(found.iter().all(|it| it.0 == Severity::Warning), "{page}:{line}: {found:#?}");
            // What a page shows as good is good, warnings that it explains aside.
            let may_warn = words.iter().any(|word| word == "warned");
            assert!(may_warn || found.is_empty(), "{page}:{line}: {found:#?}");
        }
    }
    assert!(judged >= 12, "{judged}");
    for page in ["user-data.md", "seeds.md"] {
        assert!(of_pages.iter().any(|it| it == page), "no sample in {page}");
    }
}

#[test]
fn the_tables_of_the_docs_are_those_of_the_code() {
    use image_config::cloud_config::daemons::{ETCD, ETCD2, FLANNEL, FLEET, LOCKSMITH, Meaning};
    let page = fs::read_to_string(folder("../docs/user-data.md")).unwrap();
    for (section, table) in
        [("etcd", ETCD), ("etcd2", ETCD2), ("fleet", FLEET), ("locksmith", LOCKSMITH), ("flannel", FLANNEL)]
    {
        let start =
            page.find(&format!("`coreos.{section}`\n")).unwrap_or_else(|| panic!("no heading of {section}"));
        let text = &page[start..];
        let text = &text[..text[1..].find("\n### ").map_or(text.len(), |end| end + 1)];
        for key in table {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name)));
            let row = row.unwrap_or_else(|| panic!("no row for {section}.{}", key.name));
            let want = match key.meaning {
                Meaning::Variable(variable) | Meaning::Renamed(variable, _) => format!("`{variable}`"),
                Meaning::Authority(file, switch) => format!("`{file}`, `{switch}=true`"),
                Meaning::Verbose => "`ETCD_LOG_LEVEL=debug`".to_owned(),
                Meaning::Address => "_URLS`".to_owned(),
                Meaning::Gone => "nothing".to_owned(),
            };
            assert!(row.contains(&want), "{section}: {row}");
        }
    }
}
