//! Every source, in its order. One machine is started again and again with other things around it; each source has an instance of its
//! own, and so everything that happens once happens again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use builder::esp::{FatSpec, fat_volume};
use ferrite_tests::{FileServer, Guest, GuestOptions, Image, joliet, scratch};
use qemu::{Boot, Disk, VmSpec};

use super::{FINAL_UNIT, NETWORK_UNIT, UNIT, cat, status};
use crate::support::{GIB, MIB, options};

/// The minimal image with drivers of CD drives, and with user-data in its OEM partition.
fn image() -> Result<Image> {
    let recipe = Image::minimal_recipe("ferrite-test-sources", |recipe| {
        let modules = "    - drivers/ata/**\n    - drivers/scsi/s*_mod.ko*\n    - drivers/scsi/scsi_*.ko*\n    - drivers/cdrom/**\n";
        let recipe = recipe.replacen("  modules:\n", &format!("  modules:\n{modules}"), 1);
        format!("{recipe}\nuser_data: oem-user-data.yml\n")
    })?;
    fs::write(recipe.with_file_name("oem-user-data.yml"), cloud_config("oem"))?;
    Image::of_recipe(&recipe)
}

/// A cloud-config that says where it was.
fn cloud_config(source: &str) -> String {
    format!(
        "#cloud-config\nhostname: from-{source}\nwrite_files:\n- path: /etc/source\n  content: {source}\n"
    )
}

/// A FAT volume in a file.
fn fat(path: &Path, files: &[(&str, &str)]) -> Result<()> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let spec = FatSpec { bytes: 4 * MIB, label: "CIDATA", volume_id: 7, files: files.collect() };
    let file = fs::File::create(path)?;
    file.set_len(4 * MIB)?;
    Ok(fat_volume(&spec)?.write_to(&file, 0)?)
}

/// What the machine became, and who says so.
fn check(guest: &mut Guest, unit: &str, source: &str, origin: &str) -> Result<()> {
    assert_eq!(cat(guest, "/etc/source")?, source);
    assert_eq!(guest.check("hostname")?.trim(), format!("from-{source}"));
    let status = status(guest, unit)?;
    assert!(status.contains(&format!("{origin}: applied")), "{status}");
    Ok(())
}

#[test]
fn every_source_is_found_and_named_in_its_order() -> Result<()> {
    let (image, folder) = (image()?, scratch()?);
    let path = |name: &str| folder.path().join(name);
    let (disk, seed, drive) = (path("disk.raw"), path("seed.img"), path("drive.iso"));
    image.disk(&disk, GIB)?;
    fat(&seed, &[("meta-data", "instance-id: fat\n"), ("user-data", &cloud_config("volume"))])?;
    let awk = b"#!/usr/bin/awk -f\nBEGIN { print \"by awk\" > \"/var/by-awk\" }\n";
    let metadata =
        br#"{"uuid": "drive", "hostname": "from-drive", "public_keys": {"mine": "ssh-rsa AAAA mine"}}"#;
    let files: [(&str, &[u8]); 2] =
        [("openstack/latest/user_data", awk), ("openstack/latest/meta_data.json", metadata)];
    fs::write(&drive, joliet("config-2", &files))?;
    let server = FileServer::start(BTreeMap::from([
        ("/line.yml".to_owned(), cloud_config("line").into_bytes()),
        ("/seed/meta-data".to_owned(), b"instance-id: web\nlocal-hostname: from-web\n".to_vec()),
        ("/seed/user-data".to_owned(), cloud_config("web").replace("hostname: from-web\n", "").into_bytes()),
    ]))?;
    let with_volumes = |spec: VmSpec| {
        spec.disk(Disk { serial: Some("seed".to_owned()), ..Disk::raw(&seed) }).disk(Disk::cd(&drive))
    };

    // On the kernel's command line, which only `--direct` lets anybody add to.
    let direct = GuestOptions { direct: true, ..options("source-line") };
    let url = server.url("/line.yml");
    let mut guest = Guest::start_with(&disk, &direct, |mut spec| {
        if let Boot::Direct { append, .. } = &mut spec.boot {
            append.push_str(&format!(" cloud-config-url={url}"));
        }
        with_volumes(spec)
    })?;
    guest.wait_for_shell()?;
    check(&mut guest, NETWORK_UNIT, "line", "on the kernel command line")?;
    assert!(status(&mut guest, UNIT)?.contains("goes on, because it is fetched"));
    guest.poweroff()?;

    // In the serial number, by its web server.
    let mut guest = Guest::start_with(&disk, &options("source-web"), |mut spec| {
        spec.smbios.serial = Some(format!("ds=nocloud;s={}", server.url("/seed/")));
        with_volumes(spec)
    })?;
    guest.wait_for_shell()?;
    check(&mut guest, NETWORK_UNIT, "web", &format!("the NoCloud seed {}", server.url("/seed/")))?;
    assert!(guest.check("cat /var/lib/ferrite/user-data/record.json")?.contains("\"web\""));
    guest.poweroff()?;
    assert_eq!(server.asked(), ["/line.yml", "/seed/meta-data", "/seed/user-data"]);

    // A volume on a disk goes before one in a CD drive, whose driver comes later. The machine's own disk has a copy of what the
    // network told, which does not hold against a source that is there.
    let mut guest = Guest::start_with(&disk, &options("source-volumes"), with_volumes)?;
    guest.wait_for_shell()?;
    assert_eq!(
        cat(&mut guest, "/etc/source")?,
        "web",
        "a weaker source does not replace a stronger one's copy"
    );
    assert!(status(&mut guest, UNIT)?.contains("the NoCloud seed http://10.0.2.2"));
    // The boot's other steps write there, too.
    guest.check(&format!("systemctl start {NETWORK_UNIT} {FINAL_UNIT}"))?;
    guest.check(&format!("rm -r /var/lib/ferrite/user-data && systemctl restart {UNIT}"))?;
    check(&mut guest, UNIT, "volume", "the NoCloud volume /dev/vdb")?;
    guest.poweroff()?;

    // A fresh machine waits for the drivers of its storage controllers before it takes what its image brought.
    let fresh = path("drive.raw");
    image.disk(&fresh, GIB)?;
    let mut guest = Guest::start_with(&fresh, &options("source-drive"), |spec| spec.disk(Disk::cd(&drive)))?;
    guest.wait_for_shell()?;
    let status_of_drive = status(&mut guest, UNIT)?;
    assert!(
        status_of_drive.contains("the config-drive /dev/sr0: applied (instance drive)"),
        "{status_of_drive}"
    );
    // It waits for what is started with the boot, and otherwise does nothing.
    guest.check(&format!("systemctl start {FINAL_UNIT}"))?;
    assert_eq!(cat(&mut guest, "/var/by-awk")?, "by awk");
    assert_eq!(guest.check("hostname")?.trim(), "from-drive");
    let keys = cat(&mut guest, "/home/core/.ssh/authorized_keys.d/coreos-cloudinit")?;
    assert_eq!(keys, "ssh-rsa AAAA mine");
    guest.poweroff()?;

    // A fresh machine with nothing around it: what its image brought, until somebody installs something else.
    let disk = path("fresh.raw");
    image.disk(&disk, GIB)?;
    let mut guest = Guest::start(&disk, &options("source-oem"))?;
    guest.wait_for_shell()?;
    check(&mut guest, UNIT, "oem", "cloud-config.yml in the OEM partition")?;
    let text = cloud_config("installed").replace('\n', "\\n");
    guest.check(&format!(
        "mkdir -p /var/lib/coreos-install; printf '%b' '{text}' > /var/lib/coreos-install/user_data"
    ))?;
    guest.check(&format!("systemctl restart {UNIT}"))?;
    check(&mut guest, UNIT, "installed", "/var/lib/coreos-install/user_data")?;
    guest.poweroff()
}
