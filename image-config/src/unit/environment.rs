//! Environment files and the variables of command lines: systemd.exec(5) `EnvironmentFile=`, systemd.service(5)
//! "Command lines".

/// Looks up a variable of the environment that a process is going to have.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether a text can name a variable: letters, digits and `_`, no digit first.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Substitutes variables in the arguments of a command line.
///
/// `$NAME` as a whole argument becomes any number of arguments, split at white space, with quotes taken off;
/// `${NAME}` anywhere is replaced within its argument; `$$` is a dollar sign. Unset variables are empty. A `$` before
/// anything else stays.
#[must_use]
pub fn expand_variables(arguments: &[String], lookup: Lookup<'_>) -> Vec<String> {
    let mut out = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.strip_prefix('$').filter(|name| is_variable_name(name)) {
            Some(name) => out.extend(split_variable(&lookup(name).unwrap_or_default())),
            None => out.push(expand_braces(argument, lookup)),
        }
    }
    out
}

/// Splits a variable's value as systemd does for `$NAME`: relaxed, so that a lone quote or backslash is no error.
fn split_variable(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().push(rest.next().unwrap_or('\\')),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn expand_braces(argument: &str, lookup: Lookup<'_>) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        match braced.filter(|(name, _)| is_variable_name(name)) {
            Some((name, after)) => {
                out.push_str(&lookup(name).unwrap_or_default());
                rest = after;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Reads an environment file: shell-like assignments, of which those with an unusable name are left out.
///
/// Comments begin with `#` or `;` at the start of a line. Values lose white space around them; parts in single
/// quotes are literal, in double quotes a backslash escapes `"`, `\`, `` ` ``, `$` and joins lines, outside quotes
/// it escapes anything and joins lines. No variables are substituted.
#[must_use]
pub fn parse_environment_file(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return out;
        }
        let line = rest.lines().next().unwrap_or_default();
        match line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            Some((key, _)) => {
                let (value, after) = file_value(rest.get(key.len() + 1..).unwrap_or_default());
                rest = after;
                let name = key.trim_end();
                if is_variable_name(name) {
                    out.retain(|(other, _)| other != name);
                    out.push((name.to_owned(), value));
                }
            }
            // A comment that ends with a backslash goes on in the next line (systemd's parser, unlike a shell).
            None => rest = skip_line(rest, line.starts_with(['#', ';'])),
        }
    }
}

/// What follows the current line; with `continued`, a backslash at its end takes the next one along.
fn skip_line(mut text: &str, continued: bool) -> &str {
    loop {
        let Some((line, after)) = text.split_once('\n') else { return "" };
        if !(continued && line.ends_with('\\')) {
            return after;
        }
        text = after;
    }
}

/// A value, and what follows its end of line.
fn file_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    // Length of `value` up to which white space at its end belongs to it.
    let mut solid = 0;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\n', None) => break,
            ('\'' | '"', None) => {
                quote = Some(c);
                solid = value.len();
            }
            (c, Some(open)) if c == open => {
                quote = None;
                solid = value.len();
            }
            ('\\', None) => {
                match rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => value.push(escaped),
                }
                solid = value.len();
            }
            ('\\', Some('"')) => {
                match rest.next() {
                    Some('\n') | None => {}
                    Some(escaped @ ('"' | '\\' | '`' | '$')) => value.push(escaped),
                    Some(other) => value.extend(['\\', other]),
                }
                solid = value.len();
            }
            (c, None) if c.is_whitespace() => {
                if !value.is_empty() {
                    value.push(c);
                }
            }
            (c, _) => {
                value.push(c);
                solid = value.len();
            }
        }
    }
    value.truncate(solid);
    (value, rest.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(arguments: &[&str]) -> Vec<String> {
        let lookup = |name: &str| match name {
            "OPTS" => Some("-a  'b c' \"d\"".to_owned()),
            "X" => Some("x y".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand_variables(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &lookup)
    }

    #[test]
    fn variables_are_substituted_as_systemd_does() {
        assert_eq!(expand(&["$OPTS"]), ["-a", "b c", "d"]);
        assert_eq!(expand(&["$EMPTY", "$UNSET", "${UNSET}"]), [""]);
        assert_eq!(expand(&["a${X}b", "${X}"]), ["ax yb", "x y"]);
        assert_eq!(
            expand(&["$$X", "$$", "cost$", "a$X", "${X", "${1}"]),
            ["$X", "$", "cost$", "a$X", "${X", "${1}"]
        );
    }

    #[test]
    fn environment_files_are_read_as_systemd_reads_them() {
        let text = "# c\n; c\nA=1\n  B = two words  \nC=\"a b\\n\\\"q\\\"\"\nD='$x \\'\nE=one\\\n two\nF=\nno assignment\n\
                    9X=bad\nA=again\nG=\"multi\nline\"\nH=a\"b c\"'d'  # kept\n# c \\\nnot=this\nI=last";
        let want = [
            ("B", "two words"),
            ("C", "a b\\n\"q\""),
            ("D", "$x \\"),
            ("E", "one two"),
            ("F", ""),
            ("A", "again"),
            ("G", "multi\nline"),
            ("H", "ab cd  # kept"),
            ("I", "last"),
        ];
        let got = parse_environment_file(text);
        assert_eq!(got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), want);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|\n|\"|'|\\\\|=|\\$|\\{|\\}){0,60}") {
            let _ = parse_environment_file(&text);
            let _ = expand_variables(&[text], &|_| Some("a 'b".to_owned()));
        }
    }
}
