//! `ferrite cluster certs`: certificates for etcd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::args::CertsArgs;
use crate::cli::output;
use crate::cluster::certs::{self, Authority};

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    /// The machine's part of its user-data.
    user_data: Option<PathBuf>,
}

impl Made {
    fn of(folder: &Path, name: &str) -> Self {
        let (certificate, key) = certs::paths(folder, name);
        Self { name: name.to_owned(), certificate, key, user_data: None }
    }
}

/// Makes certificates and prints their files.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(args: &CertsArgs) -> Result<ExitCode> {
    let now: Duration = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let folder = &args.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let authority = Authority::in_folder(folder, now)?;
    certs::write(folder, certs::CLIENT, &authority.client(certs::CLIENT, now, args.days)?)?;
    let mut made = vec![Made::of(folder, certs::AUTHORITY), Made::of(folder, certs::CLIENT)];
    for machine in &args.machines {
        let pair = authority.machine(&machine.name, &machine.addresses, now, args.days)?;
        certs::write(folder, &machine.name, &pair)?;
        let part = folder.join(format!("{}.yml", machine.name));
        // The key is in it.
        certs::put(&part, &certs::cloud_config(&authority, &pair), 0o600)?;
        made.push(Made { user_data: Some(part), ..Made::of(folder, &machine.name) });
    }
    if args.json {
        output::print_json(&made)?;
    } else {
        let lines = made.iter().map(|made| {
            let part = made.user_data.as_ref().map(|path| format!(" {}", path.display()));
            format!("{} {}{}\n", made.certificate.display(), made.key.display(), part.unwrap_or_default())
        });
        output::print(lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}
