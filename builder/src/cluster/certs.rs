//! Certificates for etcd: one authority for a cluster, and a certificate for each machine, which serves clients and peers and is a
//! client's as well, as etcd's peers need it (etcd 3.5, "Transport security model"). Keys are ECDSA on P-256.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// How long the authority is valid: longer than anything that it signs.
const AUTHORITY_DAYS: u64 = 20 * 365;
/// Certificates are valid from a day before they were made: clocks differ.
const EARLIER: Duration = Duration::from_secs(86_400);
/// The authority's files in a folder of certificates, as [`paths`] takes it.
pub const AUTHORITY: &str = "ca";
/// The files of a certificate for whoever is a client and nothing else.
pub const CLIENT: &str = "client";
/// Where machines have theirs.
pub const MACHINE_FOLDER: &str = "/etc/etcd/tls";

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of the authority's two files is there and the other one is not.
    #[error("{} is not there, and the other half of the authority is\nhint: bring it back, or name an empty folder for a new authority", .0.display())]
    Half(PathBuf),
    /// The certificate cannot be made.
    #[error("cannot make a certificate for {name}")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// A certificate and its private key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

/// What signs the certificates of a cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority of a folder; made when there is none. `now` is the time since 1970.
    ///
    /// # Errors
    /// A file cannot be read or written, or half of it is missing.
    pub fn in_folder(folder: &Path, now: Duration) -> Result<Self, CertsError> {
        let (certificate, key) = paths(folder, AUTHORITY);
        let make = |source| CertsError::Make { name: "the authority".to_owned(), source };
        match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => {
                let key = KeyPair::from_pem(&key).map_err(make)?;
                Ok(Self { issuer: Issuer::new(authority_params(now), key), certificate })
            }
            (None, None) => {
                let pair = KeyPair::generate().map_err(make)?;
                let params = authority_params(now);
                let text = params.self_signed(&pair).map_err(make)?.pem();
                write(folder, AUTHORITY, &Pair { certificate: text.clone(), key: pair.serialize_pem() })?;
                Ok(Self { issuer: Issuer::new(params, pair), certificate: text })
            }
            (None, Some(_)) => Err(CertsError::Half(certificate)),
            (Some(_), None) => Err(CertsError::Half(key)),
        }
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate of a machine for its name, its addresses, and itself (`localhost`), valid for `days`.
    ///
    /// # Errors
    /// The name is no DNS name.
    pub fn machine(
        &self,
        name: &str,
        addresses: &[IpAddr],
        now: Duration,
        days: u32,
    ) -> Result<Pair, CertsError> {
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let mut sans = vec![name.to_owned(), "localhost".to_owned()];
        sans.dedup();
        let own = IpAddr::from(Ipv4Addr::LOCALHOST);
        self.sign(name, &sans, addresses.iter().copied().chain([own]), &uses, now, days)
    }

    /// A certificate of a client.
    ///
    /// # Errors
    /// As [`Self::machine`].
    pub fn client(&self, name: &str, now: Duration, days: u32) -> Result<Pair, CertsError> {
        self.sign(name, &[], std::iter::empty(), &[ExtendedKeyUsagePurpose::ClientAuth], now, days)
    }

    fn sign(
        &self,
        name: &str,
        names: &[String],
        addresses: impl Iterator<Item = IpAddr>,
        uses: &[ExtendedKeyUsagePurpose],
        now: Duration,
        days: u32,
    ) -> Result<Pair, CertsError> {
        let make = |source| CertsError::Make { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(make)?;
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        params.distinguished_name = called(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        limit(&mut params, now, days.into());
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// What the authority is, apart from its key and its dates: the same every time, so that the key alone brings it back.
fn authority_params(now: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("etcd authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params, now, AUTHORITY_DAYS);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn limit(params: &mut CertificateParams, now: Duration, days: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(EARLIER);
    params.not_after = epoch + now + Duration::from_secs(days * 86_400);
}

/// The files of a certificate and of its key.
pub fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")))
}

fn read(path: &Path) -> Result<Option<String>, CertsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertsError::File { what: "read", path: path.to_owned(), source }),
    }
}

/// Writes both files; the key is the user's alone. What stood there is replaced.
///
/// # Errors
/// A file cannot be written.
pub fn write(folder: &Path, name: &str, pair: &Pair) -> Result<(), CertsError> {
    let (certificate, key) = paths(folder, name);
    put(&key, &pair.key, 0o600)?;
    put(&certificate, &pair.certificate, 0o644)
}

/// Writes a file under a name of its own and then renames it.
///
/// # Errors
/// It cannot be written.
pub fn put(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| CertsError::File { what: "write", path: path.to_owned(), source })
}

/// A cloud-config that puts a machine's files in their place: a part for the machine's user-data.
pub fn cloud_config(authority: &Authority, pair: &Pair) -> String {
    let file = |name: &str, mode: &str, text: &str| {
        let lines: String = text.lines().map(|line| format!("      {line}\n")).collect();
        format!(
            "  - path: {MACHINE_FOLDER}/{name}\n    owner: etcd:etcd\n    permissions: \"{mode}\"\n    content: |\n{lines}"
        )
    };
    format!(
        "#cloud-config\nwrite_files:\n{}{}{}",
        file("ca.pem", "0644", authority.certificate()),
        file("machine.pem", "0644", &pair.certificate),
        file("machine-key.pem", "0600", &pair.key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_790_000_000);

    #[test]
    fn an_authority_is_made_once_and_half_of_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::in_folder(dir.path(), NOW).unwrap();
        let again = Authority::in_folder(dir.path(), NOW).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let (certificate, key) = paths(dir.path(), AUTHORITY);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(&certificate).unwrap();
        let refused = Authority::in_folder(dir.path(), NOW).unwrap_err();
        assert!(refused.to_string().contains("ca.pem is not there"), "{refused}");
    }

    #[test]
    fn certificates_of_an_authority_that_was_read_back_are_believed() {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
        let dir = tempfile::tempdir().unwrap();
        drop(Authority::in_folder(dir.path(), NOW).unwrap());
        let authority = Authority::in_folder(dir.path(), NOW + Duration::from_secs(86_400)).unwrap();
        let address: IpAddr = "10.90.0.11".parse().unwrap();
        let pair = authority.machine("node1", &[address], NOW, 30).unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(authority.certificate())).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let judge = |name: &str, days: u64| {
            use rustls::client::danger::ServerCertVerifier as _;
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let now = UnixTime::since_unix_epoch(NOW + Duration::from_secs(days * 86_400));
            verifier.verify_server_cert(&der(&pair.certificate), &[], &name, &[], now).is_ok()
        };
        for name in ["node1", "localhost", "10.90.0.11", "127.0.0.1"] {
            assert!(judge(name, 1), "{name}");
        }
        assert!(!judge("node2", 1) && !judge("10.90.0.12", 1), "of others");
        assert!(!judge("node1", 31), "after its time");
    }

    #[test]
    fn a_machines_part_is_a_cloud_config_without_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::in_folder(dir.path(), NOW).unwrap();
        let pair = authority.machine("node1", &[], NOW, 30).unwrap();
        let path = dir.path().join("node1.yml");
        put(&path, &cloud_config(&authority, &pair), 0o600).unwrap();
        let checked = crate::userdata::load(&path).unwrap();
        assert!(checked.warnings.as_slice().is_empty(), "{:?}", checked.warnings.as_slice());
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::in_folder(dir.path(), NOW).unwrap();
        assert!(authority.machine("nöde", &[], NOW, 30).is_err());
    }
}
