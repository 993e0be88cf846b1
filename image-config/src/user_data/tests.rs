//! Texts to plans, as a machine would make them.

use std::io::Write;
use std::time::Instant;

use proptest::prelude::*;

use super::plan::{Contents, Existing, File, Frequency, MachinePlan, OnFailure, Stage, Step, UnitCommand};
use super::{Address, Addresses, Facts, Metadata, Outcome, UserData};
use crate::diagnostic::Severity;

fn facts() -> Facts {
    Facts {
        addresses: Addresses { private_ipv4: Some("10.0.0.1".to_owned()), ..Addresses::default() },
        ..Facts::default()
    }
}

/// The plan of a text that is good, and its warnings, rendered.
fn plan(text: &str) -> (MachinePlan, Vec<String>) {
    match UserData::read("u", text.as_bytes()).unwrap().plan(&facts()) {
        Outcome::Plan(plan, found) => (plan, found.as_slice().iter().map(ToString::to_string).collect()),
        other => panic!("{other:?}"),
    }
}

/// Severity, line, column and message of everything that is wrong with a text.
fn findings(text: &str) -> Vec<(Severity, usize, usize, String)> {
    let found = match UserData::read("u", text.as_bytes()) {
        Ok(data) => data.validate().unwrap_or_else(|found| found),
        Err(found) => found,
    };
    let one = |it: &crate::diagnostic::Diagnostic| {
        let at = it.position.map_or((0, 0), |at| (at.line, at.column));
        (it.severity, at.0, at.1, it.message.clone())
    };
    found.as_slice().iter().map(one).collect()
}

fn files(plan: &MachinePlan) -> Vec<(&str, String)> {
    let file = |step: &'_ Step| match step {
        Step::WriteFile(file) => Some(file.clone()),
        _ => None,
    };
    plan.steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::WriteFile(it) => Some((it.path.as_str(), file(&planned.step)?)),
            _ => None,
        })
        .map(|(path, file)| (path, inline(&file)))
        .collect()
}

fn inline(file: &File) -> String {
    let bytes = file.contents.iter().chain(&file.append).map(|contents| match contents {
        Contents::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Contents::Remote(resource) => format!("<{}>", resource.url),
    });
    bytes.collect()
}

const SEED_003: &str = include_str!("../../tests/seeds/user-data.yml");

#[test]
fn the_slip_of_the_talk_is_pointed_at() {
    let found = findings(SEED_003);
    assert_eq!(found.len(), 1, "{found:?}");
    let (severity, line, column, message) = &found[0];
    assert_eq!((*severity, *line, *column), (Severity::Error, 15, 2), "{message}");
    assert!(message.contains("the indentation of `fleet:` does not match"), "{message}");
}

#[test]
fn the_talks_config_configures_etcd_and_fleet() {
    let text = SEED_003.replace("\n fleet:", "\n  fleet:");
    let (plan, warnings) = plan(&text);
    assert!(
        warnings.iter().any(|it| it.contains("u:6:16: warning: the discovery URL is not valid")),
        "{warnings:#?}"
    );
    assert!(
        warnings.iter().any(|it| it.contains("u:16:7: warning: `coreos.fleet` is a list")),
        "{warnings:#?}"
    );
    assert!(
        warnings
            .iter()
            .any(|it| it.starts_with("u:3:3: warning: `coreos.etcd` has the settings of etcd 0.4"))
    );
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    let files = files(&plan);
    assert_eq!(
        files,
        [
            (
                "/run/systemd/system/etcd.service.d/20-cloudinit.conf",
                "[Service]\n\
                 Environment=\"ETCD_DISCOVERY=https://discovery.etcd.io/<token>\"\n\
                 Environment=\"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:4001,http://127.0.0.1:2379\"\n\
                 Environment=\"ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:4001\"\n\
                 Environment=\"ETCD_LISTEN_PEER_URLS=http://0.0.0.0:7001\"\n\
                 Environment=\"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:7001\"\n"
                    .to_owned()
            ),
            (
                "/run/systemd/system/fleet.service.d/20-cloudinit.conf",
                "[Service]\nEnvironment=\"FLEET_METADATA=region=us-east-1,disk=ssd,model=m3.2xlarge\"\n"
                    .to_owned()
            ),
        ]
    );
    let commands: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::UnitCommand { unit, command } => {
                Some((unit.as_str(), *command, planned.stage, planned.frequency))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        commands,
        [
            ("etcd.service", UnitCommand::Start, Stage::Start, Frequency::Boot),
            ("fleet.service", UnitCommand::Start, Stage::Start, Frequency::Boot),
        ]
    );
    let used = UserData::read("u", text.as_bytes()).unwrap().addresses();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [Address::PrivateIpv4, Address::PublicIpv4]);
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "\
#cloud-config
hostnam: x
hostname: -bad-
users:
  - passwd: x
  - name: a b
    sudo: 5
write_files:
  - path: usr/x
    permissions: '0999'
  - path: /usr/bin/x
    encoding: rot13
  - path: /etc/x
    encoding: gz+b64
    content: aGk=
packages: [vim]
coreos:
  write_files: []
  update:
    reboot-strategy: best
    group: a b
  units:
    - command: go
    - name: x.service
      command: strat
      content: |
        [Service]
        ExecStrat=/bin/true
    - name: foo
  etcd2:
    debug: maybe
    election-timeout: x
  locksmith:
    window-start: noon
manage_etc_hosts: everywhere
runcmd:
  - a: b
  - [ls, -l]
";
    let found = findings(text);
    let want = [
        (2, 1, "unknown key `hostnam`"),
        (3, 11, "`-bad-` is no host name"),
        (5, 5, "`users[0].name` is missing"),
        (6, 11, "`a b` is no name of a user"),
        (9, 11, "is not absolute"),
        (10, 18, "invalid permissions `0999`"),
        (11, 11, "read-only filesystem"),
        (12, 15, "unsupported encoding `rot13`"),
        (15, 14, "cannot be decoded as `gz+b64`"),
        (16, 1, "`packages` is not supported"),
        (18, 3, "does not belong below `coreos`"),
        (20, 22, "invalid value `best`"),
        (21, 12, "has white space"),
        (23, 7, "name` is missing"),
        (23, 16, "invalid value `go`"),
        (25, 16, "invalid value `strat`"),
        (28, 9, "ExecStrat"),
        (29, 13, "foo"),
        (31, 12, "true or false belongs here"),
        (32, 23, "a whole number belongs here"),
        (34, 19, "invalid value `noon`"),
        (35, 19, "invalid option to `manage_etc_hosts`"),
        (37, 5, "a command belongs here"),
    ];
    for (line, column, message) in want {
        assert!(
            found.iter().any(|it| (it.1, it.2) == (line, column) && it.3.contains(message)),
            "{line}:{column} {message}\n{found:#?}"
        );
    }
}

#[test]
fn hyphens_and_underscores_are_the_same() {
    let (plan, warnings) = plan(
        "#cloud-config\nwrite-files:\n  - path: /etc/a\n    content: x\nssh-authorized-keys: [ssh-ed25519 AAAA me]\nmanage-etc-hosts: localhost\n",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(files(&plan), [("/etc/a", "x".to_owned())]);
    let twice = findings("#cloud-config\nca-certs: {}\nca_certs: {}\n");
    assert!(twice[0].3.contains("given twice"), "{twice:?}");
}

#[test]
fn steps_stand_in_the_order_of_the_original() {
    let (plan, warnings) = plan(
        "\
#cloud-config
runcmd: [echo late]
bootcmd: [echo early]
coreos:
  update: {group: beta, reboot_strategy: off}
  oem: {id: x}
  units:
    - {name: a.service, enable: true, content: \"[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n\", command: restart}
write_files:
  - {path: /etc/late, content: x, defer: true}
  - {path: /etc/more, content: x, append: true, permissions: '0600', owner: 'a:b'}
users: [{name: a, groups: [sudo, docker], ssh_authorized_keys: [ssh-ed25519 AAAA a]}]
ssh_authorized_keys: [ssh-ed25519 AAAA b]
hostname: node
timezone: Europe/Paris
ntp: {servers: [a.example], pools: [b.example]}
mounts: [[sdb1, /data, ext4]]
ca_certs: {trusted: [\"-----BEGIN CERTIFICATE-----\\nAA\\n-----END CERTIFICATE-----\"]}
manage_etc_hosts: true
",
    );
    assert_eq!(warnings, [""; 0]);
    let name = |step: &Step| match step {
        Step::SetHostname(_) => "hostname".to_owned(),
        Step::CreateUser(user) => format!("user {}", user.name),
        Step::AuthorizeKeys(keys) => format!("keys {}", keys.user),
        Step::TrustCertificates(_) => "certificates".to_owned(),
        Step::WriteFile(file) => format!("file {}", file.path),
        Step::SetAssignments(file) => format!("set {}", file.path),
        Step::WriteHosts { hostname } => format!("hosts {}", hostname.as_deref().unwrap_or_default()),
        Step::SetTimezone(zone) => zone.clone(),
        Step::SetTimeServers(servers) => servers.servers.join(" "),
        Step::MaskUnit(it) => format!("mask {} {}", it.unit, it.is_runtime),
        Step::EnableUnit(it) => format!("enable {}", it.unit),
        Step::ReloadUnits => "reload".to_owned(),
        Step::UnitCommand { unit, command } => format!("{command:?} {unit}"),
        Step::Run(script) => format!("run {}", script.name),
        other => format!("{other:?}"),
    };
    let steps: Vec<_> = plan.steps.iter().map(|it| format!("{:?}: {}", it.stage, name(&it.step))).collect();
    assert_eq!(
        steps,
        [
            "Early: run bootcmd",
            "Configure: hostname",
            "Configure: certificates",
            "Configure: user a",
            "Configure: keys a",
            "Configure: keys core",
            "Configure: file /etc/more",
            "Configure: file /etc/oem-release",
            "Configure: set /etc/coreos/update.conf",
            "Configure: hosts node",
            "Configure: Europe/Paris",
            "Configure: a.example b.example",
            "Configure: file /etc/systemd/system/data.mount",
            "Configure: enable data.mount",
            "Configure: file /etc/systemd/system/a.service",
            "Configure: enable a.service",
            "Configure: mask locksmithd.service true",
            "Configure: set /etc/environment",
            "Configure: reload",
            "Start: Start data.mount",
            "Start: Stop locksmithd.service",
            "Start: Restart update-engine.service",
            "Start: Restart a.service",
            "Final: file /etc/late",
            "Final: run runcmd",
        ]
    );
    let second_boot: Vec<_> =
        Stage::ALL.into_iter().flat_map(|stage| plan.due(stage, false)).map(|it| name(&it.step)).collect();
    assert_eq!(
        second_boot,
        [
            "run bootcmd",
            "mask locksmithd.service true",
            "set /etc/environment",
            "reload",
            "Stop locksmithd.service",
            "Restart a.service"
        ],
        "what a user changed stays"
    );
    let Some(Step::WriteFile(more)) = plan
        .steps
        .iter()
        .map(|it| &it.step)
        .find(|it| matches!(it, Step::WriteFile(file) if file.path == "/etc/more"))
    else {
        panic!("no /etc/more");
    };
    assert_eq!(
        (more.mode, more.contents.is_none(), more.append.len(), more.existing),
        (Some(0o600), true, 1, Existing::Replace)
    );
}

#[test]
fn permissions_are_taken_as_written() {
    let (plan, _) = plan(
        "#cloud-config\nwrite_files:\n  - {path: /etc/a, permissions: 0644}\n  - {path: /etc/b, permissions: 644}\n  - {path: /etc/c, permissions: 0o755}\n  - {path: /etc/d, permissions: '4755'}\n",
    );
    let modes: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|it| match &it.step {
            Step::WriteFile(file) => file.mode,
            _ => None,
        })
        .collect();
    assert_eq!(modes, [0o644, 0o644, 0o755, 0o4755]);
}

#[test]
fn addresses_are_put_in_and_findings_point_at_what_was_written() {
    let text = "#cloud-config\nwrite_files:\n  - {path: /etc/a, content: \"$private_ipv4 \\$private_ipv4\", permissions: 9}\n";
    let found = findings(text);
    assert_eq!((found[0].1, found[0].2), (3, 74), "{found:?}");
    let (plan, _) = plan(&text.replace(", permissions: 9", ""));
    assert_eq!(files(&plan), [("/etc/a", "10.0.0.1 $private_ipv4".to_owned())]);
}

#[test]
fn scripts_name_their_interpreter() {
    let (plan, _) = plan("#!/usr/bin/env python3\nprint('$private_ipv4')\n");
    let scripts: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|it| match &it.step {
            Step::Run(script) => {
                Some((it.stage, it.frequency, script.interpreter.as_str(), script.contents.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        scripts,
        [(
            Stage::Final,
            Frequency::Instance,
            "/usr/bin/env",
            b"#!/usr/bin/env python3\nprint('10.0.0.1')\n".to_vec()
        )]
    );
    assert!(findings("#!bash\n")[0].3.contains("interpreter"));
    assert!(findings("#!/bin/sh\r\necho\r\n")[0].3.contains("carriage return"));
}

#[test]
fn parts_are_applied_in_order_and_what_is_unknown_is_told() {
    let text = "\
Content-Type: multipart/mixed; boundary=b
MIME-Version: 1.0

--b
Content-Type: text/cloud-config

#cloud-config
hostname: one
ssh_authorized_keys: [ssh-ed25519 AAAA a]
nonsense: 1
--b
Content-Type: text/jinja2

## template: jinja
--b
Content-Type: text/cloud-config

hostname: two
ssh_authorized_keys: [ssh-ed25519 AAAA b]
--b
Content-Type: text/x-shellscript; name=\"go.sh\"

#!/bin/sh
--b--
";
    let (plan, warnings) = plan(text);
    assert!(
        warnings.iter().any(|it| it.starts_with("u:10:1: warning: unknown key `nonsense`")),
        "{warnings:#?}"
    );
    assert!(
        warnings.iter().any(|it| it.starts_with("u:12:1: warning: the part `part-2` is left out")),
        "{warnings:#?}"
    );
    let names: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|it| match &it.step {
            Step::SetHostname(name) => Some(name.clone()),
            Step::Run(script) => Some(script.name.clone()),
            Step::AuthorizeKeys(keys) => Some(keys.keys.join(",")),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["one", "ssh-ed25519 AAAA a,ssh-ed25519 AAAA b", "two", "go.sh"]);
}

#[test]
fn user_data_beats_metadata_and_keys_add_up() {
    let metadata = Metadata {
        hostname: Some("meta".to_owned()),
        ssh_authorized_keys: vec!["ssh-ed25519 AAAA m".to_owned(), "ssh-ed25519 AAAA u".to_owned()],
    };
    let facts = Facts { metadata, ..facts() };
    let result = |text: &str| {
        let Outcome::Plan(plan, _) = UserData::read("u", text.as_bytes()).unwrap().plan(&facts) else {
            panic!()
        };
        let step = |it: &super::plan::Planned| match &it.step {
            Step::SetHostname(name) => Some(name.clone()),
            Step::AuthorizeKeys(keys) => Some(keys.keys.join(",")),
            _ => None,
        };
        plan.steps.iter().filter_map(step).collect::<Vec<_>>()
    };
    assert_eq!(
        result("#cloud-config\nhostname: user\nssh_authorized_keys: [ssh-ed25519 AAAA u]\n"),
        ["user", "ssh-ed25519 AAAA u,ssh-ed25519 AAAA m"]
    );
    assert_eq!(result(""), ["meta", "ssh-ed25519 AAAA m,ssh-ed25519 AAAA u"]);
    assert_eq!(result("#!/bin/sh\n"), ["meta", "ssh-ed25519 AAAA m,ssh-ed25519 AAAA u"]);
}

#[test]
fn a_broken_config_still_lets_its_author_in() {
    let text = "#cloud-config\nhostname: node\nssh_authorized_keys: [ssh-ed25519 AAAA u]\nwrite_files:\n  - path: x\nruncmd: [reboot]\n";
    let Outcome::Refused(plan, found) = UserData::read("u", text.as_bytes()).unwrap().plan(&facts()) else {
        panic!("not refused");
    };
    assert!(found.has_errors());
    let steps: Vec<_> = plan.steps.iter().map(|it| &it.step).collect();
    assert!(matches!(steps[..], [Step::SetHostname(_), Step::AuthorizeKeys(_)]), "{steps:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_user_data_is_unpacked() {
    let packed = gzip(b"#cloud-config\nhostname: x\n");
    let data = UserData::read("u", &gzip(&packed)).unwrap();
    assert_eq!(data.parts().len(), 1);
    assert!(UserData::read("u", &gzip(&gzip(&packed))).unwrap_err().to_string().contains("too many times"));
    assert!(UserData::read("u", &packed[..packed.len() - 3]).unwrap_err().to_string().contains("broken"));
}

/// Refused within this time on a busy machine: the work itself is a fraction of a second.
const PATIENCE: u64 = 20;

#[track_caller]
fn refused_in_time(bytes: &[u8]) -> String {
    let start = Instant::now();
    let text = match UserData::read("u", bytes) {
        Ok(data) => data.validate().unwrap_err().to_string(),
        Err(found) => found.to_string(),
    };
    assert!(start.elapsed().as_secs() < PATIENCE, "{:?}", start.elapsed());
    assert!(text.len() < 100_000, "{} bytes of findings", text.len());
    text
}

#[test]
fn too_much_of_anything_is_refused_in_bounded_time() {
    let yaml = |body: &str| format!("#cloud-config\n{body}");
    let ten_megabytes = yaml(&"# x\n".repeat(2_500_000));
    assert!(refused_in_time(ten_megabytes.as_bytes()).contains("larger than 8 MiB"));
    assert!(refused_in_time(&gzip(ten_megabytes.as_bytes())).contains("unpacks to more than 8 MiB"));

    let flow = yaml(&format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)));
    assert!(refused_in_time(flow.as_bytes()).contains("recursion limit"));
    let block = yaml(&format!("a:\n {}x\n", "- ".repeat(10_000)));
    assert!(refused_in_time(block.as_bytes()).contains("recursion limit"));
    let open = yaml(&"[".repeat(8_000_000));
    assert!(refused_in_time(open.as_bytes()).contains("more than"));
    // As deep as what gets past the first look, in the way that costs the parser most.
    for body in ["[".repeat(17_000), "{a: ".repeat(12_000), "- ".repeat(400_000), "? ".repeat(400_000)] {
        refused_in_time(yaml(&body).as_bytes());
    }
    assert!(refused_in_time(yaml(&"{a: ".repeat(200_000)).as_bytes()).contains("too many brackets"));

    let laughs = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("{text}a{level}: &a{level} [{aliases}]\n")
    });
    let found = refused_in_time(yaml(&laughs).as_bytes());
    assert!(found.contains("more than 100000 values") || found.contains("repetition limit"), "{found}");
    let long = yaml(&format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1_000_000), "*a, ".repeat(1000)));
    assert!(refused_in_time(long.as_bytes()).contains("MiB of text"));

    let json = format!("{{\"ignition\": {}", "[".repeat(10_000));
    assert!(refused_in_time(json.as_bytes()).contains("levels deep"));
    let many = yaml(&"x: 1\n".repeat(40_000));
    assert!(refused_in_time(many.as_bytes()).contains("findings are not shown"));
}

#[test]
fn ignition_becomes_the_same_kind_of_plan() {
    let text = r#"{
  "ignition": {"version": "3.4.0", "timeouts": {"httpTotal": 30}},
  "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 AAAA x"]}]},
  "storage": {
    "files": [
      {"path": "/opt/b/file", "mode": 420, "contents": {"source": "data:,hello%0A"}, "overwrite": true},
      {"path": "/etc/remote", "contents": {"source": "https://example.com/x", "compression": "gzip"}},
      {"path": "/etc/issue", "append": [{"source": "data:,more"}]}
    ],
    "directories": [{"path": "/opt/b", "mode": 448, "user": {"name": "core"}}],
    "links": [{"path": "/etc/link", "target": "issue"}]
  },
  "systemd": {"units": [
    {"name": "a.service", "enabled": true, "contents": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
     "dropins": [{"name": "10.conf", "contents": "[Service]\nRestart=no\n"}]},
    {"name": "b.service", "mask": true}
  ]}
}"#;
    let (plan, warnings) = plan(text);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(plan.on_failure, OnFailure::StopBoot);
    assert_eq!(plan.fetch.total.map(|it| it.as_secs()), Some(30));
    assert_eq!(
        plan.resources().into_iter().map(|it| it.url.as_str()).collect::<Vec<_>>(),
        ["https://example.com/x"]
    );
    assert!(plan.steps.iter().all(|it| it.stage == Stage::Configure));
    let paths: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|it| match &it.step {
            Step::WriteFile(file) => Some(file.path.as_str()),
            Step::MakeDirectory(it) => Some(it.path.as_str()),
            Step::MakeLink(it) => Some(it.path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        paths,
        [
            "/etc/issue",
            "/etc/link",
            "/etc/remote",
            "/opt/b",
            "/opt/b/file",
            "/etc/systemd/system/a.service",
            "/etc/systemd/system/a.service.d/10.conf",
            "/etc/systemd/system-preset/20-ignition.preset",
            "/etc/.ignition-result.json",
        ]
    );
}

#[test]
fn mistakes_of_ignition_are_told_with_path_and_place() {
    let text = r#"{
  "ignition": {"version": "3.0.0", "config": {"merge": [{"source": "ftp://x"}]}},
  "storage": {
    "files": [
      {"path": "etc/x", "mode": 99999},
      {"path": "/etc/x", "overwrite": true},
      {"path": "/etc/x", "contents": {"source": "data:,x", "verification": {"hash": "md5-0"}, "httpHeaders": []}},
      {"path": "/etc/y", "mode": "0644", "user": {"id": 1, "name": "x"}},
      {"path": "/etc/z", "mode": 644, "contnets": {}}
    ],
    "disks": [{"device": "/dev/sdb"}]
  },
  "systemd": {"units": [{"name": "a"}, {"name": "b.service", "dropins": [{"name": "x"}]}, {"enabled": true}]}
}"#;
    let found = findings(text);
    let want = [
        (2, 68, "$.ignition.config.merge.0.source: invalid url scheme"),
        (5, 16, "$.storage.files.0.path: path not absolute"),
        (5, 33, "$.storage.files.0.mode: illegal file mode"),
        (6, 39, "$.storage.files.1.overwrite: overwrite must be false"),
        (7, 16, "$.storage.files.2.path: duplicate entry defined"),
        (7, 85, "$.storage.files.2.contents.verification.hash: unrecognized hash function"),
        (7, 95, "$.storage.files.2.contents.httpHeaders: unused key"),
        (8, 34, "$.storage.files.3.mode: a whole number belongs here"),
        (8, 50, "$.storage.files.3.user: cannot set both id and name"),
        (9, 34, "$.storage.files.4.mode: 644 is 0o1204"),
        (9, 39, "$.storage.files.4.contnets: unused key"),
        (11, 14, "$.storage.disks: not supported"),
        (13, 34, "$.systemd.units.0.name: invalid systemd unit extension"),
        (13, 83, "$.systemd.units.1.dropins.0.name: invalid systemd drop-in extension"),
        (13, 91, "$.systemd.units.2.name: the key is missing"),
    ];
    for (line, column, message) in want {
        assert!(
            found.iter().any(|it| (it.1, it.2) == (line, column) && it.3.starts_with(message)),
            "{line}:{column} {message}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), want.len(), "{found:#?}");
    for (version, message) in
        [("2.3.0", "unsupported config version `2.3.0`"), ("3.9.0", "unsupported"), ("x", "unsupported")]
    {
        let found = findings(&format!("{{\"ignition\": {{\"version\": \"{version}\"}}}}"));
        assert!(found[0].3.contains(message), "{found:?}");
    }
    assert!(findings("{}")[0].3.contains("not an Ignition config"));
    assert!(findings("{\"ignition\": {\"version\": \"3.0.0\"}")[0].3.contains("never closed"));
}

#[test]
fn findings_of_a_config_do_not_wait_for_what_it_names() {
    let text = r#"{"ignition": {"version": "3.5.0", "config": {"merge": [{"source": "https://h/a"}]}}, "storege": {}}"#;
    let found = findings(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].3.contains("unused key `storege`"), "{found:?}");
}

#[test]
fn a_config_that_is_no_mapping_is_refused() {
    assert_eq!(findings("#cloud-config\n- a\n")[0].3, "a mapping belongs here, not a list");
    assert_eq!(findings("#cloud-config\nhello\n")[0].3, "a mapping belongs here, not text");
    assert_eq!(findings("#cloud-config\n"), []);
    assert_eq!(findings("#cloud-config\n# nothing\n---\n"), []);
}

#[test]
fn configs_that_are_named_are_fetched_and_merged() {
    let parent = r#"{"ignition": {"version": "3.5.0", "config": {"merge": [
        {"source": "https://h/a"},
        {"source": "data:,%7B%22ignition%22:%7B%22version%22:%223.0.0%22%7D,%22storage%22:%7B%22files%22:%5B%7B%22path%22:%22/etc/inline%22%7D%5D%7D%7D"}
    ]}}, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "data:,parent"}}]}}"#;
    let data = UserData::read("u", parent.as_bytes()).unwrap();
    let mut facts = facts();
    let Outcome::Fetch(resources, _) = data.plan(&facts) else { panic!("nothing to fetch") };
    assert_eq!(resources.len(), 1);
    let child = r#"{"ignition": {"version": "3.1.0"}, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "data:,child"}}]}}"#;
    facts.fetched.insert(resources[0].clone(), child.as_bytes().to_vec());
    let Outcome::Plan(plan, _) = data.plan(&facts) else { panic!("no plan") };
    let files = files(&plan);
    assert!(
        files.contains(&("/etc/x", "child".to_owned())) && files.contains(&("/etc/inline", String::new())),
        "{files:?}"
    );
    let origin =
        plan.steps.iter().find(|it| matches!(&it.step, Step::WriteFile(file) if file.path == "/etc/x"));
    assert_eq!(origin.unwrap().origin.to_string(), "https://h/a:1");

    let replaced = r#"{"ignition": {"version": "3.0.0", "config": {"replace": {"source": "https://h/a"}}}, "storage": {"files": [{"path": "/etc/gone"}]}}"#;
    let Outcome::Plan(plan, _) = UserData::read("u", replaced.as_bytes()).unwrap().plan(&facts) else {
        panic!("no plan")
    };
    assert!(!self::files(&plan).iter().any(|(path, _)| *path == "/etc/gone"));

    facts.fetched.insert(resources[0].clone(), b"nonsense".to_vec());
    let Outcome::Refused(plan, found) = data.plan(&facts) else { panic!("not refused") };
    assert!(plan.steps.is_empty() && plan.on_failure == OnFailure::StopBoot);
    assert!(found.to_string().contains("https://h/a: error: this is no Ignition config"), "{found}");

    let itself = r#"{"ignition": {"version": "3.0.0", "config": {"merge": [{"source": "https://h/a"}, {"source": "https://h/a"}]}}}"#;
    facts.fetched.insert(resources[0].clone(), itself.as_bytes().to_vec());
    let Outcome::Refused(_, found) = data.plan(&facts) else { panic!("not refused") };
    assert!(found.to_string().contains("levels deep"), "{found}");
}

/// Words that cloud-configs are made of, in any order and depth.
fn near_cloud_config() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("coreos:"),
        Just("units:"),
        Just("- name: a.service"),
        Just("command: start"),
        Just("content: |"),
        Just("write_files:"),
        Just("- path: /a"),
        Just("permissions: 9"),
        Just("encoding: gz+b64"),
        Just("users:"),
        Just("- name: x"),
        Just("hostname: $private_ipv4"),
        Just("fleet:"),
        Just("- metadata: a=b"),
        Just("etcd:"),
        Just("addr: :"),
        Just("&a [*a]"),
        Just("<<: *a"),
        Just("[Service]"),
        Just("mounts:"),
        Just("- [sda, none, swap]"),
        Just("runcmd:"),
        Just("- é"),
        Just("!!binary é"),
        Just("? [a]"),
        Just("ntp: {servers: [x]}"),
        Just("\t"),
        Just("\"\\"),
        Just("drop_ins:"),
        Just("oem: {id: \"%\"}"),
        Just("sudo: [a]"),
        Just("groups: {a: [b]}"),
    ];
    let line = (0..5usize, word).prop_map(|(depth, word)| format!("{}{word}\n", "  ".repeat(depth)));
    proptest::collection::vec(line, 0..25).prop_map(|lines| format!("#cloud-config\n{}", lines.concat()))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(data) = UserData::read("u", &bytes) {
            let _ = data.plan(&facts());
        }
        let packed = gzip(&bytes);
        let _ = UserData::read("u", &packed);
    }

    #[test]
    fn no_cloud_config_panics(text in near_cloud_config()) {
        let data = UserData::read("u", text.as_bytes()).unwrap();
        let _ = data.addresses();
        let rendered = data.validate().map_or_else(|found| found.to_string(), |found| found.to_string());
        prop_assert!(!rendered.contains(char::from(27)));
        let _ = data.plan(&facts());
    }

    #[test]
    fn no_yaml_panics(text in "([a-z]{1,4}: ?|- |  |\n|\t|---\n|\\[|\\]|\\{|\\}|\"|'|&a |\\*a|!t |!!binary |<<: |#|\\||[0-9]|é|,){0,60}") {
        let text = format!("#cloud-config\n{text}");
        let _ = UserData::read("u", text.as_bytes()).unwrap().plan(&facts());
    }

    #[test]
    fn no_ignition_panics(path in ".{0,12}", mode in any::<i64>(), source in "(data:)?[;,%a-z0-9=]{0,16}", name in "[a-z@.é]{0,9}", version in "3\\.[0-6]\\.0") {
        let text = serde_json::json!({
            "ignition": {"version": version, "config": {"merge": [{"source": source}]}},
            "storage": {"files": [{"path": path, "mode": mode, "user": {"id": mode}, "contents": {"source": source, "compression": "gzip"}}],
                        "links": [{"path": path, "target": name}]},
            "systemd": {"units": [{"name": name, "enabled": true, "contents": path}]},
            "passwd": {"users": [{"name": name, "uid": mode, "homeDir": path}]},
        });
        let _ = UserData::read("u", text.to_string().as_bytes()).unwrap().plan(&facts());
    }
}
