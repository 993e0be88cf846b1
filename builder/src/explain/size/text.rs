//! The tree for people.

use std::fmt::{self, Write as _};

use super::{Row, Size};
use crate::explain::units::{bytes, count, percent};

/// Width of a bar, in characters.
const BAR: u64 = 20;

/// Shows a [`Size`]: bytes, percent, a bar on terminals, names indented by depth.
#[derive(Debug, Clone, Copy)]
pub struct Table<'s> {
    /// What to show.
    pub size: &'s Size,
    /// Whether with bars.
    pub bars: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size;
        writeln!(f, "{}: {} in the slot", size.image, bytes(size.slot_bytes))?;
        self.rows(f, &size.tree, 0)?;
        if let Some(shared) = size.shared.filter(|shared| shared.files > 0) {
            let verb = if shared.files == 1 { "has" } else { "have" };
            writeln!(
                f,
                "{} {verb} the content of another and {} counted with it: {} saved",
                count(shared.files, "file"),
                if shared.files == 1 { "is" } else { "are" },
                bytes(shared.bytes),
            )?;
        }
        Ok(())
    }
}

impl Table<'_> {
    fn rows(&self, f: &mut fmt::Formatter<'_>, row: &Row, depth: usize) -> fmt::Result {
        let whole = self.size.tree.bytes;
        write!(f, "{:>11} {:>5}%  ", bytes(row.bytes), percent(row.bytes, whole))?;
        if self.bars {
            write!(f, "{}  ", bar(row.bytes, whole))?;
        }
        writeln!(f, "{:indent$}{}", "", row.name, indent = 2 * depth)?;
        row.children.iter().try_for_each(|child| self.rows(f, child, depth + 1))
    }
}

/// A bar of eighths of characters.
fn bar(part: u64, whole: u64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let filled = u128::from(part) * u128::from(BAR * 8) / u128::from(whole.max(1));
    let (full, eighths) = (filled / 8, filled % 8);
    let mut text = String::new();
    for at in 0..u128::from(BAR) {
        let eighth = if at == full { usize::try_from(eighths).unwrap_or(0) } else { 0 };
        let shown = if at < full { '█' } else { EIGHTHS.get(eighth).copied().unwrap_or(' ') };
        // Writing to a string cannot fail.
        let _ = text.write_char(shown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::Image;
    use super::super::super::testing::{file, manifest};
    use super::super::{By, Limits, Size};
    use super::*;

    #[test]
    fn a_tree_is_shown_with_bytes_percent_and_bars() {
        let mut second = file("/usr/bin/y", Some("aa"), 4000);
        second.offset = Some(8192);
        let made = manifest(&[("aa", true, &[])], vec![file("/usr/bin/x", Some("aa"), 4096), second]);
        let size = Size::of(&Image::new(&made), By::Path, None).unwrap();
        let size = size.limited(Limits { depth: 2, top: 1 });
        assert_eq!(
            Table { size: &size, bars: false }.to_string(),
            "demo 1: 48.0 KiB in the slot
   48.0 KiB 100.0%  slot
   13.3 KiB  27.6%    alignment and signed footer
   34.7 KiB  72.3%    (6 more)
1 file has the content of another and is counted with it: 4.0 KiB saved
"
        );
        let size = Size::of(&Image::new(&made), By::Path, Some("/bin")).unwrap();
        let size = size.limited(Limits { depth: 0, top: 1 });
        assert_eq!(
            Table { size: &size, bars: true }.to_string(),
            "demo 1: 48.0 KiB in the slot\n    4.0 KiB 100.0%  ████████████████████  /usr/bin\n"
        );
        assert_eq!((bar(1, 1), bar(0, 1)), ("█".repeat(20), " ".repeat(20)));
        assert_eq!(bar(1, 40).chars().next(), Some('▌'));
    }
}
