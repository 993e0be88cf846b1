//! Hints for errors of a build.

use std::error::Error;
use std::io::ErrorKind;

use super::{DEFECT, of_recipe, supply};
use crate::build::{BuildError, InventoryError};
use crate::disk::LayoutError;
use crate::erofs::{PlanError, WriteError};
use crate::esp::FatError;
use crate::formats::FormatError;
use crate::guest::GuestError;
use crate::modules::{ModulesError, OrderError};
use crate::rootfs::{AccountError, KernelError, RootfsError, StagingError};
use crate::signing::SigningError;
use crate::slotimage::SlotError;
use crate::tree::TreeError;
use crate::trees::TreesError;

const PARTITIONS: &str = "change the sizes in `partitions:`; docs/recipe.md has the limits";
const DROP: &str = "keep the file out with `drop:`, or leave the package out";

/// A hint for a cause that is an error of a build, or of a step of one.
pub fn of(cause: &(dyn Error + 'static)) -> Option<String> {
    let build = cause.downcast_ref().and_then(of_build);
    let step = || {
        None.or_else(|| cause.downcast_ref().and_then(of_guest))
            .or_else(|| cause.downcast_ref().and_then(of_rootfs))
            .or_else(|| cause.downcast_ref().and_then(of_staging))
            .or_else(|| cause.downcast_ref().and_then(of_tree))
            .or_else(|| cause.downcast_ref().and_then(of_kernel))
            .or_else(|| cause.downcast_ref().and_then(of_order))
            .or_else(|| cause.downcast_ref().and_then(of_slot))
            .or_else(|| cause.downcast_ref().map(of_key))
    };
    build.or_else(step)
}

/// Errors are passed on by others without a trace in the chain of causes, so each kind looks into those that it passes on.
fn of_build(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Recipe(error) => of_recipe(error),
        BuildError::Version(problem) => problem.hint.clone(),
        BuildError::Packages(error) => supply::of_packages(error),
        BuildError::Guest(error) => of_guest(error),
        BuildError::Rootfs(error) => of_rootfs(error),
        BuildError::Trees(error) => of_trees(error),
        BuildError::Signing(error) => Some(of_key(error)),
        BuildError::Layout(error) => Some(of_layout(error)),
        BuildError::Plan(error) => Some(of_plan(error)),
        BuildError::Slot(error) => of_slot(error),
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
        BuildError::Fat(error) => of_fat(error),
        _ => None,
    }
}

/// What only a wrong program can lead to, once the system has been ruled out.
pub fn defect(cause: &(dyn Error + 'static)) -> Option<String> {
    let ours = matches!(
        cause.downcast_ref::<BuildError>()?,
        BuildError::Write(WriteError::Content(_))
            | BuildError::Verity(_)
            | BuildError::Slot(_)
            | BuildError::Loader(_)
            | BuildError::Trust(_)
            | BuildError::Fat(_)
            | BuildError::Table(_)
            | BuildError::Rootfs(RootfsError::Kernel(KernelError::Archive(_)))
    );
    ours.then(|| DEFECT.to_owned())
}

fn of_guest(error: &GuestError) -> Option<String> {
    match error {
        GuestError::Cargo { output, .. } => Some(of_cargo(output).to_owned()),
        GuestError::Run { .. } | GuestError::Target { .. } => {
            Some("`ferrite doctor` says what the Rust toolchain lacks and how to get it".to_owned())
        }
        // What to do is in the message.
        _ => None,
    }
}

/// By what cargo and rustc say in the cases that are the machine's and not the source's.
fn of_cargo(output: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if has(&["No space left on device", "Disk quota exceeded"]) {
        "make room, or compile elsewhere: export CARGO_TARGET_DIR=FOLDER"
    } else if has(&["Read-only file system", "Permission denied"]) {
        "compile elsewhere: export CARGO_TARGET_DIR=FOLDER"
    } else if has(&[
        "Cannot allocate memory",
        "out of memory",
        "memory allocation of",
        "SIGKILL",
        "signal: 9",
    ]) {
        "compiling needs more memory than there is: end other programs, raise `ulimit -v`, or export CARGO_BUILD_JOBS=1"
    } else if has(&[
        "failed to download",
        "Could not resolve host",
        "spurious network error",
        "failed to get `",
    ]) {
        "crates come from crates.io: check the network and https_proxy, and run it again"
    } else if has(&["linker `", "failed to find tool", "is not installed"]) {
        "`ferrite doctor` says which compiler is missing and how to get it"
    } else {
        "`ferrite doctor` looks at the toolchain; a clean checkout of Ferrite compiles with it"
    }
}

fn of_rootfs(error: &RootfsError) -> Option<String> {
    match error {
        RootfsError::Staging(error) => of_staging(error),
        RootfsError::Kernel(error) => of_kernel(error),
        RootfsError::NoUnit { .. } => Some(
            "add the package that ships the unit, ship the unit under `files:`, or take it out of `units:`"
                .to_owned(),
        ),
        // What to do is in the message.
        _ => None,
    }
}

fn of_trees(error: &TreesError) -> Option<String> {
    Some(
        match error {
            TreesError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                "paths in `trees: source:` start from the folder of the recipe"
            }
            TreesError::Io { .. } => return None,
            TreesError::Form { .. } => "name a folder, or pack the files: tar -cf NAME.tar -C FOLDER .",
            TreesError::Socket { .. } => "remove the socket, or make it at boot",
            TreesError::Archive { .. } => "pack it anew: tar --sparse --xattrs -cf NAME.tar -C FOLDER .",
            TreesError::Changed => "build again when nothing writes to it any more",
        }
        .to_owned(),
    )
}

fn of_staging(error: &StagingError) -> Option<String> {
    match error {
        StagingError::Tree(error) => of_tree(error),
        StagingError::Account(AccountError::IdTaken { .. }) => {
            Some("give the user or group of the recipe another number".to_owned())
        }
        StagingError::Account(AccountError::Unknown { .. }) => {
            Some("make it under `users:` or `groups:`, or name one that exists".to_owned())
        }
        StagingError::Account(AccountError::Syntax { .. }) | StagingError::NotText { .. } => Some(
            "the package that ships the file is damaged: leave it out, or `replace:` the file".to_owned(),
        ),
        StagingError::TreeEntry { .. } => Some("take the file out of the tree".to_owned()),
        StagingError::HostFile { .. } => {
            Some("paths in `files: source:` start from the folder of the recipe".to_owned())
        }
        // What to do is in the message, or the system's.
        _ => None,
    }
}

fn of_tree(error: &TreeError) -> Option<String> {
    Some(match error {
        TreeError::Conflict { path, .. } => format!(
            "list {path} under `replace:` and the recipe's own file wins (`files:`, `trees:` or `applets:`), keep it out with `drop:`, \
             or leave one of the two out"
        ),
        TreeError::NotADirectory { parent, .. } => {
            format!("keep {parent} out with `drop:`, or leave one of the two packages or files out")
        }
        TreeError::DirectoryNotEmpty { path, .. } => {
            format!("choose another path than {path}, or drop what is in it")
        }
        TreeError::LinkToDirectory { .. } | TreeError::Path { .. } => DROP.to_owned(),
        _ => return None,
    })
}

fn of_kernel(error: &KernelError) -> Option<String> {
    match error {
        KernelError::Tree(error) => of_tree(error),
        KernelError::Order(error) => of_order(error),
        KernelError::Modules(ModulesError::Twice { .. }) => Some(DROP.to_owned()),
        KernelError::Modules(ModulesError::Content { .. }) => None,
        KernelError::Modules(_) => {
            Some("choose another `kernel: package:`; this one's modules cannot be read".to_owned())
        }
        // What to do is in the message, or the system's.
        _ => None,
    }
}

fn of_order(error: &OrderError) -> Option<String> {
    match error {
        OrderError::Unknown { similar, .. } if !similar.is_empty() => None,
        OrderError::Unknown { .. } | OrderError::Missing { .. } => Some(
            "take the module out of `initramfs: modules:`, keep it with `kernel: modules: keep:`, or choose another kernel"
                .to_owned(),
        ),
        OrderError::Cycle { .. } => Some("choose another `kernel: package:`".to_owned()),
    }
}

fn of_layout(error: &LayoutError) -> String {
    match error {
        LayoutError::Unaligned { .. } | LayoutError::TooSmall { .. } | LayoutError::TooLarge => {
            PARTITIONS.to_owned()
        }
    }
}

fn of_plan(error: &PlanError) -> String {
    match error {
        PlanError::Label { .. } => DEFECT.to_owned(),
        PlanError::TooLarge { .. } => "leave things out with `drop:`".to_owned(),
        _ => DROP.to_owned(),
    }
}

fn of_slot(error: &SlotError) -> Option<String> {
    match error {
        SlotError::Text { .. } => Some("shorten `name:` or `version:` of the recipe".to_owned()),
        SlotError::TooSmall { .. } => {
            Some("raise `partitions: usr:`, or leave things out with `drop:`".to_owned())
        }
        SlotError::Parts(_) | SlotError::Io { .. } => None,
    }
}

fn of_fat(error: &FatError) -> Option<String> {
    match error {
        FatError::Format { .. } | FatError::File { .. } => Some(PARTITIONS.to_owned()),
        _ => None,
    }
}

fn of_key(error: &SigningError) -> String {
    match error {
        SigningError::Read { .. } => {
            "paths of keys are relative to the recipe; without `keys: signing:` the development key signs"
                .to_owned()
        }
        SigningError::ChannelRoot(_) => {
            "it is the root.json of a channel folder's metadata; without `keys: channel:` machines trust the development key's channel"
                .to_owned()
        }
        SigningError::Private { .. } => "`openssl genpkey -algorithm ed25519 -out FILE` makes one".to_owned(),
        SigningError::Public { .. } => {
            "`openssl pkey -in PRIVATE -pubout -out FILE` gets it from the private key".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_leads_to_the_machines_part_in_it() {
        for (output, word) in [
            ("error: failed to write x: No space left on device (os error 28)", "make room"),
            ("error: Read-only file system (os error 30)", "CARGO_TARGET_DIR"),
            ("memory allocation of 4096 bytes failed", "memory"),
            ("error: failed to download `x v1`", "crates.io"),
            ("error: linker `cc` not found", "compiler"),
            ("error[E0308]: mismatched types", "checkout"),
        ] {
            assert!(of_cargo(output).contains(word), "{output}");
        }
    }

    #[test]
    fn an_error_below_others_that_leave_no_trace_is_found() {
        let tree = TreeError::NotFound { path: "/x".to_owned() };
        assert_eq!(of(&BuildError::Rootfs(RootfsError::Staging(StagingError::Tree(tree)))), None);
        let changed = of(&BuildError::Trees(TreesError::Changed)).unwrap();
        assert!(changed.contains("build again"), "{changed}");
        let taken = LayoutError::TooLarge;
        assert!(of(&BuildError::Layout(taken)).unwrap().contains("partitions:"));
        let unit = RootfsError::NoUnit { unit: "x.service".to_owned() };
        assert!(of(&BuildError::Rootfs(unit)).unwrap().contains("`units:`"));
    }
}
