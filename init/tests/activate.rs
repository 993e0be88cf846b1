//! Sockets, timers and path units of the supervisor's shell on the host: real descriptors, real clocks.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod machine;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;

use machine::{Machine, read, wait_for};

const TARGET: (&str, &str) = ("default.target", "[Unit]");

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_connection_starts_the_service_which_gets_the_socket() {
    let machine = Machine::start(&[
        TARGET,
        (
            "s.socket",
            "[Socket]\nListenStream=DIR/s\nListenStream=DIR/t\nFileDescriptorName=x\nRemoveOnStop=yes",
        ),
        (
            "s.service",
            "[Service]\nExecStart=/bin/sh -c 'echo $LISTEN_FDS $LISTEN_FDNAMES $$(($LISTEN_PID - $$$$)) > DIR/env; \
             test -S /proc/self/fd/3 && test -S /proc/self/fd/4 && echo both >> DIR/env; exec sleep 100'",
        ),
    ]);
    assert_eq!(machine.job("start", "s.socket"), "done");
    assert_eq!(machine.view("s.socket").sub, "listening");
    assert_eq!(machine.view("s.service").active, "inactive");
    let _connection = UnixStream::connect(machine.path("t")).unwrap();
    wait_for("the service", || read(&machine.path("env")).contains("both"));
    assert_eq!(read(&machine.path("env")), "2 x:x 0\nboth\n");
    wait_for("the socket's state", || machine.view("s.socket").sub == "running");
    assert_eq!(machine.job("stop", "s.service"), "done");
    // The connection that nobody took is still there, so the service is started again.
    wait_for("another start", || machine.view("s.service").active == "active");
    assert_eq!(machine.job("stop", "s.socket"), "done");
    assert!(!machine.path("s").exists() && !machine.path("t").exists());
    machine.power_off();
}

#[test]
fn every_connection_has_an_instance_of_its_own() {
    let port = free_port();
    let machine = Machine::start(&[
        TARGET,
        ("e.socket", &format!("[Socket]\nListenStream=127.0.0.1:{port}\nAccept=yes\nMaxConnections=2")),
        (
            "e@.service",
            "[Service]\nExecStart=/bin/sh -c 'read line <&3; echo \"$line from $REMOTE_ADDR %i\" >&3'",
        ),
    ]);
    assert_eq!(machine.job("start", "e.socket"), "done");
    let mut streams: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let mut refused = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answer = String::new();
    // One more than MaxConnections= is dropped without a word, be it by an end or by a reset.
    let _reset = refused.read_to_string(&mut answer);
    assert_eq!(answer, "");
    for (index, stream) in streams.iter_mut().enumerate() {
        writeln!(stream, "hello {index}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let local = stream.local_addr().unwrap();
        assert!(answer.starts_with(&format!("hello {index} from 127.0.0.1")), "{answer}");
        assert!(answer.trim().ends_with(&format!("-127.0.0.1:{port}-{local}")), "{answer}");
    }
    assert_eq!(machine.view("e.socket").sub, "listening");
    machine.power_off();
}

#[test]
fn a_service_that_never_takes_its_connection_is_not_started_for_ever() {
    let machine = Machine::start(&[
        TARGET,
        ("bad.socket", "[Socket]\nListenStream=DIR/bad"),
        ("bad.service", "[Unit]\nStartLimitBurst=3\n[Service]\nType=oneshot\nExecStart=/bin/true"),
        ("dull.socket", "[Socket]\nListenFIFO=DIR/dull\nTriggerLimitBurst=3"),
        ("dull.service", "[Unit]\nStartLimitBurst=0\n[Service]\nType=oneshot\nExecStart=/bin/true"),
    ]);
    for socket in ["bad.socket", "dull.socket"] {
        assert_eq!(machine.job("start", socket), "done");
    }
    let _connection = UnixStream::connect(machine.path("bad")).unwrap();
    fs::OpenOptions::new().write(true).open(machine.path("dull")).unwrap().write_all(b"x").unwrap();
    wait_for("the limit of the service", || machine.view("bad.socket").active == "failed");
    assert_eq!(machine.view("bad.socket").result, "service-start-limit-hit");
    wait_for("the limit of the socket", || machine.view("dull.socket").active == "failed");
    assert_eq!(machine.view("dull.socket").result, "trigger-limit-hit");
    assert!(fs::metadata(machine.path("dull")).unwrap().file_type().is_fifo());
    machine.power_off();
}

#[test]
fn timers_elapse_and_remember_it() {
    let machine = Machine::start(&[
        TARGET,
        ("t.timer", "[Timer]\nOnActiveSec=50ms\nOnUnitInactiveSec=50ms"),
        ("t.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/t'"),
        ("c.timer", "[Timer]\nOnCalendar=*-*-* *:*:*\nPersistent=yes\nUnit=d.service"),
        ("d.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/d'"),
        ("once.timer", "[Timer]\nOnActiveSec=1ms\nRemainAfterElapse=no"),
        ("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true"),
    ]);
    for timer in ["t.timer", "c.timer", "once.timer"] {
        assert_eq!(machine.job("start", timer), "done");
    }
    wait_for("three runs", || read(&machine.path("t")).lines().count() >= 3);
    wait_for("two seconds", || read(&machine.path("d")).lines().count() >= 2);
    assert!(machine.path("run/var/lib/systemd/timers/stamp-c.timer").exists());
    wait_for("the end of the timer", || machine.view("once.timer").active == "inactive");
    assert_eq!(machine.job("stop", "t.timer"), "done");
    assert_eq!(machine.view("t.timer").sub, "dead");
    machine.power_off();
}

#[test]
fn path_units_see_what_comes_and_what_changes() {
    let machine = Machine::start(&[
        TARGET,
        ("p.path", "[Path]\nPathExists=DIR/deep/er"),
        ("p.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm DIR/deep/er; echo x >> DIR/p'"),
        ("q.path", "[Path]\nPathChanged=DIR/watched\nMakeDirectory=no"),
        ("q.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/q'"),
        ("r.path", "[Path]\nDirectoryNotEmpty=DIR/spool\nMakeDirectory=yes"),
        ("r.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm DIR/spool/*; echo x >> DIR/r'"),
        ("g.path", "[Path]\nPathExistsGlob=DIR/*.job"),
        ("g.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'rm DIR/1.job; echo x >> DIR/g'"),
    ]);
    fs::write(machine.path("watched"), "").unwrap();
    for path in ["p.path", "q.path", "r.path", "g.path"] {
        assert_eq!(machine.job("start", path), "done");
        assert_eq!(machine.view(path).sub, "waiting");
    }
    fs::create_dir(machine.path("deep")).unwrap();
    fs::write(machine.path("deep/er"), "").unwrap();
    wait_for("the path", || read(&machine.path("p")).contains('x'));
    wait_for("rest", || machine.view("p.path").sub == "waiting");
    fs::write(machine.path("deep/er"), "").unwrap();
    wait_for("the path again", || read(&machine.path("p")).lines().count() == 2);
    fs::write(machine.path("watched"), "more").unwrap();
    wait_for("the change", || read(&machine.path("q")).contains('x'));
    fs::write(machine.path("spool/a"), "").unwrap();
    wait_for("the spool", || read(&machine.path("r")).contains('x'));
    fs::write(machine.path("1.job"), "").unwrap();
    wait_for("the job", || read(&machine.path("g")).contains('x'));
    machine.power_off();
}
