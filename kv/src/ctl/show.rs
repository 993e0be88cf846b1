//! What is printed of an answer.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tree::{Node, Response};

/// How it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The value alone.
    Simple,
    /// Lines with names.
    Extended,
    /// The whole answer.
    Json,
    /// A word that is no format.
    Unknown(String),
}

impl Format {
    /// What `--output` says.
    pub fn of_word(word: &[u8]) -> Self {
        match word {
            b"" | b"simple" => Self::Simple,
            b"extended" => Self::Extended,
            b"json" => Self::Json,
            other => Self::Unknown(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// Whether it shows times to live and the like.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Extended | Self::Json)
    }
}

/// An answer about a key, for stdout. `now` is what expirations are counted from.
///
/// # Errors
/// For stderr: the format is none.
pub fn response(response: &Response, format: &Format, now: SystemTime) -> Result<Vec<u8>, String> {
    let empty: &[u8] = &[];
    let previous = response.previous.as_ref().map_or(empty, |node| &node.value);
    let node = &response.node;
    let is_delete = response.action == "delete";
    Ok(match format {
        Format::Simple if is_delete => [b"PrevNode.Value: ", previous, b"\n"].concat(),
        Format::Simple => [node.value.as_slice(), b"\n"].concat(),
        Format::Extended => {
            let mut text = [b"Key: ", node.key.as_slice(), b"\n"].concat();
            let indexes = format!("Created-Index: {}\nModified-Index: {}\n", node.created, node.modified);
            text.extend(indexes.bytes());
            if response.previous.is_some() {
                text.extend([b"PrevNode.Value: ", previous, b"\n"].concat());
            }
            text.extend(format!("TTL: {}\nIndex: {}\n", node.ttl.unwrap_or(0), response.index).bytes());
            if !is_delete {
                text.extend([b"\n", node.value.as_slice(), b"\n"].concat());
            }
            text
        }
        Format::Json => {
            let mut text = format!("{{\"action\":\"{}\",\"node\":", response.action);
            json_node(node, now, &mut text);
            text.push_str(",\"prevNode\":");
            match &response.previous {
                Some(node) => json_node(node, now, &mut text),
                None => text.push_str("null"),
            }
            text.push_str("}\n");
            text.into_bytes()
        }
        Format::Unknown(word) => return Err(format!("Unsupported output format: {word}\n")),
    })
}

/// The names below a node, each parent before its children; the node's own if it is no directory.
pub fn names(node: &Node, slashes: bool) -> Vec<u8> {
    fn all(node: &Node, slashes: bool, text: &mut Vec<u8>) {
        text.extend(&node.key);
        text.extend(if node.dir && slashes { &b"/\n"[..] } else { b"\n" });
        node.nodes.iter().for_each(|node| all(node, slashes, text));
    }
    let mut text = Vec::new();
    if !node.dir {
        text.extend([node.key.as_slice(), b"\n"].concat());
    }
    node.nodes.iter().for_each(|node| all(node, slashes, &mut text));
    text
}

fn json_node(node: &Node, now: SystemTime, text: &mut String) {
    text.push_str("{\"key\":");
    json_text(&node.key, text);
    if node.dir {
        text.push_str(",\"dir\":true");
    }
    text.push_str(",\"value\":");
    json_text(&node.value, text);
    text.push_str(",\"nodes\":");
    if node.nodes.is_empty() {
        text.push_str("null");
    } else {
        for (index, node) in node.nodes.iter().enumerate() {
            text.push(if index == 0 { '[' } else { ',' });
            json_node(node, now, text);
        }
        text.push(']');
    }
    // Writing into a `String` never fails.
    let _ = write!(text, ",\"createdIndex\":{},\"modifiedIndex\":{}", node.created, node.modified);
    if let Some(ttl) = node.ttl {
        let left = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let end = now.checked_add(left).unwrap_or(now);
        let _ = write!(text, ",\"expiration\":\"{}\",\"ttl\":{ttl}", timestamp(end));
    }
    text.push('}');
}

/// A string as Go's `encoding/json` writes it.
fn json_text(bytes: &[u8], text: &mut String) {
    text.push('"');
    for char in String::from_utf8_lossy(bytes).chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\x08' => text.push_str("\\b"),
            '\x0c' => text.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            _ => text.push(char),
        }
    }
    text.push('"');
}

/// A time in UTC as Go's `time.RFC3339Nano` writes it.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March, in eras of 400 (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}");
    if since.subsec_nanos() > 0 {
        let fraction = format!(".{:09}", since.subsec_nanos());
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let at = |seconds, nanos| timestamp(UNIX_EPOCH + Duration::new(seconds, nanos));
        let cases = [
            ((0, 0), "1970-01-01T00:00:00Z"),
            ((951_782_399, 0), "2000-02-28T23:59:59Z"),
            ((951_782_400, 500_000_000), "2000-02-29T00:00:00.5Z"),
            ((1_709_251_199, 1), "2024-02-29T23:59:59.000000001Z"),
            ((1_735_689_600, 0), "2025-01-01T00:00:00Z"),
            ((4_107_542_400, 0), "2100-03-01T00:00:00Z"),
        ];
        for ((seconds, nanos), want) in cases {
            assert_eq!(at(seconds, nanos), want);
        }
    }

    #[test]
    fn strings_are_written_as_go_writes_them() {
        let mut text = String::new();
        json_text("<a&b>\"\\\n\u{1}\u{2028}ä".as_bytes(), &mut text);
        assert_eq!(text, "\"\\u003ca\\u0026b\\u003e\\\"\\\\\\n\\u0001\\u2028ä\"");
    }

    #[test]
    fn names_come_parents_first() {
        let leaf = |key: &str| Node { key: key.as_bytes().to_vec(), ..Node::default() };
        let below = Node { dir: true, nodes: vec![leaf("/a/b/c")], ..leaf("/a/b") };
        let all = Node { dir: true, nodes: vec![below, leaf("/a/d")], ..leaf("/a") };
        assert_eq!(String::from_utf8(names(&all, true)).unwrap(), "/a/b/\n/a/b/c\n/a/d\n");
        assert_eq!(names(&leaf("/x"), true), b"/x\n");
    }
}
