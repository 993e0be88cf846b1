//! [`VmSpec`] to QEMU's command line. Pure: the same description and places give the same arguments.
//!
//! Where QEMU takes JSON (`-blockdev`, `-device`, `-netdev`), JSON is used, so that no character of a path means anything.
//! In the other options a comma ends a value; QEMU reads a doubled one as a comma (`util/keyval.c`), which [`value`] does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::{
    Boot, Disk, DiskAccess, DiskBus, DiskCache, DiskFault, DiskFormat, DiskWrite, Net, OnReboot, Serial,
    VmSpec,
};

/// `errno` of an I/O error (`errno.h`).
const EIO: u32 = 5;

/// A description that cannot be turned into a machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// QEMU's JSON options carry text only.
    #[error("path is not UTF-8: {0:?}")]
    PathNotText(PathBuf),
    /// A name has a character outside its grammar, or is too long.
    #[error("{what} {name:?} is not valid: {rule}")]
    BadName {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// A number is out of range.
    #[error("{what} is {got}, must be {want}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        got: u64,
        /// What it must be.
        want: &'static str,
    },
    /// Text with a NUL or line break, which cannot be an argument.
    #[error("{0} has a control character")]
    ControlCharacter(&'static str),
    /// An overlay's header names a file, and the size is the server's to tell.
    #[error("no overlay over a disk that an NBD server has")]
    OverlayOfServer,
    /// The firmware was not located for a machine that needs it.
    #[error("no UEFI firmware for a machine that boots by it")]
    NoFirmware,
}

/// Which accelerator QEMU is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware.
    Kvm,
    /// Emulation.
    Tcg,
}

/// Where the run-time parts of a VM are, decided before the command line is made.
#[derive(Debug, Clone)]
pub struct Places {
    /// The VM's folder: sockets, fw_cfg files.
    pub dir: PathBuf,
    /// Accelerator.
    pub accel: Accelerator,
    /// Console.
    pub serial: Serial,
    /// Firmware code and this VM's variable store.
    pub firmware: Option<(PathBuf, PathBuf)>,
    /// For each disk, the overlay that takes its writes.
    pub overlays: Vec<Option<PathBuf>>,
    /// For each forward of [`VmSpec::forwards`], the port on the host.
    pub host_ports: Vec<u16>,
}

impl Places {
    /// The control socket.
    pub fn qmp(&self) -> PathBuf {
        self.dir.join("qmp")
    }

    /// File with the bytes of the fw_cfg item number `index`.
    pub fn fw_cfg(&self, index: usize) -> PathBuf {
        self.dir.join(format!("fw_cfg-{index}"))
    }

    /// File with the OEM string number `index`.
    pub fn oem_string(&self, index: usize) -> PathBuf {
        self.dir.join(format!("oem-{index}"))
    }

    /// Socket of a virtio-serial port.
    pub fn port(&self, name: &str) -> PathBuf {
        self.dir.join(format!("port-{name}"))
    }
}

/// A value in a `key=value,...` option: commas doubled.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, SpecError> {
    path.to_str().ok_or_else(|| SpecError::PathNotText(path.to_path_buf()))
}

/// A path as a value in a `key=value,...` option.
fn path_value(path: &Path) -> Result<String, SpecError> {
    Ok(value(text(path)?))
}

/// Checks a description for what QEMU would refuse late or misread.
pub fn check(spec: &VmSpec) -> Result<(), SpecError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = |what, name: &str, max: usize, ok: &dyn Fn(char) -> bool, rule| {
        if name.is_empty() || name.len() > max || !name.chars().all(ok) {
            return Err(SpecError::BadName { what, name: name.to_owned(), rule });
        }
        Ok(())
    };
    name("VM name", &spec.name, 64, &plain, "1 to 64 letters, digits, '.', '_', '-'")?;
    for port in &spec.ports {
        name("port name", port, 24, &plain, "1 to 24 letters, digits, '.', '_', '-'")?;
    }
    for disk in &spec.disks {
        if let Some(serial) = &disk.serial {
            name("disk serial", serial, 20, &plain, "1 to 20 letters, digits, '.', '_', '-'")?;
        }
        if disk.bus == DiskBus::SataCd && disk.write != DiskWrite::ReadOnly {
            return Err(SpecError::BadName {
                what: "CD",
                name: disk.path.display().to_string(),
                rule: "read-only",
            });
        }
        if disk.format == DiskFormat::Nbd
            && matches!(disk.write, DiskWrite::Ephemeral(_) | DiskWrite::Overlay(..))
        {
            return Err(SpecError::OverlayOfServer);
        }
        if let Some(size) = disk.sector_size
            && !matches!(size, 512 | 4096)
        {
            return Err(SpecError::OutOfRange { what: "sector size", got: size.into(), want: "512 or 4096" });
        }
    }
    for item in &spec.fw_cfg {
        let rule = "opt/... of at most 55 letters, digits, '.', '_', '-', '/'";
        name("fw_cfg name", &item.name, 55, &|c| plain(c) || c == '/', rule)?;
        if !item.name.starts_with("opt/") {
            return Err(SpecError::BadName { what: "fw_cfg name", name: item.name.clone(), rule });
        }
    }
    if spec.memory_mib < 32 {
        return Err(SpecError::OutOfRange {
            what: "memory in MiB",
            got: spec.memory_mib.into(),
            want: "32 or more",
        });
    }
    if !(1..=255).contains(&spec.smp) {
        return Err(SpecError::OutOfRange {
            what: "number of processors",
            got: spec.smp.into(),
            want: "1 to 255",
        });
    }
    let mut texts = vec![("cpu", spec.cpu.as_deref()), ("rtc base", spec.rtc_base.as_deref())];
    if let Boot::Direct { append, .. } = &spec.boot {
        texts.push(("kernel command line", Some(append)));
    }
    let s = &spec.smbios;
    texts.extend(
        [&s.manufacturer, &s.product, &s.serial, &s.uuid].map(|field| ("SMBIOS field", field.as_deref())),
    );
    match texts.iter().find(|(_, text)| text.is_some_and(|text| text.chars().any(char::is_control))) {
        Some((what, _)) => Err(SpecError::ControlCharacter(what)),
        None => Ok(()),
    }
}

/// QEMU's arguments, without the program itself.
///
/// # Errors
/// What [`check`] refuses, a path that is not UTF-8, a missing firmware.
pub fn arguments(spec: &VmSpec, places: &Places) -> Result<Vec<String>, SpecError> {
    check(spec)?;
    let mut args = Arguments(Vec::new());
    machine(&mut args, spec, places)?;
    console_and_control(&mut args, spec, places)?;
    // A kernel that is given takes the first place in the boot order itself; a disk that claims it too is refused.
    let boots_from_disk = !matches!(spec.boot, Boot::Direct { .. });
    for (index, disk) in spec.disks.iter().enumerate() {
        let order = Some(index).filter(|_| boots_from_disk);
        add_disk(&mut args, index, disk, order, places)?;
    }
    network(&mut args, spec, places)?;
    guest_data(&mut args, spec, places)?;
    Ok(args.0)
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn option(&mut self, flag: &str, value: impl Into<String>) {
        self.flag(flag);
        self.0.push(value.into());
    }

    fn json(&mut self, flag: &str, value: &Value) {
        self.option(flag, value.to_string());
    }
}

fn machine(args: &mut Arguments, spec: &VmSpec, places: &Places) -> Result<(), SpecError> {
    args.option("-name", spec.name.clone());
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.option("-audiodev", "none,id=audio");
    args.option("-display", "none");
    let flash = match (&spec.boot, &places.firmware) {
        (Boot::Firmware { .. }, Some((code, vars))) => {
            args.json("-blockdev", &pflash("flash-code", code, true)?);
            args.json("-blockdev", &pflash("flash-vars", vars, false)?);
            ",pflash0=flash-code,pflash1=flash-vars"
        }
        (Boot::Firmware { .. }, None) => return Err(SpecError::NoFirmware),
        (Boot::Direct { .. } | Boot::Bios, _) => "",
    };
    args.option("-machine", format!("q35,smm=off,vmport=off{flash}"));
    let (accel, cpu) = match places.accel {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi", "max"),
    };
    args.option("-accel", accel);
    args.option("-cpu", spec.cpu.as_deref().unwrap_or(cpu));
    args.option("-smp", spec.smp.to_string());
    args.option("-m", format!("size={}M", spec.memory_mib));
    if let Some(base) = &spec.rtc_base {
        args.option("-rtc", format!("base={}", value(base)));
    }
    if spec.on_reboot == OnReboot::Exit {
        args.flag("-no-reboot");
    }
    args.json("-device", &json!({"driver": "i6300esb"}));
    args.option("-action", "watchdog=reset");
    args.json("-device", &json!({"driver": "virtio-rng-pci"}));
    if let Boot::Direct { kernel, initrd, append } = &spec.boot {
        args.option("-kernel", text(kernel)?);
        if let Some(initrd) = initrd {
            args.option("-initrd", text(initrd)?);
        }
        args.option("-append", append.clone());
    }
    Ok(())
}

fn pflash(name: &str, path: &Path, read_only: bool) -> Result<Value, SpecError> {
    let file = json!({"driver": "file", "filename": text(path)?, "read-only": read_only});
    Ok(json!({"driver": "raw", "node-name": name, "read-only": read_only, "file": file}))
}

fn console_and_control(args: &mut Arguments, spec: &VmSpec, places: &Places) -> Result<(), SpecError> {
    // A captured console is QEMU's own stdin and stdout: connected before the machine starts, so that no byte is lost.
    match places.serial {
        Serial::Captured => args.option("-chardev", "stdio,id=console,signal=off"),
        Serial::Interactive => {
            args.option("-chardev", "stdio,id=console,mux=on,signal=off");
            args.option("-mon", "chardev=console,mode=readline");
        }
    }
    args.option("-serial", "chardev:console");
    let socket = |id: &str, path: &Path| {
        Ok::<_, SpecError>(format!("socket,id={id},path={},server=on,wait=off", path_value(path)?))
    };
    args.option("-chardev", socket("qmp", &places.qmp())?);
    args.option("-mon", "chardev=qmp,mode=control");
    if !spec.ports.is_empty() {
        args.json("-device", &json!({"driver": "virtio-serial-pci", "id": "ports"}));
    }
    for (index, name) in spec.ports.iter().enumerate() {
        let id = format!("port{index}");
        args.option("-chardev", socket(&id, &places.port(name))?);
        args.json(
            "-device",
            &json!({"driver": "virtserialport", "bus": "ports.0", "chardev": id, "name": name}),
        );
    }
    if let Some(path) = &spec.debugcon {
        args.option("-chardev", format!("file,id=debug,path={}", path_value(path)?));
        args.json("-device", &json!({"driver": "isa-debugcon", "iobase": 0x402, "chardev": "debug"}));
    }
    Ok(())
}

/// Sets a member of a JSON object.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}

fn add_disk(
    args: &mut Arguments,
    index: usize,
    disk: &Disk,
    order: Option<usize>,
    places: &Places,
) -> Result<(), SpecError> {
    let name = format!("disk{index}");
    let overlay = places.overlays.get(index).and_then(Option::as_deref);
    let read_only = disk.write == DiskWrite::ReadOnly;
    let mut node = match overlay {
        None => image(&disk.path, disk.format, disk.cache, read_only)?,
        Some(overlay) => {
            let mut node = image(overlay, DiskFormat::Qcow2, disk.cache, false)?;
            // Given here, so that a name inside the overlay's header never decides what is opened.
            set(&mut node, "backing", image(&disk.path, disk.format, disk.cache, true)?);
            node
        }
    };
    if let Some(log) = &disk.log_writes {
        let log = json!({"driver": "file", "filename": text(log)?});
        node = json!({"driver": "blklogwrites", "file": node, "log": log, "log-sector-size": 512});
    }
    if !disk.faults.is_empty() {
        let faults: Vec<_> = disk.faults.iter().map(fault).collect();
        node = json!({"driver": "blkdebug", "image": node, "inject-error": faults});
    }
    set(&mut node, "node-name", json!(name));
    args.json("-blockdev", &node);
    let mut device = match disk.bus {
        DiskBus::Virtio => json!({"driver": "virtio-blk-pci", "drive": name}),
        // Each has a port of the controller for itself; that of its index is free, whatever the other disks are.
        DiskBus::SataCd => json!({"driver": "ide-cd", "drive": name, "bus": format!("ide.{index}")}),
    };
    if let Some(order) = order.filter(|_| disk.bus == DiskBus::Virtio) {
        set(&mut device, "bootindex", json!(order));
    }
    if let Some(serial) = &disk.serial {
        set(&mut device, "serial", json!(serial));
    }
    if let Some(size) = disk.sector_size {
        set(&mut device, "logical_block_size", json!(size));
        set(&mut device, "physical_block_size", json!(size));
    }
    args.json("-device", &device);
    Ok(())
}

/// A rule of `blkdebug` that holds from the start for as long as the machine runs.
fn fault(fault: &DiskFault) -> Value {
    let access = match fault.access {
        DiskAccess::Read => "read",
        DiskAccess::Write => "write",
    };
    json!({"event": "none", "iotype": access, "sector": fault.sector, "errno": EIO, "once": false, "immediately": false})
}

fn image(path: &Path, format: DiskFormat, cache: DiskCache, read_only: bool) -> Result<Value, SpecError> {
    let driver = match format {
        DiskFormat::Raw | DiskFormat::Nbd => "raw",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vhd => "vpc",
    };
    let cache = match cache {
        DiskCache::Writeback => json!({"direct": false, "no-flush": false}),
        DiskCache::None => json!({"direct": true, "no-flush": false}),
        DiskCache::Unsafe => json!({"direct": false, "no-flush": true}),
    };
    let discard = if read_only { "ignore" } else { "unmap" };
    let common =
        |driver: &str| json!({"driver": driver, "read-only": read_only, "cache": cache, "discard": discard});
    let file = if format == DiskFormat::Nbd {
        let mut server = common("nbd");
        set(&mut server, "server", json!({"type": "unix", "path": text(path)?}));
        server
    } else {
        let mut file = common("file");
        set(&mut file, "filename", json!(text(path)?));
        file
    };
    let mut node = common(driver);
    set(&mut node, "file", file);
    Ok(node)
}

fn network(args: &mut Arguments, spec: &VmSpec, places: &Places) -> Result<(), SpecError> {
    let mut host_ports = places.host_ports.iter();
    for (index, nic) in spec.nics.iter().enumerate() {
        let id = format!("net{index}");
        let backend = match &nic.net {
            Net::User { forwards, restrict } => {
                let forwards: Vec<Value> = forwards
                    .iter()
                    .map(|forward| {
                        let host = host_ports.next().copied().unwrap_or(forward.host);
                        json!({"str": format!("tcp:127.0.0.1:{host}-:{}", forward.guest)})
                    })
                    .collect();
                json!({"type": "user", "id": id, "restrict": restrict, "hostfwd": forwards})
            }
            Net::Stream(path) => {
                json!({"type": "stream", "id": id, "server": false, "addr": {"type": "unix", "path": text(path)?}})
            }
        };
        args.json("-netdev", &backend);
        // No option ROM: firmware brings its own driver, and booting over the network is not wanted.
        let mut device = json!({"driver": "virtio-net-pci", "netdev": id, "romfile": ""});
        if let Some([a, b, c, d, e, f]) = nic.mac {
            set(&mut device, "mac", json!(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")));
        }
        args.json("-device", &device);
    }
    Ok(())
}

fn guest_data(args: &mut Arguments, spec: &VmSpec, places: &Places) -> Result<(), SpecError> {
    for (index, item) in spec.fw_cfg.iter().enumerate() {
        args.option("-fw_cfg", format!("name={},file={}", item.name, path_value(&places.fw_cfg(index))?));
    }
    let s = &spec.smbios;
    let fields = [
        ("manufacturer", &s.manufacturer),
        ("product", &s.product),
        ("serial", &s.serial),
        ("uuid", &s.uuid),
    ];
    let system: String = fields
        .iter()
        .filter_map(|(key, field)| field.as_ref().map(|field| format!(",{key}={}", value(field))))
        .collect();
    if !system.is_empty() {
        args.option("-smbios", format!("type=1{system}"));
    }
    for index in 0..spec.oem_strings.len() {
        args.option("-smbios", format!("type=11,path={}", path_value(&places.oem_string(index))?));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
