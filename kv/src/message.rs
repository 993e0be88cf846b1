//! What is asked of etcd and what it answers, in the form of its JSON gateway (etcd API v3, `rpc.proto` and `kv.proto`): bytes in
//! base64, 64-bit numbers as strings, defaults left out.

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A revision of the whole store: each change has the next one. 0 is "none".
pub type Revision = i64;
/// A lease's number.
pub type LeaseId = i64;

/// Bytes as base64.
mod bytes {
    use super::{Deserializer, Serializer, Visitor};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    pub fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Vec<u8>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("base64")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
                STANDARD.decode(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }

    /// For `Vec<u8>` in an `Option`-like field that is left out when empty.
    pub fn is_empty(value: &[u8]) -> bool {
        value.is_empty()
    }
}

/// 64-bit numbers: strings on the way out, strings or numbers on the way in.
mod int64 {
    use super::{Deserializer, Serializer, Visitor};

    pub fn serialize<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = i64;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a whole number, maybe in quotes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<i64, E> {
                Ok(number)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<i64, E> {
                i64::try_from(number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Number)
    }

    pub fn is_zero(value: &i64) -> bool {
        *value == 0
    }
}

/// Cluster and member ids: 64 bits without a sign.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// A key with what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "bytes")]
    pub key: Vec<u8>,
    /// What it holds; empty in events of deletion.
    #[serde(with = "bytes")]
    pub value: Vec<u8>,
    /// When it was made.
    #[serde(with = "int64")]
    pub create_revision: Revision,
    /// When it was last changed, or removed.
    #[serde(with = "int64")]
    pub mod_revision: Revision,
    /// How many changes it has seen since it was made.
    #[serde(with = "int64")]
    pub version: i64,
    /// The lease that it goes away with; 0 for none.
    #[serde(with = "int64")]
    pub lease: LeaseId,
}

/// One key, or all keys that begin alike, or all between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    key: Vec<u8>,
    end: Vec<u8>,
    /// How many of them are read; 0 for all.
    most: u32,
    keys_only: bool,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), end: Vec::new(), most: 0, keys_only: false }
    }

    /// All keys that begin with `prefix`; all keys there are if it is empty.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let key: Vec<u8> = prefix.into();
        // The first key behind them: the last byte that can grow grows by one (`clientv3.GetPrefixRangeEnd`).
        let mut end = key.clone();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end = vec![0],
        }
        let key = if key.is_empty() { vec![0] } else { key };
        Self { key, end, most: 0, keys_only: false }
    }

    /// All keys from `first` on, `end` not among them.
    ///
    /// Invariant: `end` is neither empty nor a single zero byte, which mean other things to etcd.
    pub fn between(first: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { key: first.into(), end: end.into(), most: 0, keys_only: false }
    }

    /// The same, of which at most the first `most` are read (0: all). Changes and comparisons look at all of it.
    #[must_use]
    pub fn first(self, most: u32) -> Self {
        Self { most, ..self }
    }

    /// The same, read without values.
    #[must_use]
    pub fn without_values(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// Whether a key belongs to it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end.as_slice() {
            [] => key == self.key,
            [0] => key >= self.key.as_slice(),
            end => key >= self.key.as_slice() && key < end,
        }
    }

    /// The same, from the key right behind `last` on.
    pub(crate) fn after(&self, last: &[u8]) -> Self {
        let mut key = last.to_vec();
        key.push(0);
        Self { key, end: self.end.clone(), ..*self }
    }

    /// The key, or the first one.
    #[cfg(all(test, feature = "etcdctl"))]
    pub(crate) fn begin(&self) -> &[u8] {
        &self.key
    }

    /// How many of them are read; 0 for all.
    #[cfg(any(test, feature = "model"))]
    pub(crate) const fn most(&self) -> usize {
        self.most as usize
    }

    /// Whether it is one key.
    pub(crate) fn is_key(&self) -> bool {
        self.end.is_empty()
    }
}

/// What a comparison of a transaction looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compare {
    #[serde(with = "bytes")]
    key: Vec<u8>,
    #[serde(with = "bytes", skip_serializing_if = "bytes::is_empty")]
    range_end: Vec<u8>,
    target: &'static str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mod_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob>,
    #[serde(skip)]
    what: Wanted,
}

/// For models of etcd in tests, which have to judge a [`Compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The key's mod revision is this; 0: there is no such key.
    ModRevision(Revision),
    /// The key holds this.
    Value(Vec<u8>),
    /// No key of the range was changed after the revision.
    NoneNewer(KeyRange, Revision),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Blob(#[serde(with = "bytes")] Vec<u8>);

impl Compare {
    /// The key was last changed at `revision`; 0 means that there is no such key.
    pub fn unchanged(key: impl Into<Vec<u8>>, revision: Revision) -> Self {
        Self {
            key: key.into(),
            range_end: Vec::new(),
            target: "MOD",
            result: "EQUAL",
            mod_revision: Some(revision.to_string()),
            value: None,
            what: Wanted::ModRevision(revision),
        }
    }

    /// There is no such key.
    pub fn absent(key: impl Into<Vec<u8>>) -> Self {
        Self::unchanged(key, 0)
    }

    /// The key holds `value`.
    pub fn holds(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        Self {
            key: key.into(),
            range_end: Vec::new(),
            target: "VALUE",
            result: "EQUAL",
            mod_revision: None,
            value: Some(Blob(value.clone())),
            what: Wanted::Value(value),
        }
    }

    /// No key of the range was made or changed after `revision`; 0 means that there is none in it. Keys that have been removed since
    /// are not noticed.
    #[must_use]
    pub fn none_newer(range: KeyRange, revision: Revision) -> Self {
        Self {
            key: range.key.clone(),
            range_end: range.end.clone(),
            target: "MOD",
            result: "LESS",
            mod_revision: Some(revision.saturating_add(1).to_string()),
            value: None,
            what: Wanted::NoneNewer(range, revision),
        }
    }

    /// The key (of a range the first), and what is wanted of it.
    #[must_use]
    pub fn parts(&self) -> (&[u8], &Wanted) {
        (&self.key, &self.what)
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// Which.
        key: Vec<u8>,
        /// To what.
        value: Vec<u8>,
        /// With which lease; 0 for none.
        lease: LeaseId,
    },
    /// Removes keys.
    Delete(KeyRange),
    /// Reads keys.
    Range(KeyRange),
}

impl Op {
    /// Sets a key, without a lease.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: 0 }
    }
}

/// All of `success` if all of `compare` holds, else all of `failure`; nobody else's changes come in between. No key may be put
/// twice in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Conditions.
    pub compare: Vec<Compare>,
    /// Steps if all of them hold.
    pub success: Vec<Op>,
    /// Steps otherwise.
    pub failure: Vec<Op>,
}

impl Transaction {
    /// Whether it changes nothing, whatever holds.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// It is set.
    Put,
    /// So many keys are gone.
    Delete(i64),
    /// What there is.
    Range(Vec<KeyValue>),
}

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionResult {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The store's revision afterwards.
    pub revision: Revision,
    /// Of the steps that were taken.
    pub results: Vec<OpResult>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// It was set.
    #[default]
    Put,
    /// It was removed, or its lease ended.
    Delete,
}

/// A change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// What kind.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The key; `mod_revision` is the change's revision.
    pub kv: KeyValue,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Header {
    #[serde(deserialize_with = "id")]
    pub cluster_id: u64,
    #[serde(with = "int64")]
    pub revision: Revision,
}

#[derive(Debug, Serialize)]
pub(crate) struct RangeRequest<'a> {
    #[serde(with = "bytes")]
    pub key: &'a [u8],
    #[serde(with = "bytes", skip_serializing_if = "bytes::is_empty")]
    pub range_end: &'a [u8],
    #[serde(with = "int64", skip_serializing_if = "int64::is_zero")]
    pub limit: i64,
    #[serde(with = "int64", skip_serializing_if = "int64::is_zero")]
    pub revision: Revision,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub serializable: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keys_only: bool,
}

impl<'a> RangeRequest<'a> {
    pub fn of(range: &'a KeyRange) -> Self {
        Self {
            key: &range.key,
            range_end: &range.end,
            limit: range.most.into(),
            revision: 0,
            serializable: false,
            keys_only: range.keys_only,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RangeResponse {
    pub header: Header,
    pub kvs: Vec<KeyValue>,
    pub more: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct PutRequest<'a> {
    #[serde(with = "bytes")]
    pub key: &'a [u8],
    #[serde(with = "bytes")]
    pub value: &'a [u8],
    #[serde(with = "int64", skip_serializing_if = "int64::is_zero")]
    pub lease: LeaseId,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeleteRequest<'a> {
    #[serde(with = "bytes")]
    pub key: &'a [u8],
    #[serde(with = "bytes", skip_serializing_if = "bytes::is_empty")]
    pub range_end: &'a [u8],
}

impl<'a> DeleteRequest<'a> {
    pub fn of(range: &'a KeyRange) -> Self {
        Self { key: &range.key, range_end: &range.end }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteResponse {
    pub header: Header,
    #[serde(with = "int64")]
    pub deleted: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HeaderResponse {
    pub header: Header,
}

#[derive(Serialize)]
pub(crate) enum OpRequest<'a> {
    #[serde(rename = "request_put")]
    Put(PutRequest<'a>),
    #[serde(rename = "request_delete_range")]
    Delete(DeleteRequest<'a>),
    #[serde(rename = "request_range")]
    Range(RangeRequest<'a>),
}

impl<'a> From<&'a Op> for OpRequest<'a> {
    fn from(op: &'a Op) -> Self {
        match op {
            Op::Put { key, value, lease } => Self::Put(PutRequest { key, value, lease: *lease }),
            Op::Delete(range) => Self::Delete(DeleteRequest::of(range)),
            Op::Range(range) => Self::Range(RangeRequest::of(range)),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct TransactionRequest<'a> {
    compare: &'a [Compare],
    success: Vec<OpRequest<'a>>,
    failure: Vec<OpRequest<'a>>,
}

impl<'a> From<&'a Transaction> for TransactionRequest<'a> {
    fn from(transaction: &'a Transaction) -> Self {
        let steps = |ops: &'a [Op]| ops.iter().map(OpRequest::from).collect();
        Self {
            compare: &transaction.compare,
            success: steps(&transaction.success),
            failure: steps(&transaction.failure),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TransactionResponse {
    header: Header,
    succeeded: bool,
    responses: Vec<OpResponse>,
}

#[derive(Debug, Deserialize)]
enum OpResponse {
    #[serde(rename = "response_put", alias = "responsePut")]
    Put(serde::de::IgnoredAny),
    #[serde(rename = "response_delete_range", alias = "responseDeleteRange")]
    Delete(DeleteResponse),
    #[serde(rename = "response_range", alias = "responseRange")]
    Range(RangeResponse),
}

impl From<TransactionResponse> for TransactionResult {
    fn from(response: TransactionResponse) -> Self {
        let results = response.responses.into_iter().map(|response| match response {
            OpResponse::Put(_) => OpResult::Put,
            OpResponse::Delete(deleted) => OpResult::Delete(deleted.deleted),
            OpResponse::Range(range) => OpResult::Range(range.kvs),
        });
        Self { succeeded: response.succeeded, revision: response.header.revision, results: results.collect() }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    #[serde(rename = "ID", with = "int64", skip_serializing_if = "int64::is_zero")]
    pub id: LeaseId,
    /// Seconds.
    #[serde(rename = "TTL", with = "int64", skip_serializing_if = "int64::is_zero")]
    pub ttl: i64,
}

#[derive(Debug, Serialize)]
pub(crate) struct TimeToLiveRequest {
    #[serde(rename = "ID", with = "int64")]
    pub id: LeaseId,
}

/// How long a lease lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TimeToLive {
    /// Seconds that are left, rounded down; -1 when there is no such lease.
    #[serde(rename = "TTL", with = "int64")]
    pub left: i64,
    /// Seconds that it was granted for.
    #[serde(rename = "grantedTTL", with = "int64")]
    pub granted: i64,
}

/// A message of a stream: a result, or an error that ends it.
#[derive(Debug, Deserialize)]
pub(crate) struct Streamed<T> {
    pub result: Option<T>,
    pub error: Option<ErrorBody>,
}

/// The body of an answer that is an error; the same in both generations of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorBody {
    #[serde(alias = "grpc_code")]
    pub code: i32,
    pub message: String,
}

/// A message of a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WatchMessage {
    pub(crate) header: Header,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    #[serde(with = "int64")]
    pub(crate) compact_revision: Revision,
    pub(crate) cancel_reason: String,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Serialize)]
pub(crate) struct WatchRequest<'a> {
    pub create_request: WatchCreate<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct WatchCreate<'a> {
    #[serde(with = "bytes")]
    key: &'a [u8],
    #[serde(with = "bytes", skip_serializing_if = "bytes::is_empty")]
    range_end: &'a [u8],
    #[serde(with = "int64")]
    start_revision: Revision,
    progress_notify: bool,
}

impl<'a> WatchCreate<'a> {
    pub fn of(range: &'a KeyRange, start_revision: Revision) -> Self {
        Self { key: &range.key, range_end: &range.end, start_revision, progress_notify: true }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Authenticate<'a> {
    pub name: &'a str,
    pub password: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Token {
    pub token: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_the_real_gateway_are_understood() {
        let range: RangeResponse = serde_json::from_str(
            r#"{"header":{"cluster_id":"14841639068965178418", "member_id":"10276657743932975437", "revision":"2", "raft_term":"2"},
                "kvs":[{"key":"YQ==", "create_revision":"2", "mod_revision":"2", "version":"1", "value":"MQ=="}], "count":"1"}"#,
        )
        .unwrap();
        assert_eq!((range.header.cluster_id, range.header.revision), (14_841_639_068_965_178_418, 2));
        assert_eq!((range.kvs[0].key.as_slice(), range.kvs[0].value.as_slice()), (&b"a"[..], &b"1"[..]));
        let done: TransactionResponse = serde_json::from_str(
            r#"{"header":{"revision":"8"}, "succeeded":true, "responses":[{"response_put":{"header":{"revision":"8"}}},
                {"response_range":{"header":{"revision":"8"}, "kvs":[{"key":"YQ==", "mod_revision":"7"}], "count":"1"}},
                {"response_delete_range":{"header":{"revision":"8"}}}]}"#,
        )
        .unwrap();
        let done = TransactionResult::from(done);
        assert!(done.succeeded && done.results.len() == 3 && done.results[2] == OpResult::Delete(0));
        let gone: Streamed<WatchMessage> = serde_json::from_str(
            r#"{"result":{"header":{"cluster_id":"1","raft_term":"2"},"canceled":true,"compact_revision":"6"}}"#,
        )
        .unwrap();
        assert!(gone.result.is_some_and(|message| message.canceled && message.compact_revision == 6));
    }

    #[test]
    fn requests_are_what_the_gateway_takes() {
        let transaction = Transaction {
            compare: vec![Compare::unchanged("a", 7), Compare::holds("b", "x")],
            success: vec![Op::put("a", "1"), Op::Delete(KeyRange::prefix("c/"))],
            failure: vec![Op::Range(KeyRange::key("a"))],
        };
        assert_eq!(
            serde_json::to_string(&Compare::none_newer(KeyRange::between("a/", "a0"), 0)).unwrap(),
            r#"{"key":"YS8=","range_end":"YTA=","target":"MOD","result":"LESS","mod_revision":"1"}"#
        );
        assert_eq!(
            serde_json::to_string(&RangeRequest::of(&KeyRange::prefix("a/").first(2).without_values()))
                .unwrap(),
            r#"{"key":"YS8=","range_end":"YTA=","limit":"2","keys_only":true}"#
        );
        assert_eq!(
            serde_json::to_string(&TransactionRequest::from(&transaction)).unwrap(),
            r#"{"compare":[{"key":"YQ==","target":"MOD","result":"EQUAL","mod_revision":"7"},{"key":"Yg==","target":"VALUE","result":"EQUAL","value":"eA=="}],"success":[{"request_put":{"key":"YQ==","value":"MQ=="}},{"request_delete_range":{"key":"Yy8=","range_end":"YzA="}}],"failure":[{"request_range":{"key":"YQ=="}}]}"#
        );
    }

    proptest! {
        #[test]
        fn a_prefix_is_all_keys_that_begin_with_it(prefix in proptest::collection::vec(any::<u8>(), 0..4), key in proptest::collection::vec(any::<u8>(), 0..6)) {
            let range = KeyRange::prefix(prefix.clone());
            // The empty key does not exist.
            prop_assume!(!key.is_empty());
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix) , "{:?}", range);
            if range.contains(&key) {
                prop_assert!(!range.after(&key).contains(&key));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,100}", number in "\"?-?[0-9]{0,22}\"?") {
            let _ = serde_json::from_str::<RangeResponse>(&text).is_ok();
            let line = format!("{{\"result\":{{\"compact_revision\":{number},\"events\":[{{\"type\":\"{text}\"}}]}}}}");
            let _ = serde_json::from_str::<Streamed<WatchMessage>>(&line).is_ok();
        }
    }
}
