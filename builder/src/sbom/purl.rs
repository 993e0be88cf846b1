//! Package URLs: one text that names a package across ecosystems (<https://github.com/package-url/purl-spec>).

use std::fmt::Write as _;

/// A Debian package. `distribution` is the codename of the suite, `architecture` Debian's name of it.
pub fn debian(name: &str, version: &str, architecture: &str, distribution: &str) -> String {
    let (name, version) = (encode(name), encode(version));
    format!("pkg:deb/debian/{name}@{version}?arch={}&distro={}", encode(architecture), encode(distribution))
}

/// A crate of crates.io.
pub fn cargo(name: &str, version: &str) -> String {
    format!("pkg:cargo/{}@{}", encode(name), encode(version))
}

/// Something that no ecosystem has: what this repository builds.
pub fn generic(name: &str, version: &str) -> String {
    format!("pkg:generic/{}@{}", encode(name), encode(version))
}

/// An image. Its architecture tells it from a program of the same name.
pub fn image(name: &str, version: &str, architecture: &str) -> String {
    format!("{}?arch={}", generic(name, version), encode(architecture))
}

/// The Rust project's standard library, by the release of the toolchain.
pub fn rust(release: &str) -> String {
    format!("pkg:github/rust-lang/rust@{}", encode(release))
}

/// Percent-encodes a component: everything but letters, digits and `.`, `-`, `_`, `~`; the colon of an epoch stays as it is, as the
/// specification has it.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_encoded_as_the_specification_says() {
        assert_eq!(
            debian("libstdc++6", "1:2.4.47-2+b1~deb13", "amd64", "trixie"),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.4.47-2%2Bb1~deb13?arch=amd64&distro=trixie"
        );
        assert_eq!(cargo("libz-sys", "1.1.0+zlib"), "pkg:cargo/libz-sys@1.1.0%2Bzlib");
        assert_eq!(generic("a b", "é"), "pkg:generic/a%20b@%C3%A9");
    }
}
