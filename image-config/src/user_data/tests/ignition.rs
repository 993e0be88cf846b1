//! Ignition configs to plans.

use super::*;

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
