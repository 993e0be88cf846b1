//! The sections of sockets, timers, paths, mounts, swaps and slices; every key of systemd.

use super::*;

fn socket(lines: &str) -> (Socket, Vec<String>) {
    let (unit, warnings) = typed("a.socket", &format!("[Socket]\n{lines}\n"));
    let UnitKind::Socket(socket) = unit.kind else { panic!("{unit:?}") };
    (*socket, warnings)
}

#[test]
fn every_key_of_systemd_is_understood_or_said_to_be_without_effect() {
    let mut section = "";
    let mut strangers = Vec::new();
    for line in include_str!("keys-of-systemd-257.txt").lines().skip(1) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let suffix = match section {
            "Unit" | "Install" => "service".to_owned(),
            own => own.to_lowercase(),
        };
        let (_, warnings) = typed(&format!("a.{suffix}"), &format!("[{section}]\n{line}=\n"));
        if warnings.iter().any(|warning| warning.contains("unknown")) {
            strangers.push(format!("[{section}] {line}"));
        }
    }
    assert_eq!(strangers, [""; 0]);
}

#[test]
fn the_socket_of_sshd_is_understood_in_full() {
    let text = "[Unit]\nDescription=OpenBSD Secure Shell server socket\nBefore=sockets.target ssh.service\n\
                ConditionPathExists=!/etc/ssh/sshd_not_to_be_run\n[Socket]\nListenStream=0.0.0.0:22\n\
                ListenStream=[::]:22\nBindIPv6Only=ipv6-only\nAccept=no\nFreeBind=yes\n[Install]\nWantedBy=sockets.target\n\
                RequiredBy=ssh.service\n";
    let (unit, warnings) = typed("ssh.socket", text);
    assert_eq!(warnings, [""; 0]);
    let UnitKind::Socket(socket) = &unit.kind else { panic!("{unit:?}") };
    assert_eq!(socket.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:22", "[::]:22"]);
    assert_eq!(socket.bind_ipv6_only, BindIpv6Only::Ipv6Only);
    assert!(socket.free_bind && !socket.accepts());
    assert_eq!(socket.service(&unit.name).unwrap().as_str(), "ssh.service");
    assert_eq!(socket.descriptor_name(&unit.name), "ssh.socket");
    assert_eq!((socket.trigger_limit_burst(), socket.poll_limit_burst()), (20, 15));
}

#[test]
fn sockets_that_accept_start_instances_of_a_template() {
    let (accepting, warnings) = socket("ListenStream=/run/%p\nAccept=yes\nListenSequentialPacket=@a");
    assert_eq!(warnings, [""; 0]);
    let own = UnitName::parse("a.socket").unwrap();
    assert_eq!(accepting.service(&own).unwrap().as_str(), "a@.service");
    assert_eq!(accepting.descriptor_name(&own), "connection");
    assert_eq!((accepting.trigger_limit_burst(), accepting.poll_limit_burst()), (200, 150));
    assert_eq!(accepting.listen[0].node(), Some("/run/a"));
}

#[test]
fn an_empty_listen_line_of_any_sort_resets_them_all() {
    let (got, _) = socket("ListenStream=1\nListenFIFO=/a\nListenDatagram=\nListenDatagram=2");
    assert_eq!(got.listen.len(), 1);
    assert_eq!(got.listen[0].kind_name(), "Datagram");
}

#[test]
fn socket_settings_are_read_in_their_units() {
    let (got, warnings) = socket(
        "ListenFIFO=/run/f\nPipeSize=1M\nSocketMode=0600\nDirectoryMode=0700\nSocketUser=u\nSymlinks=/a /b\nIPTOS=low-delay\n\
         IPTTL=64\nKeepAliveTimeSec=5min\nDeferAcceptSec=0\nTimestamping=ns\nTimeoutSec=0\nService=b.service\n\
         FileDescriptorName=%p-fd\nTriggerLimitBurst=0\nMark=7\nPriority=-1\nExecStartPost=-/bin/a b\nUser=x\nKillSignal=INT",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!((got.pipe_size, got.mode, got.directory_mode), (Some(1 << 20), 0o600, 0o700));
    assert_eq!(got.symlinks, ["/a", "/b"]);
    assert_eq!((got.ip_tos, got.ip_ttl, got.mark, got.priority), (Some(16), Some(64), Some(7), Some(-1)));
    assert_eq!((got.keep_alive_time, got.defer_accept), (Some(Duration::from_secs(300)), None));
    assert_eq!((got.timestamping, got.timeout), (Timestamping::Nanoseconds, TimeSpan::Infinity));
    assert_eq!(got.written_service.as_ref().unwrap().as_str(), "b.service");
    assert_eq!(got.written_descriptor_name.as_deref(), Some("a-fd"));
    assert_eq!(got.trigger_limit_burst(), 0);
    assert_eq!(got.exec_start_post[0].program, "/bin/a");
    assert_eq!((got.exec.user.as_deref(), got.kill.signal), (Some("x"), Signal::INT));
}

#[test]
fn units_that_cannot_work_say_why() {
    for (name, text, want) in [
        ("a.socket", "[Socket]\nAccept=yes\n", "no Listen...= line"),
        ("a.socket", "[Socket]\nListenDatagram=1\nAccept=yes\n", "Accept=yes goes with stream"),
        ("a.socket", "[Socket]\nListenStream=1\nAccept=yes\nService=b.service\n", "Service= does not go"),
        ("a.socket", "[Socket]\nListenStream=1\nAccept=yes\nMaxConnections=0\n", "MaxConnections= above 0"),
        ("a.socket", "[Socket]\nListenStream=1\nSymlinks=/a\n", "exactly one socket or FIFO"),
        ("a.timer", "[Timer]\nPersistent=yes\n", "never elapses"),
        ("a.path", "[Path]\nMakeDirectory=yes\n", "watches nothing"),
        ("a-b.mount", "[Mount]\nWhat=/dev/x\nWhere=/b\n", "does not fit the unit's name"),
        ("a-b.mount", "[Mount]\nWhere=/a/b\n", "no What= line"),
        ("proc.mount", "[Mount]\nWhat=proc\n", "belongs to the system"),
        ("a.swap", "[Swap]\n", "no What= line"),
        ("a.swap", "[Swap]\nWhat=/b\n", "does not fit the unit's name"),
        ("a--b.slice", "", "no name for a slice"),
        ("a.automount", "[Automount]\nWhere=/a\nTimeoutIdleSec=3\n", "automount units are not supported"),
    ] {
        let (unit, warnings) = typed(name, text);
        assert!(warnings.iter().any(|warning| warning.contains(want)), "{name} {text}: {warnings:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(unit.problem().unwrap().contains(want));
    }
}

#[test]
fn timers_collect_their_triggers_and_an_empty_one_resets_them_all() {
    let text = "[Timer]\nOnBootSec=10\nOnActiveSec=\nOnBootSec=15min\nOnUnitActiveSec=1w\nAccuracySec=1us\n\
                RandomizedDelaySec=1h\nUnit=b.target\nRemainAfterElapse=no\n";
    let (unit, warnings) = typed("a.timer", text);
    assert_eq!(warnings, [""; 0]);
    let UnitKind::Timer(timer) = &unit.kind else { panic!("{unit:?}") };
    let spans = |base, secs| TimerTrigger::Monotonic { base, span: Duration::from_secs(secs) };
    assert_eq!(timer.triggers, [spans(TimerBase::Boot, 900), spans(TimerBase::UnitActive, 604_800)]);
    assert_eq!(timer.accuracy, Duration::from_micros(1));
    assert_eq!(timer.unit(&unit.name).unwrap().as_str(), "b.target");
    assert!(!timer.remain_after_elapse);
    let (unit, warnings) = typed("a.timer", "[Timer]\nOnBootSec=infinity\nOnBootSec=1\nUnit=b.timer\n");
    assert!(
        warnings[0].contains("never elapses") && warnings[1].contains("of the same type"),
        "{warnings:?}"
    );
    let UnitKind::Timer(timer) = &unit.kind else { panic!("{unit:?}") };
    assert_eq!(timer.unit(&unit.name).unwrap().as_str(), "a.service");
}

#[test]
fn paths_are_watched_for_five_conditions() {
    let text = "[Path]\nPathExists=/a\nPathExistsGlob=/b/*.c\nPathChanged=/%p\nPathModified=/d\nDirectoryNotEmpty=/e//\n\
                MakeDirectory=yes\nDirectoryMode=0700\nPathChanged=rel\n";
    let (unit, warnings) = typed("x.path", text);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let UnitKind::Path(path) = &unit.kind else { panic!("{unit:?}") };
    let watched: Vec<_> =
        path.watches.iter().map(|watch| format!("{}={}", watch.condition.key(), watch.path)).collect();
    let want = [
        "PathExists=/a",
        "PathExistsGlob=/b/*.c",
        "PathChanged=/x",
        "PathModified=/d",
        "DirectoryNotEmpty=/e",
    ];
    assert_eq!(watched, want);
    assert_eq!(path.unit(&unit.name).unwrap().as_str(), "x.service");
    assert_eq!((path.make_directory, path.directory_mode), (true, 0o700));
}

#[test]
fn mounts_know_their_place_device_and_network() {
    let (unit, warnings) = typed(
        "srv-data\\x2d1.mount",
        "[Mount]\nWhat=LABEL=my disk\nType=ext4\nOptions=noatime,x-systemd.device-bound,a=_netdev\n",
    );
    assert_eq!(warnings, [""; 0]);
    let UnitKind::Mount(mount) = &unit.kind else { panic!("{unit:?}") };
    assert_eq!(mount.mount_point(&unit.name).as_deref(), Some("/srv/data-1"));
    assert_eq!(mount.what, "/dev/disk/by-label/my\\x20disk");
    assert_eq!(mount.device().unwrap().as_str(), "dev-disk-by\\x2dlabel-my\\x5cx20disk.device");
    assert!(mount.has_option("noatime") && mount.has_option("a") && !mount.has_option("_netdev"));
    assert!(!mount.is_network() && !mount.is_bind());
    let (unit, _) = typed("a.mount", "[Mount]\nWhat=/dev/x\nOptions=rbind,_netdev\n");
    let UnitKind::Mount(mount) = &unit.kind else { panic!("{unit:?}") };
    assert!(mount.is_bind() && mount.is_network());
    assert_eq!(mount.device(), None);
}

#[test]
fn a_swap_takes_its_priority_from_the_options_first() {
    let (unit, warnings) =
        typed("dev-sda2.swap", "[Swap]\nWhat=/dev/sda2\nPriority=5\nOptions=discard,pri=7\n");
    assert_eq!(warnings, [""; 0]);
    let UnitKind::Swap(swap) = &unit.kind else { panic!("{unit:?}") };
    assert_eq!(swap.priority(), Some(7));
    assert_eq!(swap.device().unwrap().as_str(), "dev-sda2.device");
}

#[test]
fn slices_lie_in_each_other_by_name() {
    let parent = |name: &str| Slice::parent(&UnitName::parse(name).unwrap()).map(|it| it.as_str().to_owned());
    assert_eq!(parent("a-b.slice").as_deref(), Some("a.slice"));
    assert_eq!(parent("a.slice").as_deref(), Some("-.slice"));
    assert_eq!(parent("-.slice"), None);
    assert_eq!(parent("a--b.slice"), None);
    assert_eq!(parent("a.service"), None);
}
