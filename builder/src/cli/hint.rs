//! What a user can do about an error.

use std::error::Error;
use std::io::{self, ErrorKind};

use debian::archive::ArchiveError;
use debian::resolve::ResolveError;

use crate::build::{BuildError, InventoryError};
use crate::direct::DirectError;
use crate::formats::{FormatError, OpenError};
use crate::inspect::InspectError;
use crate::packages::PackagesError;
use crate::rootfs::{RootfsError, StagingError};
use crate::signing::SigningError;
use crate::tree::TreeError;

/// A hint for an error, by the first of its causes that there is one for.
pub fn of(error: &anyhow::Error) -> Option<String> {
    let build = error.downcast_ref::<BuildError>().and_then(of_build);
    let image = || error.chain().find_map(of_image).map(str::to_owned);
    build
        .or_else(image)
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).and_then(of_io))
}

fn of_build(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Version(problem) => problem.hint.clone(),
        BuildError::Packages(
            PackagesError::Resolve(error) | PackagesError::Archive(ArchiveError::Resolve(error)),
        ) => of_resolve(error),
        BuildError::Rootfs(RootfsError::Staging(StagingError::Tree(error))) => of_tree(error),
        BuildError::Signing(error) => Some(of_key(error)),
        BuildError::Format { format, source: FormatError::Size { .. } } => {
            Some(format!("make the partitions smaller, or leave {format} out of --format"))
        }
        BuildError::Inventory(InventoryError::Budget(error)) if error.overruns.is_empty() => {
            Some("correct the budget, or remove it from `budgets:` of the recipe".to_owned())
        }
        BuildError::Inventory(InventoryError::Budget(_)) => {
            Some("leave things out with `drop:` or `packages:`, or raise the budget in the recipe".to_owned())
        }
        BuildError::TooLarge { .. } => {
            Some("raise `partitions: usr:`, or leave things out with `drop:`".to_owned())
        }
        _ => None,
    }
}

/// Of a file that is an image and cannot be read as one.
fn of_image(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(InspectError::Open(error)) = cause.downcast_ref() {
        return error.hint();
    }
    if let Some(DirectError::Open(error)) = cause.downcast_ref() {
        return error.hint();
    }
    cause.downcast_ref::<OpenError>().and_then(OpenError::hint)
}

fn of_resolve(error: &ResolveError) -> Option<String> {
    Some(match error {
        ResolveError::UnknownPackage { similar, .. } if similar.is_empty() => {
            "packages are searched for in the `suites` and `components` of the recipe".to_owned()
        }
        ResolveError::Unsatisfiable { .. } => {
            "leave the package out, add a suite that has what is missing, or list it under `provides:` when the image \
             does without it"
                .to_owned()
        }
        ResolveError::Conflict { .. } => "leave one of them out of the recipe".to_owned(),
        _ => return None,
    })
}

fn of_tree(error: &TreeError) -> Option<String> {
    let TreeError::Conflict { path, .. } = error else { return None };
    Some(format!(
        "list {path} under `replace:` and the recipe's own file wins (`files:` or `applets:`), keep it out with `drop:`, \
         or leave one of the two out"
    ))
}

fn of_key(error: &SigningError) -> String {
    match error {
        SigningError::Read { .. } => {
            "paths of keys are relative to the recipe; without `keys: signing:` the development key signs"
                .to_owned()
        }
        SigningError::Private { .. } => "`openssl genpkey -algorithm ed25519 -out FILE` makes one".to_owned(),
        SigningError::Public { .. } => {
            "`openssl pkey -in PRIVATE -pubout -out FILE` gets it from the private key".to_owned()
        }
    }
}

fn of_io(error: &io::Error) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room, or write elsewhere: --out for images, FERRITE_CACHE for downloads, CARGO_TARGET_DIR for programs"
                .to_owned()
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "--out names a folder".to_owned(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "write elsewhere: --out for images, FERRITE_CACHE for downloads".to_owned()
        }
        _ => return None,
    })
}
