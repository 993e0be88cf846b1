//! The commands and options there are, and what the help says about them.

use super::flags::{Flag, Takes};

/// A command, or one of a command's own.
#[derive(Debug)]
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// One line.
    pub usage: &'static str,
    /// What may follow.
    pub arguments: &'static str,
    /// More lines; empty for none.
    pub description: &'static str,
    /// Options.
    pub flags: &'static [Flag],
    /// Commands of its own.
    pub commands: &'static [Command],
}

const fn command(
    name: &'static str,
    usage: &'static str,
    arguments: &'static str,
    flags: &'static [Flag],
) -> Command {
    Command { name, usage, arguments, description: "", flags, commands: &[] }
}

const fn folder(name: &'static str, usage: &'static str, commands: &'static [Command]) -> Command {
    Command { name, usage, arguments: "", description: "", flags: &[], commands }
}

/// What every command and the program itself take.
pub const HELP: Flag = Flag::new(&["help", "h"], Takes::Nothing, "show help");

/// Options before the command.
pub const GLOBAL: &[Flag] = &[
    Flag::new(&["debug"], Takes::Nothing, "output cURL commands which can be used to reproduce the request"),
    Flag::new(&["no-sync"], Takes::Nothing, "don't synchronize cluster information before sending request"),
    Flag::new(
        &["output", "o"],
        Takes::Text("simple"),
        "output response in the given format (`simple`, `extended` or `json`)",
    ),
    Flag::new(
        &["discovery-srv", "D"],
        Takes::Text(""),
        "domain name to query for SRV records describing cluster endpoints",
    ),
    Flag::new(
        &["insecure-discovery"],
        Takes::Nothing,
        "accept insecure SRV records describing cluster endpoints",
    ),
    Flag::new(&["peers", "C"], Takes::Text(""), "DEPRECATED - \"--endpoints\" should be used instead"),
    Flag::new(&["endpoint"], Takes::Text(""), "DEPRECATED - \"--endpoints\" should be used instead"),
    Flag::new(
        &["endpoints"],
        Takes::Text(""),
        "a comma-delimited list of machine addresses in the cluster (default: \"http://127.0.0.1:2379,http://127.0.0.1:4001\")",
    ),
    Flag::new(&["cert-file"], Takes::Text(""), "identify HTTPS client using this SSL certificate file"),
    Flag::new(&["key-file"], Takes::Text(""), "identify HTTPS client using this SSL key file"),
    Flag::new(
        &["ca-file"],
        Takes::Text(""),
        "verify certificates of HTTPS-enabled servers using this CA bundle",
    ),
    Flag::new(
        &["username", "u"],
        Takes::Text(""),
        "provide username[:password] and prompt if password is not supplied.",
    ),
    Flag::new(&["timeout"], Takes::Time("2s"), "connection timeout per request"),
    Flag::new(&["total-timeout"], Takes::Time("5s"), "timeout for the command execution (except watch)"),
    HELP,
    Flag::new(&["version", "v"], Takes::Nothing, "print the version"),
];

const TTL: Flag = Flag::new(&["ttl"], Takes::Number, "key time-to-live in seconds");
const SORT: Flag = Flag::new(&["sort"], Takes::Nothing, "returns result in sorted order");
const QUORUM: Flag = Flag::new(&["quorum", "q"], Takes::Nothing, "require quorum for get request");
const AFTER: Flag = Flag::new(&["after-index"], Takes::Number, "watch after the given index");
const ROLES: Flag = Flag::new(&["roles"], Takes::Texts, "List of roles to grant or revoke");

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        description: "Performs an offline backup of etcd directory.\n\n\
            Moved to `./etcdutl backup` and going to be decomissioned in v3.5\n\n\
            The recommended (online) backup command is: `./etcdctl snapshot save ...`.\n\n",
        ..command(
            "backup",
            "--data-dir=... --backup-dir={output}",
            "",
            &[
                Flag::new(&["data-dir"], Takes::Text(""), "Path to the etcd data dir"),
                Flag::new(&["wal-dir"], Takes::Text(""), "Path to the etcd wal dir"),
                Flag::new(&["backup-dir"], Takes::Text(""), "Path to the backup dir"),
                Flag::new(&["backup-wal-dir"], Takes::Text(""), "Path to the backup wal dir"),
                Flag::new(&["with-v3"], Takes::Nothing, "Backup v3 backend data"),
            ],
        )
    },
    command(
        "cluster-health",
        "check the health of the etcd cluster",
        " ",
        &[Flag::new(
            &["forever", "f"],
            Takes::Nothing,
            "forever check the health every 10 second until CTRL+C",
        )],
    ),
    command(
        "mk",
        "make a new key with a given value",
        "<key> <value>",
        &[Flag::new(&["in-order"], Takes::Nothing, "create in-order key under directory <key>"), TTL],
    ),
    command("mkdir", "make a new directory", "<key>", &[TTL]),
    command(
        "rm",
        "remove a key or a directory",
        "<key>",
        &[
            Flag::new(
                &["dir"],
                Takes::Nothing,
                "removes the key if it is an empty directory or a key-value pair",
            ),
            Flag::new(
                &["recursive", "r"],
                Takes::Nothing,
                "removes the key and all child keys(if it is a directory)",
            ),
            Flag::new(&["with-value"], Takes::Text(""), "previous value"),
            Flag::new(&["with-index"], Takes::Number, "previous index"),
        ],
    ),
    command("rmdir", "removes the key if it is an empty directory or a key-value pair", "<key>", &[]),
    command("get", "retrieve the value of a key", "<key>", &[SORT, QUORUM]),
    command(
        "ls",
        "retrieve a directory",
        "[key]",
        &[
            SORT,
            Flag::new(
                &["recursive", "r"],
                Takes::Nothing,
                "returns all key names recursively for the given path",
            ),
            Flag::new(&["p"], Takes::Nothing, "append slash (/) to directories"),
            QUORUM,
        ],
    ),
    Command {
        description: "Set sets the value of a key.\n\n   \
            When <value> begins with '-', <value> is interpreted as a flag.\n   \
            Insert '--' for workaround:\n\n   \
            $ set -- <key> <value>",
        ..command(
            "set",
            "set the value of a key",
            "<key> <value>",
            &[
                TTL,
                Flag::new(&["swap-with-value"], Takes::Text(""), "previous value"),
                Flag::new(&["swap-with-index"], Takes::Number, "previous index"),
            ],
        )
    },
    command("setdir", "create a new directory or update an existing directory TTL", "<key>", &[TTL]),
    command("update", "update an existing key with a given value", "<key> <value>", &[TTL]),
    command("updatedir", "update an existing directory", "<key> <value>", &[TTL]),
    command(
        "watch",
        "watch a key for changes",
        "<key>",
        &[
            Flag::new(&["forever", "f"], Takes::Nothing, "forever watch a key until CTRL+C"),
            AFTER,
            Flag::new(&["recursive", "r"], Takes::Nothing, "returns all values for key and child keys"),
        ],
    ),
    command(
        "exec-watch",
        "watch a key for changes and exec an executable",
        "<key> <command> [args...]",
        &[AFTER, Flag::new(&["recursive", "r"], Takes::Nothing, "watch all values for key and child keys")],
    ),
    folder(
        "member",
        "member add, remove and list subcommands",
        &[
            command("list", "enumerate existing cluster members", " ", &[]),
            command("add", "add a new member to the etcd cluster", "<name> <peerURL>", &[]),
            command("remove", "remove an existing member from the etcd cluster", "<memberID>", &[]),
            command("update", "update an existing member in the etcd cluster", "<memberID> <peerURLs>", &[]),
        ],
    ),
    folder(
        "user",
        "user add, grant and revoke subcommands",
        &[
            command("add", "add a new user for the etcd cluster", "<user>", &[]),
            command("get", "get details for a user", "<user>", &[]),
            command("list", "list all current users", "<user>", &[]),
            command("remove", "remove a user for the etcd cluster", "<user>", &[]),
            command("grant", "grant roles to an etcd user", "<user>", &[ROLES]),
            command("revoke", "revoke roles for an etcd user", "<user>", &[ROLES]),
            command("passwd", "change password for a user", "<user>", &[]),
        ],
    ),
    folder(
        "role",
        "role add, grant and revoke subcommands",
        &[
            command("add", "add a new role for the etcd cluster", "<role> ", &[]),
            command("get", "get details for a role", "<role>", &[]),
            command("list", "list all roles", " ", &[]),
            command("remove", "remove a role from the etcd cluster", "<role>", &[]),
            command(
                "grant",
                "grant path matches to an etcd role",
                "<role>",
                &[
                    Flag::new(&["path"], Takes::Text(""), "Path granted for the role to access"),
                    Flag::new(&["read"], Takes::Nothing, "Grant read-only access"),
                    Flag::new(&["write"], Takes::Nothing, "Grant write-only access"),
                    Flag::new(&["readwrite", "rw"], Takes::Nothing, "Grant read-write access"),
                ],
            ),
            command(
                "revoke",
                "revoke path matches for an etcd role",
                "<role>",
                &[
                    Flag::new(&["path"], Takes::Text(""), "Path revoked for the role to access"),
                    Flag::new(&["read"], Takes::Nothing, "Revoke read access"),
                    Flag::new(&["write"], Takes::Nothing, "Revoke write access"),
                    Flag::new(&["readwrite", "rw"], Takes::Nothing, "Revoke read-write access"),
                ],
            ),
        ],
    ),
    folder(
        "auth",
        "overall auth controls",
        &[
            command("enable", "enable auth access controls", " ", &[]),
            command("disable", "disable auth access controls", " ", &[]),
        ],
    ),
];

/// `help` itself.
const HELP_COMMAND: (&str, &str) = ("help, h", "Shows a list of commands or help for one command");
/// What stands in for a usage of its own.
const BACKUP: &str = "[deprecated] offline backup an etcd directory.";

/// Lines of two columns, as Go's `tabwriter` lays them out: two blanks behind the longest of the first.
fn columns(lines: &[(String, String)]) -> Vec<String> {
    let width = lines.iter().map(|(first, _)| first.chars().count()).max().unwrap_or(0) + 2;
    lines.iter().map(|(first, second)| format!("   {first:width$}{second}")).collect()
}

fn option(flag: &Flag) -> (String, String) {
    // A word in backquotes is the name of the value.
    let (mut placeholder, mut usage) = ("value".to_owned(), flag.usage.to_owned());
    let parts: Vec<&str> = flag.usage.splitn(3, '`').collect();
    if let [before, name, after] = parts.as_slice() {
        placeholder = (*name).to_owned();
        usage = format!("{before}{name}{after}");
    }
    let names: Vec<String> = flag
        .names
        .iter()
        .map(|name| {
            let hyphens = if name.len() == 1 { "-" } else { "--" };
            let value = if flag.takes == Takes::Nothing { String::new() } else { format!(" {placeholder}") };
            format!("{hyphens}{name}{value}")
        })
        .collect();
    match flag.takes {
        Takes::Text(default) if !default.is_empty() => usage.push_str(&format!(" (default: \"{default}\")")),
        Takes::Time(default) => usage.push_str(&format!(" (default: {default})")),
        Takes::Number => usage.push_str(" (default: 0)"),
        Takes::Text(_) | Takes::Texts | Takes::Nothing => {}
    }
    (names.join(", "), usage)
}

fn options(flags: &[Flag]) -> Vec<String> {
    columns(&flags.iter().map(option).collect::<Vec<_>>())
}

/// The help of the program.
pub fn program_help(version: &str) -> String {
    let mut commands: Vec<(String, String)> =
        COMMANDS.iter().map(|command| (command.name.to_owned(), command.usage.to_owned())).collect();
    commands.push((HELP_COMMAND.0.to_owned(), HELP_COMMAND.1.to_owned()));
    format!(
        "NAME:\n   etcdctl - A simple command line client for etcd.\n\n\
         USAGE:\n   etcdctl [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {version}\n\n\
         COMMANDS:\n{}\n\n\
         GLOBAL OPTIONS:\n{}\n",
        columns(&commands).join("\n"),
        options(GLOBAL).join("\n"),
    )
}

/// The help of a command; `full` is its name with those of the commands that it belongs to.
pub fn command_help(full: &str, command: &Command) -> String {
    let head = format!("NAME:\n   etcdctl {full} - {}\n\nUSAGE:\n", command.usage);
    let usage = if command.name == "backup" {
        BACKUP.to_owned()
    } else {
        let some = if command.flags.is_empty() { "" } else { " [command options]" };
        let arguments = if command.arguments.is_empty() { "[arguments...]" } else { command.arguments };
        format!("etcdctl {full}{some} {arguments}")
    };
    let mut text = format!("{head}   {usage}");
    if !command.description.is_empty() {
        text.push_str(&format!("\n\nDESCRIPTION:\n   {}", command.description));
    }
    if !command.flags.is_empty() {
        text.push_str(&format!("\n\nOPTIONS:\n{}\n   ", options(command.flags).join("\n")));
    }
    text.push('\n');
    text
}

/// The help of a command that has commands of its own, when it is given none of them.
pub fn folder_help(command: &Command) -> String {
    let commands: Vec<(String, String)> =
        command.commands.iter().map(|own| (own.name.to_owned(), own.usage.to_owned())).collect();
    format!(
        "NAME:\n   etcdctl {name} - {}\n\nUSAGE:\n   etcdctl {name} command [command options] [arguments...]\n\n\
         COMMANDS:\n{}\n\nOPTIONS:\n{}\n   \n",
        command.usage,
        columns(&commands).join("\n"),
        options(&[HELP]).join("\n"),
        name = command.name,
    )
}

/// A command by its name.
pub fn find<'a>(commands: &'a [Command], name: &[u8]) -> Option<&'a Command> {
    commands.iter().find(|command| command.name.as_bytes() == name)
}
