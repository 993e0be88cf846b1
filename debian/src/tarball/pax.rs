//! What stands in front of an entry: GNU long names and PAX records (POSIX.1-2024, pax, "pax Extended Header").

/// What GNU and PAX headers say about the entry that follows them.
#[derive(Default)]
pub(super) struct Pending {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    /// The value of a record; of several with one key the last.
    pub fn record(&self, key: &str) -> Option<&[u8]> {
        self.records.iter().rev().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// A numeric record; of a fraction only the whole part.
    pub fn number(&self, key: &str) -> Option<u64> {
        let text = std::str::from_utf8(self.record(key)?).ok()?;
        text.split('.').next()?.parse().ok()
    }

    /// Extended attributes by name, in the order of the records.
    pub fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let attribute = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone()))
        };
        self.records.iter().filter_map(attribute).collect()
    }
}

/// Key and value of each `LENGTH KEY=VALUE\n`, the length being that of the whole record (POSIX pax). By length and not
/// by lines, as `tar` has it: file capabilities are binary and may have a newline in them.
pub(super) fn pax_records(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
        let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        records.push((record.get(..equals)?.to_vec(), record.get(equals + 1..)?.to_vec()));
        bytes = bytes.get(length..)?;
    }
    Some(records)
}
