//! Recipe to bootable disk image: the file tree and the formats that an image is made of.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that fails by panicking is a test that fails"
    )
)]

pub mod bench;
pub mod build;
pub mod cli;
pub mod cluster;
pub mod cpio;
pub mod direct;
pub mod disk;
pub mod doctor;
pub mod erofs;
pub mod esp;
pub mod explain;
pub mod folders;
pub mod formats;
pub mod gptimage;
pub mod guest;
pub mod inspect;
pub mod json;
pub mod keys;
pub mod licence;
pub mod modules;
pub mod packages;
pub mod parts;
pub mod payload;
pub mod publish;
pub mod rootfs;
pub mod sbom;
pub mod selfcheck;
pub mod signing;
pub mod slotimage;
pub mod sparse;
pub mod sshkey;
pub mod tree;
pub mod trees;
pub mod userdata;
pub mod verity;
