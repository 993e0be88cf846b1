//! sysusers.d(5): text to wishes. Pure; every line that is not understood becomes a warning with file and line.

use crate::boot::tmpfiles::parse::{Specifiers, Warning, split};

/// The number that an account shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Any that is free.
    Any,
    /// This one.
    Number(u32),
    /// That of the owner of a file.
    OwnerOf(String),
}

/// A user's primary group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Primary {
    /// One of the user's own name, made with the user.
    Own,
    /// This number, which must be a group's.
    Number(u32),
    /// This name, which must be a group's.
    Name(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// `u`, `u!`
    User {
        /// Its name.
        name: String,
        /// Its number.
        uid: Wanted,
        /// Its group.
        primary: Primary,
        /// Description.
        gecos: String,
        /// Home folder.
        home: String,
        /// Login shell.
        shell: String,
        /// `u!`: nobody can log in as it, whatever its password.
        locked: bool,
    },
    /// `g`
    Group {
        /// Its name.
        name: String,
        /// Its number.
        gid: Wanted,
    },
    /// `m`
    Member {
        /// The user.
        user: String,
        /// The group that it belongs to.
        group: String,
    },
    /// `r`: numbers for those who take any.
    Range {
        /// The lowest.
        first: u32,
        /// The highest.
        last: u32,
    },
}

/// Longest name of an account, `UT_NAMESIZE` less one, as systemd has it.
const LONGEST_NAME: usize = 31;
/// Shell of those who do not log in.
const NO_LOGIN: &str = "/usr/sbin/nologin";

/// Reads the text of one file.
pub fn parse(file: &str, text: &str, specifiers: &Specifiers, warnings: &mut Vec<Warning>) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match parse_line(text, specifiers) {
            Ok(wish) => wishes.push(wish),
            Err(problem) => warnings.push(Warning { file: file.to_owned(), line, problem }),
        }
    }
    wishes
}

fn parse_line(line: &str, specifiers: &Specifiers) -> Result<Wish, String> {
    let (fields, rest) = split(line)?;
    if rest.is_some_and(|rest| !rest.is_empty()) {
        return Err("more than six fields".to_owned());
    }
    let field = |at: usize| -> Result<Option<String>, String> {
        let text = fields.get(at).filter(|text| *text != "-" && !text.is_empty());
        text.map(|text| specifiers.expand(text)).transpose()
    };
    let name = |at: usize, what: &str| match field(at)? {
        Some(name) if is_name(&name) => Ok(name),
        Some(name) => Err(format!("{name:?} is no name of a {what}")),
        None => Err(format!("the name of the {what} is missing")),
    };
    let only = |count: usize| match (count..6)
        .try_fold(false, |any, at| Ok::<_, String>(any | field(at)?.is_some()))?
    {
        true => Err(format!("a line of this type has at most {count} fields")),
        false => Ok(()),
    };
    let kind = fields.first().map(String::as_str).unwrap_or_default();
    match kind {
        "u" | "u!" => {
            let (uid, primary) = user_id(field(2)?.as_deref())?;
            let gecos = field(3)?.unwrap_or_default();
            if gecos.contains([':', '\n']) {
                return Err("a colon in the description".to_owned());
            }
            let home = path(field(4)?, "/")?;
            let default = if uid == Wanted::Number(0) { "/bin/sh" } else { NO_LOGIN };
            let shell = path(field(5)?, default)?;
            Ok(Wish::User { name: name(1, "user")?, uid, primary, gecos, home, shell, locked: kind == "u!" })
        }
        "g" => {
            only(3)?;
            let gid = field(2)?;
            Ok(Wish::Group { name: name(1, "group")?, gid: gid.as_deref().map_or(Ok(Wanted::Any), wanted)? })
        }
        "m" => {
            only(3)?;
            Ok(Wish::Member { user: name(1, "user")?, group: name(2, "group")? })
        }
        "r" => {
            let range = field(2)?.ok_or("the range is missing")?;
            let (first, last) = range.split_once('-').unwrap_or((&range, &range));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last && first > 0 => Ok(Wish::Range { first, last }),
                _ => Err(format!("{range:?} is no range such as 500-900")),
            }
        }
        other => Err(format!("type {other} is not known; u, u!, g, m and r are")),
    }
}

/// Letters, digits, `_`, `-` and `.`; no digit or hyphen first; not only digits.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && name.len() <= LONGEST_NAME && name.bytes().all(inner)
}

/// An id that is one: neither of the two that mean "none".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX && *id != 0xffff)
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match number(text) {
        Some(id) => Ok(Wanted::Number(id)),
        None if text.starts_with('/') => Ok(Wanted::OwnerOf(text.to_owned())),
        None => Err(format!("{text:?} is neither an id nor a path")),
    }
}

/// `-`, `UID`, `UID:GID`, `UID:GROUP`, `-:GROUP`, `/PATH`.
fn user_id(text: Option<&str>) -> Result<(Wanted, Primary), String> {
    let Some(text) = text else { return Ok((Wanted::Any, Primary::Own)) };
    let (uid, group) = match text.split_once(':').filter(|_| !text.starts_with('/')) {
        Some((uid, group)) => (uid, Some(group)),
        None => (text, None),
    };
    let uid = if uid == "-" { Wanted::Any } else { wanted(uid)? };
    let primary = match group {
        None => Primary::Own,
        Some(group) => match number(group) {
            Some(gid) => Primary::Number(gid),
            None if is_name(group) => Primary::Name(group.to_owned()),
            None => return Err(format!("{group:?} is no group")),
        },
    };
    Ok((uid, primary))
}

fn path(text: Option<String>, default: &str) -> Result<String, String> {
    match text {
        None => Ok(default.to_owned()),
        Some(path) if path.starts_with('/') && !path.contains([':', '\n']) => Ok(path),
        Some(path) => Err(format!("{path:?} is no absolute path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<Wish, String> {
        parse_line(line, &Specifiers::default())
    }

    #[test]
    fn lines_of_the_manual_page() {
        let user = |name: &str,
                    uid: Wanted,
                    primary: Primary,
                    gecos: &str,
                    home: &str,
                    shell: &str,
                    locked: bool| {
            Ok(Wish::User {
                name: name.to_owned(),
                uid,
                primary,
                gecos: gecos.to_owned(),
                home: home.to_owned(),
                shell: shell.to_owned(),
                locked,
            })
        };
        let cases = [
            (
                "u httpd 404 \"HTTP User\"",
                user("httpd", Wanted::Number(404), Primary::Own, "HTTP User", "/", NO_LOGIN, false),
            ),
            (
                "u! _auth /usr/bin/x - /var/lib/x",
                user(
                    "_auth",
                    Wanted::OwnerOf("/usr/bin/x".to_owned()),
                    Primary::Own,
                    "",
                    "/var/lib/x",
                    NO_LOGIN,
                    true,
                ),
            ),
            (
                "u postgres - \"DB\" /var/lib/pgsql /bin/bash",
                user("postgres", Wanted::Any, Primary::Own, "DB", "/var/lib/pgsql", "/bin/bash", false),
            ),
            (
                "u a 5:games",
                user("a", Wanted::Number(5), Primary::Name("games".to_owned()), "", "/", NO_LOGIN, false),
            ),
            ("u a -:60", user("a", Wanted::Any, Primary::Number(60), "", "/", NO_LOGIN, false)),
            ("u root 0", user("root", Wanted::Number(0), Primary::Own, "", "/", "/bin/sh", false)),
            ("g input - -", Ok(Wish::Group { name: "input".to_owned(), gid: Wanted::Any })),
            ("m _auth input", Ok(Wish::Member { user: "_auth".to_owned(), group: "input".to_owned() })),
            ("r - 500-900", Ok(Wish::Range { first: 500, last: 900 })),
        ];
        for (line, expected) in cases {
            assert_eq!(one(line), expected, "{line}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let mut warnings = Vec::new();
        let text = "# c\n\nx a\nu 1a -\nu a lots\nm a\ng b 5 desc\nr - 9-5\nu a - a:b\nu a - - home\n";
        assert_eq!(parse("f.conf", text, &Specifiers::default(), &mut warnings), []);
        let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 8);
        assert_eq!(shown[0], "f.conf:3: type x is not known; u, u!, g, m and r are");
        assert_eq!(shown[1], "f.conf:4: \"1a\" is no name of a user");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "([ugmr]!? [a-z/%m\":0-9-]{0,8} .{0,20}\n|.{0,30}\n){0,6}") {
            parse("f", &text, &Specifiers::default(), &mut Vec::new());
        }
    }
}
