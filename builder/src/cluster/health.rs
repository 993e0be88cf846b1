//! Whether a machine's etcd serves: its own `/health`, which reads through a quorum (etcd 3.5, "Monitoring etcd").

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::blocking::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certs;

/// How long an answer may take: longer than an election, short for somebody who waits.
const LIMIT: Duration = Duration::from_secs(3);

/// Who asks.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    scheme: &'static str,
}

impl Prober {
    /// Asks by plain HTTP, or with the client's certificate of a folder of certificates.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(certificates: Option<&Path>) -> Result<Self> {
        let scheme = if certificates.is_some() { "https" } else { "http" };
        // Without certificates TLS is not used, but the client wants to know how it would be.
        let client =
            Client::builder().no_proxy().timeout(LIMIT).tls_backend_preconfigured(tls(certificates)?);
        Ok(Self { client: client.build().context("no HTTP client")?, scheme })
    }

    /// Asks the etcd behind a port of this machine's loopback; the error is why it is not healthy.
    pub fn ask(&self, port: u16) -> Result<(), String> {
        let url = format!("{}://{}:{port}/health", self.scheme, Ipv4Addr::LOCALHOST);
        // Whoever forwards the port accepts before the machine does, and hangs up when nobody listens there.
        let answer = self.client.get(url).send().and_then(reqwest::blocking::Response::text);
        judge(&answer.map_err(|_| "etcd does not answer".to_owned())?)
    }
}

fn tls(certificates: Option<&Path>) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut roots = rustls::RootCertStore::empty();
    let Some(folder) = certificates else {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    };
    let (certificate, key) = certs::paths(folder, certs::CLIENT);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&key)?;
    for authority in CertificateDer::pem_file_iter(certs::paths(folder, certs::AUTHORITY).0)? {
        roots.add(authority?)?;
    }
    Ok(builder.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
}

fn judge(answer: &str) -> Result<(), String> {
    let value: serde_json::Value =
        serde_json::from_str(answer).map_err(|_| "etcd answers something else".to_owned())?;
    if value.get("health").and_then(|health| health.as_str()) == Some("true") {
        return Ok(());
    }
    let reason = value.get("reason").and_then(|reason| reason.as_str()).filter(|reason| !reason.is_empty());
    Err(format!("etcd is not healthy: {}", reason.unwrap_or("no quorum")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_own_words_decide() {
        assert_eq!(judge("{\"health\":\"true\",\"reason\":\"\"}\n"), Ok(()));
        let refused = judge(r#"{"health":"false","reason":"RAFT NO LEADER"}"#);
        assert_eq!(refused, Err("etcd is not healthy: RAFT NO LEADER".to_owned()));
        assert!(judge("<html>").is_err() && judge("").is_err());
    }

    #[test]
    fn a_client_is_made_of_a_folder_of_certificates() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Prober::new(None).unwrap().scheme, "http");
        assert!(Prober::new(Some(dir.path())).is_err(), "nothing is there");
        let now = Duration::from_secs(1_790_000_000);
        let authority = certs::Authority::in_folder(dir.path(), now).unwrap();
        certs::write(dir.path(), certs::CLIENT, &authority.client("client", now, 30).unwrap()).unwrap();
        assert_eq!(Prober::new(Some(dir.path())).unwrap().scheme, "https");
    }
}
