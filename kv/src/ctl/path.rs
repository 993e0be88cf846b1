//! Names of nodes in v2's tree, and the v3 keys that they are.
//!
//! A node `/a/b` with a value is the key `/a/b`. A directory is there as long as some key begins with its name and a slash. One
//! that would otherwise be empty, or that has a time to live, has a key of its own: its name with a slash behind it, the *marker*.

use crate::message::KeyRange;

/// The part of a URL that the old one put before a key, and that a key cannot leave.
const PREFIX: [&[u8]; 2] = [b"v2", b"keys"];

/// A node's name: empty for the root, else `/a/b`, without empty parts, `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<u8>);

/// A word like `/../x`, which is a name of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside;

impl Path {
    /// The root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// What a word on the command line names: with or without a slash at its beginning and at its end.
    ///
    /// # Errors
    /// It leads out of the tree.
    pub fn of_word(word: &[u8]) -> Result<Self, Outside> {
        let mut parts: Vec<&[u8]> = PREFIX.to_vec();
        for part in word.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let parts = parts.strip_prefix(PREFIX.as_slice()).ok_or(Outside)?;
        Ok(parts.iter().fold(Self::root(), |path, part| path.child(part)))
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of its value.
    pub fn key(&self) -> &[u8] {
        &self.0
    }

    /// The key that keeps it as a directory; every key below it begins so.
    pub fn marker(&self) -> Vec<u8> {
        [&self.0, &b"/"[..]].concat()
    }

    /// All that is below it, its marker included.
    pub fn below(&self) -> KeyRange {
        KeyRange::prefix(self.marker())
    }

    /// All that is below it without its marker.
    pub fn inside(&self) -> KeyRange {
        KeyRange::between([&self.0, &b"/\0"[..]].concat(), [&self.0, &b"0"[..]].concat())
    }

    /// A node in it.
    pub fn child(&self, name: &[u8]) -> Self {
        Self([&self.0, &b"/"[..], name].concat())
    }

    /// The directory that it is in; the root is in none.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0.get(..slash).unwrap_or_default().to_vec()))
    }

    /// The directories that it is in, from the topmost on, without the root.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut all: Vec<Self> =
            std::iter::successors(self.parent(), Self::parent).filter(|path| !path.is_root()).collect();
        all.reverse();
        all
    }

    /// Whether a key is its own or below it.
    pub fn holds(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// What a v3 key is in the tree: a node, and whether the key is its marker. Keys that no name leads to (without a slash at the
    /// beginning, with two together) are `None`.
    pub fn of_key(key: &[u8]) -> Option<(Self, bool)> {
        let (path, is_marker) = match key.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (key, false),
        };
        let mut parts = path.split(|byte| *byte == b'/');
        let first = parts.next();
        let is_name = first == Some(b"") && !path.is_empty() && parts.all(|part| !part.is_empty());
        is_name.then(|| (Self(path.to_vec()), is_marker))
    }

    /// Whether a directory above shows it: hidden ones have a part behind `above` that begins with `_`.
    pub fn is_hidden_from(&self, above: &Self) -> bool {
        let rest = self.0.strip_prefix(above.0.as_slice()).unwrap_or_default();
        rest.windows(2).any(|pair| pair == b"/_")
    }

    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_cleaned() {
        let cases: &[(&str, Option<&str>)] = &[
            ("/foo/bar", Some("/foo/bar")),
            ("foo", Some("/foo")),
            ("foo//bar/", Some("/foo/bar")),
            ("/", Some("")),
            ("", Some("")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/../..", None),
            ("../x", None),
            ("../keys/x", Some("/x")),
            ("/../../v2/keys/y", Some("/y")),
        ];
        for (word, want) in cases {
            let got = Path::of_word(word.as_bytes()).ok().map(|path| path.text());
            assert_eq!(got.as_deref(), *want, "{word:?}");
        }
    }

    #[test]
    fn keys_of_others_are_nodes_or_nothing() {
        let cases: &[(&str, Option<(&str, bool)>)] = &[
            ("/a", Some(("/a", false))),
            ("/a/b/", Some(("/a/b", true))),
            ("/", None),
            ("a/b", None),
            ("/a//b", None),
            ("//", None),
        ];
        for (key, want) in cases {
            let got = Path::of_key(key.as_bytes()).map(|(path, marker)| (path.text(), marker));
            assert_eq!(got, want.map(|(path, marker)| (path.to_owned(), marker)), "{key:?}");
        }
        let path = |word: &str| Path::of_word(word.as_bytes()).unwrap();
        assert!(path("/a/_b/c").is_hidden_from(&path("/a")) && path("/_a").is_hidden_from(&Path::root()));
        assert!(!path("/_a/b").is_hidden_from(&path("/_a")) && !path("/a/b_c").is_hidden_from(&path("/")));
        assert_eq!(path("/a/b/c").ancestors(), [path("/a"), path("/a/b")]);
        assert!(Path::root().ancestors().is_empty() && path("/a").ancestors().is_empty());
    }

    proptest! {
        #[test]
        fn a_name_and_its_keys_agree(word in "[/a.b_]{0,12}", other in "[/a.b_]{0,12}") {
            let (Ok(path), Ok(other)) = (Path::of_word(word.as_bytes()), Path::of_word(other.as_bytes())) else { return Ok(()) };
            prop_assert_eq!(Path::of_word(path.key()), Ok(path.clone()));
            if !path.is_root() {
                prop_assert_eq!(Path::of_key(path.key()), Some((path.clone(), false)));
                prop_assert_eq!(Path::of_key(&path.marker()), Some((path.clone(), true)));
                prop_assert!(path.holds(path.key()) && path.holds(&path.marker()) && !path.inside().contains(&path.marker()));
            }
            prop_assert_eq!(path.below().contains(other.key()), path != other && path.holds(other.key()));
            prop_assert_eq!(path.inside().contains(other.key()), path != other && path.holds(other.key()));
        }
    }
}
