//! What a process does to its own control group before it becomes its program: `Delegate=`, and the settings that name
//! devices, whose files may be slow to look at.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::path::Path;

use image_config::unit::ResourceControl;

use super::identity::Identity;
use super::{Context, Step, code};

/// What the user of a delegated group needs to own, `cgroup-v2` "Model of Delegation", beside the folder.
const DELEGATED: [&str; 4] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "memory.oom.group"];

/// Gives the group to the unit's user, if it is delegated.
pub(super) fn delegate(control: &ResourceControl, group: Option<&Path>, identity: &Identity) -> Step<()> {
    let (Some(_), Some(group), Some((user, gid))) = (&control.delegate, group, identity.owner()) else {
        return Ok(());
    };
    let give = |path: &Path| chown(path, Some(user), Some(gid));
    for folder in [Some(group.to_owned()), control.delegate_subgroup.as_ref().map(|name| group.join(name))] {
        let Some(folder) = folder else { continue };
        give(&folder).step(code::RESOURCES, "Delegate=")?;
        for file in DELEGATED {
            match give(&folder.join(file)) {
                // That of a controller which is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.step(code::RESOURCES, "Delegate=")?,
            }
        }
    }
    Ok(())
}

/// Limits of input and output by device. A device that is not there is limited by that; systemd too goes on.
pub(super) fn limit_devices(control: &ResourceControl, group: Option<&Path>) {
    let Some(group) = group else { return };
    let mut limits: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
    for (path, kind, limit) in &control.io_limits {
        let limit = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
        let word = format!("{}={limit}", kind.key());
        device_of(Path::new(path)).map(|device| limits.entry(device).or_default().push(word));
    }
    let limits = limits
        .into_iter()
        .map(|((major, minor), words)| ("io.max", format!("{major}:{minor} {}", words.join(" "))));
    let by_device = |path: &str, text: String| {
        device_of(Path::new(path)).map(|(major, minor)| format!("{major}:{minor} {text}"))
    };
    let weights = control
        .io_device_weights
        .iter()
        .filter_map(|(path, weight)| Some(("io.weight", by_device(path, weight.to_string())?)));
    let latencies = control
        .io_latencies
        .iter()
        .filter_map(|(path, us)| Some(("io.latency", by_device(path, format!("target={us}"))?)));
    for (file, text) in limits.chain(weights).chain(latencies) {
        let _has_no_such_controller = fs::write(group.join(file), text);
    }
}

/// The whole disk that a device or file is on, by its numbers.
fn device_of(path: &Path) -> Option<(u32, u32)> {
    let found = fs::metadata(path).ok()?;
    let number = if found.file_type().is_block_device() { found.rdev() } else { found.dev() };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    // A partition has no limits of its own: those of its disk hold (linux, block/blk-cgroup.c).
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if !folder.join("partition").exists() {
        return Some((major, minor));
    }
    let text = fs::read_to_string(folder.parent()?.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
