//! The JSON formats of journalctl(1): values are strings, numbers when they are bytes, arrays when a field is repeated.

use serde_json::{Map, Value};

use super::output::special_fields;
use crate::journal::export::Record;

/// Longest value unless all is asked for; longer ones are `null`.
const LONGEST_VALUE: usize = 4096;

/// How an object is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// On one line.
    Line,
    /// On many.
    Pretty,
}

/// Appends an entry as an object, with a line end.
pub fn object(record: &Record, fields: &[String], all: bool, shape: Shape, out: &mut Vec<u8>) {
    let mut object = Map::new();
    for (name, text) in special_fields(record) {
        object.insert(name.to_owned(), Value::String(text));
    }
    let wanted =
        |name: &str| name == "_BOOT_ID" || fields.is_empty() || fields.iter().any(|field| field == name);
    for (name, bytes) in record.fields().filter(|(name, _)| wanted(name)) {
        let value = value(bytes, all);
        match object.get_mut(name) {
            None => drop(object.insert(name.to_owned(), value)),
            Some(Value::Array(values)) if values.iter().all(|value| !value.is_number()) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    let object = Value::Object(object);
    let text = match shape {
        Shape::Line => object.to_string(),
        Shape::Pretty => format!("{object:#}").replace("\n  ", "\n\t"),
    };
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn value(bytes: &[u8], all: bool) -> Value {
    if bytes.len() > LONGEST_VALUE && !all {
        return Value::Null;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')) => {
            Value::String(text.to_owned())
        }
        _ => Value::Array(bytes.iter().map(|byte| Value::from(*byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Entry, Stamp};
    use crate::journal::export::{Cursor, encode};

    fn shown(fields: &[(&str, &[u8])], all: bool) -> Value {
        let mut entry = Entry::new(Stamp { realtime: 5, monotonic: 6 });
        fields.iter().for_each(|(name, value)| entry.push(name, *value));
        let mut bytes = Vec::new();
        assert!(encode(&entry, &mut Cursor::default(), &mut bytes));
        let mut record = Record::default();
        assert!(record.load(&bytes));
        let mut out = Vec::new();
        object(&record, &[], all, Shape::Line, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn values_are_strings_arrays_or_nothing() {
        let long = vec![b'x'; 5000];
        let fields: [(&str, &[u8]); 6] =
            [("A", b"1"), ("B", b"\x01\xff"), ("C", b"x"), ("C", b"y"), ("C", b"z"), ("LONG", &long)];
        let object = shown(&fields, false);
        assert_eq!(object["A"], "1");
        assert_eq!(object["B"], serde_json::json!([1, 255]));
        assert_eq!(object["C"], serde_json::json!(["x", "y", "z"]));
        assert_eq!((&object["LONG"], &object["__REALTIME_TIMESTAMP"]), (&Value::Null, &Value::from("5")));
        assert_eq!(shown(&fields, true)["LONG"].as_str().unwrap().len(), 5000);
    }
}
