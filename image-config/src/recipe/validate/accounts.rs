//! Rules of users and groups.

use std::collections::BTreeMap;

use super::super::names::NameError;
use super::super::{AccountName, Group, ImagePath, PrimaryGroup, User, raw};
use super::{Check, steps};
use crate::yaml::Step;

/// Above 59999 come systemd's dynamic users, `nobody` and the ranges of containers.
const HIGHEST_ID: u32 = 59_999;

pub(super) fn user(check: &mut Check<'_>, index: usize, raw: &raw::User) -> Option<User> {
    let field = |name: &str| [Step::from("users"), Step::from(index), Step::from(name)];
    let name = check.word(&field("name"), &raw.name, AccountName::parse);
    if raw.name == "root" {
        check.error(&field("name"), "`root` is always there", Some("remove the entry".to_owned()));
    }
    id_in_range(check, &field("uid"), raw.uid);
    let group = match (&raw.group, raw.gid) {
        (Some(_), Some(_)) => {
            let hint =
                "`gid` numbers a group of the user's own name, `group` names an existing one".to_owned();
            check.error(&field("gid"), "`gid` and `group` exclude each other", Some(hint));
            None
        }
        (Some(text), None) => {
            check.word(&field("group"), text, AccountName::parse).map(PrimaryGroup::Existing)
        }
        (None, gid) => {
            if let Some(gid) = gid {
                id_in_range(check, &field("gid"), gid);
            }
            Some(PrimaryGroup::Own { gid: gid.unwrap_or(raw.uid) })
        }
    };
    let groups = check.list(&field("groups"), &raw.groups, AccountName::parse);
    let (home, shell) = if raw.system {
        ("/nonexistent".to_owned(), "/usr/sbin/nologin")
    } else {
        (format!("/home/{}", raw.name), "/bin/sh")
    };
    let home = raw.home.clone().unwrap_or(home);
    let home = name.is_some().then(|| check.word(&field("home"), &home, account_path)).flatten();
    let shell = check.word(&field("shell"), raw.shell.as_deref().unwrap_or(shell), account_path);
    let gecos = raw.gecos.clone().unwrap_or_default();
    if gecos.contains(':') || gecos.chars().any(char::is_control) {
        let hint = "it is a field of /etc/passwd: no `:` and no line break".to_owned();
        check.error(&field("gecos"), "the description cannot be stored", Some(hint));
    }
    Some(User { name: name?, uid: raw.uid, group: group?, groups, home: home?, shell: shell?, gecos })
}

/// A path that can be a field of `/etc/passwd`.
fn account_path(text: &str) -> Result<ImagePath, NameError> {
    if text.contains(':') {
        return Err(NameError::new(format!("path `{text}` holds a `:`"))
            .hint("/etc/passwd separates its fields by it"));
    }
    ImagePath::parse(text)
}

fn id_in_range(check: &mut Check<'_>, path: &[Step], id: u32) {
    if id == 0 || id > HIGHEST_ID {
        let hint = match id {
            0 => "0 is root".to_owned(),
            65534 => "65534 is nobody".to_owned(),
            _ => format!("1 to {HIGHEST_ID}: above come dynamic users, nobody and the ids of containers"),
        };
        check.error(path, format!("{id} cannot be the id of a user or group here"), Some(hint));
    }
}

pub(super) fn groups(check: &mut Check<'_>, raw: &[raw::Group]) -> Vec<Group> {
    let mut out = Vec::with_capacity(raw.len());
    for (index, group) in raw.iter().enumerate() {
        id_in_range(check, steps!["groups", index, "gid"], group.gid);
        if let Some(name) = check.word(steps!["groups", index, "name"], &group.name, AccountName::parse) {
            out.push(Group { name, gid: group.gid });
        }
    }
    out
}

/// Each user and uid once, each group and gid once; users' own groups count.
pub(super) fn unique_accounts(check: &mut Check<'_>, users: &[raw::User], groups: &[raw::Group]) {
    let (mut names, mut uids) = (BTreeMap::new(), BTreeMap::new());
    let (mut group_names, mut gids) = (BTreeMap::new(), BTreeMap::new());
    for (index, user) in users.iter().enumerate() {
        if names.insert(user.name.as_str(), index).is_some() {
            check.error(
                steps!["users", index, "name"],
                format!("user `{}` is listed twice", user.name),
                None,
            );
        }
        if let Some(other) = uids.insert(user.uid, user.name.as_str()) {
            check.error(
                steps!["users", index, "uid"],
                format!("user `{other}` has the uid {} too", user.uid),
                None,
            );
        }
        if user.group.is_none() {
            let gid = user.gid.unwrap_or(user.uid);
            group_names.insert(user.name.as_str(), ());
            if let Some(other) = gids.insert(gid, user.name.as_str()) {
                let message = format!("the own group of user `{other}` has the gid {gid} too");
                check.error(steps!["users", index, "gid"], message, None);
            }
        }
    }
    for (index, group) in groups.iter().enumerate() {
        if group_names.insert(group.name.as_str(), ()).is_some() {
            let hint = "a user without `group:` brings a group of its own name".to_owned();
            let message = format!("there are two groups `{}`", group.name);
            check.error(steps!["groups", index, "name"], message, Some(hint));
        }
        if let Some(other) = gids.insert(group.gid, group.name.as_str()) {
            check.error(
                steps!["groups", index, "gid"],
                format!("group `{other}` has the gid {} too", group.gid),
                None,
            );
        }
    }
}
