//! What a virtual machine is made of: a plain description without I/O. [`crate::argv`] turns it into a command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// One virtual machine: a q35 PC with virtio devices, a serial console and a watchdog.
///
/// Built with the methods below, each of which adds one thing:
/// ```
/// use qemu::{Disk, VmSpec};
/// let spec = VmSpec::new("demo", 512, 2).firmware().disk(Disk::raw("/tmp/demo.raw")).user_net([]);
/// assert_eq!(spec.memory_mib, 512);
/// ```
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Shown in `ps` and in the names of kept logs: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub smp: u32,
    /// Which accelerator to use.
    pub accel: AccelChoice,
    /// QEMU's `-cpu`; `None` is `host` with KVM and `max` with TCG.
    pub cpu: Option<String>,
    /// What runs first.
    pub boot: Boot,
    /// Disks in boot order (the first one is `vda`).
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// fw_cfg files for the guest.
    pub fw_cfg: Vec<FwCfg>,
    /// SMBIOS type 1 (system) fields.
    pub smbios: Smbios,
    /// SMBIOS type 11 (OEM strings), such as `io.systemd.credential:...`.
    pub oem_strings: Vec<String>,
    /// virtio-serial ports, each a Unix socket in the VM's folder ([`crate::Vm::port_path`]).
    pub ports: Vec<String>,
    /// What a reset asked for by the guest does.
    pub on_reboot: OnReboot,
    /// Date at which the guest's clock starts, `YYYY-MM-DDThh:mm:ss` in UTC; `None` is now.
    pub rtc_base: Option<String>,
    /// Where the firmware's debug output (port 0x402) goes.
    pub debugcon: Option<PathBuf>,
    /// Where a captured console is written when something fails; `None` is a file in the user's temporary folder.
    pub console_log: Option<PathBuf>,
}

/// Which accelerator a VM shall use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccelChoice {
    /// KVM where it really works, else TCG with one line that says why.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

/// What the machine starts.
#[derive(Debug, Clone)]
pub enum Boot {
    /// UEFI firmware (OVMF). Its variable store is a copy of the firmware's template.
    Firmware {
        /// Keeps the variable store over restarts: made from the template when absent. `None`: a fresh one for this run.
        vars: Option<PathBuf>,
    },
    /// A kernel, without UEFI.
    Direct {
        /// Linux bzImage.
        kernel: PathBuf,
        /// Initial RAM disk.
        initrd: Option<PathBuf>,
        /// Kernel command line.
        append: String,
    },
    /// SeaBIOS and the disks.
    Bios,
}

/// A disk.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Whether the image is written itself.
    pub write: DiskWrite,
    /// virtio serial (`/dev/disk/by-id/virtio-SERIAL`), at most 20 bytes.
    pub serial: Option<String>,
    /// How the host caches it.
    pub cache: DiskCache,
    /// What it hangs on.
    pub bus: DiskBus,
    /// Logical and physical sector size in bytes, when not 512.
    pub sector_size: Option<u32>,
    /// Records every write and flush in this file (raw, in the format of Linux's `dm-log-writes`). The file must exist.
    pub log_writes: Option<PathBuf>,
    /// Sectors that fail.
    pub faults: Vec<DiskFault>,
}

/// A sector of a disk that answers every access of one kind with an I/O error (QEMU's `blkdebug`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFault {
    /// Which accesses fail.
    pub access: DiskAccess,
    /// The sector, of 512 bytes, from the disk's start.
    pub sector: u64,
}

/// A kind of access to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskBus {
    /// virtio.
    #[default]
    Virtio,
    /// A CD drive on the machine's SATA controller, of which there are at most six. The firmware does not boot from it.
    SataCd,
}

/// Format of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// Bytes as they are.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// Virtual Hard Disk of fixed size: the bytes as they are, and a footer of 512 bytes.
    Vhd,
    /// No file: the path is a Unix socket on which an NBD server has the disk as its default export.
    Nbd,
}

/// What happens to an image when the guest writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskWrite {
    /// The image itself is written.
    Direct,
    /// Nothing can be written.
    ReadOnly,
    /// Writes go to a qcow2 overlay that is deleted with the VM. The size in bytes that the guest sees is the larger of this
    /// one and the image's.
    Ephemeral(u64),
    /// Writes go to this qcow2 overlay, created when absent; the size as in `Ephemeral`, used when it is created.
    Overlay(PathBuf, u64),
}

/// How the host caches a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskCache {
    /// Page cache, and the guest's flushes reach the host's disk.
    #[default]
    Writeback,
    /// Past the page cache (`O_DIRECT`).
    None,
    /// Page cache, flushes are dropped: for disks that need not outlive the host's next crash.
    Unsafe,
}

/// A virtio network card.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Six bytes, `None` for QEMU's default.
    pub mac: Option<[u8; 6]>,
    /// What it is plugged into.
    pub net: Net,
}

/// What a network card is plugged into.
#[derive(Debug, Clone)]
pub enum Net {
    /// QEMU's user network: NAT to the host's network, a DHCP server, forwarded ports.
    User {
        /// TCP ports of the host's loopback that reach the guest.
        forwards: Vec<Forward>,
        /// Cuts the guest off from everything but the forwarded ports.
        restrict: bool,
    },
    /// A Unix socket that carries Ethernet frames, each after a 4-byte big-endian length. QEMU connects to it.
    Stream(PathBuf),
}

/// A TCP port of the host's loopback address that reaches a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1; 0 picks a free one ([`crate::Vm::forwarded`] tells which).
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

/// A file that the guest reads through QEMU's fw_cfg device. It never appears on the command line: its bytes go through a
/// file that only the user can read.
#[derive(Clone)]
pub struct FwCfg {
    /// `opt/...`, at most 55 bytes.
    pub name: String,
    /// The bytes.
    pub contents: Vec<u8>,
}

impl std::fmt::Debug for FwCfg {
    // Contents are often secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FwCfg({}, {} bytes)", self.name, self.contents.len())
    }
}

/// SMBIOS type 1 fields.
#[derive(Debug, Clone, Default)]
pub struct Smbios {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Product.
    pub product: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID in lower case with hyphens.
    pub uuid: Option<String>,
}

/// What a reset asked for by the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnReboot {
    /// The machine starts again.
    #[default]
    Reboot,
    /// QEMU ends.
    Exit,
}

/// How the serial console is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// Kept and searched by [`crate::Console`].
    Captured,
    /// On the caller's terminal: Ctrl-A X ends QEMU, Ctrl-A C switches to its monitor, Ctrl-A H lists the rest.
    Interactive,
}

/// How long QEMU may take from its start to answering on its control socket.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

impl VmSpec {
    /// A machine with a serial console, a watchdog, a random number generator, and nothing else.
    pub fn new(name: impl Into<String>, memory_mib: u32, smp: u32) -> Self {
        Self {
            name: name.into(),
            memory_mib,
            smp,
            accel: AccelChoice::Auto,
            cpu: None,
            boot: Boot::Bios,
            disks: Vec::new(),
            nics: Vec::new(),
            fw_cfg: Vec::new(),
            smbios: Smbios::default(),
            oem_strings: Vec::new(),
            ports: Vec::new(),
            on_reboot: OnReboot::Reboot,
            rtc_base: None,
            debugcon: None,
            console_log: None,
        }
    }

    /// Boots by UEFI firmware with a fresh variable store.
    #[must_use]
    pub fn firmware(mut self) -> Self {
        self.boot = Boot::Firmware { vars: None };
        self
    }

    /// Boots by UEFI firmware with a variable store that is kept in `vars`.
    #[must_use]
    pub fn firmware_with_vars(mut self, vars: impl Into<PathBuf>) -> Self {
        self.boot = Boot::Firmware { vars: Some(vars.into()) };
        self
    }

    /// Boots a kernel without UEFI.
    #[must_use]
    pub fn direct(
        mut self,
        kernel: impl Into<PathBuf>,
        initrd: Option<&Path>,
        append: impl Into<String>,
    ) -> Self {
        self.boot = Boot::Direct {
            kernel: kernel.into(),
            initrd: initrd.map(Path::to_path_buf),
            append: append.into(),
        };
        self
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Adds a network card on QEMU's user network with ports `(host, guest)` forwarded; host port 0 picks a free one.
    #[must_use]
    pub fn user_net(mut self, forwards: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let forwards = forwards.into_iter().map(|(host, guest)| Forward { host, guest }).collect();
        self.nics.push(Nic { mac: None, net: Net::User { forwards, restrict: false } });
        self
    }

    /// Adds a network card.
    #[must_use]
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// Adds a fw_cfg file; `name` begins with `opt/`.
    #[must_use]
    pub fn fw_cfg(mut self, name: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        self.fw_cfg.push(FwCfg { name: name.into(), contents: contents.into() });
        self
    }

    /// Sets the accelerator.
    #[must_use]
    pub fn accel(mut self, accel: AccelChoice) -> Self {
        self.accel = accel;
        self
    }

    /// Sets what a reset by the guest does.
    #[must_use]
    pub fn on_reboot(mut self, on_reboot: OnReboot) -> Self {
        self.on_reboot = on_reboot;
        self
    }

    /// The forwarded ports of all cards, in order.
    pub fn forwards(&self) -> impl Iterator<Item = Forward> + '_ {
        self.nics
            .iter()
            .flat_map(|nic| match &nic.net {
                Net::User { forwards, .. } => forwards.as_slice(),
                Net::Stream(_) => &[],
            })
            .copied()
    }
}

impl Disk {
    /// A raw image that the guest writes.
    pub fn raw(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: DiskFormat::Raw,
            write: DiskWrite::Direct,
            serial: None,
            cache: DiskCache::default(),
            bus: DiskBus::default(),
            sector_size: None,
            log_writes: None,
            faults: Vec::new(),
        }
    }

    /// A qcow2 image that the guest writes.
    pub fn qcow2(path: impl Into<PathBuf>) -> Self {
        Self { format: DiskFormat::Qcow2, ..Self::raw(path) }
    }

    /// A CD in a drive.
    pub fn cd(path: impl Into<PathBuf>) -> Self {
        Self { bus: DiskBus::SataCd, ..Self::raw(path).read_only() }
    }

    /// A disk that an NBD server has behind a Unix socket; every write and flush of the guest's reaches the server.
    pub fn nbd(socket: impl Into<PathBuf>) -> Self {
        Self { format: DiskFormat::Nbd, ..Self::raw(socket) }
    }

    /// Keeps the image unchanged: writes live as long as the VM. `size` is the least size in bytes that the guest sees.
    #[must_use]
    pub fn ephemeral(mut self, size: u64) -> Self {
        self.write = DiskWrite::Ephemeral(size);
        self.cache = DiskCache::Unsafe;
        self
    }

    /// Keeps the image unchanged: writes go to a qcow2 file, created when absent with at least `size` bytes.
    #[must_use]
    pub fn overlay(mut self, path: impl Into<PathBuf>, size: u64) -> Self {
        self.write = DiskWrite::Overlay(path.into(), size);
        self
    }

    /// Refuses writes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.write = DiskWrite::ReadOnly;
        self
    }

    /// Sets the virtio serial.
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// Sets how the host caches the disk.
    #[must_use]
    pub fn cache(mut self, cache: DiskCache) -> Self {
        self.cache = cache;
        self
    }
}
