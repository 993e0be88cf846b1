//! Files of the channel folder over HTTP.

use std::collections::HashMap;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::http::{Asked, Held, Plan, date, plan};
use super::page::plain;
use crate::channel::key::{hex, unhex};
use crate::channel::metadata::is_target_path;
use crate::channel::{METADATA_FOLDER, TARGETS_FOLDER};

/// Bytes that are read from a file at a time.
const CHUNK: usize = 64 << 10;
/// Files with their hash in their name, and versions of metadata: they never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// What names the newest of something. A machine that asks wants to know now.
const FRESH: &str = "public, no-cache";

/// The folder, and what is known about its files.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// Tags of metadata files, which have no hash in their names; by path, good for a length and a time of change.
    tags: Mutex<HashMap<PathBuf, Tag>>,
}

#[derive(Debug, Clone)]
struct Tag {
    length: u64,
    modified: SystemTime,
    etag: String,
}

/// A path in the folder that may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Servable {
    path: PathBuf,
    /// The entity tag, if the name has it.
    etag: Option<String>,
    cache: &'static str,
    kind: &'static str,
}

impl Files {
    /// Serves a channel folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, tags: Mutex::new(HashMap::new()) }
    }

    /// Answers a request for a path below the channel's URL, without the first `/`.
    pub async fn serve(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        let Some(servable) = servable(path) else {
            return plain(StatusCode::NOT_FOUND, "there is no such file");
        };
        match self.answer(method, &servable, headers).await {
            Ok(response) => response,
            Err(error) if is_absence(&error) => plain(StatusCode::NOT_FOUND, "there is no such file"),
            Err(error) => {
                super::log(&format!("cannot serve {path}: {error}"));
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
            }
        }
    }

    async fn answer(
        &self,
        method: &Method,
        servable: &Servable,
        headers: &HeaderMap,
    ) -> io::Result<Response> {
        let path = self.folder.join(&servable.path);
        let mut file = tokio::fs::File::open(&path).await?;
        let metadata = file.metadata().await?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (length, changed) = (metadata.len(), metadata.modified()?);
        let etag = match &servable.etag {
            Some(etag) => etag.clone(),
            None => self.tag(&mut file, path, length, changed).await?,
        };
        let modified = date(changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let asked = Asked {
            is_get: method == Method::GET,
            range: text(header::RANGE),
            if_range: text(header::IF_RANGE),
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
            if_modified_since: text(header::IF_MODIFIED_SINCE),
            if_unmodified_since: text(header::IF_UNMODIFIED_SINCE),
        };
        let plan = plan(&asked, &Held { length, etag: &etag, modified: &modified });
        let (status, offset, bytes) = match plan {
            Plan::Whole => (StatusCode::OK, 0, length),
            Plan::Part { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
            Plan::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Plan::PreconditionFailed => {
                return Ok(plain(StatusCode::PRECONDITION_FAILED, "the file is another one"));
            }
            Plan::NotSatisfiable => {
                let mut response =
                    plain(StatusCode::RANGE_NOT_SATISFIABLE, "the file ends before that range");
                set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{length}"));
                return Ok(response);
            }
        };
        let has_body = status != StatusCode::NOT_MODIFIED;
        let body = if has_body && method == Method::GET && bytes > 0 {
            file.seek(SeekFrom::Start(offset)).await?;
            Body::from_stream(ReaderStream::with_capacity(file.take(bytes), CHUNK))
        } else {
            Body::empty()
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        set(headers, header::ETAG, &etag);
        set(headers, header::LAST_MODIFIED, &modified);
        set(headers, header::CACHE_CONTROL, servable.cache);
        set(headers, header::ACCEPT_RANGES, "bytes");
        if has_body {
            set(headers, header::CONTENT_TYPE, servable.kind);
            set(headers, header::CONTENT_LENGTH, &bytes.to_string());
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let last = offset.saturating_add(bytes).saturating_sub(1);
            set(headers, header::CONTENT_RANGE, &format!("bytes {offset}-{last}/{length}"));
        }
        Ok(response)
    }

    /// The tag of a file by its content, which is read once as long as the file stays the same.
    async fn tag(
        &self,
        file: &mut tokio::fs::File,
        path: PathBuf,
        length: u64,
        modified: SystemTime,
    ) -> io::Result<String> {
        let known = self.tags.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some(tag) = known.filter(|tag| (tag.length, tag.modified) == (length, modified)) {
            return Ok(tag.etag);
        }
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            let read = file.read(&mut buffer).await?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
            hash.update(chunk);
        }
        let etag = format!("\"{}\"", hex(&hash.finalize()));
        let tag = Tag { length, modified, etag: etag.clone() };
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(path, tag);
        Ok(etag)
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Which file a path asks for. Metadata and targets alone, in plain characters (publishers write no others), so nothing
/// needs to be decoded and nothing leads out of the folder. Names that begin with a dot are files under construction.
fn servable(path: &str) -> Option<Servable> {
    if !is_target_path(path) || path.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let (folder, rest) = path.split_once('/')?;
    let name = rest.rsplit('/').next().unwrap_or(rest);
    let path = Path::new(path).to_owned();
    let first = name.split('.').next().unwrap_or_default();
    match folder {
        METADATA_FOLDER if name.ends_with(".json") && !rest.contains('/') => {
            let versioned = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
            let cache = if versioned { FOR_EVER } else { FRESH };
            Some(Servable { path, etag: None, cache, kind: "application/json" })
        }
        TARGETS_FOLDER => {
            let hash = unhex::<32>(first).map(|_| format!("\"{first}\""));
            let cache = if hash.is_some() { FOR_EVER } else { FRESH };
            Some(Servable { path, etag: hash, cache, kind: "application/octet-stream" })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_targets_are_served_and_nothing_else_is() {
        let hash = "ab".repeat(32);
        let target = servable(&format!("targets/f/x86_64/1.0.0/{hash}.f.payload")).unwrap();
        assert_eq!((target.etag.unwrap(), target.cache), (format!("\"{hash}\""), FOR_EVER));
        assert_eq!(servable("targets/plain.bin").unwrap().cache, FRESH);
        assert_eq!(servable("metadata/timestamp.json").unwrap().cache, FRESH);
        assert_eq!(servable("metadata/12.root.json").unwrap().cache, FOR_EVER);
        for path in [
            "",
            "metadata",
            "metadata/",
            "metadata/../staged-root.json",
            "metadata/a/b.json",
            "metadata/timestamp.json/x",
            "metadata/timestamp.txt",
            "staged-root.json",
            ".lock",
            "targets/.x",
            "targets/.hidden/x",
            "targets/../metadata/1.root.json",
            "targets//etc/passwd",
            "targets/%2e%2e/x",
            "/etc/passwd",
            "targets/..%2f..",
            "targets\\x",
            "other/1.root.json",
        ] {
            assert_eq!(servable(path), None, "{path}");
        }
    }
}
