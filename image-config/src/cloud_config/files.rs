//! `write_files`.

use super::{CloudConfig, FileContents, FileEntry, owner};
use crate::diagnostic::did_you_mean;
use crate::tree::Node;
use crate::user_data::encoding;
use crate::user_data::report::{At, Fields, Report, Spelling};
use crate::user_data::resource::{LARGEST_RESOURCE, ResourceError, gunzip};

/// The encodings, as written.
const ENCODINGS: [&str; 8] =
    ["b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"];

pub(super) fn write_files(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    for (index, node) in top.list("write_files", report).iter().enumerate() {
        let name = format!("write_files[{index}]");
        if let Some(fields) = report.fields(node, &name, Spelling::Lenient)
            && let Some(value) = file(fields, report)
        {
            config.files.push(At { value, at: node.at });
        }
    }
}

fn file(mut fields: Fields<'_>, report: &mut Report<'_>) -> Option<FileEntry> {
    let path = match fields.text("path", report) {
        Some(path) => absolute(&path, report).filter(|clean| writable(clean, &path, report)),
        None => {
            report.error(fields.at(), format!("`{}` is missing", fields.name_of("path")), None);
            None
        }
    };
    let contents = contents(&mut fields, report);
    let mode = match fields.text("permissions", report) {
        Some(text) => match permissions(&text.value) {
            Some(mode) => Some(mode),
            None => {
                let hint = "three or four octal digits, such as `0644`".to_owned();
                report.error(text.at, format!("invalid permissions `{}`", text.value), hint);
                None
            }
        },
        None => None,
    };
    let owner = match fields.text("owner", report) {
        Some(text) => match owner(&text.value) {
            Some(owner) => owner,
            None => {
                let hint = "`user` or `user:group`".to_owned();
                report.error(text.at, format!("`{}` is no owner", text.value), hint);
                return None;
            }
        },
        None => Default::default(),
    };
    let is_appended = fields.boolean("append", report).unwrap_or(false);
    let is_deferred = fields.boolean("defer", report).unwrap_or(false);
    fields.finish(&[], report);
    Some(FileEntry { path: path?, contents: contents?, mode, owner, is_appended, is_deferred })
}

/// The path without `.` and empty components. A path that goes up is refused.
pub(crate) fn absolute(path: &At<String>, report: &mut Report<'_>) -> Option<String> {
    let text = &path.value;
    let problem = if !text.starts_with('/') {
        Some("is not absolute")
    } else if text.split('/').any(|part| part == "..") {
        Some("goes up with `..`")
    } else if text.contains('\0') {
        Some("has a NUL")
    } else if text.ends_with('/') || text.ends_with("/.") {
        Some("is a folder's")
    } else {
        None
    };
    if let Some(problem) = problem {
        report.error(path.at, format!("the path `{}` {problem}", text.escape_default()), None);
        return None;
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some(format!("/{}", parts.join("/")))
}

/// What is read-only on every machine is refused where it is written, not where it fails.
pub(crate) fn writable(path: &str, written: &At<String>, report: &mut Report<'_>) -> bool {
    let top = path.split('/').nth(1).unwrap_or_default();
    let hint = match top {
        "usr" => "/usr is the image, verified and read-only; /etc, /opt and /var can be written to",
        "bin" | "sbin" | "lib" | "lib32" | "lib64" => {
            "it leads into /usr, which is read-only; /opt/bin is for programs"
        }
        "proc" | "sys" | "dev" => {
            "this is no file system for files; `runcmd` can write to it, sysctl.d(5) sets what is below /proc/sys"
        }
        _ => return true,
    };
    report.error(written.at, "the file cannot be written to a read-only filesystem", hint.to_owned());
    false
}

/// `^0?[0-7]{3,4}$`, and YAML 1.2's `0o644`.
fn permissions(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let digits = if digits.len() > 3 { digits.strip_prefix('0').unwrap_or(digits) } else { digits };
    let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    (matches!(digits.len(), 3 | 4) && is_octal).then(|| u16::from_str_radix(digits, 8).ok()).flatten()
}

fn contents(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Option<FileContents> {
    let encoding = match fields.text("encoding", report) {
        Some(text) if ["", "text/plain"].contains(&text.value.as_str()) => None,
        Some(text) if ENCODINGS.contains(&text.value.as_str()) => Some(text.value),
        Some(text) => {
            let hint = match did_you_mean(&text.value, ENCODINGS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the encodings are {}", ENCODINGS.join(", ")),
            };
            report.error(text.at, format!("unsupported encoding `{}`", text.value), hint);
            return None;
        }
        None => None,
    };
    let node = fields.node("content");
    let name = fields.name_of("content");
    let source = fields.fields("source", Spelling::Lenient, report).and_then(|source| remote(source, report));
    if let (Some(source), None) = (&source, node) {
        return Some(source.clone());
    }
    let Some(node) = node else { return Some(FileContents::Inline(Vec::new())) };
    if source.is_some() {
        let hint = "what `source` names is not fetched".to_owned();
        report.warn(node.at, "`content` is used, not `source`", hint);
    }
    let text = report.text(node, &name)?;
    decode(node, text, encoding.as_deref(), report).map(FileContents::Inline)
}

fn decode(node: &Node, text: String, encoding: Option<&str>, report: &mut Report<'_>) -> Option<Vec<u8>> {
    let raw = node.scalar().and_then(|scalar| scalar.bytes.clone());
    let encoding = encoding.unwrap_or_default();
    let refuse = |why: &str, report: &mut Report<'_>| {
        report.error(node.at, format!("content cannot be decoded as `{encoding}`: {why}"), None);
        None
    };
    let bytes = if encoding.ends_with("b64") || encoding.ends_with("base64") {
        match encoding::base64(&text) {
            Some(bytes) => bytes,
            None => return refuse("it is not base64", report),
        }
    } else {
        raw.unwrap_or_else(|| text.into_bytes())
    };
    if !encoding.starts_with("gz") {
        return Some(bytes);
    }
    match gunzip(&bytes, LARGEST_RESOURCE) {
        Ok(bytes) => Some(bytes),
        Err(ResourceError::TooLarge) => refuse("it unpacks to more than 64 MiB", report),
        Err(_) => refuse("it is not whole gzip data", report),
    }
}

/// `source` of cloud-init.
fn remote(mut fields: Fields<'_>, report: &mut Report<'_>) -> Option<FileContents> {
    let uri = fields.text("uri", report);
    let mut headers = Vec::new();
    if let Some(node) = fields.node("headers") {
        let name = fields.name_of("headers");
        for entry in node.entries().unwrap_or_default() {
            let value = report.text(&entry.value, &name);
            headers.extend(value.map(|value| (entry.key.clone(), value)));
        }
    }
    fields.finish(&[], report);
    let uri = uri?;
    if ["http://", "https://"].iter().any(|scheme| uri.value.starts_with(scheme))
        && !uri.value.contains(char::is_whitespace)
    {
        return Some(FileContents::Source { url: uri.value, headers });
    }
    let hint = "`http://` and `https://` are supported".to_owned();
    report.error(uri.at, format!("`{}` cannot be fetched", uri.value), hint);
    None
}

#[cfg(test)]
mod tests {
    use super::permissions;

    #[test]
    fn permissions_are_octal_digits() {
        let cases = [
            ("644", Some(0o644)),
            ("0644", Some(0o644)),
            ("00644", Some(0o644)),
            ("4755", Some(0o4755)),
            ("04755", Some(0o4755)),
            ("0o755", Some(0o755)),
            ("999", None),
            ("44", None),
            ("0x644", None),
            ("-644", None),
            ("rw-", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(permissions(text), want, "{text}");
        }
    }
}
