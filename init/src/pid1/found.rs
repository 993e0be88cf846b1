//! Units that are found: what is mounted, what is swapped to, which devices there are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use image_config::unit::{UnitKind as FileKind, UnitName, escape_path, unescape_path};

use super::shell::Shell;
use crate::early::uevent::Uevents;
use crate::supervisor::{Event, Level, UnitId, UnitKind};

/// Mounts, with the kernel's word when they change.
const MOUNTS: &str = "/proc/self/mountinfo";
/// Swaps, the same.
const SWAPS: &str = "/proc/swaps";

/// Where the news come from.
#[derive(Debug)]
pub struct Found {
    mounts: File,
    swaps: Option<File>,
    uevents: Option<Uevents>,
}

impl Found {
    /// Opens the kernel's tables.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn open() -> io::Result<Found> {
        Ok(Found {
            mounts: File::open(MOUNTS)?,
            swaps: File::open(SWAPS).ok(),
            uevents: Uevents::open().ok(),
        })
    }

    /// Tables that are polled for `PRI`: they can always be read.
    pub fn tables(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.mounts.as_fd()).chain(self.swaps.as_ref().map(|file| file.as_fd()))
    }

    /// The kernel's device events, which can be read when there are any.
    pub fn devices(&self) -> Option<BorrowedFd<'_>> {
        self.uevents.as_ref().map(AsFd::as_fd)
    }
}

/// Names of the units of all that is mounted and swapped to.
pub fn names() -> BTreeSet<String> {
    let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
    let swaps = fs::read_to_string(SWAPS).unwrap_or_default();
    mount_names(&mounts).chain(swap_names(&swaps)).collect()
}

fn unit_of_path(path: &str, suffix: &str) -> Option<String> {
    let name = format!("{}.{suffix}", escape_path(path)?);
    UnitName::parse(&name).ok().map(|name| name.as_str().to_owned())
}

fn mount_names(text: &str) -> impl Iterator<Item = String> + '_ {
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter_map(|point| unit_of_path(&crate::power::unescape(point), "mount"))
}

fn swap_names(text: &str) -> impl Iterator<Item = String> + '_ {
    let places = text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
    places.filter_map(|place| unit_of_path(&crate::power::unescape(place), "swap"))
}

/// The path that a device unit stands for.
fn device_path(name: &str) -> Option<PathBuf> {
    let bytes = unescape_path(name.strip_suffix(".device")?)?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_owned();
    (path.starts_with("/dev") || path.starts_with("/sys")).then_some(path)
}

impl Shell {
    /// Loads the units of all that is mounted when PID 1 begins.
    pub(super) fn find_first(&mut self) {
        let names = names();
        self.loader.set_found(names.clone());
        self.load(&names.into_iter().collect::<Vec<_>>());
        self.tables_ready();
    }

    /// Something was mounted or unmounted.
    pub(super) fn tables_ready(&mut self) {
        let names = names();
        let fresh: Vec<String> =
            names.iter().filter(|name| self.sup.lookup(name).is_none()).cloned().collect();
        self.loader.set_found(names.clone());
        if !fresh.is_empty() {
            self.load(&fresh);
        }
        for unit in self.sup.ids() {
            let Some(found) = self.sup.unit(unit) else { continue };
            if matches!(found.spec.kind, UnitKind::Mount | UnitKind::Swap) {
                let present = names.contains(&found.spec.name);
                if present != found.present {
                    self.events.push_back(Event::Presence { unit, present });
                }
            }
        }
    }

    /// A device may have come or gone.
    pub(super) fn devices_ready(&mut self) {
        if let Some(uevents) = self.found.as_ref().and_then(|found| found.uevents.as_ref()) {
            uevents.discard();
        }
        self.look_for_devices();
    }

    /// Compares the device units with the devices that there are.
    pub(super) fn look_for_devices(&mut self) {
        for unit in self.sup.devices() {
            let Some(found) = self.sup.unit(unit) else { continue };
            let present = device_path(&found.spec.name).is_some_and(|path| path.exists());
            if present != found.present {
                self.events.push_back(Event::Presence { unit, present });
            }
        }
    }

    /// Whether a job waits for a device: links to devices are made without the kernel's saying so.
    pub(super) fn waits_for_device(&self) -> bool {
        self.sup.job_count() > 0
            && self.sup.devices().any(|id| self.sup.unit(id).is_some_and(|unit| unit.job.is_some()))
    }

    /// Makes the folder that is to be mounted on.
    pub(super) fn make_mount_point(&mut self, unit: UnitId) {
        let Some(file) = self.units.get(&unit) else { return };
        let FileKind::Mount(mount) = &file.kind else { return };
        let Some(place) = mount.mount_point(&file.name) else { return };
        let mode = mount.directory_mode;
        if Path::new(&place).exists() {
            return;
        }
        if let Err(error) = fs::DirBuilder::new().recursive(true).mode(mode).create(&place) {
            self.log_unit(Some(unit), Level::Warning, &format!("cannot make {place}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_become_names_of_units() {
        let mounts = "\
21 1 0:20 / / ro - tmpfs tmpfs ro
24 21 254:5 / /var rw,relatime shared:5 - ext4 /dev/vda5 rw
26 24 7:0 / /var/lib/a\\040b rw - ext4 /dev/loop0 rw
malformed
";
        let names: Vec<String> = mount_names(mounts).collect();
        assert_eq!(names, ["-.mount", "var.mount", "var-lib-a\\x20b.mount"]);
        let swaps = "Filename Type Size Used Priority\n/dev/vda3 partition 1 0 -2\n";
        assert_eq!(swap_names(swaps).collect::<Vec<_>>(), ["dev-vda3.swap"]);
    }

    #[test]
    fn a_device_unit_stands_for_a_path_below_dev_or_sys() {
        assert_eq!(device_path("dev-disk-by\\x2duuid-1.device"), Some("/dev/disk/by-uuid/1".into()));
        assert_eq!(device_path("etc-passwd.device"), None);
    }
}
