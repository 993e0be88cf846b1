//! The command line of `journalctl`.

use std::collections::VecDeque;

use image_config::unit::value;

use super::output::Format;
use super::time;
use crate::journal::entry::{Id, Priority, facility};
use crate::journal::export::Cursor;
use crate::journal::query::Filter;

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
            "-u" => self.filter.units.push(full_name(&value()?)),
            // There are no units of users here, and no entries of them.
            "--user-unit" => self.filter.units.push(full_name(&value()?)),
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

fn is_count(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    text == "all" || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `-1`, an id, or an id and an offset; nothing is this boot.
fn boot_choice(text: &str) -> Option<BootChoice> {
    if text.is_empty() || text == "all" {
        return Some(BootChoice { id: None, offset: 0 });
    }
    if let Ok(offset) = text.parse() {
        return Some(BootChoice { id: None, offset });
    }
    let (id, offset) = text.split_at_checked(32)?;
    let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    Some(BootChoice { id: Some(Id::parse(id)?), offset })
}

/// `3`, `err` (and everything louder), `warning..err`.
fn levels(text: &str) -> Result<u8, String> {
    let level = |word: &str| Priority::parse(word).ok_or_else(|| format!("Unknown log level {word}"));
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (level(from)?, level(to)?),
        None => (0, level(text)?),
    };
    let (from, to) = (from.min(to), from.max(to));
    Ok((from..=to).fold(0, |bits, level| bits | 1 << level))
}

fn facilities(text: &str) -> Result<u32, String> {
    text.split(',').try_fold(0, |bits, word| {
        facility(word.trim())
            .map(|number| bits | 1 << number)
            .ok_or_else(|| format!("Bad --facility= argument \"{word}\"."))
    })
}

fn point(text: &str, now: u64) -> Result<u64, String> {
    time::parse(text, now).ok_or_else(|| format!("Failed to parse timestamp: {text}"))
}

fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text.trim()).ok_or_else(|| format!("Failed to parse cursor: {text}"))
}

/// A name without a suffix is a service.
fn full_name(name: &str) -> String {
    let has_suffix = name.rsplit_once('.').is_some_and(|(_, suffix)| {
        [
            "service",
            "target",
            "socket",
            "timer",
            "path",
            "mount",
            "slice",
            "device",
            "swap",
            "scope",
            "automount",
        ]
        .contains(&suffix)
    });
    if has_suffix || name.ends_with('*') { name.to_owned() } else { format!("{name}.service") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words, 1_795_661_769_000_000)
    }

    #[test]
    fn options_have_long_short_and_bundled_forms() {
        let options =
            parse("-fu ssh --unit=etcd* -n5 -perr -o json --no-pager MESSAGE_ID=x + _PID=1").unwrap();
        assert_eq!(options.filter.units, ["ssh.service", "etcd*"]);
        assert_eq!(
            (options.follow, options.lines, options.filter.levels),
            (true, Some(Some(5)), Some(0b1111))
        );
        assert_eq!((options.format, options.filter.groups.len()), (Format::Json, 2));
        let options = parse("-n -u a").unwrap();
        assert_eq!((options.lines, options.filter.units.len()), (Some(Some(10)), 1));
        assert_eq!(parse("-n all").unwrap().lines, Some(None));
        assert_eq!(parse("-f").unwrap().lines, Some(Some(10)));
        assert_eq!(parse("-f --since -1h").unwrap().lines, None);
        assert_eq!(parse("-p warning..debug").unwrap().filter.levels, Some(0b1111_0000));
    }

    #[test]
    fn boots_are_chosen_by_number_or_id() {
        let id = Id(0xabc);
        let choice = |id, offset| Some(BootChoice { id, offset });
        let cases = [
            ("-b".to_owned(), choice(None, 0)),
            ("-b -1".to_owned(), choice(None, -1)),
            ("-b-1".to_owned(), choice(None, -1)),
            ("--boot=2".to_owned(), choice(None, 2)),
            (format!("-b {id}"), choice(Some(id), 0)),
            (format!("-b {id}-1"), choice(Some(id), -1)),
            ("-b -u a".to_owned(), choice(None, 0)),
            ("-k".to_owned(), choice(None, 0)),
            ("-b all".to_owned(), None),
            ("-b -n 5".to_owned(), choice(None, 0)),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(&line).unwrap().boot, expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let cases = [
            ("--badopt", "unrecognized option '--badopt'"),
            ("-o nope", "Unknown output format 'nope'."),
            ("-p nope", "Unknown log level nope"),
            ("-S nope", "Failed to parse timestamp: nope"),
            ("nope", "Failed to add match 'nope': Invalid argument"),
            ("-u", "option '-u' needs a value"),
            ("-fr", "Please specify either --reverse or --follow, not both."),
            ("--boot=x", "Failed to parse boot descriptor 'x'"),
            ("-S today -U yesterday", "--since= must be before --until=."),
        ];
        for (line, message) in cases {
            assert_eq!(parse(line).map(|_| ()), Err(message.to_owned()), "{line}");
        }
        assert!(parse("-g (").unwrap_err().starts_with("Bad pattern"));
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(words in proptest::collection::vec("-{0,2}[a-zA-Z=+0-9.-]{0,8}", 0..6)) {
            let _either = Options::parse(&words, 1_795_661_769_000_000);
        }
    }
}
