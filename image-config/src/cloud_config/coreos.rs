//! The key `coreos` and what is below it.

use super::daemons::{self, Key, Section};
use super::{CloudConfig, Daemon, UnitEntry, UnitFileName, UpdateEntry, unit_text};
use crate::diagnostic::{Position, did_you_mean};
use crate::tree::{Entry, Node, Value};
use crate::unit::UnitName;
use crate::user_data::plan::UnitCommand;
use crate::user_data::report::{At, Fields, Report, Spelling};

/// Commands of units, as written.
const COMMANDS: [(&str, UnitCommand); 7] = [
    ("start", UnitCommand::Start),
    ("stop", UnitCommand::Stop),
    ("restart", UnitCommand::Restart),
    ("reload", UnitCommand::Reload),
    ("try-restart", UnitCommand::TryRestart),
    ("reload-or-restart", UnitCommand::ReloadOrRestart),
    ("reload-or-try-restart", UnitCommand::ReloadOrTryRestart),
];
/// When a machine that has a new version reboots.
const REBOOT_STRATEGIES: [&str; 3] = ["etcd-lock", "reboot", "off"];

pub(super) fn coreos(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(mut fields) = top.fields("coreos", Spelling::Lenient, report) else { return };
    etcd(&mut fields, config, report);
    section(&mut fields, "fleet", "fleet.service", daemons::FLEET, config, report);
    section(&mut fields, "locksmith", "locksmithd.service", daemons::LOCKSMITH, config, report);
    if let Some(entry) = fields.entry("flannel") {
        config.flannel = read_section(entry, "coreos.flannel", daemons::FLANNEL, report)
            .map(|section| At { value: section.plain(), at: entry.key_at });
    }
    oem(&mut fields, config, report);
    update(&mut fields, config, report);
    units(&mut fields, config, report);
    for key in ["write_files", "ssh_authorized_keys", "hostname", "users", "manage_etc_hosts"] {
        if let Some(entry) = fields.entry(key) {
            let message = format!("`{}` does not belong below `coreos`: here it does nothing", entry.key);
            report.warn(entry.key_at, message, "put it at the top, without indentation".to_owned());
        }
    }
    fields.finish(&[], report);
}

fn etcd(fields: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    if let Some(entry) = fields.entry("etcd") {
        let message =
            "`coreos.etcd` has the settings of etcd 0.4, which are translated to etcd 3.5's".to_owned();
        report.warn(entry.key_at, message, "docs/user-data.md shows what becomes of each".to_owned());
        daemon(entry, "coreos.etcd", "etcd.service", daemons::ETCD, config, report);
        if let Some(node) = entry.value.entries().and_then(|_| entry.value.get("discovery")) {
            discovery(node, report);
        }
    }
    if let Some(entry) = fields.entry("etcd2") {
        daemon(entry, "coreos.etcd2", "etcd2.service", daemons::ETCD2, config, report);
        if let Some(node) = entry.value.get("discovery") {
            discovery(node, report);
        }
        if let Some(node) = entry.value.get("proxy") {
            one_of(node, "coreos.etcd2.proxy", &["on", "off", "readonly"], report);
        }
    }
}

/// A placeholder of a template, or no URL at all.
fn discovery(node: &Node, report: &mut Report<'_>) {
    let Some(url) = node.scalar().map(|scalar| scalar.text.as_str()).filter(|url| !url.is_empty()) else {
        return;
    };
    let is_url = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        && !url.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>'));
    if !is_url {
        let hint =
            "put the address of your cluster there: the discovery service makes one for each new cluster";
        report.warn(node.at, "the discovery URL is not valid", hint.to_owned());
    }
}

fn one_of(node: &Node, name: &str, values: &[&str], report: &mut Report<'_>) -> Option<String> {
    // YAML 1.1 makes `off` and `on` booleans, and so may whoever reads this after us.
    let text = report.text(node, name)?;
    let text = match text.as_str() {
        "false" | "False" if values.contains(&"off") => "off".to_owned(),
        "true" | "True" if values.contains(&"on") => "on".to_owned(),
        _ => text,
    };
    if text.is_empty() {
        return None;
    }
    if values.contains(&text.as_str()) {
        return Some(text);
    }
    let hint = match did_you_mean(&text, values.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("valid values are {}", values.join(", ")),
    };
    report.error(node.at, format!("invalid value `{text}` for `{name}`"), hint);
    None
}

fn section(
    fields: &mut Fields<'_>,
    key: &'static str,
    unit: &str,
    table: &[Key],
    config: &mut CloudConfig,
    report: &mut Report<'_>,
) {
    if let Some(entry) = fields.entry(key) {
        let name = fields.name_of(key);
        daemon(entry, &name, unit, table, config, report);
        if key == "locksmith" {
            window(entry, report);
        }
    }
}

fn daemon(
    entry: &Entry,
    name: &str,
    unit: &str,
    table: &[Key],
    config: &mut CloudConfig,
    report: &mut Report<'_>,
) {
    let Some(section) = read_section(entry, name, table, report) else { return };
    let environment = section.for_unit();
    if let Ok(unit) = UnitName::parse(unit) {
        config.daemons.push(At { value: Daemon { unit, environment }, at: entry.key_at });
    }
}

/// A section. A list of mappings, which talks of the time show for fleet, is taken for one mapping.
fn read_section(entry: &Entry, name: &str, table: &[Key], report: &mut Report<'_>) -> Option<Section> {
    let merged = match entry.value.elements() {
        Some(elements) if !elements.is_empty() && elements.iter().all(|it| it.entries().is_some()) => {
            let message = format!("`{name}` is a list: its elements are taken together, as one mapping");
            report.warn(entry.value.at, message, "leave the `- ` out".to_owned());
            let entries = elements.iter().filter_map(Node::entries).flatten().cloned().collect();
            Some(Node { at: entry.value.at, value: Value::Map(entries) })
        }
        _ => None,
    };
    let mut fields = report.fields(merged.as_ref().unwrap_or(&entry.value), name, Spelling::Lenient)?;
    let section = daemons::read(&mut fields, table, report);
    fields.finish(&[], report);
    Some(section)
}

/// The reboot window of locksmith: `Mon 04:00` or `04:00`, and a length such as `1h30m`.
fn window(entry: &Entry, report: &mut Report<'_>) {
    let value = |key: &str| {
        let find = |entries: &'_ [Entry]| entries.iter().position(|it| Spelling::Lenient.of(&it.key) == key);
        let entries = entry.value.entries()?;
        let node = &entries.get(find(entries)?)?.value;
        let text = node.scalar()?.text.clone();
        (!text.is_empty()).then_some((node.at, text))
    };
    if let Some((at, text)) = value("window_start")
        && !is_window_start(&text)
    {
        let hint = "a time, or a day and a time: `04:00`, `Thu 23:00`".to_owned();
        report.error(at, format!("invalid value `{text}` for `coreos.locksmith.window_start`"), hint);
    }
    if let Some((at, text)) = value("window_length")
        && !is_duration(&text)
    {
        let hint = "a duration, such as `1h30m`".to_owned();
        report.error(at, format!("invalid value `{text}` for `coreos.locksmith.window_length`"), hint);
    }
}

fn is_window_start(text: &str) -> bool {
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let (day, time) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
    let is_day = day.is_empty() || DAYS.iter().any(|it| day.to_ascii_lowercase().starts_with(it));
    let Some((hour, minute)) = time.split_once(':') else { return false };
    let below =
        |text: &str, limit: u8| text.parse::<u8>().is_ok_and(|number| number < limit) && text.len() <= 2;
    is_day && below(hour, 24) && below(minute, 60)
}

/// As Go reads durations: numbers with units, `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let Some(unit) = ["ms", "us", "µs", "ns", "h", "m", "s"].into_iter().find(|it| after.starts_with(it))
        else {
            return false;
        };
        if number.parse::<f64>().is_err() {
            return false;
        }
        rest = after.strip_prefix(unit).unwrap_or_default();
    }
    !text.is_empty()
}

fn oem(fields: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(mut oem) = fields.fields("oem", Spelling::Lenient, report) else { return };
    let mut lines = Vec::new();
    for (key, variable) in [
        ("id", "ID"),
        ("version_id", "VERSION_ID"),
        ("name", "NAME"),
        ("home_url", "HOME_URL"),
        ("bug_report_url", "BUG_REPORT_URL"),
    ] {
        let text = oem.text(key, report).map(|text| text.value).unwrap_or_default();
        lines.push((variable, text.replace(['\n', '"'], " ")));
    }
    let at = oem.at();
    oem.finish(&[], report);
    // As the original has it: nothing without an id.
    if lines.first().is_some_and(|(_, id)| !id.is_empty()) {
        config.oem = Some(At { value: lines, at });
    }
}

fn update(fields: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(mut update) = fields.fields("update", Spelling::Lenient, report) else { return };
    let at = update.at();
    let strategy = update.node("reboot_strategy");
    let mut word = |key: &'static str, report: &mut Report<'_>| {
        let text = update.text(key, report)?;
        if text.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            report.error(text.at, format!("`coreos.update.{key}` has white space"), None);
            return None;
        }
        Some(text.value).filter(|text| !text.is_empty())
    };
    let (group, server) = (word("group", report), word("server", report));
    update.finish(&[], report);
    let reboot_strategy = strategy.and_then(|node| match node.scalar().map(|it| it.text.as_str()) {
        Some("best-effort") => {
            let hint = "without etcd it meant `reboot`, with etcd `etcd-lock`: choose one".to_owned();
            report.error(node.at, "invalid value `best-effort` for `coreos.update.reboot_strategy`", hint);
            None
        }
        _ => one_of(node, "coreos.update.reboot_strategy", &REBOOT_STRATEGIES, report),
    });
    config.update = Some(At { value: UpdateEntry { reboot_strategy, group, server }, at });
}

fn units(fields: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    for (index, node) in fields.list("units", report).iter().enumerate() {
        let name = format!("coreos.units[{index}]");
        if let Some(fields) = report.fields(node, &name, Spelling::Lenient)
            && let Some(value) = unit(fields, report)
        {
            config.units.push(At { value, at: node.at });
        }
    }
}

fn unit(mut fields: Fields<'_>, report: &mut Report<'_>) -> Option<UnitEntry> {
    let at = fields.at();
    let name = match fields.text("name", report) {
        Some(name) => unit_name(&name, report),
        None => {
            report.error(at, format!("`{}` is missing", fields.name_of("name")), None);
            None
        }
    };
    let content_node = fields.node("content");
    let content_name = fields.name_of("content");
    let content = content_node.and_then(|node| report.text(node, &content_name)).filter(|it| !it.is_empty());
    if let (Some(UnitFileName::Unit(name)), Some(text), Some(node)) = (&name, &content, content_node) {
        unit_text::check(name, text, node, report);
    }
    let drop_ins = drop_ins(&mut fields, name.as_ref(), report);
    let command_name = fields.name_of("command");
    let command = fields.node("command").and_then(|node| command(node, &command_name, report));
    let entry = UnitEntry {
        name: name?,
        content,
        drop_ins,
        command: command.map(|it| it.value),
        is_enabled: fields.boolean("enable", report).unwrap_or(false),
        is_masked: fields.boolean("mask", report).unwrap_or(false),
        is_runtime: fields.boolean("runtime", report).unwrap_or(false),
    };
    fields.finish(&[], report);
    contradictions(&entry, command.map(|it| it.at), at, report);
    Some(entry)
}

fn contradictions(entry: &UnitEntry, command: Option<Position>, at: Position, report: &mut Report<'_>) {
    match &entry.name {
        UnitFileName::Network(name) => report.warn(
            at,
            format!("`{name}` is written, but nothing reads it"),
            "links are configured by DHCP and by router advertisements".to_owned(),
        ),
        UnitFileName::Unit(name) if name.is_template() && entry.command.is_some() => report.error(
            command.unwrap_or(at),
            format!("`{name}` is a template, which cannot be started"),
            format!("name an instance: `{}@1.{}`", name.prefix(), name.kind().suffix()),
        ),
        UnitFileName::Unit(_) if entry.is_masked && entry.is_enabled => {
            report.warn(at, "the unit is masked, so that `enable` does nothing", None)
        }
        UnitFileName::Unit(_) => {}
    }
    if entry.is_masked && entry.content.is_some() {
        let hint = "masking replaces the file by a link to /dev/null".to_owned();
        report.warn(at, "the unit is masked, so that its `content` is not used", hint);
    }
}

fn unit_name(name: &At<String>, report: &mut Report<'_>) -> Option<UnitFileName> {
    const NETWORK: [&str; 3] = [".network", ".netdev", ".link"];
    let text = &name.value;
    let is_file_name = !text.contains('/') && text.len() <= 255 && text.len() > 8;
    if is_file_name && NETWORK.iter().any(|suffix| text.ends_with(suffix)) {
        return Some(UnitFileName::Network(text.clone()));
    }
    match UnitName::parse(text) {
        Ok(name) => Some(UnitFileName::Unit(name)),
        Err(error) => {
            let hint = (!text.contains('.')).then(|| format!("did you mean `{text}.service`?"));
            report.error(name.at, error.to_string(), hint);
            None
        }
    }
}

fn command(node: &Node, name: &str, report: &mut Report<'_>) -> Option<At<UnitCommand>> {
    let words: Vec<&str> = COMMANDS.iter().map(|(word, _)| *word).collect();
    let word = one_of(node, name, &words, report)?;
    let (_, value) = COMMANDS.into_iter().find(|(known, _)| *known == word)?;
    Some(At { value, at: node.at })
}

fn drop_ins(
    fields: &mut Fields<'_>,
    unit: Option<&UnitFileName>,
    report: &mut Report<'_>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let list_name = fields.name_of("drop_ins");
    for (index, node) in fields.list("drop_ins", report).iter().enumerate() {
        let Some(mut fields) = report.fields(node, &format!("{list_name}[{index}]"), Spelling::Lenient)
        else {
            continue;
        };
        let name = fields.text("name", report);
        let content =
            fields.node("content").map(|node| (node, report.text(node, "content").unwrap_or_default()));
        let at = fields.at();
        fields.finish(&[], report);
        let (Some(name), Some((node, content))) = (name, content) else {
            report.warn(at, "the drop-in has no name or no content, and is left out", None);
            continue;
        };
        if name.value.contains('/') || !name.value.ends_with(".conf") {
            let hint = "such as `10-local.conf`".to_owned();
            report.error(
                name.at,
                format!("`{}` is no name of a drop-in: it ends in `.conf`", name.value),
                hint,
            );
            continue;
        }
        if let Some(UnitFileName::Unit(unit)) = unit {
            unit_text::check_drop_in(unit, &content, node, report);
        }
        found.push((name.value, content));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_checked() {
        for text in ["04:00", "4:5", "Thu 23:00", "Thursday 04:00", "mon 00:00"] {
            assert!(is_window_start(text), "{text}");
        }
        for text in ["", "24:00", "4", "xyz 04:00", "04:60", "004:00"] {
            assert!(!is_window_start(text), "{text}");
        }
        for text in ["1h", "1h30m", "90m", "1.5h", "10s"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "1", "h", "1d", "1h 30m"] {
            assert!(!is_duration(text), "{text}");
        }
    }
}
