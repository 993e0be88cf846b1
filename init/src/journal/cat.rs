//! `systemd-cat`: connects a command, or a pipeline, to the journal (systemd-cat(1)).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use image_config::unit::value;

use super::entry::Priority;
use super::stream::Header;
use super::{client, ports};

const HELP: &str = "\
systemd-cat [OPTIONS...] [COMMAND...]

Runs COMMAND with its output in the journal; without one, standard input goes there.

  -t --identifier=NAME       the syslog identifier
  -p --priority=LEVEL        the level of lines, info if not said
     --stderr-priority=LEVEL the level of standard error's lines
     --level-prefix=BOOL     a <N> before a line is its level; yes if not said
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    identifier: Option<String>,
    priority: u8,
    error_priority: Option<u8>,
    level_prefix: bool,
    help: bool,
    command: Vec<String>,
}

impl Options {
    /// Reads the words; the first that is no option begins the command.
    fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options {
            identifier: None,
            priority: Priority::INFO,
            error_priority: None,
            level_prefix: true,
            help: false,
            command: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" || !word.starts_with('-') {
                options.command = words.cloned().collect();
                if word != "--" {
                    options.command.insert(0, word.clone());
                }
                break;
            }
            let (name, attached) = match word.split_once('=').filter(|_| word.starts_with("--")) {
                Some((name, value)) => (name, Some(value)),
                None if word.starts_with("--") => (word.as_str(), None),
                None => match word.split_at_checked(2) {
                    Some((name, "")) => (name, None),
                    Some((name, value)) => (name, Some(value)),
                    None => (word.as_str(), None),
                },
            };
            let mut text = || {
                let next = attached.map(str::to_owned).or_else(|| words.next().cloned());
                next.ok_or_else(|| format!("option '{name}' needs a value"))
            };
            let level = |text: String| {
                // As with logger(1), a facility may stand before the level.
                let name = text.rsplit('.').next().unwrap_or_default();
                Priority::parse(name).ok_or_else(|| format!("Failed to parse priority value: {text}"))
            };
            match name {
                "-h" | "--help" => options.help = true,
                "-t" | "--identifier" => options.identifier = Some(text()?),
                "-p" | "--priority" => options.priority = level(text()?)?,
                "--stderr-priority" => options.error_priority = Some(level(text()?)?),
                "--level-prefix" => {
                    options.level_prefix = value::boolean(&text()?).map_err(|error| error.to_string())?;
                }
                _ => return Err(format!("unrecognized option '{word}'")),
            }
        }
        Ok(options)
    }

    fn stream(&self, path: &Path, level: u8) -> io::Result<OwnedFd> {
        let program = self.command.first().and_then(|command| command.rsplit('/').next());
        let identifier = self.identifier.as_deref().or(program).unwrap_or("cat").to_owned();
        let header = Header {
            identifier,
            unit: String::new(),
            // Facility user.
            priority: 1 << 3 | level,
            level_prefix: self.level_prefix,
            to_console: false,
        };
        client::open_stream(path, &header)
    }
}

/// Runs `systemd-cat`; with a command it is that command from then on.
pub fn run(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("systemd-cat: {problem}");
            return ExitCode::FAILURE;
        }
    };
    if options.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match connect(&options, &Path::new(ports::FOLDER).join(ports::STDOUT)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("systemd-cat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn connect(options: &Options, path: &Path) -> io::Result<()> {
    let failed = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let open = |level| options.stream(path, level).map_err(|error| failed("Failed to create stream", error));
    let output = open(options.priority)?;
    let Some((program, words)) = options.command.split_first() else {
        io::copy(&mut io::stdin().lock(), &mut File::from(output))?;
        return Ok(());
    };
    let error_output = match options.error_priority {
        Some(level) => open(level)?,
        None => output.try_clone()?,
    };
    let mut command = Command::new(program);
    let stat = rustix::fs::fstat(&error_output)?;
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
    command.args(words).stdout(Stdio::from(output)).stderr(Stdio::from(error_output));
    Err(failed("Failed to execute process", command.exec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let options = parse("-t app -pwarning --level-prefix=no ls -l --help").unwrap();
        assert_eq!(options.identifier.as_deref(), Some("app"));
        assert_eq!((options.priority, options.level_prefix, options.help), (4, false, false));
        assert_eq!(options.command, ["ls", "-l", "--help"]);
        assert_eq!(parse("-- -x").unwrap().command, ["-x"]);
        assert_eq!(parse("--stderr-priority=daemon.err").unwrap().error_priority, Some(3));
        assert!(parse("-p loud").is_err() && parse("-z").is_err() && parse("-t").is_err());
    }

    #[test]
    fn a_stream_says_who_writes() {
        let root = tempfile::tempdir().unwrap();
        let ports = ports::Ports::bind(root.path()).unwrap();
        let path = root.path().join(ports::STDOUT);
        let _stream = parse("/bin/ls").unwrap().stream(&path, 5).unwrap();
        let accepted = rustix::net::accept(&ports.stdout).unwrap();
        let mut buffer = [0; 256];
        let received = super::super::sockets::receive(&accepted, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.count], b"ls\n\n13\n1\n0\n0\n0\n");
    }
}
