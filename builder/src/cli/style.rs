//! Colours in what is for people. Whether they reach a stream is decided by [`anstream`]: `--color`, `NO_COLOR`,
//! `CLICOLOR`, `CLICOLOR_FORCE`, `TERM` and whether the stream is a terminal.

use std::ffi::OsString;
use std::io::Write as _;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use clap::ValueEnum as _;
use image_config::diagnostic::{Diagnostic, Severity};

use super::args::ColorWhen;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Blue.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();

/// Words at the start of a line that say what the line is.
const PREFIXES: [(&str, Style); 5] =
    [("error:", ERROR), ("warning:", WARNING), ("note:", NOTE), ("hint:", HINT), ("caused by:", NOTE)];

/// Decides for the whole process when streams take colours.
pub fn choose(when: ColorWhen) {
    let choice = match when {
        ColorWhen::Auto => ColorChoice::Auto,
        ColorWhen::Always => ColorChoice::Always,
        ColorWhen::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// The value of `--color` in arguments that may not be valid: complaints about them are to be coloured as asked, too.
pub fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ColorWhen> {
    let mut arguments = arguments.into_iter().map_while(|argument| argument.into_string().ok());
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--" => return None,
            "--color" => arguments.next()?,
            other => match other.strip_prefix("--color=") {
                Some(value) => value.to_owned(),
                None => continue,
            },
        };
        return ColorWhen::from_str(&value, false).ok();
    }
    None
}

/// A word in the colour of how good it is.
pub fn judged(good: Option<bool>, word: &str) -> String {
    let style = match good {
        Some(true) => GOOD,
        Some(false) => ERROR,
        None => WARNING,
    };
    format!("{style}{word}{style:#}")
}

/// Text with the word that says what a line is in its colour.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn line(line: &str) -> String {
    let body = line.trim_start_matches(' ');
    let indent = line.get(..line.len() - body.len()).unwrap_or_default();
    match PREFIXES.iter().find_map(|(word, style)| Some((word, style, body.strip_prefix(word)?))) {
        Some((word, style, rest)) => format!("{indent}{style}{word}{style:#}{rest}"),
        None => line.to_owned(),
    }
}

/// A finding as it prints itself, with colours.
pub fn finding(finding: &Diagnostic) -> String {
    let style = match finding.severity {
        Severity::Error => ERROR,
        Severity::Warning => WARNING,
    };
    let text = finding.to_string();
    let (headline, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let word = finding.severity.to_string();
    let marked = format!(": {word}: ");
    // A file's name may have the same words in it: the last headline to be followed by the message is the right one.
    let head = headline.strip_suffix(finding.message.as_str()).and_then(|head| head.strip_suffix(&marked));
    let mut painted = match head {
        Some(head) => format!("{head}: {style}{word}:{style:#} {}", finding.message),
        None => headline.to_owned(),
    };
    for line in rest.split('\n').filter(|_| text.contains('\n')) {
        painted.push('\n');
        let marker = line.trim_end_matches('^');
        if marker.len() < line.len() && marker.trim_start_matches(' ').starts_with('|') {
            let arrows = line.get(marker.len()..).unwrap_or_default();
            painted.push_str(&format!("{marker}{style}{arrows}{style:#}"));
        } else {
            painted.push_str(&lines(line));
        }
    }
    painted
}

/// Prints lines on stderr, with colours where they are wanted. Nothing can be done about a stderr that cannot be written.
pub fn say(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(format!("{}\n", lines(text)).as_bytes());
    let _ = stderr.flush();
}

#[cfg(test)]
mod tests {
    use image_config::diagnostic::Position;
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let text = "error: it broke\n  caused by: error: deep\nhint: try\nno error: here\n";
        let painted = lines(text);
        assert_eq!(plain(&painted), text);
        assert_eq!(painted.matches("\u{1b}[0m").count(), 3, "{painted:?}");
    }

    #[test]
    fn a_finding_has_its_word_its_marker_and_its_hint_in_colour() {
        let text = "name: x\nsise: 1\n";
        let at = Some(Position { line: 2, column: 1 });
        let one = Diagnostic::error("a: error: b.yaml", text, at, "unknown key").with_hint("size".to_owned());
        let painted = finding(&one);
        assert_eq!(plain(&painted), one.to_string());
        assert!(painted.contains(&format!("{ERROR}error:{ERROR:#} unknown key")), "{painted:?}");
        assert!(painted.contains(&format!("{ERROR}^^^^{ERROR:#}")), "{painted:?}");
        assert!(painted.contains(&format!("{HINT}hint:{HINT:#} size")), "{painted:?}");
        assert!(!finding(&one.into_warning()).contains(&ERROR.to_string()));
    }

    #[test]
    fn the_wish_is_found_in_arguments_that_are_wrong() {
        let asked = |line: &str| asked(line.split(' ').map(OsString::from));
        assert_eq!(asked("ferrite biuld --color never"), Some(ColorWhen::Never));
        assert_eq!(asked("ferrite --color=always build"), Some(ColorWhen::Always));
        assert_eq!(asked("ferrite build -- --color never"), None);
        assert_eq!(asked("ferrite build --color"), None);
        assert_eq!(asked("ferrite build --color sometimes"), None);
    }

    proptest! {
        #[test]
        fn any_finding_reads_the_same_without_colours(
            file in "[a-z: ^|\n]{0,12}", message in "[a-z:^| \n]{0,20}", source in "[ -~]{0,20}", column in 1_usize..25,
            hint in proptest::option::of("[ -~]{0,10}"),
        ) {
            let at = Some(Position { line: 1, column });
            let one = Diagnostic::error(&file, &source, at, message).with_hint(hint);
            prop_assert_eq!(plain(&finding(&one)), one.to_string());
        }
    }
}
