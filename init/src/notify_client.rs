//! `systemd-notify`: tells the service manager about a service that is a script. systemd-notify(1), sd_notify(3).
//!
//! The message is sent in the name of the process that called this one, as far as the kernel lets us: this one is gone before
//! anybody can ask who it was. `BARRIER=1` is not sent, so `--no-block` changes nothing.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

use image_config::unit::is_descriptor_name;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, UCred, sendmsg_addr,
};
use rustix::process::{Pid, getgid, getpid, getppid, getuid};

use crate::sys::spawn::inherited;

/// Descriptors that one message can bring.
const MOST_DESCRIPTORS: usize = 32;

const HELP: &str = "\
systemd-notify [OPTIONS...] [VARIABLE=VALUE...]
systemd-notify --exec [OPTIONS...] [VARIABLE=VALUE...] ; COMMAND [ARGUMENT...]

  --ready          the service is up
  --reloading      it reads its configuration again
  --stopping       it is about to end
  --pid[=PID]      its main process: a number, `parent`, `self` or `auto` (the parent)
  --status=TEXT    what it is doing
  --fd=NUMBER      a descriptor that goes along, for FDSTORE=1
  --fdname=NAME    its name
  --booted         0 when this machine runs a service manager
  --exec           run a command afterwards
";

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    /// Lines of the message.
    lines: Vec<String>,
    booted: bool,
    help: bool,
    /// Numbers of the descriptors that go along.
    descriptors: Vec<RawFd>,
    /// The command of `--exec`.
    command: Vec<String>,
}

/// Processes and the clock, as far as messages speak of them.
struct Facts {
    own: u32,
    parent: u32,
    monotonic_us: u64,
}

impl Wish {
    fn parse(words: &[String], facts: &Facts) -> Result<Wish, String> {
        let mut wish = Wish::default();
        let mut exec = false;
        let mut named = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if exec && word == ";" {
                wish.command = words.cloned().collect();
                break;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word.as_str(), None),
            };
            match (name, value) {
                ("-h" | "--help", None) => wish.help = true,
                ("--fd", Some(number)) => {
                    let number = number.parse().ok().filter(|number| *number >= 0);
                    wish.descriptors.push(number.ok_or_else(|| format!("'{word}': this is no descriptor"))?);
                }
                ("--fdname", Some(name)) => named = Some(name),
                ("--booted", None) => wish.booted = true,
                ("--exec", None) => exec = true,
                ("--no-block", None) => {}
                ("--ready", None) => wish.lines.push("READY=1".to_owned()),
                ("--stopping", None) => wish.lines.push("STOPPING=1".to_owned()),
                ("--reloading", None) => {
                    wish.lines.push("RELOADING=1".to_owned());
                    wish.lines.push(format!("MONOTONIC_USEC={}", facts.monotonic_us));
                }
                ("--pid", value) => {
                    let pid = match value {
                        None | Some("" | "auto" | "parent") => facts.parent,
                        Some("self") => facts.own,
                        Some(number) => number.parse().map_err(|_| format!("'{number}' is no process"))?,
                    };
                    wish.lines.push(format!("MAINPID={pid}"));
                }
                ("--status", Some(text)) => wish.lines.push(format!("STATUS={text}")),
                ("--status", None) => {
                    let text = words.next().ok_or("option '--status' needs a value")?;
                    wish.lines.push(format!("STATUS={text}"));
                }
                _ if word.starts_with('-') => return Err(format!("unknown option '{word}'")),
                _ if word.contains('=') => wish.lines.push(word.clone()),
                _ => return Err(format!("'{word}' is no assignment of a variable")),
            }
        }
        if let Some(name) = named {
            if wish.descriptors.is_empty() {
                return Err("--fdname= without --fd=".to_owned());
            }
            if name.is_empty() || !is_descriptor_name(name) {
                return Err(format!("'{name}' is no name of a descriptor"));
            }
            wish.lines.push(format!("FDNAME={name}"));
        }
        if exec && wish.command.is_empty() {
            return Err("--exec needs a `;` and a command after it".to_owned());
        }
        Ok(wish)
    }
}

/// Runs `systemd-notify`.
pub fn run(words: &[String]) -> ExitCode {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let pid =
        |pid: Option<Pid>| pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).unwrap_or(0);
    let facts = Facts {
        own: pid(Some(getpid())),
        parent: pid(getppid()),
        monotonic_us: u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or(0),
    };
    let wish = match Wish::parse(words, &facts) {
        Ok(wish) => wish,
        Err(problem) => {
            eprintln!("systemd-notify: {problem}");
            return ExitCode::FAILURE;
        }
    };
    if wish.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if wish.booted {
        let is_up = std::path::Path::new(crate::control::CONTROL_SOCKET).exists();
        return if is_up { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if wish.lines.is_empty() {
        eprint!("{HELP}");
        return ExitCode::FAILURE;
    }
    match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) if !socket.is_empty() => {
            let descriptors: Option<Vec<OwnedFd>> =
                wish.descriptors.iter().map(|number| open_descriptor(*number)).collect();
            let Some(descriptors) = descriptors else {
                eprintln!("systemd-notify: a descriptor that is to go along is not open");
                return ExitCode::FAILURE;
            };
            if let Err(error) = send(&socket, &wish.lines.join("\n"), &descriptors) {
                eprintln!("Failed to notify init system: {socket}: {error}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("No status data could be sent: $NOTIFY_SOCKET was not set");
            return ExitCode::FAILURE;
        }
    }
    exec(&wish.command)
}

/// A descriptor that whoever called this program left open for it.
fn open_descriptor(number: RawFd) -> Option<OwnedFd> {
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned().ok(),
        1 => io::stdout().as_fd().try_clone_to_owned().ok(),
        2 => io::stderr().as_fd().try_clone_to_owned().ok(),
        number => inherited(number),
    }
}

/// Becomes the command of `--exec`, if there is one.
fn exec(command: &[String]) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let Some((program, arguments)) = command.split_first() else { return ExitCode::SUCCESS };
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("systemd-notify: {program}: {error}");
    ExitCode::FAILURE
}

/// Sends a message to the socket of that path, or of that abstract name behind an `@`.
fn send(socket: &str, message: &str, descriptors: &[OwnedFd]) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        None if socket.starts_with('/') => SocketAddrUnix::new(socket)?,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let sender = UnixDatagram::unbound()?;
    let bytes = [io::IoSlice::new(message.as_bytes())];
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let parent = getppid().filter(|parent| *parent != Pid::INIT);
    if let Some(pid) = parent {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let credentials = UCred { pid, uid: getuid(), gid: getgid() };
        ancillary.push(SendAncillaryMessage::ScmCredentials(credentials));
        // Only root may speak for another process; everybody else speaks for itself.
        if sendmsg_addr(&sender, &address, &bytes, &mut ancillary, SendFlags::NOSIGNAL).is_ok() {
            return Ok(());
        }
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg_addr(&sender, &address, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wish, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Wish::parse(&words, &Facts { own: 7, parent: 5, monotonic_us: 9 })
    }

    #[test]
    fn options_become_lines_of_the_message() {
        let wish = parse(&["--ready", "--status=a b", "--pid", "X=1", "--reloading"]).unwrap();
        assert_eq!(
            wish.lines,
            ["READY=1", "STATUS=a b", "MAINPID=5", "X=1", "RELOADING=1", "MONOTONIC_USEC=9"]
        );
        assert_eq!(parse(&["--pid=self", "--pid=12"]).unwrap().lines, ["MAINPID=7", "MAINPID=12"]);
        assert_eq!(parse(&["--exec", "--ready", ";", "a", "--b"]).unwrap().command, ["a", "--b"]);
        let wish = parse(&["--fd=3", "--fd=4", "--fdname=a", "FDSTORE=1"]).unwrap();
        assert_eq!((wish.descriptors, wish.lines), (vec![3, 4], vec!["FDSTORE=1".into(), "FDNAME=a".into()]));
        for bad in [&["--fd=x"][..], &["--fdname=a"], &["--fd=3", "--fdname=a:b"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in [&["--frob"][..], &["word"], &["--pid=x"], &["--status"], &["--exec", "--ready"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_message_arrives_as_it_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1\nSTATUS=x", &[]).unwrap();
        let mut bytes = [0; 100];
        let count = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"READY=1\nSTATUS=x");
        assert!(send("relative", "x", &[]).is_err());
        assert!(send("/no/such/socket", "x", &[]).is_err());
    }
}
