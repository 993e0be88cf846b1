//! TLS: which servers are believed, and what the client shows. One set-up for etcd and for whoever speaks another protocol to one server.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::Error;
use crate::config::TlsFiles;

/// Where the image keeps the certificates of those who vouch for servers.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What `files` say. `is_secured`: some server will be spoken to by TLS; else nobody reads the image's 140 certificates.
pub(crate) fn client_config(files: &TlsFiles, is_secured: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    let mut roots = rustls::RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(Error::Tls)?;
            }
        }
        None => {
            if is_secured && let Ok(found) = certificates(Path::new(CERTIFICATES)) {
                roots.add_parsable_certificates(found);
            }
        }
    }
    let builder = builder.with_root_certificates(roots);
    match (&files.certificate, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| Error::File { path: key.clone(), source })?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(Error::Tls)
        }
        _ => Err(Error::HalfOfAPair),
    }
}

/// A connection as a client's end of TLS. `host`: the name or address that the server's certificate must be for. The handshake is part
/// of the first read or write, and so are its errors.
///
/// # Errors
/// Files that cannot be used, or a host that no certificate can be for.
pub fn secure<S: Read + Write>(
    stream: S,
    host: &str,
    files: &TlsFiles,
) -> Result<impl Read + Write + use<S>, Error> {
    let config = client_config(files, true)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Error::Tls(rustls::Error::General(error.to_string())))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(Error::Tls)?;
    Ok(StreamOwned::new(connection, stream))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(unreadable(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}
