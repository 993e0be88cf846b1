//! The login prompt on a terminal: `getty TTY`.
//!
//! Images have no passwords. What lets a person in is a one-time name in [`CREDENTIAL`], which whoever starts the machine
//! hands in; without it the prompt is there, and says how else to get in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcsetattr,
};

use crate::boot::marks;
use crate::sys::terminal;

/// Holds the name of the user who is logged in without being asked, once a boot.
pub const CREDENTIAL: &str = "/run/ferrite/credentials/console-login";
const LOGIN: &str = "/usr/bin/login";
const ISSUE: &str = "/etc/issue";
/// Longest user name that is read, as useradd(8) has it.
const LONGEST_NAME: usize = 32;

/// What one keystroke at the prompt does.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Letter(char),
    Erase,
    EraseAll,
    Done,
    Hangup,
    Nothing,
}

/// Runs `getty TTY`: ends only when something fails or the line hangs up; otherwise it becomes login(1).
pub fn run(arguments: &[String]) -> ExitCode {
    let Some(name) = arguments.first().filter(|name| !name.starts_with('-')) else {
        eprintln!("usage: getty TTY");
        return ExitCode::from(2);
    };
    match session(name.trim_start_matches("/dev/")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("getty: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn session(name: &str) -> io::Result<()> {
    let mut terminal = open_terminal(name)?;
    marks::record("login");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let issue = fs::read_to_string(ISSUE).unwrap_or_default();
    terminal.write_all(expand_issue(&issue, &host, name).replace('\n', "\r\n").as_bytes())?;
    if let Some(user) = take_credential(Path::new(CREDENTIAL)) {
        terminal.write_all(format!("{host} login: {user} (automatic login)\r\n").as_bytes())?;
        refuse(&mut terminal, &become_login(&["-f", &user], name))?;
    }
    terminal.write_all(b"No password is set on this system: log in by ssh with a key from user-data.\r\n")?;
    loop {
        terminal.write_all(format!("{host} login: ").as_bytes())?;
        match read_name(&mut terminal)? {
            None => return Ok(()),
            Some(user) if user.is_empty() || user.starts_with('-') => {}
            Some(user) => refuse(&mut terminal, &become_login(&["--", &user], name))?,
        }
    }
}

/// Opens the terminal, makes it this session's and the standard streams.
fn open_terminal(name: &str) -> io::Result<File> {
    // As a service the session is new already and cannot be made anew; run by hand it must be.
    let _leads_one_already = rustix::process::setsid();
    let terminal = OpenOptions::new().read(true).write(true).open(format!("/dev/{name}"))?;
    terminal::take_control(terminal.as_fd())?;
    let mut settings = tcgetattr(&terminal)?;
    make_sane(&mut settings);
    tcsetattr(&terminal, OptionalActions::Flush, &settings)?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    let copy: OwnedFd = terminal.as_fd().try_clone_to_owned()?;
    Ok(File::from(copy))
}

/// The settings that people expect of a terminal: lines, echo, signals, no flow control by hardware.
fn make_sane(settings: &mut Termios) {
    settings.input_modes = InputModes::ICRNL | InputModes::IXON | InputModes::BRKINT | InputModes::IUTF8;
    settings.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
    settings.local_modes = LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ECHOCTL
        | LocalModes::ECHOKE
        | LocalModes::IEXTEN;
    settings.control_modes &=
        !(ControlModes::CSIZE | ControlModes::PARENB | ControlModes::CSTOPB | ControlModes::CRTSCTS);
    settings.control_modes |=
        ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL | ControlModes::HUPCL;
    let codes = [
        (SpecialCodeIndex::VINTR, 3),
        (SpecialCodeIndex::VQUIT, 28),
        (SpecialCodeIndex::VERASE, 127),
        (SpecialCodeIndex::VKILL, 21),
        (SpecialCodeIndex::VEOF, 4),
        (SpecialCodeIndex::VSUSP, 26),
        (SpecialCodeIndex::VSTART, 17),
        (SpecialCodeIndex::VSTOP, 19),
        (SpecialCodeIndex::VMIN, 1),
        (SpecialCodeIndex::VTIME, 0),
    ];
    for (index, code) in codes {
        settings.special_codes[index] = code;
    }
}

/// The name in the credential, which is removed: it is good for one login.
fn take_credential(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let removed = fs::remove_file(path);
    let name = text.trim().to_owned();
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    // One that cannot be removed would be good for ever.
    (is_name && removed.is_ok()).then_some(name)
}

/// Reads a name, echoing as it goes: the terminal is in line mode, so what comes are whole lines.
fn read_name(terminal: &mut File) -> io::Result<Option<String>> {
    let mut name = String::new();
    let mut byte = [0];
    loop {
        if terminal.read(&mut byte)? == 0 {
            return Ok(None);
        }
        match key(byte.first().copied().unwrap_or(0)) {
            Key::Letter(letter) if name.len() < LONGEST_NAME => name.push(letter),
            Key::Letter(_) | Key::Nothing => {}
            Key::Erase => drop(name.pop()),
            Key::EraseAll => name.clear(),
            Key::Done => return Ok(Some(name)),
            Key::Hangup => return Ok(None),
        }
    }
}

fn key(byte: u8) -> Key {
    match byte {
        b'\r' | b'\n' => Key::Done,
        8 | 127 => Key::Erase,
        21 => Key::EraseAll,
        4 => Key::Hangup,
        b'!'..=b'~' => Key::Letter(char::from(byte)),
        _ => Key::Nothing,
    }
}

/// The escapes of /etc/issue that make sense here, agetty(8): host name, terminal, kernel.
fn expand_issue(issue: &str, host: &str, terminal: &str) -> String {
    let mut text = String::with_capacity(issue.len());
    let mut letters = issue.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        let uname = rustix::system::uname();
        match letters.next() {
            Some('n') => text.push_str(host),
            Some('l') => text.push_str(terminal),
            Some('r') => text.push_str(&uname.release().to_string_lossy()),
            Some('s') => text.push_str(&uname.sysname().to_string_lossy()),
            Some('m') => text.push_str(&uname.machine().to_string_lossy()),
            Some('\\') => text.push('\\'),
            Some(_) | None => {}
        }
    }
    text
}

/// Says why nobody can log in here. The prompt comes back: ending would only start this program again.
fn refuse(terminal: &mut File, error: &io::Error) -> io::Result<()> {
    terminal.write_all(format!("{LOGIN} cannot be started: {error}\r\n").as_bytes())
}

/// Replaces this process by login(1), which asks for what it needs and starts the shell; comes back with the reason why not.
fn become_login(arguments: &[&str], terminal: &str) -> io::Error {
    let term = if terminal.starts_with("ttyS") || terminal.starts_with("hvc") { "vt220" } else { "linux" };
    let term = std::env::var("TERM").unwrap_or_else(|_| term.to_owned());
    let mut command = Command::new(LOGIN);
    command.arg("-p").args(arguments).env_clear().env("TERM", term).env("LANG", "C.UTF-8");
    command.exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_good_for_one_login() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console-login");
        fs::write(&path, "core\n").unwrap();
        assert_eq!(take_credential(&path), Some("core".to_owned()));
        assert_eq!(take_credential(&path), None);
    }

    #[test]
    fn a_credential_that_is_no_user_name_is_used_up_and_does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console-login");
        for text in ["-f root", "a b", "", "a\nb", "x/../y", &"x".repeat(40)] {
            fs::write(&path, text).unwrap();
            assert_eq!(take_credential(&path), None, "{text:?}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn issue_escapes_are_replaced() {
        assert_eq!(expand_issue("Ferrite \\n on \\l\\\\\\x\n", "box", "ttyS0"), "Ferrite box on ttyS0\\\n");
    }
}
