//! Numbers of users and groups by name, from `/etc/passwd` and `/etc/group`: a static binary has no name service.

use std::collections::HashMap;
use std::path::Path;

/// The names that the machine knows.
#[derive(Debug, Clone, Default)]
pub struct Users {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

impl Users {
    /// Reads both files below `root`; a missing one has no names.
    pub fn read(root: &Path) -> Self {
        let file = |name: &str| std::fs::read_to_string(root.join("etc").join(name)).unwrap_or_default();
        Self { users: parse(&file("passwd")), groups: parse(&file("group")) }
    }

    /// The number of a user, given by name or number.
    pub fn user(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied().or_else(|| name.parse().ok()).or_else(|| root_of(name))
    }

    /// The number of a group, given by name or number.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied().or_else(|| name.parse().ok()).or_else(|| root_of(name))
    }
}

/// Root is number 0 even where the files are missing.
fn root_of(name: &str) -> Option<u32> {
    (name == "root").then_some(0)
}

/// `NAME:x:NUMBER:...` of both files; the first line of a name counts.
fn parse(text: &str) -> HashMap<String, u32> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
        {
            names.entry(name.to_owned()).or_insert(number);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let users = Users {
            users: parse("root:x:0:0::/root:/bin/sh\netcd:x:101:102::\nbroken\n"),
            groups: parse("tty:x:5:\n"),
        };
        assert_eq!((users.user("etcd"), users.user("77"), users.user("nobody")), (Some(101), Some(77), None));
        assert_eq!((users.group("tty"), users.group("root"), users.group("etcd")), (Some(5), Some(0), None));
    }
}
