//! tmpfiles.d(5): text to items. Pure; every line that is not understood becomes a warning with file and line.

use std::fmt;

/// What an item does with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `d`, `v`, `q`, `Q`: a folder; its mode and owner are corrected when it exists.
    Folder,
    /// `D`: a folder that is emptied first.
    EmptyFolder,
    /// `e`: mode and owner of folders that exist; the path is a pattern.
    ExistingFolder,
    /// `f`: a file with the argument as content, if there is none.
    File,
    /// `F`, `f+`: a file with the argument as content, always.
    ReplaceFile,
    /// `w`: the argument is written to files that exist; the path is a pattern.
    Write,
    /// `w+`: the same, behind what they hold.
    Append,
    /// `L`: a link, if there is nothing.
    Link,
    /// `L+`: a link in place of whatever is there.
    ReplaceLink,
    /// `L?`: a link if its target exists.
    LinkIfTarget,
    /// `C`: a copy of a file or tree, if there is nothing or an empty folder.
    Copy,
    /// `z`: mode and owner; the path is a pattern.
    Adjust,
    /// `Z`: the same for everything below, too.
    AdjustTree,
    /// `r`: removes a file or an empty folder; the path is a pattern.
    Remove,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What to do.
    pub kind: Kind,
    /// Absolute, without `.` and `..`, specifiers replaced.
    pub path: String,
    /// Permission bits; `None` for the kind's default.
    pub mode: Option<u32>,
    /// Name or number; `None` for root (or unchanged, where a kind only adjusts).
    pub user: Option<String>,
    /// Name or number.
    pub group: Option<String>,
    /// Content, link target or source; escapes resolved for contents.
    pub argument: Option<String>,
}

/// Why a line does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

/// Values of the specifiers that differ from machine to machine.
#[derive(Debug, Clone, Default)]
pub struct Specifiers {
    /// `%m`
    pub machine_id: String,
    /// `%H`
    pub hostname: String,
    /// `%v`
    pub kernel: String,
}

impl Specifiers {
    pub(in crate::boot) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            out.push_str(match characters.next() {
                Some('%') => "%",
                Some('m') => &self.machine_id,
                Some('H') => &self.hostname,
                Some('v') => &self.kernel,
                Some('t') => "/run",
                Some('S') => "/var/lib",
                Some('C') => "/var/cache",
                Some('L') => "/var/log",
                Some('T') => "/tmp",
                Some('V') => "/var/tmp",
                Some(other) => return Err(format!("specifier %{other} is not supported")),
                None => return Err("a lone % at the end".to_owned()),
            });
        }
        Ok(out)
    }
}

/// Reads one file. `name` is only for the warnings.
pub fn parse(name: &str, text: &str, specifiers: &Specifiers, warnings: &mut Vec<Warning>) -> Vec<Item> {
    let mut items = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line, specifiers) {
            Ok(item) => items.extend(item),
            Err(problem) => warnings.push(Warning { file: name.to_owned(), line: index + 1, problem }),
        }
    }
    items
}

fn parse_line(line: &str, specifiers: &Specifiers) -> Result<Option<Item>, String> {
    let (fields, argument) = split(line)?;
    let mut fields = fields.into_iter();
    let word = fields.next().unwrap_or_default();
    let Some(kind) = kind(&word)? else { return Ok(None) };
    let path = check_path(&specifiers.expand(&fields.next().ok_or("no path")?)?)?;
    let mode = optional(fields.next()).map(|text| parse_mode(&text)).transpose()?;
    let user = optional(fields.next());
    let group = optional(fields.next());
    // The age is for cleaning, which nobody does at boot.
    let argument = match optional(argument) {
        Some(text) if !text.is_empty() => Some(specifiers.expand(&text)?),
        _ => None,
    };
    let argument = if matches!(kind, Kind::File | Kind::ReplaceFile | Kind::Write | Kind::Append) {
        argument.map(|text| unescape(&text))
    } else {
        argument
    };
    if argument.is_none() && matches!(kind, Kind::Write | Kind::Append) {
        return Err("nothing to write".to_owned());
    }
    Ok(Some(Item { kind, path, mode, user, group, argument }))
}

/// `-` stands for an absent field.
fn optional(field: Option<String>) -> Option<String> {
    field.filter(|text| text != "-")
}

/// The kind of a type word; `None` for types that only matter when old files are cleaned.
fn kind(word: &str) -> Result<Option<Kind>, String> {
    let mut characters = word.chars();
    let letter = characters.next().unwrap_or(' ');
    let modifiers = characters.as_str();
    // `!`: only at boot, which is when this runs; `-`: errors are no failure, and none of ours is; `=`, `~`, `^`, `$` have no
    // meaning without cleaning or credentials.
    if let Some(unknown) = modifiers.chars().find(|c| !matches!(c, '+' | '!' | '-' | '=' | '?' | '$')) {
        return Err(format!("type modifier {unknown} is not supported"));
    }
    let plus = modifiers.contains('+');
    Ok(Some(match letter {
        'd' | 'v' | 'q' | 'Q' => Kind::Folder,
        'D' => Kind::EmptyFolder,
        'e' => Kind::ExistingFolder,
        'F' => Kind::ReplaceFile,
        'f' if plus => Kind::ReplaceFile,
        'f' => Kind::File,
        'w' if plus => Kind::Append,
        'w' => Kind::Write,
        'L' if plus => Kind::ReplaceLink,
        'L' if modifiers.contains('?') => Kind::LinkIfTarget,
        'L' => Kind::Link,
        'C' => Kind::Copy,
        'z' => Kind::Adjust,
        'Z' => Kind::AdjustTree,
        'r' => Kind::Remove,
        'x' | 'X' => return Ok(None),
        other => return Err(format!("type {other} is not supported")),
    }))
}

fn check_path(path: &str) -> Result<String, String> {
    let trimmed = path.trim_end_matches('/');
    if !path.starts_with('/') || trimmed.is_empty() {
        return Err(format!("{path} is not an absolute path"));
    }
    if trimmed.split('/').any(|part| part == "." || part == "..") || trimmed.contains('\0') {
        return Err(format!("{path} has . or .. in it"));
    }
    Ok(trimmed.split('/').filter(|part| !part.is_empty()).fold(String::new(), |path, part| path + "/" + part))
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.trim_start_matches(['~', ':']);
    let mode = u32::from_str_radix(digits, 8).map_err(|_| format!("mode {text} is not octal"))?;
    if mode > 0o7777 { Err(format!("mode {text} is out of range")) } else { Ok(mode) }
}

/// The first six fields, quotes resolved, and the rest of the line as the argument.
pub(in crate::boot) fn split(line: &str) -> Result<(Vec<String>, Option<String>), String> {
    let mut fields = Vec::new();
    let mut rest = line;
    while fields.len() < 6 {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((fields, None));
        }
        let (field, behind) = next_field(rest)?;
        fields.push(field);
        rest = behind;
    }
    Ok((fields, Some(rest.trim().to_owned())))
}

fn next_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, blank) if blank.is_ascii_whitespace() => return Ok((field, text.get(at..).unwrap_or(""))),
            (_, other) => field.push(other),
        }
    }
    if quote.is_some() { Err("a quote is not closed".to_owned()) } else { Ok((field, "")) }
}

/// The escapes of C that systemd takes in contents; unknown ones stay as they are.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            Some('"') => out.push('"'),
            Some('\'') => out.push('\''),
            Some('x') => {
                let digits: String = characters.clone().take(2).collect();
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if byte.is_ascii() && digits.len() == 2 => {
                        out.push(char::from(byte));
                        characters.nth(1);
                    }
                    _ => out.push_str("\\x"),
                }
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<Item, String> {
        let mut warnings = Vec::new();
        let specifiers =
            Specifiers { machine_id: "abc".to_owned(), hostname: "h".to_owned(), kernel: "6".to_owned() };
        let items = parse("x.conf", line, &specifiers, &mut warnings);
        warnings.pop().map_or_else(|| Ok(items[0].clone()), |warning| Err(warning.to_string()))
    }

    #[test]
    fn lines_of_debian_packages_are_understood() {
        let cases = [
            ("d /run/sshd 0755 root root", Kind::Folder, "/run/sshd", Some(0o755), None),
            ("D! /tmp/.X11-unix 1777 root root 10d", Kind::EmptyFolder, "/tmp/.X11-unix", Some(0o1777), None),
            ("q /var/tmp/ 1777 root root 30d", Kind::Folder, "/var/tmp", Some(0o1777), None),
            (
                "L+ /etc/mtab - - - - ../proc/self/mounts",
                Kind::ReplaceLink,
                "/etc/mtab",
                None,
                Some("../proc/self/mounts"),
            ),
            ("L /var/log/README - - - - ../..%%/x", Kind::Link, "/var/log/README", None, Some("../..%/x")),
            ("f /run/utmp 0664 root utmp -", Kind::File, "/run/utmp", Some(0o664), None),
            ("F+ /run/x - - - - a b\\n", Kind::ReplaceFile, "/run/x", None, Some("a b\n")),
            ("C /etc/x - - - -", Kind::Copy, "/etc/x", None, None),
            ("w /sys/x - - - - \\x31", Kind::Write, "/sys/x", None, Some("1")),
            ("z /run/log/%m/*.j 0640 root adm - -", Kind::Adjust, "/run/log/abc/*.j", Some(0o640), None),
            ("d \"/run/with blank\" - - - -", Kind::Folder, "/run/with blank", None, None),
        ];
        for (line, kind, path, mode, argument) in cases {
            let item = one(line).unwrap();
            assert_eq!((item.kind, item.path.as_str(), item.mode), (kind, path, mode), "{line}");
            assert_eq!(item.argument.as_deref(), argument, "{line}");
        }
        assert_eq!(one("d /a - etcd - -").unwrap().user.as_deref(), Some("etcd"));
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let cases = [
            ("d relative", "x.conf:1: relative is not an absolute path"),
            ("d /", "x.conf:1: / is not an absolute path"),
            ("d /a/../b", "x.conf:1: /a/../b has . or .. in it"),
            ("d /a 9", "x.conf:1: mode 9 is not octal"),
            ("d /a 77777", "x.conf:1: mode 77777 is out of range"),
            ("h /a", "x.conf:1: type h is not supported"),
            ("d", "x.conf:1: no path"),
            ("d /%q", "x.conf:1: specifier %q is not supported"),
            ("w /a", "x.conf:1: nothing to write"),
            ("d \"/a", "x.conf:1: a quote is not closed"),
        ];
        for (line, message) in cases {
            assert_eq!(one(line).unwrap_err(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_paths_stay_absolute(text in "([dDfFLCwzr][+!]? /?[a-z./%m\"]{0,12} .{0,20}\n|.{0,30}\n){0,6}") {
            let mut warnings = Vec::new();
            for item in parse("p", &text, &Specifiers::default(), &mut warnings) {
                prop_assert!(item.path.starts_with('/'));
                prop_assert!(!item.path.split('/').any(|part| part == ".."));
            }
        }
    }
}
