//! Asking a cluster's owner.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::owner::Record;
use super::protocol::{Answer, Request};

/// Connects to the owner of the cluster in `folder`; `None` when there is none.
///
/// # Errors
/// There is a record that cannot be read.
pub fn connect(folder: &Path) -> Result<Option<UnixStream>> {
    let path = folder.join(Record::FILE);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let record: Record =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    // Nobody listens when the owner was killed a moment ago.
    Ok(UnixStream::connect(record.socket).ok())
}

/// Sends a request and returns the last answer; `said` gets the lines before it.
///
/// # Errors
/// The owner refused, or went away.
pub fn ask(stream: &UnixStream, request: &Request, said: &dyn Fn(&str)) -> Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&mut &*stream).write_all(&line).context("the cluster's owner does not listen")?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("the cluster's owner does not answer")?;
        match serde_json::from_str(&line).context("the cluster's owner answers something else")? {
            Answer::Said(line) => said(&line),
            Answer::Refused(why) => bail!("{why}"),
            answer => return Ok(answer),
        }
    }
    bail!("the cluster's owner has ended")
}
