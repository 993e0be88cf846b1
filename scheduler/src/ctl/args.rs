//! The command line of `fleetctl`.

use std::time::Duration;

/// An option.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    short: Option<char>,
    /// What stands for its value in the help; `None`: it has none.
    value: Option<&'static str>,
    help: &'static str,
}

const fn flag(name: &'static str, value: Option<&'static str>, help: &'static str) -> Flag {
    Flag { name, short: None, value, help }
}

const fn short(letter: char, flag: Flag) -> Flag {
    Flag { short: Some(letter), ..flag }
}

/// Options of all commands; each but the last two is also read from the environment (`FLEETCTL_ENDPOINT` and so on).
const GLOBAL: [Flag; 16] = [
    flag(
        "endpoint",
        Some("URL"),
        "where fleetd listens: unix:///run/fleet.sock, http://HOST:PORT, https://HOST:PORT",
    ),
    flag("driver", Some("NAME"), "API, or etcd: without a fleetd, --endpoint is then etcd's (API)"),
    flag("etcd-key-prefix", Some("KEY"), "where fleet's keys begin, for --driver=etcd (/_coreos.com/fleet/)"),
    flag("ca-file", Some("FILE"), "PEM: who vouches for an https endpoint"),
    flag("cert-file", Some("FILE"), "PEM: what this client shows there"),
    flag("key-file", Some("FILE"), "PEM: its private key"),
    flag("tunnel", Some("HOST[:PORT]"), "reach it by SSH on this machine"),
    flag("ssh-username", Some("NAME"), "who logs in by SSH (core)"),
    flag("ssh-timeout", Some("SECONDS"), "the most that connecting by SSH may take (10)"),
    flag("strict-host-key-checking", None, "check the keys of machines; =false does not (true)"),
    flag("known-hosts-file", Some("FILE"), "where the keys of machines are kept (~/.fleetctl/known_hosts)"),
    flag("request-timeout", Some("SECONDS"), "the most that one request may take (15)"),
    flag("experimental-api", None, "does nothing: what it asked for is the rule"),
    flag("debug", None, "tell requests on stderr"),
    short('h', flag("help", None, "this")),
    short('v', flag("version", None, "print the version")),
];
/// Names that fleet had given up, and what they are called now.
const OLD_NAMES: [(&str, &str); 3] =
    [("etcd-cafile", "ca-file"), ("etcd-certfile", "cert-file"), ("etcd-keyfile", "key-file")];

/// What Go's `strconv.ParseBool` takes, on which scripts may rely.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

const REPLACE: Flag = flag("replace", None, "give units that are there already the file's content");
const NO_BLOCK: Flag = flag("no-block", None, "do not wait");
const ATTEMPTS: Flag =
    flag("block-attempts", Some("N"), "wait N times two seconds, 0: as long as it takes (0)");
const NO_LEGEND: Flag = flag("no-legend", None, "no line of headers");
const FULL: Flag = short('l', flag("full", None, "do not shorten"));
const OUTPUT: Flag = short('o', flag("output", Some("FORMAT"), "text or json (text)"));
const FIELDS: Flag = flag("fields", Some("LIST"), "which columns");
const PORT: Flag = flag("ssh-port", Some("PORT"), "of SSH (22)");

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    arguments: &'static str,
    help: &'static str,
    flags: &'static [Flag],
}

/// All of them.
pub const COMMANDS: [Command; 20] = [
    Command { name: "cat", arguments: "UNIT", help: "print a unit's file", flags: &[OUTPUT] },
    Command { name: "destroy", arguments: "UNIT...", help: "stop units and remove them", flags: &[] },
    Command {
        name: "drain",
        arguments: "MACHINE",
        help: "move a machine's units elsewhere and give it no more",
        flags: &[
            flag("wait", Some("SECONDS"), "wait until they are up elsewhere, at most so long (0)"),
            flag("why", Some("TEXT"), "what list-machines says of it (drained)"),
        ],
    },
    Command {
        name: "fd-forward",
        arguments: "SOCKET",
        help: "join stdin and stdout to a socket",
        flags: &[],
    },
    Command { name: "help", arguments: "[COMMAND]", help: "this", flags: &[] },
    Command {
        name: "journal",
        arguments: "UNIT",
        help: "print a unit's journal, on its machine",
        flags: &[
            flag("lines", Some("N"), "how many lines (10)"),
            short('f', flag("follow", None, "go on as there are more")),
            flag("output", Some("FORMAT"), "journalctl's (short)"),
            flag("sudo", None, "as root"),
            PORT,
        ],
    },
    Command {
        name: "list-machines",
        arguments: "",
        help: "the machines of the cluster",
        flags: &[FIELDS, FULL, NO_LEGEND, OUTPUT],
    },
    Command {
        name: "list-unit-files",
        arguments: "",
        help: "the units that the cluster knows",
        flags: &[FIELDS, FULL, NO_LEGEND, OUTPUT],
    },
    Command {
        name: "list-units",
        arguments: "",
        help: "what machines say of their units",
        flags: &[FIELDS, FULL, NO_LEGEND, OUTPUT],
    },
    Command {
        name: "load",
        arguments: "UNIT...",
        help: "give units to machines",
        flags: &[NO_BLOCK, ATTEMPTS, REPLACE],
    },
    Command {
        name: "restart",
        arguments: "UNIT...",
        help: "stop units and start them again",
        flags: &[ATTEMPTS, PORT],
    },
    Command {
        name: "ssh",
        arguments: "[MACHINE|UNIT] [COMMAND...]",
        help: "log in on a machine, or on a unit's",
        flags: &[
            short('m', flag("machine", Some("MACHINE"), "this machine")),
            short('u', flag("unit", Some("UNIT"), "the machine of this unit")),
            short('A', flag("forward-agent", None, "let the machine use the local SSH agent")),
            PORT,
        ],
    },
    Command {
        name: "start",
        arguments: "UNIT...",
        help: "start units",
        flags: &[NO_BLOCK, ATTEMPTS, REPLACE],
    },
    Command {
        name: "status",
        arguments: "UNIT...",
        help: "systemctl status, on the unit's machine",
        flags: &[PORT],
    },
    Command {
        name: "stop",
        arguments: "UNIT...",
        help: "stop units; machines keep them",
        flags: &[NO_BLOCK, ATTEMPTS],
    },
    Command { name: "submit", arguments: "UNIT...", help: "let the cluster know units", flags: &[REPLACE] },
    Command { name: "undrain", arguments: "MACHINE", help: "give a machine units again", flags: &[] },
    Command {
        name: "unload",
        arguments: "UNIT...",
        help: "take units away from machines",
        flags: &[NO_BLOCK, ATTEMPTS],
    },
    Command { name: "verify", arguments: "FILE...", help: "say what is wrong with unit files", flags: &[] },
    Command { name: "version", arguments: "", help: "print the version", flags: &[] },
];

/// A command line, read.
#[derive(Debug)]
pub struct Parsed {
    /// `None`: help was asked for, of all or of the command in question.
    pub command: Option<&'static Command>,
    /// Words that are no options.
    pub arguments: Vec<String>,
    values: Vec<(&'static str, String)>,
}

impl Parsed {
    /// An option's value; the last one counts.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// Whether an option is set.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.is_on(name, false)
    }

    /// Whether an option is on; `default` if nothing is said of it.
    #[must_use]
    pub fn is_on(&self, name: &str, default: bool) -> bool {
        self.value(name).and_then(boolean).unwrap_or(default)
    }

    /// Seconds, with a fraction or without.
    ///
    /// # Errors
    /// They are none.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.value(name) else { return Ok(None) };
        let seconds = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
        let seconds = seconds.filter(|seconds| *seconds >= Duration::from_millis(1));
        seconds.map(Some).ok_or_else(|| format!("--{name} takes seconds, not {text:?}"))
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        let Some(text) = self.value(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("--{name} takes a whole number, not {text:?}"))
    }
}

/// Reads a command line; variables of the environment stand behind it.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(words: &[String], environment: impl Fn(&str) -> Option<String>) -> Result<Parsed, String> {
    let mut values: Vec<(&'static str, String)> = Vec::new();
    let current = GLOBAL.iter().map(|flag| (flag.name, flag.name));
    for (name, meant) in OLD_NAMES.into_iter().chain(current) {
        let variable = format!("FLEETCTL_{}", name.to_ascii_uppercase().replace('-', "_"));
        // People keep the version that they install in a variable of that name.
        let is_said = !["help", "version"].contains(&name);
        let Some(value) = environment(&variable).filter(|value| is_said && !value.is_empty()) else {
            continue;
        };
        let has_value = GLOBAL.iter().any(|flag| flag.name == meant && flag.value.is_some());
        if !has_value && boolean(&value).is_none() {
            return Err(format!("{variable} is true or false, not {value:?}"));
        }
        values.push((meant, value));
    }
    let (mut command, mut arguments): (Option<&'static Command>, Vec<String>) = (None, Vec::new());
    let mut words = words.iter().map(String::as_str);
    let mut only_arguments = false;
    while let Some(word) = words.next() {
        // Behind the machine of `ssh` stands a command of its own.
        let is_remote = command.is_some_and(|command| command.name == "ssh")
            && (!arguments.is_empty() || values.iter().any(|(name, _)| ["machine", "unit"].contains(name)))
            && !word.starts_with('-');
        if word == "--" && !only_arguments {
            only_arguments = true;
        } else if only_arguments || is_remote || !word.starts_with('-') || word == "-" {
            only_arguments |= is_remote;
            match command {
                None => command = Some(find(word)?),
                Some(_) => arguments.push(word.to_owned()),
            }
        } else {
            option(word, &mut words, command, &mut values)?;
        }
    }
    Ok(Parsed { command, arguments, values })
}

fn option<'a>(
    word: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
    command: Option<&'static Command>,
    values: &mut Vec<(&'static str, String)>,
) -> Result<(), String> {
    let text = word.trim_start_matches('-');
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let name = OLD_NAMES.iter().find(|(old, _)| *old == name).map_or(name, |(_, meant)| meant);
    let own = command.map(|command| command.flags).unwrap_or_default();
    let named =
        |flag: &&Flag| flag.name == name || flag.short.is_some_and(|letter| name.chars().eq([letter]));
    let flag = own.iter().find(named).or_else(|| GLOBAL.iter().find(named));
    let flag = flag.ok_or_else(|| match command {
        Some(command) => format!("{}: there is no option {word}", command.name),
        None => format!("there is no option {word}"),
    })?;
    let value = match (flag.value, value) {
        (None, None) => "true".to_owned(),
        (None, Some(value)) if boolean(value).is_none() => {
            return Err(format!("--{} is true or false, not {value:?}", flag.name));
        }
        (_, Some(value)) => value.to_owned(),
        (Some(_), None) => words.next().ok_or_else(|| format!("{word} takes a value"))?.to_owned(),
    };
    values.push((flag.name, value));
    Ok(())
}

/// A command by its name, or by the beginning of it if only one begins so.
fn find(word: &str) -> Result<&'static Command, String> {
    if let Some(command) = COMMANDS.iter().find(|command| command.name == word) {
        return Ok(command);
    }
    let found: Vec<&'static Command> =
        COMMANDS.iter().filter(|command| command.name.starts_with(word)).collect();
    match found.as_slice() {
        [command] => Ok(command),
        [] => Err(format!("unknown subcommand: {word:?}\nRun 'fleetctl help' for usage.")),
        several => {
            let names: Vec<&str> = several.iter().map(|command| command.name).collect();
            Err(format!("{word:?} may be {}", names.join(" or ")))
        }
    }
}

fn list(out: &mut String, flags: &[Flag]) {
    for flag in flags {
        let letter = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
        let value = flag.value.map(|value| format!("={value}")).unwrap_or_default();
        out.push_str(&format!("  {:<34} {}\n", format!("{letter}--{}{value}", flag.name), flag.help));
    }
}

/// What `help` prints, of a command or of all.
#[must_use]
pub fn help(command: Option<&Command>) -> String {
    let mut out = String::new();
    if let Some(command) = command {
        out.push_str(&format!("fleetctl {} {}\n\n{}\n\n", command.name, command.arguments, command.help));
        list(&mut out, command.flags);
        return out;
    }
    out.push_str("fleetctl is a command-line interface to fleet, the cluster-wide init system.\n\nUsage:\n");
    out.push_str("  fleetctl [OPTIONS] COMMAND [OPTIONS] [ARGUMENTS...]\n\nVersion:\n");
    out.push_str(&format!("  {}\n\nCommands:\n", crate::VERSION));
    for command in &COMMANDS {
        out.push_str(&format!("  {:<16} {:<28} {}\n", command.name, command.arguments, command.help));
    }
    out.push_str("\nOptions, each also from the environment (FLEETCTL_ENDPOINT and so on):\n");
    list(&mut out, &GLOBAL);
    out.push_str("\nExit status: 0 done; 1 refused or failed, stderr says why; verify: 2 if files are wrong; ssh, status and journal: that of the command.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Parsed, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        parse(&words, |name| (name == "FLEETCTL_ENDPOINT").then(|| "unix:///env".to_owned()))
    }

    /// Scenario 2, FleetctlWithEnv; options stand anywhere, with one hyphen or two.
    #[test]
    fn options_come_from_the_line_or_the_environment() {
        let parsed = read(&["list-machines", "--no-legend", "-l"]).unwrap();
        assert_eq!(parsed.value("endpoint"), Some("unix:///env"));
        assert!(parsed.has("no-legend") && parsed.has("full") && !parsed.has("debug"));
        let parsed =
            read(&["-endpoint", "unix:///line", "start", "a", "--block-attempts=3", "b", "-no-block"])
                .unwrap();
        assert_eq!((parsed.value("endpoint"), parsed.command.unwrap().name), (Some("unix:///line"), "start"));
        assert_eq!(
            (parsed.arguments.as_slice(), parsed.number("block-attempts", 0)),
            (&["a".to_owned(), "b".to_owned()][..], Ok(3))
        );
        let parsed = read(&["ssh", "-A", "abc", "ls", "-l", "--", "x"]).unwrap();
        assert_eq!(parsed.arguments, ["abc", "ls", "-l", "--", "x"]);
        let parsed = read(&["ssh", "--unit=a", "ls", "-l"]).unwrap();
        assert_eq!(parsed.arguments, ["ls", "-l"]);
    }

    /// Reference 1.11: each global flag has its variable, the names that fleet had given up as well, and the line wins.
    #[test]
    fn every_global_option_has_its_variable() {
        for flag in GLOBAL.iter().filter(|flag| !["help", "version"].contains(&flag.name)) {
            let variable = format!("FLEETCTL_{}", flag.name.to_ascii_uppercase().replace('-', "_"));
            let value = if flag.value.is_some() { "x" } else { "1" };
            let parsed = parse(&[], |name| (name == variable).then(|| value.to_owned())).unwrap();
            assert_eq!(parsed.value(flag.name), Some(value), "{variable}");
        }
        let old = |name: &str| (name == "FLEETCTL_ETCD_CAFILE").then(|| "old.pem".to_owned());
        assert_eq!(parse(&[], old).unwrap().value("ca-file"), Some("old.pem"));
        assert_eq!(read(&["--etcd-keyfile", "k.pem"]).unwrap().value("key-file"), Some("k.pem"));
        let version = |name: &str| (name == "FLEETCTL_VERSION").then(|| "0.11.5".to_owned());
        assert!(!parse(&[], version).unwrap().has("version"));
    }

    #[test]
    fn values_are_checked() {
        let line = |word: &str| read(&[word, "list-units"]);
        assert!(line("--strict-host-key-checking").unwrap().is_on("strict-host-key-checking", false));
        assert!(!line("--strict-host-key-checking=F").unwrap().is_on("strict-host-key-checking", true));
        assert_eq!(line("--debug=maybe").unwrap_err(), "--debug is true or false, not \"maybe\"");
        let wrong = parse(&[], |name| (name == "FLEETCTL_DEBUG").then(|| "maybe".to_owned()));
        assert_eq!(wrong.unwrap_err(), "FLEETCTL_DEBUG is true or false, not \"maybe\"");
        for (text, want) in [
            ("3", Ok(Some(Duration::from_secs(3)))),
            ("0.5", Ok(Some(Duration::from_millis(500)))),
            ("0", Err(())),
            ("-1", Err(())),
            ("soon", Err(())),
            ("1e99", Err(())),
            ("NaN", Err(())),
        ] {
            let parsed = line(&format!("--request-timeout={text}")).unwrap();
            assert_eq!(parsed.seconds("request-timeout").map_err(drop), want, "{text}");
        }
    }

    #[test]
    fn commands_may_be_shortened_as_long_as_it_is_clear() {
        assert_eq!(read(&["dest", "a"]).unwrap().command.unwrap().name, "destroy");
        assert_eq!(read(&["st", "a"]).unwrap_err(), "\"st\" may be start or status or stop");
        assert!(read(&["frob"]).unwrap_err().starts_with("unknown subcommand: \"frob\""));
        assert_eq!(read(&["start", "--lines=3"]).unwrap_err(), "start: there is no option --lines=3");
        assert_eq!(read(&["journal", "--lines"]).unwrap_err(), "--lines takes a value");
    }

    /// Scenarios 4 and 5, ClientVersionHelpOutput and ClientHelpFlag.
    #[test]
    fn the_help_names_every_command_and_the_version() {
        let text = help(None);
        assert!(COMMANDS.iter().all(|command| text.contains(&format!("\n  {} ", command.name))));
        assert!(text.contains(crate::VERSION));
        assert!(GLOBAL.iter().all(|flag| text.contains(&format!("--{}", flag.name))));
        assert!(read(&["--help"]).unwrap().has("help") && read(&["start", "-h"]).unwrap().has("help"));
    }
}
