//! Messages of `/dev/log`: `<PRIORITY>TIME IDENTIFIER[PID]: TEXT` (RFC 3164 as syslog(3) writes it, without a host name).

use super::entry::Priority;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Level, 0 to 7.
    pub level: u8,
    /// Facility, 0 to 127.
    pub facility: Option<u8>,
    /// The sender's time, as written.
    pub time: Option<&'a str>,
    /// The program's name.
    pub identifier: Option<&'a str>,
    /// The PID that it claims.
    pub pid: Option<&'a str>,
    /// The text.
    pub text: &'a str,
}

/// Takes `<N>` off the front: facility and level. `None` when it is not there.
pub fn priority(text: &str) -> Option<(u16, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let digits = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).map(|number| (number, rest))
}

/// Takes `<0>` to `<7>` off the front of a line, `SyslogLevelPrefix=` of systemd.exec(5).
pub fn level_prefix(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = priority(text)?;
    let level = u8::try_from(number).ok().filter(|level| *level <= Priority::DEBUG)?;
    text.as_bytes().get(2).filter(|byte| **byte == b'>').map(|_| (level, rest))
}

/// Reads a message. Whatever it is, it is one: without a priority it is an `info`.
pub fn parse(text: &str) -> Message<'_> {
    let text = text.trim_end_matches(['\n', '\0', ' ', '\r']);
    let (level, facility, rest) = match priority(text) {
        Some((number, rest)) => {
            (u8::try_from(number & 7).unwrap_or(Priority::INFO), u8::try_from(number >> 3).ok(), rest)
        }
        None => (Priority::INFO, None, text),
    };
    let (time, rest) = take_time(rest);
    let (identifier, pid, text) = take_identifier(rest);
    Message { level, facility, time, identifier, pid, text }
}

/// `Nov 26 02:56:09 `.
fn take_time(text: &str) -> (Option<&str>, &str) {
    const SHAPE: &[u8; 16] = b"Aaa 99 99:99:99 ";
    let fits = text.as_bytes().first_chunk::<16>().is_some_and(|bytes| {
        bytes.iter().zip(SHAPE).all(|(byte, kind)| match kind {
            b'A' => byte.is_ascii_uppercase(),
            b'a' => byte.is_ascii_lowercase(),
            b'9' => byte.is_ascii_digit() || *byte == b' ',
            kind => byte == kind,
        })
    });
    match text.split_at_checked(16) {
        Some((time, rest)) if fits => (Some(time), rest),
        _ => (None, text),
    }
}

/// `IDENTIFIER[PID]: ` or `IDENTIFIER: `; a word without a colon is no identifier.
pub fn take_identifier(text: &str) -> (Option<&str>, Option<&str>, &str) {
    let trimmed = text.trim_start();
    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
    let (word, rest) = trimmed.split_at(end);
    let Some(word) = word.strip_suffix(':').filter(|word| !word.is_empty()) else {
        return (None, None, text);
    };
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    match word.strip_suffix(']').and_then(|word| word.rsplit_once('[')) {
        Some((name, pid)) if !name.is_empty() => (Some(name), Some(pid).filter(|pid| !pid.is_empty()), rest),
        _ => (Some(word), None, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_as_programs_send_them() {
        let message = parse("<38>Nov 26 02:56:09 sshd[812]: Accepted publickey for core\n");
        assert_eq!(
            message,
            Message {
                level: 6,
                facility: Some(4),
                time: Some("Nov 26 02:56:09 "),
                identifier: Some("sshd"),
                pid: Some("812"),
                text: "Accepted publickey for core",
            }
        );
        let message = parse("<13>Nov  6 02:56:09 root: from a shell");
        assert_eq!((message.level, message.identifier, message.text), (5, Some("root"), "from a shell"));
        let message = parse("no priority, no colon");
        assert_eq!((message.level, message.identifier, message.text), (6, None, "no priority, no colon"));
        assert_eq!(parse("<191>x: y").facility, Some(23));
        assert_eq!(parse("<9999>text").text, "<9999>text");
        assert_eq!(parse("a[]: b").identifier, Some("a"));
    }

    #[test]
    fn a_level_before_a_line_is_one_digit() {
        assert_eq!(level_prefix("<3>bad"), Some((3, "bad")));
        for text in ["<8>x", "<30>x", "3>x", "<>x", "<3", "<03>x", "<a>x"] {
            assert_eq!(level_prefix(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, tail in "[<>0-9a-zA-Z \\[\\]:]{0,40}") {
            parse(&text);
            parse(&tail);
            level_prefix(&text);
            prop_assert!(parse(&tail).level <= 7);
        }
    }
}
