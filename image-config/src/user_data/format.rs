//! What a text is, by its first bytes (updates-and-config, 7.1).

use std::fmt;

use crate::cloud_config::HEADER;

/// Largest user-data, packed or not, in bytes. No source delivers as much, and what is larger belongs behind a URL.
pub const LARGEST: usize = 8 << 20;

/// A format of user-data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Nothing at all.
    Empty,
    /// `#cloud-config`.
    CloudConfig,
    /// `#!`.
    Script,
    /// JSON with `ignition.version`.
    Ignition,
    /// MIME multipart: several texts in one.
    Multipart,
    /// gzip of any of the others.
    Gzip,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty text",
            Self::CloudConfig => "cloud-config",
            Self::Script => "script",
            Self::Ignition => "Ignition config",
            Self::Multipart => "multipart text",
            Self::Gzip => "gzip data",
        })
    }
}

/// Why bytes are no user-data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) message: &'static str,
    pub(crate) hint: String,
}

impl Format {
    /// Finds out what bytes are.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Unknown> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        let start = bytes.trim_ascii_start();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Ok(Self::Gzip)
        } else if start.is_empty() {
            Ok(Self::Empty)
        } else if first == HEADER.as_bytes() {
            Ok(Self::CloudConfig)
        } else if bytes.starts_with(b"#!") {
            Ok(Self::Script)
        } else if start.starts_with(b"{") {
            Ok(Self::Ignition)
        } else if is_multipart(bytes) {
            Ok(Self::Multipart)
        } else {
            Err(unknown(bytes, first))
        }
    }
}

/// Header fields, of which one says so, before the first empty line.
fn is_multipart(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).take(50);
    let mut is_first = true;
    for line in lines.take_while(|line| !line.is_empty()) {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with(b"mime-version:") || lower.starts_with(b"content-type: multipart/") {
            return true;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_field =
            name.len() < line.len() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if !is_field && (is_first || !is_folded) {
            return false;
        }
        is_first = false;
    }
    false
}

fn unknown(bytes: &[u8], first: &[u8]) -> Unknown {
    let message = "must be \"#cloud-config\" or begin with \"#!\", or be Ignition's JSON";
    let lower = first.to_ascii_lowercase();
    let compact: Vec<u8> =
        lower.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\t' | b'_' | b'-')).collect();
    let hint = if compact.starts_with(b"#cloudconfig") {
        "the first line must be exactly `#cloud-config`".to_owned()
    } else if first.starts_with(b"## template:") || lower.starts_with(b"##template:") {
        "templates are not rendered: write the text out".to_owned()
    } else if first.starts_with(b"#include") {
        "`#include` is not supported: name the URL in an Ignition config (`ignition.config.replace`)"
            .to_owned()
    } else if first.starts_with(b"#cloud-boothook")
        || first.starts_with(b"#part-handler")
        || first.starts_with(b"#upstart-job")
    {
        "this kind of part is not supported: `bootcmd` of a cloud-config runs early in every boot".to_owned()
    } else if first.starts_with(b"#cloud-config-archive") || first.starts_with(b"#cloud-config-jsonp") {
        "archives and patches are not supported: write one cloud-config, or MIME multipart".to_owned()
    } else if lower.starts_with(b"variant:")
        || lower.starts_with(b"version:") && bytes.windows(8).any(|it| it == b"variant:")
    {
        "this is Butane, which `butane` makes an Ignition config of".to_owned()
    } else if std::str::from_utf8(bytes.get(..bytes.len().min(4096)).unwrap_or_default())
        .is_err_and(|error| error.error_len().is_some())
    {
        "this is no text".to_owned()
    } else {
        let is_yaml = |line: &[u8]| {
            let line = line.trim_ascii_end();
            let key = line
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                .count();
            key > 0 && line.get(key) == Some(&b':')
        };
        if bytes.split(|byte| *byte == b'\n').any(is_yaml) {
            "a cloud-config begins with the line `#cloud-config`".to_owned()
        } else {
            "a script begins with `#!` and its interpreter, such as `#!/bin/sh`".to_owned()
        }
    };
    Unknown { message, hint }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_bytes_tell_the_format() {
        let cases: &[(&[u8], Format)] = &[
            (b"", Format::Empty),
            (b" \n\n", Format::Empty),
            (b"#cloud-config", Format::CloudConfig),
            (b"#cloud-config \r\nhostname: x\n", Format::CloudConfig),
            (b"\xef\xbb\xbf#cloud-config\n", Format::CloudConfig),
            (b"#!/bin/sh\n", Format::Script),
            (b"  {\"ignition\": {}}", Format::Ignition),
            (b"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n", Format::Multipart),
            (b"From: me\n folded\nMIME-Version: 1.0\n\n", Format::Multipart),
            (b"\x1f\x8b\x08", Format::Gzip),
        ];
        for (bytes, want) in cases {
            assert_eq!(Format::of(bytes).as_ref(), Ok(want), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_not_known_is_told_with_a_hint() {
        let cases: &[(&[u8], &str)] = &[
            (b"#cloudconfig\nhostname: x", "exactly `#cloud-config`"),
            (b"# cloud-config\nhostname: x", "exactly `#cloud-config`"),
            (b"#Cloud-Config\n", "exactly `#cloud-config`"),
            (b"hostname: x\n", "begins with the line `#cloud-config`"),
            (b"coreos:\n  units: []\n", "begins with the line `#cloud-config`"),
            (b"#include\nhttp://x\n", "`#include` is not supported"),
            (b"## template: jinja\n#cloud-config\n", "templates are not rendered"),
            (b"variant: flatcar\nversion: 1.0.0\n", "this is Butane"),
            (b"echo hello\n", "a script begins with `#!`"),
            (b"\xff\xfe\x00", "this is no text"),
        ];
        for (bytes, want) in cases {
            let unknown = Format::of(bytes).unwrap_err();
            assert!(unknown.hint.contains(want), "{:?}: {}", String::from_utf8_lossy(bytes), unknown.hint);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Format::of(&bytes);
        }
    }
}
