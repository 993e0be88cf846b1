//! The command line of `systemctl`.

use std::path::PathBuf;

use image_config::unit::Signal;

use super::style::{Format, Style};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command.
    pub verb: String,
    /// Units or patterns.
    pub operands: Vec<String>,
    /// `--no-block`
    pub no_block: bool,
    /// `--wait`
    pub wait: bool,
    /// `--now`
    pub now: bool,
    /// `--quiet`
    pub quiet: bool,
    /// `--all`
    pub all: bool,
    /// `--failed`
    pub failed: bool,
    /// `--force`
    pub force: bool,
    /// `--runtime`
    pub runtime: bool,
    /// `--no-legend`
    pub no_legend: bool,
    /// `--plain`
    pub plain: bool,
    /// `--value`
    pub value: bool,
    /// `--stdin` of `edit`
    pub stdin: bool,
    /// `--full` of `edit`
    pub full: bool,
    /// `--drop-in` of `edit`
    pub drop_in: String,
    /// `--reverse`, `--before` or `--after` of `list-dependencies`
    pub direction: Direction,
    /// `--type`
    pub kinds: Vec<String>,
    /// `--state`
    pub states: Vec<String>,
    /// `--property`
    pub properties: Vec<String>,
    /// `--lines`
    pub lines: usize,
    /// `--signal`
    pub signal: i32,
    /// `--kill-whom`
    pub whom: String,
    /// `--job-mode`
    pub job_mode: String,
    /// `--root`: where unit files are looked for and linked.
    pub root: PathBuf,
    /// `--output`
    pub format: Format,
    /// Colours or none.
    pub style: Style,
    /// `--help`
    pub help: bool,
    /// `--version`
    pub version: bool,
}

/// What `list-dependencies` follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// What the unit needs.
    #[default]
    Needs,
    /// What needs it.
    NeededBy,
    /// What it is ordered before.
    Before,
    /// What it is ordered after.
    After,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            verb: String::new(),
            operands: Vec::new(),
            no_block: false,
            wait: false,
            now: false,
            quiet: false,
            all: false,
            failed: false,
            force: false,
            runtime: false,
            no_legend: false,
            plain: false,
            value: false,
            stdin: false,
            full: false,
            drop_in: "override.conf".to_owned(),
            direction: Direction::Needs,
            kinds: Vec::new(),
            states: Vec::new(),
            properties: Vec::new(),
            lines: 10,
            signal: libc::SIGTERM,
            whom: String::new(),
            job_mode: "replace".to_owned(),
            root: PathBuf::from("/"),
            format: Format::Text,
            style: Style::default(),
            help: false,
            version: false,
        }
    }
}

/// Said to options that speak of other managers than PID 1 of this machine.
const OTHER_MACHINES: &str =
    "is not supported: this program talks to PID 1 of its own machine only; use `ssh HOST systemctl ...`";
const OTHER_MANAGERS: &str = "is not supported: there is no service manager of a user's own";

impl Options {
    /// Reads the words; options may stand anywhere.
    ///
    /// # Errors
    /// A message that names the word which is not understood.
    pub fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut operands = Vec::new();
        let mut words = words.iter();
        let mut only_operands = false;
        while let Some(word) = words.next() {
            if only_operands || !word.starts_with('-') || word == "-" {
                operands.push(word.clone());
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => split_short(word),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| format!("option '{name}' needs a value"))
            };
            match name {
                "--" => only_operands = true,
                "-h" | "--help" => options.help = true,
                "--version" => options.version = true,
                "--no-block" => options.no_block = true,
                "--wait" => options.wait = true,
                "--now" => options.now = true,
                "--runtime" => options.runtime = true,
                "--plain" => options.plain = true,
                "--stdin" => options.stdin = true,
                "-l" | "--full" => options.full = true,
                "--drop-in" => options.drop_in = value()?,
                "--reverse" => options.direction = Direction::NeededBy,
                "--before" => options.direction = Direction::Before,
                "--after" => options.direction = Direction::After,
                "--kill-whom" | "--kill-who" => options.whom = value()?,
                "--job-mode" => options.job_mode = value()?,
                "--root" => options.root = PathBuf::from(value()?),
                "-o" | "--output" => {
                    options.format = match value()?.as_str() {
                        "json" => Format::Json,
                        "json-pretty" => Format::JsonPretty,
                        "short" | "short-iso" | "short-monotonic" | "short-precise" | "short-unix"
                        | "cat" | "verbose" => Format::Text,
                        other => return Err(format!("unknown output '{other}'")),
                    }
                }
                "-H" | "--host" | "-M" | "--machine" => {
                    return Err(format!("option '{name}' {OTHER_MACHINES}"));
                }
                "--user" | "--global" => return Err(format!("option '{name}' {OTHER_MANAGERS}")),
                "-q" | "--quiet" => options.quiet = true,
                "-a" | "--all" => options.all = true,
                "--failed" => options.failed = true,
                "-f" | "--force" => options.force = true,
                "--no-legend" => options.no_legend = true,
                "--value" => options.value = true,
                "--no-pager" | "--system" | "--no-ask-password" | "--no-wall" | "--no-warn"
                | "--no-reload" | "--show-types" | "--recursive" | "-r" => {}
                "-p" | "-P" | "--property" => {
                    options.value |= name == "-P";
                    options.properties.extend(value()?.split(',').map(str::to_owned));
                }
                "-t" | "--type" => options.kinds.extend(value()?.split(',').map(str::to_owned)),
                "--state" => options.states.extend(value()?.split(',').map(str::to_owned)),
                "-n" | "--lines" => {
                    options.lines =
                        value()?.parse().map_err(|_| "option '--lines' needs a number".to_owned())?
                }
                "-s" | "--signal" => {
                    let text = value()?;
                    let signal = Signal::parse(&text).ok_or_else(|| format!("'{text}' is no signal"))?;
                    options.signal = signal.number();
                }
                _ => return Err(format!("unknown option '{word}'")),
            }
        }
        options.no_legend |= options.quiet;
        let mut operands = operands.into_iter();
        options.verb = operands.next().unwrap_or_default();
        options.operands = operands.collect();
        Ok(options)
    }
}

impl Options {
    /// Whether what is printed is for people, and not to be kept short.
    pub fn is_text_with_legend(&self) -> bool {
        self.format == Format::Text && !self.no_legend
    }
}

/// `-n5` is `-n 5`.
fn split_short(word: &str) -> (&str, Option<String>) {
    let takes_value = ["-p", "-P", "-t", "-n", "-s", "-o", "-H", "-M"]
        .iter()
        .find(|name| word.starts_with(**name) && word.len() > 2);
    match takes_value {
        Some(name) if !word.starts_with("--") => (name, word.get(2..).map(str::to_owned)),
        _ => (word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_stand_anywhere_and_values_in_either_form() {
        let options = parse("status -n5 --no-pager ssh --property=MainPID,Result -p SubState -- -x").unwrap();
        assert_eq!((options.verb.as_str(), options.lines), ("status", 5));
        assert_eq!(options.operands, ["ssh", "-x"]);
        assert_eq!(options.properties, ["MainPID", "Result", "SubState"]);
        assert_eq!(parse("kill -s HUP a").unwrap().signal, 1);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let problem = |line: &str| parse(line).unwrap_err();
        assert_eq!(problem("--frobnicate"), "unknown option '--frobnicate'");
        assert_eq!(problem("status -n"), "option '-n' needs a value");
        assert_eq!(problem("kill -s NOPE a"), "'NOPE' is no signal");
        assert_eq!(problem("-o yaml"), "unknown output 'yaml'");
        assert!(problem("-H host status").contains("ssh HOST systemctl"));
        assert!(problem("--user status").contains("a user's own"));
    }

    #[test]
    fn values_may_be_attached_to_short_options() {
        assert_eq!(parse("-ojson list-units").unwrap().format, Format::Json);
        assert_eq!(parse("-tservice,socket").unwrap().kinds, ["service", "socket"]);
        assert_eq!(parse("enable --now a").unwrap().operands, ["a"]);
    }
}
