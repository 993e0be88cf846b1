//! TLS in front of fleetd's socket, as a proxy of one's own would put it there.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Writes an authority's certificate, and with it a pair for the server and one for a client: `NAME.pem` and `NAME.key`.
pub fn certificates(folder: &Path, authority: &str) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, authority);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join(format!("{authority}.pem")), ca.pem()).unwrap();
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        fs::write(folder.join(format!("{authority}-{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{authority}-{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A connection, of whatever kind.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Serves `https://127.0.0.1:PORT`, and the same at a socket `front.sock` in the folder, and hands requests to a socket. Clients show a certificate of the authority. One connection in two is
/// ended without TLS's own good-bye, as some servers do.
pub fn front(folder: &Path, authority: &str, socket: PathBuf) -> u16 {
    let file = |suffix: &str| folder.join(format!("{authority}{suffix}"));
    let certificates = |path: PathBuf| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(file(".pem")));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("-server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        config.with_client_cert_verifier(verifier).with_single_cert(certificates(file("-server.pem")), key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let unix = UnixListener::bind(folder.join("front.sock")).unwrap();
    let (own, inner) = (Arc::clone(&config), socket.clone());
    thread::spawn(move || {
        let streams = unix.incoming().map(|stream| Box::new(stream.unwrap()) as Box<dyn Stream>);
        serve(streams, &own, &inner);
    });
    thread::spawn(move || {
        let streams = listener.incoming().map(|stream| Box::new(stream.unwrap()) as Box<dyn Stream>);
        serve(streams, &config, &socket);
    });
    port
}

fn serve(streams: impl Iterator<Item = Box<dyn Stream>>, config: &Arc<ServerConfig>, socket: &Path) {
    for (number, stream) in streams.enumerate() {
        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
        let mut outer = StreamOwned::new(connection, stream);
        let mut request = vec![0; 64 << 10];
        // A request is short enough to come in one piece; who is refused sends none.
        let Ok(count @ 1..) = outer.read(&mut request) else { continue };
        let mut inner = UnixStream::connect(socket).unwrap();
        inner.write_all(&request[..count]).unwrap();
        let mut answer = Vec::new();
        inner.read_to_end(&mut answer).unwrap();
        outer.write_all(&answer).unwrap();
        if number % 2 == 0 {
            outer.conn.send_close_notify();
        }
        let _gone = outer.flush();
    }
}
