//! Commands against a cluster in this process: machines of the simulation, whose first one answers.

use super::*;
use crate::api::http::read_request;
use crate::node::simulation::{Options, World};

struct Cluster {
    world: World,
    folder: tempfile::TempDir,
}

impl Api for World {
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<(u16, Vec<u8>), String> {
        let body = body.unwrap_or_default();
        let mut text = format!(
            "{method} /fleet/v1/{path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        text.extend_from_slice(body);
        let response = self.ask(&read_request(&mut text.as_slice()).unwrap());
        Ok((response.status, response.body))
    }

    fn rest(&mut self, pause: Duration) {
        self.pass(u64::try_from(pause.as_millis()).unwrap()).unwrap();
    }
}

/// What a command came to.
#[derive(Debug)]
struct Told {
    status: u8,
    out: String,
    err: String,
}

impl Cluster {
    fn new(machines: usize) -> Self {
        let mut world = World::new(Options { machines, ..Options::default() }, 11);
        world.settle().unwrap();
        Self { world, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&mut self, words: &[&str]) -> Told {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let parsed = args::parse(&words, |_| None).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session =
            Session { api: &mut self.world, out: &mut out, err: &mut err, names: BTreeMap::new() };
        let result = session.run(&parsed);
        let status = result.unwrap_or_else(|problem| {
            err.extend(problem.into_bytes());
            1
        });
        Told { status, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }

    /// A command that succeeds; its stdout.
    fn check(&mut self, words: &[&str]) -> String {
        let told = self.run(words);
        assert_eq!(told.status, 0, "{words:?}: {told:?}");
        told.out
    }
}

const HELLO: &str = "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/hello\n";
const ID: &str = "00000000000000000000000000000000";

/// The first demo of the talks, and scenarios 29 (SystemdUnitFlow) and 31 (UnitRunnable).
#[test]
fn unit_runnable_and_systemd_unit_flow() {
    let mut cluster = Cluster::new(1);
    let hello = cluster.file("hello.service", HELLO);
    assert_eq!(cluster.check(&["load", &hello]), "Unit hello.service loaded on 00000000.../10.0.0.0\n");
    assert!(cluster.check(&["list-units", "--no-legend"]).ends_with("\tinactive\tsub\n"));
    assert_eq!(cluster.check(&["start", "hello"]), "Unit hello.service launched on 00000000.../10.0.0.0\n");
    assert_eq!(
        cluster.check(&["list-units"]),
        "UNIT\t\tMACHINE\t\t\tACTIVE\tSUB\nhello.service\t00000000.../10.0.0.0\tactive\tsub\n"
    );
    let stopped = cluster.run(&["stop", "hello.service"]);
    assert_eq!(stopped.out, "Unit hello.service loaded on 00000000.../10.0.0.0\n");
    assert_eq!(stopped.err, "Successfully stopped units [hello.service].\n");
    let unloaded = cluster.run(&["unload", "hello"]);
    assert_eq!(
        (unloaded.out.as_str(), unloaded.err.as_str()),
        ("Unit hello.service inactive\n", "Successfully unloaded units [hello.service].\n")
    );
    let refused = cluster.run(&["stop", "hello"]);
    assert!(
        refused.status == 1 && refused.err.contains("Unable to stop unit hello.service in state inactive"),
        "{refused:?}"
    );
    assert_eq!(cluster.check(&["destroy", "hello"]), "Destroyed hello.service\n");
    assert_eq!(cluster.run(&["destroy", "hello"]).status, 0);
    assert_eq!(cluster.run(&["cat", "hello"]).err, "Unit hello.service not found");
}

/// Scenarios 32 (UnitSubmit), 33 (UnitLoad) and 34 (UnitStart): batches of 9, 6 and 3 units are made, removed, and made again.
#[test]
fn batches_of_units_are_made_twice() {
    for (verb, count, state) in [("submit", 9, "inactive"), ("load", 6, "loaded"), ("start", 3, "launched")] {
        let mut cluster = Cluster::new(3);
        let files: Vec<String> =
            (0..count).map(|number| cluster.file(&format!("u{number}.service"), HELLO)).collect();
        for _ in 0..2 {
            let mut words = vec![verb];
            words.extend(files.iter().map(String::as_str));
            cluster.check(&words);
            let listed = cluster.check(&["list-unit-files", "--no-legend", "--fields=unit,dstate,state"]);
            assert_eq!(listed.lines().count(), count);
            assert!(
                listed.lines().all(|line| line.ends_with(&format!("{state}\t{state}"))
                    || line.split('\t').filter(|word| *word == state).count() == 2),
                "{listed}"
            );
            words[0] = "destroy";
            cluster.check(&words);
            assert_eq!(cluster.check(&["list-unit-files", "--no-legend"]), "");
        }
    }
}

/// Scenarios 35 (UnitSubmitReplace), 36 (UnitLoadReplace) and 37 (UnitStartReplace), and complaint 5.
#[test]
fn units_are_replaced() {
    for (verb, state) in [("submit", "inactive"), ("load", "loaded"), ("start", "launched")] {
        let mut cluster = Cluster::new(1);
        let path = cluster.file("hello.service", HELLO);
        cluster.check(&[verb, &path]);
        cluster.file("hello.service", &HELLO.replace("/bin/hello", "/bin/other"));
        let warned = cluster.run(&[verb, &path]);
        assert!(warned.err.contains("differs from local unit file") && warned.status == 0, "{warned:?}");
        assert_eq!(cluster.check(&["cat", "hello"]), HELLO);
        cluster.check(&[verb, "--replace", &path]);
        assert!(cluster.check(&["cat", "hello"]).contains("/bin/other"));
        assert_eq!(
            cluster.check(&["list-unit-files", "--no-legend", "--fields=dstate"]),
            format!("{state}\n")
        );
        cluster.world.settle().unwrap();
        assert!(
            cluster
                .run(&[verb, "--replace", &path])
                .err
                .starts_with("Found same Unit(hello.service) in Registry")
        );
    }
    let mut cluster = Cluster::new(1);
    let path = cluster.file("hello.service", HELLO);
    cluster.check(&["start", &path]);
    cluster.file("hello.service", &HELLO.replace("/bin/hello", "/bin/other"));
    let refused = cluster.run(&["submit", "--replace", &path]);
    assert!(refused.err.contains("is launched: it is not replaced"), "{refused:?}");
    assert_eq!(cluster.check(&["cat", "hello"]), HELLO);
}

/// Scenario 38, UnitRestart.
#[test]
fn unit_restart() {
    let mut cluster = Cluster::new(1);
    let path = cluster.file("hello.service", HELLO);
    cluster.check(&["start", &path]);
    let told = cluster.check(&["restart", "hello"]);
    assert_eq!(
        told,
        "Unit hello.service loaded on 00000000.../10.0.0.0\nUnit hello.service launched on 00000000.../10.0.0.0\n"
    );
    cluster.check(&["unload", "hello"]);
    assert!(
        cluster
            .run(&["restart", "hello"])
            .err
            .contains("Unable to restart unit hello.service in state inactive")
    );
}

/// Scenario 40, UnitCat: byte by byte what was submitted, if that was in normal form.
#[test]
fn unit_cat() {
    let mut cluster = Cluster::new(1);
    let path = cluster.file("hello.service", HELLO);
    assert_eq!(cluster.check(&["submit", &path]), "Unit hello.service inactive\n");
    assert_eq!(cluster.check(&["cat", "hello.service"]), HELLO);
    let json: serde_json::Value =
        serde_json::from_str(&cluster.check(&["cat", "-o", "json", "hello"])).unwrap();
    assert_eq!(json["options"][1]["value"], "/bin/hello");
}

/// Scenario 42, ListUnitFilesOrder: twenty units, by name.
#[test]
fn list_unit_files_order() {
    let mut cluster = Cluster::new(1);
    let mut names: Vec<String> = (0..20).map(|number| format!("order-{number}.service")).collect();
    for name in names.iter().rev() {
        let path = cluster.file(name, HELLO);
        cluster.check(&["submit", &path]);
    }
    names.sort();
    assert_eq!(
        cluster.check(&["list-unit-files", "--no-legend", "--fields", "unit"]),
        names.join("\n") + "\n"
    );
}

/// `apache@1` and `apache@2` of the talks: instances of a template that stands beside them, or that the cluster knows.
#[test]
fn instances_come_from_templates() {
    let mut cluster = Cluster::new(2);
    let text = "[Service]\nExecStart=/usr/sbin/apache2 %i\n\n[X-Fleet]\nConflicts=apache@*.service\n";
    let template = cluster.file("apache@.service", text);
    let beside = template.replace("apache@.service", "apache@1");
    assert!(cluster.check(&["start", &beside]).starts_with("Unit apache@1.service launched on 00000000"));
    cluster.check(&["submit", &template]);
    std::fs::remove_file(&template).unwrap();
    assert!(cluster.check(&["start", "apache@2"]).starts_with("Unit apache@2.service launched on 00000001"));
    assert_eq!(
        cluster.run(&["start", "nothing@1"]).err,
        "unable to find Unit(nothing@1.service) in Registry or on filesystem"
    );
    let active = cluster.run(&["start", "apache@"]);
    assert!(active.err.contains("cannot activate template \"apache@.service\""), "{active:?}");
}

/// Complaints 3 and 14: a start that cannot succeed ends, and says why; so does one that has a limit.
#[test]
fn a_wait_that_cannot_succeed_ends_with_the_reason() {
    let mut cluster = Cluster::new(2);
    let path =
        cluster.file("meta.service", "[Service]\nExecStart=/bin/x\n[X-Fleet]\nMachineMetadata=rack=7\n");
    let reason = "00000000: metadata rack is 0, not 7; 00000000: metadata rack is 1, not 7".replacen(
        "; 00000000",
        "; 00000001",
        1,
    );
    let told = cluster.run(&["start", &path]);
    assert_eq!((told.status, told.err), (1, format!("Unit meta.service cannot be launched: {reason}\n")));
    let told = cluster.run(&["start", "--block-attempts=1", "meta"]);
    assert_eq!(
        (told.status, told.err),
        (1, format!("timed out waiting for unit meta.service to report state launched: {reason}\n"))
    );
    assert_eq!(cluster.check(&["start", "--no-block", "meta"]), "Triggered unit meta.service start\n");
    let listed = cluster.run(&["list-units"]);
    assert_eq!(listed.out, "UNIT\t\tMACHINE\tACTIVE\tSUB\nmeta.service\t-\t-\t-\n");
    assert_eq!(listed.err, format!("meta.service: {reason}\n"));
    assert_eq!(cluster.check(&["list-unit-files", "--no-legend", "--fields=reason"]), format!("{reason}\n"));
    let status = cluster.run(&["status", "meta"]);
    assert_eq!((status.status, status.err), (1, format!("Unit meta.service is on no machine: {reason}")));
}

/// Scenario 27, ScheduleGlobalUnits: on all machines, and never waited for; complaint 10: their states are listed.
#[test]
fn global_units_run_everywhere() {
    let mut cluster = Cluster::new(3);
    let path = cluster.file("global-dog.service", "[Service]\nExecStart=/bin/dog\n[X-Fleet]\nGlobal=true\n");
    assert_eq!(cluster.check(&["start", &path]), "Triggered global unit global-dog.service start\n");
    cluster.world.settle().unwrap();
    assert_eq!(cluster.check(&["list-units", "--no-legend"]).lines().count(), 3);
    assert!(cluster.check(&["list-unit-files", "--no-legend"]).ends_with("\tlaunched\t-\tglobal\n"));
}

#[test]
fn machines_are_listed_and_drained() {
    let mut cluster = Cluster::new(2);
    assert_eq!(
        cluster.check(&["list-machines"]),
        "MACHINE\t\tIP\t\tMETADATA\n00000000...\t10.0.0.0\track=0\n00000001...\t10.0.0.1\track=1\n"
    );
    assert!(cluster.check(&["list-machines", "--full", "--no-legend"]).starts_with(ID));
    let json: serde_json::Value =
        serde_json::from_str(&cluster.check(&["list-machines", "-o", "json"])).unwrap();
    assert_eq!(json[1]["primaryIP"], "10.0.0.1");
    let wrong = cluster.run(&["list-machines", "--fields=colour"]);
    assert_eq!((wrong.status, wrong.err.as_str()), (1, "Invalid key in output format: \"colour\""));
    let path = cluster.file("hello.service", HELLO);
    assert!(cluster.check(&["start", &path]).contains("on 00000000"));
    cluster.check(&["drain", ID]);
    cluster.world.settle().unwrap();
    assert!(cluster.check(&["list-units", "--no-legend"]).contains("00000001.../10.0.0.1"));
    cluster.check(&["undrain", ID]);
    assert_eq!(cluster.check(&["list-machines", "--fields=draining", "--no-legend"]), "-\n-\n");
}

#[test]
fn a_drain_waits_until_units_are_up_elsewhere_and_names_those_that_stay() {
    let mut cluster = Cluster::new(2);
    let pinned = format!("{HELLO}[X-Fleet]\nMachineID={ID}\n");
    let (hello, pinned) = (cluster.file("hello.service", HELLO), cluster.file("pinned.service", &pinned));
    cluster.check(&["start", &pinned]);
    cluster.check(&["start", &hello]);
    let other = cluster.file("other.service", HELLO);
    assert!(cluster.check(&["start", &other]).contains("on 00000000"));
    let told = cluster.run(&["drain", "--wait=60", "--why=reboot", ID]);
    assert_eq!((told.status, told.err.as_str()), (0, "pinned.service stays: no other machine takes it\n"));
    let units = cluster.check(&["list-units", "--no-legend", "--fields=unit,machine,active"]);
    let line = units.lines().find(|line| line.starts_with("other")).unwrap();
    assert!(line.contains("00000001.../10.0.0.1") && line.ends_with("active"), "{units}");
    assert_eq!(cluster.check(&["list-machines", "--fields=draining", "--no-legend"]), "reboot\n-\n");
    // Nothing left to move.
    assert_eq!(cluster.run(&["drain", "--wait=1", ID]).status, 0);
    assert!(cluster.run(&["drain", "--wait=soon", ID]).err.contains("wait"));
}

#[test]
fn files_are_verified_without_a_cluster() {
    let mut cluster = Cluster::new(1);
    let good = cluster.file("a.service", HELLO);
    let bad = cluster.file("b.service", "[Service]\nExecStart\n");
    let odd = cluster.file("c.service", "[X-Fleet]\nMachineID=a\nGlobal=true\nColour=blue\n");
    assert_eq!(cluster.run(&["verify", &good]).status, 0);
    let told = cluster.run(&["verify", &bad, &odd]);
    assert_eq!(told.status, 2);
    assert!(told.err.contains("b.service:2: the line has no `=`: ExecStart"), "{}", told.err);
    assert!(
        told.err.contains("c.service: MachineID cannot be used with Global")
            && told.err.contains("\"Colour\"")
    );
}
