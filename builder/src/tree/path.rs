//! Paths inside an image: bytes, `/` between components, no way out.

/// Longest path that the tree takes, in bytes (Linux's `PATH_MAX` without the final NUL).
pub const MAX_PATH_BYTES: usize = 4095;

/// Why bytes are no path of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` component could leave the image.
    #[error("it has a '..' component")]
    ParentComponent,
    /// NUL ends names for the kernel.
    #[error("it has a NUL byte")]
    Nul,
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("it is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// Splits a path into its components. A leading `/` or `./`, doubled `/` and a trailing `/` mean nothing; no
/// components are the root. `..` is refused: tar members that climb have no meaning in an image.
pub fn normalise(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut components = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(PathError::ParentComponent),
            name => components.push(name),
        }
    }
    Ok(components)
}

/// The path for people: absolute, with bytes that are not UTF-8 or not printable escaped.
pub fn display(path: &[u8]) -> String {
    let relative = path.strip_prefix(b"./").unwrap_or(path);
    let start = relative.iter().position(|&byte| byte != b'/').unwrap_or(relative.len());
    format!("/{}", escape(relative.get(start..).unwrap_or_default()))
}

/// Bytes for people: what is not UTF-8 or not printable is escaped.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = parent.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
