//! What may take how much room in an image.

use std::fmt;

use super::names::{ImagePath, PackageName};
use super::sizes::ByteSize;

/// A limit to what something takes in the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// What is limited.
    pub subject: Subject,
    /// The most that it may take.
    pub at_most: ByteSize,
}

/// What a budget limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The files of a package.
    Package(PackageName),
    /// A file, or a folder and all in it; a path of the running system, in `/usr` or `/etc`.
    Path(ImagePath),
    /// A part of the slot, or the whole.
    Part(Part),
}

/// A part of the slot that can have a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All parts and the footer: the slot image.
    Slot,
    /// The file system of `/usr`.
    Usr,
    /// The hash tree over it.
    Verity,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
}

impl Part {
    /// Every part, in the order of the slot.
    pub const ALL: [Self; 5] = [Self::Slot, Self::Usr, Self::Verity, Self::Kernel, Self::Initramfs];

    /// As recipes and manifests write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Usr => "usr",
            Self::Verity => "verity",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(f, "package {name}"),
            Self::Path(path) => write!(f, "path {path}"),
            Self::Part(part) => write!(f, "part {}", part.name()),
        }
    }
}
