//! `/dev/disk/by-*` links and the owners of device nodes: the part of udev's rules that Ferrite's programs rely on.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Gid, Mode};

use crate::boot::users::Users;
use crate::early::disk::{Disk, partition_node, whole_disks};

/// One link: folder below `/dev/disk`, name, device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    folder: &'static str,
    name: String,
    device: String,
}

/// Makes the links for every partition of every disk; what cannot be read has no links.
pub fn link_disks() -> Vec<String> {
    let mut problems = Vec::new();
    for name in whole_disks().unwrap_or_default() {
        let Ok(mut disk) = Disk::open(&name) else { continue };
        let Ok((_, table)) = disk.load() else { continue };
        for (index, entry) in table.entries() {
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let Ok(node) = partition_node(&name, number) else { continue };
            let device = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut found = vec![("by-partuuid", entry.unique_guid().to_string())];
            found.push(("by-partlabel", entry.name().to_string()));
            found.extend(file_system(&node));
            for (folder, name) in found.into_iter().filter(|(_, name)| !name.is_empty()) {
                let link = Link { folder, name: escape(&name), device: device.clone() };
                if let Err(error) = make(Path::new("/dev/disk"), &link) {
                    problems.push(format!("coldplug: /dev/disk/{folder}/{name}: {error}"));
                }
            }
        }
    }
    problems
}

fn make(base: &Path, link: &Link) -> std::io::Result<()> {
    let folder = base.join(link.folder);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(&link.name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(format!("../../{}", link.device), path)
}

/// Label and UUID of the file system on a device.
fn file_system(node: &Path) -> Vec<(&'static str, String)> {
    let mut start = vec![0; 2048];
    let read = std::fs::File::open(node).and_then(|file| file.read_exact_at(&mut start, 0));
    if read.is_err() { Vec::new() } else { identify(&start) }
}

/// Recognises ext4 (superblock at 1024) and FAT (boot sector) by their first 2 KiB.
fn identify(start: &[u8]) -> Vec<(&'static str, String)> {
    let field = |at: usize, len: usize| start.get(at..at + len).unwrap_or_default();
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim_end().to_owned()
    };
    if field(1024 + 0x38, 2) == [0x53, 0xef] {
        return vec![("by-label", text(field(1024 + 0x78, 16))), ("by-uuid", uuid(field(1024 + 0x68, 16)))];
    }
    // Offsets of volume number, label and type string differ between FAT32 and its elders.
    for (number, label, kind, name) in [(0x43, 0x47, 0x52, &b"FAT32"[..]), (0x27, 0x2b, 0x36, b"FAT1")] {
        if field(510, 2) == [0x55, 0xaa] && field(kind, name.len()) == name {
            let number: Vec<String> =
                field(number, 4).iter().rev().map(|byte| format!("{byte:02X}")).collect();
            let number = number.concat();
            let (high, low) = number.split_at_checked(4).unwrap_or_default();
            let label = text(field(label, 11));
            let label = if label == "NO NAME" { String::new() } else { label };
            return vec![("by-label", label), ("by-uuid", format!("{high}-{low}"))];
        }
    }
    Vec::new()
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// udev's way of writing a label as a file name: other than these characters becomes `\xNN`.
fn escape(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        if character.is_ascii_alphanumeric() || "#+-.:=@_".contains(character) || !character.is_ascii() {
            out.push(character);
        } else {
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        }
    }
    out
}

/// Group and mode of a device node by its name; `None` leaves it root's alone, as devtmpfs made it.
fn access(name: &str) -> Option<(&'static str, u32)> {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let disk =
        ["vd", "sd", "xvd", "nvme", "mmcblk", "dm-", "loop"].iter().any(|prefix| name.starts_with(prefix));
    match name {
        "kvm" | "vhost-net" | "vhost-vsock" => Some(("kvm", 0o660)),
        "fuse" | "net/tun" | "vsock" => Some(("root", 0o666)),
        "ptmx" | "tty" => Some(("tty", 0o666)),
        _ if numbered("ttyS") || numbered("ttyAMA") || numbered("hvc") => Some(("dialout", 0o660)),
        _ if numbered("tty") => Some(("tty", 0o620)),
        _ if disk => Some(("disk", 0o660)),
        _ => None,
    }
}

/// Sets owners and modes of the nodes below `/dev`.
pub fn set_owners(dev: &Path, users: &Users) {
    let names = std::fs::read_dir(dev)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.chain(["net/tun".to_owned()]) {
        let Some((group, mode)) = access(&name) else { continue };
        let path = dev.join(&name);
        // A group that the image does not have, or a node that is gone: the node stays root's alone.
        let Some(group) = users.group(group) else { continue };
        if rustix::fs::chown(&path, None, Some(Gid::from_raw(group))).is_ok() {
            let _ = rustix::fs::chmod(&path, Mode::from_raw_mode(mode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn file_systems_are_recognised() {
        let mut ext4 = vec![0; 2048];
        ext4[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        ext4[1024 + 0x78..1024 + 0x7d].copy_from_slice(b"STATE");
        ext4[1024 + 0x68] = 0xcb;
        let expected = [
            ("by-label", "STATE".to_owned()),
            ("by-uuid", "cb000000-0000-0000-0000-000000000000".to_owned()),
        ];
        assert_eq!(identify(&ext4), expected);
        let mut fat = vec![0; 2048];
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        fat[0x52..0x57].copy_from_slice(b"FAT32");
        fat[0x43..0x47].copy_from_slice(&[1, 2, 3, 4]);
        fat[0x47..0x52].copy_from_slice(b"OEM        ");
        assert_eq!(identify(&fat), [("by-label", "OEM".to_owned()), ("by-uuid", "0403-0201".to_owned())]);
        assert_eq!(identify(&[0; 2048]), []);
    }

    #[test]
    fn labels_become_names_as_udev_writes_them() {
        assert_eq!(escape("EFI-SYSTEM"), "EFI-SYSTEM");
        assert_eq!(escape("a b/c"), "a\\x20b\\x2fc");
    }

    #[test]
    fn nodes_get_the_groups_that_programs_expect() {
        let cases = [
            ("kvm", Some(("kvm", 0o660))),
            ("tty1", Some(("tty", 0o620))),
            ("ttyS0", Some(("dialout", 0o660))),
            ("vda1", Some(("disk", 0o660))),
            ("mem", None),
        ];
        for (name, expected) in cases {
            assert_eq!(access(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_device_content_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2100)) {
            identify(&bytes);
        }
    }
}
