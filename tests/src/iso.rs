//! The least of an ISO 9660 writer: a Joliet volume of small files, as hypervisors make them for user-data.

use std::collections::BTreeMap;

const SECTOR: usize = 2048;
const FOLDER: u8 = 2;
/// Sectors before the first folder: the system area and three descriptors.
const FIRST: usize = 19;

/// A volume with these files, `/` between folders, none in front.
pub fn joliet(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    // Folders by their paths, each with the names in it; the root is the empty path.
    let mut folders: BTreeMap<String, BTreeMap<String, Option<Vec<u8>>>> = BTreeMap::new();
    folders.entry(String::new()).or_default();
    for (path, content) in files {
        let (mut above, mut rest) = (String::new(), *path);
        while let Some((folder, more)) = rest.split_once('/') {
            folders.entry(above.clone()).or_default().insert(folder.to_owned(), None);
            above = if above.is_empty() { folder.to_owned() } else { format!("{above}/{folder}") };
            folders.entry(above.clone()).or_default();
            rest = more;
        }
        folders.entry(above).or_default().insert(rest.to_owned(), Some(content.to_vec()));
    }
    let place: BTreeMap<&String, usize> = folders.keys().zip(FIRST..).collect();
    let mut next = FIRST + folders.len();
    let (mut tables, mut contents) = (Vec::new(), Vec::new());
    for (path, names) in &folders {
        let own = place.get(path).copied().unwrap_or(FIRST);
        let mut table = [record(&[0], own, SECTOR, FOLDER), record(&[1], FIRST, SECTOR, FOLDER)].concat();
        for (name, content) in names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match content {
                Some(content) => {
                    table.extend(record(&wide(name), next, content.len(), 0));
                    next += content.len().div_ceil(SECTOR);
                    contents.push(padded(content.clone()));
                }
                None => {
                    let at = place.get(&below).copied().unwrap_or(FIRST);
                    table.extend(record(&wide(name), at, SECTOR, FOLDER));
                }
            }
        }
        tables.push(padded(table));
    }
    let root = record(&[0], FIRST, SECTOR, FOLDER);
    let mut volume = vec![0; 16 * SECTOR];
    volume.extend(descriptor(1, label.as_bytes(), b"", &root));
    volume.extend(descriptor(2, &wide(label), b"%/E", &root));
    volume.extend(descriptor(255, b"", b"", b""));
    volume.extend(tables.concat());
    volume.extend(contents.concat());
    volume
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// A number in both orders of bytes.
fn both(number: usize) -> Vec<u8> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn record(name: &[u8], start: usize, length: usize, flags: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both(start));
    bytes.extend(both(length));
    bytes.extend([0; 7]);
    bytes.extend([flags, 0, 0, 1, 0, 0, 1, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    if let Some(first) = bytes.first_mut() {
        *first = length;
    }
    bytes
}

fn descriptor(kind: u8, label: &[u8], escape: &[u8], root: &[u8]) -> Vec<u8> {
    let mut sector = [&[kind], &b"CD001"[..], &[1, 0]].concat();
    sector.resize(40, b' ');
    sector.extend(label);
    sector.resize(88, 0);
    sector.extend(escape);
    sector.resize(156, 0);
    sector.extend(root);
    padded(sector)
}
