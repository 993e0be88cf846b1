//! Unit files within a cloud-config or an Ignition config, judged by the grammar of PID 1.

use crate::diagnostic::Position;
use crate::tree::Node;
use crate::unit::{System, Unit, UnitFile, UnitName, Warning};
use crate::user_data::report::Report;

/// Warns of what is not understood, and of what keeps the unit from being loaded.
pub(crate) fn check(name: &UnitName, text: &str, node: &Node, report: &mut Report<'_>) {
    let (_, warnings) = Unit::parse(name, &[(name.as_str(), text.as_bytes())], &System::default());
    tell(&warnings, node, report);
}

/// The same for a drop-in, which need not be a whole unit.
pub(crate) fn check_drop_in(name: &UnitName, text: &str, node: &Node, report: &mut Report<'_>) {
    let (file, mut warnings) = UnitFile::parse(name, &[(name.as_str(), text.as_bytes())]);
    // Line 0: what the unit as a whole lacks.
    warnings.extend(file.typed(&System::default()).1.into_iter().filter(|warning| warning.line > 0));
    tell(&warnings, node, report);
}

fn tell(warnings: &[Warning], node: &Node, report: &mut Report<'_>) {
    for warning in warnings {
        let at = line(node, warning.line, report);
        report.warn(at, warning.message.clone(), None);
    }
}

/// The line of a text that stands in a block below its key, `|`; otherwise where it begins.
fn line(node: &Node, line: u32, report: &Report<'_>) -> Position {
    let source = report.source();
    let first = source.place(node.at);
    let is_block = source.text.lines().nth(first.line - 1).is_some_and(|text| {
        let head = text.split(" #").next().unwrap_or_default().trim_end();
        let head = head.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
        head.ends_with('|')
    });
    let line = usize::try_from(line).unwrap_or_default();
    if !is_block || line == 0 {
        return node.at;
    }
    let column = source
        .text
        .lines()
        .nth(first.line - 1 + line)
        .map_or(1, |text| text.len() - text.trim_start().len() + 1);
    Position { line: node.at.line + line, column }
}
