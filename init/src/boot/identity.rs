//! Who this machine is: host name, machine-id, and the files in `/etc` that follow from them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Longest host name that Linux takes.
const MAX_HOSTNAME: usize = 64;
/// First line of the `/etc/hosts` that is ours to keep in step with the host name.
const HOSTS_MARK: &str = "# Written at boot; remove this line to keep your own.";

/// The first name that is one, in the order host, `/etc/hostname`, image; `localhost` when none is.
pub fn choose_hostname(host: Option<&str>, file: Option<&str>, image: Option<&str>) -> String {
    let from_file = file
        .and_then(|text| text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')));
    let names = [host, from_file, image];
    names
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|name| is_hostname(name))
        .unwrap_or("localhost")
        .to_owned()
}

/// RFC 1123: labels of letters, digits and hyphens, none at the ends.
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_HOSTNAME && name.split('.').all(label)
}

/// Keeps the machine-id in `etc/machine-id`, or makes one from `random`; returns it.
///
/// # Errors
/// The file cannot be written; the machine then has the new id for this boot only.
pub fn machine_id(etc: &Path, random: [u8; 16]) -> (String, io::Result<()>) {
    let path = etc.join("machine-id");
    if let Some(id) = std::fs::read_to_string(&path).ok().and_then(|text| parse_machine_id(&text)) {
        return (id, Ok(()));
    }
    let id = new_machine_id(random);
    let written = replace(&path, 0o444, format!("{id}\n").as_bytes());
    (id, written)
}

/// 32 lower-case hex digits, not all zero (machine-id(5)).
fn parse_machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    let hex = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex && id.bytes().any(|byte| byte != b'0')).then(|| id.to_owned())
}

/// A random UUID (version 4) without its hyphens.
fn new_machine_id(mut random: [u8; 16]) -> String {
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `etc/hosts` when there is none, when it is ours with another name, and when it is empty: that is what a power cut
/// leaves of a file that was not on the disk yet, and without a localhost little works.
///
/// # Errors
/// The file cannot be written.
pub fn write_hosts(etc: &Path, hostname: &str) -> io::Result<()> {
    let path = etc.join("hosts");
    let wanted = hosts(hostname);
    match std::fs::read_to_string(&path) {
        Ok(text) if text == wanted || !(text.starts_with(HOSTS_MARK) || text.trim().is_empty()) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // Written again at every boot that misses it or finds it empty: not worth waiting for the disk.
        _ => put_in_place(&path, 0o644, wanted.as_bytes(), |_| Ok(())),
    }
}

/// The text of an `/etc/hosts` that is ours.
pub fn hosts(hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    let own = if short == "localhost" { String::new() } else { format!("127.0.1.1 {names}\n") };
    format!("{HOSTS_MARK}\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own}")
}

/// Makes a link where there is nothing.
///
/// # Errors
/// The link cannot be made.
pub fn link_if_missing(target: &str, path: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Puts a file in place in one step and makes it durable: a power cut leaves the old one or the new one.
///
/// # Errors
/// The kernel's.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    replace_owned(path, mode, (0, 0), content)
}

/// The same for a file of somebody else: it has its user and group before it has its name, so that there is no moment in which those who may
/// read it cannot.
///
/// # Errors
/// The kernel's.
pub fn replace_owned(path: &Path, mode: u32, owner: (u32, u32), content: &[u8]) -> io::Result<()> {
    let settle = |file: &File| {
        if owner != (0, 0) {
            std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1))?;
        }
        file.sync_all()
    };
    put_in_place(path, mode, content, settle)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Puts a file in place in one step; `settle` is called on it before it gets its name.
fn put_in_place(
    path: &Path,
    mode: u32,
    content: &[u8],
    settle: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    settle(&file)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_host_names_the_machine_before_the_disk_and_the_image() {
        let cases = [
            ([Some("node-1"), Some("disk\n"), Some("ferrite")], "node-1"),
            ([None, Some("# comment\n\n disk.example \n"), Some("ferrite")], "disk.example"),
            ([Some("bad name"), Some(""), Some("ferrite")], "ferrite"),
            ([Some("-bad"), None, Some("bad_")], "localhost"),
            ([None, None, None], "localhost"),
        ];
        for ([host, file, image], expected) in cases {
            assert_eq!(choose_hostname(host, file, image), expected);
        }
        assert!(!is_hostname(&"a".repeat(65)));
    }

    #[test]
    fn the_machine_id_is_made_once() {
        use std::os::unix::fs::PermissionsExt;
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("machine-id"), "uninitialized\n").unwrap();
        let (first, written) = machine_id(etc.path(), [0xab; 16]);
        written.unwrap();
        assert_eq!(first, "abababababab4bababababababababab");
        assert_eq!(machine_id(etc.path(), [0xcd; 16]).0, first);
        let mode = std::fs::metadata(etc.path().join("machine-id")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        assert_eq!(std::fs::read_dir(etc.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn hosts_follows_the_name_until_somebody_makes_it_theirs() {
        let etc = tempfile::tempdir().unwrap();
        let path = etc.path().join("hosts");
        write_hosts(etc.path(), "one.example").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("127.0.1.1 one.example one\n"));
        write_hosts(etc.path(), "two").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("127.0.1.1 two\n"));
        std::fs::write(&path, "").unwrap();
        write_hosts(etc.path(), "two").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("127.0.0.1 localhost\n"), "empty is lost");
        std::fs::write(&path, "127.0.0.1 mine\n").unwrap();
        write_hosts(etc.path(), "three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1 mine\n");
    }

    proptest! {
        #[test]
        fn every_made_id_is_a_valid_one(random: [u8; 16], text: String) {
            let id = new_machine_id(random);
            prop_assert_eq!(parse_machine_id(&id), Some(id));
            parse_machine_id(&text);
            prop_assert!(is_hostname(&choose_hostname(Some(&text), Some(&text), Some(&text))));
        }
    }
}
