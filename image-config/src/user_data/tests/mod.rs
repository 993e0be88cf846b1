//! Texts to plans, as a machine would make them.

mod ignition;
mod limits;

use std::io::Write;

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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const SEED_003: &str = include_str!("../../../tests/seeds/user-data.yml");

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

#[test]
fn packed_user_data_is_unpacked() {
    let packed = gzip(b"#cloud-config\nhostname: x\n");
    let data = UserData::read("u", &gzip(&packed)).unwrap();
    assert_eq!(data.parts().len(), 1);
    assert!(UserData::read("u", &gzip(&gzip(&packed))).unwrap_err().to_string().contains("too many times"));
    assert!(UserData::read("u", &packed[..packed.len() - 3]).unwrap_err().to_string().contains("broken"));
}

#[test]
fn a_config_that_is_no_mapping_is_refused() {
    assert_eq!(findings("#cloud-config\n- a\n")[0].3, "a mapping belongs here, not a list");
    assert_eq!(findings("#cloud-config\nhello\n")[0].3, "a mapping belongs here, not text");
    assert_eq!(findings("#cloud-config\n"), []);
    assert_eq!(findings("#cloud-config\n# nothing\n---\n"), []);
}
