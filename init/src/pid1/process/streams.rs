//! Standard input, output and error.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use image_config::unit::{ExecContext, Input, Output};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::termios::{ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex};

use super::{Circumstances, Context, Step, code};
use crate::sys::{setup, terminal};

/// What the program is told of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connected {
    /// Device and inode of the connection to the journal, if its error stream or else its output is one.
    pub journal: Option<(u64, u64)>,
}

/// Connects descriptors 0, 1 and 2.
pub(super) fn connect(
    exec: &ExecContext,
    how: &Circumstances<'_>,
    descriptors: &[(OwnedFd, String)],
    user: Option<u32>,
) -> Step<Connected> {
    let terminal = exec.tty_path.as_deref().unwrap_or("/dev/console");
    prepare_terminal(exec, terminal);
    let takes_terminal = matches!(exec.standard_input, Input::Tty | Input::TtyForce | Input::TtyFail);
    let input = input(exec, terminal, descriptors).step(code::STDIN, "StandardInput=")?;
    if takes_terminal && let Some(user) = user {
        // The user must be able to open it again. A terminal of nobody's file system stays as it is.
        let _stays = rustix::fs::fchown(&input, Some(rustix::fs::Uid::from_raw(user)), None);
    }
    let follows = takes_terminal || matches!(exec.standard_input, Input::Socket);
    let default = if follows { Output::Inherit } else { Output::Journal };
    let wanted = exec.standard_output.as_ref().unwrap_or(&default);
    let ways = Ways { how, terminal, descriptors, input: &exec.standard_input };
    let out = ways.output(wanted, &input).step(code::STDOUT, "StandardOutput=")?;
    let error_wanted = exec.standard_error.as_ref();
    let err = match error_wanted {
        None | Some(Output::Inherit) => out.try_clone(),
        Some(same) if same == wanted && !matches!(same, Output::Fd(_)) => out.try_clone(),
        Some(other) => ways.output(other, &input),
    }
    .step(code::STDERR, "StandardError=")?;
    let is_journal = |output: &Output| matches!(output, Output::Journal | Output::JournalConsole);
    let journal = match error_wanted {
        Some(error) if is_journal(error) => Some(&err),
        None | Some(Output::Inherit) if is_journal(wanted) => Some(&err),
        _ if is_journal(wanted) => Some(&out),
        _ => None,
    };
    let journal = journal.and_then(|stream| rustix::fs::fstat(stream).ok());
    rustix::stdio::dup2_stdin(&input).step(code::STDIN, "StandardInput=")?;
    rustix::stdio::dup2_stdout(&out).step(code::STDOUT, "StandardOutput=")?;
    rustix::stdio::dup2_stderr(&err).step(code::STDERR, "StandardError=")?;
    Ok(Connected { journal: journal.map(|found| (found.st_dev, found.st_ino)) })
}

/// The connection of a stream to the journal.
fn connect_output(how: &Circumstances<'_>) -> io::Result<OwnedFd> {
    how.log.try_clone_to_owned()
}

fn input(exec: &ExecContext, path: &str, descriptors: &[(OwnedFd, String)]) -> io::Result<OwnedFd> {
    match &exec.standard_input {
        Input::Null => open("/dev/null", OpenOptions::new().read(true)),
        Input::Tty | Input::TtyForce | Input::TtyFail => {
            let opened = open_terminal(path)?;
            take(&opened, path, &exec.standard_input)?;
            Ok(opened)
        }
        Input::File(path) => {
            let same = |output: &Option<Output>| output.as_ref() == Some(&Output::File(path.clone()));
            let writes = same(&exec.standard_output) || same(&exec.standard_error);
            open(path, OpenOptions::new().read(true).write(writes))
        }
        Input::Data => data(&exec.input_data),
        Input::Socket => the_socket(descriptors)?.try_clone_to_owned(),
        Input::Fd(name) => named(descriptors, name)?.try_clone_to_owned(),
    }
}

/// Takes the terminal as this session's own; `tty` waits until nobody has it.
fn take(opened: &OwnedFd, path: &str, how: &Input) -> io::Result<()> {
    if *how == Input::TtyForce {
        return terminal::take_control(opened.as_fd());
    }
    // Watched before it is tried, so that a close in between is not missed.
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, path, WatchFlags::CLOSE)?;
    loop {
        match setup::take_free_terminal(opened.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && *how == Input::Tty => {}
            result => return result,
        }
        let mut buffer = [MaybeUninit::uninit(); 1024];
        inotify::Reader::new(&watch, &mut buffer).next()?;
    }
}

/// Text as something to read from.
fn data(bytes: &[u8]) -> io::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create("data", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

/// The one socket of `StandardInput=socket`.
fn the_socket(descriptors: &[(OwnedFd, String)]) -> io::Result<BorrowedFd<'_>> {
    match descriptors {
        [(only, _)] => Ok(only.as_fd()),
        [] => Err(io::Error::other("no socket started this service")),
        _ => Err(io::Error::other("more than one socket started this service")),
    }
}

fn named<'a>(descriptors: &'a [(OwnedFd, String)], name: &str) -> io::Result<BorrowedFd<'a>> {
    let found = descriptors.iter().find(|(_, known)| known == name);
    found
        .map(|(descriptor, _)| descriptor.as_fd())
        .ok_or_else(|| io::Error::other(format!("no descriptor is named '{name}'")))
}

/// Where outputs can go.
struct Ways<'a> {
    how: &'a Circumstances<'a>,
    terminal: &'a str,
    descriptors: &'a [(OwnedFd, String)],
    input: &'a Input,
}

impl Ways<'_> {
    fn output(&self, kind: &Output, input: &OwnedFd) -> io::Result<OwnedFd> {
        match kind {
            // /dev/null was opened for reading.
            Output::Inherit if matches!(self.input, Input::Null | Input::Data) => {
                self.output(&Output::Null, input)
            }
            Output::Inherit => input.try_clone(),
            Output::Null => open("/dev/null", OpenOptions::new().write(true)),
            Output::Tty if matches!(self.input, Input::Tty | Input::TtyForce | Input::TtyFail) => {
                input.try_clone()
            }
            Output::Tty => open_terminal(self.terminal),
            Output::Journal | Output::JournalConsole => connect_output(self.how),
            Output::Kmsg | Output::KmsgConsole => open("/dev/kmsg", OpenOptions::new().write(true)),
            Output::File(path) if matches!(self.input, Input::File(read) if read == path) => {
                input.try_clone()
            }
            Output::File(path) => open(path, OpenOptions::new().write(true).create(true)),
            Output::Append(path) => open(path, OpenOptions::new().append(true).create(true)),
            Output::Truncate(path) => open(path, OpenOptions::new().write(true).create(true).truncate(true)),
            Output::Socket => the_socket(self.descriptors)?.try_clone_to_owned(),
            Output::Fd(name) => named(self.descriptors, name)?.try_clone_to_owned(),
        }
    }
}

/// `TTYVHangup=`, `TTYReset=`, `TTYVTDisallocate=`: what the terminal's last user left is done away with. A terminal
/// that refuses is used as it is.
fn prepare_terminal(exec: &ExecContext, path: &str) {
    if !(exec.tty_vhangup || exec.tty_reset || exec.tty_vt_disallocate) {
        return;
    }
    if exec.tty_vhangup
        && let Ok(opened) = open_terminal(path)
    {
        let _refused = setup::hang_up(opened.as_fd());
    }
    if exec.tty_reset
        && let Ok(opened) = open_terminal(path)
    {
        let _refused = reset(&opened);
    }
    if exec.tty_vt_disallocate
        && let Some(number) = path.strip_prefix("/dev/tty").and_then(|number| number.parse().ok())
        && let Ok(any) = open_terminal("/dev/tty0")
    {
        let _in_use = setup::disallocate_console(any.as_fd(), number);
    }
}

/// A terminal as a fresh one is: cooked, echoing, with the usual keys.
fn reset(opened: &OwnedFd) -> io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(opened)?;
    modes.input_modes.remove(
        InputModes::IGNBRK | InputModes::BRKINT | InputModes::ISTRIP | InputModes::INLCR | InputModes::IGNCR,
    );
    modes.input_modes.insert(InputModes::ICRNL | InputModes::IMAXBEL | InputModes::IUTF8);
    modes.output_modes.insert(OutputModes::ONLCR | OutputModes::OPOST);
    modes.control_modes.insert(ControlModes::CREAD);
    modes.local_modes.insert(
        LocalModes::ISIG
            | LocalModes::ICANON
            | LocalModes::IEXTEN
            | LocalModes::ECHO
            | LocalModes::ECHOE
            | LocalModes::ECHOK
            | LocalModes::ECHOCTL
            | LocalModes::ECHOKE,
    );
    // Ctrl-C, Ctrl-\, DEL, Ctrl-U, Ctrl-D, Ctrl-Q, Ctrl-S, Ctrl-Z: what every shell expects.
    let keys = [
        (SpecialCodeIndex::VINTR, 3),
        (SpecialCodeIndex::VQUIT, 28),
        (SpecialCodeIndex::VERASE, 127),
        (SpecialCodeIndex::VKILL, 21),
        (SpecialCodeIndex::VEOF, 4),
        (SpecialCodeIndex::VSTART, 17),
        (SpecialCodeIndex::VSTOP, 19),
        (SpecialCodeIndex::VSUSP, 26),
    ];
    for (key, value) in keys {
        modes.special_codes[key] = value;
    }
    Ok(rustix::termios::tcsetattr(opened, OptionalActions::Now, &modes)?)
}

fn open_terminal(path: &str) -> io::Result<OwnedFd> {
    open(path, OpenOptions::new().read(true).write(true))
}

fn open(path: &str, options: &mut OpenOptions) -> io::Result<OwnedFd> {
    // Never a controlling terminal by the way; never waiting for a FIFO's other end or a modem's carrier.
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let opened = options.mode(0o666).custom_flags(i32::try_from(flags.bits()).unwrap_or(0)).open(path);
    let file: OwnedFd = match opened {
        // A socket is not opened but connected to (`file:` of systemd.exec(5)).
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_socket(path) => {
            std::os::unix::net::UnixStream::connect(path)?.into()
        }
        result => result?.into(),
    };
    let mut status = rustix::fs::fcntl_getfl(&file)?;
    status.remove(OFlags::NONBLOCK);
    rustix::fs::fcntl_setfl(&file, status)?;
    Ok(file)
}

fn is_socket(path: &str) -> bool {
    rustix::fs::stat(path).is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_socket())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn data_is_read_from_its_start_and_not_written() {
        let mut file = std::fs::File::from(data(b"two\nlines\n").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two\nlines\n");
        assert!(file.write_all(b"x").is_err());
    }

    #[test]
    fn descriptors_are_found_by_name_and_a_lone_one_is_the_socket() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let one = [(null(), "web".to_owned())];
        assert!(the_socket(&one).is_ok() && named(&one, "web").is_ok());
        assert!(named(&one, "db").unwrap_err().to_string().contains("'db'"));
        let two = [(null(), "a".to_owned()), (null(), "b".to_owned())];
        assert!(the_socket(&two).is_err() && the_socket(&[]).is_err());
    }
}
