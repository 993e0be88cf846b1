//! `LoadCredential=` and `SetCredential=`: small secrets in a folder that nobody else may read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use image_config::unit::ExecContext;

use super::identity::Identity;
use super::{Circumstances, Context, Step, code, failure, read_bounded};
use crate::pid1::paths;

/// Where credentials that were handed to the machine are, for `LoadCredential=` without a path.
const STORES: [&str; 3] = ["run/ferrite/credentials", "etc/credstore", "run/credstore"];
/// Largest credential, as in systemd.
const LARGEST: u64 = 1 << 20;

/// Below `/run`, a folder a unit.
pub fn folder(root: &Path, unit: &str) -> PathBuf {
    root.join("run/credentials").join(unit)
}

/// Writes the unit's credentials; answers with their folder, if there are any.
pub(super) fn provide(
    exec: &ExecContext,
    how: &Circumstances<'_>,
    identity: &Identity,
) -> Step<Option<String>> {
    if exec.load_credentials.is_empty() && exec.set_credentials.is_empty() {
        return Ok(None);
    }
    let folder = folder(how.root, how.unit);
    if let Some(above) = folder.parent() {
        paths::make_folder(above, 0o755, None).step(code::CREDENTIALS, above.display())?;
    }
    paths::make_folder(&folder, 0o500, identity.owner()).step(code::CREDENTIALS, folder.display())?;
    for (name, source) in &exec.load_credentials {
        let what = format!("LoadCredential={name}:{source}");
        match find(how.root, source) {
            Some(path) => {
                let bytes = read_bounded(&path, LARGEST).step(code::CREDENTIALS, &what)?;
                write(&folder, name, &bytes, identity).step(code::CREDENTIALS, &what)?;
            }
            // What SetCredential= has is its default, systemd.exec(5).
            None if exec.set_credentials.iter().any(|(other, _)| other == name) => {}
            None if !source.starts_with('/') => {}
            None => return Err(failure(code::CREDENTIALS, format!("{what}: there is no such file"))),
        }
    }
    for (name, content) in &exec.set_credentials {
        if !folder.join(name).exists() {
            write(&folder, name, content, identity)
                .step(code::CREDENTIALS, format_args!("SetCredential={name}"))?;
        }
    }
    Ok(Some(folder.to_string_lossy().into_owned()))
}

fn find(root: &Path, source: &str) -> Option<PathBuf> {
    if source.starts_with('/') {
        return Some(PathBuf::from(source)).filter(|path| path.exists());
    }
    STORES.iter().map(|store| root.join(store).join(source)).find(|path| path.exists())
}

fn write(folder: &Path, name: &str, content: &[u8], identity: &Identity) -> io::Result<()> {
    let path = folder.join(name);
    // One of an earlier process of the same unit is replaced.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
    file.write_all(content)?;
    if let Some((user, group)) = identity.owner() {
        chown(&path, Some(user), Some(group))?;
    }
    Ok(())
}
