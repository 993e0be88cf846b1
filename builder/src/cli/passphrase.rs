//! Passphrases: from a file, the environment, or the terminal without echo.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::Args as ClapArgs;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::keys::Passphrases;

/// The terminal and how it was before it was told not to echo. A signal that ends the process gives it back.
static QUIET: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Where passphrases of keys come from.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct PassphraseArgs {
    /// File whose first line is the passphrase of the keys, in place of asking
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// The variable of the environment that has the passphrase.
pub const VARIABLE: &str = "FERRITE_KEY_PASSPHRASE";

impl PassphraseArgs {
    /// The passphrase that need not be asked for.
    fn given(&self) -> io::Result<Option<Zeroizing<String>>> {
        let text = match &self.passphrase_file {
            Some(path) => {
                let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot read the passphrase from {}: {error}", path.display()),
                    )
                })?;
                Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
            }
            None => std::env::var(VARIABLE).ok().map(Zeroizing::new),
        };
        match text {
            Some(text) if text.is_empty() => {
                Err(io::Error::new(ErrorKind::InvalidInput, "the passphrase is empty"))
            }
            text => Ok(text),
        }
    }
}

impl Passphrases for PassphraseArgs {
    fn of(&self, name: &str) -> io::Result<Zeroizing<String>> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => ask(&format!("passphrase of the key {name}: ")),
        }
    }

    fn for_new(&self, name: &str) -> io::Result<Zeroizing<String>> {
        if let Some(passphrase) = self.given()? {
            return Ok(passphrase);
        }
        let first = ask(&format!("passphrase for the new key {name}: "))?;
        if first.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the passphrase is empty"));
        }
        if ask("the same again: ")? != first {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the two passphrases differ"));
        }
        Ok(first)
    }
}

/// Asks on the terminal, whatever stdin and stderr are.
fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let no_terminal = |error: io::Error| {
        let hint = "--passphrase-file FILE or FERRITE_KEY_PASSPHRASE says it without one";
        io::Error::new(error.kind(), format!("there is no terminal to ask for the passphrase; hint: {hint}"))
    };
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    terminal.write_all(question.as_bytes())?;
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
    *QUIET.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal.try_clone()?, before));
    tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
    let mut line = Zeroizing::new(String::new());
    let read = BufReader::new(terminal).read_line(&mut line);
    restore_terminal();
    if read? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Lets the terminal echo again, if a question was being asked.
pub fn restore_terminal() {
    if let Some((terminal, before)) = QUIET.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        let args = PassphraseArgs { passphrase_file: Some(path.clone()) };
        fs::write(&path, "correct horse \nsecond line\n").unwrap();
        assert_eq!(args.of("x").unwrap().as_str(), "correct horse ");
        fs::write(&path, "\n").unwrap();
        assert_eq!(args.for_new("x").unwrap_err().to_string(), "the passphrase is empty");
        fs::remove_file(&path).unwrap();
        assert!(args.of("x").unwrap_err().to_string().contains("cannot read the passphrase from"));
    }
}
