//! What an operation of v2's means for the keys of v3: a request and what is known of the store, to an answer or to one transaction
//! that holds only if what it rests on is still so. No I/O.
//!
//! The rules are those of v2's store (`server/etcdserver/api/v2store/store.go` of etcd 3.5, in its order of checks). Where keys of
//! other clients make a node both a value and a directory, which v2 did not know, what is asked for decides: values are read, set
//! and removed, directories listed and removed with all that is in them.

mod change;

use super::path::Path;
use super::tree::{Facts, Response};
use crate::message::{KeyRange, KeyValue};

pub use self::change::Change;

/// A directory with more keys than this cannot be given another time to live: each of its keys is part of the transaction, and
/// etcd takes 128 steps in one (`--max-txn-ops`).
pub const MOST: u32 = 100;
/// How many keys beside a node are looked at for one that keeps their directory.
const NEIGHBOURS: u32 = 4;

/// What a node must have been before; empty and 0 mean that it does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// Its value.
    pub value: Vec<u8>,
    /// When it was last changed.
    pub index: u64,
}

/// Under which condition a node is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// None.
    Always,
    /// It is not there.
    IfAbsent,
    /// It is there.
    IfPresent,
    /// It is what it is taken for.
    If(Previous),
}

/// What a node becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A value.
    Value(Vec<u8>),
    /// A directory.
    Directory,
}

/// An operation of v2's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Reads a node.
    Get {
        /// Which.
        path: Path,
        /// Whether a directory's nodes are wanted, and if so whether all the way down.
        listing: Option<Depth>,
        /// Whether values are wanted, too.
        values: bool,
    },
    /// Makes a node, or changes it.
    Set {
        /// Which.
        path: Path,
        /// To what.
        content: Content,
        /// For how many seconds.
        ttl: Option<i64>,
        /// When.
        only: Only,
    },
    /// Makes a node in a directory whose name is a number above those before.
    CreateInOrder {
        /// The directory.
        path: Path,
        /// Its value.
        value: Vec<u8>,
        /// For how many seconds.
        ttl: Option<i64>,
    },
    /// Removes a node.
    Remove {
        /// Which.
        path: Path,
        /// Also an empty directory.
        directory: bool,
        /// Also a directory with all that is in it.
        recursive: bool,
        /// Only a value that is this.
        previous: Previous,
    },
}

/// How far a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is in the directory.
    One,
    /// All the way down.
    All,
}

/// Why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// One of v2's errors.
    Api {
        /// Its number.
        code: u16,
        /// What it is about.
        cause: Vec<u8>,
    },
    /// A directory with more keys than one transaction takes.
    TooLarge(Path),
}

impl Fault {
    fn about(code: u16, path: &Path) -> Self {
        Self::Api { code, cause: path.key().to_vec() }
    }

    /// In v2's words.
    pub const fn message(code: u16) -> &'static str {
        match code {
            code::KEY_NOT_FOUND => "Key not found",
            code::COMPARE_FAILED => "Compare failed",
            code::NOT_A_FILE => "Not a file",
            code::NOT_A_DIRECTORY => "Not a directory",
            code::KEY_EXISTS => "Key already exists",
            code::ROOT_IS_READ_ONLY => "Root is read only",
            code::NOT_EMPTY => "Directory not empty",
            code::UNAUTHORIZED => "The request requires user authentication",
            code::INDEX_CLEARED => "The event in requested index is outdated and cleared",
            _ => "Raft Internal Error",
        }
    }
}

/// Numbers of v2's errors.
pub mod code {
    #![expect(missing_docs, reason = "their names say it")]
    pub const KEY_NOT_FOUND: u16 = 100;
    pub const COMPARE_FAILED: u16 = 101;
    pub const NOT_A_FILE: u16 = 102;
    pub const NOT_A_DIRECTORY: u16 = 104;
    pub const KEY_EXISTS: u16 = 105;
    pub const ROOT_IS_READ_ONLY: u16 = 107;
    pub const NOT_EMPTY: u16 = 108;
    pub const UNAUTHORIZED: u16 = 110;
    pub const RAFT_INTERNAL: u16 = 300;
    pub const INDEX_CLEARED: u16 = 401;
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: this is the answer.
    Answer(Box<Response>),
    /// This.
    Commit(Box<Change>),
}

impl Request {
    /// What has to be known, all at one revision.
    pub fn reads(&self) -> Vec<KeyRange> {
        let mut ranges = Vec::new();
        let path = match self {
            Self::CreateInOrder { path, .. } => path.child(b"new"),
            Self::Get { path, .. } | Self::Set { path, .. } | Self::Remove { path, .. } => path.clone(),
        };
        // The first key below a directory is its marker, if it has one.
        for above in path.ancestors() {
            ranges.extend([KeyRange::key(above.key()), above.below().first(1)]);
        }
        if !path.is_root() {
            ranges.push(KeyRange::key(path.key()));
        }
        match self {
            Self::Get { listing: None, .. } => ranges.push(path.below().first(1)),
            Self::Get { listing: Some(_), values: true, .. } => ranges.push(path.below()),
            Self::Get { listing: Some(_), values: false, .. } => ranges.push(path.below().without_values()),
            Self::CreateInOrder { .. } => {}
            Self::Set { .. } => ranges.push(path.below().first(MOST + 1)),
            Self::Remove { .. } => ranges.push(path.below().first(2)),
        }
        if let Some(parent) = path.parent().filter(|_| !matches!(self, Self::Get { .. }))
            && !parent.is_root()
        {
            let behind = |tail: &[u8]| [path.key(), tail].concat();
            ranges.extend([
                KeyRange::between(parent.marker(), path.key()).first(NEIGHBOURS),
                KeyRange::between(behind(b"\0"), path.marker()).first(NEIGHBOURS),
                KeyRange::between(behind(b"0"), [parent.key(), &b"0"[..]].concat()).first(NEIGHBOURS),
            ]);
        }
        ranges
    }
}

/// What a request comes to.
///
/// # Errors
/// [`Fault`]: as the store is, it is refused.
pub fn plan(request: &Request, facts: &Facts) -> Result<Plan, Fault> {
    match request {
        Request::Get { path, listing, .. } => {
            get(facts, path, *listing).map(|response| Plan::Answer(Box::new(response)))
        }
        Request::Set { path, content, ttl, only } => {
            let change = match (only, content) {
                (Only::Always, _) => set(facts, path, content, *ttl),
                (Only::IfAbsent, _) => create(facts, path, content, *ttl),
                (Only::IfPresent, Content::Value(value)) => update(facts, path, value, *ttl),
                (Only::IfPresent, Content::Directory) => update(facts, path, b"", *ttl),
                (Only::If(previous), Content::Value(value)) => swap(facts, path, value, *ttl, previous),
                (Only::If(previous), Content::Directory) => swap(facts, path, b"", *ttl, previous),
            };
            change.map(|change| Plan::Commit(Box::new(change)))
        }
        Request::CreateInOrder { path, value, ttl } => {
            create_in_order(facts, path, value, *ttl).map(|change| Plan::Commit(Box::new(change)))
        }
        Request::Remove { path, directory, recursive, previous } => {
            let change = if *previous == Previous::default() {
                remove(facts, path, *directory, *recursive)
            } else {
                remove_if(facts, path, previous)
            };
            change.map(|change| Plan::Commit(Box::new(change)))
        }
    }
}

/// Goes down to a node that must be there.
fn find(facts: &Facts, path: &Path) -> Result<(), Fault> {
    for above in path.ancestors() {
        match (facts.is_directory(&above), facts.value(&above)) {
            (true, _) => {}
            (false, Some(_)) => return Err(Fault::about(code::NOT_A_DIRECTORY, &above)),
            (false, None) => return Err(Fault::about(code::KEY_NOT_FOUND, &above)),
        }
    }
    if facts.is_directory(path) || facts.value(path).is_some() {
        return Ok(());
    }
    Err(Fault::about(code::KEY_NOT_FOUND, path))
}

/// Goes down to a node that may have to be made.
fn check_directories(facts: &Facts, path: &Path) -> Result<(), Fault> {
    let is_value = |above: &Path| !facts.is_directory(above) && facts.value(above).is_some();
    match path.ancestors().into_iter().find(is_value) {
        Some(above) => Err(Fault::about(code::NOT_A_DIRECTORY, &above)),
        None => Ok(()),
    }
}

fn not_the_root(path: &Path) -> Result<(), Fault> {
    if path.is_root() {
        return Err(Fault::Api { code: code::ROOT_IS_READ_ONLY, cause: b"/".to_vec() });
    }
    Ok(())
}

/// The value that a node has, which must not be a directory alone.
fn value_of<'a>(facts: &'a Facts, path: &Path) -> Result<&'a KeyValue, Fault> {
    find(facts, path)?;
    facts.value(path).ok_or_else(|| Fault::about(code::NOT_A_FILE, path))
}

fn get(facts: &Facts, path: &Path, listing: Option<Depth>) -> Result<Response, Fault> {
    find(facts, path)?;
    let node = match (facts.value(path), listing) {
        (Some(kv), None) => facts.leaf(path, kv),
        (Some(kv), Some(_)) if !facts.is_directory(path) => facts.leaf(path, kv),
        (_, Some(depth)) => facts.listing(path, depth == Depth::All),
        (None, None) => facts.directory(path),
    };
    Ok(Response { action: "get", node, previous: None, index: facts.revision })
}

fn set(facts: &Facts, path: &Path, content: &Content, ttl: Option<i64>) -> Result<Change, Fault> {
    check_directories(facts, path)?;
    not_the_root(path)?;
    let before = facts.value(path);
    if before.is_none() && facts.is_directory(path) {
        return Err(Fault::about(code::NOT_A_FILE, path));
    }
    let mut change = Change::new("set", path);
    change.previous = before.map(|kv| facts.leaf(path, kv));
    change.put(facts, path, content, ttl);
    Ok(change)
}

fn create(facts: &Facts, path: &Path, content: &Content, ttl: Option<i64>) -> Result<Change, Fault> {
    not_the_root(path)?;
    check_directories(facts, path)?;
    if facts.value(path).is_some() || facts.is_directory(path) {
        return Err(Fault::about(code::KEY_EXISTS, path));
    }
    let mut change = Change::new("create", path);
    change.put(facts, path, content, ttl);
    Ok(change)
}

fn create_in_order(facts: &Facts, path: &Path, value: &[u8], ttl: Option<i64>) -> Result<Change, Fault> {
    let number = facts.revision.saturating_add(1);
    let node = path.child(format!("{number:020}").as_bytes());
    let mut change = create(facts, &node, &Content::Value(value.to_vec()), ttl)?;
    // Whatever came into the directory since may have a larger number.
    change.nothing_newer(facts, path);
    Ok(change)
}

fn update(facts: &Facts, path: &Path, value: &[u8], ttl: Option<i64>) -> Result<Change, Fault> {
    not_the_root(path)?;
    find(facts, path)?;
    let mut change = Change::new("update", path);
    match facts.value(path) {
        Some(kv) => {
            change.previous = Some(facts.leaf(path, kv));
            change.put(facts, path, &Content::Value(value.to_vec()), ttl);
        }
        None if value.is_empty() => change.renew_directory(facts, path, ttl)?,
        None => return Err(Fault::about(code::NOT_A_FILE, path)),
    }
    Ok(change)
}

fn swap(
    facts: &Facts,
    path: &Path,
    value: &[u8],
    ttl: Option<i64>,
    previous: &Previous,
) -> Result<Change, Fault> {
    not_the_root(path)?;
    let kv = value_of(facts, path)?;
    compare(kv, previous)?;
    let mut change = Change::new("compareAndSwap", path);
    change.previous = Some(facts.leaf(path, kv));
    change.put(facts, path, &Content::Value(value.to_vec()), ttl);
    Ok(change)
}

/// Whether a node is what it is taken for.
fn compare(kv: &KeyValue, previous: &Previous) -> Result<(), Fault> {
    let value_matches = previous.value.is_empty() || previous.value == kv.value;
    let index_matches = previous.index == 0 || u64::try_from(kv.mod_revision) == Ok(previous.index);
    let of_values = [b"[", previous.value.as_slice(), b" != ", &kv.value, b"]"].concat();
    let of_indexes = format!("[{} != {}]", previous.index, kv.mod_revision).into_bytes();
    let cause = match (value_matches, index_matches) {
        (true, true) => return Ok(()),
        (true, false) => of_indexes,
        (false, true) => of_values,
        (false, false) => [of_values, of_indexes].join(&b' '),
    };
    Err(Fault::Api { code: code::COMPARE_FAILED, cause })
}

fn remove(facts: &Facts, path: &Path, directory: bool, recursive: bool) -> Result<Change, Fault> {
    not_the_root(path)?;
    find(facts, path)?;
    let mut change = Change::new("delete", path);
    let is_directory = facts.is_directory(path);
    match facts.value(path) {
        Some(kv) if !(is_directory && (directory || recursive)) => {
            change.remove_value(facts, path, kv);
            return Ok(change);
        }
        _ => {}
    }
    if !directory && !recursive {
        return Err(Fault::about(code::NOT_A_FILE, path));
    }
    let marker = path.marker();
    if !recursive && facts.below(path).any(|kv| kv.key != marker) {
        return Err(Fault::about(code::NOT_EMPTY, path));
    }
    change.remove_directory(facts, path, recursive);
    Ok(change)
}

fn remove_if(facts: &Facts, path: &Path, previous: &Previous) -> Result<Change, Fault> {
    let kv = value_of(facts, path)?;
    compare(kv, previous)?;
    let mut change = Change::new("compareAndDelete", path);
    change.remove_value(facts, path, kv);
    Ok(change)
}

#[cfg(test)]
mod tests;
