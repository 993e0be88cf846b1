//! Options as the old etcdctl takes them: Go's package `flag` behind `urfave/cli` 1.22.9, whose rules scripts have come to rely on.

use std::time::Duration;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// Any text; what it is when it is not given.
    Text(&'static str),
    /// Any text, several times.
    Texts,
    /// A whole number; 0 when it is not given.
    Number,
    /// A span of time, `1m30s`; the default.
    Time(&'static str),
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its names without hyphens, the first being the one that the program asks for.
    pub names: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
    /// For the help.
    pub usage: &'static str,
}

impl Flag {
    /// An option with one name.
    pub const fn new(names: &'static [&'static str], takes: Takes, usage: &'static str) -> Self {
        Self { names, takes, usage }
    }
}

/// Why words are no options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misuse {
    /// In Go's words.
    Syntax(String),
    /// `-r` beside `--recursive`.
    TwoForms(String),
}

impl Misuse {
    /// The message.
    pub fn text(&self) -> &str {
        match self {
            Self::Syntax(text) | Self::TwoForms(text) => text,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Switch(bool),
    Text(Vec<u8>),
    Number(i64),
    Time(Duration),
}

/// Options and what follows them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// Under the names that they were given by.
    values: Vec<(&'static [&'static str], &'static str, Value)>,
    /// All that follows.
    pub rest: Vec<Vec<u8>>,
}

impl Parsed {
    fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().rev().find(|(names, ..)| names.contains(&name)).map(|(.., value)| value)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    /// A text; empty if it is not given.
    pub fn text(&self, name: &str) -> &[u8] {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => &[],
        }
    }

    /// All texts of an option that may come several times.
    pub fn texts(&self, name: &str) -> Vec<&[u8]> {
        let all = self.values.iter().filter(|(names, ..)| names.contains(&name));
        all.filter_map(|(.., value)| match value {
            Value::Text(text) => Some(text.as_slice()),
            _ => None,
        })
        .collect()
    }

    /// A number; 0 if it is not given.
    pub fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A span of time.
    pub fn time(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Time(time)) => Some(*time),
            _ => None,
        }
    }
}

/// What `--` becomes when options are moved before the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// It goes before the arguments, and is no argument itself.
    First,
    /// It stays where it is.
    Stays,
}

/// Moves a command's options before its arguments, as far as the old one did: what follows an option without `=` and is no option
/// goes along, be it the option's value or not.
pub fn reordered(flags: &[Flag], words: &[Vec<u8>], delimiter: Delimiter) -> Vec<Vec<u8>> {
    let (mut options, mut rest) = (Vec::new(), Vec::new());
    let mut may_be_value = false;
    for (index, word) in words.iter().enumerate() {
        let is_flag = is_flag(flags, word);
        if may_be_value && !is_flag {
            may_be_value = false;
            options.push(word.clone());
        } else if word == b"--" {
            let skipped = match delimiter {
                Delimiter::First => {
                    rest.insert(0, word.clone());
                    index + 1
                }
                Delimiter::Stays => index,
            };
            rest.extend(words.iter().skip(skipped).cloned());
            break;
        } else if is_flag {
            options.push(word.clone());
            may_be_value = !word.contains(&b'=');
        } else {
            rest.push(word.clone());
        }
    }
    options.extend(rest);
    options
}

fn is_flag(flags: &[Flag], word: &[u8]) -> bool {
    let Some(mut name) = word.strip_prefix(b"-").filter(|name| !name.is_empty() && *name != b"-") else {
        return false;
    };
    for _ in 0..2 {
        name = name.strip_prefix(b"-").unwrap_or(name);
    }
    let name = name.split(|byte| *byte == b'=').next().unwrap_or_default();
    flags.iter().any(|flag| flag.names.iter().any(|own| own.as_bytes() == name))
}

/// Reads options up to the first word that is none, or past `--`.
///
/// # Errors
/// [`Misuse`]
pub fn parse(flags: &[Flag], words: &[Vec<u8>]) -> Result<Parsed, Misuse> {
    let mut parsed = Parsed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix(b"-").filter(|name| !name.is_empty()) else {
            parsed.rest.push(word.clone());
            break;
        };
        if name == b"-" {
            break;
        }
        let name = name.strip_prefix(b"-").unwrap_or(name);
        if matches!(name.first(), None | Some(b'-' | b'=')) {
            return Err(Misuse::Syntax(format!("bad flag syntax: {}", lossy(word))));
        }
        let (name, given) = match name.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let (name, value) = name.split_at(at);
                (name, value.get(1..))
            }
            None => (name, None),
        };
        let found = flags.iter().find_map(|flag| {
            let own = flag.names.iter().find(|own| own.as_bytes() == name)?;
            Some((flag, *own))
        });
        let Some((flag, own)) = found else {
            return Err(Misuse::Syntax(format!("flag provided but not defined: -{}", lossy(name))));
        };
        let value = if flag.takes == Takes::Nothing {
            let given = given.unwrap_or(b"true");
            Value::Switch(switch(given).ok_or_else(|| {
                let given = quoted(given);
                Misuse::Syntax(format!("invalid boolean value {given} for -{own}: parse error"))
            })?)
        } else {
            let given = given.or_else(|| words.next().map(Vec::as_slice));
            let given = given.ok_or_else(|| Misuse::Syntax(format!("flag needs an argument: -{own}")))?;
            value(flag.takes, given).map_err(|problem| {
                Misuse::Syntax(format!("invalid value {} for flag -{own}: {problem}", quoted(given)))
            })?
        };
        parsed.values.push((flag.names, own, value));
    }
    parsed.rest.extend(words.cloned());
    match two_forms(flags, &parsed) {
        Some(text) => Err(Misuse::TwoForms(text)),
        None => Ok(parsed),
    }
}

fn two_forms(flags: &[Flag], parsed: &Parsed) -> Option<String> {
    let was_given = |own: &str| parsed.values.iter().any(|(_, given, _)| *given == own);
    flags.iter().find_map(|flag| {
        let mut given = flag.names.iter().filter(|own| was_given(own));
        let (first, second) = (given.next()?, given.next()?);
        Some(format!("Cannot use two forms of the same flag: {second} {first}"))
    })
}

fn value(takes: Takes, given: &[u8]) -> Result<Value, &'static str> {
    let text = || std::str::from_utf8(given).map_err(|_| "parse error");
    match takes {
        Takes::Nothing | Takes::Text(_) | Takes::Texts => Ok(Value::Text(given.to_vec())),
        Takes::Number => number(text()?).map(Value::Number),
        Takes::Time(_) => time(text()?).map(Value::Time).ok_or("parse error"),
    }
}

/// `strconv.ParseBool`.
fn switch(given: &[u8]) -> Option<bool> {
    match given {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// `strconv.ParseInt` with base 0.
fn number(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)),
        Some(b'+') => (false, text.get(1..)),
        _ => (false, Some(text)),
    };
    let digits = digits.unwrap_or_default().to_ascii_lowercase();
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, digits.get(2..)),
        [b'0', b'b', ..] => (2, digits.get(2..)),
        [b'0', b'o', ..] => (8, digits.get(2..)),
        [b'0', _, ..] => (8, digits.get(1..)),
        _ => (10, Some(digits.as_str())),
    };
    let digits = digits.unwrap_or_default();
    // Underscores may stand between digits, and after the base.
    if digits.ends_with('_') || digits.contains("__") || (base == 10 && digits.starts_with('_')) {
        return Err("parse error");
    }
    let digits = digits.replace('_', "");
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err("parse error");
    }
    let size = i128::from_str_radix(&digits, base).map_err(|_| "value out of range")?;
    i64::try_from(if negative { -size } else { size }).map_err(|_| "value out of range")
}

/// `time.ParseDuration`, of what is not negative: a negative limit has passed already and becomes 0.
fn time(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (amount, more) = rest.split_at(end);
        let amount: f64 = amount.parse().ok()?;
        let end = more.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(more.len());
        let (unit, more) = more.split_at(end);
        seconds += amount
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = more;
    }
    if text.is_empty() || text == "-" || text == "+" {
        return None;
    }
    let seconds = if negative { 0.0 } else { seconds };
    Duration::try_from_secs_f64(seconds).ok()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Go's `%q`.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\\' => text.extend(['\\', char]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\0'..='\x1f' | '\x7f' => text.push_str(&format!("\\x{:02x}", char as u32)),
                _ => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLAGS: [Flag; 5] = [
        Flag::new(&["ttl"], Takes::Number, ""),
        Flag::new(&["recursive", "r"], Takes::Nothing, ""),
        Flag::new(&["with-value"], Takes::Text(""), ""),
        Flag::new(&["timeout"], Takes::Time("2s"), ""),
        Flag::new(&["roles"], Takes::Texts, ""),
    ];

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect()
    }

    fn line(words: &[Vec<u8>]) -> String {
        String::from_utf8(words.join(&b' ')).unwrap()
    }

    #[test]
    fn options_are_moved_as_the_old_one_moved_them() {
        let cases = [
            ("/k v --ttl 60", "--ttl 60 /k v"),
            ("/k --ttl 60 v", "--ttl 60 /k v"),
            ("-r /k", "-r /k"),
            // The value of a switch, for all it knows: what follows stays behind the key.
            ("-r /k v --ttl 60", "-r /k --ttl 60 v"),
            ("/k -- --ttl 60", "-- /k --ttl 60"),
            ("/k v --ttl -5", "--ttl -5 /k v"),
            ("/k -v", "/k -v"),
            ("/k - --ttl=5 x", "--ttl=5 /k - x"),
        ];
        for (given, want) in cases {
            assert_eq!(line(&reordered(&FLAGS, &words(given), Delimiter::First)), want, "{given}");
        }
        let kept = reordered(&FLAGS, &words("/k -- sh -r --ttl 60"), Delimiter::Stays);
        assert_eq!(line(&kept), "/k -- sh -r --ttl 60");
    }

    #[test]
    fn options_are_read_as_go_reads_them() {
        let cases: &[(&str, Result<&str, &str>)] = &[
            ("--ttl 60 /k v", Ok("/k v")),
            ("-ttl=0x10 /k", Ok("/k")),
            ("-r -- -x", Ok("-x")),
            ("-r=false --recursive=1", Err("Cannot use two forms of the same flag: r recursive")),
            ("--ttl", Err("flag needs an argument: -ttl")),
            ("--ttl abc", Err("invalid value \"abc\" for flag -ttl: parse error")),
            (
                "--ttl 99999999999999999999",
                Err("invalid value \"99999999999999999999\" for flag -ttl: value out of range"),
            ),
            ("-r=maybe", Err("invalid boolean value \"maybe\" for -r: parse error")),
            ("-nope=3", Err("flag provided but not defined: -nope")),
            ("---x", Err("bad flag syntax: ---x")),
            ("-=x", Err("bad flag syntax: -=x")),
            ("--timeout 5", Err("invalid value \"5\" for flag -timeout: parse error")),
            ("--timeout 1m0.5s - -r", Ok("- -r")),
        ];
        for (given, want) in cases {
            let got = parse(&FLAGS, &words(given));
            let got = got.as_ref().map(|parsed| line(&parsed.rest)).map_err(Misuse::text);
            assert_eq!(got, want.map(str::to_owned), "{given}");
        }
        let parsed =
            parse(&FLAGS, &words("-r --ttl 1_0 --with-value= --timeout 1m0.5s --roles a --roles b")).unwrap();
        assert!(parsed.is_on("recursive") && parsed.is_on("r"));
        assert_eq!((parsed.number("ttl"), parsed.text("with-value")), (10, &b""[..]));
        assert_eq!(parsed.time("timeout"), Some(Duration::from_millis(60_500)));
        assert_eq!(parsed.texts("roles"), [b"a", b"b"]);
    }

    #[test]
    fn numbers_and_quotes_are_gos() {
        let cases =
            [("010", Ok(8)), ("-5", Ok(-5)), ("+7", Ok(7)), ("0b11", Ok(3)), ("0", Ok(0)), ("_1", Err(()))];
        for (text, want) in cases {
            assert_eq!(number(text).map_err(|_| ()), want, "{text}");
        }
        assert_eq!(quoted(b"a\"\n\xff\xc3\xa4"), "\"a\\\"\\n\\xff\u{e4}\"");
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_panic(given in proptest::collection::vec("-{0,3}[a-z=0-9]{0,6}|--ttl|-r|--timeout|[0-9.µmsh-]{0,8}", 0..8)) {
            let given: Vec<Vec<u8>> = given.into_iter().map(String::into_bytes).collect();
            let moved = reordered(&FLAGS, &given, Delimiter::First);
            prop_assert_eq!(moved.len(), given.len());
            let _ = parse(&FLAGS, &moved).is_ok();
        }
    }
}
