//! Why a command failed, in the old words.

use super::plan::{Fault, code};
use crate::client::{Error, chain};
use crate::message::Revision;

/// Exit statuses of etcd 2 and 3.3.
pub mod status {
    /// Missing arguments, and a directory where a key should be.
    pub const BAD_ARGUMENTS: u8 = 1;
    /// The cluster cannot be reached.
    pub const BAD_CONNECTION: u8 = 2;
    /// The cluster refuses.
    pub const SERVER_ERROR: u8 = 4;
    /// A member is not healthy.
    pub const NOT_HEALTHY: u8 = 5;
}

const DEADLINE: &str = "context deadline exceeded";

/// Why one member could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In Go's words.
    pub text: String,
    /// Whether nothing answered at all.
    pub is_connection: bool,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The store refuses, at this revision.
    Fault(Fault, Revision),
    /// No member did it.
    Cluster(Vec<Problem>),
    /// What must not be done twice was asked of one member only.
    One(Problem),
    /// Time is up.
    Deadline,
    /// Arguments are missing.
    Arguments(&'static str),
    /// Anything else, after `Error:`.
    Other(String),
    /// Anything else, as it stands, with its status.
    Plain(String, u8),
    /// The same without an end of line, with 1.
    Unended(String),
    /// Whoever read the output has gone: no failure, and nothing more to do.
    NobodyReads,
}

impl Failure {
    /// What is printed on stderr.
    pub fn text(&self) -> Vec<u8> {
        let of = |text: &str| format!("Error:  {text}\n").into_bytes();
        match self {
            Self::Fault(Fault::Api { code, cause }, revision) => {
                let head = format!("Error:  {code}: {} (", Fault::message(*code));
                [head.as_bytes(), cause, format!(") [{revision}]\n").as_bytes()].concat()
            }
            Self::Fault(Fault::TooLarge(path), _) => of(&format!(
                "{} has too many keys for another time to live: they change in one transaction",
                path.text()
            )),
            Self::Cluster(problems) => {
                let each = |before: &str| -> String {
                    let lines = problems.iter().enumerate();
                    lines.map(|(number, it)| format!("{before}error #{number}: {}\n", it.text)).collect()
                };
                let head = "client: etcd cluster is unavailable or misconfigured";
                of(&format!("{head}{}\n{}", each("; "), each("")))
            }
            Self::One(problem) => of(&problem.text),
            Self::Deadline => of(DEADLINE),
            Self::Arguments(text) => of(text),
            Self::Other(text) => of(text),
            Self::Plain(text, _) => format!("{text}\n").into_bytes(),
            Self::Unended(text) => text.clone().into_bytes(),
            Self::NobodyReads => Vec::new(),
        }
    }

    /// The exit status. `sync`: a cluster that cannot be reached was found out while asking for its members.
    pub fn status(&self, sync: bool) -> u8 {
        match self {
            Self::Cluster(problems) if sync && problems.iter().all(|problem| problem.is_connection) => {
                status::BAD_CONNECTION
            }
            Self::Deadline if sync => status::BAD_CONNECTION,
            Self::Arguments(_) => status::BAD_ARGUMENTS,
            Self::Plain(_, status) => *status,
            Self::Unended(_) => 1,
            Self::NobodyReads => 0,
            _ => status::SERVER_ERROR,
        }
    }

    /// The same when the cluster has answered before: it is not one that cannot be reached.
    #[must_use]
    pub fn after_contact(self) -> Self {
        match self {
            Self::Cluster(mut problems) => {
                problems.iter_mut().for_each(|problem| problem.is_connection = false);
                Self::Cluster(problems)
            }
            Self::Deadline => Self::Other(DEADLINE.to_owned()),
            other => other,
        }
    }

    /// Why there is no client: files for TLS.
    pub fn of_settings(error: &Error) -> Self {
        let text = match error {
            Error::File { path, .. } => match std::fs::File::open(path) {
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                    format!("open {}: no such file or directory", path.display())
                }
                _ => chain(error),
            },
            other => chain(other),
        };
        Self::Plain(text, 1)
    }

    /// What a refusal of etcd's v3 API is in v2's terms.
    pub fn of_refusal(error: &Error) -> Self {
        /// gRPC: not allowed, and not known to be who it says it is.
        const NOT_ALLOWED: [i32; 2] = [7, 16];
        let (code, cause) = match error {
            Error::Refused { code, message }
                if NOT_ALLOWED.contains(code)
                    || message.contains("authentication failed")
                    || message.contains("user name is empty") =>
            {
                (code::UNAUTHORIZED, "Insufficient credentials".to_owned())
            }
            Error::Compacted => (code::INDEX_CLEARED, "the requested history has been cleared".to_owned()),
            Error::Refused { message, .. } => (code::RAFT_INTERNAL, message.clone()),
            other => return Self::Other(chain(other)),
        };
        Self::Fault(Fault::Api { code, cause: cause.into_bytes() }, 0)
    }
}

/// Why an endpoint could not be asked, in the words that scripts may look for: `last` is what the client says of its attempt.
pub fn problem(endpoint: &str, last: &str) -> Problem {
    let place = endpoint.split_once("://").map_or(endpoint, |(_, place)| place);
    let of = |text: String, is_connection| Problem { text, is_connection };
    let has = |words: &str| last.contains(words);
    if has("Connection refused") {
        of(format!("dial tcp {place}: connect: connection refused"), true)
    } else if has("No route to host") {
        of(format!("dial tcp {place}: connect: no route to host"), true)
    } else if has("Network is unreachable") {
        of(format!("dial tcp {place}: connect: network is unreachable"), true)
    } else if has("failed to lookup address") {
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        of(format!("dial tcp: lookup {host}: no such host"), true)
    } else if has("no leader") || has("etcdserver: request timed out") {
        of(format!("client: etcd member {endpoint} has no leader"), false)
    } else if has("timed out") {
        of(format!("client: endpoint {endpoint} exceeded header timeout"), true)
    } else {
        let text = last.strip_prefix(endpoint).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(last);
        of(format!("client: endpoint {endpoint}: {text}"), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::path::Path;

    #[test]
    fn failures_are_told_in_the_old_words() {
        let url = "http://127.0.0.1:1";
        let refused =
            problem(url, "http://127.0.0.1:1: error: tcp connect error: Connection refused (os error 111)");
        let slow = problem(url, "http://127.0.0.1:1: error sending request: operation timed out");
        let cluster = Failure::Cluster(vec![refused.clone(), slow]);
        let text = String::from_utf8(cluster.text()).unwrap();
        let lines = [
            "Error:  client: etcd cluster is unavailable or misconfigured; error #0: dial tcp 127.0.0.1:1: connect: connection refused",
            "; error #1: client: endpoint http://127.0.0.1:1 exceeded header timeout",
            "",
            "error #0: dial tcp 127.0.0.1:1: connect: connection refused",
            "error #1: client: endpoint http://127.0.0.1:1 exceeded header timeout",
            "",
            "",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!((cluster.status(true), cluster.status(false)), (2, 4));
        assert_eq!(cluster.after_contact().status(true), 4);
        assert_eq!((Failure::Deadline.status(true), Failure::Deadline.after_contact().status(true)), (2, 4));
        let leaderless = problem(url, "http://127.0.0.1:1: etcdserver: no leader");
        assert_eq!(Failure::Cluster(vec![refused, leaderless]).status(true), 4);
        let missing = Fault::Api { code: code::KEY_NOT_FOUND, cause: b"/foo/missing".to_vec() };
        let missing = Failure::Fault(missing, 45034);
        assert_eq!(missing.text(), b"Error:  100: Key not found (/foo/missing) [45034]\n");
        assert_eq!(Failure::Arguments("key required").status(true), 1);
        assert!(
            Failure::Fault(Fault::TooLarge(Path::root().child(b"d")), 1)
                .text()
                .starts_with(b"Error:  /d has")
        );
    }
}
