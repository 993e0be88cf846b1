//! etcd's JSON gateway for tests, in front of the model that is checked against the real etcd: ranges, transactions, leases that end
//! when a test says so, watches that are resumed.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kv::model::{Refusal, Store};
use kv::{Compare, Event, KeyRange, Op, Transaction};
use scheduler::api::http::read_request;
use serde_json::{Value, json};

#[derive(Default)]
struct Member {
    store: Store,
    last_lease: i64,
    is_away: bool,
    calls: Vec<String>,
}

#[derive(Default)]
struct Inner {
    member: Mutex<Member>,
    changed: Condvar,
}

impl Inner {
    fn member(&self) -> MutexGuard<'_, Member> {
        self.member.lock().unwrap()
    }

    /// An answer, or an error's code and message.
    fn commit(&self, transaction: &Transaction) -> Result<Value, (i32, &'static str)> {
        let mut member = self.member();
        let result = member.store.commit(transaction).map_err(|refusal| match refusal {
            Refusal::NoLease => (5, "etcdserver: requested lease not found"),
            Refusal::Unsound => (3, "etcdserver: duplicate key given in txn request"),
        })?;
        let header = header(&member);
        drop(member);
        self.changed.notify_all();
        Ok(json!({"header": header, "succeeded": result.succeeded, "responses": []}))
    }
}

/// A cluster of one member that is not one.
#[derive(Clone)]
pub struct Etcd {
    pub url: String,
    inner: Arc<Inner>,
}

impl Etcd {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner: Arc<Inner> = Arc::default();
        let own = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, inner) = (stream.unwrap(), Arc::clone(&own));
                thread::spawn(move || serve(&inner, stream));
            }
        });
        Self { url, inner }
    }

    /// Whether it answers, from now on. Streams that are open end.
    pub fn let_answer(&self, answers: bool) {
        self.inner.member().is_away = !answers;
        self.inner.changed.notify_all();
    }

    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.inner
            .commit(&Transaction { success: vec![Op::put(key, value)], ..Transaction::default() })
            .unwrap();
    }

    /// The same, on a lease that nobody renews or ends.
    pub fn put_leased(&self, key: &str, value: &str) {
        let mut member = self.inner.member();
        member.last_lease += 1;
        let lease = member.last_lease;
        member.store.grant(lease);
        drop(member);
        let put = Op::Put { key: key.into(), value: value.into(), lease };
        self.inner.commit(&Transaction { success: vec![put], ..Transaction::default() }).unwrap();
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<String> {
        let found = self.inner.member().store.model().range(&KeyRange::key(key)).pop();
        found.map(|kv| String::from_utf8(kv.value).unwrap())
    }

    /// What was asked for so far.
    pub fn calls(&self) -> Vec<String> {
        self.inner.member().calls.clone()
    }
}

fn header(member: &Member) -> Value {
    json!({"cluster_id": "1", "revision": member.store.model().revision().to_string()})
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap_or_default()).unwrap()
}

fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64().unwrap_or(0), |text| text.parse().unwrap())
}

fn range(request: &Value) -> KeyRange {
    let (key, end) = (bytes(&request["key"]), bytes(&request["range_end"]));
    if end.is_empty() { KeyRange::key(key) } else { KeyRange::between(key, end) }
}

fn compare(value: &Value) -> Compare {
    match (value["target"].as_str().unwrap(), value["result"].as_str().unwrap()) {
        ("MOD", "EQUAL") => Compare::unchanged(bytes(&value["key"]), number(&value["mod_revision"])),
        ("VALUE", "EQUAL") => Compare::holds(bytes(&value["key"]), bytes(&value["value"])),
        ("MOD", "LESS") => Compare::none_newer(range(value), number(&value["mod_revision"]) - 1),
        other => panic!("{other:?}"),
    }
}

fn step(value: &Value) -> Op {
    if let Some(put) = value.get("request_put") {
        Op::Put { key: bytes(&put["key"]), value: bytes(&put["value"]), lease: number(&put["lease"]) }
    } else if let Some(delete) = value.get("request_delete_range") {
        Op::Delete(range(delete))
    } else {
        Op::Range(range(&value["request_range"]))
    }
}

fn serve(inner: &Inner, mut stream: TcpStream) {
    let Ok(request) = read_request(&mut stream) else { return };
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    {
        let mut member = inner.member();
        if member.is_away {
            return;
        }
        member.calls.push(request.path.clone());
    }
    // Whoever has gone does not want the answer.
    let _gone = match request.path.as_str() {
        "/v3/watch" => watch(inner, &mut stream, &body["create_request"]),
        path => {
            let (status, answer) = match answer(inner, path, &body) {
                Ok(answer) => (200, answer),
                Err((code, message)) => (400, json!({"code": code, "message": message})),
            };
            let text = answer.to_string();
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            )
        }
    };
}

fn answer(inner: &Inner, path: &str, body: &Value) -> Result<Value, (i32, &'static str)> {
    let id = number(&body["ID"]);
    match path {
        "/v3/kv/range" => {
            let member = inner.member();
            let (mut kvs, limit) = (member.store.model().range(&range(body)), number(&body["limit"]));
            let most = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap() };
            let more = kvs.len() > most;
            kvs.truncate(most);
            Ok(json!({"header": header(&member), "kvs": kvs, "more": more}))
        }
        "/v3/kv/txn" => {
            let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
            let steps = |name: &str| list(name).iter().map(step).collect();
            let compare = list("compare").iter().map(compare).collect();
            inner.commit(&Transaction { compare, success: steps("success"), failure: steps("failure") })
        }
        "/v3/lease/grant" => {
            let mut member = inner.member();
            member.last_lease += 1;
            let id = member.last_lease;
            member.store.grant(id);
            Ok(json!({"ID": id.to_string(), "TTL": body["TTL"]}))
        }
        "/v3/lease/keepalive" => {
            let ttl = if inner.member().store.knows(id) { "30" } else { "0" };
            Ok(json!({"result": {"ID": id.to_string(), "TTL": ttl}}))
        }
        "/v3/lease/revoke" => {
            let mut member = inner.member();
            member.store.end(id);
            let header = header(&member);
            drop(member);
            inner.changed.notify_all();
            Ok(json!({"header": header}))
        }
        other => panic!("{other}"),
    }
}

fn watch(inner: &Inner, stream: &mut TcpStream, request: &Value) -> std::io::Result<()> {
    let (range, mut next) = (range(request), number(&request["start_revision"]));
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    writeln!(stream, "{}", json!({"result": {"header": header(&inner.member()), "created": true}}))?;
    loop {
        let message = {
            let wait = |member: &mut Member| !member.is_away && member.store.model().revision() < next;
            let (member, _) =
                inner.changed.wait_timeout_while(inner.member(), Duration::from_secs(1), wait).unwrap();
            if member.is_away {
                return Ok(());
            }
            // Nothing is ever compacted here.
            let news = member.store.since(next).unwrap_or_default().iter().flat_map(|(_, events)| events);
            let events: Vec<&Event> = news.filter(|event| range.contains(&event.kv.key)).collect();
            next = member.store.model().revision() + 1;
            json!({"result": {"header": header(&member), "events": events}})
        };
        writeln!(stream, "{message}")?;
    }
}
