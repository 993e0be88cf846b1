//! The words of a recipe as types: each can only be made from text that keeps its rule.

/// Why a word is refused; rendered as the message of a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NameError {
    /// What is wrong, naming the word.
    pub problem: String,
    /// What to write instead, where that is known.
    pub hint: Option<String>,
}

impl NameError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Declares a checked word: `parse`, `as_str`, `Display`, order by bytes.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the rule that the type documents.
            ///
            /// # Errors
            /// [`NameError`] says which part of the rule is broken.
            pub fn parse(text: &str) -> Result<Self, $crate::recipe::NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The word as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

pub(crate) use word;

word!(
    /// Name of the product: file names, the default host name and the disk's GUIDs derive from it.
    ///
    /// Lower-case letters, digits and hyphens, no hyphen at either end, 1 to 32 characters.
    ProductName,
    check_product
);
word!(
    /// Version of the image: part of file names, of `/etc/os-release` and of the kernel command line.
    ///
    /// Lower-case letters, digits, `.`, `_`, `-`, `+`, `~`, first a letter or digit, 1 to 32 characters.
    ImageVersion,
    check_version
);
word!(
    /// Name of a Debian package (Debian Policy 5.6.1): lower-case letters, digits, `+`, `-`, `.`; at least two
    /// characters, the first one a letter or digit.
    PackageName,
    check_package
);
word!(
    /// A Debian suite or code name, such as `trixie` or `trixie-security`.
    Suite,
    check_suite
);
word!(
    /// A component of a Debian archive, such as `main`.
    Component,
    check_suite
);
word!(
    /// Where an archive is: an `http://` or `https://` URL without a trailing slash, query or fragment.
    MirrorUrl,
    check_mirror
);
word!(
    /// Absolute path in the image: no `.`, `..`, empty component, trailing slash or control character; not `/`.
    ImagePath,
    check_path
);
word!(
    /// Name of a user or a group: a lower-case letter or `_`, then those, digits and `-`; at most 31 characters.
    AccountName,
    check_account
);
word!(
    /// Name of a kernel module without folder and `.ko`; `-` and `_` mean the same to the kernel.
    ModuleName,
    check_module
);

impl Suite {
    /// Whether the suite lives in the security archive (`debian-security`), which is a mirror of its own.
    #[must_use]
    pub fn is_security(&self) -> bool {
        self.0.ends_with("-security")
    }
}

fn check_product(text: &str) -> Result<(), NameError> {
    let hint =
        "lower-case letters, digits and hyphens, at most 32: it becomes the host name and part of file names";
    length("name", text, 1..=32)?;
    if !only(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(NameError::new(format!("`{text}` is no product name")).hint(hint));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::new(format!("product name `{text}` begins or ends with a hyphen")).hint(hint));
    }
    Ok(())
}

fn check_version(text: &str) -> Result<(), NameError> {
    let hint = "lower-case letters, digits, `.`, `_`, `-`, `+` and `~`, such as 0.1.0 or 0.1.0-rc1";
    length("version", text, 1..=32)?;
    let first_is_plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !first_is_plain || !only(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-+~".contains(c))
    {
        return Err(NameError::new(format!("`{text}` is no image version")).hint(hint));
    }
    Ok(())
}

fn check_package(text: &str) -> Result<(), NameError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some((name, _)) = text.split_once([' ', '(', '=']) {
        return Err(NameError::new(format!("`{text}` is no package name")).hint(format!(
            "write `{}` alone: which version is installed is the lock file's business",
            name.trim()
        )));
    }
    if let Some((name, architecture)) = text.split_once(':') {
        return Err(NameError::new(format!("`{text}` names an architecture"))
            .hint(format!("write `{name}` without `:{architecture}`: an image has one architecture")));
    }
    if text.len() < 2 || !text.starts_with(plain) || !only(text, |c| plain(c) || "+-.".contains(c)) {
        return Err(NameError::new(format!("`{text}` is no package name"))
            .hint("lower-case letters, digits, `+`, `-` and `.`, at least two characters"));
    }
    Ok(())
}

fn check_suite(text: &str) -> Result<(), NameError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(plain) || !only(text, |c| plain(c) || "-._/".contains(c)) || text.contains("..") {
        return Err(NameError::new(format!("`{text}` is no name of a Debian suite or component"))
            .hint("such as `trixie`, `trixie-security`, `main`"));
    }
    Ok(())
}

fn check_mirror(text: &str) -> Result<(), NameError> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        return Err(NameError::new(format!("mirror `{text}` is no http:// or https:// URL"))
            .hint("such as http://deb.debian.org/debian"));
    };
    if rest.is_empty() || rest.starts_with('/') {
        return Err(NameError::new(format!("mirror `{text}` names no host")));
    }
    if !only(text, |c| c.is_ascii_graphic()) || text.contains(['?', '#']) {
        return Err(NameError::new(format!(
            "mirror `{text}` holds characters that a mirror's URL does not have"
        )));
    }
    if text.ends_with('/') {
        return Err(NameError::new(format!("mirror `{text}` ends with a slash"))
            .hint(format!("write {}", text.trim_end_matches('/'))));
    }
    Ok(())
}

fn check_path(text: &str) -> Result<(), NameError> {
    if !text.starts_with('/') {
        return Err(NameError::new(format!("path `{text}` is not absolute")).hint(format!("write `/{text}`")));
    }
    if text == "/" {
        return Err(NameError::new("`/` itself cannot be named here"));
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::new(format!("path {text:?} holds a control character")));
    }
    if text.len() > 4095 || text.split('/').any(|component| component.len() > 255) {
        return Err(NameError::new("the path is longer than Linux allows"));
    }
    for component in text.split('/').skip(1) {
        match component {
            "" => {
                return Err(NameError::new(format!("path `{text}` has an empty component"))
                    .hint("no `//` and no `/` at the end"));
            }
            "." | ".." => {
                return Err(NameError::new(format!("path `{text}` has a `{component}` component"))
                    .hint("write the path that is meant"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_account(text: &str) -> Result<(), NameError> {
    length("name of a user or group", text, 1..=31)?;
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !first || !only(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-') {
        return Err(NameError::new(format!("`{text}` is no name of a user or group"))
            .hint("a lower-case letter or `_`, then lower-case letters, digits, `_` and `-`"));
    }
    Ok(())
}

fn check_module(text: &str) -> Result<(), NameError> {
    if let Some(name) =
        ["", ".xz", ".zst", ".gz"].iter().find_map(|end| text.strip_suffix(&format!(".ko{end}")))
    {
        let name = name.rsplit('/').next().unwrap_or(name);
        return Err(NameError::new(format!("`{text}` is a file, not the name of a module"))
            .hint(format!("write `{name}`")));
    }
    if text.is_empty() || !only(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(NameError::new(format!("`{text}` is no name of a kernel module"))
            .hint("letters, digits, `_` and `-`, such as `virtio_blk`"));
    }
    Ok(())
}

fn length(what: &str, text: &str, allowed: std::ops::RangeInclusive<usize>) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::new(format!("the {what} is empty")));
    }
    if !allowed.contains(&text.len()) {
        let (have, most) = (text.len(), allowed.end());
        return Err(NameError::new(format!("the {what} has {have} characters, at most {most} are allowed")));
    }
    Ok(())
}

fn only(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_rules() {
        type Check = fn(&str) -> Result<(), NameError>;
        let cases: &[(Check, &[&str], &[&str])] = &[
            (check_product, &["ferrite", "a", "os-2"], &["", "-a", "a-", "Ferrite", "a_b", "a.b", "a/b"]),
            (check_version, &["0.1.0", "1", "2026.11~rc1+x"], &["", ".1", "1,2", "1 2", "V1", "1/2"]),
            (
                check_package,
                &["bash", "libstdc++6", "0ad"],
                &["a", "", "Bash", "bash:amd64", "a (= 1)", "a_b", "+a"],
            ),
            (check_suite, &["trixie", "trixie-security"], &["", "../x", "Trixie", "a b"]),
            (
                check_mirror,
                &["http://x/debian", "https://x"],
                &["x/debian", "ftp://x", "http://", "http:///a", "http://x/", "http://x/?a"],
            ),
            (
                check_path,
                &["/etc/motd", "/usr/a b"],
                &["etc", "/", "/etc/", "//etc", "/etc/../x", "/./a", "/a\nb", ""],
            ),
            (check_account, &["core", "_apt", "systemd-network"], &["", "Core", "0day", "-a", "a.b", "a:b"]),
            (check_module, &["virtio_blk", "dm-verity"], &["", "a/b", "ext4.ko", "ext4.ko.xz", "a b"]),
        ];
        for (check, good, bad) in cases {
            for text in *good {
                assert_eq!(check(text), Ok(()), "{text:?}");
            }
            for text in *bad {
                assert!(check(text).is_err(), "{text:?} is accepted");
            }
        }
        assert!(check_product(&"a".repeat(33)).is_err());
    }

    #[test]
    fn hints_show_what_to_write() {
        assert_eq!(ImagePath::parse("etc/x").unwrap_err().hint.unwrap(), "write `/etc/x`");
        assert_eq!(ModuleName::parse("kernel/fs/ext4.ko.xz").unwrap_err().hint.unwrap(), "write `ext4`");
        assert!(
            PackageName::parse("bash (>= 5)").unwrap_err().hint.unwrap().starts_with("write `bash` alone")
        );
    }

    #[test]
    fn only_security_suites_come_from_the_security_archive() {
        assert!(Suite::parse("trixie-security").unwrap().is_security());
        assert!(!Suite::parse("trixie").unwrap().is_security());
    }
}
