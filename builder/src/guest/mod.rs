//! The programs that run inside the image: built by cargo at run time, never by a build script (so that building the
//! tool stays quick), from the checkout that built this `ferrite`.
//!
//! The bytes depend on the sources, the lock file and the toolchain only: the profiles `guest` and `loader` fix code
//! generation, the linker is the toolchain's own, and paths of the machine are remapped. So programs that were built
//! once are kept by the digest of all that ([`Sources::digest`]), and cargo runs only when it changes.

mod cargo;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, io};

use debian::cache::Cache;
use serde::{Deserialize, Serialize};

pub use self::sources::Sources;
use crate::parts::{Key, Parts};
use crate::sbom::crates::{CratesError, LinkedProgram};

/// The built guest programs.
#[derive(Debug, Clone)]
pub struct GuestPrograms {
    /// The multi-call binary: `/init` of the initramfs, PID 1, `systemctl` and the rest.
    pub init: Arc<[u8]>,
    /// What finds user-data and carries it out.
    pub user_data: Arc<[u8]>,
    /// The update engine and its client.
    pub update_engine: Arc<[u8]>,
    /// The scheduler's daemon and `fleetctl`.
    pub fleetd: Arc<[u8]>,
    /// The boot loader.
    pub loader: Arc<[u8]>,
    /// The crates in `init`.
    pub init_crates: Arc<LinkedProgram>,
    /// The crates in `user_data`.
    pub user_data_crates: Arc<LinkedProgram>,
    /// The crates in the update engine.
    pub update_engine_crates: Arc<LinkedProgram>,
    /// The crates in the scheduler.
    pub fleetd_crates: Arc<LinkedProgram>,
    /// The crates in the boot loader.
    pub loader_crates: Arc<LinkedProgram>,
}

/// The programs as they are kept among the parts.
#[derive(Serialize, Deserialize)]
struct Kept {
    init: Vec<u8>,
    user_data: Vec<u8>,
    update_engine: Vec<u8>,
    fleetd: Vec<u8>,
    loader: Vec<u8>,
    init_crates: LinkedProgram,
    user_data_crates: LinkedProgram,
    update_engine_crates: LinkedProgram,
    fleetd_crates: LinkedProgram,
    loader_crates: LinkedProgram,
}

impl From<Kept> for GuestPrograms {
    fn from(kept: Kept) -> Self {
        let Kept {
            init,
            user_data,
            update_engine,
            fleetd,
            loader,
            init_crates,
            user_data_crates,
            update_engine_crates,
            fleetd_crates,
            loader_crates,
        } = kept;
        Self {
            init: init.into(),
            user_data: user_data.into(),
            update_engine: update_engine.into(),
            fleetd: fleetd.into(),
            loader: loader.into(),
            init_crates: Arc::new(init_crates),
            user_data_crates: Arc::new(user_data_crates),
            update_engine_crates: Arc::new(update_engine_crates),
            fleetd_crates: Arc::new(fleetd_crates),
            loader_crates: Arc::new(loader_crates),
        }
    }
}

/// Why the guest programs could not be built.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The sources are not where they were when this program was built.
    #[error("the sources of the guest programs are not in {} (set FERRITE_SOURCE to a checkout of Ferrite)", path.display())]
    NoSource {
        /// Where they should be.
        path: PathBuf,
    },
    /// A source file or a built program cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error(
        "cannot run {program} (guest programs are built with the Rust toolchain; install it with rustup)"
    )]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A standard library is missing and rustup did not bring it.
    #[error("the Rust target {target} is missing; `rustup target add {target}` said:\n{output}")]
    Target {
        /// The target.
        target: &'static str,
        /// What rustup printed.
        output: String,
    },
    /// What is linked into a program is not known.
    #[error(transparent)]
    Crates(#[from] CratesError),
    /// Cargo failed.
    #[error("building {package} for {target} failed:\n{output}")]
    Cargo {
        /// The package.
        package: &'static str,
        /// The target.
        target: &'static str,
        /// What cargo printed.
        output: String,
    },
}

/// Builds the guest programs, or takes those that were built of the same sources before.
///
/// # Errors
/// [`GuestError`]; cargo's own output is part of the message.
pub fn build(sources: &Sources, cache: &Cache) -> Result<GuestPrograms, GuestError> {
    let kept = Parts::of(cache).get(&key(sources));
    if let Some(kept) = kept.and_then(|bytes| postcard::from_bytes::<Kept>(&bytes).ok()) {
        return Ok(kept.into());
    }
    let target_folder = build_folder(&sources.folder, cache);
    let build = |unit: &cargo::Unit| -> Result<Vec<u8>, GuestError> {
        let path = unit.build(&sources.folder, &target_folder)?;
        fs::read(&path).map_err(|source| GuestError::Read { path, source })
    };
    let programs = GuestPrograms {
        init: build(&cargo::INIT)?.into(),
        user_data: build(&cargo::USER_DATA)?.into(),
        update_engine: build(&cargo::UPDATE_ENGINE)?.into(),
        fleetd: build(&cargo::FLEETD)?.into(),
        loader: build(&cargo::LOADER)?.into(),
        init_crates: Arc::new(cargo::INIT.crates(&sources.folder)?),
        user_data_crates: Arc::new(cargo::USER_DATA.crates(&sources.folder)?),
        update_engine_crates: Arc::new(cargo::UPDATE_ENGINE.crates(&sources.folder)?),
        fleetd_crates: Arc::new(cargo::FLEETD.crates(&sources.folder)?),
        loader_crates: Arc::new(cargo::LOADER.crates(&sources.folder)?),
    };
    // Sources that were edited meanwhile may have been built half and half: such programs are used, not kept.
    if Sources::read(&sources.folder)?.digest == sources.digest {
        keep(&programs, sources, cache);
    }
    Ok(programs)
}

/// Keeps programs that were built of these sources in a cache. A cache that cannot be written costs time at the next build.
pub fn keep(programs: &GuestPrograms, sources: &Sources, cache: &Cache) {
    let kept = Kept {
        init: programs.init.to_vec(),
        user_data: programs.user_data.to_vec(),
        update_engine: programs.update_engine.to_vec(),
        fleetd: programs.fleetd.to_vec(),
        loader: programs.loader.to_vec(),
        init_crates: LinkedProgram::clone(&programs.init_crates),
        user_data_crates: LinkedProgram::clone(&programs.user_data_crates),
        update_engine_crates: LinkedProgram::clone(&programs.update_engine_crates),
        fleetd_crates: LinkedProgram::clone(&programs.fleetd_crates),
        loader_crates: LinkedProgram::clone(&programs.loader_crates),
    };
    if let Ok(bytes) = postcard::to_stdvec(&kept) {
        let _ = Parts::of(cache).put(&key(sources), &bytes);
    }
}

/// The key that programs are kept by.
fn key(sources: &Sources) -> Key {
    Key::new("guest programs 4").with(&sources.digest)
}

/// The checkout: `FERRITE_SOURCE`, or where this program was built.
///
/// # Errors
/// There is no workspace there.
pub fn source_folder() -> Result<PathBuf, GuestError> {
    let path = env::var_os("FERRITE_SOURCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned(),
        PathBuf::from,
    );
    if path.join("Cargo.lock").is_file() && path.join("init/Cargo.toml").is_file() {
        Ok(fs::canonicalize(&path).unwrap_or(path))
    } else {
        Err(GuestError::NoSource { path })
    }
}

/// Cargo's target folder for a checkout: `CARGO_TARGET_DIR`, or `target` in it.
pub fn target_folder(source: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => source.join(folder),
        None => source.join("target"),
    }
}

/// Where cargo builds the guest programs: in the target folder, or in the cache when nothing can be written there.
fn build_folder(source: &Path, cache: &Cache) -> PathBuf {
    let usual = target_folder(source).join("guest");
    let writable = fs::create_dir_all(&usual).is_ok()
        && rustix::fs::access(&usual, rustix::fs::Access::WRITE_OK).is_ok();
    if writable { usual } else { cache.root().join("guest-target") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_of_this_test_is_found() {
        assert!(source_folder().unwrap().join("boot/Cargo.toml").is_file());
    }
}
