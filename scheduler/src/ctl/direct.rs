//! `--driver=etcd`: the cluster without a fleetd in between. The API's own code answers, in this process, from a picture that one watch of
//! etcd keeps up to date.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kv::watch::{Update, Watch};
use kv::{Client, KeyRange, Revision};

use super::answer::{self, Answer};
use super::client::Api;
use crate::api::http::read_request;
use crate::api::{self, Cluster, Reply};
use crate::keys::Keys;
use crate::node::{Reason, reason_of, shown};
use crate::picture::Picture;

/// A request whose conditions somebody else has changed is looked at anew, so often.
const TRIES: usize = 8;

/// What etcd holds.
struct View<'a>(&'a Picture);

impl Cluster for View<'_> {
    fn picture(&self) -> &Picture {
        self.0
    }

    fn speaks(&self) -> bool {
        true
    }

    /// Since when a machine is gone only those know who were there: units of such a machine have no reason here.
    fn reasons(&self, _now: u64) -> BTreeMap<String, Reason> {
        let snapshot = self.0.snapshot(std::iter::empty());
        let unplaced = crate::place::place(&snapshot).unplaced.into_iter();
        unplaced.map(|(unit, why)| (unit, reason_of(&why))).collect()
    }

    fn is_anybody_away(&self) -> bool {
        false
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

/// A client of etcd.
pub struct Direct {
    client: Client,
    news: Receiver<Result<Update, String>>,
    _watch: Watch,
    picture: Picture,
    limit: Duration,
    debug: bool,
}

impl Direct {
    /// Reads the cluster below a prefix. `limit`: the most that this and each change may take.
    ///
    /// # Errors
    /// etcd cannot be read, in words.
    pub fn open(mut config: kv::Config, prefix: &str, limit: Duration, debug: bool) -> Result<Self, String> {
        config.deadline = limit;
        config.attempt = config.attempt.min(limit);
        let endpoints = config.endpoints.join(",");
        let client = Client::new(config).map_err(|error| kv::client::chain(&error))?;
        let keys = Keys::below(prefix);
        let (sender, news) = channel();
        let watch =
            Watch::start(&client, KeyRange::prefix(keys.prefix()), move |update| sender.send(update).is_ok())
                .map_err(|error| format!("the system has no thread left: {error}"))?;
        let mut direct = Self { client, news, _watch: watch, picture: Picture::new(keys), limit, debug };
        // The first thing that is heard is all that there is, or why it cannot be had.
        let first = match direct.news.recv_timeout(limit.saturating_mul(2)) {
            Ok(Ok(update)) => Ok(update),
            Ok(Err(problem)) => Err(problem),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err("it does not answer".to_owned())
            }
        };
        let first = first
            .map_err(|problem| format!("cannot read the cluster from etcd at {endpoints}: {problem}"))?;
        direct.take(first);
        if let Some(newer) = direct.newest().filter(|newest| version(newest) > version(crate::VERSION)) {
            eprintln!(
                "WARNING: a machine of the cluster has version {newer}, this fleetctl has {}",
                crate::VERSION
            );
        }
        Ok(direct)
    }

    fn take(&mut self, update: Update) {
        for (key, why) in self.picture.apply(update).garbage {
            eprintln!("WARNING: {} in etcd is left alone: {why}", shown(&key));
        }
    }

    /// The newest version of the daemons.
    fn newest(&self) -> Option<String> {
        let objects = self.picture.machines().values().filter_map(|entry| entry.object.as_ref());
        objects.map(|object| object.value.version.clone()).max_by_key(|text| version(text))
    }

    /// Hears news until the picture is of a revision, or for so long.
    fn hear(&mut self, revision: Revision, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let enough = self.picture.revision() >= revision;
            match self.news.recv_timeout(if enough { Duration::ZERO } else { left }) {
                Ok(Ok(update)) => self.take(update),
                Ok(Err(problem)) if self.debug => eprintln!("the watch of etcd: {problem}"),
                Ok(Err(_)) => {}
                Err(_) => return,
            }
        }
    }
}

/// `1.2.3-x` in parts, as far as they are numbers.
fn version(text: &str) -> Vec<u64> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    core.split('.').map_while(|part| part.parse().ok()).collect()
}

impl Api for Direct {
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, String> {
        if self.debug {
            eprintln!("{method} {path}");
        }
        let bytes = answer::request(method, path, "fleet", body.unwrap_or_default());
        let request = read_request(&mut bytes.as_slice()).map_err(|error| error.to_string())?;
        self.hear(0, Duration::ZERO);
        for _ in 0..TRIES {
            match api::answer(&View(&self.picture), 0, u16::MAX, &request) {
                Reply::Done(response) => return Ok((response.status, response.body)),
                Reply::Commit(transaction, response) => {
                    let result = self.client.transact(&transaction).map_err(|error| error.to_string())?;
                    self.hear(result.revision, self.limit);
                    if result.succeeded {
                        return Ok((response.status, response.body));
                    }
                }
            }
        }
        Err("others change the same all the time".to_owned())
    }

    fn rest(&mut self, pause: Duration) {
        self.hear(Revision::MAX, pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(version("0.10.0") > version("0.9.3") && version("1.0.0-dev") == version("1.0.0"));
        assert!(version("") < version("0.1.0") && version("what") < version("0.1.0"));
    }
}
