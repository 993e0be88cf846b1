//! Looking for user-data, and waiting for devices that may hold it.

use std::fs;
use std::path::Path;

use crate::apply::units;
use crate::report;
use crate::source::{self, Found, volume};

/// The unit that loads drivers; when it is done, all devices are there.
const COLDPLUG: &str = "ferrite-coldplug.service";
/// PCI's class of storage controllers.
const PCI_STORAGE: &str = "0x01";
/// virtio's number of SCSI controllers; block devices have their driver since the initramfs.
const VIRTIO_SCSI: &str = "0x0008";

/// Finds the source that counts. `waits` says whether devices are worth waiting for that have no driver yet.
pub fn find(root: &Path, waits: bool) -> Option<Found> {
    let mut problems = Vec::new();
    let found = look(root, waits, &mut problems);
    problems.iter().for_each(|problem| report::complain(problem));
    found
}

fn look(root: &Path, waits: bool, problems: &mut Vec<String>) -> Option<Found> {
    if let Some(found) = source::of_firmware(root, problems) {
        return Some(found);
    }
    let devices = volume::devices(root);
    if let Some(found) = source::of_volumes(root, &devices, problems) {
        return Some(found);
    }
    if waits && has_late_devices(root) {
        report::status("waiting for the drivers of storage controllers");
        if let Err(error) = units::job(COLDPLUG, "start", "fail", true) {
            problems.push(error.to_string());
        }
        let new: Vec<String> =
            volume::devices(root).into_iter().filter(|name| !devices.contains(name)).collect();
        if let Some(found) = source::of_volumes(root, &new, problems) {
            return Some(found);
        }
    }
    source::of_disk(root, volume::oem_node(), problems)
}

/// Whether there is a storage controller without a driver: what hangs on it is not to be seen yet.
fn has_late_devices(root: &Path) -> bool {
    let waits = |bus: &str, file: &str, prefix: &str| {
        let devices = fs::read_dir(root.join("sys/bus").join(bus).join("devices"));
        devices.into_iter().flatten().flatten().any(|device| {
            let path = device.path();
            let text = fs::read_to_string(path.join(file)).unwrap_or_default();
            text.starts_with(prefix) && !path.join("driver").exists()
        })
    };
    waits("pci", "class", PCI_STORAGE) || waits("virtio", "device", VIRTIO_SCSI)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_controller_without_a_driver_is_worth_waiting_for() {
        let root = tempfile::tempdir().unwrap();
        let device = |bus: &str, name: &str, file: &str, text: &str| {
            let path = root.path().join("sys/bus").join(bus).join("devices").join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(file), text).unwrap();
            path
        };
        device("pci", "0000:00:02.0", "class", "0x020000\n");
        device("virtio", "virtio0", "device", "0x0002\n");
        assert!(!has_late_devices(root.path()));
        let ahci = device("pci", "0000:00:1f.2", "class", "0x010601\n");
        assert!(has_late_devices(root.path()));
        fs::create_dir(ahci.join("driver")).unwrap();
        assert!(!has_late_devices(root.path()));
        device("virtio", "virtio1", "device", "0x0008\n");
        assert!(has_late_devices(root.path()));
    }
}
