//! Volumes that the usual tools make for user-data, read as the machine reads them.

use std::fs::{self, File};

use user_data::source::fat;
use user_data::source::iso9660::Iso;

use crate::check;

const FILES: [(&str, &str); 3] = [
    ("user-data", "#cloud-config\n"),
    ("meta-data", "instance-id: one\n"),
    ("openstack/latest/user_data", "#!/bin/sh\n"),
];

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tree/openstack/latest")).unwrap();
    for (path, text) in FILES {
        fs::write(folder.path().join("tree").join(path), text).unwrap();
    }
    folder
}

#[test]
fn volumes_of_genisoimage_are_read_by_rock_ridge_and_by_joliet() {
    let tools = ferrite_tests::Tools::of_packages(&["genisoimage"]).unwrap();
    let folder = tree();
    for (options, label) in
        [(&["-rock"][..], "cidata"), (&["-joliet"], "config-2"), (&["-joliet", "-rock"], "CIDATA")]
    {
        let image = folder.path().join("seed.iso");
        let mut command = tools.command("genisoimage").unwrap();
        command.args(["-quiet", "-volid", label, "-output"]).arg(&image);
        check(command.args(options).arg(folder.path().join("tree")));
        let device = File::open(&image).unwrap();
        let iso = Iso::open(&device).unwrap().unwrap();
        assert!(iso.labels.iter().any(|found| found.eq_ignore_ascii_case(label)), "{:?}", iso.labels);
        for (path, text) in FILES {
            let read = iso.read(&device, path, 100).unwrap();
            assert_eq!(read.as_deref(), Some(text.as_bytes()), "{options:?} {path}");
        }
        assert_eq!(iso.read(&device, "vendor-data", 100).unwrap(), None);
    }
}

#[test]
fn volumes_of_mkfs_vfat_and_mcopy_are_read() {
    let tools = ferrite_tests::Tools::of_packages(&["dosfstools", "mtools"]).unwrap();
    let folder = tree();
    for (kind, mib) in [("12", 2), ("16", 16), ("32", 40)] {
        let image = folder.path().join(format!("fat{kind}.img"));
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        check(tools.command("mkfs.vfat").unwrap().args(["-F", kind, "-n", "CIDATA"]).arg(&image));
        let mut command = tools.command("mcopy").unwrap();
        command.args(["-s", "-i"]).arg(&image);
        for name in ["user-data", "meta-data", "openstack"] {
            command.arg(folder.path().join("tree").join(name));
        }
        check(command.arg("::"));
        let device = File::open(&image).unwrap();
        assert_eq!(fat::label(&device).as_deref(), Some("CIDATA"), "FAT{kind}");
        let paths = FILES.map(|(path, _)| path);
        let read = fat::read(device, &paths, 100).unwrap();
        for ((path, text), found) in FILES.iter().zip(read) {
            assert_eq!(found.as_deref(), Some(text.as_bytes()), "FAT{kind} {path}");
        }
    }
}
