//! How processes are set up, with real processes: what each setting of systemd.exec(5) makes of them.
//!
//! The sandbox needs root, as PID 1 is: where the tests run as somebody else, what needs it is left to the tests in a
//! virtual machine. Whatever is mounted is mounted in namespaces of the services' own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod machine;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use machine::Machine;

/// Runs one oneshot service with these lines; its command's output is in `DIR/out`. Answers with the job's result, the
/// main process's exit code, the reason of a failure, and the output.
struct Ran {
    result: String,
    code: i32,
    reason: String,
    out: String,
    machine: Machine,
}

fn run(lines: &str, command: &str) -> Ran {
    let unit = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nStandardOutput=truncate:DIR/out\nStandardError=inherit\n{lines}\n\
         ExecStart={command}\n"
    );
    let machine = Machine::start(&[("default.target", "[Unit]"), ("x.service", &unit)]);
    let result = machine.job("start", "x.service");
    let view = machine.view("x.service");
    let code = view.main_exit.map_or(-1, |(_, code)| code);
    let out = fs::read_to_string(machine.path("out")).unwrap_or_default();
    Ran { result, code, reason: view.reason, out, machine }
}

/// As [`run`], for services that must start.
fn output(lines: &str, script: &str) -> String {
    let ran = run(lines, &format!("/bin/sh -c '{script}'"));
    assert_eq!(ran.result, "done", "{lines}: {} {} {}", ran.code, ran.reason, ran.out);
    let out = ran.out.clone();
    ran.machine.power_off();
    out
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A field of the process's own status, proc_pid_status(5).
fn status(lines: &str, field: &str) -> String {
    let out = output(lines, &format!("grep ^{field}: /proc/self/status"));
    out.split(':').nth(1).unwrap_or_default().trim().to_owned()
}

#[test]
fn plain_settings_reach_the_process() {
    let out = output(
        "UMask=0027\nNice=5\nLimitNOFILE=100:200\nOOMScoreAdjust=300\nTimerSlackNSec=77us\nWorkingDirectory=/usr\n\
         CPUSchedulingPolicy=batch\nIOSchedulingClass=idle\nEnvironment=A=b\nCPUAffinity=0",
        "umask; nice; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj /proc/self/timerslack_ns; pwd; echo $$A; \
         chrt -p $$$$ | head -1 | sed s/.*:.//; ionice; grep Cpus_allowed_list /proc/self/status | cut -f2",
    );
    let want = "0027\n5\n100\n200\n300\n77000\n/usr\nb\nSCHED_BATCH\nidle\n0\n";
    assert_eq!(out, want);
}

#[test]
fn a_process_sees_the_environment_that_systemd_would_give_it() {
    let out = output(
        "RuntimeDirectory=mine\nPassEnvironment=NO_SUCH\nUnsetEnvironment=LANG",
        "echo pid $$$$; env | sort",
    );
    let pid = out.lines().next().unwrap().strip_prefix("pid ").unwrap().to_owned();
    let names: Vec<&str> =
        out.lines().skip(1).filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // `PWD`, `SHLVL`, `_` and the like are the shell's.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names: Vec<&str> = names.into_iter().filter(|name| !own.contains(name)).collect();
    assert_eq!(names, ["INVOCATION_ID", "PATH", "RUNTIME_DIRECTORY", "SYSTEMD_EXEC_PID", "USER"]);
    assert!(out.contains(&format!("SYSTEMD_EXEC_PID={pid}\n")));
    assert!(out.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n"));
}

#[test]
fn each_step_that_fails_has_its_code_and_names_its_setting() {
    let cases: &[(&str, i32, &str)] = &[
        ("WorkingDirectory=/no/such", 200, "WorkingDirectory=/no/such"),
        ("User=nobody-has-this", 217, "User=nobody-has-this"),
        ("Group=nobody-has-this", 216, "Group=nobody-has-this"),
        ("StandardInput=file:/no/such", 208, "StandardInput="),
        ("StandardError=file:/no/such/x", 222, "StandardError="),
        // systemd reads it before there is a process: the result is `resources`, and no process has a status.
        ("EnvironmentFile=/no/such", -1, "EnvironmentFile=/no/such"),
        ("LoadCredential=key:/no/such", 243, "LoadCredential=key:/no/such"),
    ];
    for (lines, code, text) in cases {
        let ran = run(lines, "/bin/true");
        assert_eq!(ran.result, "failed", "{lines}");
        assert!(ran.code == *code, "{lines}: {} {}", ran.code, ran.reason);
        assert!(ran.reason.contains(text), "{lines}: {}", ran.reason);
        ran.machine.power_off();
    }
    let ran = run("", "/no/such/program");
    assert_eq!((ran.code, ran.reason.contains("/no/such/program")), (203, true), "{}", ran.reason);
    ran.machine.power_off();
}

#[test]
fn streams_go_where_they_are_sent() {
    let ran = run(
        "StandardInput=data\nStandardInputText=one\\x20line\nStandardError=append:DIR/err",
        "/bin/sh -c 'cat; echo wrong >&2'",
    );
    assert_eq!((ran.result.as_str(), ran.out.as_str()), ("done", "one line\n"), "{}", ran.reason);
    assert_eq!(fs::read_to_string(ran.machine.path("err")).unwrap(), "wrong\n");
    ran.machine.power_off();
    let out = output("StandardInput=null\nStandardError=null", "cat; readlink /proc/self/fd/2");
    assert_eq!(out, "/dev/null\n");
}

#[test]
fn credentials_are_in_a_folder_of_the_units_own() {
    let ran = run(
        "SetCredential=key:se\\x63ret\nLoadCredential=file:DIR/given\nExecStartPre=+/bin/sh -c 'true'",
        "/bin/sh -c 'cd $(printenv | sed -n s/^CREDENTIALS_.*=//p) && stat -c %%a . key && cat key'",
    );
    // The file to be loaded is missing: that is told, with the setting.
    assert_eq!(ran.result, "failed");
    assert!(ran.reason.contains("LoadCredential=file:"), "{}", ran.reason);
    ran.machine.power_off();
    let out = output(
        "SetCredential=key:se\\x63ret",
        "cd $(printenv | sed -n s/^CREDENTIALS_.*=//p) && stat -c %%a . key && cat key",
    );
    assert_eq!(out, "500\n400\nsecret");
}

#[test]
fn the_user_its_groups_and_its_capabilities_are_those_asked_for() {
    if !is_root() {
        return; // another user's id can be had by root alone
    }
    let out = output("User=7\nGroup=8\nSupplementaryGroups=9 10", "id -u; id -g; id -G; echo $$USER");
    assert_eq!(out, "7\n8\n8 9 10\n7\n");
    assert_eq!(status("User=7\nAmbientCapabilities=CAP_NET_BIND_SERVICE", "CapEff"), "0000000000000400");
    assert_eq!(status("User=7", "CapPrm"), "0000000000000000");
    assert_eq!(status("CapabilityBoundingSet=CAP_CHOWN CAP_KILL", "CapEff"), "0000000000000021");
    assert_eq!(status("CapabilityBoundingSet=", "CapBnd"), "0000000000000000");
    assert_eq!(status("NoNewPrivileges=yes", "NoNewPrivs"), "1");
    let out = output(
        "User=7\nExecStartPre=+/bin/sh -c 'id -u > DIR/pre'\nExecStartPre=!/bin/sh -c 'id -u >> DIR/pre'",
        "id -u; cat DIR/pre",
    );
    assert_eq!(out, "7\n0\n0\n");
}

#[test]
fn a_dynamic_user_has_an_id_of_its_own_and_folders_that_stay() {
    if !is_root() {
        return;
    }
    let ran = run(
        "DynamicUser=yes\nStateDirectory=s\nRuntimeDirectory=r",
        "/bin/sh -c 'id -u; touch /usr/x 2>/dev/null || echo denied; grep ^NoNew /proc/self/status'",
    );
    assert_eq!(ran.result, "done", "{}", ran.reason);
    let id: u32 = ran.out.lines().next().unwrap().parse().unwrap();
    assert!((61184..=65519).contains(&id), "{}", ran.out);
    assert!(ran.out.ends_with("denied\nNoNewPrivs:\t1\n"), "{}", ran.out);
    assert_eq!(fs::metadata(ran.machine.path("run/var/lib/private/s")).unwrap().uid(), id);
    assert_eq!(fs::metadata(ran.machine.path("run/run/r")).unwrap().uid(), id);
    let private = fs::metadata(ran.machine.path("run/var/lib/private")).unwrap();
    assert_eq!(private.permissions().mode() & 0o777, 0o700);
    ran.machine.power_off();
}

#[test]
fn the_view_of_the_file_system_is_as_asked_for() {
    if !is_root() {
        return;
    }
    let cases: &[(&str, &str, &str)] = &[
        ("ProtectSystem=yes", "touch /usr/zz 2>/dev/null || echo usr; touch DIR/in && echo in", "usr\nin\n"),
        (
            "ProtectSystem=strict\nReadWritePaths=DIR/rw -/no/such\nExecStartPre=+/bin/true",
            "touch DIR/no 2>/dev/null || echo no; touch DIR/rw/a && echo rw",
            "no\nrw\n",
        ),
        ("ProtectHome=yes", "ls -A /root 2>/dev/null | wc -l; stat -c %%a /root", "0\n0\n"),
        ("ProtectHome=tmpfs", "ls -A /root | wc -l; touch /root/x 2>/dev/null || echo ro", "0\nro\n"),
        ("InaccessiblePaths=/etc/passwd", "wc -c < /etc/passwd; stat -c %%a /etc/passwd", "0\n0\n"),
        ("TemporaryFileSystem=DIR/rw:mode=0700", "touch DIR/rw/x && stat -c %%a DIR/rw", "700\n"),
        (
            "BindReadOnlyPaths=/usr:DIR/rw",
            "ls -d DIR/rw/bin; touch DIR/rw/x 2>/dev/null || echo ro",
            "DIR/rw/bin\nro\n",
        ),
        ("NoExecPaths=DIR/rw", "cp /bin/true DIR/rw/t; DIR/rw/t 2>/dev/null || echo noexec", "noexec\n"),
        (
            "PrivateDevices=yes",
            "ls /dev/kmsg /dev/mem 2>/dev/null; echo x > /dev/null && ls /dev/zero",
            "/dev/zero\n",
        ),
        ("ProtectKernelTunables=yes", "(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo ro", "ro\n"),
        ("ProtectProc=invisible\nProcSubset=pid", "ls /proc/meminfo 2>/dev/null || echo pids", "pids\n"),
        (
            "PrivateMounts=yes",
            "test $(readlink /proc/self/ns/mnt) != $(readlink /proc/$$PPID/ns/mnt) && echo own",
            "own\n",
        ),
    ];
    for (lines, script, want) in cases {
        let unit_lines = format!("{lines}\nExecStartPre=+/bin/true");
        let machine = Machine::start(&[
            ("default.target", "[Unit]"),
            ("pre.service", "[Service]\nType=oneshot\nExecStart=/bin/mkdir -p DIR/rw"),
            (
                "x.service",
                &format!(
                    "[Unit]\nRequires=pre.service\nAfter=pre.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                     StandardOutput=truncate:DIR/out\n{unit_lines}\nExecStart=/bin/sh -c '{script}'"
                ),
            ),
        ]);
        let result = machine.job("start", "x.service");
        let out = fs::read_to_string(machine.path("out")).unwrap_or_default();
        let want = want.replace("DIR", machine.folder.path().to_str().unwrap());
        assert_eq!(
            (result.as_str(), out.as_str()),
            ("done", want.as_str()),
            "{lines}: {}",
            machine.view("x.service").reason
        );
        machine.power_off();
    }
    let ran = run("ReadOnlyPaths=/no/such", "/bin/true");
    assert_eq!((ran.code, ran.reason.contains("ReadOnlyPaths=/no/such")), (226, true), "{}", ran.reason);
    ran.machine.power_off();
}

#[test]
fn a_private_tmp_is_shared_by_the_commands_of_a_start_and_then_gone() {
    if !is_root() {
        return;
    }
    let ran = run(
        "PrivateTmp=yes\nExecStartPre=/bin/sh -c 'echo shared > /tmp/f'",
        "/bin/sh -c 'cat /tmp/f; ls /tmp | wc -l; touch /var/tmp/g'",
    );
    assert_eq!((ran.result.as_str(), ran.out.as_str()), ("done", "shared\n1\n"), "{}", ran.reason);
    let folder = ran.machine.path("run/tmp");
    let entries = || fs::read_dir(&folder).map_or(0, Iterator::count);
    assert_eq!(entries(), 1);
    assert_eq!(ran.machine.job("stop", "x.service"), "done");
    machine::wait_for("the folder's removal", || entries() == 0);
    ran.machine.power_off();
}

#[test]
fn namespaces_are_left() {
    if !is_root() {
        return;
    }
    assert_eq!(
        output("PrivateNetwork=yes", "grep -c : /proc/net/dev; cat /proc/net/route | wc -l"),
        "1\n1\n"
    );
    let out = output("PrivateUsers=yes\nUser=7", "cat /proc/self/uid_map | tr -s \" \"; id -u");
    assert_eq!(out, " 0 0 1\n 7 7 1\n7\n");
    let out = output("ProtectHostname=yes", "hostname changed 2>/dev/null || echo kept");
    assert_eq!(out, "kept\n");
}

#[test]
fn forbidden_calls_fail_or_kill() {
    if !is_root() {
        return;
    }
    let out = output(
        "SystemCallFilter=~@chown\nSystemCallErrorNumber=EPERM",
        "chown 0 DIR/out 2>/dev/null || echo denied",
    );
    assert_eq!(out, "denied\n");
    // As an ordinary user too, and without NoNewPrivileges=.
    let out = output(
        "User=7\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\nSystemCallErrorNumber=EPERM\n\
         RestrictAddressFamilies=AF_UNIX\nRestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\nLockPersonality=yes\n\
         RestrictSUIDSGID=yes\nRestrictRealtime=yes\nSystemCallArchitectures=native",
        "grep -E ^Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo denied; grep -c . /proc/self/uid_map",
    );
    assert_eq!(out, "Seccomp:\t2\ndenied\n1\n");
    let ran = run("SystemCallFilter=~@chown", "/bin/chown 0 /dev/null");
    assert_eq!((ran.result.as_str(), ran.code), ("failed", 31), "{}", ran.reason);
    ran.machine.power_off();
}

#[test]
fn the_units_of_redis_and_chrony_start_with_all_that_they_ask_for() {
    if !is_root() {
        return;
    }
    let redis = "User=7\nGroup=7\nRuntimeDirectory=redis\nRuntimeDirectoryMode=2755\nUMask=007\nPrivateTmp=true\nLimitNOFILE=65535\n\
         PrivateDevices=true\nProtectHome=true\nProtectSystem=strict\nReadWritePaths=-/var/lib/redis\n\
         CapabilityBoundingSet=\nLockPersonality=true\nMemoryDenyWriteExecute=true\nNoNewPrivileges=true\nPrivateUsers=true\n\
         ProtectClock=true\nProtectControlGroups=true\nProtectHostname=true\nProtectKernelLogs=true\n\
         ProtectKernelModules=true\nProtectKernelTunables=true\nProtectProc=invisible\nRemoveIPC=true\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nRestrictNamespaces=true\nRestrictRealtime=true\n\
         RestrictSUIDSGID=true\nSystemCallArchitectures=native\nSystemCallFilter=@system-service\n\
         SystemCallFilter=~ @privileged @resources\nNoExecPaths=/\nExecPaths=/usr/bin /usr/lib /lib /lib64 /bin";
    assert_eq!(output(redis, "id -u; grep ^CapBnd /proc/self/status | cut -f2"), "7\n0000000000000000\n");
    let chrony = "User=7\nCapabilityBoundingSet=~CAP_AUDIT_CONTROL CAP_SYS_ADMIN CAP_MKNOD\nDeviceAllow=char-rtc rw\nDevicePolicy=closed\n\
         LockPersonality=yes\nMemoryDenyWriteExecute=yes\nPrivateTmp=yes\nProcSubset=pid\nProtectControlGroups=yes\n\
         ProtectHome=yes\nProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\n\
         ProtectProc=invisible\nProtectSystem=strict\nReadWritePaths=/run\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nRestrictNamespaces=yes\nRestrictSUIDSGID=yes\n\
         SystemCallArchitectures=native\nSystemCallFilter=~@cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap";
    let ran = run(chrony, "!/bin/sh -c 'id -u; grep ^Seccomp: /proc/self/status'");
    assert_eq!((ran.result.as_str(), ran.out.as_str()), ("done", "0\nSeccomp:\t2\n"), "{}", ran.reason);
    ran.machine.power_off();
}
