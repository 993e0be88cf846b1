//! Making a planned view: the only part that mounts anything, and only in a namespace of this process's own.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use image_config::unit::{Propagation, Sandbox};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_move, unmount,
};
use rustix::thread::UnshareFlags;

use super::super::{Context, Step, code};
use super::plan::{Entry, Mount, rule_for};
use crate::sys::setup::{self, MountAttributes};

/// Where the private `/dev` is put together before it takes the old one's place.
const WORKSHOP: &str = "/run/ferrite/sandbox";
/// Devices of a private `/dev`: name, major, minor; linux `admin-guide/devices.txt`.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// What else of `/dev` comes along, if it is there.
const BOUND: [&str; 4] = ["pts", "shm", "mqueue", "hugepages"];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
/// What a root directory must have, file-hierarchy(7); systemd makes the same, and no `/tmp`.
const BASE_FOLDERS: [(&str, u32); 8] = [
    ("root", 0o750),
    ("usr", 0o755),
    ("var", 0o755),
    ("etc", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o555),
    ("run", 0o755),
];
/// Links of a merged `/usr`, where it has these folders.
const BASE_LINKS: [(&str, &str); 3] = [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")];

/// Leaves the machine's mount namespace and makes the view.
pub(super) fn apply(entries: &[Entry], root: Option<&Path>, sandbox: &Sandbox) -> Step<()> {
    setup::unshare(UnshareFlags::NEWNS).step(code::NAMESPACE, "cannot leave the mount namespace")?;
    // From here on, nothing that is mounted here reaches the machine.
    change("/", MountPropagationFlags::DOWNSTREAM)
        .step(code::NAMESPACE, "cannot leave the mounts' peer groups")?;
    if let Some(root) = root {
        let what = format!("RootDirectory={}", root.display());
        mount_bind_recursive(root, root).step(code::NAMESPACE, &what)?;
        make_base_folders(root);
        if sandbox.mount_api_vfs.unwrap_or(true) {
            add_api(root).step(code::NAMESPACE, "MountAPIVFS=")?;
        }
    }
    // All sources before the first mount, which may hide them.
    let sources: Vec<Option<OwnedFd>> = entries
        .iter()
        .map(|entry| {
            source(entry).step(code::NAMESPACE, format_args!("{}{}", entry.setting, entry.path.display()))
        })
        .collect::<Step<_>>()?;
    for (entry, source) in entries.iter().zip(&sources) {
        match make(entry, source.as_ref()) {
            // Another entry has hidden it since it was looked for.
            Err(error) if entry.optional && error.kind() == io::ErrorKind::NotFound => {}
            result => {
                result.step(code::NAMESPACE, format_args!("{}{}", entry.setting, entry.path.display()))?;
            }
        }
    }
    set_attributes(entries)?;
    if let Some(root) = root {
        enter_root(root).step(code::CHROOT, format_args!("RootDirectory={}", root.display()))?;
    }
    let propagation = match sandbox.mount_flags {
        // Namespaces below this one still hear of what is mounted here.
        None | Some(Propagation::Shared) => MountPropagationFlags::SHARED,
        Some(Propagation::Slave) => MountPropagationFlags::DOWNSTREAM,
        Some(Propagation::Private) => MountPropagationFlags::PRIVATE,
    };
    change("/", propagation).step(code::NAMESPACE, "MountFlags=")
}

fn change(path: &str, kind: MountPropagationFlags) -> io::Result<()> {
    Ok(mount_change(path, kind | MountPropagationFlags::REC)?)
}

/// What a bind mount shows; `None` for other entries, and where it need not be there and is not.
fn source(entry: &Entry) -> io::Result<Option<OwnedFd>> {
    let Some(Mount::Bind(path, _, optional)) = &entry.mount else { return Ok(None) };
    match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) if *optional => Ok(None),
        result => Ok(Some(result?)),
    }
}

fn make(entry: &Entry, source: Option<&OwnedFd>) -> io::Result<()> {
    let path = entry.path.as_path();
    match &entry.mount {
        None if is_mount(path)? => Ok(()),
        // Attributes are a mount's, so the place becomes one.
        None => Ok(mount_bind_recursive(path, path)?),
        Some(Mount::Inaccessible) => hide(path),
        Some(Mount::Bind(_, recursive, _)) => source.map_or(Ok(()), |source| bind(source, path, *recursive)),
        Some(Mount::Devices) => private_devices(path),
        Some(Mount::Processes(options)) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            match mount_with("proc", path, flags, options) {
                // In a container that may not: the setting has no effect there, as in systemd.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                result => result,
            }
        }
        Some(Mount::Memory(options)) => {
            fs::create_dir_all(path)?;
            mount_with("tmpfs", path, MountFlags::NOSUID | MountFlags::NODEV, options)
        }
    }
}

fn mount_with(kind: &str, path: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    Ok(mount(kind, path, kind, flags, options.as_c_str())?)
}

fn bind(source: &OwnedFd, target: &Path, recursive: bool) -> io::Result<()> {
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode).is_dir();
    if !target.exists() {
        if is_folder {
            fs::create_dir_all(target)?;
        } else {
            target.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::File::create(target)?;
        }
    }
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    if recursive {
        mount_bind_recursive(source, target)?;
    } else {
        mount_bind(source, target)?;
    }
    Ok(())
}

/// Covers a place with an empty one of its type without any permission.
fn hide(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        return mount_with("tmpfs", path, flags, "mode=000,size=4k,nr_inodes=2");
    }
    let kind = FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode);
    // A file is covered by one that is nowhere else: in a file system of its own, gone once it is bound.
    in_workshop(|workshop| {
        mount_with(
            "tmpfs",
            workshop,
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            "mode=755,size=4k",
        )?;
        let nothing = workshop.join("nothing");
        // Permissions do not bind root, who would read an empty file; what is no file does not even open.
        let is_special = kind != FileType::RegularFile;
        if !(is_special && mknodat(CWD, &nothing, kind, Mode::empty(), 0).is_ok()) {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o000).open(&nothing)?;
        }
        mount_bind(&nothing, path)?;
        setup::set_mount_attributes(path, MountAttributes { read_only: true, no_exec: true, no_suid: true })?;
        Ok(unmount(workshop, UnmountFlags::DETACH)?)
    })
}

/// A folder to mount things at that nobody else sees; it is made on the machine's `/run`, empty.
fn in_workshop(work: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let workshop = Path::new(WORKSHOP);
    fs::create_dir_all(workshop)?;
    work(workshop)
}

/// `/dev` with the pseudo devices alone.
fn private_devices(dev: &Path) -> io::Result<()> {
    in_workshop(|workshop| {
        mount_with(
            "tmpfs",
            workshop,
            MountFlags::NOSUID | MountFlags::NOEXEC,
            "mode=755,size=4m,nr_inodes=64",
        )?;
        for (name, major, minor) in DEVICES {
            let node = workshop.join(name);
            let number = rustix::fs::makedev(major, minor);
            match mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number) {
                // In a user namespace nodes cannot be made: the machine's are used.
                Err(_) => {
                    fs::File::create(&node)?;
                    mount_bind(dev.join(name), &node)?;
                }
                Ok(()) => fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?,
            }
        }
        for name in BOUND {
            let source = dev.join(name);
            if source.is_dir() {
                fs::create_dir(workshop.join(name))?;
                mount_bind_recursive(&source, workshop.join(name))?;
            }
        }
        for (name, target) in LINKS {
            symlink(target, workshop.join(name))?;
        }
        bring_log(dev, workshop)?;
        Ok(mount_move(workshop, dev)?)
    })
}

/// `/dev/log`, which is a socket or a link to one.
fn bring_log(dev: &Path, workshop: &Path) -> io::Result<()> {
    let (old, new) = (dev.join("log"), workshop.join("log"));
    match old.symlink_metadata() {
        Ok(found) if found.is_symlink() => symlink(fs::read_link(&old)?, new),
        Ok(_) => {
            fs::File::create(&new)?;
            Ok(mount_bind(&old, &new)?)
        }
        Err(_) => Ok(()),
    }
}

/// Makes what programs expect at the top of a file system, as far as it is missing. One that is read-only, say, has
/// to do without; what the unit needs of it will be missed later.
fn make_base_folders(root: &Path) {
    for (name, mode) in BASE_FOLDERS {
        let _without = fs::DirBuilder::new().mode(mode).create(root.join(name));
    }
    for (name, target) in BASE_LINKS {
        if root.join(target).is_dir() {
            let _without = symlink(target, root.join(name));
        }
    }
}

/// The machine's `/proc`, `/sys` and `/dev`, and an own `/run`, where a root directory has none.
fn add_api(root: &Path) -> io::Result<()> {
    for name in ["proc", "sys", "dev"] {
        let place = root.join(name);
        fs::create_dir_all(&place)?;
        if !is_mount(&place)? {
            mount_bind_recursive(Path::new("/").join(name), &place)?;
        }
    }
    let run = root.join("run");
    fs::create_dir_all(&run)?;
    if is_mount(&run)? {
        Ok(())
    } else {
        mount_with("tmpfs", &run, MountFlags::NOSUID | MountFlags::NODEV, "mode=755")
    }
}

fn enter_root(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    mount_move(root, "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Whether a mount is at this very place.
fn is_mount(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Read-only and not to be executed from: mount by mount, for a mount below has attributes of its own.
fn set_attributes(entries: &[Entry]) -> Step<()> {
    let has_rules = |entry: &Entry| entry.read_only == Some(true) || entry.no_exec == Some(true);
    if !entries.iter().any(has_rules) {
        return Ok(());
    }
    let text = fs::read("/proc/self/mountinfo").step(code::NAMESPACE, "cannot read the mounts")?;
    for place in mount_points(&text) {
        let wanted = MountAttributes {
            read_only: rule_for(entries, &place, |entry| entry.read_only),
            no_exec: rule_for(entries, &place, |entry| entry.no_exec),
            no_suid: false,
        };
        if wanted == MountAttributes::default() {
            continue;
        }
        match setup::set_mount_attributes(&place, wanted) {
            // Covered by another mount, or out of sight: nobody gets there.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {}
            result => result.step(code::NAMESPACE, format_args!("cannot protect {}", place.display()))?,
        }
    }
    Ok(())
}

/// Places of mountinfo, proc_pid_mountinfo(5), field 5; `\ooo` stands for bytes that would end the field.
fn mount_points(text: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let fields = text.split(|c| *c == b'\n').filter_map(|line| line.split(|c| *c == b' ').nth(4));
    let mut places: Vec<PathBuf> =
        fields.map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)))).collect();
    places.sort();
    places.dedup();
    places
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|c| (b'0'..=b'7').contains(c)));
        let value =
            digits.map(|digits| digits.iter().fold(0_u32, |value, c| value * 8 + u32::from(*c - b'0')));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_mounts_are_read_with_their_escapes() {
        let text = b"22 1 0:20 / /proc rw - proc proc rw\n23 1 0:3 / /a\\040b\\134c rw - x y z\nbroken\n24 1 0:20 / /proc rw";
        assert_eq!(mount_points(text), [Path::new("/a b\\c"), Path::new("/proc")]);
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\777x"), b"\\777x");
    }

    #[test]
    fn a_root_directory_gets_what_programs_expect_and_keeps_what_it_has() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::write(root.path().join("etc"), "mine").unwrap();
        make_base_folders(root.path());
        make_base_folders(root.path());
        let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("root"), mode("var"), mode("proc")), (0o750, 0o755, 0o555));
        assert_eq!(fs::read_link(root.path().join("bin")).unwrap(), Path::new("usr/bin"));
        assert_eq!(fs::read_to_string(root.path().join("etc")).unwrap(), "mine");
        assert!(!root.path().join("tmp").exists() && !root.path().join("sbin").exists());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = mount_points(&bytes);
            let _ = unescape(&bytes);
        }
    }
}
