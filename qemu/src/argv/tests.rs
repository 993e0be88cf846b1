use super::*;
use crate::spec::{AccelChoice, Nic, Smbios};
use proptest::prelude::*;

fn places(serial: Serial, accel: Accelerator) -> Places {
    Places {
        dir: "/run/vm".into(),
        accel,
        serial,
        firmware: None,
        overlays: Vec::new(),
        host_ports: Vec::new(),
    }
}

/// One option a line, its value beside it.
fn listing(args: &[String]) -> String {
    let mut out = String::new();
    for arg in args {
        let new_option = arg.starts_with('-');
        out.push_str(if out.is_empty() {
            ""
        } else if new_option {
            "\n"
        } else {
            " "
        });
        out.push_str(arg);
    }
    out.push('\n');
    out
}

/// Compares with `src/argv/snapshots/NAME`; `UPDATE_SNAPSHOTS=1` writes it anew.
fn assert_snapshot(name: &str, args: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/argv/snapshots").join(name);
    let got = listing(args);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert!(got == want, "{} differs:\n--- want\n{want}--- got\n{got}", path.display());
}

#[test]
fn the_machine_of_ferrite_run_has_this_command_line() {
    let spec = VmSpec::new("ferrite", 1024, 2)
        .firmware()
        .disk(Disk::raw("/img/ferrite.raw").overlay("/img/ferrite.disk.qcow2", 8 << 30).serial("root"))
        .user_net([(2222, 22)])
        .fw_cfg("opt/ferrite/hostname", "demo");
    let mut places = places(Serial::Interactive, Accelerator::Kvm);
    places.firmware = Some(("/fw/code.fd".into(), "/img/vars.fd".into()));
    places.overlays = vec![Some("/img/ferrite.disk.qcow2".into())];
    places.host_ports = vec![2222];
    assert_snapshot("run.txt", &arguments(&spec, &places).unwrap());
}

#[test]
fn a_test_machine_with_everything_has_this_command_line() {
    let mut spec = VmSpec::new("all", 512, 1)
        .direct("/k/vmlinuz", Some(Path::new("/k/initrd, 2")), "console=ttyS0 quiet,x")
        .disk(Disk::raw("/d/a,b.raw").cache(DiskCache::None))
        .disk(Disk {
            log_writes: Some("/d/log".into()),
            sector_size: Some(4096),
            ..Disk::qcow2("/d/c.qcow2")
        })
        .disk(Disk::raw("/d/ro.raw").read_only())
        .user_net([(0, 2379), (0, 22)])
        .nic(Nic { mac: Some([0x52, 0x54, 0, 0, 0, 0xa]), net: Net::Stream("/run/switch".into()) })
        .nic(Nic { mac: None, net: Net::User { forwards: Vec::new(), restrict: true } })
        .accel(AccelChoice::Tcg)
        .on_reboot(OnReboot::Exit);
    spec.cpu = Some("qemu64".to_owned());
    spec.ports = vec!["agent".to_owned()];
    spec.rtc_base = Some("2026-01-02T03:04:05".to_owned());
    spec.debugcon = Some("/run/vm/debug,1".into());
    spec.smbios = Smbios { product: Some("a,b".to_owned()), ..Smbios::default() };
    spec.oem_strings = vec!["io.systemd.credential:x=y".to_owned()];
    let mut places = places(Serial::Captured, Accelerator::Tcg);
    places.host_ports = vec![40001, 40002];
    assert_snapshot("everything.txt", &arguments(&spec, &places).unwrap());
}

#[test]
fn the_contents_of_fw_cfg_and_oem_strings_are_not_on_the_command_line() {
    let mut spec = VmSpec::new("x", 64, 1).fw_cfg("opt/ferrite/key", "s3cret");
    spec.oem_strings = vec!["s3cret".to_owned()];
    let args = arguments(&spec, &places(Serial::Captured, Accelerator::Tcg)).unwrap();
    assert!(args.iter().all(|arg| !arg.contains("s3cret")), "{args:?}");
    assert!(!format!("{:?}", spec.fw_cfg).contains("s3cret"));
}

#[test]
fn what_qemu_would_misread_is_refused() {
    let good = || VmSpec::new("x", 64, 1);
    let mut long_port = good();
    long_port.ports = vec!["x".repeat(25)];
    let mut control = good();
    control.smbios.product = Some("a\nb".to_owned());
    let cases: Vec<(VmSpec, &str)> = vec![
        (
            VmSpec::new("a,debug-threads=on", 64, 1),
            "VM name \"a,debug-threads=on\" is not valid: 1 to 64 letters",
        ),
        (VmSpec::new("", 64, 1), "VM name \"\" is not valid"),
        (VmSpec::new("x", 8, 1), "memory in MiB is 8, must be 32 or more"),
        (VmSpec::new("x", 64, 0), "number of processors is 0, must be 1 to 255"),
        (good().fw_cfg("etc/boot-menu", ""), "fw_cfg name \"etc/boot-menu\" is not valid: opt/"),
        (good().fw_cfg("opt/a,file=/etc/passwd", ""), "is not valid"),
        (good().disk(Disk::raw("/x").serial("x".repeat(21))), "disk serial"),
        (
            good().disk(Disk { sector_size: Some(1000), ..Disk::raw("/x") }),
            "sector size is 1000, must be 512 or 4096",
        ),
        (good().disk(Disk::nbd("/run/s").ephemeral(0)), "no overlay over a disk that an NBD server has"),
        (good().direct("/k", None, "a\nb"), "kernel command line has a control character"),
        (long_port, "port name"),
        (control, "SMBIOS field has a control character"),
        (good().firmware(), "no UEFI firmware"),
        (good().disk(Disk::raw(Path::new(std::ffi::OsStr::new(&bad_utf8())))), "path is not UTF-8"),
    ];
    for (spec, words) in cases {
        let error = arguments(&spec, &places(Serial::Captured, Accelerator::Tcg)).unwrap_err().to_string();
        assert!(error.contains(words), "got {error:?}, want {words:?}");
    }
}

#[test]
fn a_disk_of_an_nbd_server_is_reached_over_its_socket() {
    let spec = VmSpec::new("x", 64, 1).disk(Disk::nbd("/run/disk,socket"));
    let args = arguments(&spec, &places(Serial::Captured, Accelerator::Tcg)).unwrap();
    let node: Value =
        serde_json::from_str(&args[args.iter().position(|arg| arg == "-blockdev").unwrap() + 1]).unwrap();
    assert_eq!(node["driver"], "raw");
    assert_eq!(node["file"]["driver"], "nbd");
    assert_eq!(node["file"]["server"], json!({"type": "unix", "path": "/run/disk,socket"}));
    assert_eq!(node["cache"]["no-flush"], false, "flushes reach the server");
}

fn bad_utf8() -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"/d/\xff.raw".to_vec())
}

/// QEMU's own rule for `key=value,...`: a doubled comma is a comma, a single one ends the value.
fn first_value(option: &str, key: &str) -> String {
    let rest = &option[option.find(&format!("{key}=")).unwrap() + key.len() + 1..];
    let mut out = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            break;
        }
        out.push(c);
    }
    out
}

proptest! {
    #[test]
    fn no_path_can_add_an_option(path in "[a-z,= /\"\\\\{}]{1,40}") {
        let mut spec = VmSpec::new("x", 64, 1).disk(Disk::raw(&path)).fw_cfg("opt/x", "");
        spec.debugcon = Some(PathBuf::from(&path));
        let mut places = places(Serial::Captured, Accelerator::Tcg);
        places.dir = PathBuf::from("/").join(&path);
        let args = arguments(&spec, &places).unwrap();
        let value_of = |start: &str| args.iter().find(|arg| arg.starts_with(start)).cloned().unwrap();
        prop_assert_eq!(first_value(&value_of("file,id=debug"), "path"), path.clone());
        prop_assert_eq!(first_value(&value_of("socket,id=qmp"), "path"), places.qmp().display().to_string());
        prop_assert_eq!(first_value(&value_of("name=opt/x"), "file"), places.fw_cfg(0).display().to_string());
        let node: Value = serde_json::from_str(&args[args.iter().position(|arg| arg == "-blockdev").unwrap() + 1]).unwrap();
        prop_assert_eq!(&node["file"]["filename"], &json!(path));
    }
}

#[test]
fn a_disk_with_faults_is_behind_a_filter() {
    let faults = vec![DiskFault { access: DiskAccess::Write, sector: 7 }];
    let spec = VmSpec::new("faults", 256, 1).disk(Disk { faults, ..Disk::raw("/a") });
    let args = arguments(&spec, &places(Serial::Captured, Accelerator::Tcg)).unwrap();
    let node = args.iter().skip_while(|arg| *arg != "-blockdev").nth(1).unwrap();
    let node: Value = serde_json::from_str(node).unwrap();
    assert_eq!((&node["driver"], &node["node-name"]), (&json!("blkdebug"), &json!("disk0")));
    assert_eq!(node["image"]["file"]["filename"], "/a");
    assert_eq!(
        node["inject-error"],
        json!([{"event": "none", "iotype": "write", "sector": 7, "errno": 5, "once": false, "immediately": false}])
    );
}

#[test]
fn a_cd_hangs_on_the_sata_controller_and_is_not_booted_from() {
    let spec = VmSpec::new("cd", 256, 1).disk(Disk::raw("/a")).disk(Disk::cd("/seed.iso"));
    let text = arguments(&spec, &places(Serial::Captured, Accelerator::Tcg)).unwrap().join("\n");
    assert!(text.contains(r#"{"bus":"ide.1","drive":"disk1","driver":"ide-cd"}"#), "{text}");
    let written = Disk { write: DiskWrite::Direct, ..Disk::cd("/seed.iso") };
    assert!(check(&VmSpec::new("cd", 256, 1).disk(written)).is_err());
}
