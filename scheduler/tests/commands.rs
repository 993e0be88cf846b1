//! fleetctl as a program, against a fleetd and an etcd in this process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected should fail on the spot"
)]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::fs;

use common::etcd::Etcd;
use common::{ID, Machine, failed, succeeded, text, until};

const HELLO: &str = "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/hello\n";
const LAUNCHED: &str = "Unit hello.service launched on 01234567.../127.0.0.1\n";

/// ssh for tests: it writes down what it was called with and runs the command on this machine.
const SSH: &str = r#"echo "$@" >> ssh.log
while [ $# -gt 0 ]; do
    case "$1" in
        -l | -o | -p) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
shift
[ "$1" = -- ] && shift
exec sh -c "$*"
"#;

/// Scenario 3, ClientVersionFlag: the exact text, with and without a cluster. Scenarios 4 (ClientVersionHelpOutput) and 5 (ClientHelpFlag):
/// the help says the version, and all ways to ask for it give the same.
#[test]
fn client_version_and_help() {
    let machine = Machine::start_with(Etcd::start(), "");
    let run = |words: &[&str]| succeeded(&machine.plain(words).output().unwrap());
    let version = format!("fleetctl version {}\n", env!("CARGO_PKG_VERSION"));
    for words in [&["--version"][..], &["-v"], &["version"], &["-version"]] {
        assert_eq!(run(words), version, "{words:?}");
    }
    let help = run(&["help"]);
    assert!(help.contains(&format!("Version:\n  {}\n", env!("CARGO_PKG_VERSION"))), "{help}");
    for words in [&["--help"][..], &["-h"], &[]] {
        assert_eq!(run(words), help, "{words:?}");
    }
    assert!(run(&["start", "--help"]).starts_with("fleetctl start UNIT..."));
    let wrong = machine.plain(&["frob"]).output().unwrap();
    assert!(failed(&wrong, 1).contains("unknown subcommand: \"frob\""));
}

/// An endpoint with TLS: servers of the authority are believed, and the client shows its certificate.
#[test]
fn https_endpoints_want_the_right_ca_and_a_client_certificate() {
    let machine = Machine::start();
    let folder = machine.pid1.root();
    tls::certificates(folder, "ca");
    tls::certificates(folder, "other");
    let port = tls::front(folder, "ca", machine.socket());
    let endpoint = format!("--endpoint=https://127.0.0.1:{port}");
    let with = |files: [&str; 3], words: &[&str]| {
        let mut command = machine.plain(&[&endpoint]);
        for (option, file) in ["--ca-file", "--cert-file", "--key-file"].into_iter().zip(files) {
            if !file.is_empty() {
                command.arg(option).arg(folder.join(file));
            }
        }
        command.args(words).output().unwrap()
    };
    let good = ["ca.pem", "ca-client.pem", "ca-client.key"];
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(succeeded(&with(good, &["start", text(&unit)])), LAUNCHED);
    assert_eq!(succeeded(&with(good, &["cat", "hello"])), HELLO);
    // Behind SSH, which leads to the port.
    machine.program("ssh", "echo \"$@\" >> ssh.log\nexec fleetctl fd-forward front.sock\n");
    let words = ["--tunnel=gate", "list-machines", "--no-legend", "--fields=ip"];
    assert_eq!(succeeded(&with(good, &words)), "127.0.0.1\n");
    let log = fs::read_to_string(folder.join("ssh.log")).unwrap();
    assert!(log.ends_with(&format!("-W 127.0.0.1:{port} gate\n")), "{log}");
    // By variables, the old names among them.
    let mut command = machine.plain(&[&endpoint, "list-machines", "--no-legend"]);
    command.env("FLEETCTL_CA_FILE", folder.join(good[0])).env("FLEETCTL_CERT_FILE", folder.join(good[1]));
    command.env("FLEETCTL_ETCD_KEYFILE", folder.join(good[2]));
    assert!(succeeded(&command.output().unwrap()).contains("127.0.0.1"));
    for (files, want) in [
        (["other.pem", good[1], good[2]], "invalid peer certificate: UnknownIssuer"),
        (["", good[1], good[2]], "invalid peer certificate: UnknownIssuer"),
        ([good[0], "", ""], "ertificate"),
        ([good[0], "other-client.pem", "other-client.key"], "cannot talk to fleetd at https://127.0.0.1"),
        ([good[0], good[1], ""], "a client certificate needs its key"),
        (["none.pem", good[1], good[2]], "none.pem: "),
    ] {
        let told = failed(&with(files, &["list-machines"]), 1);
        assert!(
            told.contains(want) && told.contains("cannot talk to fleetd at https://127.0.0.1"),
            "{files:?}: {told}"
        );
    }
}

/// `--driver=etcd`: the same commands without a fleetd in between.
#[test]
fn the_cluster_is_reached_at_etcd_itself() {
    let machine = Machine::start();
    let direct = |words: &[&str]| {
        let mut command = machine.plain(&["--driver=etcd"]);
        command.args(words).env("FLEETCTL_ENDPOINT", &machine.etcd.url).output().unwrap()
    };
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(succeeded(&direct(&["start", text(&unit)])), LAUNCHED);
    for words in [&["list-units"][..], &["list-unit-files"], &["list-machines", "-l"], &["cat", "hello"]] {
        assert_eq!(succeeded(&direct(words)), machine.check(words), "{words:?}");
    }
    let odd = machine.file("odd.service", &format!("{HELLO}\n[X-Fleet]\nMachineMetadata=disk=tape\n"));
    let told = failed(&direct(&["start", text(&odd)]), 1);
    assert_eq!(told, "Unit odd.service cannot be launched: 01234567: metadata disk is ssd, not tape\n");
    assert_eq!(
        succeeded(&direct(&["stop", "hello"])),
        "Unit hello.service loaded on 01234567.../127.0.0.1\n"
    );
    succeeded(&direct(&["destroy", "hello", "odd"]));
    until("they are gone", || machine.check(&["list-unit-files", "--no-legend"]).is_empty());
    let elsewhere = direct(&["--etcd-key-prefix=/elsewhere/", "list-machines", "--no-legend"]);
    assert_eq!(succeeded(&elsewhere), "");

    machine.etcd.put_leased("/_coreos.com/fleet/machines/new/object", r#"{"ID":"new","Version":"99.0.0"}"#);
    assert!(String::from_utf8_lossy(&direct(&["list-machines"]).stderr).contains("has version 99.0.0"));
    let told = failed(&direct(&["--tunnel=x", "list-machines"]), 1);
    assert!(told.contains("--driver=etcd does not go through a tunnel"), "{told}");
    let told = failed(&machine.plain(&["--driver=zookeeper", "list-machines"]).output().unwrap(), 1);
    assert!(told.contains("--driver is API or etcd, not \"zookeeper\""), "{told}");
    machine.etcd.let_answer(false);
    let told = failed(&direct(&["--request-timeout=1", "list-machines"]), 1);
    assert!(told.contains(&format!("cannot read the cluster from etcd at {}", machine.etcd.url)), "{told}");
}

/// Scenario 39, UnitSSHActions: `ssh`, `status` and `journal` by a unit's name go to its machine, and end as the command there does.
/// Scenario 41, UnitStatus.
#[test]
fn unit_ssh_actions_and_status() {
    let machine = Machine::start();
    machine.program("ssh", SSH);
    machine.program("systemctl", "echo \"systemctl $*\"\nexit 3\n");
    machine.program("journalctl", "echo \"journalctl $*\"\n");
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(machine.check(&["start", text(&unit)]), LAUNCHED);

    assert_eq!(machine.check(&["ssh", "hello.service", "echo", "'it is'", "here"]), "it is here\n");
    assert_eq!(machine.check(&["ssh", "--machine", &ID[..8], "echo", "there"]), "there\n");
    assert_eq!(machine.fleetctl(&["ssh", "--unit", "hello", "exit", "7"]).status.code(), Some(7));
    let status = machine.fleetctl(&["status", "--ssh-port=2222", "hello.service"]);
    assert_eq!(status.status.code(), Some(3), "that of systemctl");
    assert_eq!(String::from_utf8_lossy(&status.stdout), "systemctl status -l hello.service\n");
    assert_eq!(
        machine.check(&["journal", "--lines=3", "-f", "hello"]),
        "journalctl --unit hello.service --no-pager -n 3 --output short -f\n"
    );
    let log = fs::read_to_string(machine.pid1.root().join("ssh.log")).unwrap();
    assert!(log.lines().all(|line| line.contains("-l core ") && line.contains(" 127.0.0.1")), "{log}");
    assert_eq!(
        log.lines().filter(|line| line.contains("-p 2222 127.0.0.1 -- systemctl")).count(),
        1,
        "{log}"
    );

    assert_eq!(machine.check(&["stop", "hello"]), "Unit hello.service loaded on 01234567.../127.0.0.1\n");
    machine.check(&["unload", "hello"]);
    let told = failed(&machine.fleetctl(&["journal", "hello"]), 1);
    assert!(told.contains("Unit hello.service does not appear to be running"), "{told}");
    let told = failed(&machine.fleetctl(&["status", "nothing"]), 1);
    assert!(told.contains("Unit nothing.service does not exist"), "{told}");
}

/// Scenario 43, TunnelScheduleBatchUnits: one unit and then a batch are started through SSH, by `fd-forward` at the other end.
#[test]
fn tunnel_schedule_batch_units() {
    let machine = Machine::start();
    machine.program("ssh", SSH);
    let endpoint = format!("unix://{}", machine.socket().display());
    let through = |words: &[&str]| {
        let mut command = machine.plain(&["--tunnel=gate:2200", "--endpoint", &endpoint]);
        command.args(words).output().unwrap()
    };
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(succeeded(&through(&["start", text(&unit)])), LAUNCHED);
    let names: Vec<String> = (0..20).map(|number| format!("batch@{number}.service")).collect();
    machine.file("batch@.service", HELLO);
    let mut words = vec!["start"];
    words.extend(names.iter().map(String::as_str));
    let told = succeeded(&through(&words));
    assert_eq!(told.lines().filter(|line| line.contains(" launched on ")).count(), names.len(), "{told}");
    assert_eq!(succeeded(&through(&["list-units", "--no-legend"])).lines().count(), 1 + names.len());
    let log = fs::read_to_string(machine.pid1.root().join("ssh.log")).unwrap();
    assert!(log.lines().all(|line| line.contains("-p 2200 gate -- fleetctl fd-forward")), "{log}");

    machine.program("ssh", "echo 'gate: no route to host' >&2\nexit 255\n");
    let told = failed(&through(&["list-units"]), 1);
    assert!(told.contains("no route to host") && told.contains("ssh ended with exit status: 255"), "{told}");
}

/// The daemon counts what it does, as fleet's did.
#[test]
fn metrics_are_fleets() {
    let machine = Machine::start();
    let unit = machine.file("hello.service", HELLO);
    machine.check(&["start", text(&unit)]);
    let now =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let metrics = machine.get("/metrics");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
    };
    let begun = value("fleet_engine_leader_start_time");
    assert!((now as f64 - 60.0..=now as f64).contains(&begun), "{metrics}");
    assert_eq!(value("fleet_engine_task_count_total{type=\"attemptscheduleunit\"}"), 1.0);
    assert_eq!(value("fleet_engine_task_failure_count_total{type=\"attemptscheduleunit\"}"), 0.0);
    assert!(value("fleet_engine_reconcile_count_total") >= 1.0);
    assert_eq!(
        value("fleet_engine_reconcile_duration_second_count"),
        value("fleet_engine_reconcile_count_total")
    );
    assert_eq!(value("fleet_registry_operation_count_total{type=\"get_all\"}"), 1.0, "nothing is read twice");
    // A lease, the machine, the leader, the unit, what is wanted of it, its machine, its states.
    assert!(value("fleet_registry_operation_count_total{type=\"set\"}") >= 7.0, "{metrics}");
    assert!(value("fleet_registry_operation_duration_second_sum{ops=\"set\"}") > 0.0);
}

/// Directories that somebody has made with `etcdctl mkdir`, JSON that is none, values as large as etcd takes them: a daemon that meets them
/// at its start goes on, and fleetctl, which tells them once when it reads etcd itself.
#[test]
fn garbage_in_etcd_is_told_and_left_alone() {
    let etcd = Etcd::start();
    let prefix = "/_coreos.com/fleet";
    for directory in ["", "/job", "/job/hello.service", "/machines", "/states/hello.service", "/mine"] {
        etcd.put(&format!("{prefix}{directory}/"), "");
    }
    etcd.put(&format!("{prefix}/job/broken.service/object"), "{\"Name\":");
    etcd.put(&format!("{prefix}/machines/ghost/object"), r#"{"ID":"ghost","PublicIP":"10.0.0.9"}"#);
    // More than one answer of etcd may be long.
    for number in 0..40 {
        etcd.put(&format!("{prefix}/junk/{number:02}"), vec![b'x'; 1_400_000]);
    }
    etcd.put(&format!("{prefix}/job/huge.service/object"), vec![b'['; 1_000_000]);
    let machine = Machine::start_with(etcd, "");
    until("the machine is registered", || machine.fleetctl(&["list-machines"]).status.success());
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(machine.check(&["start", text(&unit)]), LAUNCHED);
    assert_eq!(
        machine.check(&["list-machines", "--no-legend", "--fields=ip"]),
        "127.0.0.1\n",
        "no lease, no machine"
    );
    let direct = |words: &[&str]| {
        let mut command = machine.plain(&["--driver=etcd"]);
        command.args(words).env("FLEETCTL_ENDPOINT", &machine.etcd.url).output().unwrap()
    };
    let listed = direct(&["list-unit-files", "--no-legend", "--fields=unit"]);
    assert_eq!(succeeded(&listed), "hello.service\n");
    let told = String::from_utf8(listed.stderr).unwrap();
    let keys: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("WARNING: ")?.split_once(" in etcd is left alone: "))
        .map(|it| it.0)
        .collect();
    assert_eq!(
        keys,
        ["job/broken.service/object", "job/huge.service/object", "machines/ghost/object"]
            .map(|key| format!("{prefix}/{key}")),
        "{told}"
    );
    // What is broken can be made anew, or removed.
    let broken = machine.file("broken.service", HELLO);
    assert!(machine.check(&["start", text(&broken)]).starts_with("Unit broken.service launched"));
    assert_eq!(machine.check(&["destroy", "huge"]), "Destroyed huge.service\n");
    assert_eq!(machine.etcd.get(&format!("{prefix}/job/huge.service/object")), None);
}

/// etcd is away when fleetd starts, and goes away later: what is asked for in between says so.
#[test]
fn etcd_may_be_away() {
    let etcd = Etcd::start();
    etcd.let_answer(false);
    let machine = Machine::start_with(etcd, "etcd_request_timeout=0.5\n");
    until("fleetd answers", || machine.socket().exists());
    let told = failed(&machine.fleetctl(&["list-units"]), 1);
    assert_eq!(told, "fleet server unable to communicate with etcd\n");
    let told = failed(&machine.fleetctl(&["list-machines"]), 1);
    assert!(
        told.contains(
            "Error retrieving list of active machines: fleet server unable to communicate with etcd"
        ),
        "{told}"
    );
    machine.etcd.let_answer(true);
    until("the machine is registered", || machine.fleetctl(&["list-machines"]).status.success());
    let unit = machine.file("hello.service", HELLO);
    assert_eq!(machine.check(&["start", text(&unit)]), LAUNCHED);
    machine.etcd.let_answer(false);
    // As long as its lease holds, a machine knows what it knows.
    assert!(machine.check(&["list-units", "--no-legend"]).contains("active"));
    let told = failed(&machine.fleetctl(&["stop", "hello"]), 1);
    assert!(told.contains("Error changing unit hello.service: "), "{told}");
    assert!(
        told.contains("it is not known whether the change was made") || told.contains("no member"),
        "{told}"
    );
    machine.etcd.let_answer(true);
    until("it is changed", || machine.fleetctl(&["stop", "hello"]).status.success());
}

/// fleetd is not there, or says nothing.
#[test]
fn fleetd_may_be_away() {
    let machine = Machine::start_with(Etcd::start(), "");
    let at = |endpoint: &str| {
        let mut command = machine.plain(&["--request-timeout=0.3", "--endpoint", endpoint, "list-units"]);
        failed(&command.output().unwrap(), 1)
    };
    assert_eq!(
        at("unix:///nowhere/fleet.sock"),
        "cannot talk to fleetd at unix:///nowhere/fleet.sock: there is no such socket: fleetd does not run there, or listens elsewhere\n"
    );
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    assert_eq!(
        at(&endpoint),
        format!("cannot talk to fleetd at {endpoint}: there is no answer within 0.3 s\n")
    );
    drop(listener);
    assert!(at(&endpoint).contains("Connection refused"));
    assert!(
        at("http://no.such.host.invalid:1")
            .contains("cannot talk to fleetd at http://no.such.host.invalid:1: ")
    );
    assert!(at("fleet.sock").contains("the endpoint \"fleet.sock\" has no scheme"));
}
