//! A running virtual machine.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::accel;
use crate::admission::{Admission, AdmissionError, Demand, admit};
use crate::argv::{Accelerator, Places, SpecError, arguments, check};
use crate::console::Console;
use crate::emulator::{Emulator, Notice};
use crate::folder::{FolderError, VmFolder, of_user, temporary_root};
use crate::overlay::{self, OverlayError};
use crate::ports;
use crate::process::{Process, Streams};
use crate::qmp::{Qmp, QmpError};
use crate::spec::{AccelChoice, Boot, DiskWrite, START_LIMIT, Serial, VmSpec};
use crate::terminal::{Terminal, may_read};

/// Starts with fresh ports when somebody else took one in between.
const PORT_ATTEMPTS: u32 = 5;
/// What QEMU is counted with beside the guest's memory: its code, device state and the translations of TCG, which grow with use.
const OVERHEAD_MIB: u64 = 128;
/// How long a machine under KVM is watched for `internal-error`: a host that cannot run guests shows it at the first instruction.
const KVM_PROBE: Duration = Duration::from_millis(500);
/// How long QEMU may take to obey `quit`, or SIGTERM.
const QUIT_LIMIT: Duration = Duration::from_secs(3);
/// How long an ordinary command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// A machine that cannot be started or does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The description is wrong.
    #[error("virtual machine {name}")]
    Spec {
        /// Its name.
        name: String,
        /// Cause.
        source: SpecError,
    },
    /// The folder of its sockets and files.
    #[error("folder of the virtual machine")]
    Folder(#[from] FolderError),
    /// The bound on running machines.
    #[error("wait for other virtual machines")]
    Admission(#[from] AdmissionError),
    /// A disk's overlay.
    #[error("overlay of a disk")]
    Overlay(#[from] OverlayError),
    /// A file or process operation.
    #[error("{action}")]
    Io {
        /// What was done.
        action: String,
        /// Cause.
        source: io::Error,
    },
    /// QEMU ended before the machine ran.
    #[error("QEMU did not start {name} ({status}): {messages}")]
    NotStarted {
        /// The machine.
        name: String,
        /// How QEMU ended.
        status: ExitStatus,
        /// What it said.
        messages: String,
    },
    /// The control socket.
    #[error("control of the virtual machine; QEMU said: {messages}")]
    Qmp {
        /// What QEMU printed.
        messages: String,
        /// Cause.
        source: QmpError,
    },
    /// KVM was demanded and does not work here.
    #[error("KVM does not work here: {0}")]
    NoKvm(String),
    /// It runs on.
    #[error("the virtual machine still runs after {limit:?}; its console's last lines:\n{tail}")]
    StillRunning {
        /// How long it was given.
        limit: Duration,
        /// The console's last lines.
        tail: String,
    },
}

fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> VmError {
    move |source| VmError::Io { action: action.into(), source }
}

/// How a machine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The guest powered off.
    Guest,
    /// The guest did not; QEMU was told to quit.
    Quit,
    /// QEMU did not quit either and was killed.
    Killed,
}

/// A running virtual machine. Dropped, it ends at once, as by a power cut; so it does when the caller dies in any way.
#[derive(Debug)]
pub struct Vm {
    // Fields are dropped in this order: the process first, the right to run last.
    process: Process,
    qmp: Qmp,
    console: Console,
    serial: Serial,
    _terminal: Option<Terminal>,
    forwards: Vec<(u16, u16)>,
    accel: Accelerator,
    places: Places,
    folder: VmFolder,
    _admission: Option<Admission>,
}

impl Emulator {
    /// Starts a machine; waits first until the host has room for it ([`admit`]).
    ///
    /// # Errors
    /// The description is wrong, a file is missing, QEMU refuses.
    pub fn start(&self, spec: &VmSpec, serial: Serial) -> Result<Vm, VmError> {
        check(spec).map_err(|source| VmError::Spec { name: spec.name.clone(), source })?;
        let demand = Demand { vms: spec.smp, memory_mib: u64::from(spec.memory_mib) + OVERHEAD_MIB };
        let admission = admit(demand, &|line| self.notice.say(line))?;
        self.start_admitted(spec, serial, Some(admission))
    }

    /// As [`Self::start`] without waiting for room: the caller holds an [`Admission`] for a group, or hands one over.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_admitted(
        &self,
        spec: &VmSpec,
        serial: Serial,
        admission: Option<Admission>,
    ) -> Result<Vm, VmError> {
        let accel = choose_accel(spec.accel, &self.notice)?;
        let terminal = (serial == Serial::Interactive).then(Terminal::remember);
        let mut started = self.try_ports(spec, serial, accel);
        if spec.accel == AccelChoice::Auto && accel == Accelerator::Kvm {
            let why = match &mut started {
                Ok(started) => started.kvm_failure(),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = why {
                self.notice.say(&format!(
                    "KVM failed ({why}): starting again with QEMU's emulation (TCG), which is slower"
                ));
                drop(started);
                started = self.try_ports(spec, serial, Accelerator::Tcg);
            }
        }
        let mut vm = started?;
        vm._terminal = terminal;
        vm._admission = admission;
        Ok(vm)
    }

    fn try_ports(&self, spec: &VmSpec, serial: Serial, accel: Accelerator) -> Result<Vm, VmError> {
        let picks = spec.forwards().any(|forward| forward.host == 0);
        let mut attempt = 1;
        loop {
            let result = self.launch(spec, serial, accel);
            match &result {
                Err(VmError::NotStarted { messages, .. })
                    if picks && attempt < PORT_ATTEMPTS && messages.contains("host forwarding rule") =>
                {
                    attempt += 1;
                }
                _ => return result,
            }
        }
    }

    fn launch(&self, spec: &VmSpec, serial: Serial, accel: Accelerator) -> Result<Vm, VmError> {
        let folder = VmFolder::create(&temporary_root())?;
        let places = self.prepare(spec, serial, accel, &folder)?;
        let spec_error = |source| VmError::Spec { name: spec.name.clone(), source };
        let arguments = arguments(spec, &places).map_err(spec_error)?;
        let mut command = self.program.command();
        for folder in &self.data {
            command.arg("-L").arg(folder);
        }
        command.args(arguments);
        let (streams, console) = match serial {
            Serial::Captured => {
                let (ours, theirs) = UnixStream::pair().map_err(io_error("make a socket for the console"))?;
                let log = console_log(spec, folder.path());
                let console = Console::new(ours, log).map_err(io_error("read the console"))?;
                (Streams::Socket(theirs), console)
            }
            Serial::Interactive => {
                let console = Console::elsewhere().map_err(io_error("make a socket for the console"))?;
                (Streams::Inherited { input: may_read() }, console)
            }
        };
        let mut process = Process::start(command, streams, &messages_file(folder.path()))
            .map_err(io_error(format!("start {}", self.program.path.display())))?;
        let qmp = connect(spec, &places, &mut process, folder.path())?;
        let forwards =
            spec.forwards().map(|forward| forward.guest).zip(places.host_ports.iter().copied()).collect();
        Ok(Vm {
            process,
            qmp,
            console,
            serial,
            _terminal: None,
            forwards,
            accel,
            places,
            folder,
            _admission: None,
        })
    }

    /// Makes the files that the machine needs and decides where everything is.
    fn prepare(
        &self,
        spec: &VmSpec,
        serial: Serial,
        accel: Accelerator,
        folder: &VmFolder,
    ) -> Result<Places, VmError> {
        let dir = folder.path().to_path_buf();
        let wanted: Vec<u16> = spec.forwards().map(|forward| forward.host).collect();
        let free = ports::free(wanted.iter().filter(|&&port| port == 0).count())
            .map_err(io_error("find a free port"))?;
        let mut free = free.into_iter();
        let host_ports =
            wanted.into_iter().map(|port| if port == 0 { free.next().unwrap_or(0) } else { port }).collect();
        let firmware = match (&spec.boot, &self.firmware) {
            (Boot::Firmware { vars }, Some(firmware)) => {
                let store = vars.clone().unwrap_or_else(|| dir.join("vars"));
                provide_vars(&firmware.vars, &store)?;
                Some((firmware.code.clone(), store))
            }
            _ => None,
        };
        let mut overlays = Vec::new();
        for (index, disk) in spec.disks.iter().enumerate() {
            overlays.push(match &disk.write {
                DiskWrite::Direct | DiskWrite::ReadOnly => None,
                DiskWrite::Ephemeral(size) => {
                    let path = dir.join(format!("disk{index}.qcow2"));
                    overlay::create(&path, &disk.path, disk.format, *size)?;
                    Some(path)
                }
                DiskWrite::Overlay(path, size) => {
                    if !path.exists() {
                        overlay::create(path, &disk.path, disk.format, *size)?;
                    }
                    Some(path.clone())
                }
            });
        }
        let places = Places { dir, accel, serial, firmware, overlays, host_ports };
        for (index, item) in spec.fw_cfg.iter().enumerate() {
            folder.write(&places.fw_cfg(index), &item.contents)?;
        }
        for (index, text) in spec.oem_strings.iter().enumerate() {
            folder.write(&places.oem_string(index), text.as_bytes())?;
        }
        Ok(places)
    }
}

fn choose_accel(choice: AccelChoice, notice: &Notice) -> Result<Accelerator, VmError> {
    if choice == AccelChoice::Tcg {
        return Ok(Accelerator::Tcg);
    }
    let detected = accel::detect();
    match (choice, detected.why_not_kvm) {
        (AccelChoice::Kvm, Some(why)) => Err(VmError::NoKvm(why)),
        (AccelChoice::Auto | AccelChoice::Tcg, Some(why)) => {
            notice.say(&format!("without KVM ({why}): using QEMU's emulation (TCG), which is slower"));
            Ok(Accelerator::Tcg)
        }
        (_, None) => Ok(Accelerator::Kvm),
    }
}

fn messages_file(dir: &Path) -> PathBuf {
    dir.join("messages")
}

/// What QEMU printed about itself.
fn messages(dir: &Path) -> String {
    let text = fs::read(messages_file(dir)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() { "nothing".to_owned() } else { text }
}

/// Where the console goes when an expectation fails; outside the VM's folder, which ends with it.
fn console_log(spec: &VmSpec, dir: &Path) -> PathBuf {
    let unique = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let default = || {
        let root = of_user(&temporary_root()).unwrap_or_else(|_| std::env::temp_dir());
        root.join("logs").join(format!("{}-{unique}.log", spec.name))
    };
    spec.console_log.clone().unwrap_or_else(default)
}

/// Copies the firmware's empty variable store to `store` unless there is one, whole or not at all.
fn provide_vars(template: &Path, store: &Path) -> Result<(), VmError> {
    if store.exists() {
        return Ok(());
    }
    let action = || format!("copy the firmware's variable store to {}", store.display());
    let mut name = store.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    let new = store.with_file_name(name);
    // Read and written, not copied: the template's mode may be read-only.
    let copy =
        fs::read(template).and_then(|bytes| fs::write(&new, bytes)).and_then(|()| fs::rename(&new, store));
    copy.map_err(io_error(action()))
}

/// Connects to the control socket as soon as QEMU has made it.
fn connect(spec: &VmSpec, places: &Places, process: &mut Process, dir: &Path) -> Result<Qmp, VmError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let error = match Qmp::connect(&places.qmp(), deadline.saturating_duration_since(Instant::now())) {
            Ok(qmp) => return Ok(qmp),
            Err(error) => error,
        };
        // A QEMU that refuses its arguments closes the socket a moment before it ends.
        let grace = if matches!(error, QmpError::Closed) { QUIT_LIMIT } else { Duration::from_millis(5) };
        if let Some(status) = process.wait(grace).map_err(io_error("wait for QEMU"))? {
            return Err(VmError::NotStarted { name: spec.name.clone(), status, messages: messages(dir) });
        }
        let not_there_yet = matches!(error, QmpError::Io(_));
        if !not_there_yet || Instant::now() >= deadline {
            return Err(VmError::Qmp { messages: messages(dir), source: error });
        }
    }
}

impl Vm {
    /// The captured console; that of an interactive machine says that it is elsewhere and takes nothing.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// The control connection.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The port on 127.0.0.1 that reaches `guest` in the machine.
    pub fn forwarded(&self, guest: u16) -> Option<u16> {
        self.forwards.iter().find(|(port, _)| *port == guest).map(|(_, host)| *host)
    }

    /// The socket of a virtio-serial port.
    pub fn port_path(&self, name: &str) -> PathBuf {
        self.places.port(name)
    }

    /// The accelerator in use.
    pub fn accel(&self) -> Accelerator {
        self.accel
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What QEMU printed about itself until now.
    pub fn messages(&self) -> String {
        messages(self.folder.path())
    }

    /// Resets the machine, as its reset button does.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn reset(&mut self) -> Result<(), VmError> {
        self.command("system_reset")
    }

    /// Waits until QEMU ends: the guest powered off, or rebooted with [`crate::OnReboot::Exit`].
    ///
    /// # Errors
    /// It still runs after `limit` (it is left running).
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, VmError> {
        match self.process.wait(limit).map_err(io_error("wait for QEMU"))? {
            Some(status) => {
                self.console.wait_end(QUIT_LIMIT);
                Ok(status)
            }
            None => Err(VmError::StillRunning { limit, tail: self.tail() }),
        }
    }

    /// Why the machine shut down, in QEMU's words: `guest-shutdown`, `guest-reset`, `host-qmp-quit`, ... `None` while it runs.
    pub fn shutdown_reason(&mut self) -> Option<String> {
        let limit =
            if self.process.ended().ok().flatten().is_some() { COMMAND_LIMIT } else { Duration::ZERO };
        let event = self.qmp.wait_event("SHUTDOWN", limit).ok()?;
        event.data.get("reason").and_then(|reason| reason.as_str()).map(str::to_owned)
    }

    /// Presses the power button and waits for the guest to power off; after `limit` ends QEMU in order, then by force.
    ///
    /// # Errors
    /// QEMU's process is lost to us; the ways above leave no other.
    pub fn powerdown(&mut self, limit: Duration) -> Result<Ending, VmError> {
        // A machine that has ended meanwhile refuses; the wait below tells.
        let pressed = self.command("system_powerdown");
        let waits = if pressed.is_ok() { limit } else { QUIT_LIMIT };
        if self.wait_exit(waits).is_ok() {
            return Ok(Ending::Guest);
        }
        let _ = self.command("quit");
        if self.wait_exit(QUIT_LIMIT).is_ok() {
            return Ok(Ending::Quit);
        }
        self.kill();
        Ok(Ending::Killed)
    }

    /// Ends the machine at once: to the guest, a power cut. What QEMU has not handed to the host's kernel is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn command(&mut self, command: &str) -> Result<(), VmError> {
        let result = self.qmp.execute(command, &json!({}), COMMAND_LIMIT);
        result.map(drop).map_err(|source| VmError::Qmp { messages: self.messages(), source })
    }

    fn tail(&self) -> String {
        self.console.tail()
    }

    /// Watches a machine that was just started under KVM; the reason when KVM cannot run it.
    fn kvm_failure(&mut self) -> Option<String> {
        let deadline = Instant::now() + KVM_PROBE;
        while Instant::now() < deadline {
            match self.qmp.status(COMMAND_LIMIT) {
                Ok(status) if status == "internal-error" => {
                    return Some("QEMU reports internal-error".to_owned());
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(25)),
                Err(error) => return Some(format!("{error}: {}", self.messages())),
            }
        }
        None
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.serial == Serial::Interactive {
            // It has the user's terminal: let it put that in order before it is killed.
            self.process.terminate();
            let _ = self.process.wait(QUIT_LIMIT);
        }
    }
}
