//! An Ignition config to steps.

use std::collections::HashMap;

use ignition_config::v3_5;

use super::contents::Written;
use crate::unit::UnitName;
use crate::user_data::plan::{
    Account, AuthorizedKeys, Contents, Directory, Existing, ExistingUser, FetchPolicy, File, Group, Link,
    Origin, Owner, Proxy, Step, User,
};
use crate::user_data::steps::{Steps, unit_folder};

/// Where the things of a config were written: by kind (`path`, `unit`, `user`, `group`) and name.
pub(super) type Places = HashMap<(&'static str, String), Origin>;

/// Name of the set of keys that comes from Ignition.
const KEY_SET: &str = "ignition";
const PRESET: &str = "/etc/systemd/system-preset/20-ignition.preset";
const RESULT: &str = "/etc/.ignition-result.json";

/// Adds a config's steps: accounts, then nodes of the file system, from the top down, then units.
pub(super) fn lower(config: &v3_5::Config, places: &Places, steps: &mut Steps) {
    let origin = |kind, name: &str| places.get(&(kind, name.to_owned())).cloned().unwrap_or_default();
    let passwd = config.passwd.clone().unwrap_or_default();
    for group in passwd.groups.unwrap_or_default() {
        let origin = origin("group", &group.name);
        steps.once(origin, self::group(group));
    }
    for user in passwd.users.unwrap_or_default() {
        let (origin, keys) =
            (origin("user", &user.name), user.ssh_authorized_keys.clone().unwrap_or_default());
        let name = user.name.clone();
        steps.once(origin.clone(), self::user(user));
        if !keys.is_empty() {
            steps.once(
                origin,
                Step::AuthorizeKeys(AuthorizedKeys { user: name, set: KEY_SET.to_owned(), keys }),
            );
        }
    }
    let storage = config.storage.clone().unwrap_or_default();
    let mut nodes: Vec<(String, Step)> = Vec::new();
    nodes.extend(storage.directories.unwrap_or_default().into_iter().map(directory));
    nodes.extend(storage.files.unwrap_or_default().into_iter().map(file));
    nodes.extend(storage.links.unwrap_or_default().into_iter().map(link));
    // Hard links come last: what they lead to may have any path.
    let is_hard = |step: &Step| matches!(step, Step::MakeLink(link) if link.is_hard);
    nodes.sort_by(|(a, first), (b, second)| {
        is_hard(first).cmp(&is_hard(second)).then_with(|| a.split('/').cmp(b.split('/')))
    });
    for (path, step) in nodes {
        steps.once(origin("path", &path), step);
    }
    let systemd = config.systemd.clone().unwrap_or_default();
    let mut preset = String::new();
    for unit in systemd.units.unwrap_or_default() {
        let origin = origin("unit", &unit.name);
        self::unit(unit, &origin, &mut preset, steps);
    }
    if !preset.is_empty() {
        steps.text_file(Origin::default(), PRESET.to_owned(), &preset);
    }
    steps.text_file(Origin::default(), RESULT.to_owned(), "{\"userConfigProvided\":true}\n");
}

/// How a config wants things fetched.
pub(super) fn fetch_policy(ignition: &v3_5::Ignition) -> FetchPolicy {
    let mut policy = FetchPolicy::default();
    let seconds = |number: Option<i64>| {
        let number = u64::try_from(number?).ok().filter(|number| *number > 0)?;
        Some(std::time::Duration::from_secs(number))
    };
    if let Some(timeouts) = &ignition.timeouts {
        if let Some(limit) = seconds(timeouts.http_response_headers) {
            policy.response_headers = limit;
        }
        policy.total = seconds(timeouts.http_total);
    }
    let tls = ignition.security.as_ref().and_then(|security| security.tls.as_ref());
    let authorities = tls.and_then(|tls| tls.certificate_authorities.as_deref()).unwrap_or_default();
    policy.certificate_authorities = authorities.iter().filter_map(contents).collect();
    if let Some(proxy) = &ignition.proxy {
        policy.proxy = Proxy {
            http: proxy.http_proxy.clone().filter(|url| !url.is_empty()),
            https: proxy.https_proxy.clone().filter(|url| !url.is_empty()),
            none_for: proxy.no_proxy.clone().unwrap_or_default(),
        };
    }
    policy
}

/// A resource's contents. What the rules would refuse is nothing.
pub(super) fn contents(resource: &v3_5::Resource) -> Option<Contents> {
    let headers = resource.http_headers.iter().flatten();
    Written {
        source: resource.source.as_deref(),
        compression: resource.compression.as_deref(),
        hash: resource.verification.as_ref().and_then(|it| it.hash.as_deref()),
        // A header without a value deletes one of the parent's.
        headers: headers.filter_map(|header| Some((header.name.clone(), header.value.clone()?))).collect(),
    }
    .contents()
    .ok()
    .flatten()
}

/// A number that the rules have let through.
fn id(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

fn named(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn owner(user: Option<v3_5::NodeUser>, group: Option<v3_5::NodeGroup>) -> Owner {
    let account = |number, name| id(number).map(Account::Id).or_else(|| named(name).map(Account::Name));
    Owner {
        user: user.and_then(|it| account(it.id, it.name)),
        group: group.and_then(|it| account(it.id, it.name)),
    }
}

fn mode(number: Option<i64>, mask: u16) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok()).map(|mode| mode & mask)
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

fn directory(directory: v3_5::Directory) -> (String, Step) {
    let path = clean(&directory.path);
    let step = Step::MakeDirectory(Directory {
        path: path.clone(),
        mode: mode(directory.mode, 0o7777),
        owner: owner(directory.user, directory.group),
        existing: existing(directory.overwrite),
    });
    (path, step)
}

fn existing(overwrite: Option<bool>) -> Existing {
    if overwrite == Some(true) { Existing::Replace } else { Existing::Refuse }
}

fn file(file: v3_5::File) -> (String, Step) {
    let path = clean(&file.path);
    let step = Step::WriteFile(Box::new(File {
        path: path.clone(),
        mode: mode(file.mode, 0o777),
        owner: owner(file.user, file.group),
        contents: file.contents.as_ref().and_then(contents),
        append: file.append.unwrap_or_default().iter().filter_map(contents).collect(),
        existing: existing(file.overwrite),
    }));
    (path, step)
}

fn link(link: v3_5::Link) -> (String, Step) {
    let path = clean(&link.path);
    let step = Step::MakeLink(Link {
        path: path.clone(),
        target: link.target.unwrap_or_default(),
        is_hard: link.hard.unwrap_or(false),
        owner: owner(link.user, link.group),
        existing: existing(link.overwrite),
    });
    (path, step)
}

fn group(group: v3_5::Group) -> Step {
    if group.should_exist == Some(false) {
        return Step::DeleteGroup(group.name);
    }
    Step::CreateGroup(Group {
        name: group.name,
        gid: id(group.gid),
        password_hash: named(group.password_hash),
        is_system: group.system.unwrap_or(false),
        members: Vec::new(),
    })
}

fn user(user: v3_5::User) -> Step {
    if user.should_exist == Some(false) {
        return Step::DeleteUser(user.name);
    }
    Step::CreateUser(Box::new(User {
        name: user.name,
        uid: id(user.uid),
        password_hash: named(user.password_hash),
        is_locked: false,
        gecos: user.gecos,
        home: named(user.home_dir),
        creates_home: !user.no_create_home.unwrap_or(false) && !user.system.unwrap_or(false),
        primary_group: named(user.primary_group),
        creates_group: !user.no_user_group.unwrap_or(false),
        groups: user.groups.unwrap_or_default(),
        shell: named(user.shell),
        is_system: user.system.unwrap_or(false),
        sudo: Vec::new(),
        existing: ExistingUser::Modify,
    }))
}

fn unit(unit: v3_5::Unit, origin: &Origin, preset: &mut String, steps: &mut Steps) {
    let Ok(name) = UnitName::parse(&unit.name) else { return };
    let folder = unit_folder(false);
    if let Some(text) = unit.contents.filter(|text| !text.is_empty()) {
        steps.unit_file(origin.clone(), format!("{folder}/{name}"), &text);
    }
    for drop_in in unit.dropins.unwrap_or_default() {
        if let Some(text) = drop_in.contents.filter(|text| !text.is_empty()) {
            steps.unit_file(origin.clone(), format!("{folder}/{name}.d/{}", drop_in.name), &text);
        }
    }
    match (unit.mask, unit.enabled) {
        (Some(true), _) => steps.unit(origin.clone(), false, Step::MaskUnit, &name),
        (_, Some(true)) => {
            preset.push_str(&format!("enable {name}\n"));
            steps.unit(origin.clone(), false, Step::EnableUnit, &name);
        }
        (_, Some(false)) => {
            preset.push_str(&format!("disable {name}\n"));
            steps.unit(origin.clone(), false, Step::DisableUnit, &name);
        }
        _ => {}
    }
}
