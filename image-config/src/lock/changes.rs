//! What two locks, or a lock and a recipe, differ in.

use super::{Inputs, Lock, LockedPackage};
use crate::recipe::Provided;

/// What became of the packages between two locks; each list sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: Vec<LockedPackage>,
    /// Those that are gone.
    pub removed: Vec<LockedPackage>,
    /// Those that are there still, in another version or with another content.
    pub changed: Vec<Change>,
}

/// A package in two locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As it was.
    pub from: LockedPackage,
    /// As it is.
    pub to: LockedPackage,
}

impl Changes {
    /// From one lock to another. Without an old one, every package is new.
    #[must_use]
    pub fn between(old: Option<&Lock>, new: &Lock) -> Self {
        let mut changes = Self::default();
        for package in new.packages() {
            match old.and_then(|old| old.package(package.name.as_str())) {
                None => changes.added.push(package.clone()),
                Some(before) if before != package => {
                    changes.changed.push(Change { from: before.clone(), to: package.clone() });
                }
                Some(_) => {}
            }
        }
        let before = old.map(Lock::packages).unwrap_or_default();
        changes.removed =
            before.iter().filter(|package| new.package(package.name.as_str()).is_none()).cloned().collect();
        changes
    }

    /// Whether no package is another one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Bytes of the packages that are new or changed: what there is to fetch for who has the old ones.
    #[must_use]
    pub fn download_bytes(&self) -> u64 {
        let changed = self.changed.iter().filter(|change| change.from.sha256 != change.to.sha256);
        self.added.iter().chain(changed.map(|change| &change.to)).map(|package| package.size).sum()
    }
}

pub(super) fn of_inputs(locked: &Inputs, now: &Inputs) -> Vec<String> {
    let mut found = Vec::new();
    let mut whole = |what: &str, locked: String, now: String| {
        if locked != now {
            found.push(format!("{what}: the recipe has {now}, the lock {locked}"));
        }
    };
    whole("architecture", locked.architecture.clone(), now.architecture.clone());
    whole("suites", words(&locked.suites), words(&now.suites));
    whole("components", words(&locked.components), words(&now.components));
    let requests = |inputs: &Inputs| inputs.requests.iter().map(ToString::to_string).collect::<Vec<_>>();
    let provides = |inputs: &Inputs| inputs.provides.iter().map(provided).collect::<Vec<_>>();
    for (here, there, asks) in [
        (requests(now), requests(locked), "the recipe asks for {}, the lock does not"),
        (requests(locked), requests(now), "the lock is for a recipe that asks for {}"),
        (provides(now), provides(locked), "the recipe provides {}, the lock does not"),
        (provides(locked), provides(now), "the lock is for a recipe that provides {}"),
    ] {
        let only_here: Vec<_> = here.into_iter().filter(|word| !there.contains(word)).collect();
        if !only_here.is_empty() {
            found.push(asks.replace("{}", &some_of(&only_here)));
        }
    }
    found
}

/// The first few, which are enough to see what kind of difference it is.
fn some_of(words: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = words.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn words<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

fn provided(provided: &Provided) -> String {
    match &provided.version {
        Some(version) => format!("{} (= {version})", provided.name),
        None => provided.name.to_string(),
    }
}
