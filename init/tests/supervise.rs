//! The supervisor's shell as an ordinary process on the host: real processes, real sockets, no cgroups.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod machine;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use init::control::{JobRequest, Method};
use machine::{Machine, read, wait_for};

#[test]
fn units_start_in_order_and_stop_in_reverse() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]\nWants=b.service a.service"),
        (
            "a.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'sleep 0.2; echo a >> DIR/trace'\n\
             ExecStop=/bin/sh -c 'echo stop-a >> DIR/trace'",
        ),
        (
            "b.service",
            "[Unit]\nRequires=a.service\nAfter=a.service\n[Service]\nExecStart=/bin/sh -c 'echo b >> DIR/trace; exec sleep 100'\n\
             ExecStopPost=/bin/sh -c 'echo stop-b $SERVICE_RESULT >> DIR/trace'",
        ),
    ]);
    let trace = machine.path("trace");
    wait_for("b", || read(&trace).contains('b'));
    assert_eq!(machine.view("b.service").sub, "running");
    let folder = machine.folder.path().to_owned();
    let copy = folder.join("trace");
    assert_eq!(read(&copy), "a\nb\n");
    let kept = tempfile::NamedTempFile::new().unwrap();
    wait_for("the stop", || {
        if machine.view("a.service").active == "active" {
            assert_eq!(machine.job("stop", "a.service"), "done");
        }
        fs::write(kept.path(), read(&copy)).unwrap();
        read(kept.path()).contains("stop-a")
    });
    assert_eq!(read(kept.path()), "a\nb\nstop-b success\nstop-a\n");
    machine.power_off();
}

#[test]
fn a_crashing_service_is_restarted_until_its_limit() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]\nWants=c.service"),
        (
            "c.service",
            "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=/bin/sh -c 'echo x >> DIR/count; exit 7'\n\
             Restart=on-failure\nRestartSec=10ms",
        ),
    ]);
    wait_for("the limit", || machine.view("c.service").active == "failed");
    assert_eq!(machine.view("c.service").result, "exit-code");
    assert_eq!(read(&machine.path("count")).lines().count(), 3);
    machine.power_off();
}

#[test]
fn a_process_that_ignores_sigterm_does_not_hold_the_shutdown_up() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]\nWants=d.service"),
        (
            "d.service",
            "[Service]\nTimeoutStopSec=500ms\nExecStart=/bin/sh -c 'trap \"\" TERM; echo up > DIR/up; while :; do sleep 0.05; done'",
        ),
    ]);
    wait_for("d", || machine.path("up").exists());
    let begin = Instant::now();
    machine.power_off();
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn failures_are_told_with_their_reason() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]"),
        ("none.service", "[Service]\nType=exec\nExecStart=/no/such/program"),
        ("user.service", "[Service]\nType=exec\nUser=nobody-has-this-name\nExecStart=/bin/true"),
        ("env.service", "[Service]\nType=oneshot\nEnvironmentFile=/no/such/file\nExecStart=/bin/true"),
    ]);
    for (unit, status) in [("none.service", 203), ("user.service", 217)] {
        assert_eq!(machine.job("start", unit), "failed", "{unit}");
        assert_eq!(machine.view(unit).main_exit, Some(("exited".to_owned(), status)), "{unit}");
    }
    // Without the file there is not even a process.
    assert_eq!(machine.job("start", "env.service"), "failed");
    let view = machine.view("env.service");
    assert_eq!((view.main_exit, view.result.as_str()), (None, "resources"));
    assert!(machine.view("user.service").reason.contains("nobody-has-this-name"));
    let error = machine.client().unwrap().call(Method::Job(JobRequest {
        unit: "gone.service".to_owned(),
        verb: "start".to_owned(),
        mode: "replace".to_owned(),
        wait: true,
    }));
    assert_eq!(error.unwrap_err().to_string(), "Unit gone.service not found.");
    machine.power_off();
}

#[test]
fn clients_that_talk_nonsense_or_hang_disturb_nobody() {
    let machine = Machine::start(&[("default.target", "[Unit]")]);
    let control = machine.path("run/control");
    let _hangs = UnixStream::connect(&control).unwrap();
    let mut nonsense = UnixStream::connect(&control).unwrap();
    nonsense.write_all(b"\xff\xfe garbage\0{\"method\":\"org.ferrite.Init.Nope\"}\0").unwrap();
    let mut answer = [0; 64];
    assert!(nonsense.read(&mut answer).unwrap() > 0);
    let mut flood = UnixStream::connect(&control).unwrap();
    let lines = vec![b'x'; 2 << 20];
    let _cut_off = flood.write_all(&lines);
    assert_eq!(machine.view("default.target").active, "active");
    machine.power_off();
}

#[test]
fn another_program_takes_over_and_nothing_stops() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]\nWants=a.service s.socket t.timer"),
        (
            "a.service",
            "[Service]\nType=notify\nNotifyAccess=all\nRestart=always\nRestartSec=10ms\nExecStart=/bin/sh -c 'echo $$$$ >> DIR/pids; while ! test -e DIR/ready; do sleep 0.02; done; exec sleep 100'",
        ),
        ("b.service", "[Unit]\nAfter=a.service\n[Service]\nExecStart=/bin/sleep 100"),
        ("s.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=DIR/s"),
        (
            "s.service",
            "[Service]\nExecStart=/bin/sh -c 'test -S /proc/self/fd/3 && echo x > DIR/activated; exec sleep 100'",
        ),
        ("t.timer", "[Unit]\nDefaultDependencies=no\n[Timer]\nOnActiveSec=100ms\nOnUnitInactiveSec=100ms"),
        ("t.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/ticks'"),
    ]);
    let pids = machine.path("pids");
    wait_for("a", || read(&pids).lines().count() == 1);
    wait_for("the socket", || machine.view("s.socket").sub == "listening");
    let request = JobRequest {
        unit: "b.service".to_owned(),
        verb: "start".to_owned(),
        mode: "replace".to_owned(),
        wait: false,
    };
    machine.client().unwrap().call(Method::Job(request)).unwrap();
    for _ in 0..2 {
        machine.client().unwrap().call(Method::Reexec {}).unwrap();
        wait_for("the next program", || {
            machine.client().is_some_and(|mut client| client.call(Method::State {}).is_ok())
        });
    }
    let a = machine.view("a.service");
    assert_eq!((a.sub.as_str(), a.main_pid.to_string()), ("start", read(&pids).trim().to_owned()));
    assert_eq!(machine.view("b.service").job.as_deref(), Some("start"));
    let _connection = UnixStream::connect(machine.path("s")).unwrap();
    wait_for("the activated service", || machine.path("activated").exists());
    let ticks = read(&machine.path("ticks")).lines().count();
    wait_for("more ticks", || read(&machine.path("ticks")).lines().count() > ticks);
    // Its end is noticed, and it comes back: both are the next program's doing.
    let _gone = std::process::Command::new("kill").args(["-9", &a.main_pid.to_string()]).status().unwrap();
    wait_for("the restart", || read(&pids).lines().count() == 2);
    machine.power_off();
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let machine = Machine::start(&[
        ("default.target", "[Unit]"),
        (
            "slow.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo up > DIR/up; until test -e DIR/go; do sleep 0.02; done'",
        ),
        ("a.service", "[Service]\nExecStart=/bin/sleep 100"),
    ]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| machine.job("start", "slow.service"));
        wait_for("the job that is waited for", || machine.path("up").exists());
        let connect = |_| {
            let mut client = UnixStream::connect(machine.path("run/control")).unwrap();
            client.write_all(b"{\"method\":").unwrap();
            client
        };
        let silent: Vec<UnixStream> = (0..300).map(connect).collect();
        assert_eq!(machine.job("start", "a.service"), "done");
        fs::write(machine.path("go"), "").unwrap();
        assert_eq!(waits.join().unwrap(), "done", "whoever waits for a job is not hung up on");
        drop(silent);
    });
    machine.power_off();
}
