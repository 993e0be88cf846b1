//! An ssh key for the machines that `ferrite run` starts, so that a user without keys can log in.
//!
//! Format: OpenSSH's `PROTOCOL.key` (unencrypted, cipher and KDF `none`) and the public key of RFC 8709.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use ed25519_dalek::SigningKey;

const MAGIC: &[u8] = b"openssh-key-v1\0";
const KEY_TYPE: &[u8] = b"ssh-ed25519";
/// The private part is padded to a multiple of so many bytes, the block size of cipher `none`.
const PADDING: usize = 8;
const LINE: usize = 70;

/// Returns the path of the private key in `folder` and the line for `authorized_keys`; makes the pair when there is
/// none. Only the user can read the private key.
///
/// # Errors
/// The folder cannot be read or written, or there is no randomness.
pub fn ensure(folder: &Path) -> io::Result<(PathBuf, String)> {
    let (private, public) = (folder.join("id_ed25519"), folder.join("id_ed25519.pub"));
    if private.is_file()
        && let Ok(line) = fs::read_to_string(&public)
    {
        return Ok((private, line));
    }
    fs::create_dir_all(folder)?;
    let mut random = [0; 36];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let (seed, check) = random.split_at(32);
    let key = SigningKey::from_bytes(seed.try_into().unwrap_or(&[0; 32]));
    let line = public_line(&key);
    // The public half first: a pair that lacks one is made anew.
    fs::write(&public, &line)?;
    let temporary = folder.join(format!(".id_ed25519.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(private_text(&key, check).as_bytes())?;
    fs::rename(&temporary, &private)?;
    Ok((private, line))
}

fn public_line(key: &SigningKey) -> String {
    format!("ssh-ed25519 {} ferrite-run\n", STANDARD.encode(public_blob(key)))
}

fn public_blob(key: &SigningKey) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KEY_TYPE);
    string(&mut blob, key.verifying_key().as_bytes());
    blob
}

/// `check` is four random bytes that stand twice, so that a reader can tell a wrong decryption.
fn private_text(key: &SigningKey, check: &[u8]) -> String {
    let mut secret = Vec::new();
    secret.extend_from_slice(check);
    secret.extend_from_slice(check);
    string(&mut secret, KEY_TYPE);
    string(&mut secret, key.verifying_key().as_bytes());
    string(&mut secret, &key.to_keypair_bytes());
    string(&mut secret, b"ferrite-run");
    let missing = (PADDING - secret.len() % PADDING) % PADDING;
    secret.extend((1u8..).take(missing));
    let mut blob = MAGIC.to_vec();
    string(&mut blob, b"none");
    string(&mut blob, b"none");
    string(&mut blob, b"");
    blob.extend_from_slice(&1u32.to_be_bytes());
    string(&mut blob, &public_blob(key));
    string(&mut blob, &secret);
    let mut text = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let encoded = STANDARD.encode(blob);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    text
}

/// RFC 4251, section 5: length and bytes.
fn string(blob: &mut Vec<u8>, bytes: &[u8]) {
    blob.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    blob.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_once_and_only_the_user_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, line) = ensure(folder.path()).unwrap();
        assert_eq!(ensure(folder.path()).unwrap(), (path.clone(), line.clone()));
        assert!(line.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{line}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
