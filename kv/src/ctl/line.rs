//! A command line to what it asks for. No I/O.

use super::flags::{self, Delimiter, Misuse, Parsed};
use super::words::{self, COMMANDS, Command, GLOBAL, HELP};

/// What a command line asks for.
#[derive(Debug)]
pub enum Line {
    /// A text, and with which status that ends.
    Print(Text),
    /// A command.
    Run(Box<Call>),
}

/// What is printed without asking etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// For stdout.
    pub stdout: String,
    /// For stderr.
    pub stderr: String,
    /// Exit status.
    pub status: u8,
}

/// A command with what it was given.
#[derive(Debug)]
pub struct Call {
    /// Options before the command.
    pub global: Parsed,
    /// The command's name; `member list` for one of a command's own.
    pub name: String,
    /// Its options and arguments.
    pub options: Parsed,
}

fn shown(stdout: String) -> Line {
    Line::Print(Text { stdout, ..Text::default() })
}

fn misuse(introduction: &str, misuse: &Misuse, help: &str) -> Line {
    let problem = misuse.text();
    let stdout = match (introduction, misuse) {
        // The program's own options, where this comes before its check of the syntax.
        ("Incorrect Usage.", Misuse::TwoForms(_)) => format!("{problem}\n{help}"),
        _ => format!("{introduction} {problem}\n\n{help}"),
    };
    Line::Print(Text { stdout, stderr: format!("{problem}\n"), status: 1 })
}

fn no_topic(name: &[u8]) -> Line {
    let stderr = format!("No help topic for '{}'\n", String::from_utf8_lossy(name));
    Line::Print(Text { stderr, status: 3, ..Text::default() })
}

const HELP_COMMAND: Command = Command {
    name: "help",
    usage: "Shows a list of commands or help for one command",
    arguments: "[command]",
    description: "",
    flags: &[],
    commands: &[],
};

fn is_help(name: &[u8]) -> bool {
    matches!(name, b"help" | b"h")
}

/// Help for a command by its name.
fn help_for(name: &[u8], inside: Option<&Command>) -> Line {
    let commands = inside.map_or(COMMANDS, |folder| folder.commands);
    let found = words::find(commands, name).or_else(|| is_help(name).then_some(&HELP_COMMAND));
    match (found, inside) {
        (Some(command), Some(folder)) => {
            shown(words::command_help(&format!("{} {}", folder.name, command.name), command))
        }
        (Some(command), None) => shown(words::command_help(command.name, command)),
        (None, _) => no_topic(name),
    }
}

/// Reads the words behind the program's name.
pub fn read(words: &[Vec<u8>], version: &str) -> Line {
    let help = || words::program_help(version);
    let mut global = match flags::parse(GLOBAL, words) {
        Ok(parsed) => parsed,
        Err(problem) => return misuse("Incorrect Usage.", &problem, &help()),
    };
    if global.is_on("help") {
        return shown(help());
    }
    if global.is_on("version") {
        return shown(format!("etcdctl version: {version}\nAPI version: 2\n"));
    }
    let rest = std::mem::take(&mut global.rest);
    let Some((name, rest)) = rest.split_first() else { return shown(help()) };
    if is_help(name) {
        return match read_leaf(&HELP_COMMAND, "help", rest) {
            Err(line) => line,
            Ok(parsed) => parsed.rest.first().map_or_else(|| shown(help()), |name| help_for(name, None)),
        };
    }
    match words::find(COMMANDS, name) {
        None => no_topic(name),
        Some(folder) if !folder.commands.is_empty() => read_folder(folder, rest, global),
        Some(command) => match read_leaf(command, command.name, rest) {
            Ok(options) => Line::Run(Box::new(Call { global, name: command.name.to_owned(), options })),
            Err(line) => line,
        },
    }
}

fn read_folder(folder: &Command, words: &[Vec<u8>], global: Parsed) -> Line {
    let help = || words::folder_help(folder);
    let parsed = match flags::parse(&[HELP], words) {
        Ok(parsed) => parsed,
        Err(problem) => return misuse("Incorrect Usage.", &problem, &help()),
    };
    let Some((name, rest)) = parsed.rest.split_first().filter(|_| !parsed.is_on("help")) else {
        return shown(help());
    };
    if is_help(name) {
        return rest.first().map_or_else(|| shown(help()), |name| help_for(name, Some(folder)));
    }
    let Some(command) = words::find(folder.commands, name) else { return no_topic(name) };
    let full = format!("{} {}", folder.name, command.name);
    match read_leaf(command, &full, rest) {
        Ok(options) => Line::Run(Box::new(Call { global, name: full, options })),
        Err(line) => line,
    }
}

fn read_leaf(command: &Command, full: &str, words: &[Vec<u8>]) -> Result<Parsed, Line> {
    let help = || words::command_help(full, command);
    let all = [command.flags, &[HELP]].concat();
    // With options moved by the rule of later versions of the library `exec-watch KEY -- COMMAND` would lose its hyphens, and take
    // the last word for the key, as Debian's etcdctl does.
    let delimiter = if command.name == "exec-watch" { Delimiter::Stays } else { Delimiter::First };
    match flags::parse(&all, &flags::reordered(&all, words, delimiter)) {
        Err(problem) => Err(misuse("Incorrect Usage:", &problem, &help())),
        Ok(parsed) if parsed.is_on("help") => Err(shown(help())),
        Ok(parsed) => Ok(parsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str) -> Line {
        let words: Vec<Vec<u8>> =
            text.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect();
        read(&words, "1.2.3")
    }

    fn printed(text: &str) -> Text {
        match line(text) {
            Line::Print(text) => text,
            Line::Run(call) => panic!("{text}: {call:?}"),
        }
    }

    fn called(text: &str) -> Call {
        match line(text) {
            Line::Run(call) => *call,
            Line::Print(printed) => panic!("{text}: {printed:?}"),
        }
    }

    #[test]
    fn commands_are_found_with_their_options() {
        let call = called("-o json --no-sync set /foo/bar hello --ttl 60");
        assert_eq!((call.name.as_str(), call.options.number("ttl")), ("set", 60));
        assert_eq!(call.options.rest, [b"/foo/bar".to_vec(), b"hello".to_vec()]);
        assert_eq!(call.global.text("output"), b"json");
        assert!(call.global.is_on("no-sync"));
        assert_eq!(called("member list").name, "member list");
        assert_eq!(called("exec-watch -r /a -- sh -c env").options.rest.len(), 5);
    }

    #[test]
    fn wrong_use_ends_with_the_old_texts_and_statuses() {
        let cases = [
            ("bogus", "", "No help topic for 'bogus'\n", 3),
            ("help bogus", "", "No help topic for 'bogus'\n", 3),
            ("member bogus", "", "No help topic for 'bogus'\n", 3),
            ("--bogus ls", "Incorrect Usage. flag", "flag provided but not defined: -bogus\n", 1),
            ("ls --bogus", "Incorrect Usage: flag", "flag provided but not defined: -bogus\n", 1),
            ("", "NAME:\n   etcdctl - A simple", "", 0),
            ("--version", "etcdctl version: 1.2.3\nAPI version: 2\n", "", 0),
            ("set -h", "NAME:\n   etcdctl set - ", "", 0),
            ("help set", "NAME:\n   etcdctl set - ", "", 0),
            ("member", "NAME:\n   etcdctl member - ", "", 0),
            ("member add --help", "NAME:\n   etcdctl member add - ", "", 0),
            (
                "-o json --output json ls",
                "Cannot use two forms of the same flag: o output\nNAME",
                "Cannot",
                1,
            ),
        ];
        for (given, stdout, stderr, status) in cases {
            let text = printed(given);
            assert!(text.stdout.starts_with(stdout), "{given}: {text:?}");
            assert!(
                text.stderr.starts_with(stderr) && text.stderr.is_empty() == stderr.is_empty(),
                "{given}"
            );
            assert_eq!(text.status, status, "{given}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(given in "(-{1,2}[a-z]{1,9}|[a-z-]{1,12}|set|ls|member|help| |=)*") {
            let _ = format!("{:?}", line(&given));
        }
    }
}
