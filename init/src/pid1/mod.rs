//! PID 1: the epoll loop around the supervisor.
//!
//! `shell` is the loop, `execute` carries out the supervisor's effects, `load` finds unit files, `process` turns a
//! command line of a unit into a process, `server` answers `systemctl`. Nothing here decides when a unit starts or stops:
//! that is [`crate::supervisor`]'s.

mod accounts;
mod button;
pub mod cgroup;
mod collect;
mod compare;
mod conditions;
mod console;
mod execute;
mod fd_store;
mod found;
mod health;
mod hooks;
mod inputs;
mod journal;
mod listen;
mod load;
pub mod logs;
pub mod manager;
mod milestones;
mod notify;
mod path_units;
mod paths;
mod process;
mod properties;
mod reexec;
mod relief;
mod server;
mod shell;
mod socket_units;
mod spare;
mod timer_units;
mod translate;
mod trigger_effects;
mod variables;
mod views;
mod watches;
pub mod zones;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use image_config::unit::{System, parse_environment_file};

use self::conditions::Facts;
use self::console::Console;
use self::health::Health;
use self::load::Loader;
use self::logs::FileSink;
use self::shell::{Setup, Shell};
use crate::boot::{self, BootInfo, marks};
use crate::control::CONTROL_SOCKET;
use crate::early::watchdog::Watchdog;
use crate::power;
use crate::supervisor::{JobKind, Level, Mode, PowerAction};
use crate::sys::signals;

/// What a boot starts unless the kernel's command line says otherwise.
const DEFAULT_TARGET: &str = "default.target";
/// What stands in for a missing `default.target`.
const FALLBACK_TARGET: &str = "multi-user.target";
/// How long the reason of a fatal error stays on the console before the machine reboots.
const FATAL_PAUSE: Duration = Duration::from_secs(10);

/// Runs PID 1; does not return on a real machine.
pub fn run() -> ExitCode {
    // A panic must not end PID 1, and with it the machine, without a word.
    let trial = fs::read_to_string("/proc/cmdline")
        .is_ok_and(|line| line.split_whitespace().any(|word| word == "ferrite.trial=1"));
    match catch_unwind(AssertUnwindSafe(supervise)) {
        Ok(Ok((action, watchdog))) => power::finish(action, watchdog),
        Ok(Err(error)) => emergency(&format!("PID 1 cannot start: {error}"), trial),
        Err(_) => emergency("PID 1 has a bug and cannot go on", trial),
    }
}

/// The whole life of PID 1 up to the last unit's end.
fn supervise() -> std::io::Result<(PowerAction, Option<Watchdog>)> {
    signals::ctrl_alt_del_is_a_signal();
    let handover = reexec::Handover::take();
    let info = if handover.is_some() { boot::again() } else { boot::setup() };
    let facts = Facts {
        command_line: fs::read_to_string("/proc/cmdline").unwrap_or_default().trim().to_owned(),
        first_boot: false,
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        virtualization: virtualization(),
    };
    let mut info = info;
    if let Err(error) = process::have_many_open_files() {
        info.warnings.push(format!("limit of open files: {error}"));
    }
    if let Err(error) = crate::sys::loopback::bring_up() {
        info.warnings.push(format!("loopback link: {error}"));
    }
    let quiet = facts.command_line.split_whitespace().any(|word| word == "quiet");
    let now = shell::now();
    let resumes = matches!(handover, Some(Ok(_)));
    if let Some(Err(error)) = &handover {
        info.warnings.push(format!("the state of the service manager is lost, units begin anew: {error}"));
    }
    let journal = journal::JournalPorts::open(Path::new("/"))
        .map_err(|error| info.warnings.push(format!("no journal, logging to {}: {error}", logs::LOG_FILE)))
        .ok();
    let log: Box<dyn logs::LogSink> = match journal {
        Some(_) => Box::new(journal::JournalSink::new(Path::new("/"))),
        None => Box::new(FileSink::new(Path::new(logs::LOG_FILE))),
    };
    let mut shell = Shell::new(Setup {
        root: PathBuf::from("/"),
        loader: loader(&info),
        facts: facts.clone(),
        log,
        journal,
        console: Console::open(quiet),
        with_cgroups: true,
        notify_path: PathBuf::from(notify::NOTIFY_SOCKET),
        control_path: PathBuf::from(CONTROL_SOCKET),
        health: match &handover {
            Some(Ok(handover)) => Health::resume(now, handover.deadlines),
            _ => Health::begin(now, info.trial),
        },
        handover: handover.and_then(Result::ok),
    })?;
    if resumes {
        let action = shell.run();
        return Ok((action, shell.finish()));
    }
    for warning in &info.warnings {
        shell.console.note(format_args!("warning: {warning}"));
        shell.say(Level::Warning, warning);
    }
    if info.trial && !shell.health.has_watchdog() {
        shell.say(Level::Warning, "no watchdog: a hang of the kernel will not lead to a fallback");
    }
    start_default(&mut shell, &facts.command_line);
    let action = shell.run();
    Ok((action, shell.finish()))
}

/// Starts what the boot is for; when even that is impossible, a shell to repair it with.
fn start_default(shell: &mut Shell, command_line: &str) {
    let wanted = command_line.split_whitespace().rev().find_map(|word| match word {
        "single" | "rescue" | "1" | "S" => Some("rescue.target"),
        "emergency" => Some("emergency.target"),
        word => word.strip_prefix("systemd.unit="),
    });
    let candidates =
        wanted.into_iter().chain([DEFAULT_TARGET, FALLBACK_TARGET, "rescue.target", "emergency.target"]);
    for target in candidates {
        match shell.request(target, JobKind::Start, Mode::Replace) {
            Ok(_) => {
                marks::expect(&shell.expected_marks());
                return;
            }
            Err(error) => {
                shell.say(Level::Error, &format!("{target}: {error}"));
                if target != DEFAULT_TARGET {
                    shell.console.bad(format_args!("{target}: {error}"));
                }
            }
        }
    }
}

/// The image's units, with a login prompt on every serial console that the kernel uses.
fn loader(info: &BootInfo) -> Loader {
    let mut loader = Loader::new(Path::new("/"), system(info));
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let serial = |name: &&str| ["ttyS", "ttyAMA", "hvc", "ttyUSB"].iter().any(|kind| name.starts_with(kind));
    for console in active.split_whitespace().filter(serial) {
        loader.want("getty.target", &format!("serial-getty@{console}.service"));
    }
    loader
}

/// What specifiers in unit files stand for on this machine.
fn system(info: &BootInfo) -> System {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let release = parse_environment_file(&text.unwrap_or_default());
    let field = |name: &str| {
        release.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    System {
        host_name: info.hostname.clone(),
        pretty_host_name: String::new(),
        machine_id: info.machine_id.clone(),
        boot_id: boot_id.trim().replace('-', ""),
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        architecture: "x86-64".to_owned(),
        os_id: field("ID"),
        os_version_id: field("VERSION_ID"),
        os_build_id: field("BUILD_ID"),
        os_variant_id: field("VARIANT_ID"),
        image_id: field("IMAGE_ID"),
        image_version: field("IMAGE_VERSION"),
    }
}

/// The hypervisor by what the firmware calls the machine; systemd's names.
fn virtualization() -> String {
    let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    match vendor.trim() {
        "QEMU" => "qemu",
        "VMware, Inc." => "vmware",
        "innotek GmbH" => "oracle",
        "Microsoft Corporation" => "microsoft",
        "Amazon EC2" => "amazon",
        "Google" => "google",
        _ => "",
    }
    .to_owned()
}

/// When PID 1 itself has failed. A boot on trial falls back to the other slot; a good slot gives a person a shell.
fn emergency(reason: &str, trial: bool) -> ! {
    let mut console = Console::open(false);
    console.bad(reason);
    let mut watchdog = Watchdog::take();
    if !trial {
        console.note("starting a shell; the machine reboots when it ends");
        let shell = Command::new("/bin/sh").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").spawn();
        if let Err(error) = shell.and_then(|mut shell| wait_for(&mut shell, &mut watchdog)) {
            console.bad(format_args!("no shell: {error}"));
        }
    }
    console.note(format_args!("rebooting in {} seconds", FATAL_PAUSE.as_secs()));
    std::thread::sleep(FATAL_PAUSE);
    power::finish(PowerAction::Reboot, watchdog)
}

/// Waits for a person's shell to end, while the machine is not to be reset.
fn wait_for(shell: &mut Child, watchdog: &mut Option<Watchdog>) -> std::io::Result<()> {
    while shell.try_wait()?.is_none() {
        crate::early::watchdog::feed(watchdog);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Runs the supervisor as an ordinary process (child subreaper) for tests on a host:
/// `init supervise --units FOLDER --run FOLDER [--start UNIT]`. Units have no cgroups then, and nothing is mounted.
pub fn run_unprivileged(arguments: &[String]) -> ExitCode {
    let option = |name: &str| {
        let place = arguments.iter().position(|word| word == name)?;
        arguments.get(place.checked_add(1)?).cloned()
    };
    let (Some(units), Some(run)) = (option("--units"), option("--run")) else {
        eprintln!("usage: init supervise --units FOLDER --run FOLDER [--start UNIT]");
        return ExitCode::from(2);
    };
    match supervise_unprivileged(
        Path::new(&units),
        Path::new(&run),
        &option("--start").unwrap_or_else(|| DEFAULT_TARGET.to_owned()),
    ) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise_unprivileged(units: &Path, run: &Path, start: &str) -> std::io::Result<PowerAction> {
    signals::become_subreaper()?;
    fs::create_dir_all(run)?;
    let handover = reexec::Handover::take().transpose()?;
    let resumes = handover.is_some();
    let mut shell = Shell::new(Setup {
        root: run.to_owned(),
        loader: Loader::of_folder(units, System::default()),
        facts: Facts::default(),
        log: Box::new(FileSink::new(&run.join("log/ferrite.log"))),
        journal: None,
        console: Console::standard_error(),
        with_cgroups: false,
        notify_path: run.join("notify"),
        control_path: run.join("control"),
        health: Health::idle(),
        handover,
    })?;
    if resumes {
        return Ok(shell.run());
    }
    if let Err(error) = shell.request(start, JobKind::Start, Mode::Replace) {
        return Err(std::io::Error::other(error.to_string()));
    }
    Ok(shell.run())
}
