//! A tree judged by the schema: keys, types, versions. What is left is JSON that the types read.

use serde_json::{Map, Value as Json};

use super::schema::{Key, NEWEST, Shape};
use crate::diagnostic::did_you_mean;
use crate::tree::{Entry, Node, ScalarKind, Value};
use crate::user_data::report::Report;

/// The config's minor version, if it is one that is read: 3 for 3.3.0.
pub(super) fn version(tree: &Node, report: &mut Report<'_>) -> Option<u64> {
    let Some(ignition) = tree.get("ignition").filter(|node| node.entries().is_some()) else {
        let at = tree.get("ignitionVersion").map_or(tree.at, |node| node.at);
        let hint = "an Ignition config has `\"ignition\": {\"version\": \"3.5.0\"}`".to_owned();
        report.error(at, "not an Ignition config: `ignition.version` is missing", hint);
        return None;
    };
    let Some(node) = ignition.get("version") else {
        let hint = "such as `\"version\": \"3.5.0\"`".to_owned();
        report.error(ignition.at, "$.ignition.version: the version is missing", hint);
        return None;
    };
    let text = node.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
    let numbers: Vec<u64> = text.split('.').map_while(|part| part.parse().ok()).collect();
    if let ([3, minor, _], 3) = (numbers.as_slice(), text.split('.').count())
        && *minor <= NEWEST
    {
        return Some(*minor);
    }
    let hint = if text.ends_with("-experimental") {
        "experimental versions change from day to day: use the last stable one".to_owned()
    } else if text.starts_with("1.") || text.starts_with("2.") {
        "configs of spec 2 are converted by `ign-converter`".to_owned()
    } else {
        format!("versions 3.0.0 to 3.{NEWEST}.0 are read")
    };
    report.error(node.at, format!("$.ignition.version: unsupported config version `{text}`"), hint);
    None
}

/// Checks a value against its shape. `path` is Ignition's way of naming it: `$.storage.files.0.path`. What is of the wrong shape or unknown is
/// left out of the result.
pub(super) fn value(
    node: &Node,
    shape: &Shape,
    minor: u64,
    path: &str,
    report: &mut Report<'_>,
) -> Option<Json> {
    match (shape, &node.value) {
        (Shape::Object(keys), Value::Map(entries)) => {
            Some(Json::Object(object(node, entries, keys, minor, path, report)))
        }
        (Shape::List(element, _), Value::List(nodes)) => Some(Json::Array(
            nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| value(node, element, minor, &format!("{path}.{index}"), report))
                .collect(),
        )),
        (Shape::Text, Value::Scalar(scalar)) if scalar.kind == ScalarKind::Text => {
            Some(Json::String(scalar.text.clone()))
        }
        (Shape::Bool, Value::Scalar(scalar)) if matches!(scalar.kind, ScalarKind::Bool(_)) => {
            Some(Json::Bool(scalar.kind == ScalarKind::Bool(true)))
        }
        (Shape::Int, Value::Scalar(scalar)) => match scalar.kind {
            ScalarKind::Integer(number) => Some(Json::from(number)),
            _ => wrong(node, "a whole number", path, report),
        },
        (Shape::Int, _) => wrong(node, "a whole number", path, report),
        (Shape::Object(_), _) => wrong(node, "an object", path, report),
        (Shape::List(..), _) => wrong(node, "a list", path, report),
        (Shape::Text, _) => wrong(node, "text", path, report),
        (Shape::Bool, _) => wrong(node, "true or false", path, report),
    }
}

fn wrong(node: &Node, want: &str, path: &str, report: &mut Report<'_>) -> Option<Json> {
    report.error(node.at, format!("{path}: {want} belongs here, not {}", node.kind()), None);
    None
}

fn object(
    node: &Node,
    entries: &[Entry],
    keys: &[Key],
    minor: u64,
    path: &str,
    report: &mut Report<'_>,
) -> Map<String, Json> {
    let mut map = Map::new();
    for entry in entries {
        let inner = format!("{path}.{}", entry.key);
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) if key.since > minor => {
                let hint = format!("it came with version 3.{}.0", key.since);
                report.warn(entry.key_at, format!("{inner}: unused key `{}`", entry.key), hint);
            }
            Some(_) if entry.value.is_null() => {}
            Some(key) => {
                let value = value(&entry.value, &key.shape, minor, &inner, report);
                let is_first = value.is_none_or(|value| map.insert(entry.key.clone(), value).is_none());
                if !is_first {
                    report.error(entry.key_at, format!("{inner}: the key is given twice"), None);
                }
            }
            None => {
                let known = keys.iter().filter(|key| key.since <= minor).map(|key| key.name);
                let hint = match did_you_mean(&entry.key, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the keys here are {}", known.collect::<Vec<_>>().join(", ")),
                };
                report.warn(entry.key_at, format!("{inner}: unused key `{}`", entry.key), hint);
            }
        }
    }
    for key in keys.iter().filter(|key| key.is_required) {
        if !entries.iter().any(|entry| entry.key == key.name && !entry.value.is_null()) {
            report.error(node.at, format!("{path}.{}: the key is missing", key.name), None);
            // The types insist on it.
            map.insert(key.name.to_owned(), Json::String(String::new()));
        }
    }
    map
}
