//! The firmware's description of the machine (SMBIOS 3.7), as far as hypervisors let their users write into it: the serial
//! number (type 1) and the OEM strings (type 11).

/// System Information (7.2).
const SYSTEM: u8 = 1;
/// OEM Strings (7.12).
const OEM_STRINGS: u8 = 11;
/// Where the number of the serial number's string is in type 1.
const SERIAL: usize = 7;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Smbios {
    /// Serial number of the system, as it stands.
    pub serial: Option<String>,
    /// All OEM strings.
    pub oem_strings: Vec<String>,
}

impl Smbios {
    /// Reads a table of structures (`/sys/firmware/dmi/tables/DMI`). What cannot be read ends it.
    pub fn parse(table: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = table;
        while let Some((structure, strings, next)) = first(rest) {
            match structure.first() {
                Some(&SYSTEM) if found.serial.is_none() => {
                    let number = structure.get(SERIAL).copied().map_or(0, usize::from);
                    let text = number.checked_sub(1).and_then(|index| strings.get(index));
                    found.serial = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
                }
                Some(&OEM_STRINGS) => found.oem_strings.extend(strings),
                _ => {}
            }
            rest = next;
        }
        found
    }
}

/// The first structure, its strings, and what comes behind them.
fn first(table: &[u8]) -> Option<(&[u8], Vec<String>, &[u8])> {
    let length = usize::from(*table.get(1)?);
    // A header has four bytes; less would never end.
    if length < 4 {
        return None;
    }
    let (structure, mut rest) = table.split_at_checked(length)?;
    let mut strings = Vec::new();
    // Without strings there are two zero bytes; with some there is a zero byte behind each, and one more.
    if let [0, 0, next @ ..] = rest {
        return Some((structure, strings, next));
    }
    loop {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (text, next) = rest.split_at_checked(end)?;
        rest = next.get(1..)?;
        if text.is_empty() {
            return Some((structure, strings, rest));
        }
        strings.push(String::from_utf8_lossy(text).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A structure with its strings.
    fn structure(kind: u8, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let length = u8::try_from(4 + body.len()).unwrap();
        let mut bytes = vec![kind, length, 0, 1];
        bytes.extend(body);
        for text in strings {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        bytes
    }

    #[test]
    fn the_serial_number_and_all_oem_strings_are_found() {
        let mut table = structure(0, &[1, 2], &["vendor", "1.0"]);
        table.extend(structure(1, &[1, 2, 0, 3], &["QEMU", "PC", "ds=nocloud;s=http://10.0.2.2/"]));
        table.extend(structure(127, &[], &[]));
        table.extend(structure(11, &[2], &["a=b", "c"]));
        let found = Smbios::parse(&table);
        assert_eq!(found.serial.as_deref(), Some("ds=nocloud;s=http://10.0.2.2/"));
        assert_eq!(found.oem_strings, ["a=b", "c"]);
    }

    #[test]
    fn a_missing_string_is_no_serial_number() {
        for number in [0, 9] {
            assert_eq!(Smbios::parse(&structure(1, &[0, 0, 0, number], &["x"])).serial, None);
        }
        assert_eq!(Smbios::parse(&structure(1, &[], &[])), Smbios::default());
    }

    proptest! {
        #[test]
        fn any_bytes_end(table in prop::collection::vec(any::<u8>(), 0..300)) {
            Smbios::parse(&table);
        }
    }
}
