//! Users and groups from `/etc/passwd` and `/etc/group`: PID 1 has no name service and wants none.

use std::fs;
use std::path::Path;

/// A line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group's id.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Finds a user by name or number. A number without an entry is a user with that id as group, too.
pub fn user(root: &Path, wanted: &str) -> Option<User> {
    let text = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let number: Option<u32> = wanted.parse().ok();
    let found =
        text.lines().filter_map(parse_user).find(|user| user.name == wanted || Some(user.uid) == number);
    found.or_else(|| {
        number.map(|id| User {
            name: wanted.to_owned(),
            uid: id,
            gid: id,
            home: "/".to_owned(),
            shell: "/usr/sbin/nologin".to_owned(),
        })
    })
}

/// Finds a group's id by name or number.
pub fn group(root: &Path, wanted: &str) -> Option<u32> {
    if let Ok(number) = wanted.parse() {
        return Some(number);
    }
    let text = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    text.lines().filter_map(parse_group).find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid)
}

/// Ids of the groups that list the user as a member.
pub fn groups_of(root: &Path, user: &str) -> Vec<u32> {
    let text = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    let is_member = |members: &str| members.split(',').any(|member| member == user);
    text.lines()
        .filter_map(parse_group)
        .filter(|(_, _, members)| is_member(members))
        .map(|(_, gid, _)| gid)
        .collect()
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _comment = fields.next()?;
    let home = fields.next()?.to_owned();
    let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh").to_owned();
    Some(User { name, uid, gid, home, shell })
}

fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let _password = fields.next()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/bash\nbroken\netcd:x:101:102::/var/lib/etcd:\n",
        )
        .unwrap();
        fs::write(root.path().join("etc/group"), "sudo:x:27:core,etcd\nadm:x:4:core\nx:y\n").unwrap();
        let etcd = user(root.path(), "etcd").unwrap();
        assert_eq!((etcd.uid, etcd.gid, etcd.shell.as_str()), (101, 102, "/bin/sh"));
        assert_eq!(user(root.path(), "101").unwrap().name, "etcd");
        assert_eq!(user(root.path(), "nobody-here"), None);
        assert_eq!(user(root.path(), "7000").unwrap().gid, 7000);
        assert_eq!(
            (group(root.path(), "sudo"), group(root.path(), "12"), group(root.path(), "y")),
            (Some(27), Some(12), None)
        );
        assert_eq!(groups_of(root.path(), "core"), [27, 4]);
    }
}
