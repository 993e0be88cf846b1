//! The command line of `journalctl`.

use std::collections::VecDeque;

use image_config::unit::{complete_unit_name, value};

use super::output::Format;
use super::values::{boot_choice, cursor, facilities, is_count, levels, point};
use crate::journal::entry::Id;
use crate::journal::export::Cursor;
use crate::journal::filter::Filter;

/// Which boot is meant: an id, and how many after it; without an id 0 is this boot, -1 the one before it, 1 the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootChoice {
    /// The boot that is counted from.
    pub id: Option<Id>,
    /// Boots after it.
    pub offset: i64,
}

/// What is done with the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Show entries.
    Show,
    /// `--list-boots`
    ListBoots,
    /// `--disk-usage`
    DiskUsage,
    /// `--vacuum-*`
    Vacuum,
    /// `--fields`
    Fields,
    /// `--field`
    Field(String),
    /// Ask the journal: `--rotate`, `--flush`, `--sync`, in this order.
    Ask,
    /// `--header`
    Header,
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `-o help`
    Formats,
}

/// Where to begin by a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromCursor {
    /// Which entry.
    pub cursor: Cursor,
    /// Behind it rather than at it.
    pub after: bool,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to do.
    pub action: Action,
    /// What is wanted.
    pub filter: Filter,
    /// `-b`
    pub boot: Option<BootChoice>,
    /// `-n`; `Some(None)` is all of them.
    pub lines: Option<Option<u64>>,
    /// `-n +N`: from the beginning.
    pub from_start: bool,
    /// `-f`
    pub follow: bool,
    /// `-r`
    pub reverse: bool,
    /// `-o`
    pub format: Format,
    /// `--output-fields`
    pub output_fields: Vec<String>,
    /// `-a`
    pub all: bool,
    /// `-q`
    pub quiet: bool,
    /// `--utc`
    pub utc: bool,
    /// `--no-hostname`
    pub no_hostname: bool,
    /// `--cursor`, `--after-cursor`
    pub cursor: Option<FromCursor>,
    /// `--cursor-file`
    pub cursor_file: Option<String>,
    /// `--show-cursor`
    pub show_cursor: bool,
    /// `-D`
    pub directory: Option<String>,
    /// `--file`
    pub files: Vec<String>,
    /// `--root`
    pub root: Option<String>,
    /// Methods of the journal to be called.
    pub ask: Vec<&'static str>,
    /// `--vacuum-size`, bytes.
    pub vacuum_size: Option<u64>,
    /// `--vacuum-time`, microseconds.
    pub vacuum_time: Option<u64>,
    /// `--vacuum-files`
    pub vacuum_files: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            action: Action::Show,
            filter: Filter::default(),
            boot: None,
            lines: None,
            from_start: false,
            follow: false,
            reverse: false,
            format: Format::Short,
            output_fields: Vec::new(),
            all: false,
            quiet: false,
            utc: false,
            no_hostname: false,
            cursor: None,
            cursor_file: None,
            show_cursor: false,
            directory: None,
            files: Vec::new(),
            root: None,
            ask: Vec::new(),
            vacuum_size: None,
            vacuum_time: None,
            vacuum_files: None,
        }
    }
}

/// Options of one letter that need a value.
const SHORT_WITH_VALUE: [char; 11] = ['u', 't', 'T', 'p', 'o', 'g', 'S', 'U', 'c', 'D', 'F'];
/// Long options that stand for a short one.
const LONG: [(&str, &str); 27] = [
    ("--unit", "-u"),
    ("--identifier", "-t"),
    ("--exclude-identifier", "-T"),
    ("--priority", "-p"),
    ("--output", "-o"),
    ("--grep", "-g"),
    ("--since", "-S"),
    ("--until", "-U"),
    ("--cursor", "-c"),
    ("--directory", "-D"),
    ("--field", "-F"),
    ("--fields", "-N"),
    ("--follow", "-f"),
    ("--lines", "-n"),
    ("--boot", "-b"),
    ("--dmesg", "-k"),
    ("--reverse", "-r"),
    ("--pager-end", "-e"),
    ("--catalog", "-x"),
    ("--quiet", "-q"),
    ("--all", "-a"),
    ("--full", "-l"),
    ("--help", "-h"),
    ("--file", "-i"),
    ("--merge", "-m"),
    ("--no-full", "--no-full"),
    ("--user-unit", "--user-unit"),
];

impl Options {
    /// Reads the words; `now` is in microseconds since 1970.
    ///
    /// # Errors
    /// A message for the person who wrote them.
    pub fn parse(words: &[String], now: u64) -> Result<Options, String> {
        let mut options = Options::default();
        let mut seen = Seen::default();
        let mut words: VecDeque<String> = words.iter().cloned().collect();
        let mut only_matches = false;
        while let Some(word) = words.pop_front() {
            if only_matches || !word.starts_with('-') || word == "-" {
                options.add_match(&word)?;
                continue;
            }
            if word == "--" {
                only_matches = true;
                continue;
            }
            if let Some(letters) = word.strip_prefix('-').filter(|_| !word.starts_with("--")) {
                options.short(letters, &mut words, &mut seen, now)?;
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let name =
                LONG.iter().find(|(long, _)| *long == name).map_or(name, |(_, short)| (*short).to_owned());
            options.set(&name, attached, &mut words, &mut seen, now)?;
        }
        options.settle(seen)
    }

    /// `-fu ssh`, `-n5`.
    fn short(
        &mut self,
        letters: &str,
        words: &mut VecDeque<String>,
        seen: &mut Seen,
        now: u64,
    ) -> Result<(), String> {
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            let name = format!("-{letter}");
            let takes = SHORT_WITH_VALUE.contains(&letter) || matches!(letter, 'n' | 'b' | 'i');
            let attached = Some(letters.as_str()).filter(|rest| takes && !rest.is_empty()).map(str::to_owned);
            let ends = attached.is_some();
            self.set(&name, attached, words, seen, now)?;
            if ends {
                break;
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        attached: Option<String>,
        rest: &mut VecDeque<String>,
        seen: &mut Seen,
        now: u64,
    ) -> Result<(), String> {
        let mut value = || {
            attached
                .clone()
                .or_else(|| rest.pop_front())
                .ok_or_else(|| format!("option '{name}' needs a value"))
        };
        match name {
            "-u" => self.filter.units.push(complete_unit_name(&value()?)),
            // There are no units of users here, and no entries of them.
            "--user-unit" => self.filter.units.push(complete_unit_name(&value()?)),
            "-t" => self.filter.identifiers.push(value()?),
            "-T" => self.filter.without_identifiers.push(value()?),
            "-p" => self.filter.levels = Some(levels(&value()?)?),
            "--facility" => self.filter.facilities = Some(facilities(&value()?)?),
            "-o" => {
                let text = value()?;
                if text == "help" {
                    self.action = Action::Formats;
                    return Ok(());
                }
                self.format =
                    Format::parse(&text).ok_or_else(|| format!("Unknown output format '{text}'."))?;
            }
            "--output-fields" => self.output_fields.extend(value()?.split(',').map(str::to_owned)),
            "-g" => seen.grep = Some(value()?),
            "--case-sensitive" => {
                let text = attached.unwrap_or_else(|| "yes".to_owned());
                seen.case = Some(value::boolean(&text).map_err(|error| error.to_string())?);
            }
            "-S" => self.filter.since = Some(point(&value()?, now)?),
            "-U" => self.filter.until = Some(point(&value()?, now)?),
            "-c" => self.cursor = Some(FromCursor { cursor: cursor(&value()?)?, after: false }),
            "--after-cursor" => self.cursor = Some(FromCursor { cursor: cursor(&value()?)?, after: true }),
            "--cursor-file" => self.cursor_file = Some(value()?),
            "--show-cursor" => self.show_cursor = true,
            "-D" => self.directory = Some(value()?),
            "-i" => self.files.push(value()?),
            "--root" => self.root = Some(value()?),
            "-F" => self.action = Action::Field(value()?),
            "-N" => self.action = Action::Fields,
            "-f" => self.follow = true,
            "--no-tail" => seen.no_tail = true,
            "-n" => {
                let next = rest.front().filter(|next| is_count(next)).cloned();
                let text = attached.or_else(|| next.inspect(|_| drop(rest.pop_front())));
                self.set_lines(text.as_deref())?;
            }
            "-b" => {
                let next = rest.front().filter(|next| boot_choice(next).is_some()).cloned();
                let text = attached.or_else(|| next.inspect(|_| drop(rest.pop_front())));
                let text = text.unwrap_or_default();
                self.boot = match text.as_str() {
                    "all" => None,
                    text => {
                        let choice = boot_choice(text);
                        Some(choice.ok_or_else(|| format!("Failed to parse boot descriptor '{text}'"))?)
                    }
                };
            }
            "-k" => self.filter.kernel = true,
            "-r" => self.reverse = true,
            "-e" => seen.pager_end = true,
            "-a" => self.all = true,
            "-q" => self.quiet = true,
            "--utc" => self.utc = true,
            "--no-hostname" => self.no_hostname = true,
            "-x" | "-l" | "-m" | "--no-full" | "--no-pager" | "--system" | "--truncate-newline" => {}
            "--user" => self.filter.units.push("user@*.service".to_owned()),
            "--list-boots" => self.action = Action::ListBoots,
            "--disk-usage" => self.action = Action::DiskUsage,
            "--header" => self.action = Action::Header,
            "--vacuum-size" => {
                self.vacuum_size = Some(value::size(&value()?).map_err(|error| error.to_string())?);
                self.action = Action::Vacuum;
            }
            "--vacuum-time" => {
                let span = value::time_span(&value()?).map_err(|error| error.to_string())?.finite();
                self.vacuum_time = span.map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
                self.action = Action::Vacuum;
            }
            "--vacuum-files" => {
                let text = value()?;
                self.vacuum_files =
                    Some(text.parse().map_err(|_| format!("Failed to parse vacuum files: {text}"))?);
                self.action = Action::Vacuum;
            }
            "--rotate" => self.ask("Rotate"),
            "--flush" => self.ask("FlushToVar"),
            "--relinquish-var" | "--smart-relinquish-var" => self.ask("RelinquishVar"),
            "--sync" => self.ask("Synchronize"),
            "-h" => self.action = Action::Help,
            "--version" => self.action = Action::Version,
            _ => return Err(format!("unrecognized option '{name}'")),
        }
        Ok(())
    }

    fn ask(&mut self, method: &'static str) {
        self.ask.push(method);
        if self.action == Action::Show {
            self.action = Action::Ask;
        }
    }

    fn set_lines(&mut self, text: Option<&str>) -> Result<(), String> {
        self.lines = match text {
            None => Some(Some(10)),
            Some("all") => Some(None),
            Some(text) => {
                self.from_start = text.starts_with('+');
                let number = text.trim_start_matches('+').parse();
                Some(Some(number.map_err(|_| format!("Failed to parse lines '{text}'"))?))
            }
        };
        Ok(())
    }

    /// `FIELD=VALUE`, `+`, or the path of a program or device.
    fn add_match(&mut self, word: &str) -> Result<(), String> {
        if word == "+" {
            self.filter.groups.push(Vec::new());
        } else if let Some(path) = word.strip_prefix("/dev/") {
            self.filter.add("_KERNEL_DEVICE", format!("n{path}").as_bytes());
        } else if word.starts_with('/') {
            self.filter.add("_EXE", word.as_bytes());
        } else {
            let parts = word
                .split_once('=')
                .filter(|(field, _)| crate::journal::entry::is_field_name(field.as_bytes()));
            let (field, value) =
                parts.ok_or_else(|| format!("Failed to add match '{word}': Invalid argument"))?;
            self.filter.add(field, value.as_bytes());
        }
        Ok(())
    }

    fn settle(mut self, seen: Seen) -> Result<Options, String> {
        self.filter.groups.retain(|group| !group.is_empty());
        if self.filter.since.zip(self.filter.until).is_some_and(|(since, until)| since > until) {
            return Err("--since= must be before --until=.".to_owned());
        }
        if self.follow && self.reverse {
            return Err("Please specify either --reverse or --follow, not both.".to_owned());
        }
        if let Some(pattern) = seen.grep {
            // Without a capital letter case does not matter, as in journalctl(1).
            let case = seen.case.unwrap_or_else(|| pattern.chars().any(char::is_uppercase));
            let built = regex_lite::RegexBuilder::new(&pattern).case_insensitive(!case).build();
            self.filter.grep = Some(built.map_err(|error| format!("Bad pattern \"{pattern}\": {error}"))?);
        }
        let begins_elsewhere =
            self.filter.since.is_some() || self.cursor.is_some() || self.cursor_file.is_some();
        if self.follow && self.lines.is_none() && !begins_elsewhere {
            self.lines = Some(Some(10));
        }
        if seen.no_tail {
            self.lines = None;
        }
        if seen.pager_end && self.lines.is_none() {
            self.lines = Some(Some(1000));
        }
        if (self.filter.kernel || seen.pager_end) && self.boot.is_none() {
            self.boot = Some(BootChoice { id: None, offset: 0 });
        }
        Ok(self)
    }
}

/// What only counts once all words were read.
#[derive(Debug, Default)]
struct Seen {
    grep: Option<String>,
    case: Option<bool>,
    no_tail: bool,
    pager_end: bool,
}

#[cfg(test)]
mod tests;
