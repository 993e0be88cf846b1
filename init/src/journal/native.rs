//! The native protocol of the journal's socket: fields in the export format, one or more entries a message
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).

use super::entry::{MOST_FIELDS, is_field_name};
use super::export::{LARGEST_ENTRY, push_field};

/// The fields of one entry.
pub type Fields = Vec<(String, Vec<u8>)>;

/// Reads the entries of a message. Fields whose names are not allowed are left out: lower case, and those with an
/// underscore first, which are the journal's own to set. What cannot be read ends the message; entries before it count.
pub fn parse(mut bytes: &[u8]) -> Vec<Fields> {
    let mut entries = Vec::new();
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (line, after) = bytes.split_at(line_end);
        let after = after.get(1..).unwrap_or_default();
        if line.is_empty() {
            entries.extend(Some(std::mem::take(&mut fields)).filter(|fields| !fields.is_empty()));
            bytes = after;
            continue;
        }
        let (name, value, rest) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => (line.get(..equals), line.get(equals + 1..), after),
            None => match binary(after) {
                Some((value, rest)) => (Some(line), Some(value), rest),
                None => break,
            },
        };
        bytes = rest;
        let (Some(name), Some(value)) = (name, value) else { break };
        if is_allowed(name) && fields.len() < MOST_FIELDS {
            fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
    }
    entries.extend(Some(fields).filter(|fields| !fields.is_empty()));
    entries
}

fn is_allowed(name: &[u8]) -> bool {
    is_field_name(name) && !name.starts_with(b"_")
}

/// A 64-bit little-endian length, that many bytes, a line end.
fn binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length =
        usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= LARGEST_ENTRY)?;
    let value = rest.get(..length)?;
    let (end, rest) = rest.get(length..)?.split_first()?;
    (*end == b'\n').then_some((value, rest))
}

/// A message with one entry, as a client sends it.
pub fn message<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    fields.into_iter().for_each(|(name, value)| push_field(&mut out, name, value));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect()
    }

    #[test]
    fn text_and_binary_fields_and_several_entries() {
        let bytes = b"MESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\nPRIORITY=3\n\nMESSAGE=two\n_UID=0\nlower=x\n";
        let entries = parse(bytes);
        assert_eq!(entries.len(), 2);
        assert_eq!(text(&entries[0]), ["MESSAGE=a\nb=c", "PRIORITY=3"]);
        assert_eq!(text(&entries[1]), ["MESSAGE=two"]);
    }

    #[test]
    fn what_is_cut_off_ends_the_message() {
        assert_eq!(text(&parse(b"A=1\nB\n\xff\0\0\0\0\0\0\0x")[0]), ["A=1"]);
        assert_eq!(text(&parse(b"A=1\nB=2")[0]), ["A=1", "B=2"]);
        assert_eq!(parse(b"B\n\xff\xff\xff\xff\xff\xff\xff\xffx"), Vec::<Fields>::new());
        assert_eq!(parse(b"\n\n\n"), Vec::<Fields>::new());
    }

    proptest! {
        #[test]
        fn what_a_client_sends_is_read(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..5)) {
            let bytes = message(values.iter().map(|value| ("FIELD", value.as_slice())));
            let entries = parse(&bytes);
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!(entries[0].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(), values);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for entry in parse(&bytes) {
                prop_assert!(!entry.is_empty());
            }
        }
    }
}
