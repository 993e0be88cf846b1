//! Values of `journalctl`'s options.

use super::options::BootChoice;
use super::time;
use crate::journal::entry::{Id, Priority, facility};
use crate::journal::export::Cursor;

/// `5`, `+5`, `all`.
pub fn is_count(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    text == "all" || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `-1`, an id, or an id and an offset; nothing is this boot.
pub fn boot_choice(text: &str) -> Option<BootChoice> {
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
pub fn levels(text: &str) -> Result<u8, String> {
    let level = |word: &str| Priority::parse(word).ok_or_else(|| format!("Unknown log level {word}"));
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (level(from)?, level(to)?),
        None => (0, level(text)?),
    };
    let (from, to) = (from.min(to), from.max(to));
    Ok((from..=to).fold(0, |bits, level| bits | 1 << level))
}

/// Facilities between commas, a bit each.
pub fn facilities(text: &str) -> Result<u32, String> {
    text.split(',').try_fold(0, |bits, word| {
        facility(word.trim())
            .map(|number| bits | 1 << number)
            .ok_or_else(|| format!("Bad --facility= argument \"{word}\"."))
    })
}

/// A point in time.
pub fn point(text: &str, now: u64) -> Result<u64, String> {
    time::parse(text, now).ok_or_else(|| format!("Failed to parse timestamp: {text}"))
}

/// A cursor.
pub fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text.trim()).ok_or_else(|| format!("Failed to parse cursor: {text}"))
}
