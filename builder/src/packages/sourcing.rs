//! Where packages come from: mirrors, snapshot archive, cache.

use std::path::Path;

use debian::archive::{Config, Suite};
use debian::cache::Cache;
use debian::mirrors::{MirrorSet, Mirrors};
use image_config::lock::{Lock, ReleaseDate};
use image_config::recipe::Recipe;

use super::PackagesError;

/// The public archive of all that Debian's mirrors ever had.
const SNAPSHOT: &str = "http://snapshot.debian.org/archive";
/// The archive takes its snapshots after the mirrors, so that the moment of an index does not have what came with it. A day
/// later it does, and mirrors keep a package for longer than that after it has left the indexes.
const DAYS_LATER: u64 = 1;

/// Where packages may come from, and how strictly the lock file is taken.
#[derive(Debug, Clone)]
pub struct Sourcing {
    /// Where downloads are kept.
    pub cache: Cache,
    /// Mirrors in place of the recipe's and the host's.
    pub mirrors: Vec<String>,
    /// Base of the snapshot archive, in place of the recipe's.
    pub snapshot: Option<String>,
    /// No network.
    pub offline: bool,
    /// The lock file's packages or none.
    pub locked: bool,
}

impl Sourcing {
    /// From the mirrors that recipe and host name, or the lock file's packages where there is one.
    pub fn usual(cache: Cache) -> Self {
        Self { cache, mirrors: Vec::new(), snapshot: None, offline: false, locked: false }
    }

    /// How the archive of a recipe is opened; snapshots are those of the lock's moment.
    pub(super) fn config(&self, recipe: &Recipe, lock: Option<&Lock>) -> Result<Config, PackagesError> {
        let debian = &recipe.debian;
        let written: Vec<String> = debian.mirrors.iter().map(ToString::to_string).collect();
        let mut set = MirrorSet::discover(&self.mirrors, &written, Path::new("/"));
        if self.mirrors.is_empty() && !debian.security_mirrors.is_empty() {
            set.security = Mirrors::new(debian.security_mirrors.iter().map(ToString::to_string));
        }
        let components: Vec<String> = debian.components.iter().map(ToString::to_string).collect();
        let base = self.snapshot.as_deref().or(debian.snapshot.as_ref().map(AsRef::as_ref));
        let base = base.unwrap_or(SNAPSHOT).trim_end_matches('/');
        let suites = debian.suites.iter().map(|suite| {
            let date = lock.and_then(|lock| lock.suites().find(|(name, _)| *name == suite));
            let name = suite.to_string();
            Suite {
                mirrors: set.for_suite(&name).clone(),
                snapshots: date
                    .map(|(_, date)| snapshots(base, suite.is_security(), date))
                    .unwrap_or_default(),
                components: components.clone(),
                name,
            }
        });
        let first = debian.suites.first().map(ToString::to_string).unwrap_or_default();
        let mut config = Config::debian(&first, &set, self.cache.clone())?;
        config.suites = suites.collect();
        config.architecture = recipe.architecture.debian_name().to_owned();
        config.offline = self.offline;
        Ok(config)
    }
}

/// The bases at the snapshot archive that have what a suite had at a date.
fn snapshots(base: &str, is_security: bool, date: ReleaseDate) -> Mirrors {
    let archive = if is_security { "debian-security" } else { "debian" };
    let at = |days_later| format!("{base}/{archive}/{}", date.snapshot_name(days_later));
    Mirrors::new([at(DAYS_LATER), at(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_those_of_the_locks_moment() {
        let date = ReleaseDate::parse("2026-09-12T07:55:41Z").unwrap();
        assert_eq!(
            snapshots(SNAPSHOT, false, date).urls(),
            [
                "http://snapshot.debian.org/archive/debian/20260913T075541Z",
                "http://snapshot.debian.org/archive/debian/20260912T075541Z"
            ]
        );
        let security = snapshots("http://127.0.0.1:1/x", true, date);
        assert_eq!(security.urls()[1], "http://127.0.0.1:1/x/debian-security/20260912T075541Z");
    }
}
