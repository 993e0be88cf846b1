//! What a user can do about an error.

mod build;
mod supply;

use std::error::Error;
use std::io::{self, ErrorKind};

use image_config::recipe::RecipeError;
use qemu::admission::AdmissionError;
use qemu::argv::SpecError;
use qemu::overlay::OverlayError;
use qemu::{FolderError, SystemError, VmError};

use crate::direct::DirectError;
use crate::formats::OpenError;
use crate::inspect::InspectError;

/// For what cannot happen unless a program of ours is wrong.
const DEFECT: &str =
    "this is a defect of Ferrite, not of the recipe: please report it, with this message and the recipe";
const NAME_THE_IMAGE: &str = "`ferrite build` prints the path of the image that it makes";
const BUILD_ANEW: &str =
    "`ferrite build` makes a sound image; `ferrite inspect` says what is wrong with this one";

/// A hint for an error, by the first of its causes that there is one for; what the system refused comes last, since it is
/// the least specific.
pub fn of(error: &anyhow::Error) -> Option<String> {
    let io = || error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).and_then(of_io);
    error.chain().find_map(of_cause).or_else(io).or_else(|| error.chain().find_map(build::defect))
}

fn of_cause(cause: &(dyn Error + 'static)) -> Option<String> {
    None.or_else(|| build::of(cause))
        .or_else(|| supply::of(cause))
        .or_else(|| of_image(cause))
        .or_else(|| of_machine(cause))
}

/// Reading images and recipes.
fn of_image(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref() {
        return of_recipe(error);
    }
    if let Some(error) = cause.downcast_ref::<InspectError>() {
        return match error {
            InspectError::Open(error) => of_open(error),
            InspectError::NotAnImage { .. } => Some(NAME_THE_IMAGE.to_owned()),
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return of_open(error);
    }
    match cause.downcast_ref::<DirectError>()? {
        DirectError::Open(error) => of_open(error),
        DirectError::Io { .. } => None,
        DirectError::NoTable { .. }
        | DirectError::NoSlot { .. }
        | DirectError::Footer(_)
        | DirectError::CommandLine => Some(BUILD_ANEW.to_owned()),
    }
}

/// Loading a recipe; what is wrong in one has its hints with the findings.
fn of_recipe(error: &RecipeError) -> Option<String> {
    match error {
        RecipeError::Read { source, .. } if source.kind() == ErrorKind::NotFound => Some(
            "recipes of Ferrite are in recipes/ of the checkout; --recipe FILE names one of your own"
                .to_owned(),
        ),
        RecipeError::Read { .. } | RecipeError::Invalid(_) => None,
    }
}

/// Opening an image.
fn of_open(error: &OpenError) -> Option<String> {
    match error {
        OpenError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            Some(NAME_THE_IMAGE.to_owned())
        }
        OpenError::Io { source, .. } if source.kind() == ErrorKind::IsADirectory => {
            Some("name an image in it: .raw, .qcow2, .raw.zst, .vhd or .usr".to_owned())
        }
        error => error.hint().map(str::to_owned),
    }
}

/// Running machines.
fn of_machine(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<SystemError>() {
        return Some(match error {
            SystemError::NotFound | SystemError::TooOld { .. } => "leave --system-qemu out".to_owned(),
            SystemError::Run { .. } | SystemError::NoVersion { .. } => {
                "mend the QEMU of this system, or leave --system-qemu out".to_owned()
            }
        });
    }
    if let Some(error) = cause.downcast_ref::<VmError>() {
        return match error {
            VmError::NoKvm(_) => Some("--accel auto emulates where KVM does not work; `ferrite doctor` says how to get it".to_owned()),
            VmError::NotStarted { .. } | VmError::Qmp { .. } => Some(
                "QEMU's own words above say why; less --memory often helps, and `ferrite doctor` looks at this machine"
                    .to_owned(),
            ),
            VmError::StillRunning { .. } => Some("the console's last lines say what it waits for".to_owned()),
            VmError::Spec { .. } | VmError::Folder(_) | VmError::Admission(_) | VmError::Overlay(_) | VmError::Io { .. } => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<AdmissionError>() {
        return match error {
            AdmissionError::BadSlots(_) => Some("export FERRITE_VM_SLOTS=2, or unset it".to_owned()),
            AdmissionError::Folder(_) | AdmissionError::Io { .. } => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<FolderError>() {
        return match error {
            FolderError::NotOurs(path) => {
                Some(format!("remove {}, or point TMPDIR to a folder of your own", path.display()))
            }
            FolderError::Io { .. } => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<OverlayError>() {
        return match error {
            OverlayError::NotQcow2(_) => {
                Some("--reset throws away what earlier runs wrote and starts anew".to_owned())
            }
            OverlayError::NotVhd(_) => Some(BUILD_ANEW.to_owned()),
            OverlayError::TooLarge { .. } => Some("choose a smaller --disk-size".to_owned()),
            // Only tests have disks that are no files.
            OverlayError::NoFile(_) | OverlayError::Io { .. } => None,
        };
    }
    match cause.downcast_ref::<SpecError>()? {
        SpecError::PathNotText(_) | SpecError::BadName { .. } | SpecError::ControlCharacter(_) => {
            Some("rename or move the image: QEMU takes paths of plain text only".to_owned())
        }
        SpecError::OverlayOfServer => None,
        SpecError::OutOfRange { .. } => Some("`ferrite run --help` has the limits of each option".to_owned()),
        SpecError::NoFirmware => {
            Some("install the package ovmf or edk2-ovmf, leave --system-qemu out, or use --direct".to_owned())
        }
    }
}

fn of_io(error: &io::Error) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room, or write elsewhere: --out for images, FERRITE_CACHE for downloads, CARGO_TARGET_DIR for programs"
                .to_owned()
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "--out and FERRITE_CACHE name folders: something else has that name, or a part of it".to_owned()
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "write elsewhere: --out for images, FERRITE_CACHE for downloads, CARGO_TARGET_DIR for programs; `ferrite doctor` \
             says what may be written"
                .to_owned()
        }
        ErrorKind::NotFound => "check the path: it is looked up from the folder that the command runs in".to_owned(),
        ErrorKind::OutOfMemory => "end other programs, or raise `ulimit -v`".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "raise the number of open files: ulimit -n 1024".to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::Context as _;

    use super::*;

    fn hint(error: impl Error + Send + Sync + 'static) -> String {
        of(&Err::<(), _>(error).context("cannot do it").unwrap_err()).unwrap_or_default()
    }

    #[test]
    fn the_hint_is_that_of_the_most_specific_cause() {
        let open = |kind: ErrorKind| {
            InspectError::Open(OpenError::Io { path: PathBuf::from("x"), source: kind.into() })
        };
        assert!(hint(open(ErrorKind::NotFound)).contains("ferrite build"));
        assert!(hint(open(ErrorKind::IsADirectory)).contains(".raw"));
        assert!(hint(open(ErrorKind::PermissionDenied)).contains("elsewhere"));
        assert!(hint(DirectError::CommandLine).contains("ferrite inspect"));
        assert!(hint(VmError::NoKvm("no".to_owned())).contains("--accel auto"));
        assert!(hint(SystemError::NotFound).contains("--system-qemu"));
        assert!(hint(io::Error::from(ErrorKind::StorageFull)).contains("--out"));
        assert!(hint(io::Error::from_raw_os_error(24)).contains("ulimit -n"));
        assert_eq!(hint(io::Error::other("odd")), "");
    }
}
