//! Users, groups and their keys.

use super::{CloudConfig, GroupEntry, UserEntry, unsupported};
use crate::diagnostic::Position;
use crate::tree::{Node, Value};
use crate::user_data::report::{At, Fields, Report, Spelling};

/// Whether a text can be the name of a user or group. What useradd(8) refuses is refused only where it would break a file or a command:
/// many names of directories of people have capitals and dots.
pub(crate) fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=32).contains(&name.len())
        && name.chars().all(is_letter)
        && !name.starts_with(['-', '.'])
        && !name.chars().all(|c| c.is_ascii_digit())
}

/// Refuses what is no name.
fn check_name(name: At<String>, what: &str, report: &mut Report<'_>) -> Option<String> {
    if is_name(&name.value) {
        return Some(name.value);
    }
    let hint = "letters, digits, `_`, `-` and `.`, at most 32 of them, not digits alone".to_owned();
    report.error(name.at, format!("`{}` is no name of a {what}", name.value), hint);
    None
}

pub(super) fn top_keys(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    config.ssh_authorized_keys = top.texts("ssh_authorized_keys", report);
    check_keys(&mut config.ssh_authorized_keys, report);
}

/// Leaves out what would break the file, and warns of what does not look like a key.
pub(crate) fn check_keys(keys: &mut Vec<At<String>>, report: &mut Report<'_>) {
    const TYPES: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    for key in keys.iter_mut() {
        key.value.truncate(key.value.trim_end().len());
    }
    keys.retain(|key| {
        if key.value.contains(['\n', '\r', '\0']) {
            report.error(key.at, "a key is one line", "make each key an element of the list".to_owned());
            return false;
        }
        let words: Vec<&str> = key.value.split_whitespace().collect();
        let kind = words.iter().position(|word| TYPES.iter().any(|it| word.starts_with(it)));
        let has_data = kind.and_then(|kind| words.get(kind + 1)).is_some_and(|data| data.starts_with("AAAA"));
        if !has_data && !key.value.is_empty() {
            let hint = "a line of `~/.ssh/id_ed25519.pub`, such as `ssh-ed25519 AAAA... me@home`".to_owned();
            report.warn(key.at, "this does not look like an SSH public key", hint);
        }
        !key.value.is_empty()
    });
}

/// `groups` of cloud-init: names, or names with members.
pub(super) fn groups(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(node) = top.node("groups") else { return };
    let mut add = |name: &str, at: Position, members: Option<&Node>, report: &mut Report<'_>| {
        let name = check_name(At { value: name.to_owned(), at }, "group", report)?;
        let members = match members {
            Some(node) if node.elements().is_some() => report.texts(node, "groups"),
            Some(node) => {
                report.text(node, "groups").map(|value| At { value, at: node.at }).into_iter().collect()
            }
            None => Vec::new(),
        };
        let members = members.into_iter().filter_map(|one| check_name(one, "user", report)).collect();
        config.groups.push(At { value: GroupEntry { name, members }, at });
        Some(())
    };
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|it| {
            add(&it.key, it.key_at, Some(&it.value), report);
        }),
        Value::Scalar(scalar) => {
            for name in scalar.text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                add(name, node.at, None, report);
            }
        }
        Value::List(elements) => {
            for element in elements {
                match &element.value {
                    Value::Map(entries) => entries.iter().for_each(|it| {
                        add(&it.key, it.key_at, Some(&it.value), report);
                    }),
                    _ => {
                        if let Some(name) = report.text(element, "groups") {
                            add(&name, element.at, None, report);
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn users(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    for (index, node) in top.list("users", report).iter().enumerate() {
        let name = format!("users[{index}]");
        if node.scalar().is_some() {
            // cloud-init: a bare name; `default` is the image's own user.
            if let Some(text) = report.text(node, &name)
                && text != "default"
                && let Some(name) = check_name(At { value: text, at: node.at }, "user", report)
            {
                config.users.push(At { value: UserEntry { name, ..UserEntry::default() }, at: node.at });
            }
            continue;
        }
        if let Some(fields) = report.fields(node, &name, Spelling::Lenient)
            && let Some(value) = user(fields, report)
        {
            config.users.push(At { value, at: node.at });
        }
    }
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("coreos_ssh_import_github", "copy the keys into `ssh_authorized_keys`"),
    ("coreos_ssh_import_github_users", "copy the keys into `ssh_authorized_keys`"),
    ("coreos_ssh_import_url", "copy the keys into `ssh_authorized_keys`"),
    ("doas", "`sudo` is what the image has"),
    ("expiredate", "accounts do not expire"),
    ("inactive", "accounts do not expire"),
    ("plain_text_passwd", "write a hash into `passwd`: `openssl passwd -6` makes one"),
    ("selinux_user", "the image has no SELinux"),
    ("snapuser", "the image has no snaps"),
    ("ssh_import_id", "copy the keys into `ssh_authorized_keys`"),
    ("ssh_redirect_user", "give the user the keys instead"),
];

fn user(mut fields: Fields<'_>, report: &mut Report<'_>) -> Option<UserEntry> {
    let at = fields.at();
    let name = fields.text("name", report);
    if name.is_none() {
        report.error(at, format!("`{}` is missing", fields.name_of("name")), None);
    }
    let mut keys = fields.texts("ssh_authorized_keys", report);
    check_keys(&mut keys, report);
    let hash = fields.text("passwd", report).or(fields.text("hashed_passwd", report));
    let password_hash = hash.filter(|hash| check_hash(hash, report));
    let entry = UserEntry {
        name: name.and_then(|name| check_name(name, "user", report)).unwrap_or_default(),
        password_hash: password_hash.map(|hash| hash.value),
        is_locked: fields.boolean("lock_passwd", report).unwrap_or(false),
        ssh_authorized_keys: keys.into_iter().map(|key| key.value).collect(),
        gecos: field(&mut fields, "gecos", report),
        home: path(&mut fields, "homedir", report),
        has_no_home: fields.boolean("no_create_home", report).unwrap_or(false),
        primary_group: fields.text("primary_group", report).map(|it| it.value),
        groups: names(&mut fields, "groups", report),
        has_no_group: fields.boolean("no_user_group", report).unwrap_or(false),
        is_system: fields.boolean("system", report).unwrap_or(false),
        shell: path(&mut fields, "shell", report),
        uid: fields.integer("uid", report).and_then(|uid| check_id(uid, report)),
        sudo: sudo(&mut fields, report),
    };
    // There is no lastlog to be left out of.
    fields.boolean("no_log_init", report);
    unsupported::warn(&mut fields, UNSUPPORTED, report);
    fields.finish(&[], report);
    (!entry.name.is_empty()).then_some(entry)
}

/// A line of `/etc/shadow` holds it.
fn check_hash(hash: &At<String>, report: &mut Report<'_>) -> bool {
    let is_good = !hash.value.contains([':', '\n', '\r', '\0']);
    if !is_good {
        report.error(hash.at, "an encrypted password has no `:` and no line break", None);
    } else if !hash.value.starts_with(['$', '*', '!', '_']) && hash.value.len() != 13 {
        let hint = "`openssl passwd -6` makes one".to_owned();
        report.warn(hash.at, "this does not look like an encrypted password", hint);
    }
    is_good
}

/// 2^32 - 1 means "none" to the kernel.
pub(crate) fn check_id(id: At<i64>, report: &mut Report<'_>) -> Option<u32> {
    let number = u32::try_from(id.value).ok().filter(|id| *id != u32::MAX);
    if number.is_none() {
        report.error(id.at, format!("{} is no number of a user or group", id.value), None);
    }
    number
}

/// Text for a field of `/etc/passwd`.
fn field(fields: &mut Fields<'_>, key: &'static str, report: &mut Report<'_>) -> Option<String> {
    let text = fields.text(key, report)?;
    if text.value.contains([':', '\n', '\r', '\0']) {
        report.error(text.at, format!("`{}` has a `:` or a line break", fields.name_of(key)), None);
        return None;
    }
    Some(text.value)
}

fn path(fields: &mut Fields<'_>, key: &'static str, report: &mut Report<'_>) -> Option<String> {
    let text = fields.text(key, report)?;
    if text.value.starts_with('/') && !text.value.contains([':', '\n', '\r', '\0']) {
        return Some(text.value);
    }
    let hint = "it begins with `/`".to_owned();
    report.error(text.at, format!("`{}` is no absolute path", text.value), hint);
    None
}

/// Names in a list, or in a text with commas.
fn names(fields: &mut Fields<'_>, key: &'static str, report: &mut Report<'_>) -> Vec<String> {
    let Some(node) = fields.node(key) else { return Vec::new() };
    let texts = match &node.value {
        Value::Scalar(scalar) => scalar
            .text
            .split(',')
            .map(|name| At { value: name.trim().to_owned(), at: node.at })
            .filter(|name| !name.value.is_empty())
            .collect(),
        _ => report.texts(node, &fields.name_of(key)),
    };
    texts.into_iter().filter_map(|name| check_name(name, "group", report)).collect()
}

/// Rules of sudoers(5): a text or a list of them; `false` is none.
fn sudo(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Vec<String> {
    let Some(node) = fields.node("sudo") else { return Vec::new() };
    let name = fields.name_of("sudo");
    let texts = match (&node.value, node.scalar().map(|scalar| scalar.text.as_str())) {
        (Value::Scalar(_), Some("false" | "False" | "")) => return Vec::new(),
        (Value::List(_), _) => report.texts(node, &name),
        _ => report.text(node, &name).map(|value| At { value, at: node.at }).into_iter().collect(),
    };
    let mut rules = Vec::new();
    for text in texts {
        if text.value.contains(['\n', '\r', '\0'])
            || text.value.trim_end().ends_with('\\')
            || !text.value.contains('=')
        {
            let hint = "such as `ALL=(ALL) NOPASSWD:ALL`".to_owned();
            report.error(text.at, format!("`{name}`: this is no rule of sudoers(5)"), hint);
        } else {
            rules.push(text.value);
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_that_break_nothing_are_taken() {
        for name in ["core", "_x", "Anders.Janmyr", "a-b", "user1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-x", ".x", "1000", "a:b", "a b", "é", "a/b", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
