//! The command line of `systemctl`.

use image_config::unit::Signal;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The command.
    pub verb: String,
    /// Units or patterns.
    pub operands: Vec<String>,
    /// `--no-block`
    pub no_block: bool,
    /// `--quiet`
    pub quiet: bool,
    /// `--all`
    pub all: bool,
    /// `--failed`
    pub failed: bool,
    /// `--force`
    pub force: bool,
    /// `--no-legend`
    pub no_legend: bool,
    /// `--value`
    pub value: bool,
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
    /// `--help`
    pub help: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            verb: String::new(),
            operands: Vec::new(),
            no_block: false,
            quiet: false,
            all: false,
            failed: false,
            force: false,
            no_legend: false,
            value: false,
            kinds: Vec::new(),
            states: Vec::new(),
            properties: Vec::new(),
            lines: 10,
            signal: libc::SIGTERM,
            help: false,
        }
    }
}

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
                "--no-block" => options.no_block = true,
                "-q" | "--quiet" => options.quiet = true,
                "-a" | "--all" => options.all = true,
                "--failed" => options.failed = true,
                "-f" | "--force" => options.force = true,
                "--no-legend" => options.no_legend = true,
                "--value" => options.value = true,
                "-l" | "--full" | "--no-pager" | "--plain" | "--system" | "--no-ask-password" | "--wait"
                | "--now" => {}
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
        let mut operands = operands.into_iter();
        options.verb = operands.next().unwrap_or_default();
        options.operands = operands.collect();
        Ok(options)
    }
}

/// `-n5` is `-n 5`.
fn split_short(word: &str) -> (&str, Option<String>) {
    let takes_value =
        ["-p", "-P", "-t", "-n", "-s"].iter().find(|name| word.starts_with(**name) && word.len() > 2);
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
        assert_eq!(parse("--frobnicate"), Err("unknown option '--frobnicate'".to_owned()));
        assert_eq!(parse("status -n"), Err("option '-n' needs a value".to_owned()));
        assert_eq!(parse("kill -s NOPE a"), Err("'NOPE' is no signal".to_owned()));
    }
}
