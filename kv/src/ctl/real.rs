//! What belongs to the etcdctl of etcd itself: commands that only API v3 has, and those of v2 whose subject has moved there.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::failure::Failure;
use super::line::Call;
use super::settings::Settings;

/// Where it lives in an image.
pub const PROGRAM: &str = "/usr/libexec/etcd/etcdctl";

/// Commands that v2 did not have.
const V3_ONLY: [&str; 18] = [
    "put",
    "del",
    "txn",
    "compaction",
    "alarm",
    "defrag",
    "endpoint",
    "move-leader",
    "snapshot",
    "lease",
    "lock",
    "elect",
    "check",
    "make-mirror",
    "completion",
    "version",
    "downgrade",
    "migrate",
];
/// Commands of commands that v2 did not have, or not under these names.
const V3_ONLY_BELOW: [(&str, &[&str]); 3] = [
    ("user", &["delete", "grant-role", "revoke-role"]),
    ("role", &["delete", "grant-permission", "revoke-permission"]),
    ("member", &["promote"]),
];
/// Options of either generation that take a value, without hyphens: what follows them is no command.
const WITH_VALUE: [&str; 29] = [
    "output",
    "o",
    "discovery-srv",
    "D",
    "peers",
    "C",
    "endpoint",
    "endpoints",
    "cert-file",
    "key-file",
    "ca-file",
    "username",
    "u",
    "timeout",
    "total-timeout",
    "cacert",
    "cert",
    "key",
    "user",
    "password",
    "write-out",
    "w",
    "command-timeout",
    "dial-timeout",
    "keepalive-time",
    "keepalive-timeout",
    "discovery-srv-name",
    "insecure-skip-tls-verify",
    "data-dir",
];
/// Options before the command: what v2 called them, what v3 calls them.
const RENAMED: [(&str, &str); 12] = [
    ("ca-file", "cacert"),
    ("cert-file", "cert"),
    ("key-file", "key"),
    ("username", "user"),
    ("u", "user"),
    ("peers", "endpoints"),
    ("C", "endpoints"),
    ("endpoint", "endpoints"),
    ("total-timeout", "command-timeout"),
    ("timeout", "dial-timeout"),
    ("output", "write-out"),
    ("o", "write-out"),
];

/// The words for the real etcdctl, if the command is one of its own; the options before it are given the names that it knows.
pub fn words_for_v3(words: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Some(name) = option_name(word) else { break };
        let takes = WITH_VALUE.iter().any(|own| own.as_bytes() == name) && !word.contains(&b'=');
        at += if takes { 2 } else { 1 };
    }
    let command = words.get(at)?;
    let is_own = V3_ONLY.iter().any(|own| own.as_bytes() == command);
    let below = || {
        let (_, own) = V3_ONLY_BELOW.iter().find(|(folder, _)| folder.as_bytes() == command)?;
        let next = words.get(at + 1)?;
        own.iter().any(|own| own.as_bytes() == next).then_some(())
    };
    if !is_own && below().is_none() {
        return None;
    }
    let (options, rest) = words.split_at(at);
    Some(renamed(options).into_iter().chain(rest.iter().cloned()).collect())
}

fn option_name(word: &[u8]) -> Option<&[u8]> {
    let name = word.strip_prefix(b"-").filter(|name| !name.is_empty() && *name != b"-")?;
    let name = name.strip_prefix(b"-").unwrap_or(name);
    name.split(|byte| *byte == b'=').next()
}

fn renamed(options: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut is_value = false;
    for word in options {
        match option_name(word).filter(|_| !is_value) {
            // v3 never asks for the members first.
            Some(b"no-sync") => continue,
            Some(name) => {
                let new = RENAMED.iter().find(|(old, _)| old.as_bytes() == name).map(|(_, new)| *new);
                let value = word.iter().position(|byte| *byte == b'=').and_then(|at| word.get(at..));
                let name = new.map_or_else(|| name.to_vec(), |new| new.as_bytes().to_vec());
                let hyphens: &[u8] = if name.len() == 1 { b"-" } else { b"--" };
                let takes = WITH_VALUE.iter().any(|own| own.as_bytes() == name);
                is_value = takes && value.is_none();
                words.push([hyphens, &name, value.unwrap_or_default()].concat());
            }
            None => {
                is_value = false;
                words.push(word.clone());
            }
        }
    }
    words
}

/// Becomes the real etcdctl; returns only if that cannot be.
pub fn become_v3(words: &[Vec<u8>]) -> Failure {
    let mut command = command();
    command.args(words.iter().cloned().map(OsString::from_vec));
    failed(&command.exec())
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::Plain(format!("etcdctl: API v3 is {PROGRAM}'s, which cannot be run: {error}"), 1)
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env("ETCDCTL_API", "3");
    let same = [
        ("ETCDCTL_CA_FILE", "ETCDCTL_CACERT"),
        ("ETCDCTL_CERT_FILE", "ETCDCTL_CERT"),
        ("ETCDCTL_KEY_FILE", "ETCDCTL_KEY"),
        ("ETCDCTL_USERNAME", "ETCDCTL_USER"),
    ];
    for (old, new) in same {
        // It warns of variables that it does not know.
        command.env_remove(old);
        if let Some(value) = std::env::var_os(old).filter(|_| std::env::var_os(new).is_none()) {
            command.env(new, value);
        }
    }
    command
}

/// Users and roles guard the v3 store, and are its etcdctl's: the command lines of v3 that a call of v2's comes to.
///
/// # Errors
/// What is missing, in the old words.
pub fn for_users_and_roles(call: &Call) -> Result<Vec<Vec<Vec<u8>>>, Failure> {
    let options = &call.options;
    let wrong = |text: &str| Err(Failure::Plain(text.to_owned(), 1));
    let (folder, verb) = call.name.split_once(' ').unwrap_or((call.name.as_str(), ""));
    if matches!((folder, verb), ("auth", _) | (_, "list")) {
        if !options.rest.is_empty() {
            return wrong("No arguments accepted");
        }
        return Ok(vec![bytes(&[folder.as_bytes(), verb.as_bytes()])]);
    }
    let grants = matches!(verb, "grant" | "revoke");
    if folder == "user" && grants && options.texts("roles").is_empty() {
        return wrong("No roles specified; please use `--roles`");
    }
    let kinds = ["read", "write", "readwrite"].map(|kind| options.is_on(kind).then_some(kind));
    let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
    if folder == "role" && grants {
        if options.text("path").is_empty() {
            return wrong("No path specified; please use `--path`");
        }
        if kinds.len() != 1 {
            return wrong("Please specify exactly one of --read, --write or --readwrite");
        }
    }
    let [name] = options.rest.as_slice() else {
        return wrong(if folder == "user" {
            "Please provide a username"
        } else {
            "Please provide a role name"
        });
    };
    let name = name.as_slice();
    Ok(match (folder, verb) {
        ("user", "grant" | "revoke") => {
            let roles = options.texts("roles");
            let roles = roles.iter().flat_map(|roles| roles.split(|byte| *byte == b','));
            let verb = format!("{verb}-role");
            roles.map(|role| bytes(&[b"user", verb.as_bytes(), name, role])).collect()
        }
        ("role", "grant" | "revoke") => {
            // v2's `/a/*` is all that begins with `/a/`.
            let path = options.text("path");
            let (path, prefix) = match path.strip_suffix(b"*") {
                Some(path) => (path, Some(&b"--prefix=true"[..])),
                None => (path, None),
            };
            let mut words =
                vec![&b"role"[..], if verb == "grant" { b"grant-permission" } else { b"revoke-permission" }];
            words.extend(prefix);
            words.push(name);
            if verb == "grant" {
                words.extend(kinds.iter().map(|kind| kind.as_bytes()));
            }
            words.push(path);
            vec![bytes(&words)]
        }
        (_, "remove") => vec![bytes(&[folder.as_bytes(), b"delete", name])],
        _ => vec![bytes(&[folder.as_bytes(), verb.as_bytes(), name])],
    })
}

fn bytes(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

/// Runs the real etcdctl with the settings of this call, once for each of `lines`; returns the first status that is not 0.
///
/// # Errors
/// It cannot be run.
pub fn run(settings: &Settings, lines: &[Vec<Vec<u8>>]) -> Result<u8, Failure> {
    for words in lines {
        let mut command = command();
        command.env("ETCDCTL_ENDPOINTS", settings.endpoints.join(","));
        let files = [
            ("ETCDCTL_CACERT", &settings.tls.ca),
            ("ETCDCTL_CERT", &settings.tls.certificate),
            ("ETCDCTL_KEY", &settings.tls.key),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                command.env(name, file);
            }
        }
        if let Some(user) = &settings.user {
            command.env("ETCDCTL_USER", user);
        }
        let words = words.iter().map(|word| std::ffi::OsStr::from_bytes(word));
        let status = command.args(words).status().map_err(|error| failed(&error))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::line::{self, Line};

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn commands_of_v3_go_to_v3_with_its_names_of_options() {
        let cases: &[(&str, Option<&str>)] = &[
            ("put a b --lease 5", Some("put a b --lease 5")),
            ("--endpoints x endpoint health", Some("--endpoints x endpoint health")),
            (
                "-C x --no-sync -o json snapshot save f",
                Some("--endpoints x --write-out json snapshot save f"),
            ),
            ("--ca-file=/ca --debug del a", Some("--cacert=/ca --debug del a")),
            ("--cacert put get k", None),
            ("set put x", None),
            ("get a --prefix", None),
            ("user delete x", Some("user delete x")),
            ("user add x", None),
            ("member promote 8", Some("member promote 8")),
            ("", None),
            ("--endpoints", None),
        ];
        for (given, want) in cases {
            let got = words_for_v3(&words(given)).map(|words| String::from_utf8(words.join(&b' ')).unwrap());
            assert_eq!(got.as_deref(), *want, "{given}");
        }
    }

    #[test]
    fn users_and_roles_are_those_of_v3() {
        let cases: &[(&str, Result<&[&str], &str>)] = &[
            ("user add bob", Ok(&["user add bob"])),
            ("user remove bob", Ok(&["user delete bob"])),
            ("user grant bob --roles a,b", Ok(&["user grant-role bob a", "user grant-role bob b"])),
            ("user grant bob", Err("No roles specified; please use `--roles`")),
            ("user get", Err("Please provide a username")),
            ("user list x", Err("No arguments accepted")),
            ("role grant r --path /a/* --rw", Ok(&["role grant-permission --prefix=true r readwrite /a/"])),
            ("role revoke r --path /a --read", Ok(&["role revoke-permission r /a"])),
            ("role grant r --path /a", Err("Please specify exactly one of --read, --write or --readwrite")),
            ("auth enable", Ok(&["auth enable"])),
        ];
        for (given, want) in cases {
            let Line::Run(call) = line::read(&words(given), "1") else { panic!("{given}") };
            let got = for_users_and_roles(&call);
            let got = got.map(|lines| {
                lines.iter().map(|words| String::from_utf8(words.join(&b' ')).unwrap()).collect::<Vec<_>>()
            });
            let got = got.map_err(|failure| String::from_utf8(failure.text()).unwrap().trim().to_owned());
            let want = want.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, want.map_err(str::to_owned), "{given}");
        }
    }
}
