//! Where a cluster is and how a client proves itself.

use std::path::PathBuf;
use std::time::Duration;

/// etcd's client port, and the one of the time when it had another (IANA gave it 2379 later).
pub const DEFAULT_ENDPOINTS: [&str; 2] = ["http://127.0.0.1:2379", "http://127.0.0.1:4001"];

/// PEM files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who vouches for the servers; the image's own certificates if there is none.
    pub ca: Option<PathBuf>,
    /// The client's certificate, with those that lead to its CA.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A user of etcd's own. Machines with client certificates do not need one.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords do not belong in logs.
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A cluster and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URLs of members, in order of preference, without a slash at the end. They are used as they are given: the addresses that
    /// members announce may not be reachable from here.
    pub endpoints: Vec<String>,
    /// Files for https.
    pub tls: TlsFiles,
    /// User and password.
    pub credentials: Option<Credentials>,
    /// The most that one attempt at one endpoint may take: a member without a quorum answers late or never.
    pub attempt: Duration,
    /// The most that one call may take, all attempts and pauses included.
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: DEFAULT_ENDPOINTS.map(str::to_owned).to_vec(),
            tls: TlsFiles::default(),
            credentials: None,
            attempt: Duration::from_secs(3),
            deadline: Duration::from_secs(10),
        }
    }
}

/// Why something is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no endpoint: http://HOST:PORT or https://HOST:PORT is")]
pub struct EndpointError(pub String);

/// Reads a list of endpoints as CoreOS's tools take it: separated by commas, with or without `http://`.
///
/// # Errors
/// [`EndpointError`]: one of them is none.
pub fn endpoints(list: &str) -> Result<Vec<String>, EndpointError> {
    let words = list.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let wrong = || EndpointError(word.to_owned());
            let url = if word.contains("://") { word.to_owned() } else { format!("http://{word}") };
            let url = url.trim_end_matches('/').to_owned();
            let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            let host = rest.ok_or_else(wrong)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
            if host.is_empty() || !host.bytes().all(plain) { Err(wrong()) } else { Ok(url) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_are_read_as_coreos_wrote_them() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            (
                "http://127.0.0.1:2379,http://127.0.0.1:4001",
                Some(&["http://127.0.0.1:2379", "http://127.0.0.1:4001"]),
            ),
            ("10.0.0.1:2379, https://kv.example/", Some(&["http://10.0.0.1:2379", "https://kv.example"])),
            ("http://[fe80::1]:2379", Some(&["http://[fe80::1]:2379"])),
            ("", Some(&[])),
            ("unix:///run/x", None),
            ("http://a/b", None),
            ("http://", None),
        ];
        for (list, want) in cases {
            let want = want.map(|want| want.iter().map(|&url| url.to_owned()).collect::<Vec<_>>());
            assert_eq!(endpoints(list).ok(), want, "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_panic(list in "\\PC{0,80}") {
            for url in endpoints(&list).unwrap_or_default() {
                prop_assert!(url.starts_with("http"));
            }
        }
    }
}
