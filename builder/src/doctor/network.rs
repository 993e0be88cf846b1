//! Whether a mirror answers, and what https servers are judged by.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use debian::http::{self, Fetcher, Fresh, LazyClient, Patience};
use debian::mirrors::MirrorSet;
use debian::progress::{Progress, Silent, Task, Unit};

use super::{Check, Options};

/// The document that is asked for: small, and every mirror has it.
const DOCUMENT: &str = "dists/stable/InRelease";
const DOCUMENT_BYTES: u64 = 1 << 20;
/// Longer than a slow mirror takes to begin its answer, short enough to wait for.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn checks(options: &Options) -> Vec<Check> {
    let mut checks = Vec::new();
    if !options.offline {
        checks.push(mirror(&MirrorSet::discover(&options.mirrors, &[], Path::new("/"))));
    }
    checks.push(certificates(http::trusted_certificates()));
    checks
}

/// Keeps what mirrors were no use for.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _label: &str, _total: u64, _unit: Unit) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, message: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message.to_owned());
    }
}

fn mirror(mirrors: &MirrorSet) -> Check {
    let patience = Patience { rounds: 1, timeout: TIMEOUT, ..Patience::default() };
    let (client, notes) = (LazyClient::default(), Notes::default());
    let fetcher = Fetcher::new(&mirrors.debian, &patience, &client, &notes);
    let found = fetcher.document(DOCUMENT, DOCUMENT_BYTES, None, |bytes| Ok(bytes.len()));
    let failed = notes.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match found {
        Ok(Fresh::New { .. } | Fresh::Unchanged) if failed.is_empty() => Check::ok(
            "mirror",
            format!("{} answers", mirrors.debian.urls().first().map_or("", String::as_str)),
        ),
        Ok(_) => Check::warning(
            "mirror",
            format!("one answers, but not {}", failed.join("; ")),
            "each download tries the mirrors in turn",
            "name one that works with --mirror, or in the recipe",
        ),
        Err(error) => {
            let error = error.to_string();
            let text = error.split("\nhint: ").next().unwrap_or(&error).replace('\n', " ");
            Check::missing(
                "mirror",
                text,
                "packages come from there when the cache lacks them",
                "check the network and http_proxy, or name a mirror with --mirror; --offline builds from the cache alone",
            )
        }
    }
}

fn certificates(count: usize) -> Check {
    if count > 0 {
        return Check::ok("certificates", format!("{count} certificates of authorities"));
    }
    Check::warning(
        "certificates",
        "no certificates of authorities",
        "https servers cannot be checked: crates come from one, Debian's mirrors do without",
        "install ca-certificates with the package manager of this system, or set SSL_CERT_FILE",
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use debian::mirrors::Mirrors;

    use super::super::Status;
    use super::*;

    fn set(urls: &[String]) -> MirrorSet {
        MirrorSet { debian: Mirrors::new(urls), security: Mirrors::default() }
    }

    fn answering() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/debian", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
        url
    }

    fn dead() -> String {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        format!("http://127.0.0.1:{port}/debian")
    }

    #[test]
    fn a_mirror_that_answers_is_fine_and_one_that_does_not_is_named() {
        assert_eq!(mirror(&set(&[answering()])).status, Status::Ok);
        let (first, second) = (dead(), answering());
        let check = mirror(&set(&[first.clone(), second]));
        assert_eq!(check.status, Status::Warning);
        assert!(check.found.contains(&first), "{check:?}");
        let check = mirror(&set(std::slice::from_ref(&first)));
        assert_eq!(check.status, Status::Missing);
        assert!(check.found.contains(&first) && !check.found.contains('\n'), "{check:?}");
    }

    #[test]
    fn no_certificates_are_a_warning() {
        assert_eq!((certificates(0).status, certificates(1).status), (Status::Warning, Status::Ok));
    }
}
