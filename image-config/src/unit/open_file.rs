//! `OpenFile=` of systemd.service(5) and `CoredumpFilter=` of systemd.exec(5).

use super::reader::Ignored;
use super::setting::Setting;
use super::syntax::{Escapes, split_words};
use super::value;

/// Longest name of a descriptor, sd_listen_fds(3).
const LONGEST_NAME: usize = 255;

/// A file that a service finds open when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its absolute path; that of a socket means a connection to it.
    pub path: String,
    /// The descriptor's name in `$LISTEN_FDNAMES`.
    pub name: String,
    /// What the descriptor is good for.
    pub mode: OpenMode,
    /// `graceful`: the service starts all the same when it cannot be opened.
    pub graceful: bool,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// For reading and writing; it must be there.
    #[default]
    ReadWrite,
    /// `read-only`.
    ReadOnly,
    /// `append`: made if it is not there, written at its end.
    Append,
    /// `truncate`: made if it is not there, emptied if it is.
    Truncate,
}

/// Whether a text can name a descriptor: printable ASCII without the colon that stands between names.
#[must_use]
pub fn is_descriptor_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b':')
}

impl OpenFile {
    /// Reads `PATH[:NAME[:OPTION,...]]`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let path =
            value::absolute_path(parts.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        let name = match parts.next().filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => path.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        if name.is_empty() || !is_descriptor_name(&name) {
            return Err(format!("`{name}` is no name of a descriptor"));
        }
        let (mut mode, mut graceful) = (OpenMode::ReadWrite, false);
        for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
            let wanted = match option {
                "read-only" => OpenMode::ReadOnly,
                "append" => OpenMode::Append,
                "truncate" => OpenMode::Truncate,
                "graceful" => {
                    graceful = true;
                    continue;
                }
                other => {
                    return Err(format!("`{other}` is none of read-only, append, truncate and graceful"));
                }
            };
            if mode != OpenMode::ReadWrite && mode != wanted {
                return Err(format!("`{option}` contradicts what stands before it"));
            }
            mode = wanted;
        }
        match parts.next() {
            None => Ok(Self { path, name, mode, graceful }),
            Some(_) => Err("there is more than a path, a name and options".to_owned()),
        }
    }
}

/// The bits of `/proc/PID/coredump_filter` by systemd's names: core(5).
const COREDUMP_BITS: [(&str, u64); 11] = [
    ("private-anonymous", 1),
    ("shared-anonymous", 1 << 1),
    ("private-file-backed", 1 << 2),
    ("shared-file-backed", 1 << 3),
    ("elf-headers", 1 << 4),
    ("private-huge", 1 << 5),
    ("shared-huge", 1 << 6),
    ("private-dax", 1 << 7),
    ("shared-dax", 1 << 8),
    ("default", 0x33),
    ("all", u64::MAX),
];

impl Setting<'_> {
    /// `OpenFile=`; empty resets.
    pub(super) fn open_file(&self, slot: &mut Vec<OpenFile>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        slot.push(OpenFile::parse(self.value).map_err(|problem| self.ignored(&problem))?);
        Ok(())
    }

    /// `CoredumpFilter=`: a number in hex, or names; lines add up, an empty one resets.
    pub(super) fn coredump_filter(&self, slot: &mut Option<u64>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            *slot = None;
            return Ok(());
        }
        let mut mask = 0;
        for word in split_words(self.value, Escapes::Keep).map_err(|error| self.ignored(&error))? {
            let named = COREDUMP_BITS.iter().find(|(name, _)| *name == word).map(|(_, bits)| *bits);
            let number = || u64::from_str_radix(word.strip_prefix("0x").unwrap_or(&word), 16).ok();
            mask |=
                named.or_else(number).ok_or_else(|| self.ignored(&format!("`{word}` names no mappings")))?;
        }
        *slot = Some(slot.unwrap_or(0) | mask);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{System, Unit, UnitName};
    use super::*;

    fn service(text: &str) -> (super::super::Service, Vec<String>) {
        let name = UnitName::parse("a.service").unwrap();
        let text = format!("[Service]\nExecStart=/a\n{text}\n");
        let (unit, warnings) = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        let warnings = warnings.iter().map(ToString::to_string).collect();
        (unit.service().unwrap().clone(), warnings)
    }

    #[test]
    fn files_to_open_have_a_name_and_options() {
        let (service, warnings) = service(
            "OpenFile=/gone\nOpenFile=\nOpenFile=/a/b\nOpenFile=/a/c:data:read-only,graceful\nOpenFile=/a/d::append",
        );
        assert_eq!(warnings, Vec::<String>::new());
        let list: Vec<_> =
            service.open_files.iter().map(|it| (it.name.as_str(), it.mode, it.graceful)).collect();
        assert_eq!(
            list,
            [
                ("b", OpenMode::ReadWrite, false),
                ("data", OpenMode::ReadOnly, true),
                ("d", OpenMode::Append, false)
            ]
        );
        for bad in ["a", "/a:x:frob", "/a:x:append,truncate", "/a:x:append:y", "/"] {
            assert!(OpenFile::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_of_core_dumps_add_up() {
        let filter = |text: &str| service(text).0.exec.coredump_filter;
        assert_eq!(filter("CoredumpFilter=default private-dax"), Some(0x33 | 0x80));
        assert_eq!(filter("CoredumpFilter=0x1\nCoredumpFilter=shared-anonymous"), Some(3));
        assert_eq!(filter("CoredumpFilter=all\nCoredumpFilter="), None);
        assert_eq!(service("CoredumpFilter=frob").1.len(), 1);
    }

    #[test]
    fn the_store_has_a_size_and_a_life() {
        let (of, warnings) = service("FileDescriptorStoreMax=7\nFileDescriptorStorePreserve=yes");
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((of.fd_store_max, of.fd_store_preserve), (7, super::super::DirectoryPreserve::Yes));
        assert_eq!(service("FileDescriptorStoreMax=many").1.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _either = OpenFile::parse(&text);
        }
    }
}
