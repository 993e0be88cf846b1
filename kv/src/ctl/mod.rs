//! `etcdctl` with the commands of etcd's API v2, on the v3 store. `docs/etcdctl.md` is for those who use it.
//!
//! [`line`] and [`settings`] read what is typed, [`plan`] makes a transaction of it, [`show`] prints what came of it, [`changes`]
//! tells of changes: none of them does I/O. [`session`], [`watching`] and [`members`] are the shell. What v2 did not have goes to
//! the etcdctl of etcd itself ([`real`]).

pub mod changes;
pub mod failure;
pub mod flags;
pub mod line;
mod members;
pub mod path;
pub mod plan;
mod real;
mod session;
pub mod settings;
pub mod show;
pub mod tree;
mod watching;
mod words;

use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;
use std::time::SystemTime;

use self::failure::Failure;
use self::line::{Call, Line};
use self::path::Path;
use self::plan::{Content, Depth, Only, Previous, Request};
use self::session::Session;
use self::settings::Settings;
use self::show::Format;
use self::watching::{Watched, print};
use crate::config::Credentials;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A name that leads out of the tree: there is nothing that speaks etcd.
const OUTSIDE: &str =
    "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint";
const BACKUP: &str = "etcdctl: `backup` copied the store of API v2, in which there is nothing here. \
    A copy of the store that is used:\n    ETCDCTL_API=3 etcdctl snapshot save FILE";

/// Runs it with the words behind its name.
pub fn run(words: Vec<OsString>) -> ExitCode {
    let words: Vec<Vec<u8>> = words.into_iter().map(OsString::into_vec).collect();
    let version = std::env::var("ETCDCTL_API").unwrap_or_default();
    let words_of_v3 = match version.as_str() {
        "" | "2" => real::words_for_v3(&words),
        "3" => Some(words.clone()),
        other => {
            eprintln!("unsupported API version: {other}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(words) = words_of_v3 {
        return failed(&real::become_v3(&words), false);
    }
    match line::read(&words, VERSION) {
        Line::Print(text) => {
            // Whoever does not read what was asked for has seen enough.
            let _ = std::io::stdout().write_all(text.stdout.as_bytes());
            eprint!("{}", text.stderr);
            ExitCode::from(text.status)
        }
        Line::Run(call) => {
            let settings = Settings::read(&call.global, |name| std::env::var(name).ok());
            let settings = settings.map_err(|problem| Failure::Plain(problem, 1));
            let sync = settings.as_ref().is_ok_and(|settings| settings.sync);
            match settings.and_then(|settings| command(settings, &call)) {
                Ok(status) => ExitCode::from(status),
                Err(failure) => failed(&failure, sync),
            }
        }
    }
}

fn failed(failure: &Failure, sync: bool) -> ExitCode {
    // There is no other place to say it.
    let _ = std::io::stderr().write_all(&failure.text());
    ExitCode::from(failure.status(sync))
}

/// Carries a command out; the exit status.
fn command(settings: Settings, call: &Call) -> Result<u8, Failure> {
    match call.name.split(' ').next().unwrap_or_default() {
        "backup" => return Err(Failure::Plain(BACKUP.to_owned(), 1)),
        "user" | "role" | "auth" => return real::run(&settings, &real::for_users_and_roles(call)?),
        _ => {}
    }
    let credentials = settings.user.as_deref().map(credentials).transpose()?;
    let mut session = Session::new(settings, credentials);
    let done = match call.name.as_str() {
        "watch" | "exec-watch" => watch(&mut session, call),
        "cluster-health" => return members::health(&mut session, call.options.is_on("forever")),
        name if name.starts_with("member ") => members::member(&mut session, call),
        _ => on_keys(&mut session, call),
    };
    done.map(|()| 0)
}

/// A name and its password, which is asked for if it is not there.
fn credentials(user: &str) -> Result<Credentials, Failure> {
    if let Some((user, password)) = user.split_once(':') {
        return Ok(Credentials { user: user.to_owned(), password: password.to_owned() });
    }
    let unreadable = |error: std::io::Error| Failure::Plain(error.to_string(), 1);
    let stdin = std::io::stdin();
    eprint!("Password: ");
    let before = stdin.is_terminal().then(|| rustix::termios::tcgetattr(&stdin).ok()).flatten();
    let set = |modes: &rustix::termios::Termios| {
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, modes)
    };
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        set(&silent).map_err(|error| unreadable(error.into()))?;
    }
    let mut password = String::new();
    let read = stdin.lock().read_line(&mut password);
    if let Some(before) = &before {
        set(before).map_err(|error| unreadable(error.into()))?;
        eprintln!();
    }
    read.map_err(unreadable)?;
    Ok(Credentials { user: user.to_owned(), password: password.trim_end_matches(['\n', '\r']).to_owned() })
}

fn key(call: &Call) -> Result<Path, Failure> {
    let word = call.options.rest.first().ok_or(Failure::Arguments("key required"))?;
    of_word(word)
}

fn of_word(word: &[u8]) -> Result<Path, Failure> {
    Path::of_word(word).map_err(|_| Failure::Other(OUTSIDE.to_owned()))
}

/// The second argument, or else all of stdin.
fn value(call: &Call) -> Result<Vec<u8>, Failure> {
    if let Some(value) = call.options.rest.get(1) {
        return Ok(value.clone());
    }
    let mut value = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut value);
    match read {
        Ok(count) if count > 0 => Ok(value),
        _ => Err(Failure::Arguments("value required")),
    }
}

/// `--ttl`: as many seconds as the old one came to, which reckoned in nanoseconds of 64 bits; 0 and less is none.
fn ttl(call: &Call) -> Option<i64> {
    let seconds = call.options.number("ttl").wrapping_mul(1_000_000_000) / 1_000_000_000;
    (seconds > 0).then_some(seconds)
}

/// What a command on keys asks for.
fn request(call: &Call, format: &Format) -> Result<Request, Failure> {
    let options = &call.options;
    let previous = |value: &str, index: &str| Previous {
        value: options.text(value).to_vec(),
        // As it was sent: without a sign.
        index: u64::from_ne_bytes(options.number(index).to_ne_bytes()),
    };
    let set = |content, only| -> Result<Request, Failure> {
        Ok(Request::Set { path: key(call)?, content, ttl: ttl(call), only })
    };
    let with_value = |only| {
        key(call)?;
        set(Content::Value(value(call)?), only)
    };
    match call.name.as_str() {
        "get" => Ok(Request::Get { path: key(call)?, listing: None, values: true }),
        "ls" => {
            let path = options.rest.first().map_or(Ok(Path::root()), |word| of_word(word))?;
            let depth = if options.is_on("recursive") { Depth::All } else { Depth::One };
            Ok(Request::Get { path, listing: Some(depth), values: format.is_full() })
        }
        "set" => {
            let previous = previous("swap-with-value", "swap-with-index");
            with_value(if previous == Previous::default() { Only::Always } else { Only::If(previous) })
        }
        "mk" if options.is_on("in-order") => {
            Ok(Request::CreateInOrder { path: key(call)?, value: value(call)?, ttl: ttl(call) })
        }
        "mk" => with_value(Only::IfAbsent),
        "update" => with_value(Only::IfPresent),
        "mkdir" => set(Content::Directory, Only::IfAbsent),
        "setdir" => set(Content::Directory, Only::Always),
        "updatedir" => set(Content::Directory, Only::IfPresent),
        "rm" => Ok(Request::Remove {
            path: key(call)?,
            directory: options.is_on("dir"),
            recursive: options.is_on("recursive"),
            previous: previous("with-value", "with-index"),
        }),
        "rmdir" => Ok(Request::Remove {
            path: key(call)?,
            directory: true,
            recursive: false,
            previous: Previous::default(),
        }),
        other => Err(Failure::Other(format!("{other} is no command on keys"))),
    }
}

fn on_keys(session: &mut Session, call: &Call) -> Result<(), Failure> {
    let format = session.settings().format.clone();
    let request = request(call, &format)?;
    let response = session.carry_out(&request)?;
    match call.name.as_str() {
        "get" if response.node.dir => {
            return Err(Failure::Plain(
                format!("{}: is a directory", String::from_utf8_lossy(&response.node.key)),
                1,
            ));
        }
        "ls" if format == Format::Simple => {
            return print(&show::names(&response.node, call.options.is_on("p")));
        }
        "mkdir" | "setdir" | "updatedir" if format == Format::Simple => return Ok(()),
        "rm" | "rmdir" if response.node.dir && format == Format::Simple => return Ok(()),
        _ => {}
    }
    match show::response(&response, &format, SystemTime::now()) {
        Ok(text) => print(&text),
        Err(problem) => {
            eprint!("{problem}");
            Ok(())
        }
    }
}

fn watch(session: &mut Session, call: &Call) -> Result<(), Failure> {
    let options = &call.options;
    let watched = |path| Watched {
        path,
        recursive: options.is_on("recursive"),
        after: u64::try_from(options.number("after-index")).unwrap_or(0),
    };
    if call.name == "watch" {
        return watching::watch(session, watched(key(call)?), options.is_on("forever"));
    }
    let (key, command) = key_and_command(&options.rest)?;
    watching::exec_watch(session, watched(of_word(key)?), command)
}

/// `KEY -- COMMAND ARGUMENTS`, or, without the hyphens, the key at the end: the old one's way.
fn key_and_command(words: &[Vec<u8>]) -> Result<(&[u8], &[Vec<u8>]), Failure> {
    let missing = Failure::Arguments("key and command to exec required");
    let separated = words.iter().skip(1).any(|word| word == b"--");
    let (key, command) = match words {
        [key, _, command @ ..] if separated => (key, command),
        [command @ .., key] => (key, command),
        [] => return Err(missing),
    };
    if command.is_empty() { Err(missing) } else { Ok((key, command)) }
}
