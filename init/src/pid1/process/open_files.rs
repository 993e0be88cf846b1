//! `OpenFile=`: files, or connections to sockets, that the main process finds open: systemd.service(5).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use image_config::unit::{OpenFile, OpenMode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Circumstances, Context, Step, code};
use crate::supervisor::Phase;

/// Opens what the unit names; what is `graceful` and cannot be opened is left out.
pub(super) fn open(how: &Circumstances<'_>) -> Step<Vec<(OwnedFd, String)>> {
    let mut opened = Vec::new();
    for file in how.service.open_files.iter().filter(|_| how.phase == Phase::Start) {
        match open_one(file) {
            Ok(descriptor) => opened.push((descriptor, file.name.clone())),
            Err(_) if file.graceful => {}
            Err(error) => return Err(error).step(code::FDS, format_args!("OpenFile={}", file.path)),
        }
    }
    Ok(opened)
}

fn open_one(file: &OpenFile) -> io::Result<OwnedFd> {
    let path = Path::new(&file.path);
    if fs::metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        return connect_to(path);
    }
    let mut options = fs::OpenOptions::new();
    match file.mode {
        OpenMode::ReadOnly => options.read(true),
        OpenMode::ReadWrite => options.read(true).write(true),
        OpenMode::Append => options.read(true).append(true).create(true),
        OpenMode::Truncate => options.read(true).write(true).truncate(true).create(true),
    };
    // A terminal must not become the service's own by this.
    Ok(options.custom_flags(libc::O_NOCTTY).open(path)?.into())
}

/// Of a socket in the file system it cannot be seen which kind it is.
fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let mut last = io::Error::from(io::ErrorKind::NotConnected);
    for kind in [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET] {
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn file(path: &Path, mode: OpenMode) -> OpenFile {
        OpenFile { path: path.to_string_lossy().into_owned(), name: "x".to_owned(), mode, graceful: false }
    }

    #[test]
    fn files_are_opened_as_they_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert!(open_one(&file(&path, OpenMode::ReadWrite)).is_err());
        let mut appended = fs::File::from(open_one(&file(&path, OpenMode::Append)).unwrap());
        appended.write_all(b"one").unwrap();
        let mut again = fs::File::from(open_one(&file(&path, OpenMode::Append)).unwrap());
        again.write_all(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        let mut only = fs::File::from(open_one(&file(&path, OpenMode::ReadOnly)).unwrap());
        assert!(only.write_all(b"x").is_err());
        let mut text = String::new();
        only.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
        open_one(&file(&path, OpenMode::Truncate)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn sockets_of_either_kind_are_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let (stream, datagram) = (folder.path().join("s"), folder.path().join("d"));
        let listener = UnixListener::bind(&stream).unwrap();
        let receiver = UnixDatagram::bind(&datagram).unwrap();
        open_one(&file(&stream, OpenMode::ReadWrite)).unwrap();
        listener.accept().unwrap();
        let sender = UnixDatagram::from(open_one(&file(&datagram, OpenMode::ReadWrite)).unwrap());
        sender.send(b"hello").unwrap();
        assert_eq!(receiver.recv(&mut [0; 9]).unwrap(), 5);
    }
}
