//! fleetd and its signals. They reach the whole process, so there is one test in this file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should fail on the spot"
)]

mod common;

use std::os::unix::net::UnixStream;

use common::{Machine, text, until};
use rustix::process::{Signal, getpid, kill_process};

/// Scenario 13, ReconfigureServer: SIGHUP reads the settings again; the API's socket stays, and so does what runs. Scenario 11, Shutdown:
/// SIGTERM ends it without an error, which a service manager calls the result `success`.
#[test]
fn reconfigure_server_and_shutdown() {
    let machine = Machine::start();
    let unit = machine.file("a.service", "[Service]\nExecStart=/bin/true\n");
    assert!(machine.check(&["start", text(&unit)]).starts_with("Unit a.service launched on 01234567"));
    assert!(machine.check(&["list-machines"]).contains("disk=ssd"));
    machine.pid1.take();

    // Somebody who is connected before it is served after it.
    let waiting = UnixStream::connect(machine.socket()).unwrap();
    let config = machine.pid1.root().join("etc/fleet/fleet.conf");
    let changed = std::fs::read_to_string(&config).unwrap().replace("disk=ssd", "disk=hdd");
    std::fs::write(&config, changed).unwrap();
    kill_process(getpid(), Signal::HUP).unwrap();
    until("the new metadata is known", || {
        let output = machine.fleetctl(&["list-machines"]);
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("disk=hdd")
    });
    let answer = common::ask(waiting, "/fleet/v1/units");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    until("it runs", || machine.check(&["list-units", "--no-legend"]).contains("active\trunning"));
    assert_eq!(machine.pid1.take(), [""; 0], "nothing was stopped, and nothing was started again");

    // Settings that cannot be used change nothing.
    let broken = std::fs::read_to_string(&config).unwrap().replace("disk=hdd", "disk=tape");
    std::fs::write(&config, format!("{broken}\netcd_cafile=/nowhere/ca.pem\n")).unwrap();
    kill_process(getpid(), Signal::HUP).unwrap();
    let reads = || machine.etcd.calls().iter().filter(|path| *path == "/v3/kv/range").count();
    until("everything is read a third time", || reads() == 3);
    until("it answers again", || machine.fleetctl(&["list-machines"]).status.success());
    assert!(machine.check(&["list-machines"]).contains("disk=hdd"));

    kill_process(getpid(), Signal::TERM).unwrap();
    let ended = machine.daemon.join().unwrap_or_else(|_| panic!("it has panicked"));
    assert!(ended.is_ok(), "{ended:?}");
}
