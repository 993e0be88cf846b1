//! Whatever the bytes: no panic, and bounded time and memory.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

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
