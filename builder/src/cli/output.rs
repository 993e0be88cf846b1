//! What goes to stdout: data, whole or not at all.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Prints text as it is.
///
/// # Errors
/// stdout cannot be written. A reader that has gone (`ferrite inspect IMAGE | head -1`) is no error: it has what it wanted.
pub fn print(text: impl Display) -> Result<()> {
    write(&mut io::stdout().lock(), text.to_string().as_bytes())
}

/// Prints text whose colours are left out where they are not wanted.
///
/// # Errors
/// As [`print`].
pub fn print_styled(text: &str) -> Result<()> {
    write(&mut anstream::stdout().lock(), text.as_bytes())
}

/// Prints a JSON document and a line break.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).context("cannot put the result into JSON")?;
    bytes.push(b'\n');
    write(&mut io::stdout().lock(), &bytes)
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails each write in one way.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        assert!(write(&mut Failing(ErrorKind::BrokenPipe), b"x").is_ok());
        let error = write(&mut Failing(ErrorKind::StorageFull), b"x").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to stdout");
    }
}
