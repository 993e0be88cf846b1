//! The tables that `depmod` (kmod 34) writes into the folder of a kernel release, as text.
//!
//! `modprobe` of busybox and our own coldplug read the text; the `.bin` indexes of kmod are not written.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Modules;

/// One table: its file name and its text.
pub type Table = (&'static str, String);

impl Modules {
    /// All tables, to be put beside `modules.order`.
    pub fn tables(&self) -> [Table; 5] {
        [
            ("modules.dep", self.dependencies()),
            ("modules.alias", self.aliases()),
            ("modules.softdep", self.soft_dependencies()),
            ("modules.symbols", self.symbols()),
            ("modules.devname", self.device_names()),
        ]
    }

    /// `modules.dep`: each module with all that it needs, what is needed by others after them.
    fn dependencies(&self) -> String {
        let needs: Vec<Vec<usize>> = self
            .list()
            .iter()
            .map(|module| module.info.depends.iter().filter_map(|name| self.index(name)).collect())
            .collect();
        let ranks = users_first(&needs);
        let mut text = String::new();
        for (index, module) in self.list().iter().enumerate() {
            text.push_str(&module.path);
            text.push(':');
            for needed in closure(index, &needs, &ranks) {
                if let Some(needed) = self.list().get(needed) {
                    text.push(' ');
                    text.push_str(&needed.path);
                }
            }
            text.push('\n');
        }
        text
    }

    fn aliases(&self) -> String {
        let mut text = String::from("# Aliases extracted from modules themselves.\n");
        for module in self.list() {
            for alias in &module.info.aliases {
                line(&mut text, format_args!("alias {alias} {}", module.name));
            }
        }
        text
    }

    fn soft_dependencies(&self) -> String {
        let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
        for module in self.list() {
            for softdep in &module.info.softdeps {
                line(&mut text, format_args!("softdep {} {softdep}", module.name));
            }
        }
        text
    }

    /// Sorted by symbol (depmod's order is that of its hash table).
    fn symbols(&self) -> String {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for module in self.list() {
            for symbol in &module.info.symbols {
                // The last module that exports a symbol counts, as with depmod.
                owners.insert(symbol, &module.name);
            }
        }
        let mut text = String::from("# Aliases for symbols, used by symbol_request().\n");
        for (symbol, owner) in owners {
            line(&mut text, format_args!("alias symbol:{symbol} {owner}"));
        }
        text
    }

    fn device_names(&self) -> String {
        let mut text = String::new();
        for module in self.list() {
            if let Some((name, (kind, major, minor))) = device_node(&module.info.aliases) {
                if text.is_empty() {
                    text.push_str("# Device nodes to trigger on-demand module loading.\n");
                }
                line(&mut text, format_args!("{} {name} {kind}{major}:{minor}", module.name));
            }
        }
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

/// The node that a module wants to be found by: the first name and number of its aliases that make a pair.
fn device_node(aliases: &[String]) -> Option<(&str, (char, u32, u32))> {
    let (mut name, mut number) = (None, None);
    for alias in aliases {
        name = alias.strip_prefix("devname:").or(name);
        number = device_number(alias).or(number);
        if let (Some(name), Some(number)) = (name, number) {
            return Some((name, number));
        }
    }
    None
}

/// `char-major-10-200` as (`c`, 10, 200).
fn device_number(alias: &str) -> Option<(char, u32, u32)> {
    let (kind, numbers) = match alias.strip_prefix("char-major-") {
        Some(numbers) => ('c', numbers),
        None => ('b', alias.strip_prefix("block-major-")?),
    };
    let (major, minor) = numbers.split_once('-')?;
    Some((kind, major.parse().ok()?, minor.parse().ok()?))
}

/// A rank for each module such that users come before what they use: loading backwards then works. Modules in a
/// cycle come last.
fn users_first(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut users = vec![0usize; needs.len()];
    for &needed in needs.iter().flatten() {
        if let Some(count) = users.get_mut(needed) {
            *count += 1;
        }
    }
    let mut ranks = vec![usize::MAX; needs.len()];
    let mut free: Vec<usize> = (0..needs.len()).filter(|&index| users.get(index) == Some(&0)).collect();
    let mut next = 0;
    while let Some(index) = free.pop() {
        if let Some(rank) = ranks.get_mut(index) {
            *rank = next;
            next += 1;
        }
        for &needed in needs.get(index).into_iter().flatten() {
            if let Some(count) = users.get_mut(needed) {
                *count -= 1;
                if *count == 0 {
                    free.push(needed);
                }
            }
        }
    }
    ranks
}

/// All that `start` needs, by rank.
fn closure(start: usize, needs: &[Vec<usize>], ranks: &[usize]) -> Vec<usize> {
    let mut found = std::collections::BTreeSet::new();
    let mut todo: Vec<usize> = needs.get(start).cloned().unwrap_or_default();
    while let Some(index) = todo.pop() {
        if index != start && found.insert((ranks.get(index).copied(), index)) {
            todo.extend(needs.get(index).into_iter().flatten());
        }
    }
    found.into_iter().map(|(_, index)| index).collect()
}
