//! What the image of `recipes/ferrite.yaml` weighs.

use std::fs;

use builder::build::{self, Manifest};
use builder::formats::{Format, Identity};
use debian::progress::Silent;
use ferrite_tests::budgets::{Budgets, Fit};
use ferrite_tests::scratch;

use super::*;

#[test]
fn the_product_keeps_its_budgets_of_bytes() {
    let (image, folder) = (Image::ferrite().unwrap(), scratch().unwrap());
    let manifest = Manifest::load(&build::manifest_path(&image.raw)).unwrap();
    let initramfs = manifest.parts.iter().find(|part| part.name == "initramfs").unwrap();
    let loader = Image::inspect(&image.raw).unwrap().loader.unwrap();
    let qcow2 = folder.path().join("image.qcow2");
    let file = File::options().read(true).write(true).create_new(true).open(&qcow2).unwrap();
    // Who the image is does not matter to qcow2, and takes no more room.
    let identity = Identity::new("ferrite", &manifest.version, &manifest.root_hash, manifest.build_time);
    Format::Qcow2.write(&File::open(&image.raw).unwrap(), &file, &identity, &Silent).unwrap();
    let measured = [
        ("slot", manifest.slot_bytes as f64),
        ("qcow2", fs::metadata(&qcow2).unwrap().len() as f64),
        ("initramfs", initramfs.bytes as f64),
        ("loader", loader.bytes as f64),
    ];
    Budgets::load().unwrap().check("bytes", Fit::Tight, &measured).unwrap_or_else(|error| panic!("{error}"));
}
