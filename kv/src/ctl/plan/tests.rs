//! The plans on a model of etcd v3 beside a model of v2's store, with others who change the store between look and transaction.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::message::{LeaseId, Op, TimeToLive, Transaction};
use crate::model::Model;

/// v2's store: what a node holds (a directory nothing), and the lease that it goes with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct V2(BTreeMap<Path, (Option<Vec<u8>>, LeaseId)>);

/// What both say: action and value before, or code and cause. Indexes differ by nature.
type Said = Result<(&'static str, Option<Vec<u8>>), (u16, Vec<u8>)>;

impl V2 {
    fn is_directory(&self, path: &Path) -> bool {
        path.is_root() || self.0.get(path).is_some_and(|(value, _)| value.is_none())
    }

    fn value(&self, path: &Path) -> Option<&Vec<u8>> {
        self.0.get(path).and_then(|(value, _)| value.as_ref())
    }

    fn inside(&self, path: &Path) -> Vec<Path> {
        self.0.keys().filter(|other| *other != path && path.holds(other.key())).cloned().collect()
    }

    fn find(&self, path: &Path) -> Result<(), (u16, Vec<u8>)> {
        for part in path.ancestors().iter().chain([path]) {
            if let Some(parent) = part.parent().filter(|parent| !self.is_directory(parent)) {
                return Err((code::NOT_A_DIRECTORY, parent.key().to_vec()));
            }
            if !part.is_root() && !self.0.contains_key(part) {
                return Err((code::KEY_NOT_FOUND, part.key().to_vec()));
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, value: Option<Vec<u8>>, lease: LeaseId) -> Result<(), (u16, Vec<u8>)> {
        for above in path.ancestors() {
            if self.value(&above).is_some() {
                return Err((code::NOT_A_DIRECTORY, above.key().to_vec()));
            }
            self.0.entry(above).or_default();
        }
        self.0.insert(path.clone(), (value, lease));
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        self.0.retain(|other, _| !path.holds(other.key()));
    }

    fn apply(&mut self, request: &Request, lease: LeaseId) -> Said {
        let root = Err((code::ROOT_IS_READ_ONLY, b"/".to_vec()));
        let about = |code, path: &Path| Err((code, path.key().to_vec()));
        match request {
            Request::Get { path, .. } => self.find(path).map(|()| ("get", None)),
            Request::CreateInOrder { .. } => unreachable!("not generated: the names are revisions"),
            Request::Set { path, .. } if path.is_root() => root,
            Request::Set { path, content, only, .. } => {
                let value = match content {
                    Content::Value(value) => Some(value.clone()),
                    Content::Directory => None,
                };
                let before = self.value(path).cloned();
                match only {
                    Only::Always => {
                        if self.is_directory(path) {
                            return about(code::NOT_A_FILE, path);
                        }
                        self.put(path, value, lease)?;
                        Ok(("set", before))
                    }
                    Only::IfAbsent => {
                        if self.0.contains_key(path) {
                            return about(code::KEY_EXISTS, path);
                        }
                        self.put(path, value, lease)?;
                        Ok(("create", None))
                    }
                    Only::IfPresent => {
                        self.find(path)?;
                        let value = value.unwrap_or_default();
                        if self.is_directory(path) {
                            if !value.is_empty() {
                                return about(code::NOT_A_FILE, path);
                            }
                            self.0.insert(path.clone(), (None, lease));
                            return Ok(("update", Some(Vec::new())));
                        }
                        self.0.insert(path.clone(), (Some(value), lease));
                        Ok(("update", before))
                    }
                    Only::If(previous) => {
                        self.find(path)?;
                        let Some(before) = before else { return about(code::NOT_A_FILE, path) };
                        if previous.value != before {
                            let cause = [b"[", previous.value.as_slice(), b" != ", &before, b"]"].concat();
                            return Err((code::COMPARE_FAILED, cause));
                        }
                        self.0.insert(path.clone(), (Some(value.unwrap_or_default()), lease));
                        Ok(("compareAndSwap", Some(before)))
                    }
                }
            }
            Request::Remove { path, previous, directory, recursive } => {
                let plain = *previous == Previous::default();
                if path.is_root() && plain {
                    return root;
                }
                self.find(path)?;
                if self.is_directory(path) {
                    if !plain || (!directory && !recursive) {
                        return about(code::NOT_A_FILE, path);
                    }
                    if !recursive && !self.inside(path).is_empty() {
                        return about(code::NOT_EMPTY, path);
                    }
                    self.remove(path);
                    return Ok(("delete", Some(Vec::new())));
                }
                let before = self.value(path).cloned().unwrap_or_default();
                if !plain && previous.value != before {
                    let cause = [b"[", previous.value.as_slice(), b" != ", &before, b"]"].concat();
                    return Err((code::COMPARE_FAILED, cause));
                }
                self.remove(path);
                Ok((if plain { "delete" } else { "compareAndDelete" }, Some(before)))
            }
        }
    }

    fn expire(&mut self, lease: LeaseId) {
        let gone: Vec<Path> =
            self.0.iter().filter(|(_, node)| node.1 == lease).map(|(path, _)| path.clone()).collect();
        gone.iter().for_each(|path| self.remove(path));
    }

    /// What these tests leave out: times to live inside directories that have one.
    fn may_have_lease(&self, request: &Request) -> bool {
        let (Request::Set { path, .. } | Request::CreateInOrder { path, .. }) = request else { return false };
        let leased = |path: &Path| self.0.get(path).is_some_and(|(_, lease)| *lease != 0);
        !path.ancestors().iter().any(&leased) && !self.inside(path).iter().any(&leased)
    }
}

/// Our store with its leases.
#[derive(Debug, Clone, Default)]
struct V3 {
    model: Model,
    leases: LeaseId,
}

impl V3 {
    fn facts(&self, request: &Request) -> Facts {
        let mut facts = Facts { revision: self.model.revision(), ..Facts::default() };
        for range in request.reads() {
            facts.keys.extend(self.model.range(&range).into_iter().map(|kv| (kv.key.clone(), kv)));
        }
        let lasting = TimeToLive { left: 1_000, granted: 1_000 };
        facts.leases = facts.all_leases().into_iter().map(|lease| (lease, lasting)).collect();
        facts
    }

    fn commit(&mut self, change: &Change, lease: LeaseId) -> bool {
        let transaction = change.transaction(lease);
        assert!(transaction.compare.len() <= 128 && transaction.success.len() <= 128, "{transaction:?}");
        self.model.transact(&transaction).expect("etcd would refuse it").succeeded
    }

    /// Carries a request out with nobody in between.
    fn apply(&mut self, request: &Request, lease: LeaseId) -> Said {
        let facts = self.facts(request);
        match plan(request, &facts) {
            Err(fault) => Err(said(fault)),
            Ok(Plan::Answer(response)) => Ok((response.action, None)),
            Ok(Plan::Commit(change)) => {
                assert!(
                    self.commit(&change, lease),
                    "{request:?} does not hold on what it was made for: {facts:?}"
                );
                Ok(answer(&change))
            }
        }
    }

    fn expire(&mut self, lease: LeaseId) {
        let all = self.model.range(&KeyRange::prefix("/"));
        let gone = all.into_iter().filter(|kv| kv.lease == lease).map(|kv| Op::Delete(KeyRange::key(kv.key)));
        let transaction = Transaction { success: gone.collect(), ..Transaction::default() };
        self.model.transact(&transaction).unwrap();
    }

    /// The tree that it shows.
    fn tree(&self) -> V2 {
        let request = Request::Get { path: Path::root(), listing: Some(Depth::All), values: true };
        let Ok(Plan::Answer(response)) = plan(&request, &self.facts(&request)) else { panic!("no root") };
        let mut tree = V2::default();
        let mut nodes = response.node.nodes;
        while let Some(node) = nodes.pop() {
            let value = (!node.dir).then_some(node.value);
            tree.0.insert(Path::of_word(&node.key).unwrap(), (value, 0));
            nodes.extend(node.nodes);
        }
        tree
    }
}

fn said(fault: Fault) -> (u16, Vec<u8>) {
    match fault {
        Fault::Api { code, cause } => (code, cause),
        Fault::TooLarge(path) => panic!("{path:?}"),
    }
}

fn answer(change: &Change) -> (&'static str, Option<Vec<u8>>) {
    let response = change.response(7, None);
    (response.action, response.previous.map(|node| node.value))
}

fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("a-")], 0..4)
        .prop_map(|parts| Path::of_word(parts.join("/").as_bytes()).unwrap())
}

fn request() -> impl Strategy<Value = Request> {
    let value = || prop_oneof![Just(Vec::new()), Just(b"x".to_vec()), Just(b"y".to_vec())];
    let content = prop_oneof![3 => value().prop_map(Content::Value), 1 => Just(Content::Directory)];
    let previous = || {
        prop_oneof![Just(b"x".to_vec()), Just(b"y".to_vec())].prop_map(|value| Previous { value, index: 0 })
    };
    let only = prop_oneof![
        3 => Just(Only::Always), 2 => Just(Only::IfAbsent), 2 => Just(Only::IfPresent), 1 => previous().prop_map(Only::If)
    ];
    let ttl = prop_oneof![3 => Just(None), 1 => Just(Some(60))];
    prop_oneof![
        5 => (path(), content, ttl, only).prop_map(|(path, content, ttl, only)| Request::Set { path, content, ttl, only }),
        3 => (path(), any::<bool>(), any::<bool>(), prop_oneof![3 => Just(Previous::default()), 1 => previous()])
            .prop_map(|(path, directory, recursive, previous)| Request::Remove { path, directory, recursive, previous }),
        1 => path().prop_map(|path| Request::Get { path, listing: None, values: true }),
    ]
}

/// A request, somebody else's in between, and whether the oldest lease ends before it.
type Turn = (Request, Option<Request>, bool);

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    proptest::collection::vec(
        (request(), proptest::option::of(request()), proptest::bool::weighted(0.1)),
        1..30,
    )
}

/// Without a lease where these tests leave it out.
fn fitting(request: &Request, store: &V2) -> Request {
    match request.clone() {
        Request::Set { path, content, only, .. } if !store.may_have_lease(request) => {
            Request::Set { path, content, only, ttl: None }
        }
        other => other,
    }
}

fn new_lease(request: &Request, v3: &mut V3) -> LeaseId {
    match request {
        Request::Set { ttl: Some(_), .. } => {
            v3.leases += 1;
            v3.leases
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever others do between look and transaction: one that holds does and says what v2 would have at that moment, one that
    /// does not is made anew. Directories stay when what was in them goes or expires.
    #[test]
    fn every_operation_is_one_of_v2s_at_one_moment(turns in turns()) {
        let (mut v2, mut v3) = (V2::default(), V3::default());
        let mut ended = 0;
        for (request, other, ends) in turns {
            if ends && ended < v3.leases {
                ended += 1;
                v2.expire(ended);
                v3.expire(ended);
            }
            let request = fitting(&request, &v2);
            let mut planned = plan(&request, &v3.facts(&request));
            if let Err(fault) = planned {
                prop_assert_eq!(Err(said(fault)), v2.apply(&request, 0));
                continue;
            }
            if let Some(other) = other {
                // Leases that were left out for the store as it was may not be for what it becomes.
                let other = fitting(&other, &v2);
                let lease = new_lease(&other, &mut v3);
                prop_assert_eq!(v3.apply(&other, lease), v2.apply(&other, lease));
                if fitting(&request, &v2) != request {
                    continue;
                }
            }
            loop {
                match planned {
                    Err(fault) => {
                        prop_assert_eq!(Err(said(fault)), v2.apply(&request, 0));
                        break;
                    }
                    // Of the moment of its look, which is compared where nobody came in between.
                    Ok(Plan::Answer(_)) => break,
                    Ok(Plan::Commit(change)) => {
                        let lease = new_lease(&request, &mut v3);
                        if v3.commit(&change, lease) {
                            prop_assert_eq!(Ok(answer(&change)), v2.apply(&request, lease));
                            break;
                        }
                    }
                }
                planned = plan(&request, &v3.facts(&request));
            }
            let want = V2(v2.0.iter().map(|(path, (value, _))| (path.clone(), (value.clone(), 0))).collect());
            prop_assert_eq!(v3.tree(), want, "after {:?}", request);
        }
    }

    /// Whatever keys others have put there, an operation is an answer, a refusal or a transaction that etcd takes.
    #[test]
    fn any_keys_are_taken(
        keys in proptest::collection::vec(("[/ab_]{0,6}", 0_i64..3), 0..12),
        request in request(),
        in_order in any::<bool>(),
        depth in proptest::option::of(prop_oneof![Just(Depth::One), Just(Depth::All)]),
    ) {
        let mut v3 = V3::default();
        for (key, lease) in keys.into_iter().filter(|(key, _)| !key.is_empty()) {
            let put = Op::Put { key: key.into_bytes(), value: b"v".to_vec(), lease };
            v3.model.transact(&Transaction { success: vec![put], ..Transaction::default() }).unwrap();
        }
        let request = match request {
            Request::Get { path, .. } => Request::Get { path, listing: depth, values: true },
            Request::Remove { path, .. } if in_order => Request::CreateInOrder { path, value: vec![], ttl: None },
            other => other,
        };
        let before = v3.clone();
        let said = v3.apply(&request, 9);
        if said.is_err() || matches!(request, Request::Get { .. }) {
            prop_assert_eq!(before.model, v3.model);
        }
    }
}

#[test]
fn names_in_order_are_above_those_before() {
    let mut v3 = V3::default();
    let request =
        Request::CreateInOrder { path: Path::of_word(b"/q").unwrap(), value: b"v".to_vec(), ttl: None };
    let stale = plan(&request, &v3.facts(&request));
    for _ in 0..3 {
        assert_eq!(v3.apply(&request, 0), Ok(("create", None)));
    }
    let Ok(Plan::Commit(change)) = stale else { panic!("{stale:?}") };
    assert!(!v3.commit(&change, 0), "others were there since");
    let names: Vec<Vec<u8>> = v3.tree().0.keys().map(|path| path.key().to_vec()).collect();
    assert_eq!(
        names,
        [&b"/q"[..], b"/q/00000000000000000002", b"/q/00000000000000000003", b"/q/00000000000000000004"]
    );
}

#[test]
fn a_directory_goes_with_all_that_is_in_it() {
    let path = |word: &str| Path::of_word(word.as_bytes()).unwrap();
    let set = |word: &str, content, ttl, only| Request::Set { path: path(word), content, ttl, only };
    let value = || Content::Value(b"v".to_vec());
    let mut v3 = V3::default();
    v3.apply(&set("/d", Content::Directory, Some(60), Only::IfAbsent), 5).unwrap();
    v3.apply(&set("/d/a", value(), None, Only::Always), 0).unwrap();
    v3.apply(&set("/d/e/f", value(), None, Only::Always), 0).unwrap();
    // Its own ends before, the directory's after.
    v3.apply(&set("/d/short", value(), Some(5), Only::Always), 6).unwrap();
    v3.apply(&set("/d/long", value(), Some(5_000), Only::Always), 7).unwrap();
    let leases: Vec<LeaseId> = v3.model.range(&KeyRange::prefix("/")).iter().map(|kv| kv.lease).collect();
    assert_eq!(leases, [5, 5, 5, 5, 6]);
    // Another time, and then none.
    v3.apply(&set("/d", Content::Directory, Some(90), Only::IfPresent), 8).unwrap();
    let of = |v3: &V3| v3.model.range(&KeyRange::prefix("/")).iter().map(|kv| kv.lease).collect::<Vec<_>>();
    assert_eq!(of(&v3), [8, 8, 8, 8, 6]);
    v3.apply(&set("/d", Content::Directory, None, Only::IfPresent), 0).unwrap();
    assert_eq!(of(&v3), [0, 0, 0, 0, 6]);
    // Too large for one transaction.
    for number in 0..=MOST {
        v3.apply(&set(&format!("/d/n{number}"), value(), None, Only::Always), 0).unwrap();
    }
    let request = set("/d", Content::Directory, Some(90), Only::IfPresent);
    assert_eq!(plan(&request, &v3.facts(&request)), Err(Fault::TooLarge(path("/d"))));
}

#[test]
fn what_a_user_may_not_see_is_not_compared() {
    let request = Request::Set {
        path: Path::of_word(b"/coreos.com/x/y").unwrap(),
        content: Content::Value(b"1".to_vec()),
        ttl: Some(60),
        only: Only::Always,
    };
    let own = KeyRange::prefix("/coreos.com/x/");
    let (seen, unseen) = request.reads().into_iter().partition(|range| own.contains(range.begin()));
    let facts = Facts { revision: 3, unseen, seen, ..Facts::default() };
    let Ok(Plan::Commit(change)) = plan(&request, &facts) else { panic!("refused") };
    let transaction = change.transaction(1);
    assert!(transaction.compare.iter().all(|compare| own.contains(compare.parts().0)), "{transaction:?}");
    assert!(transaction.compare.iter().any(|compare| compare.parts().0 == b"/coreos.com/x/y"));
    assert!(transaction.success.iter().all(|op| matches!(op, Op::Put { key, .. } if own.contains(key))));
}
