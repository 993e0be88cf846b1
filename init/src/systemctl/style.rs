//! Colours, and tables that are text for people and JSON for programs.

use std::io::IsTerminal;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A colour of the terminal (SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    /// That of the terminal.
    #[default]
    Plain,
    /// What is well.
    Green,
    /// What is under way.
    Yellow,
    /// What went wrong.
    Red,
    /// What matters less.
    Grey,
    /// Headings.
    Underline,
}

/// How output looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With colours.
    pub colours: bool,
}

impl Style {
    /// Colours when standard output is a terminal that has them, unless `SYSTEMD_COLORS` or `NO_COLOR` say otherwise.
    pub fn of_stdout() -> Style {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let colours = match variable("SYSTEMD_COLORS").as_str() {
            "" => {
                variable("NO_COLOR").is_empty()
                    && variable("TERM") != "dumb"
                    && std::io::stdout().is_terminal()
            }
            word => image_config::unit::value::boolean(word).unwrap_or(true),
        };
        Style { colours }
    }

    /// Text in a colour.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => return text.to_owned(),
            Colour::Green => "0;1;32",
            Colour::Yellow => "0;1;33",
            Colour::Red => "0;1;31",
            Colour::Grey => "0;38;5;245",
            Colour::Underline => "0;4",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The colour of a unit's coarse state.
pub fn of_state(active: &str) -> Colour {
    match active {
        "active" => Colour::Green,
        "failed" => Colour::Red,
        "reloading" | "activating" | "deactivating" => Colour::Yellow,
        _ => Colour::Plain,
    }
}

/// How a table is printed: `--output=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One line.
    Json,
    /// Indented.
    JsonPretty,
}

/// A field of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    text: String,
    json: Value,
    colour: Colour,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell { text: text.to_owned(), json: Value::from(text), colour: Colour::Plain }
    }
}

impl Cell {
    /// Text for people, something else for programs.
    pub fn with(text: String, json: impl Into<Value>) -> Cell {
        Cell { text, json: json.into(), colour: Colour::Plain }
    }

    /// In a colour.
    pub fn painted(self, colour: Colour) -> Cell {
        Cell { colour, ..self }
    }
}

/// The sign before a row, in its colour.
type Mark = (Colour, &'static str);

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    /// Heading, and name of the field in JSON.
    columns: &'static [(&'static str, &'static str)],
    rows: Vec<(Option<Mark>, Vec<Cell>)>,
    has_marks: bool,
}

/// A row as JSON: members in the order of the columns, as systemd has them.
struct Object<'a> {
    columns: &'static [(&'static str, &'static str)],
    cells: &'a [Cell],
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.columns.iter().zip(self.cells).map(|((_, key), cell)| (key, &cell.json)))
    }
}

impl Table {
    /// An empty table; `has_marks` leaves room for a mark before each row.
    pub fn new(columns: &'static [(&'static str, &'static str)], has_marks: bool) -> Table {
        Table { columns, rows: Vec::new(), has_marks }
    }

    /// Adds a row.
    pub fn push(&mut self, cells: Vec<Cell>) {
        self.rows.push((None, cells));
    }

    /// Adds a row with a mark before it.
    pub fn push_marked(&mut self, colour: Colour, mark: &'static str, cells: Vec<Cell>) {
        self.rows.push((Some((colour, mark)), cells));
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The table as text or JSON; `legend` is for the heading of the text.
    pub fn render(&self, format: Format, style: Style, legend: bool) -> String {
        match format {
            Format::Text => self.text(style, legend),
            // Serialising what is in memory does not fail.
            Format::Json => format!("{}\n", serde_json::to_string(&self.objects()).unwrap_or_default()),
            Format::JsonPretty => {
                format!("{}\n", serde_json::to_string_pretty(&self.objects()).unwrap_or_default())
            }
        }
    }

    fn objects(&self) -> Vec<Object<'_>> {
        self.rows.iter().map(|(_, cells)| Object { columns: self.columns, cells }).collect()
    }

    fn text(&self, style: Style, legend: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
            let heading = self.columns.get(column).filter(|_| legend).map_or(0, |(heading, _)| heading.len());
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0).max(heading)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        if legend {
            let headings =
                self.columns.iter().map(|(heading, _)| Cell::from(*heading).painted(Colour::Underline));
            self.line(&mut out, None, &headings.collect::<Vec<_>>(), &widths, style);
        }
        for (mark, cells) in &self.rows {
            self.line(&mut out, *mark, cells, &widths, style);
        }
        out
    }

    fn line(
        &self,
        out: &mut String,
        mark: Option<(Colour, &'static str)>,
        cells: &[Cell],
        widths: &[usize],
        style: Style,
    ) {
        if self.has_marks {
            let mark = mark.map_or_else(|| " ".to_owned(), |(colour, mark)| style.paint(colour, mark));
            out.push_str(&mark);
            out.push(' ');
        }
        let last = cells.len().saturating_sub(1);
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            out.push_str(&style.paint(cell.colour, &cell.text));
            if column != last {
                out.push_str(&" ".repeat(width.saturating_sub(cell.text.chars().count()) + 1));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("UNIT", "unit"), ("LEFT", "left")], true);
        table.push(vec!["a.service".into(), Cell::with("3s".to_owned(), 3_000_000)]);
        table.push_marked(Colour::Red, "●", vec!["bb".into(), Cell::with("-".to_owned(), Value::Null)]);
        table
    }

    #[test]
    fn columns_are_aligned_and_marks_stand_before_them() {
        let text = table().render(Format::Text, Style::default(), true);
        assert_eq!(text, "  UNIT      LEFT\n  a.service 3s\n● bb        -\n");
        let coloured = table().render(Format::Text, Style { colours: true }, false);
        assert!(coloured.contains("\u{1b}[0;1;31m●\u{1b}[0m bb"), "{coloured:?}");
    }

    #[test]
    fn programs_get_values_and_not_what_people_read() {
        let json = table().render(Format::Json, Style { colours: true }, true);
        assert_eq!(json, "[{\"unit\":\"a.service\",\"left\":3000000},{\"unit\":\"bb\",\"left\":null}]\n");
    }
}
