//! What people and scripts see of the machines: a page without scripts, and the same as JSON. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::Response;
use serde::Serialize;

use super::groups::Groups;
use super::store::Entry;
use crate::channel::metadata::Date;
use crate::channel::report::MachineState;

/// Rows of machines on the page; JSON has all of them.
const ROWS: usize = 500;
/// A machine that was silent for so many seconds is shown as silent: engines report at least hourly.
const SILENT: u64 = 3 * 3600;

/// How many machines of a group run a version and are in a state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Count {
    /// The group.
    pub group: String,
    /// The version that runs.
    pub version: String,
    /// What the engine is doing.
    pub state: MachineState,
    /// How many.
    pub machines: usize,
}

/// All machines in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// How many machines have ever reported.
    pub machines: usize,
    /// How many have not for three hours.
    pub silent: usize,
    /// How many have an error.
    pub with_errors: usize,
    /// How many came back from a release.
    pub with_rollbacks: usize,
    /// By group, version and state.
    pub counts: Vec<Count>,
    /// Releases that machines came back from, and how many did.
    pub rollbacks: BTreeMap<String, usize>,
    /// What the server withholds.
    pub groups: Groups,
}

impl Status {
    /// Counts.
    pub fn new(entries: &[Entry], groups: Groups, now: u64) -> Self {
        let mut counts: BTreeMap<(String, String, MachineState), usize> = BTreeMap::new();
        let mut rollbacks = BTreeMap::new();
        for entry in entries {
            let report = &entry.report;
            *counts.entry((report.group.clone(), report.version.clone(), report.state)).or_default() += 1;
            let mut versions: Vec<&str> =
                report.rollbacks.iter().map(|rollback| rollback.version.as_str()).collect();
            versions.sort_unstable();
            versions.dedup();
            for version in versions {
                *rollbacks.entry(version.to_owned()).or_default() += 1;
            }
        }
        let count = |wanted: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
        Self {
            machines: entries.len(),
            silent: count(&|entry| now.saturating_sub(entry.last_seen) > SILENT),
            with_errors: count(&|entry| entry.report.last_error.is_some()),
            with_rollbacks: count(&|entry| !entry.report.rollbacks.is_empty()),
            counts: counts
                .into_iter()
                .map(|((group, version, state), machines)| Count { group, version, state, machines })
                .collect(),
            rollbacks,
            groups,
        }
    }

    /// The page.
    pub fn html(&self, entries: &[Entry], now: u64) -> String {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Channel server</title>\n\
             <meta http-equiv=\"refresh\" content=\"30\"><style>\
             body{font:15px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin:1em 0}\
             td,th{padding:.2em 1em .2em 0;text-align:left;border-bottom:1px solid #ccc;vertical-align:top}\
             .bad{color:#a00}code{font-size:13px}</style></head><body>\n<h1>Machines</h1>\n",
        );
        // Writing into a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "<p>{} machines, {} silent for three hours, {} with an error, {} came back from a release. \
             <a href=\"v1/status\">status</a> and <a href=\"v1/machines\">machines</a> as JSON.</p>",
            self.machines, self.silent, self.with_errors, self.with_rollbacks
        );
        let counts = self.counts.iter().map(|count| {
            [count.group.clone(), count.version.clone(), state(count.state), count.machines.to_string()]
        });
        table(&mut page, ["group", "version", "state", "machines"], counts);
        if !self.rollbacks.is_empty() {
            page.push_str("<h2>Came back from</h2>\n");
            let rows =
                self.rollbacks.iter().map(|(version, machines)| [version.clone(), machines.to_string()]);
            table(&mut page, ["version", "machines"], rows);
        }
        if !self.groups.is_empty() {
            page.push_str("<h2>Withheld</h2>\n");
            let rows = self.groups.iter().map(|(name, group)| {
                let state =
                    if group.stopped { "stopped".to_owned() } else { format!("{} %", group.percentage) };
                [name.to_string(), state, group.reason.clone().unwrap_or_default()]
            });
            table(&mut page, ["group", "goes on with", "reason"], rows);
        }
        page.push_str("<h2>Last reports</h2>\n");
        let mut newest: Vec<&Entry> = entries.iter().collect();
        newest.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then(a.report.machine.cmp(&b.report.machine)));
        let rows = newest.iter().take(ROWS).map(|entry| machine(entry, now));
        table(
            &mut page,
            ["machine", "seen", "group", "version", "state", "next", "error", "came back from"],
            rows,
        );
        if newest.len() > ROWS {
            let _ = writeln!(page, "<p>and {} more</p>", newest.len() - ROWS);
        }
        page.push_str("</body></html>\n");
        page
    }
}

fn machine(entry: &Entry, now: u64) -> [String; 8] {
    let report = &entry.report;
    let error = report.last_error.as_ref().map(|error| format!("{}: {}", error.kind, error.message));
    let rollbacks: Vec<String> = report
        .rollbacks
        .iter()
        .map(|rollback| format!("{} ({})", rollback.version, rollback.reason))
        .collect();
    let seen = Date::from_unix(entry.last_seen).map(|date| date.to_string()).unwrap_or_default();
    let silent = if now.saturating_sub(entry.last_seen) > SILENT { " (silent)" } else { "" };
    [
        report.machine.clone(),
        format!("{seen}{silent}"),
        report.group.clone(),
        report.version.clone(),
        state(report.state),
        report.target_version.clone().unwrap_or_default(),
        error.unwrap_or_default(),
        rollbacks.join(", "),
    ]
}

fn state(state: MachineState) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn table<const N: usize>(page: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    page.push_str("<table><tr>");
    for cell in head {
        let _ = write!(page, "<th>{}</th>", escape(cell));
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

/// Text for HTML: machines say what they like.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Whatever a machine may have smuggled in: nothing runs, nothing is loaded.
    let policy =
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    response
}

/// A page.
pub fn html(page: String) -> Response {
    response(StatusCode::OK, "text/html; charset=utf-8", page)
}

/// A line of text.
pub fn plain(status: StatusCode, text: &str) -> Response {
    response(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A JSON document.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => response(StatusCode::OK, "application/json", bytes),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::report::{LastError, Report, Rollback};

    #[test]
    fn what_machines_say_is_text_and_nothing_else() {
        let evil = "<script>alert(1)</script>\"'&";
        let report = Report {
            schema: 1,
            machine: "0".repeat(32),
            product: "ferrite".to_owned(),
            architecture: "x86_64".to_owned(),
            group: "stable".to_owned(),
            version: "1.0.0".to_owned(),
            target_version: None,
            state: MachineState::Error,
            last_error: Some(LastError { kind: "hash".to_owned(), message: evil.to_owned(), at: 1 }),
            rollbacks: vec![Rollback {
                version: "1.1.0".to_owned(),
                root_hash: String::new(),
                reason: evil.to_owned(),
                at: 1,
            }],
        };
        let entries = [Entry { first_seen: 1, last_seen: 1, reports: 1, report }];
        let status = Status::new(&entries, Groups::new(), SILENT + 2);
        assert_eq!((status.machines, status.silent, status.with_errors, status.with_rollbacks), (1, 1, 1, 1));
        assert_eq!(status.rollbacks, BTreeMap::from([("1.1.0".to_owned(), 1)]));
        let page = status.html(&entries, SILENT + 2);
        assert!(
            !page.contains("<script")
                && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"),
            "{page}"
        );
        assert!(page.contains("1970-01-01T00:00:01Z (silent)"));
    }
}
