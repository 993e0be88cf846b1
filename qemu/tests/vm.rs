//! Machines that really run. Each waits for its turn by the VM lock, so that they can run beside all other tests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qemu::toolbox::Toolbox;
use qemu::{AccelChoice, Disk, DiskFormat, Emulator, Ending, OnReboot, Serial, VmError, VmSpec, overlay};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, tcgetattr};

/// An emulated machine on a busy host is slow.
const LIMIT: Duration = Duration::from_secs(120);

fn emulator() -> Emulator {
    Toolbox::of_user().emulator().unwrap()
}

fn spec(name: &str) -> VmSpec {
    VmSpec::new(name, 128, 1).accel(AccelChoice::Tcg)
}

#[test]
fn firmware_without_a_disk_says_so_on_the_serial_console() {
    let mut vm = emulator().start(&spec("firmware").firmware(), Serial::Captured).unwrap();
    vm.console().expect_any(&["BdsDxe", "UEFI Interactive Shell", "No bootable"], LIMIT).unwrap();
    assert_eq!(vm.qmp().status(LIMIT).unwrap(), "running");
    assert_eq!(vm.shutdown_reason(), None);
    // Nobody in the firmware listens to the power button.
    assert_eq!(vm.powerdown(Duration::from_millis(300)).unwrap(), Ending::Quit);
    assert_eq!(vm.shutdown_reason().as_deref(), Some("host-qmp-quit"));
    vm.console().expect("never printed", LIMIT).unwrap_err();
}

#[test]
fn a_variable_store_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let vars = dir.path().join("vars, kept.fd");
    let machine = || spec("vars").firmware_with_vars(&vars);
    let mut vm = emulator().start(&machine(), Serial::Captured).unwrap();
    vm.console().expect_any(&["BdsDxe", "UEFI Interactive Shell", "No bootable"], LIMIT).unwrap();
    vm.kill();
    drop(vm);
    let first = std::fs::read(&vars).unwrap();
    let template = std::fs::read(&emulator().firmware().unwrap().vars).unwrap();
    assert_ne!(first, template, "the firmware wrote its boot entries");
    drop(emulator().start(&machine(), Serial::Captured).unwrap());
    assert_eq!(std::fs::read(&vars).unwrap(), first);
}

#[test]
fn disks_of_all_kinds_are_accepted_and_images_below_overlays_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("base, with comma.raw");
    std::fs::write(&image, vec![0x5a; 1 << 20]).unwrap();
    let log = dir.path().join("writes");
    std::fs::File::create(&log).unwrap().set_len(64 << 20).unwrap();
    let overlay = dir.path().join("kept.qcow2");
    let other = dir.path().join("other.qcow2");
    overlay::create(&other, &image, DiskFormat::Raw, 2 << 30).unwrap();
    let machine = spec("disks")
        .disk(Disk::raw(&image).ephemeral(8 << 30).serial("first"))
        .disk(Disk::raw(&image).overlay(&overlay, 1 << 30))
        .disk(Disk::raw(&image).read_only())
        .disk(Disk { log_writes: Some(log), ..Disk::qcow2(&other) })
        .on_reboot(OnReboot::Exit);
    let mut vm = emulator().start(&machine, Serial::Captured).unwrap();
    let blocks = vm.qmp().execute("query-block", &serde_json::json!({}), LIMIT).unwrap();
    let sizes: Vec<u64> = blocks
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["inserted"]["image"]["virtual-size"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [8 << 30, 1 << 30, 1 << 20, 2 << 30]);
    vm.reset().unwrap();
    vm.wait_exit(LIMIT).unwrap();
    assert_eq!(vm.shutdown_reason().as_deref(), Some("host-qmp-system-reset"));
    assert_eq!(std::fs::read(&image).unwrap(), vec![0x5a; 1 << 20]);
}

#[test]
fn an_overlay_of_ours_is_clean_to_qemus_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("base.raw");
    File::create(&image).unwrap().set_len(5 << 20).unwrap();
    let qemu_img = Toolbox::of_user().qemu_img().unwrap();
    let run = |arguments: &[&str]| {
        let output = qemu_img.command().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    for size in [0, 8 << 30, 16 << 40] {
        let path = dir.path().join("over.qcow2");
        overlay::create(&path, &image, DiskFormat::Raw, size).unwrap();
        let path = path.to_str().unwrap();
        assert!(run(&["check", path]).contains("No errors were found"));
        let info: serde_json::Value = serde_json::from_str(&run(&["info", "--output=json", path])).unwrap();
        assert_eq!(info["virtual-size"], size.max(5 << 20));
        assert_eq!(info["full-backing-filename"], image.to_str().unwrap());
        assert_eq!(info["backing-filename-format"], "raw");
    }
}

#[test]
fn ports_are_picked_and_a_taken_port_is_an_error_that_names_it() {
    let vm = emulator().start(&spec("ports").user_net([(0, 22), (0, 2379)]), Serial::Captured).unwrap();
    let (ssh, etcd) = (vm.forwarded(22).unwrap(), vm.forwarded(2379).unwrap());
    assert_ne!(ssh, etcd);
    assert_eq!(vm.forwarded(80), None);
    TcpListener::bind(("127.0.0.1", ssh)).expect_err("QEMU listens there");
    drop(vm);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = emulator().start(&spec("ports").user_net([(port, 22)]), Serial::Captured).unwrap_err();
    let VmError::NotStarted { messages, .. } = &error else { panic!("{error}") };
    assert!(messages.contains(&port.to_string()), "{messages}");
}

#[test]
fn a_missing_disk_is_an_error_with_qemus_words() {
    let error = emulator()
        .start(&spec("missing").disk(Disk::raw("/nonexistent/x.raw")), Serial::Captured)
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x.raw"), "{error}");
}

/// Not a test of its own: an owner for the tests below, in a process that can be killed.
#[test]
#[ignore = "run by the tests that kill a machine's owner"]
fn owner_of_a_machine() {
    let serial = match std::env::var("FERRITE_TEST_SERIAL").as_deref() {
        Ok("interactive") => Serial::Interactive,
        _ => Serial::Captured,
    };
    let mut vm = emulator().start(&spec("owned").firmware(), serial).unwrap();
    println!("pid {}.", vm.pid());
    vm.wait_exit(LIMIT).unwrap();
    println!("orderly end");
}

fn owner() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "owner_of_a_machine"]);
    command
}

/// Reads until `text` has come; returns what came.
fn read_until(stream: &mut (impl Read + AsFd), text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    let deadline = Instant::now() + LIMIT;
    loop {
        let so_far = String::from_utf8_lossy(&seen).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).unwrap();
        let ready = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ready, 1, "no {text:?} in: {so_far}");
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended before {text:?}: {so_far}");
        seen.push(byte[0]);
    }
}

fn pid_in(output: &str) -> String {
    output.rsplit_once("pid ").unwrap().1.trim_end_matches('.').to_owned()
}

fn assert_ends(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while running(pid) {
        assert!(Instant::now() < deadline, "QEMU {pid} outlives its owner");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killing_the_owner_ends_the_machine() {
    let mut owner = owner().stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = owner.stdout.take().unwrap();
    read_until(&mut stdout, "pid ");
    let pid = pid_in(&format!("pid {}", read_until(&mut stdout, ".")));
    assert!(running(&pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_ends(&pid);
}

/// Both ends of a new terminal.
fn terminal() -> (File, File) {
    let controller = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&controller).unwrap();
    rustix::pty::unlockpt(&controller).unwrap();
    let name = rustix::pty::ptsname(&controller, Vec::new()).unwrap();
    let options = OFlags::RDWR | OFlags::NOCTTY;
    let user = rustix::fs::open(name.as_c_str(), options, Mode::empty()).unwrap();
    (File::from(controller), File::from(user))
}

/// Whether the terminal collects lines, as it does for a shell, and as it does not for QEMU.
fn collects_lines(terminal: &File) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON)
}

#[test]
fn the_users_terminal_is_the_console_and_is_given_back_however_it_ends() {
    for kill in [false, true] {
        let (mut controller, user) = terminal();
        assert!(collects_lines(&user));
        let stream = || Stdio::from(user.try_clone().unwrap());
        let mut owner = owner()
            .env("FERRITE_TEST_SERIAL", "interactive")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        read_until(&mut controller, "pid ");
        let pid = pid_in(&format!("pid {}", read_until(&mut controller, ".")));
        read_until(&mut controller, "BdsDxe");
        assert!(!collects_lines(&user), "QEMU reads key by key");
        if kill {
            owner.kill().unwrap();
            owner.wait().unwrap();
            assert_ends(&pid);
        } else {
            controller.write_all(b"\x01x").unwrap();
            read_until(&mut controller, "orderly end");
            assert!(owner.wait().unwrap().success());
        }
        assert!(collects_lines(&user), "given back, kill: {kill}");
    }
}

#[test]
fn without_a_terminal_an_interactive_console_is_still_shown() {
    let mut owner = owner()
        .env("FERRITE_TEST_SERIAL", "interactive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    read_until(owner.stdout.as_mut().unwrap(), "BdsDxe");
    owner.kill().unwrap();
    owner.wait().unwrap();
}

/// Whether the process exists and is not just waiting to be reaped.
fn running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
