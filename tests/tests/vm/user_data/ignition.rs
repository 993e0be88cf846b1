//! Ignition: a machine that it configures at its first boot and leaves alone later, and one that it cannot configure.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use builder::signing::hex;
use ferrite_tests::{FileServer, Guest, Image, scratch};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use super::{KEY, NETWORK_UNIT, UNIT, cat, status};
use crate::support::{GIB, options, wait_for};

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// What another configuration adds.
fn child() -> Value {
    json!({
        "ignition": { "version": "3.0.0" },
        "storage": { "files": [
            { "path": "/etc/from-child", "contents": { "source": "data:,child" } },
            { "path": "/etc/of-both", "contents": { "source": "data:,child%20wins" } },
        ] },
    })
}

fn parent(server: &FileServer, child: &[u8]) -> Value {
    let packed = BASE64_STANDARD.encode(gzip(b"unpacked").unwrap_or_default());
    json!({
        "ignition": {
            "version": "3.4.0",
            "timeouts": { "httpResponseHeaders": 20, "httpTotal": 120 },
            "config": { "merge": [{
                "source": server.url("/child.ign"),
                "verification": { "hash": format!("sha512-{}", hex(&Sha512::digest(child))) },
            }] },
        },
        "passwd": {
            "groups": [{ "name": "operators", "gid": 2000 }],
            "users": [
                { "name": "core", "sshAuthorizedKeys": [KEY], "groups": ["operators"] },
                {
                    "name": "elroy", "uid": 1500, "gecos": "Elroy", "homeDir": "/home/jetson", "shell": "/bin/sh",
                    "passwordHash": "$6$x$y", "primaryGroup": "operators",
                },
            ],
        },
        "storage": {
            "directories": [{ "path": "/etc/made", "mode": 0o750, "user": { "id": 500 }, "group": { "name": "operators" } }],
            "files": [
                { "path": "/etc/of-both", "contents": { "source": "data:,parent" } },
                { "path": "/etc/plain", "mode": 0o600, "contents": { "source": "data:text/plain;base64,cGxhaW4K" } },
                {
                    "path": "/etc/packed", "user": { "name": "elroy" },
                    "contents": { "source": format!("data:;base64,{packed}"), "compression": "gzip" },
                },
                {
                    "path": "/etc/remote",
                    "contents": {
                        "source": server.url("/remote.gz"), "compression": "gzip",
                        "verification": { "hash": format!("sha256-{}", hex(&Sha256::digest(b"remote"))) },
                    },
                    "append": [{ "source": "data:,%20and%20appended" }],
                },
                { "path": "/etc/hostname", "overwrite": true, "contents": { "source": "data:,ignited" } },
                { "path": "/opt/bin/deep/down/tool", "mode": 0o755, "contents": { "source": "data:,%23!%2Fbin%2Fsh%0Aecho%20tool" } },
            ],
            "links": [
                { "path": "/etc/soft", "target": "/etc/plain" },
                { "path": "/etc/hard", "target": "/etc/plain", "hard": true },
            ],
        },
        "systemd": { "units": [
            {
                "name": "hello.service", "enabled": true,
                "contents": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo ${GREETING} > /var/hello'\n[Install]\nWantedBy=multi-user.target\n",
                "dropins": [{ "name": "10.conf", "contents": "[Service]\nEnvironment=GREETING=hi\n" }],
            },
            { "name": "unwanted.service", "mask": true },
        ] },
    })
}

#[test]
fn ignition_configures_a_machine_at_its_first_boot_and_never_again() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::minimal()?.disk(&disk, GIB)?;
    let child = serde_json::to_vec(&child())?;
    let server = FileServer::start(BTreeMap::from([
        ("/child.ign".to_owned(), child.clone()),
        ("/remote.gz".to_owned(), gzip(b"remote")?),
    ]))?;
    let config = serde_json::to_vec(&parent(&server, &child))?;
    let start = |name| {
        Guest::start_with(&disk, &options(name), |spec| spec.fw_cfg("opt/com.coreos/config", config.clone()))
    };

    let mut guest = start("ignition")?;
    guest.wait_for_shell()?;
    guest.check("systemctl start multi-user.target")?;
    let told = status(&mut guest, NETWORK_UNIT)?;
    assert!(told.contains("fw_cfg opt/com.coreos/config: applied"), "{told}");
    for (path, want) in [
        ("/etc/from-child", "child"),
        ("/etc/of-both", "child wins"),
        ("/etc/plain", "plain"),
        ("/etc/soft", "plain"),
        ("/etc/hard", "plain"),
        ("/etc/packed", "unpacked"),
        ("/etc/remote", "remote and appended"),
        ("/var/hello", "hi"),
    ] {
        assert_eq!(cat(&mut guest, path)?, want, "{path}");
    }
    for (path, want) in [
        ("/etc/made", "750 500 2000"),
        ("/etc/plain", "600 0 0"),
        ("/etc/packed", "644 1500 0"),
        ("/home/jetson", "755 1500 2000"),
        ("/home/core/.ssh/authorized_keys.d/ignition", "600 500 500"),
    ] {
        assert_eq!(guest.check(&format!("stat -c '%a %u %g' {path}"))?.trim(), want, "{path}");
    }
    assert!(
        guest.check("grep ^elroy: /etc/passwd")?.starts_with("elroy:x:1500:2000:Elroy:/home/jetson:/bin/sh")
    );
    assert!(guest.check("grep ^operators: /etc/group")?.trim().ends_with(":core"));
    assert_eq!(guest.check("/opt/bin/deep/down/tool")?.trim(), "tool");
    assert!(guest.run("systemctl is-enabled unwanted.service")?.text.starts_with("masked"));
    assert!(cat(&mut guest, "/etc/.ignition-result.json")?.contains("\"userConfigProvided\": true"));
    assert_eq!(guest.check("hostname")?.trim(), "ignited");
    assert_eq!(server.asked(), ["/child.ign", "/remote.gz"]);

    guest.check("rm /etc/from-child; echo mine > /etc/plain; rm -r /etc/made")?;
    guest.poweroff()?;
    let mut guest = start("ignition-again")?;
    guest.wait_for_shell()?;
    let told = status(&mut guest, UNIT)?;
    assert!(told.contains("Ignition has configured this machine at its first boot"), "{told}");
    assert_eq!(cat(&mut guest, "/etc/plain")?, "mine");
    assert_ne!(guest.run("test -e /etc/from-child || test -e /etc/made")?.status, 0);
    assert_eq!(guest.check("hostname")?.trim(), "ignited");
    assert_eq!(server.asked().len(), 2, "nothing is fetched again");
    guest.poweroff()
}

#[test]
fn a_machine_that_ignition_cannot_configure_stops_in_a_shell_with_the_reason() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::minimal()?.disk(&disk, GIB)?;
    let config = json!({
        "ignition": { "version": "3.3.0" },
        "storage": { "files": [
            { "path": "/etc/first", "contents": { "source": "data:,first" } },
            { "path": "/etc/passwd", "contents": { "source": "data:,never" } },
            { "path": "/etc/zz-last", "contents": { "source": "data:,last" } },
        ] },
        "systemd": { "units": [{
            "name": "never.service", "enabled": true,
            "contents": "[Service]\nExecStart=/bin/touch /var/never\n[Install]\nWantedBy=multi-user.target\n",
        }] },
    });
    // In an OEM string, as hypervisors hand over credentials.
    let text = BASE64_STANDARD.encode(config.to_string());
    let mut guest = Guest::start_with(&disk, &options("ignition-fails"), |mut spec| {
        spec.oem_strings.push(format!("io.systemd.credential.binary:ferrite.user-data={text}"));
        spec
    })?;
    guest.expect("/etc/passwd exists already, and `overwrite` is not set")?;
    guest.expect("the boot stops here, because Ignition has failed")?;
    guest.expect("# ")?;
    let told = status(&mut guest, UNIT)?;
    assert!(told.contains("failed") && told.contains("an OEM string of SMBIOS"), "{told}");
    assert_eq!(guest.check("systemctl is-active emergency.target")?.trim(), "active");
    assert_ne!(guest.run("systemctl is-active sysinit.target")?.status, 0);
    for missing in ["/etc/zz-last", "/var/never"] {
        assert_ne!(guest.run(&format!("test -e {missing}"))?.status, 0, "{missing}");
    }
    // The next boot begins again, and its own file of this one is no obstacle.
    guest.check("test -e /etc/first && grep -q '^/etc/first$' /var/lib/ferrite/user-data/journey")?;
    guest.poweroff()
}

/// Cuts while the machine is being configured: each boot goes on, its own files are no obstacle, and nothing is appended twice.
#[test]
fn a_machine_that_is_cut_off_while_ignition_configures_it_is_configured_later() -> Result<()> {
    let folder = scratch()?;
    let disk = folder.path().join("disk.raw");
    Image::minimal()?.disk(&disk, GIB)?;
    let server = FileServer::start(BTreeMap::from([("/last".to_owned(), b"last".to_vec())]))?;
    let many = (0..400).map(|number| json!({ "path": format!("/etc/many/{number:03}"), "contents": { "source": format!("data:,{number}") } }));
    let mut files: Vec<Value> = many.collect();
    files.push(json!({ "path": "/etc/grown", "append": [{ "source": "data:,once" }] }));
    files.push(json!({ "path": "/etc/zz-last", "contents": { "source": server.url("/last") } }));
    let config =
        serde_json::to_vec(&json!({ "ignition": { "version": "3.3.0" }, "storage": { "files": files } }))?;
    let start = |name| {
        Guest::start_with(&disk, &options(name), |spec| spec.fw_cfg("opt/com.coreos/config", config.clone()))
    };
    for cut in 1..=3 {
        let guest = start("ignition-cut")?;
        // When it has this, it has all that it needs, and begins to write.
        wait_for(|| server.asked().len() >= cut, "the machine to fetch")?;
        guest.cut_power();
    }
    let mut guest = start("ignition-cut")?;
    guest.wait_for_shell()?;
    guest.check("systemctl start multi-user.target")?;
    let told = status(&mut guest, NETWORK_UNIT)?;
    assert!(told.contains("fw_cfg opt/com.coreos/config: applied"), "{told}");
    guest.check("for i in $(seq 0 399); do grep -qx $i /etc/many/$(printf %03d $i) || exit 1; done")?;
    assert_eq!(
        (cat(&mut guest, "/etc/grown")?.as_str(), cat(&mut guest, "/etc/zz-last")?.as_str()),
        ("once", "last")
    );
    guest.check("! test -e /var/lib/ferrite/user-data/journey")?;
    guest.poweroff()
}
