mod kinds;

use std::time::Duration;

use super::*;

fn typed(name: &str, text: &str) -> (Unit, Vec<String>) {
    let system = System { host_name: "node1".into(), ..System::default() };
    let (unit, warnings) = Unit::parse(&UnitName::parse(name).unwrap(), &[("f", text.as_bytes())], &system);
    (unit, warnings.iter().map(ToString::to_string).collect())
}

/// A service with these lines, its warnings, and an `ExecStart=` so that it is complete.
fn service(lines: &str) -> (Service, Vec<String>) {
    let (unit, warnings) = typed("a@b.service", &format!("[Service]\nExecStart=/bin/true\n{lines}\n"));
    (unit.service().unwrap().clone(), warnings)
}

fn names(list: &[UnitName]) -> Vec<&str> {
    list.iter().map(UnitName::as_str).collect()
}

// The unit files below are those of Debian 13's packages, without comments.
const ETCD: &str = "\
[Unit]
Description=etcd - highly-available key value store
Documentation=https://etcd.io/docs
Documentation=man:etcd
After=network.target
Wants=network-online.target

[Service]
Environment=DAEMON_ARGS=
Environment=ETCD_NAME=%H
Environment=ETCD_DATA_DIR=/var/lib/etcd/default
EnvironmentFile=-/etc/default/%p
Type=notify
User=etcd
PermissionsStartOnly=true
#ExecStart=/bin/sh -c \"GOMAXPROCS=$(nproc) /usr/bin/etcd $DAEMON_ARGS\"
ExecStart=/usr/bin/etcd $DAEMON_ARGS
Restart=on-abnormal
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
Alias=etcd2.service
";

#[test]
fn the_unit_of_etcd_is_understood_in_full() {
    let (unit, warnings) = typed("etcd.service", ETCD);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(unit.common.documentation, ["https://etcd.io/docs", "man:etcd"]);
    assert_eq!(names(&unit.common.wants), ["network-online.target"]);
    assert_eq!(names(&unit.install.alias), ["etcd2.service"]);
    let etcd = unit.service().unwrap();
    assert_eq!(etcd.kind(), ServiceType::Notify);
    assert_eq!(etcd.notify_access(), NotifyAccess::Main);
    assert_eq!(etcd.restart, Restart::OnAbnormal);
    assert_eq!(etcd.exec.environment[1], ("ETCD_NAME".into(), "node1".into()));
    assert_eq!(
        etcd.exec.environment_files,
        [EnvironmentFile { path: "/etc/default/etcd".into(), optional: true }]
    );
    let limit = ResourceLimit { resource: Resource::Nofile, soft: Some(65536), hard: Some(65536) };
    assert_eq!(etcd.exec.limits, [limit]);
    let start = &etcd.exec_start[0];
    assert_eq!(
        start.arguments(&|_| Some("--debug --x 'a b'".into())),
        ["/usr/bin/etcd", "--debug", "--x", "a b"]
    );
    assert_eq!(start.arguments(&|_| None), ["/usr/bin/etcd"]);
}

#[test]
fn the_unit_of_sshd_is_understood_in_full() {
    let text = "[Unit]\nConditionPathExists=!/etc/ssh/sshd_not_to_be_run\n[Service]\nEnvironmentFile=-/etc/default/ssh\n\
                ExecStartPre=/usr/sbin/sshd -t\nExecStart=/usr/sbin/sshd -D $SSHD_OPTS\nExecReload=/usr/sbin/sshd -t\n\
                ExecReload=/bin/kill -HUP $MAINPID\nKillMode=process\nRestart=on-failure\nRestartPreventExitStatus=255\n\
                Type=notify\nRuntimeDirectory=sshd\nRuntimeDirectoryMode=0755\n";
    let (unit, warnings) = typed("ssh.service", text);
    assert_eq!(warnings, [""; 0]);
    let condition = &unit.common.conditions[0];
    assert_eq!(
        (condition.kind, condition.negate, condition.trigger),
        (ConditionKind::PathExists, true, false)
    );
    assert_eq!(condition.argument, "/etc/ssh/sshd_not_to_be_run");
    let sshd = unit.service().unwrap();
    assert_eq!((sshd.exec_start_pre.len(), sshd.exec_reload.len()), (1, 2));
    assert_eq!(sshd.kill.mode, KillMode::Process);
    assert!(sshd.restart_prevent_exit_status.codes.contains(&255));
    assert_eq!(
        sshd.exec.runtime_directory,
        ServiceDirectory { paths: vec!["sshd".into()], mode: Some(0o755), ..ServiceDirectory::default() }
    );
}

#[test]
fn command_lines_keep_prefixes_separators_and_quotes() {
    let line = "ExecStartPre=-@+/bin/echo name \"a  b\" %% ; :!prog '$X' \\; ; !!/bin/c";
    let (service, warnings) = service(line);
    assert_eq!(warnings, [""; 0]);
    let [first, second, third] = &service.exec_start_pre[..] else { panic!("{:#?}", service.exec_start_pre) };
    assert_eq!((first.program.as_str(), first.argv0.as_deref()), ("/bin/echo", Some("name")));
    assert!(first.ignore_failure && first.full_privileges && !first.literal && !first.no_setuid);
    assert_eq!(first.raw_arguments, ["a  b", "%"]);
    assert_eq!(second.program, "prog");
    assert!(second.literal && second.no_setuid);
    assert_eq!(second.arguments(&|_| Some("set".into())), ["prog", "$X", ";"]);
    assert!(!third.no_setuid && !third.full_privileges);
}

#[test]
fn broken_command_lines_are_ignored_with_a_warning() {
    for (value, problem) in [
        ("./relative", "neither a plain name nor an absolute path"),
        ("/bin/", "names no program"),
        ("@/bin/sh", "the name that `@` asks for is missing"),
        ("/bin/sh \"open", "a quote is not closed"),
        ("/bin/sh \"a\\q", "a backslash begins no known escape"),
        ("-", "names no program"),
    ] {
        let (service, warnings) = service(&format!("ExecStartPre={value}"));
        assert_eq!(service.exec_start_pre, [], "{value}");
        assert!(warnings[0].starts_with("f:3: `ExecStartPre=` is ignored"), "{warnings:?}");
        assert!(warnings[0].contains(problem), "{warnings:?}");
    }
}

#[test]
fn a_word_with_an_unknown_escape_is_taken_as_it_stands() {
    let (service, warnings) = service(r#"ExecStartPre=/bin/grep "a\.b" \d c\x41"#);
    assert_eq!(service.exec_start_pre[0].raw_arguments, [r"a\.b", r"\d", "cA"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("f:3: `ExecStartPre=`: a backslash begins no known escape"),
        "{warnings:?}"
    );
}

#[test]
fn the_rest_of_the_unit_section_is_understood() {
    let (unit, warnings) = typed(
        "a.service",
        "[Unit]\nCollectMode=inactive-or-failed\nRebootArgument=x %%\nFailureActionExitStatus=7\nSuccessActionExitStatus=256\n\
         JoinsNamespaceOf=b.service\nSurviveFinalKillSignal=yes\nSourcePath=/etc/fstab\nJobTimeoutRebootArgument=y\n\
         [Service]\nExecStart=/a\n",
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("an exit status from 0 to 255"), "{warnings:?}");
    let common = &unit.common;
    assert_eq!(common.collect_mode, CollectMode::InactiveOrFailed);
    assert_eq!(common.reboot_argument.as_deref(), Some("x %"));
    assert_eq!((common.failure_action_exit_status, common.success_action_exit_status), (Some(7), None));
    assert_eq!(names(&common.joins_namespace_of), ["b.service"]);
    assert_eq!(common.source_path.as_deref(), Some("/etc/fstab"));
}

#[test]
fn conditions_have_marks_before_them_and_paths_are_absolute() {
    let (unit, warnings) = typed(
        "a.target",
        "[Unit]\nConditionPathExists=| ! //a//b\nConditionHost=!x\nConditionPathExists=rel\nAssertFileNotEmpty=/c\n",
    );
    let shown: Vec<_> =
        unit.common.conditions.iter().map(|it| (it.trigger, it.negate, it.argument.as_str())).collect();
    assert_eq!(shown, [(true, true, "/a/b"), (false, true, "x")]);
    assert!(warnings[0].starts_with("f:4: `ConditionPathExists=` is ignored"), "{warnings:?}");
    assert_eq!(unit.common.asserts.len(), 1);
}

#[test]
fn words_before_a_broken_one_count() {
    let (got, warnings) = service("Environment=A=1 \"B=2\nEnvironment=C=3 D=%I\\q E=4");
    assert_eq!(got.exec.environment, [("A".into(), "1".into()), ("C".into(), "3".into())]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("counts up to `A=1` only"), "{warnings:?}");
}

#[test]
fn unknown_keys_and_sections_are_warnings_with_file_and_line() {
    let text = "[Unit]\nDescripton=x\nX-Mine=1\n[X-Fleet]\nConflicts=a\n[Servce]\nUser=a\nGroup=a\n[Service]\n\
                ExecStart=/bin/a\nNFTSet=x\nZebra=1\nAfter=a.service\nWantedBy=x.target\nListenStream=1\n";
    let (unit, warnings) = typed("a.service", text);
    assert_eq!(
        warnings,
        [
            "f:2: unknown key `Descripton=` in [Unit]: did you mean `Description=`?",
            "f:7: unknown section [Servce]",
            "f:11: `NFTSet=` is not supported and has no effect",
            "f:12: unknown key `Zebra=` in [Service]",
            "f:13: unknown key `After=` in [Service]: it belongs in [Unit]",
            "f:14: unknown key `WantedBy=` in [Service]: it belongs in [Install]",
            "f:15: unknown key `ListenStream=` in [Service]: it belongs in [Socket]",
        ]
    );
    assert_eq!(unit.service().unwrap().exec_start.len(), 1);
}

#[test]
fn bad_values_are_ignored_and_the_rest_counts() {
    let (got, warnings) =
        service("Restart=sometimes\nRestartSec=5\nTimeoutStopSec=soon\nNice=40\nEnvironment=A=1 2B=3 C");
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert_eq!((got.restart, got.restart_sec), (Restart::No, TimeSpan::Finite(Duration::from_secs(5))));
    assert_eq!(got.timeout_stop, TimeSpan::Finite(Duration::from_secs(90)));
    assert_eq!(got.exec.environment, [("A".into(), "1".into())]);
}

#[test]
fn dependencies_name_units_and_instances_of_templates() {
    let (unit, warnings) =
        typed("a@b.service", "[Unit]\nAfter=x.service t@.socket x.service\nAfter=\nBefore=bad %i.target\n");
    assert_eq!(names(&unit.common.after), ["x.service", "t@b.socket"]);
    assert_eq!(names(&unit.common.before), ["b.target"]);
    assert!(warnings[0].contains("f:4: `Before=`: `bad` is no unit name"), "{warnings:?}");
    // In a unit that is no instance its name is, as systemd has it.
    let (unit, warnings) = typed("a.target", "[Unit]\nAfter=t@.service\n");
    assert_eq!((names(&unit.common.after), warnings), (vec!["t@a.service"], vec![]));
    let (unit, _) = typed("a.socket", "[Unit]\nAfter=dev-x\\x2dy.device\n[Socket]\nListenStream=1\n");
    assert_eq!(names(&unit.common.after), ["dev-x\\x2dy.device"]);
    assert!(matches!(unit.kind, UnitKind::Socket(_)));
}

#[test]
fn limits_are_read_in_the_unit_of_their_resource() {
    let (got, warnings) = service(
        "LimitCPU=1min\nLimitCORE=1K:infinity\nLimitNICE=-5\nLimitRTTIME=7\nLimitNPROC=5:4\nLimitAS=\nLimitCORE=2K",
    );
    let all: Vec<_> = got.exec.limits.iter().map(|limit| (limit.resource, limit.soft, limit.hard)).collect();
    let want = [
        (Resource::Cpu, Some(60), Some(60)),
        (Resource::Nice, Some(25), Some(25)),
        (Resource::Rttime, Some(7), Some(7)),
        (Resource::Core, Some(2048), Some(2048)),
    ];
    assert_eq!(all, want);
    assert!(warnings[0].contains("the soft limit is above the hard one"), "{warnings:?}");
}

#[test]
fn streams_folders_and_status_sets_are_read() {
    let (got, warnings) = service(
        "StandardInput=tty-force\nStandardOutput=append:/var/log/%p\nStandardError=journal+console\nTTYPath=/dev/ttyS0\n\
         RuntimeDirectory=a b/c ../d /e\nStateDirectory=x\nStateDirectory=\nRuntimeDirectoryPreserve=restart\n\
         SuccessExitStatus=1 TEMPFAIL SIGKILL what 300\nKillSignal=SIGINT\nWorkingDirectory=-~\nWatchdogSec=3\nUMask=0077",
    );
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert_eq!(got.exec.standard_input, Input::TtyForce);
    assert_eq!(got.exec.standard_output, Some(Output::Append("/var/log/a".into())));
    assert_eq!(got.exec.standard_error, Some(Output::JournalConsole));
    assert_eq!(got.exec.runtime_directory.paths, ["a", "b/c"]);
    assert_eq!(got.exec.state_directory.paths, [""; 0]);
    assert_eq!(got.exec.runtime_directory_preserve, DirectoryPreserve::Restart);
    assert_eq!(got.success_exit_status.codes.iter().copied().collect::<Vec<_>>(), [1, 75]);
    assert!(got.success_exit_status.signals.contains(&Signal::KILL));
    assert_eq!(got.kill.signal, Signal::INT);
    assert_eq!(got.exec.working_directory, WorkingDirectory::Home { optional: true });
    assert_eq!(got.watchdog, Some(Duration::from_secs(3)));
    assert_eq!(got.notify_access(), NotifyAccess::Main);
    assert_eq!(got.exec.umask, Some(0o077));
}

#[test]
fn the_sandbox_of_redis_is_understood_in_full() {
    // What Debian's redis-server.service has beyond the plain settings.
    let (got, warnings) = service(
        "PIDFile=/run/redis/redis-server.pid\nTimeoutStopSec=0\nRuntimeDirectoryMode=2755\nUMask=007\nPrivateTmp=true\n\
         PrivateDevices=true\nProtectHome=true\nProtectSystem=strict\nReadWritePaths=-/var/lib/redis\n\
         ReadWritePaths=-/var/log/redis\nCapabilityBoundingSet=\nLockPersonality=true\nMemoryDenyWriteExecute=true\n\
         NoNewPrivileges=true\nPrivateUsers=true\nProtectClock=true\nProtectControlGroups=true\nProtectHostname=true\n\
         ProtectKernelLogs=true\nProtectKernelModules=true\nProtectKernelTunables=true\nProtectProc=invisible\n\
         RemoveIPC=true\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nRestrictNamespaces=true\n\
         RestrictRealtime=true\nRestrictSUIDSGID=true\nSystemCallArchitectures=native\nSystemCallFilter=@system-service\n\
         SystemCallFilter=~ @privileged @resources\nReadWriteDirectories=-/etc/redis\nNoExecPaths=/\n\
         ExecPaths=/usr/bin/redis-server /usr/lib /lib",
    );
    assert_eq!(warnings, [""; 0]);
    let sandbox = &got.exec.sandbox;
    let path = |path: &str| SandboxPath { path: path.into(), optional: true, below_root: false };
    assert_eq!(
        sandbox.read_write_paths,
        [path("/var/lib/redis"), path("/var/log/redis"), path("/etc/redis")]
    );
    assert_eq!((sandbox.bounding_set, sandbox.private_users), (Some(CapabilitySet::NONE), PrivateUsers::Own));
    assert_eq!((sandbox.protect_proc, sandbox.allowed_namespaces), (ProtectProc::Invisible, Some(0)));
    assert_eq!(sandbox.exec_paths.len(), 3);
    let families = sandbox.address_families.as_ref().unwrap();
    assert!(families.is_allow_list && families.families == [1, 2, 10].into());
    let calls = sandbox.system_call_filter.as_ref().unwrap();
    assert!(calls.is_allow_list && calls.calls.contains_key("openat") && !calls.calls.contains_key("setuid"));
}

#[test]
fn the_sandbox_of_chrony_is_understood_but_for_nothing() {
    // chrony.service and chrony-wait.service of Debian; of the latter, only the address filter has no effect.
    let (got, warnings) = service(
        "CapabilityBoundingSet=~CAP_AUDIT_CONTROL CAP_AUDIT_READ\nCapabilityBoundingSet=~CAP_SYS_PTRACE\n\
         DeviceAllow=char-pps rw\nDeviceAllow=char-rtc rw\nDevicePolicy=closed\nProcSubset=pid\nMemoryDenyWriteExecute=yes\n\
         ReadWritePaths=/run\nReadWritePaths=-/var/spool\nNoNewPrivileges=no\n\
         SystemCallFilter=~@cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap\n\
         RestrictAddressFamilies=AF_INET AF_INET6\nRestrictAddressFamilies=AF_NETLINK\n\
         DynamicUser=yes\nUMask=0777\nIPAddressAllow=localhost\nIPAddressDeny=any",
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("`IPAddress")), "{warnings:?}");
    let dropped = CapabilitySet(1 << 30 | 1 << 37 | 1 << 19);
    assert_eq!(got.exec.sandbox.bounding_set, Some(CapabilitySet::ALL.without(dropped)));
    let rule = DeviceRule { device: "char-rtc".into(), read: true, write: true, make: false };
    assert_eq!((got.resources.device_policy, &got.resources.device_allow[1]), (DevicePolicy::Closed, &rule));
    assert_eq!(got.exec.sandbox.address_families.unwrap().families, [2, 10, 16].into());
    assert!(got.exec.sandbox.proc_subset_pid && got.exec.sandbox.dynamic_user);
}

#[test]
fn paths_of_the_sandbox_keep_their_prefixes_and_targets() {
    let (got, warnings) = service(
        "ReadOnlyPaths=-+/a /b/%i relative\nBindPaths=/x /y:/z -/q:/r:norbind\nBindReadOnlyPaths=/y:/z:what\n\
         TemporaryFileSystem=/var:ro,mode=0755\nRootDirectory=/srv\nSecureBits=noroot keep-caps\n\
         StateDirectory=a:b c\nStandardInput=data\nStandardInputText=one \\x41 \"q\"\nStandardInputData=Zm9v\n\
         CPUAffinity=0-1 3\nTimerSlackNSec=5us\nSetCredential=key:a\\nb\nLoadCredential=other",
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let sandbox = &got.exec.sandbox;
    let all: Vec<_> = sandbox
        .read_only_paths
        .iter()
        .map(|path| (path.path.as_str(), path.optional, path.below_root))
        .collect();
    assert_eq!(all, [("/a", true, true), ("/b/b", false, false)]);
    let binds: Vec<_> = sandbox
        .bind_paths
        .iter()
        .map(|bind| (bind.source.as_str(), bind.target.as_str(), bind.optional, bind.recursive))
        .collect();
    assert_eq!(binds, [("/x", "/x", false, true), ("/y", "/z", false, true), ("/q", "/r", true, false)]);
    assert_eq!(sandbox.temporary_file_systems, [("/var".to_owned(), "ro,mode=0755".to_owned())]);
    assert_eq!(sandbox.secure_bits, 17);
    assert_eq!(got.exec.state_directory.paths, ["a", "c"]);
    assert_eq!(got.exec.state_directory.links, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(got.exec.input_data, b"one A \"q\"\nfoo");
    assert_eq!(
        (got.exec.scheduling.cpu_affinity, got.exec.scheduling.timer_slack),
        (vec![0, 1, 3], Some(5000))
    );
    assert_eq!(got.exec.set_credentials, [("key".to_owned(), b"a\nb".to_vec())]);
    assert_eq!(got.exec.load_credentials, [("other".to_owned(), "other".to_owned())]);
}

#[test]
fn resource_control_is_read() {
    let (got, warnings) = service(
        "CPUWeight=idle\nCPUQuota=150%\nMemoryMax=1G\nMemoryHigh=50%\nTasksMax=infinity\nIOWeight=10\nSlice=a-b.slice\n\
         Delegate=cpu memory cpuacct\nDelegateSubgroup=main\nIOReadBandwidthMax=/dev/vda 5M\nAllowedCPUs=0-2\n\
         CPUAccounting=yes\nSlice=x.service\nTasksMax=0\nDeviceAllow=/etc/passwd r",
    );
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let control = &got.resources;
    assert_eq!((control.cpu_weight, control.cpu_quota), (Some(CpuWeight::Idle), Some(1_500_000)));
    assert_eq!(
        (control.memory_max, control.memory_high),
        (Some(Amount::Number(1 << 30)), Some(Amount::Share(5000)))
    );
    assert_eq!((control.tasks_max, control.io_weight), (Some(Amount::Infinity), Some(10)));
    assert_eq!(control.slice.as_ref().map(UnitName::as_str), Some("a-b.slice"));
    assert_eq!(control.delegate, Some(Delegate::Controllers(vec!["cpu".into(), "memory".into()])));
    assert_eq!(control.io_limits, [("/dev/vda".to_owned(), IoLimit::ReadBandwidth, Some(5_000_000))]);
    assert_eq!(control.allowed_cpus, [0, 1, 2]);
}

#[test]
fn timeouts_depend_on_the_type_and_zero_is_no_limit() {
    assert_eq!(service("").0.timeout_start(), TimeSpan::Finite(Duration::from_secs(90)));
    assert_eq!(service("Type=oneshot").0.timeout_start(), TimeSpan::Infinity);
    let (both, _) = service("TimeoutSec=0");
    assert_eq!((both.timeout_start(), both.timeout_stop), (TimeSpan::Infinity, TimeSpan::Infinity));
}

#[test]
fn a_service_that_cannot_work_says_why() {
    for (text, want) in [
        ("[Service]\nType=simple\n", "no ExecStart= line"),
        ("[Service]\nRestart=no\n", "neither ExecStart= nor ExecStop="),
        ("[Service]\nExecStart=/a\nExecStart=/b\n", "more than one ExecStart= line"),
        ("[Service]\nType=oneshot\nExecStart=/a\nRestart=always\n", "goes with neither"),
        ("[Service]\nType=dbus\nExecStart=/a\n", "needs a D-Bus"),
    ] {
        let (_, warnings) = typed("a.service", text);
        assert!(warnings.iter().any(|warning| warning.contains(want)), "{text}: {warnings:?}");
    }
}

#[test]
fn start_limits_are_taken_from_where_they_once_lived() {
    let (unit, warnings) =
        typed("a.service", "[Service]\nExecStart=/a\nStartLimitInterval=0\nStartLimitBurst=9\n");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(unit.common.start_limit_interval, TimeSpan::Finite(Duration::ZERO));
    assert_eq!(unit.common.start_limit_burst, 9);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let name = UnitName::parse("a@b.service").unwrap();
        let _ = Unit::parse(&name, &[("f", &bytes)], &System::default());
    }

    #[test]
    fn no_value_of_any_key_panics(value in "(\\PC|%[a-zA-Z]|\\\\|\"|;|[0-9]|:|-|@|/|\\.| ){0,30}") {
        use std::fmt::Write as _;
        let [common, install] = reader::understood_by_all();
        for (suffix, keys) in reader::understood() {
            let own = suffix[..1].to_uppercase() + &suffix[1..];
            let mut text = String::from("[Unit]\nConditionHost=x\n");
            for (section, keys) in [("Unit", &common), ("Install", &install), (own.as_str(), &keys)] {
                writeln!(text, "[{section}]").unwrap();
                for key in keys {
                    writeln!(text, "{key}={value}").unwrap();
                }
            }
            let name = UnitName::parse(&format!("a@b.{suffix}")).unwrap();
            let _ = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        }
    }
}
