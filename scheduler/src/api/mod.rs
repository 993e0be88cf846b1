//! The HTTP API, version 1, of fleet (`/fleet/v1`, and `/v1-alpha` as it was called before), without I/O: a request and what the
//! machine knows to an answer, or to a change that is to be made first.
//!
//! More than fleet's: a unit's `reason` and a state's `problem`, and `PUT` or `DELETE /machines/<id>/drain`.

pub mod entity;
pub mod http;
mod page;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;

use kv::Transaction;
use serde::Serialize;

use self::entity::{ErrorBody, MachineEntity, MachinePage, PatchOperation, StateEntity, StatePage};
use self::http::{Request, Response};
use self::page::Page;
use crate::change;
use crate::metrics::{self, Meter};
use crate::node::{Node, Reason};
use crate::picture::Picture;

/// Who answers: a machine of the cluster, or a client that reads etcd itself.
pub trait Cluster {
    /// What is known of the cluster.
    fn picture(&self) -> &Picture;

    /// Whether it may speak for the cluster.
    fn speaks(&self) -> bool;

    /// Why units are on no machine, or on one that is away. `now`: the clock of the one who answers.
    fn reasons(&self, now: u64) -> BTreeMap<String, Reason>;

    /// Whether a machine is gone that may come back.
    fn is_anybody_away(&self) -> bool;

    /// Prometheus' text; empty if it counts nothing.
    fn metrics(&self) -> String;
}

impl Cluster for Node {
    fn picture(&self) -> &Picture {
        Self::picture(self)
    }

    fn speaks(&self) -> bool {
        self.is_registered()
    }

    fn reasons(&self, now: u64) -> BTreeMap<String, Reason> {
        Self::reasons(self, now)
    }

    fn is_anybody_away(&self) -> bool {
        Self::is_anybody_away(self)
    }

    fn metrics(&self) -> String {
        metrics::text(&self.decisions(), 0, &Meter::default())
    }
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Done(Response),
    /// A change, and the answer when it is made. If its conditions do not hold any more, the request is looked at anew.
    Commit(Transaction, Response),
}

const JSON: &str = "application/json";
const DISCOVERY: &str = include_str!("discovery.json");

fn response(status: u16, value: &impl Serialize) -> Response {
    // Plain data into memory: it does not fail.
    Response { status, content_type: JSON, body: serde_json::to_vec(value).unwrap_or_default() }
}

fn error(status: u16, message: impl Into<String>) -> Response {
    response(status, &ErrorBody::new(status, message.into()))
}

const fn empty(status: u16) -> Response {
    Response { status, content_type: JSON, body: Vec::new() }
}

/// The answer when there is no machine to speak for the cluster.
#[must_use]
pub fn unavailable() -> Response {
    error(503, "fleet server unable to communicate with etcd")
}

/// Answers a request. `now` is the cluster's clock, `limit` the entries on a page.
#[must_use]
pub fn answer(cluster: &dyn Cluster, now: u64, limit: u16, request: &Request) -> Reply {
    if request.path == "/metrics" {
        return Reply::Done(show_metrics(cluster, request));
    }
    if !cluster.speaks() {
        return Reply::Done(unavailable());
    }
    let path = ["/fleet/v1", "/v1-alpha"].iter().find_map(|prefix| {
        let rest = request.path.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    });
    let parts: Vec<&str> = match path {
        None if request.path == "/" => {
            return Reply::Done(error(405, "only the resources below /fleet/v1 are there"));
        }
        None => return Reply::Done(error(404, "")),
        Some(path) => path.split('/').filter(|part| !part.is_empty()).collect(),
    };
    let method = request.method.as_str();
    let only =
        |methods: &str| Reply::Done(error(405, format!("only {methods} supported against this resource")));
    let page = || Page::of(request, limit);
    match (parts.as_slice(), method) {
        ([], _) => Reply::Done(error(405, "only the resources below /fleet/v1 are there")),
        (["discovery"], "GET") => {
            Reply::Done(Response { status: 200, content_type: JSON, body: DISCOVERY.as_bytes().to_vec() })
        }
        (["machines"], "GET") => Reply::Done(page().map_or_else(|bad| bad, |page| machines(cluster, page))),
        (["machines"], "PATCH") => patch(cluster, request),
        (["machines", id, "drain"], "PUT" | "DELETE") => drain(cluster, id, request),
        (["units"], "GET") => {
            Reply::Done(page().map_or_else(|bad| bad, |page| units::list(cluster, now, page)))
        }
        (["units", name], "GET") => Reply::Done(units::get(cluster, now, name)),
        (["units", name], "PUT") => units::put(cluster, name, request),
        (["units", name], "DELETE") => units::delete(cluster, name),
        (["state"], "GET") => {
            Reply::Done(page().map_or_else(|bad| bad, |page| states(cluster, request, page)))
        }
        (["state", name], "GET") => Reply::Done(state(cluster, name)),
        (["machines"], _) => only("GET and PATCH"),
        (["machines", _, "drain"], _) => only("PUT and DELETE"),
        (["units", _], _) => only("GET, PUT and DELETE"),
        (["discovery" | "units" | "state"] | ["state", _], _) => only("GET"),
        _ => Reply::Done(error(404, "")),
    }
}

fn machines(cluster: &dyn Cluster, page: Page) -> Response {
    let present = cluster.picture().machines().iter().filter_map(|(id, entry)| {
        let object = entry.object.as_ref()?;
        Some(MachineEntity {
            id: id.clone(),
            primary_ip: object.value.public_ip.clone(),
            metadata: entry.merged(),
            draining: entry.drain.clone().unwrap_or_default(),
        })
    });
    let (machines, next) = page.cut(present.collect());
    response(200, &MachinePage { machines, next_page_token: next })
}

/// All operations are looked at before the first one counts.
fn patch(cluster: &dyn Cluster, request: &Request) -> Reply {
    let operations: Vec<PatchOperation> = match serde_json::from_slice(&request.body) {
        Ok(operations) => operations,
        Err(problem) => return Reply::Done(error(400, format!("unable to decode body: {problem}"))),
    };
    let mut wanted: std::collections::BTreeMap<(String, String), String> = std::collections::BTreeMap::new();
    for operation in operations {
        let PatchOperation { op, path, value } = operation;
        if !["add", "remove", "replace"].contains(&op.as_str()) {
            return Reply::Done(error(400, "invalid op: expect add, remove, or replace"));
        }
        let parts: Vec<&str> = path.split('/').collect();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let (id, key) = match parts.as_slice() {
            ["", id, "metadata", key]
                if !id.is_empty() && !key.is_empty() && key.bytes().all(plain) && id.bytes().all(plain) =>
            {
                ((*id).to_owned(), (*key).to_owned())
            }
            _ => return Reply::Done(error(400, "machine metadata path invalid")),
        };
        let value = value.map(entity::PatchValue::text).unwrap_or_default();
        if op != "remove" && value.is_empty() {
            return Reply::Done(error(400, "invalid value: add and replace require a value"));
        }
        // To remove is to hide what the machine says of itself.
        wanted.insert((id, key), if op == "remove" { String::new() } else { value });
    }
    let picture = cluster.picture();
    let success = wanted.iter().map(|((id, key), value)| change::set_metadata(picture, id, key, value));
    let transaction = Transaction { success: success.collect(), ..Transaction::default() };
    if transaction.success.is_empty() {
        Reply::Done(empty(204))
    } else {
        Reply::Commit(transaction, empty(204))
    }
}

fn drain(cluster: &dyn Cluster, id: &str, request: &Request) -> Reply {
    if cluster.picture().machine(id).is_none() && request.method == "PUT" {
        return Reply::Done(error(404, "machine does not exist"));
    }
    let why = String::from_utf8_lossy(&request.body).trim().to_owned();
    let why = if why.is_empty() { "drained" } else { &why };
    let op = change::drain(cluster.picture(), id, (request.method == "PUT").then_some(why));
    Reply::Commit(Transaction { success: vec![op], ..Transaction::default() }, empty(204))
}

fn states_of(cluster: &dyn Cluster, wanted: impl Fn(&str, &str) -> bool) -> Vec<StateEntity> {
    let mut found = Vec::new();
    for (name, job) in cluster.picture().units() {
        for (machine, state) in job.states.iter().filter(|(machine, _)| wanted(name, machine)) {
            found.push(StateEntity {
                name: name.clone(),
                hash: state.value.unit_hash.clone(),
                machine: machine.clone(),
                load: state.value.load_state.clone(),
                active: state.value.active_state.clone(),
                sub: state.value.sub_state.clone(),
                problem: state.value.problem.clone(),
            });
        }
    }
    found
}

fn states(cluster: &dyn Cluster, request: &Request, page: Page) -> Response {
    let filter = |name: &str| {
        request
            .query
            .iter()
            .find(|(other, value)| other == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let (machine, unit) = (filter("machineID"), filter("unitName"));
    let fits = |name: &str, id: &str| unit.is_none_or(|it| it == name) && machine.is_none_or(|it| it == id);
    let (states, next) = page.cut(states_of(cluster, fits));
    response(200, &StatePage { states, next_page_token: next })
}

fn state(cluster: &dyn Cluster, name: &str) -> Response {
    match states_of(cluster, |other, _| other == name).into_iter().next() {
        Some(state) => response(200, &state),
        None => error(404, "unit state does not exist"),
    }
}

/// Prometheus' text format, under fleet's names.
fn show_metrics(cluster: &dyn Cluster, request: &Request) -> Response {
    if request.method != "GET" {
        return error(405, "only GET supported against this resource");
    }
    Response { status: 200, content_type: "text/plain; version=0.0.4", body: cluster.metrics().into_bytes() }
}
