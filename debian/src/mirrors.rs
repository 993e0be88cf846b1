//! Where archives are: given, taken from the host's own apt sources, or well known.

use std::fmt;
use std::path::Path;

use crate::deb822;

/// Base URLs of one archive, the preferred first, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirrors(Vec<String>);

/// Mirrors of Debian's main archive and of its security archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSet {
    /// `dists/trixie`, `dists/trixie-updates`, ...
    pub debian: Mirrors,
    /// `dists/trixie-security`
    pub security: Mirrors,
}

/// Known to everybody. `deb.debian.org` is a content delivery network; the others are for networks that block it.
const WELL_KNOWN: [&str; 5] = [
    "http://deb.debian.org/debian",
    "https://deb.debian.org/debian",
    "http://ftp.debian.org/debian",
    "http://ftp.de.debian.org/debian",
    "http://ftp.us.debian.org/debian",
];
/// The same for the security archive.
const WELL_KNOWN_SECURITY: [&str; 3] = [
    "http://deb.debian.org/debian-security",
    "https://deb.debian.org/debian-security",
    "http://security.debian.org/debian-security",
];
/// Suites by which a line of a sources file is known to speak of Debian.
const SUITES: [&str; 13] = [
    "stable",
    "testing",
    "unstable",
    "sid",
    "oldstable",
    "oldoldstable",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "stable-backports",
    "experimental",
];

impl Mirrors {
    /// Mirrors in this order; doubles, blanks and slashes at the end are dropped.
    pub fn new<S: AsRef<str>>(urls: impl IntoIterator<Item = S>) -> Self {
        let mut mirrors = Self::default();
        mirrors.extend(urls);
        mirrors
    }

    fn extend<S: AsRef<str>>(&mut self, urls: impl IntoIterator<Item = S>) {
        for url in urls {
            let url = url.as_ref().trim().trim_end_matches('/');
            if !url.is_empty() && !self.0.iter().any(|known| known == url) {
                self.0.push(url.to_owned());
            }
        }
    }

    /// The base URLs.
    pub fn urls(&self) -> &[String] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl MirrorSet {
    /// The well-known public mirrors.
    pub fn well_known() -> Self {
        Self { debian: Mirrors::new(WELL_KNOWN), security: Mirrors::new(WELL_KNOWN_SECURITY) }
    }

    /// Mirrors that somebody named, as bases of the main archive (`http://host/debian`) or of the security archive
    /// (a path that ends in `debian-security`). Many mirrors have the security archive beside the main one: that is
    /// tried first, then the well-known ones. `None` when the list is empty.
    pub fn named<S: AsRef<str>>(urls: &[S]) -> Option<Self> {
        let (security, debian): (Vec<&str>, Vec<&str>) = urls
            .iter()
            .map(|url| url.as_ref().trim().trim_end_matches('/'))
            .partition(|url| is_security(url));
        if debian.is_empty() && security.is_empty() {
            return None;
        }
        let mut set = Self { debian: Mirrors::new(&debian), security: Mirrors::new(&security) };
        if security.is_empty() {
            set.security.extend(debian.iter().filter_map(|url| url.strip_suffix("/debian")).map(beside));
            set.security.extend(WELL_KNOWN_SECURITY);
        }
        if debian.is_empty() {
            set.debian.extend(WELL_KNOWN);
        }
        Some(set)
    }

    /// The mirrors of a host that is a Debian, from the sources files below `root` (`/` but in tests), with the
    /// well-known ones behind them. `None` when the host has no Debian sources. Files that cannot be read do not
    /// count.
    pub fn of_host(root: &Path) -> Option<Self> {
        let apt = root.join("etc/apt");
        let mut files: Vec<_> = std::fs::read_dir(apt.join("sources.list.d"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort();
        files.insert(0, apt.join("sources.list"));
        let mut set = Self { debian: Mirrors::default(), security: Mirrors::default() };
        for file in files {
            let text = std::fs::read(&file).unwrap_or_default();
            let sources = match file.extension().and_then(|e| e.to_str()) {
                Some("list") => parse_one_line_sources(&text),
                Some("sources") => parse_deb822_sources(&text),
                _ => Vec::new(),
            };
            for source in sources.iter().filter(|s| s.is_debian()) {
                let archive = if source.is_security() { &mut set.security } else { &mut set.debian };
                archive.extend([&source.uri]);
            }
        }
        if set.debian.is_empty() && set.security.is_empty() {
            return None;
        }
        set.debian.extend(WELL_KNOWN);
        set.security.extend(WELL_KNOWN_SECURITY);
        Some(set)
    }

    /// The order of preference: what was asked for, else what the recipe says, else the host's own, else well-known
    /// ones.
    pub fn discover(explicit: &[String], recipe: &[String], root: &Path) -> Self {
        Self::named(explicit)
            .or_else(|| Self::named(recipe))
            .or_else(|| Self::of_host(root))
            .unwrap_or_else(Self::well_known)
    }

    /// The mirrors that have a suite: `*-security` is in the security archive.
    pub fn for_suite(&self, suite: &str) -> &Mirrors {
        if suite.ends_with("-security") { &self.security } else { &self.debian }
    }
}

fn beside(base: &str) -> String {
    format!("{base}/debian-security")
}

fn is_security(url: &str) -> bool {
    url.ends_with("/debian-security") || url.contains("://security.debian.org")
}

/// One archive of a sources file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: String,
}

impl Source {
    /// Whether it is Debian's own archive and not one that others made for Debian.
    fn is_debian(&self) -> bool {
        let http = self.uri.starts_with("http://") || self.uri.starts_with("https://");
        let known = |suite: &String| {
            let stem = suite.split_once(['-', '/']).map_or(suite.as_str(), |(stem, _)| stem);
            SUITES.contains(&stem)
        };
        let path = self.uri.trim_end_matches('/');
        let by_path = path.ends_with("/debian") || is_security(path);
        http && self.suites.iter().any(known)
            && self.components.iter().any(|component| component == "main")
            && (by_path || self.signed_by.contains("debian-archive"))
    }

    fn is_security(&self) -> bool {
        self.suites.iter().any(|s| s.contains("-security") || s.ends_with("/updates"))
            || is_security(self.uri.trim_end_matches('/'))
    }
}

/// `deb [option=value ...] URI SUITE COMPONENT...` (sources.list(5)). Lines that make no sense are skipped: they are
/// the host's business.
fn parse_one_line_sources(text: &[u8]) -> Vec<Source> {
    let text = String::from_utf8_lossy(text);
    let parse = |line: &str| {
        let line = line.split('#').next()?.trim();
        let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let mut signed_by = String::new();
        if let Some(options) = rest.strip_prefix('[') {
            let (options, after) = options.split_once(']')?;
            let mut options = options.split_ascii_whitespace();
            signed_by = options.find_map(|o| o.strip_prefix("signed-by=")).unwrap_or_default().to_owned();
            rest = after;
        }
        let mut words = rest.split_ascii_whitespace().map(str::to_owned);
        let (uri, suite) = (words.next()?, words.next()?);
        Some(Source { uri, suites: vec![suite], components: words.collect(), signed_by })
    };
    text.lines().filter_map(parse).collect()
}

/// Stanzas with `Types`, `URIs`, `Suites`, `Components` (sources.list(5)); malformed files count as empty.
fn parse_deb822_sources(text: &[u8]) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in deb822::parse(text).unwrap_or_default() {
        let raw = |name: &str| deb822::value(&stanza, name).map(String::from_utf8_lossy).unwrap_or_default();
        // Comment lines may stand inside a value.
        let words = |name: &str| -> Vec<String> {
            let raw = raw(name);
            let lines = raw.lines().filter(|line| !line.starts_with('#'));
            lines.flat_map(str::split_ascii_whitespace).map(str::to_owned).collect()
        };
        let enabled = !matches!(raw("Enabled").trim(), "no" | "false" | "0");
        if !enabled || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let signed_by = raw("Signed-By").into_owned();
        sources.extend(words("URIs").into_iter().map(|uri| Source {
            uri,
            suites: words("Suites"),
            components: words("Components"),
            signed_by: signed_by.clone(),
        }));
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(files: &[(&str, &str)]) -> Option<MirrorSet> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/apt/sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join("etc/apt").join(name), text).unwrap();
        }
        MirrorSet::of_host(root.path())
    }

    #[test]
    fn the_hosts_debian_sources_are_taken_and_third_parties_left_out() {
        let set = host(&[
            (
                "sources.list",
                "# deb http://commented.example/debian trixie main\n\
                 deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian/ trixie main contrib\n\
                 deb-src http://src.example/debian trixie main\n\
                 deb http://third.example/debian/12/prod bookworm main\n\
                 deb http://third.example/linux/debian bookworm stable\n\
                 deb cdrom:[Debian]/ trixie main\n\
                 deb http://sec.example/debian-security trixie-security main\n",
            ),
            (
                "sources.list.d/debian.sources",
                "Types: deb deb-src\n# a comment\nURIs: https://two.example/mirror\nSuites: bookworm bookworm-updates\n\
                 Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                 Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n",
            ),
            ("sources.list.d/ignored.txt", "deb http://no.example/debian trixie main\n"),
        ])
        .unwrap();
        assert_eq!(set.debian.urls()[..2], ["http://one.example/debian", "https://two.example/mirror"]);
        assert_eq!(set.debian.urls()[2..], WELL_KNOWN);
        assert_eq!(set.security.urls()[0], "http://sec.example/debian-security");
    }

    #[test]
    fn a_host_that_is_no_debian_has_no_mirrors() {
        assert_eq!(host(&[("sources.list", "deb http://archive.example/ubuntu noble main\n")]), None);
        assert_eq!(host(&[]), None);
    }

    #[test]
    fn what_is_asked_for_comes_first_and_alone() {
        let root = tempfile::tempdir().unwrap();
        let set = MirrorSet::discover(
            &["http://a.example/debian/".to_owned()],
            &["http://b".to_owned()],
            root.path(),
        );
        assert_eq!(set.for_suite("trixie").urls(), ["http://a.example/debian"]);
        assert_eq!(set.for_suite("trixie-security").urls()[0], "http://a.example/debian-security");
        let set = MirrorSet::discover(
            &[],
            &["http://b/debian".to_owned(), "http://b/debian-security".to_owned()],
            root.path(),
        );
        assert_eq!((set.debian.urls().len(), set.security.urls().len()), (1, 1));
        assert_eq!(MirrorSet::discover(&[], &[], root.path()), MirrorSet::well_known());
    }

    proptest! {
        #[test]
        fn any_sources_file_never_panics(text in prop::collection::vec(any::<u8>(), 0..200), soup in "(deb|[ \\[\\]=#a\n]){0,30}") {
            let _ = (parse_one_line_sources(&text), parse_deb822_sources(&text));
            let _ = (parse_one_line_sources(soup.as_bytes()), parse_deb822_sources(soup.as_bytes()));
        }
    }
}
