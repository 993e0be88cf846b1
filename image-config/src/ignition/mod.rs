//! Ignition configs of spec 3.0 to 3.5.
//!
//! A config is read in two steps. The tree ([`crate::json`]) is judged with the schema and the rules, so that every mistake is told with
//! its place and Ignition's path of it; what is left is given to the types of the crate `ignition-config`, those of 3.5, which hold
//! whatever the older versions have. Configs that a config merges or is replaced by must be fetched first: [`plan`] says which.
//!
//! Reference: the specification at coreos.github.io/ignition, `docs/user-data.md`.

mod check;
mod contents;
mod lower;
mod merge;
mod rules;
mod schema;

use ignition_config::v3_5;
use serde::Deserialize;
use serde_json::Value as Json;

use self::lower::Places;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::json;
use crate::tree::Node;
use crate::user_data::plan::{Contents, MachinePlan, OnFailure};
use crate::user_data::report::Report;
use crate::user_data::resource::Resource;
use crate::user_data::source::Source;
use crate::user_data::steps::Steps;
use crate::user_data::{DEEPEST_MERGE, Facts, Format, LARGEST, Outcome};

/// A config and the places of what is in it.
#[derive(Debug)]
struct Config {
    json: Json,
    places: Places,
}

/// What is known while configs are put together.
struct Merging<'a> {
    facts: &'a Facts,
    /// Resources that are not there yet.
    missing: Vec<Resource>,
    findings: Vec<Diagnostic>,
    /// How many configs may still be read: one that merges itself twice would be read without end.
    left: usize,
}

/// Most configs that one is put together from.
const MOST_CONFIGS: usize = 256;

/// Reads a config and makes its plan, or says what must be fetched first.
#[must_use]
pub fn plan(source: &Source, facts: &Facts) -> Outcome {
    let mut merging = Merging { facts, missing: Vec::new(), findings: Vec::new(), left: MOST_CONFIGS };
    let config = read(source, &mut merging.findings);
    let policy = typed(&config.json).map(|config| lower::fetch_policy(&config.ignition)).unwrap_or_default();
    let config = if merging.has_errors() { config } else { merging.resolve(config, 0) };
    if !merging.has_errors() && !merging.missing.is_empty() {
        return Outcome::Fetch(merging.missing, policy);
    }
    let plan = MachinePlan { on_failure: OnFailure::StopBoot, ..MachinePlan::default() };
    if merging.has_errors() {
        return Outcome::Refused(plan, Diagnostics::new(merging.findings));
    }
    let typed = match typed(&config.json) {
        Ok(typed) => typed,
        Err(error) => {
            merging.findings.push(source.error(None, error));
            return Outcome::Refused(plan, Diagnostics::new(merging.findings));
        }
    };
    let mut steps = Steps::default();
    lower::lower(&typed, &config.places, &mut steps);
    let plan = MachinePlan {
        on_failure: OnFailure::StopBoot,
        fetch: lower::fetch_policy(&typed.ignition),
        ..steps.finish()
    };
    Outcome::Plan(plan, Diagnostics::new(merging.findings))
}

/// Every finding in a config and in those that it holds itself (`data:`); others are not fetched for it.
#[must_use]
pub fn judge(source: &Source) -> Diagnostics {
    let facts = Facts::default();
    let mut merging =
        Merging { facts: &facts, missing: Vec::new(), findings: Vec::new(), left: MOST_CONFIGS };
    let config = read(source, &mut merging.findings);
    if !merging.has_errors() {
        merging.resolve(config, 0);
    }
    Diagnostics::new(merging.findings)
}

/// Judges a text. What is wrong with it is among the findings and left out of the result.
fn read(source: &Source, findings: &mut Vec<Diagnostic>) -> Config {
    let empty = || Config { json: Json::Object(serde_json::Map::new()), places: Places::new() };
    let tree = match json::parse(&source.name, &source.text) {
        Ok(tree) => tree,
        Err(found) => {
            findings.extend(found.as_slice().iter().cloned());
            return empty();
        }
    };
    let mut report = Report::new(source);
    let config = match check::version(&tree, &mut report) {
        Some(minor) => {
            let json = check::value(&tree, &schema::CONFIG, minor, "$", &mut report);
            rules::config(&tree, &mut report);
            json.map_or_else(empty, |json| Config { json, places: places(&tree, source) })
        }
        None => empty(),
    };
    findings.extend(report.finish().as_slice().iter().cloned());
    config
}

/// Where everything that has a name was written.
fn places(tree: &Node, source: &Source) -> Places {
    let kinds: [(&str, &str, &'static str, &str); 6] = [
        ("storage", "files", "path", "path"),
        ("storage", "directories", "path", "path"),
        ("storage", "links", "path", "path"),
        ("systemd", "units", "unit", "name"),
        ("passwd", "users", "user", "name"),
        ("passwd", "groups", "group", "name"),
    ];
    let mut places = Places::new();
    for (section, list, kind, key) in kinds {
        let elements = tree.get(section).and_then(|node| node.get(list)).and_then(Node::elements);
        for node in elements.unwrap_or_default() {
            if let Some(name) = node.get(key).and_then(Node::scalar) {
                places.insert((kind, name.text.clone()), source.origin(node.at));
            }
        }
    }
    places
}

/// The config in the crate's types.
fn typed(json: &Json) -> Result<v3_5::Config, String> {
    v3_5::Config::deserialize(json).map_err(|error| format!("not an Ignition config: {error}"))
}

impl Merging<'_> {
    fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The config with those that it names: replaced by one, or merged with each in order, depth first.
    fn resolve(&mut self, config: Config, depth: usize) -> Config {
        let Ok(typed) = typed(&config.json) else { return config };
        let named = typed.ignition.config.unwrap_or_default();
        if let Some(resource) = named.replace.as_ref().filter(|it| it.source.is_some()) {
            return self.child(resource, depth).unwrap_or(config);
        }
        let mut merged = config;
        for resource in named.merge.unwrap_or_default() {
            if let Some(child) = self.child(&resource, depth) {
                merged.json = merge::merge(merged.json, child.json);
                merged.places.extend(child.places);
            }
        }
        merged
    }

    /// A config that another one names, resolved; `None` when it is not there yet or no config.
    fn child(&mut self, resource: &v3_5::Resource, depth: usize) -> Option<Config> {
        let url = resource.source.clone().unwrap_or_default();
        let name: String = url.chars().take(200).collect();
        let refuse = |message: String| Diagnostic::error(&name, "", None, message);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.findings.push(refuse(format!("more than {MOST_CONFIGS} configs are merged")));
            return None;
        }
        if depth >= DEEPEST_MERGE {
            let message = format!("configs name one another more than {DEEPEST_MERGE} levels deep");
            self.findings.push(refuse(message));
            return None;
        }
        let bytes = match lower::contents(resource)? {
            Contents::Inline(bytes) => bytes,
            Contents::Remote(resource) => match self.facts.fetched.get(&resource) {
                Some(bytes) => bytes.clone(),
                None => {
                    if !self.missing.contains(&resource) {
                        self.missing.push(resource);
                    }
                    return None;
                }
            },
        };
        if bytes.len() > LARGEST || Format::of(&bytes) != Ok(Format::Ignition) {
            self.findings.push(refuse("this is no Ignition config".to_owned()));
            return None;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.findings.push(refuse("this is not UTF-8 text".to_owned()));
            return None;
        };
        let source = Source { name: name.clone(), text, ..Source::default() };
        let config = read(&source, &mut self.findings);
        Some(if self.has_errors() { config } else { self.resolve(config, depth + 1) })
    }
}
