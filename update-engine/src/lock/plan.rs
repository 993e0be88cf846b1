//! From what is in etcd and what is wanted to one transaction. No I/O.
//!
//! Beside locksmith's semaphore each holder has a record of its own, `holders/ID`, which says since when and why. It is written and
//! removed in the transaction that changes the semaphore. locksmith's own clients know nothing of records and do not mind them; a
//! holder that came in by one of those has none.

use std::collections::BTreeMap;

use kv::{Compare, KeyRange, KeyValue, Op, OpResult, Revision, Transaction};
use serde::{Deserialize, Serialize};

use super::semaphore::{Semaphore, SemaphoreError};

/// Where locksmith has its keys; of etcd v2's folders the path is left.
pub const ROOT: &str = "/coreos.com/updateengine/rebootlock/";

/// The keys of one group of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    folder: String,
}

impl Keys {
    /// Of a group; the empty name is the group of all machines that name none.
    #[must_use]
    pub fn of_group(group: &str) -> Self {
        let folder =
            if group.is_empty() { ROOT.to_owned() } else { format!("{ROOT}groups/{}/", escape(group)) };
        Self { folder }
    }

    /// The semaphore's.
    #[must_use]
    pub fn semaphore(&self) -> Vec<u8> {
        format!("{}semaphore", self.folder).into_bytes()
    }

    fn records(&self) -> String {
        format!("{}holders/", self.folder)
    }

    /// A holder's record.
    #[must_use]
    pub fn record(&self, id: &str) -> Vec<u8> {
        format!("{}{}", self.records(), escape(id)).into_bytes()
    }

    /// Reads all of it, as it is at one moment.
    #[must_use]
    pub fn read(&self) -> Transaction {
        let ranges = [KeyRange::key(self.semaphore()), KeyRange::prefix(self.records())];
        Transaction { success: ranges.map(Op::Range).to_vec(), ..Transaction::default() }
    }
}

/// As Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The other way round; what is no escape stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = more.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = more;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a holder says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Unix seconds by its own clock when it took the lock.
    pub since: u64,
    /// The kernel's id of the boot in which it took it.
    pub boot: String,
    /// `update 1.1.0`, `by hand`.
    pub why: String,
    /// Why it keeps the lock although it is up: the release that it rebooted for failed. Nobody takes it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What is in etcd of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The semaphore; as the first client would make it, if there is none.
    pub semaphore: Semaphore,
    /// When it was last changed; 0 if there is none.
    pub revision: Revision,
    /// Records, and when they were last changed, by the ids of their holders.
    pub records: BTreeMap<String, (Record, Revision)>,
}

impl View {
    /// Reads what [`Keys::read`] came to.
    ///
    /// # Errors
    /// [`SemaphoreError::Damaged`]. A damaged record counts as an empty one.
    pub fn of(keys: &Keys, results: &[OpResult]) -> Result<Self, SemaphoreError> {
        let [OpResult::Range(semaphore), OpResult::Range(records)] = results else {
            return Err(SemaphoreError::Damaged("etcd answered something else than was asked".to_owned()));
        };
        Self::of_keys(keys, semaphore.first(), records)
    }

    fn of_keys(
        keys: &Keys,
        semaphore: Option<&KeyValue>,
        records: &[KeyValue],
    ) -> Result<Self, SemaphoreError> {
        let (semaphore, revision) = match semaphore {
            Some(kv) => (Semaphore::parse(&kv.value)?, kv.mod_revision),
            None => (Semaphore::default(), 0),
        };
        let folder = keys.records();
        let records = records.iter().filter_map(|kv| {
            let key = std::str::from_utf8(&kv.key).ok()?;
            let id = unescape(key.strip_prefix(&folder)?);
            Some((id, (serde_json::from_slice(&kv.value).unwrap_or_default(), kv.mod_revision)))
        });
        Ok(Self { semaphore, revision, records: records.collect() })
    }

    /// When a holder's record was last changed; 0 if it has none.
    fn record_revision(&self, id: &str) -> Revision {
        self.records.get(id).map_or(0, |(_, revision)| *revision)
    }
}

/// What is wanted of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish<'a> {
    /// To be a holder; one that is has the record renewed, which proves it.
    Take {
        /// Who.
        id: &'a str,
        /// Its record.
        record: &'a Record,
    },
    /// To be one no more.
    Release {
        /// Who.
        id: &'a str,
        /// Whether an earlier transaction may still be on its way: then one is sent even if there is nothing to release, and that
        /// one can come no more.
        fence: bool,
    },
    /// Another number of holders.
    SetMax(i64),
    /// To be a holder in the place of another one, whose record has not changed since `seen`.
    TakeOver {
        /// Who.
        id: &'a str,
        /// Its record.
        record: &'a Record,
        /// In whose place.
        from: &'a str,
        /// The revision of that one's record.
        seen: Revision,
    },
}

/// What is to be done for a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is so.
    Nothing,
    /// This. If its conditions do not hold, somebody was faster, and all has to be read again.
    Commit(Transaction),
}

/// Plans.
///
/// # Errors
/// locksmith's refusals.
pub fn plan(keys: &Keys, view: &View, wish: &Wish<'_>) -> Result<Plan, SemaphoreError> {
    let mut semaphore = view.semaphore.clone();
    let mut compare = vec![Compare::unchanged(keys.semaphore(), view.revision)];
    let mut more = Vec::new();
    let put =
        |id: &str, record: &Record| Op::put(keys.record(id), serde_json::to_vec(record).unwrap_or_default());
    match wish {
        Wish::Take { id, record } => {
            if !semaphore.is_held_by(id) {
                semaphore.lock(id)?;
            }
            more.push(put(id, record));
        }
        Wish::Release { id, fence } => match semaphore.unlock(id) {
            Ok(()) => more.push(Op::Delete(KeyRange::key(keys.record(id)))),
            Err(_) if *fence => {}
            Err(SemaphoreError::NoHolder) => return Ok(Plan::Nothing),
            Err(error) => return Err(error),
        },
        Wish::SetMax(max) => {
            semaphore.set_max(*max);
        }
        Wish::TakeOver { id, record, from, seen } => {
            if view.record_revision(from) != *seen {
                return Err(SemaphoreError::Full(semaphore.available()));
            }
            semaphore.unlock(from)?;
            // Into the place that is free now, even if `max` is lower by now: the number of holders does not grow.
            let max = semaphore.max();
            let room = i64::try_from(semaphore.holders().len()).unwrap_or(i64::MAX).saturating_add(1);
            semaphore.set_max(max.max(room));
            semaphore.lock(id)?;
            semaphore.set_max(max);
            compare.push(Compare::unchanged(keys.record(from), *seen));
            more.extend([Op::Delete(KeyRange::key(keys.record(from))), put(id, record)]);
        }
    }
    let mut success = vec![Op::put(keys.semaphore(), semaphore.to_bytes())];
    success.extend(more);
    Ok(Plan::Commit(Transaction { compare, success, failure: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_locksmiths() {
        let semaphore = |group: &str| String::from_utf8(Keys::of_group(group).semaphore()).unwrap();
        assert_eq!(semaphore(""), "/coreos.com/updateengine/rebootlock/semaphore");
        assert_eq!(
            semaphore("row 1/ä"),
            "/coreos.com/updateengine/rebootlock/groups/row+1%2F%C3%A4/semaphore"
        );
    }

    proptest! {
        #[test]
        fn ids_come_back_from_keys(id in "\\PC{1,20}", other in "\\PC{0,20}") {
            prop_assert_eq!(unescape(&escape(&id)), id);
            unescape(&other);
        }

        #[test]
        fn any_record_is_read_without_panic(key in "\\PC{0,20}", value in "\\PC{0,40}") {
            let keys = Keys::of_group("g");
            let kv = KeyValue { key: [keys.records().as_bytes(), key.as_bytes()].concat(), value: value.clone().into(), ..KeyValue::default() };
            let semaphore = KeyValue { value: value.into(), ..KeyValue::default() };
            let _ = View::of_keys(&keys, None, std::slice::from_ref(&kv)).is_ok();
            let _ = View::of_keys(&keys, Some(&semaphore), &[kv]).is_ok();
        }
    }
}
