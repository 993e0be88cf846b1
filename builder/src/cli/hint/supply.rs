//! Hints for errors of Debian's archive, the cache and the emulator that comes from there. Failed downloads and what an
//! offline cache lacks have their advice in their own text.

use std::error::Error;

use debian::archive::ArchiveError;
use debian::cache::CacheError;
use debian::extract::ExtractError;
use debian::http::FetchError;
use debian::resolve::ResolveError;
use debian::unpack::{Problem, UnpackError};
use image_config::lock::LockFileError;
use qemu::toolbox::ToolboxError;

use super::DEFECT;
use crate::packages::PackagesError;

const FETCH_AGAIN: &str = "run it again without --offline: what is damaged is fetched again; if it stays so, name another \
                           mirror with --mirror";
const LATER: &str = "the mirror is being updated, or serves garbage: try again in some minutes, or name another with --mirror";

/// A hint for a cause that is an error of the supply.
pub fn of(cause: &(dyn Error + 'static)) -> Option<String> {
    None.or_else(|| cause.downcast_ref().and_then(of_packages))
        .or_else(|| cause.downcast_ref().and_then(of_archive))
        .or_else(|| cause.downcast_ref().and_then(of_resolve))
        .or_else(|| cause.downcast_ref().and_then(of_fetch))
        .or_else(|| cause.downcast_ref().and_then(of_cache))
        .or_else(|| cause.downcast_ref().and_then(of_unpack))
        .or_else(|| cause.downcast_ref().and_then(of_toolbox))
}

/// A hint for an error of a recipe's packages.
pub fn of_packages(error: &PackagesError) -> Option<String> {
    match error {
        PackagesError::Resolve(error) => of_resolve(error),
        PackagesError::Archive(error) => of_archive(error),
        PackagesError::Unpack(error) => of_unpack(error),
        PackagesError::Index(_) => Some(LATER.to_owned()),
        PackagesError::Version { .. } => {
            Some("write a Debian version such as 1.2-3 under `provides:`, or none; `ferrite lock` writes lock files".to_owned())
        }
        PackagesError::Keys(_) | PackagesError::NotLockable { .. } | PackagesError::NoLockable(_) => {
            Some(DEFECT.to_owned())
        }
        PackagesError::LockFile(LockFileError::Invalid(_)) => {
            Some("`ferrite lock` writes the file anew".to_owned())
        }
        // The rest has its advice in its text, or is the system's.
        PackagesError::LockFile(LockFileError::Read { .. })
        | PackagesError::NoLock { .. }
        | PackagesError::OtherRecipe { .. }
        | PackagesError::Dropped { .. }
        | PackagesError::NoClosure { .. } => None,
    }
}

fn of_archive(error: &ArchiveError) -> Option<String> {
    match error {
        ArchiveError::Signature { .. } | ArchiveError::Release { .. } => Some(FETCH_AGAIN.to_owned()),
        ArchiveError::BadIndex { .. } | ArchiveError::Index(_) => Some(LATER.to_owned()),
        ArchiveError::Key(_) | ArchiveError::ForeignPackage { .. } => Some(DEFECT.to_owned()),
        ArchiveError::Fetch(error) => of_fetch(error),
        ArchiveError::Cache(error) => of_cache(error),
        ArchiveError::Unpack(error) => of_unpack(error),
        ArchiveError::Resolve(error) => of_resolve(error),
        ArchiveError::Extract(ExtractError::NotEmpty(_)) => {
            Some("name a folder that is empty or does not exist".to_owned())
        }
        // The rest has its advice in its text.
        _ => None,
    }
}

fn of_fetch(error: &FetchError) -> Option<String> {
    match error {
        FetchError::NoMirror { .. } => {
            Some("name a mirror with --mirror, or under `debian: mirrors:` of the recipe".to_owned())
        }
        FetchError::Client(_) => Some("check http_proxy, https_proxy and SSL_CERT_FILE".to_owned()),
        FetchError::Cache(error) => of_cache(error),
        FetchError::AllMirrors { .. } => None,
    }
}

fn of_cache(error: &CacheError) -> Option<String> {
    match error {
        CacheError::Mismatch { .. } => Some(FETCH_AGAIN.to_owned()),
        CacheError::Io { .. } => None,
    }
}

fn of_unpack(error: &UnpackError) -> Option<String> {
    match &*error.source {
        Problem::Ar(_) | Problem::Format(_) | Problem::Tar { .. } | Problem::Control(_) => {
            Some(format!("remove {} and run it again, or leave the package out", error.path.display()))
        }
        // The rest has its advice in its text, or is the system's.
        Problem::Cache(error) => of_cache(error),
        Problem::Read(_) | Problem::Tampered { .. } => None,
    }
}

fn of_resolve(error: &ResolveError) -> Option<String> {
    Some(match error {
        ResolveError::UnknownPackage { similar, .. } if similar.is_empty() => {
            "packages are searched for in the `suites` and `components` of the recipe".to_owned()
        }
        ResolveError::UnknownPackage { .. } => return None,
        ResolveError::UnknownVersion { .. } => "ask for a version that there is, or for none".to_owned(),
        ResolveError::Unsatisfiable { .. } => {
            "leave the package out, add a suite that has what is missing, or list it under `provides:` when the image \
             does without it"
                .to_owned()
        }
        ResolveError::Conflict { .. } => "leave one of them out of the recipe".to_owned(),
        ResolveError::Index(_) => LATER.to_owned(),
    })
}

fn of_toolbox(error: &ToolboxError) -> Option<String> {
    match error {
        ToolboxError::List(_) | ToolboxError::Key(_) => Some(DEFECT.to_owned()),
        ToolboxError::NoPackage(_) | ToolboxError::DoesNotStart { .. } => {
            Some("install qemu-system-x86 and ovmf of this system, and use --system-qemu".to_owned())
        }
        ToolboxError::Index(_) => Some(LATER.to_owned()),
        ToolboxError::Unpack { .. } => Some(FETCH_AGAIN.to_owned()),
        // The rest has its advice in its text, or is another error's.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_others_pass_on_keep_their_hint() {
        let unknown =
            || ResolveError::UnknownPackage { name: "x".to_owned(), suites: "s".to_owned(), similar: vec![] };
        for error in
            [PackagesError::Resolve(unknown()), PackagesError::Archive(ArchiveError::Resolve(unknown()))]
        {
            assert!(of(&error).unwrap().contains("`suites`"), "{error}");
        }
        let none = FetchError::NoMirror { path: "x".to_owned() };
        assert!(of(&PackagesError::Archive(ArchiveError::Fetch(none))).unwrap().contains("--mirror"));
        assert!(of(&ToolboxError::NoPackage("x".to_owned())).unwrap().contains("--system-qemu"));
    }
}
