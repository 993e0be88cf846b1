//! A resource of an Ignition config: `data:` decoded on the spot, anything else named.

use crate::user_data::encoding;
use crate::user_data::plan::Contents;
use crate::user_data::resource::{Compression, Hash, Resource, accept};

/// A resource as written.
#[derive(Debug, Clone, Default)]
pub(super) struct Written<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) compression: Option<&'a str>,
    pub(super) hash: Option<&'a str>,
    pub(super) headers: Vec<(String, String)>,
}

/// What is wrong with a resource, and the key that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

fn problem(key: &'static str, message: impl Into<String>, hint: Option<&'static str>) -> Problem {
    Problem { key, message: message.into(), hint }
}

impl Written<'_> {
    /// The contents; `None` when there is no source.
    pub(super) fn contents(self) -> Result<Option<Contents>, Problem> {
        let compression = match self.compression {
            None | Some("") => Compression::None,
            Some("gzip") => Compression::Gzip,
            Some(other) => {
                let message = format!("invalid compression method `{other}`");
                return Err(problem("compression", message, Some("`gzip`, or leave it out")));
            }
        };
        let verification = match self.hash {
            None | Some("") => None,
            Some(hash) => Some(Hash::parse(hash).map_err(|error| problem("hash", error.to_string(), None))?),
        };
        let Some(source) = self.source else {
            return match verification {
                Some(_) => {
                    Err(problem("hash", "source must be specified if verification is specified", None))
                }
                None => Ok(None),
            };
        };
        let lower = source.to_ascii_lowercase();
        if source.is_empty() {
            return Ok(Some(Contents::Inline(Vec::new())));
        }
        if lower.starts_with("http://") || lower.starts_with("https://") {
            if source.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(problem("source", "the URL has white space", Some("a space is written `%20`")));
            }
            let resource =
                Resource { url: source.to_owned(), headers: self.headers, compression, verification };
            return Ok(Some(Contents::Remote(resource)));
        }
        if let Some(data) = source.strip_prefix("data:") {
            let bytes =
                data_url(data).ok_or_else(|| problem("source", "this is no valid data URL", DATA_HINT))?;
            let accepted = accept(bytes, compression, verification)
                .map_err(|error| problem("source", format!("the data cannot be used: {error}"), None))?;
            return Ok(Some(Contents::Inline(accepted)));
        }
        let scheme = source.split(':').next().unwrap_or_default();
        if ["tftp", "s3", "gs", "arn"].contains(&scheme) {
            let message = format!("sources of the kind `{scheme}:` are not supported");
            return Err(problem("source", message, Some("`https:`, `http:` and `data:` are")));
        }
        Err(problem("source", "invalid url scheme", Some("`https:`, `http:` and `data:` are read")))
    }
}

const DATA_HINT: Option<&str> = Some("such as `data:,hello%20world` or `data:;base64,aGVsbG8=`");

/// RFC 2397, behind `data:`.
fn data_url(text: &str) -> Option<Vec<u8>> {
    let (kind, data) = text.split_once(',')?;
    let bytes = encoding::percent(data)?;
    let is_base64 = kind.split(';').skip(1).any(|parameter| parameter.trim().eq_ignore_ascii_case("base64"));
    if is_base64 { encoding::base64(std::str::from_utf8(&bytes).ok()?) } else { Some(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(source: &str) -> Result<Option<Contents>, Problem> {
        Written { source: Some(source), ..Written::default() }.contents()
    }

    #[test]
    fn data_urls_are_decoded() {
        let cases = [
            ("data:,hello%20world%0A", "hello world\n"),
            ("data:;base64,aGVsbG8=", "hello"),
            ("data:text/plain;charset=utf-8;base64,aGVsbG8", "hello"),
            ("data:text/plain;base64,aGVs%62G8=", "hello"),
            ("data:,", ""),
            ("", ""),
        ];
        for (url, want) in cases {
            assert_eq!(contents(url), Ok(Some(Contents::Inline(want.as_bytes().to_vec()))), "{url}");
        }
        for url in ["data:", "data:hello", "data:;base64,a*", "data:,%zz"] {
            assert_eq!(contents(url).unwrap_err().message, "this is no valid data URL", "{url}");
        }
    }

    #[test]
    fn other_sources_are_named_or_refused() {
        assert!(matches!(contents("https://x/y"), Ok(Some(Contents::Remote(_)))));
        assert_eq!(contents("ftp://x").unwrap_err().message, "invalid url scheme");
        assert_eq!(contents("/etc/x").unwrap_err().message, "invalid url scheme");
        assert!(contents("s3://x/y").unwrap_err().message.contains("not supported"));
        let hash_alone = Written { hash: Some(HASH), ..Written::default() }.contents();
        assert_eq!(hash_alone.unwrap_err().message, "source must be specified if verification is specified");
        let wrong = Written { source: Some("data:,abd"), hash: Some(HASH), ..Written::default() }.contents();
        assert!(wrong.unwrap_err().message.contains("expected sha256-ba78"));
        let packed = Written { source: Some("data:,abc"), compression: Some("xz"), ..Written::default() };
        assert_eq!(packed.contents().unwrap_err().message, "invalid compression method `xz`");
    }

    const HASH: &str = "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    proptest! {
        #[test]
        fn no_source_panics(source in "(data:)?(;base64)?,?[%=a-zA-Z0-9é]{0,30}", packed in any::<bool>()) {
            let _ = Written { source: Some(&source), compression: packed.then_some("gzip"), ..Written::default() }.contents();
        }
    }
}
