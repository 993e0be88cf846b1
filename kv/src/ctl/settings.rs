//! Where etcd is and how answers are shown: options before the command, then the environment. No I/O.

use std::path::PathBuf;
use std::time::Duration;

use super::flags::Parsed;
use super::show::Format;
use crate::config::{DEFAULT_ENDPOINTS, TlsFiles, endpoints};

/// The settings of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// URLs of members.
    pub endpoints: Vec<String>,
    /// Files for https.
    pub tls: TlsFiles,
    /// `NAME` or `NAME:PASSWORD`.
    pub user: Option<String>,
    /// The most that one request to one member may take.
    pub attempt: Duration,
    /// The most that a command may take, watches aside.
    pub total: Duration,
    /// Whether a cluster that cannot be reached is told as it was when the old one asked for the members first.
    pub sync: bool,
    /// Whether requests are shown.
    pub debug: bool,
    /// How answers are printed.
    pub format: Format,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Something is none, in words for people.
    pub fn read(global: &Parsed, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let option = |name: &str| String::from_utf8_lossy(global.text(name)).into_owned();
        let either = |name: &str, variable: &str| {
            let own = Some(option(name)).filter(|text| !text.is_empty());
            own.or_else(|| environment(variable)).filter(|text| !text.is_empty())
        };
        if either("discovery-srv", "ETCDCTL_DISCOVERY_SRV").is_some() {
            return Err("--discovery-srv is not supported here: name the members with --endpoints".to_owned());
        }
        let named = either("endpoints", "ETCDCTL_ENDPOINTS")
            .or_else(|| either("endpoint", "ETCDCTL_ENDPOINT"))
            .or_else(|| either("peers", "ETCDCTL_PEERS"));
        let endpoints = match named {
            Some(list) => endpoints(&list).map_err(|error| error.to_string())?,
            None => DEFAULT_ENDPOINTS.map(str::to_owned).to_vec(),
        };
        let file = |name: &str, variable: &str| either(name, variable).map(PathBuf::from);
        let total = global.time("total-timeout").unwrap_or(Duration::from_secs(5));
        let attempt = global.time("timeout").unwrap_or(Duration::from_secs(2));
        Ok(Self {
            endpoints,
            tls: TlsFiles {
                ca: file("ca-file", "ETCDCTL_CA_FILE"),
                certificate: file("cert-file", "ETCDCTL_CERT_FILE"),
                key: file("key-file", "ETCDCTL_KEY_FILE"),
            },
            user: either("username", "ETCDCTL_USERNAME"),
            // 0 is no limit of its own.
            attempt: if attempt.is_zero() { total } else { attempt },
            total,
            sync: !global.is_on("no-sync"),
            debug: global.is_on("debug"),
            format: Format::of_word(global.text("output")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::flags;
    use crate::ctl::words::GLOBAL;

    type Variable = (&'static str, &'static str);

    #[test]
    fn endpoints_come_from_the_first_place_that_names_some() {
        // Options, environment, what comes of them.
        let cases: &[(&str, &[Variable], &str)] = &[
            ("", &[], "http://127.0.0.1:2379,http://127.0.0.1:4001"),
            ("-C 10.0.0.1:2379", &[], "http://10.0.0.1:2379"),
            ("--peers a", &[("ETCDCTL_PEERS", "b")], "http://a"),
            ("--peers a", &[("ETCDCTL_ENDPOINT", "b")], "http://b"),
            ("--endpoint a", &[("ETCDCTL_ENDPOINT", "b")], "http://a"),
            ("--endpoint a", &[("ETCDCTL_ENDPOINTS", "b,https://c/")], "http://b,https://c"),
            ("--endpoints a --endpoint b", &[("ETCDCTL_ENDPOINTS", "c")], "http://a"),
        ];
        for (line, environment, want) in cases {
            let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
            let global = flags::parse(GLOBAL, &words).unwrap();
            let of = |name: &str| {
                let found = environment.iter().find(|(own, _)| *own == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Settings::read(&global, of).unwrap().endpoints.join(","), *want, "{line}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let words = [b"-D".to_vec(), b"example.com".to_vec()];
        let global = flags::parse(GLOBAL, &words).unwrap();
        assert!(Settings::read(&global, |_| None).is_err_and(|text| text.contains("--endpoints")));
    }
}
