//! What Ferrite writes, read by the standard tools of each format, and what they write, read by Ferrite.
//!
//! The tools are Debian's, fetched by our own client; nothing of the host is used.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails by panicking is a test that fails"
)]

mod budgets;
mod disk;
mod erofs;
mod etcd_client;
mod etcd_model;
mod etcdctl;
mod ext4_journal;
mod formats;

mod reboot_lock;
mod sbom;
mod slot;
mod trees;
mod tuf;
mod unit_files;
mod user_data;
mod versions;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use builder::inspect::Report;
use ferrite_tests::{Image, Tools};

const MIB: u64 = 1 << 20;

fn tools() -> Tools {
    Tools::of_packages(&["gdisk", "dosfstools", "erofs-utils", "cryptsetup-bin", "cpio", "dpkg"]).unwrap()
}

/// Runs a program; its exit code, and what it printed on both streams.
fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

/// Runs a program that must succeed.
fn check(command: &mut Command) -> String {
    let (code, text) = run(command);
    assert_eq!(code, 0, "{command:?} says:\n{text}");
    text
}

/// Copies a range of a file to a file of its own, with holes for zeroes.
fn extract(from: &Path, offset: u64, bytes: u64, to: &Path) {
    let (source, target) = (File::open(from).unwrap(), File::create(to).unwrap());
    target.set_len(bytes).unwrap();
    let mut buffer = vec![0; MIB as usize];
    for at in (0..bytes).step_by(buffer.len()) {
        let chunk = &mut buffer[..(bytes - at).min(MIB) as usize];
        source.read_exact_at(chunk, offset + at).unwrap();
        if chunk.iter().any(|byte| *byte != 0) {
            target.write_all_at(chunk, at).unwrap();
        }
    }
}

/// One partition of an image in a file of its own.
fn partition(image: &Image, report: &Report, label: &str, folder: &Path) -> PathBuf {
    let found = report.partitions.iter().find(|partition| partition.label == label).unwrap();
    let path = folder.join(label);
    extract(&image.raw, found.offset, found.bytes, &path);
    path
}

/// Flips one bit while `check` runs.
fn with_flipped_bit(path: &Path, at: u64, check: impl FnOnce()) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    check();
    file.write_all_at(&byte, at).unwrap();
}

fn both_images(check: impl Fn(&Image, &Report)) {
    for image in [Image::minimal().unwrap(), Image::ferrite().unwrap()] {
        let report = Image::inspect(&image.raw).unwrap();
        assert!(report.is_good(), "{:?}", report.problems);
        check(&image, &report);
    }
}
