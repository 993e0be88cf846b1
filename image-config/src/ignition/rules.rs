//! Rules of Ignition configs that no type can keep, judged on the tree, so that every broken one is told with its place.

use std::collections::HashMap;

use super::contents::Written;
use crate::cloud_config::{accounts, files, unit_text};
use crate::diagnostic::Position;
use crate::tree::{Node, ScalarKind};
use crate::unit::UnitName;
use crate::user_data::report::{At, Report};

/// Sections that are refused, and why.
const REFUSED: [(&str, &str); 4] = [
    ("disks", "partitioning of data disks comes later"),
    ("raid", "arrays come later"),
    ("filesystems", "file systems of data disks come later"),
    ("luks", "encrypted disks come later"),
];

/// Judges a whole config.
pub(super) fn config(tree: &Node, report: &mut Report<'_>) {
    ignition(tree, report);
    storage(tree, report);
    units(tree, report);
    passwd(tree, report);
    if let Some(arguments) = tree.get("kernelArguments") {
        let is_used = ["shouldExist", "shouldNotExist"]
            .iter()
            .any(|key| arguments.get(key).and_then(Node::elements).is_some_and(|list| !list.is_empty()));
        if is_used {
            let hint =
                "the kernel's command line is part of the signed slot: set it in the recipe".to_owned();
            report.error(arguments.at, "$.kernelArguments: not supported", hint);
        }
    }
}

/// The elements of a list below a path of keys, each with Ignition's name of it.
fn each<'n>(tree: &'n Node, path: &[&str]) -> Vec<(String, &'n Node)> {
    let list = path.iter().try_fold(tree, |node, key| node.get(key)).and_then(Node::elements);
    let name = path.join(".");
    let elements = list.unwrap_or_default().iter().enumerate();
    elements.map(|(index, node)| (format!("$.{name}.{index}"), node)).collect()
}

/// The text of a key, and its place.
fn text<'n>(node: &'n Node, key: &str) -> Option<(&'n str, Position)> {
    let node = node.get(key)?;
    let scalar = node.scalar().filter(|scalar| scalar.kind == ScalarKind::Text)?;
    Some((&scalar.text, node.at))
}

fn is_true(node: &Node, key: &str) -> Option<bool> {
    match node.get(key)?.scalar()?.kind {
        ScalarKind::Bool(value) => Some(value),
        _ => None,
    }
}

fn integer(node: &Node, key: &str) -> Option<At<i64>> {
    let node = node.get(key)?;
    match node.scalar()?.kind {
        ScalarKind::Integer(value) => Some(At { value, at: node.at }),
        _ => None,
    }
}

/// Whether a resource has a source, after telling what is wrong with it.
fn resource(node: &Node, path: &str, report: &mut Report<'_>) -> bool {
    let hash = node.get("verification").and_then(|it| text(it, "hash"));
    let source = text(node, "source");
    let compression = text(node, "compression");
    let written = Written {
        source: source.map(|it| it.0),
        compression: compression.map(|it| it.0),
        hash: hash.map(|it| it.0),
        headers: Vec::new(),
    };
    if let Err(problem) = written.contents() {
        let (key, place) = match problem.key {
            "hash" => ("verification.hash", hash),
            "compression" => ("compression", compression),
            _ => ("source", source),
        };
        let at = place.map_or(node.at, |it| it.1);
        report.error(at, format!("{path}.{key}: {}", problem.message), problem.hint.map(str::to_owned));
    }
    unique(node, &["httpHeaders"], "name", path, report);
    source.is_some()
}

/// Refuses elements of a list that have the same value of a key.
fn unique(tree: &Node, path: &[&str], key: &str, name: &str, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, Position> = HashMap::new();
    for (inner, node) in each(tree, path) {
        let Some((value, at)) = text(node, key) else { continue };
        if let Some(first) = seen.insert(value, at) {
            let line = report.source().place(first).line;
            let inner = inner.replacen('$', name, 1);
            report.error(
                at,
                format!("{inner}.{key}: duplicate entry defined"),
                format!("line {line} has it already"),
            );
        }
    }
}

fn ignition(tree: &Node, report: &mut Report<'_>) {
    for (path, node) in each(tree, &["ignition", "config", "merge"]) {
        if !resource(node, &path, report) {
            report.error(node.at, format!("{path}.source: a config to merge needs a source"), None);
        }
    }
    if let Some(node) = tree.get("ignition").and_then(|it| it.get("config")).and_then(|it| it.get("replace"))
        && !resource(node, "$.ignition.config.replace", report)
        && node.entries().is_some_and(|entries| !entries.is_empty())
    {
        report.error(node.at, "$.ignition.config.replace.source: a config needs a source", None);
    }
    let authorities = ["ignition", "security", "tls", "certificateAuthorities"];
    for (path, node) in each(tree, &authorities) {
        if !resource(node, &path, report) {
            report.error(node.at, format!("{path}.source: an authority needs a source"), None);
        }
    }
    unique(tree, &authorities, "source", "$", report);
    if let Some(timeouts) = tree.get("ignition").and_then(|it| it.get("timeouts")) {
        for key in ["httpResponseHeaders", "httpTotal"] {
            if let Some(number) = integer(timeouts, key).filter(|number| number.value < 0) {
                report.error(number.at, format!("$.ignition.timeouts.{key}: seconds are 0 or more"), None);
            }
        }
    }
    let proxy = tree.get("ignition").and_then(|it| it.get("proxy"));
    for key in ["httpProxy", "httpsProxy"] {
        if let Some((url, at)) = proxy.and_then(|proxy| text(proxy, key))
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            report.error(at, format!("$.ignition.proxy.{key}: invalid url scheme"), None);
        }
    }
}

fn storage(tree: &Node, report: &mut Report<'_>) {
    for (key, why) in REFUSED {
        if let Some(node) = tree.get("storage").and_then(|it| it.get(key))
            && node.elements().is_some_and(|elements| !elements.is_empty())
        {
            let hint = "the state partition is made by the machine itself; `mounts` of a cloud-config mounts what is formatted already";
            report.error(node.at, format!("$.storage.{key}: not supported: {why}"), hint.to_owned());
        }
    }
    let mut paths: HashMap<String, Position> = HashMap::new();
    for kind in ["files", "directories", "links"] {
        for (name, node) in each(tree, &["storage", kind]) {
            if let Some(path) = node_path(node, &name, kind, report)
                && let Some(first) = paths.insert(path, node.at)
            {
                let line = report.source().place(first).line;
                let at = node.get("path").map_or(node.at, |it| it.at);
                report.error(
                    at,
                    format!("{name}.path: duplicate entry defined"),
                    format!("line {line} has it already"),
                );
            }
            accounts_of(node, &name, report);
            mode(node, &name, kind, report);
            match kind {
                "files" => file(node, &name, report),
                "links" if text(node, "target").is_none_or(|(target, _)| target.is_empty()) => {
                    report.error(node.at, format!("{name}.target: a link needs a target"), None);
                }
                _ => {}
            }
        }
    }
}

fn node_path(node: &Node, name: &str, kind: &str, report: &mut Report<'_>) -> Option<String> {
    let (path, at) = text(node, "path")?;
    if !path.starts_with('/') {
        report.error(at, format!("{name}.path: path not absolute"), None);
        return None;
    }
    let mut value = path.to_owned();
    if kind == "directories" && value.len() > 1 {
        value.truncate(value.trim_end_matches('/').len());
    }
    let written = At { value, at };
    files::absolute(&written, report).filter(|path| files::writable(path, &written, report))
}

/// Owner: id or name, not both.
fn accounts_of(node: &Node, name: &str, report: &mut Report<'_>) {
    for key in ["user", "group"] {
        let Some(account) = node.get(key) else { continue };
        let id = integer(account, "id");
        if id.is_some() && text(account, "name").is_some_and(|(name, _)| !name.is_empty()) {
            report.error(account.at, format!("{name}.{key}: cannot set both id and name"), None);
        }
        if let Some(id) = id {
            accounts::check_id(id, report);
        }
    }
}

/// JSON has no octal numbers, so modes are decimal, and many are not what was meant.
fn mode(node: &Node, name: &str, kind: &str, report: &mut Report<'_>) {
    let Some(mode) = integer(node, "mode") else { return };
    let as_octal = i64::from_str_radix(&mode.value.to_string(), 8).ok().filter(|it| *it <= 0o7777);
    let hint = as_octal
        .filter(|_| mode.value > 0o777)
        .map(|meant| format!("modes are decimal here: {:#o} is written {meant}", meant));
    if !(0..=0o7777).contains(&mode.value) {
        report.error(mode.at, format!("{name}.mode: illegal file mode"), hint);
    } else if mode.value > 0o777 && kind == "files" {
        let message = format!(
            "{name}.mode: {} is {:#o}; special bits of files are ignored before 3.6",
            mode.value, mode.value
        );
        report.warn(mode.at, message, hint);
    } else if let Some(hint) = hint {
        report.warn(mode.at, format!("{name}.mode: {} is {:#o}", mode.value, mode.value), hint);
    }
}

fn file(node: &Node, name: &str, report: &mut Report<'_>) {
    let has_source = node.get("contents").is_some_and(|it| resource(it, &format!("{name}.contents"), report));
    if is_true(node, "overwrite") == Some(true) && !has_source {
        let at = node.get("overwrite").map_or(node.at, |it| it.at);
        report.error(at, format!("{name}.overwrite: overwrite must be false if source is unspecified"), None);
    }
    for (index, one) in node.get("append").and_then(Node::elements).unwrap_or_default().iter().enumerate() {
        let path = format!("{name}.append.{index}");
        if !resource(one, &path, report) {
            report.error(one.at, format!("{path}.source: what is appended needs a source"), None);
        }
    }
}

fn units(tree: &Node, report: &mut Report<'_>) {
    unique(tree, &["systemd", "units"], "name", "$", report);
    for (path, node) in each(tree, &["systemd", "units"]) {
        let Some((name, at)) = text(node, "name") else { continue };
        let unit = match UnitName::parse(name) {
            Ok(unit) => unit,
            Err(error) => {
                let hint = (!name.contains('.')).then(|| format!("did you mean `{name}.service`?"));
                report.error(
                    at,
                    format!("{path}.name: invalid systemd unit extension or name: {error}"),
                    hint,
                );
                continue;
            }
        };
        if let Some(contents) = node.get("contents")
            && let Some((unit_text, _)) = text(node, "contents").filter(|it| !it.0.is_empty())
        {
            unit_text::check(&unit, unit_text, contents, report);
            let has_install = unit_text.lines().any(|line| line.trim() == "[Install]");
            if is_true(node, "enabled") == Some(true) && !has_install {
                let at = node.get("enabled").map_or(node.at, |it| it.at);
                let hint = "add `[Install]` with `WantedBy=multi-user.target`".to_owned();
                report.warn(
                    at,
                    format!("{path}.enabled: the unit has no [Install] section, so nothing starts it"),
                    hint,
                );
            }
        }
        let list = node.get("dropins").and_then(Node::elements).unwrap_or_default();
        for (index, drop_in) in list.iter().enumerate() {
            let Some((name, at)) = text(drop_in, "name") else { continue };
            if !name.ends_with(".conf") || name.contains('/') {
                let message = format!("{path}.dropins.{index}.name: invalid systemd drop-in extension");
                report.error(at, message, "the name ends in `.conf`".to_owned());
            }
            if let (Some((body, _)), Some(contents)) = (text(drop_in, "contents"), drop_in.get("contents")) {
                unit_text::check_drop_in(&unit, body, contents, report);
            }
        }
        unique(node, &["dropins"], "name", &path, report);
    }
}

fn passwd(tree: &Node, report: &mut Report<'_>) {
    for (kind, what) in [("users", "user"), ("groups", "group")] {
        unique(tree, &["passwd", kind], "name", "$", report);
        for (path, node) in each(tree, &["passwd", kind]) {
            if let Some((name, at)) = text(node, "name")
                && !accounts::is_name(name)
            {
                report.error(at, format!("{path}.name: `{name}` is no name of a {what}"), None);
            }
            for key in ["uid", "gid"] {
                if let Some(id) = integer(node, key) {
                    accounts::check_id(id, report);
                }
            }
            for key in ["gecos", "homeDir", "shell", "passwordHash", "primaryGroup"] {
                if let Some((value, at)) = text(node, key)
                    && value.contains([':', '\n', '\r', '\0'])
                {
                    report.error(at, format!("{path}.{key}: it has a `:` or a line break"), None);
                }
            }
            for key in ["homeDir", "shell"] {
                if let Some((value, at)) = text(node, key)
                    && !value.is_empty()
                    && !value.starts_with('/')
                {
                    report.error(at, format!("{path}.{key}: path not absolute"), None);
                }
            }
            keys(node, report);
        }
    }
}

fn keys(user: &Node, report: &mut Report<'_>) {
    let Some(list) = user.get("sshAuthorizedKeys").and_then(Node::elements) else { return };
    let mut keys =
        list.iter().filter_map(|node| Some(At { value: node.scalar()?.text.clone(), at: node.at })).collect();
    accounts::check_keys(&mut keys, report);
}
