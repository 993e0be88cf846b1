//! The command line of `systemctl`.

use std::path::PathBuf;

use image_config::unit::Signal;
use image_config::unit::value::boolean;

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
    /// `--preset-mode`
    pub preset_mode: PresetMode,
    /// `--show-types` of `list-sockets`
    pub show_types: bool,
    /// `--dry-run` of what takes the machine down
    pub dry_run: bool,
    /// `--no-reload` of what changes unit files
    pub no_reload: bool,
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
    /// What `help` as the value of an option asks for.
    pub word_list: Option<String>,
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

/// What `preset` and `preset-all` do: `--preset-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PresetMode {
    /// Enable and disable.
    #[default]
    Full,
    /// Only enable.
    EnableOnly,
    /// Only disable.
    DisableOnly,
}

/// Types of units that `--type=` takes.
const TYPES: [&str; 11] = [
    "service",
    "mount",
    "swap",
    "socket",
    "target",
    "device",
    "automount",
    "timer",
    "path",
    "slice",
    "scope",
];
/// Load states, coarse and fine states, in the order of `--state=help`.
const STATES: [(&str, &[&str]); 3] = [
    ("load", &["stub", "loaded", "not-found", "bad-setting", "error", "merged", "masked"]),
    (
        "active",
        &[
            "active",
            "reloading",
            "inactive",
            "failed",
            "activating",
            "deactivating",
            "maintenance",
            "refreshing",
        ],
    ),
    (
        "sub",
        &[
            "dead",
            "condition",
            "start-pre",
            "start",
            "start-post",
            "running",
            "exited",
            "reload",
            "reload-signal",
            "reload-notify",
            "stop",
            "stop-watchdog",
            "stop-sigterm",
            "stop-sigkill",
            "stop-post",
            "final-watchdog",
            "final-sigterm",
            "final-sigkill",
            "failed",
            "auto-restart",
            "auto-restart-queued",
            "listening",
            "waiting",
            "elapsed",
            "mounting",
            "mounted",
            "plugged",
        ],
    ),
];

/// The signals that `--signal=` takes by name.
fn signals() -> String {
    let all = (1..=64).filter_map(Signal::from_number).map(|signal| format!("{signal}\n"));
    // 32 and 33 are the C library's own and have no names.
    all.filter(|name| name.starts_with("SIG")).collect()
}

/// Options with a value that may be glued to them.
const SHORT_WITH_VALUE: &str = "pPtnsoHM";

/// Splits `-qa` into `-q -a`, and `-n5` into `-n 5`, as getopt(3) does.
fn unbundled(words: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-') && rest.len() > 1);
        let Some(letters) = letters else {
            all.push(word.clone());
            if word == "--" {
                all.extend(words.cloned());
                break;
            }
            continue;
        };
        for (at, letter) in letters.char_indices() {
            all.push(format!("-{letter}"));
            let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
            if SHORT_WITH_VALUE.contains(letter) && !rest.is_empty() {
                all.push(rest.to_owned());
                break;
            }
        }
    }
    all
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
            preset_mode: PresetMode::Full,
            show_types: false,
            dry_run: false,
            no_reload: false,
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
            word_list: None,
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
        let words = unbundled(words);
        let mut words = words.iter();
        let mut only_operands = false;
        while let Some(word) = words.next() {
            if only_operands || !word.starts_with('-') || word == "-" {
                operands.push(word.clone());
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
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
                "--legend" => {
                    let text = value()?;
                    let legend = boolean(&text).map_err(|_| format!("'{text}' is neither yes nor no"))?;
                    options.no_legend = !legend;
                }
                "--preset-mode" => {
                    options.preset_mode = match value()?.as_str() {
                        "full" => PresetMode::Full,
                        "enable-only" => PresetMode::EnableOnly,
                        "disable-only" => PresetMode::DisableOnly,
                        other => return Err(format!("unknown preset mode '{other}'")),
                    }
                }
                "--show-types" => options.show_types = true,
                "--dry-run" => options.dry_run = true,
                "--no-reload" => options.no_reload = true,
                // There is nobody to ask, nobody else who is logged in, nothing that could inhibit.
                "--no-pager" | "--system" | "--no-ask-password" | "--no-wall" | "--no-warn"
                | "--recursive" | "-r" | "-i" => {}
                "--check-inhibitors" | "--message" => drop(value()?),
                "-p" | "-P" | "--property" => {
                    options.value |= name == "-P";
                    options.properties.extend(value()?.split(',').map(str::to_owned));
                }
                "-t" | "--type" => options.add_kinds(&value()?)?,
                "--state" => options.add_states(&value()?),
                "-n" | "--lines" => {
                    options.lines =
                        value()?.parse().map_err(|_| "option '--lines' needs a number".to_owned())?
                }
                "-s" | "--signal" => {
                    let text = value()?;
                    if matches!(text.as_str(), "list" | "help") {
                        options.word_list = Some(signals());
                        continue;
                    }
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
    /// `--type`: types of units; load states too, as systemd has it.
    fn add_kinds(&mut self, list: &str) -> Result<(), String> {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            if word == "help" {
                self.word_list = Some(format!("Available unit types:\n{}\n", TYPES.join("\n")));
            } else if TYPES.contains(&word) {
                self.kinds.push(word.to_owned());
            } else if STATES.iter().take(1).any(|(_, words)| words.contains(&word)) {
                self.states.push(word.to_owned());
            } else {
                return Err(format!("unknown unit type or load state '{word}'; --type=help lists them"));
            }
        }
        Ok(())
    }

    /// `--state`
    fn add_states(&mut self, list: &str) {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            if word == "help" {
                let all = STATES
                    .map(|(what, words)| format!("Available unit {what} states:\n{}\n", words.join("\n")));
                self.word_list = Some(all.join("\n"));
            } else {
                self.states.push(word.to_owned());
            }
        }
    }

    /// Whether what is printed is for people, and not to be kept short.
    pub fn is_text_with_legend(&self) -> bool {
        self.format == Format::Text && !self.no_legend
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
        assert!(problem("-t frob").contains("--type=help"));
        assert!(problem("--preset-mode=some preset-all").contains("'some'"));
        assert!(problem("-H host status").contains("ssh HOST systemctl"));
        assert!(problem("--user status").contains("a user's own"));
    }

    #[test]
    fn help_as_a_value_lists_what_there_is() {
        let list = |line: &str| parse(line).unwrap().word_list.unwrap();
        assert!(list("--type=help").contains("\nautomount\n"));
        assert!(list("--state=help").contains("\nnot-found\n"));
        assert!(list("kill -s list x").starts_with("SIGHUP\n"));
        assert_eq!(parse("--type=loaded,socket").unwrap().states, ["loaded"]);
    }

    #[test]
    fn values_may_be_attached_to_short_options() {
        assert_eq!(parse("-ojson list-units").unwrap().format, Format::Json);
        assert_eq!(parse("-tservice,socket").unwrap().kinds, ["service", "socket"]);
        let options = parse("-qal -n5 status -- -qa").unwrap();
        assert!(options.quiet && options.all && options.full);
        assert_eq!((options.lines, options.operands), (5, vec!["-qa".to_owned()]));
        assert_eq!(parse("enable --now a").unwrap().operands, ["a"]);
    }
}
