use std::collections::BTreeMap;

use kv::KeyRange;
use kv::model::Model;
use kv::watch::Update;
use serde_json::{Value, json};

use super::*;
use crate::keys::Keys;
use crate::node::{Input, Output, Record, Settings};

/// A machine that is alone with etcd.
struct Alone {
    node: Node,
    model: Model,
    limit: u16,
}

impl Alone {
    fn new() -> Self {
        let settings = Settings {
            id: "m1".to_owned(),
            public_ip: "10.0.0.1".to_owned(),
            metadata: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
            version: "1".to_owned(),
            ttl: 30_000,
            grace: 10_000,
            engine: true,
        };
        let mut alone = Self {
            node: Node::new(settings, Keys::default(), Record::default()),
            model: Model::default(),
            limit: 100,
        };
        assert_eq!(alone.call("GET", "/fleet/v1/machines", None).0, 503);
        alone.node.handle(1, 0, Input::Inventory(BTreeMap::new()));
        alone.poll();
        alone
    }

    /// Until there is nothing to do. Tasks for PID 1 stay undone.
    fn poll(&mut self) {
        for step in 0..20 {
            let now = 1_000 + step * 200;
            self.look(now);
            for output in self.node.poll(now) {
                match output {
                    Output::Grant(ttl) => {
                        self.node.handle(now, 0, Input::Granted { sent: now, answer: Some((7, ttl)) })
                    }
                    Output::Commit(who, transaction) => {
                        let result = self.model.transact(&transaction).unwrap();
                        assert!(result.succeeded);
                        let done = crate::node::Outcome::Done(result.revision);
                        self.node.handle(now, 0, Input::Committed(who, done));
                    }
                    _ => {}
                }
            }
        }
    }

    fn look(&mut self, now: u64) {
        let kvs = self.model.range(&KeyRange::prefix(""));
        let update = Update::Snapshot { kvs, revision: self.model.revision() };
        self.node.handle(now, 0, Input::News(update));
    }

    fn ask(&mut self, request: &Request) -> (u16, Value) {
        let response = match answer(&self.node, 5_000, self.limit, request) {
            Reply::Done(response) => response,
            Reply::Commit(transaction, response) => {
                assert!(self.model.transact(&transaction).unwrap().succeeded);
                self.look(5_000);
                response
            }
        };
        (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }

    fn call(&mut self, method: &str, target: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let text = format!(
            "{method} {target} HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.ask(&http::read_request(&mut text.as_bytes()).unwrap())
    }

    fn message(&mut self, method: &str, target: &str, body: Option<Value>) -> (u16, String) {
        let (status, value) = self.call(method, target, body);
        (status, value["error"]["message"].as_str().unwrap_or("none").to_owned())
    }
}

fn options(section: &str, name: &str, value: &str) -> Value {
    json!([{"section": "Service", "name": "ExecStart", "value": "/bin/true"}, {"section": section, "name": name, "value": value}])
}

#[test]
fn units_are_made_changed_and_destroyed() {
    let mut alone = Alone::new();
    let unit = "/fleet/v1/units/a.service";
    assert_eq!(alone.call("GET", "/fleet/v1/units", None), (200, json!({})));
    assert_eq!(alone.message("GET", unit, None), (404, "unit does not exist".to_owned()));
    assert_eq!(
        alone.message("PUT", unit, Some(json!({"desiredState": "launched"}))),
        (409, "unit does not exist and options field empty".to_owned())
    );
    let body = json!({"name": "a.service", "options": options("Unit", "Description", "x")});
    assert_eq!(alone.call("PUT", unit, Some(body.clone())).0, 201);
    let (status, read) = alone.call("GET", unit, None);
    assert_eq!(
        (status, &read["desiredState"], &read["currentState"]),
        (200, &json!("inactive"), &json!("inactive"))
    );
    assert_eq!(read["options"], body["options"]);
    assert_eq!(alone.message("PUT", unit, Some(body)).0, 409);
    assert_eq!(alone.call("PUT", unit, Some(json!({"desiredState": "loaded"}))).0, 204);
    assert_eq!(alone.message("PUT", unit, Some(json!({"desiredState": "gone"}))).0, 400);
    let other = json!({"desiredState": "launched", "options": options("Unit", "Description", "y")});
    assert_eq!(alone.call("PUT", unit, Some(other)).0, 201);
    let (_, read) = alone.call("GET", "/v1-alpha/units/a.service", None);
    assert_eq!((&read["desiredState"], &read["options"][1]["value"]), (&json!("launched"), &json!("y")));
    assert_eq!(alone.call("DELETE", unit, None).0, 204);
    assert_eq!(alone.call("DELETE", unit, None).0, 404);
}

#[test]
fn what_is_no_unit_is_refused_in_fleets_words() {
    let mut alone = Alone::new();
    let put = |alone: &mut Alone, name: &str, body: Value| {
        alone.message("PUT", &format!("/fleet/v1/units/{name}"), Some(body))
    };
    let cases = [
        ("a", json!({"options": options("Unit", "A", "b")}), "is no unit name"),
        (
            "a.service",
            json!({"name": "b.service", "options": options("Unit", "A", "b")}),
            "differs from name in body",
        ),
        (
            "a.service",
            json!({"options": [
            {"section": "X-Fleet", "name": "MachineID", "value": "m"}, {"section": "X-Fleet", "name": "Global", "value": "true"}]}),
            "MachineID cannot be used with Global",
        ),
        (
            "a@.service",
            json!({"desiredState": "launched", "options": options("Unit", "A", "b")}),
            "cannot activate template \"a@.service\"",
        ),
        ("a.service", json!({"options": options("Unit", "A\nB", "b")}), "the line has no `=`: A"),
        ("a.service", json!([1]), "unable to decode body"),
    ];
    for (name, body, want) in cases {
        let (status, message) = put(&mut alone, name, body);
        assert!(status == 400 && message.contains(want), "{name}: {status} {message}");
    }
    let request =
        Request { method: "PUT".into(), path: "/fleet/v1/units/a.service".into(), ..Request::default() };
    assert_eq!(alone.ask(&request).0, 415);
}

/// Complaint 3: a unit that fits nowhere says why.
#[test]
fn a_unit_that_fits_nowhere_says_why() {
    let mut alone = Alone::new();
    let body =
        json!({"desiredState": "launched", "options": options("X-Fleet", "MachineMetadata", "disk=hdd")});
    alone.call("PUT", "/fleet/v1/units/a.service", Some(body));
    let (_, read) = alone.call("GET", "/fleet/v1/units/a.service", None);
    assert_eq!(read["reason"], "m1: metadata disk is ssd, not hdd");
    let (_, read) = alone.call("GET", "/fleet/v1/units", None);
    assert_eq!(read["units"][0]["reason"], "m1: metadata disk is ssd, not hdd");
}

/// Scenario 14, MachinesList; 16, MachinesPatchAddModify; 17, MachinesPatchDelete.
#[test]
fn machines_are_listed_and_their_metadata_is_patched() {
    let mut alone = Alone::new();
    let list = "/fleet/v1/machines";
    let metadata = |alone: &mut Alone| alone.call("GET", list, None).1["machines"][0]["metadata"].clone();
    assert_eq!(
        alone.call("GET", list, None),
        (200, json!({"machines": [{"id": "m1", "primaryIP": "10.0.0.1", "metadata": {"disk": "ssd"}}]}))
    );
    let add = json!([
        {"op": "add", "path": "/m1/metadata/foo", "value": "bar"},
        {"op": "replace", "path": "/m1/metadata/disk", "value": {"value": "hdd"}},
    ]);
    assert_eq!(alone.call("PATCH", list, Some(add)).0, 204);
    assert_eq!(metadata(&mut alone), json!({"disk": "hdd", "foo": "bar"}));
    let remove =
        json!([{"op": "remove", "path": "/m1/metadata/foo"}, {"op": "remove", "path": "/m1/metadata/disk"}]);
    assert_eq!(alone.call("PATCH", list, Some(remove)).0, 204);
    assert_eq!(metadata(&mut alone), Value::Null);
}

/// Scenario 18, MachinesPatchBad: nothing of a patch counts if a part of it is wrong.
#[test]
fn bad_patches_are_refused() {
    let mut alone = Alone::new();
    let good = json!({"op": "add", "path": "/m1/metadata/foo", "value": "bar"});
    for (bad, want) in [
        (
            json!({"op": "noop", "path": "/m1/metadata/foo", "value": "bar"}),
            "invalid op: expect add, remove, or replace",
        ),
        (json!({"op": "add", "path": "/m1/foo", "value": "bar"}), "machine metadata path invalid"),
        (json!({"op": "add", "path": "/m1/metadata/a b", "value": "bar"}), "machine metadata path invalid"),
        (
            json!({"op": "add", "path": "/m1/metadata/foo", "value": ""}),
            "invalid value: add and replace require a value",
        ),
        (json!({"op": "add", "path": "/m1/metadata/foo"}), "invalid value: add and replace require a value"),
    ] {
        let told = alone.message("PATCH", "/fleet/v1/machines", Some(json!([good, bad])));
        assert_eq!(told, (400, want.to_owned()));
    }
    assert_eq!(
        alone.call("GET", "/fleet/v1/machines", None).1["machines"][0]["metadata"],
        json!({"disk": "ssd"})
    );
}

/// Scenario 15, MachinesListBadNextPageToken; and lists come in pages.
#[test]
fn lists_come_in_pages() {
    let mut alone = Alone::new();
    alone.limit = 2;
    for number in 0..4 {
        let body = json!({"options": options("Unit", "A", "b")});
        alone.call("PUT", &format!("/fleet/v1/units/u{number}.service"), Some(body));
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let (status, page) = alone.call("GET", &format!("/fleet/v1/units?nextPageToken={token}"), None);
        assert_eq!(status, 200);
        names.extend(
            page["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["nextPageToken"].as_str() else { break };
        next.clone_into(&mut token);
    }
    assert_eq!(names, ["u0.service", "u1.service", "u2.service", "u3.service"]);
    for (query, want) in [
        ("nextPageToken=*", "page token is no base64"),
        ("nextPageToken=ZAAB", "page token has another length"),
        ("nextPageToken=AwABAA==", "token limit must be 2"),
        ("nextPageToken=AgAAAA==", "page must be 1 or more"),
        ("nextPageToken=a&nextPageToken=b", "too many values for page token"),
    ] {
        assert_eq!(
            alone.message("GET", &format!("/fleet/v1/machines?{query}"), None),
            (400, want.to_owned()),
            "{query}"
        );
    }
}

#[test]
fn other_methods_and_paths_are_refused() {
    let mut alone = Alone::new();
    for (method, path, status) in [
        ("GET", "/", 405),
        ("GET", "/fleet/v1", 405),
        ("GET", "/fleet/v2/units", 404),
        ("GET", "/fleet/v1/colours", 404),
        ("POST", "/fleet/v1/units", 405),
        ("PUT", "/fleet/v1/state", 405),
        ("GET", "/fleet/v1/state/a.service", 404),
        ("DELETE", "/fleet/v1/machines", 405),
        ("PUT", "/fleet/v1/machines/m9/drain", 404),
        ("GET", "/fleet/v1/discovery", 200),
        ("GET", "/fleet/v1/state", 200),
    ] {
        assert_eq!(alone.call(method, path, None).0, status, "{method} {path}");
    }
    assert_eq!(alone.call("PUT", "/fleet/v1/machines/m1/drain", None).0, 204);
    assert_eq!(alone.call("GET", "/fleet/v1/machines", None).1["machines"][0]["draining"], "drained");
    assert_eq!(alone.call("DELETE", "/fleet/v1/machines/m1/drain", None).0, 204);
    let Reply::Done(told) = answer(
        &alone.node,
        0,
        9,
        &Request { method: "GET".into(), path: "/metrics".into(), ..Request::default() },
    ) else {
        panic!()
    };
    assert!(
        String::from_utf8(told.body)
            .unwrap()
            .contains("fleet_engine_task_count_total{type=\"unscheduleunit\"} 0\n")
    );
}
