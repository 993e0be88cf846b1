//! `[Mount]`: systemd.mount(5).

use super::exec::ExecContext;
use super::name::{UnitName, escape_path, unescape_path};
use super::reader::{Directive, Ignored, Section};
use super::resources::ResourceControl;
use super::service::KillContext;
use super::setting::Setting;
use super::value::{self, DEFAULT_TIMEOUT, TimeSpan, boolean};

/// Settings of the `[Mount]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `What=`: device, folder or whatever the file system understands; `UUID=` and the like are paths below
    /// `/dev/disk` by now.
    pub what: String,
    /// `Where=`; see [`Mount::mount_point`].
    pub written_where: Option<String>,
    /// `Type=`; `None` is for the kernel's helpers to find out.
    pub file_system: Option<String>,
    /// `Options=`, as written: separated by commas. See [`Mount::has_option`].
    pub options: String,
    /// `SloppyOptions=`: unknown options do not matter.
    pub sloppy_options: bool,
    /// `LazyUnmount=`.
    pub lazy_unmount: bool,
    /// `ForceUnmount=`.
    pub force_unmount: bool,
    /// `ReadWriteOnly=`: no second attempt that is read-only.
    pub read_write_only: bool,
    /// `DirectoryMode=` of folders made on the way; 0o755 unless written.
    pub directory_mode: u32,
    /// `TimeoutSec=`: 90 s unless written.
    pub timeout: TimeSpan,
    /// How a mount program runs.
    pub exec: ExecContext,
    /// What its processes may use up.
    pub resources: ResourceControl,
    /// How it is ended.
    pub kill: KillContext,
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            what: String::new(),
            written_where: None,
            file_system: None,
            options: String::new(),
            sloppy_options: false,
            lazy_unmount: false,
            force_unmount: false,
            read_write_only: false,
            directory_mode: 0o755,
            timeout: DEFAULT_TIMEOUT,
            exec: ExecContext::default(),
            resources: ResourceControl::default(),
            kill: KillContext::default(),
        }
    }
}

/// File systems that live on the network: systemd's `fstype_is_network`.
const NETWORK_FILE_SYSTEMS: [&str; 17] = [
    "afs",
    "ceph",
    "cifs",
    "davfs",
    "gfs",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncp",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "pvfs2",
    "smb3",
    "smbfs",
    "sshfs",
];

/// Mount points that belong to the system itself: systemd's `mount_point_is_api`, but for what lies below `/sys/fs/cgroup`.
const API_MOUNT_POINTS: [&str; 12] = [
    "/",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/proc",
    "/run",
    "/sys",
    "/sys/firmware/efi/efivars",
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/fs/pstore",
    "/sys/kernel/security",
];

impl Mount {
    /// Where it is mounted: as written, else what the unit's name says. `None` when that is no path.
    #[must_use]
    pub fn mount_point(&self, own: &UnitName) -> Option<String> {
        match &self.written_where {
            Some(written) => Some(written.clone()),
            None => String::from_utf8(unescape_path(own.stem())?).ok(),
        }
    }

    /// Whether an option stands alone or with a value among `Options=`.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option.split('=').next() == Some(name))
    }

    /// Whether it waits for the network: by file system, or by `_netdev`.
    #[must_use]
    pub fn is_network(&self) -> bool {
        let kind = self.file_system.as_deref().unwrap_or_default();
        NETWORK_FILE_SYSTEMS.contains(&kind.strip_prefix("fuse.").unwrap_or(kind))
            || self.has_option("_netdev")
    }

    /// Whether it shows a folder a second time.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.has_option("bind") || self.has_option("rbind") || self.file_system.as_deref() == Some("bind")
    }

    /// The device unit that it needs, if it is one of a block device.
    #[must_use]
    pub fn device(&self) -> Option<UnitName> {
        if self.is_bind() { None } else { device_unit(&self.what) }
    }
}

impl Section for Mount {
    const OWN: &'static [Directive<Self>] = &[
        ("What", |mount, it| it.device_node(&mut mount.what)),
        ("Where", |mount, it| it.path(&mut mount.written_where)),
        ("Type", |mount, it| it.optional_text(&mut mount.file_system)),
        ("Options", |mount, it| it.text(&mut mount.options)),
        ("SloppyOptions", |mount, it| it.plain(&mut mount.sloppy_options, boolean)),
        ("LazyUnmount", |mount, it| it.plain(&mut mount.lazy_unmount, boolean)),
        ("ForceUnmount", |mount, it| it.plain(&mut mount.force_unmount, boolean)),
        ("ReadWriteOnly", |mount, it| it.plain(&mut mount.read_write_only, boolean)),
        ("DirectoryMode", |mount, it| it.plain(&mut mount.directory_mode, value::mode)),
        ("TimeoutSec", |mount, it| it.limit_span(&mut mount.timeout)),
    ];

    fn exec(&mut self) -> Option<&mut ExecContext> {
        Some(&mut self.exec)
    }

    fn resources(&mut self) -> Option<&mut ResourceControl> {
        Some(&mut self.resources)
    }

    fn kill(&mut self) -> Option<&mut KillContext> {
        Some(&mut self.kill)
    }

    /// systemd's `mount_verify`.
    fn problem(&self, own: &UnitName) -> Option<&'static str> {
        let Some(place) = self.mount_point(own) else {
            return Some("the mount has no Where= line and no path for a name");
        };
        if escape_path(&place).as_deref() != Some(own.stem()) {
            return Some("Where= does not fit the unit's name, which is the escaped path");
        }
        if API_MOUNT_POINTS.contains(&place.as_str()) || place.starts_with("/sys/fs/cgroup/") {
            return Some("this mount point belongs to the system itself");
        }
        self.what.is_empty().then_some("the mount has no What= line")
    }
}

/// The device unit of a path below `/dev` or `/sys`.
pub(super) fn device_unit(path: &str) -> Option<UnitName> {
    if !(path.starts_with("/dev/") || path.starts_with("/sys/")) {
        return None;
    }
    UnitName::parse(&format!("{}.device", escape_path(path)?)).ok()
}

impl Setting<'_> {
    /// A device or something else to mount: specifiers expanded, `UUID=...` and the like as paths.
    pub fn device_node(&self, slot: &mut String) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        *slot = node_of_tag(&text).unwrap_or(text);
        Ok(())
    }
}

/// The path that udev gives to a device named by `LABEL=`, `UUID=`, `PARTLABEL=` or `PARTUUID=`.
fn node_of_tag(text: &str) -> Option<String> {
    const TAGS: [&str; 4] = ["LABEL", "UUID", "PARTLABEL", "PARTUUID"];
    let (tag, value) = text.split_once('=')?;
    let folder = TAGS.iter().find(|known| **known == tag)?.to_ascii_lowercase();
    let value = match value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) => inner,
        None => value,
    };
    let mut node = format!("/dev/disk/by-{folder}/");
    for c in value.chars() {
        if c.is_ascii_alphanumeric() || !c.is_ascii() || "#+-.:=@_".contains(c) {
            node.push(c);
        } else {
            node.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    (!value.is_empty()).then_some(node)
}
