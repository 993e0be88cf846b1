//! What a machine is told at its first boot: a NoCloud volume with user-data and metadata.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::certs::MACHINE_FOLDER;
use super::layout::Node;
use crate::esp::{FatSpec, fat_volume};

/// Bytes of the volume: room for 10 MB of user-data, the most that is read.
const VOLUME: u64 = 16 << 20;

/// The user-data of a cluster that was given none: the first `members` machines are etcd's members and know each other from the
/// start; on others etcd passes on what it is asked. One text for all; each machine puts in its own address, and Debian's unit its name.
#[must_use]
pub fn default_user_data(members: usize, security: Security) -> String {
    let (scheme, more) = match security {
        Security::Plain => ("http", String::new()),
        Security::Tls => ("https", certificates()),
    };
    let members: Vec<String> =
        Node::all(members).map(|node| format!("{node}={scheme}://{}:2380", node.address())).collect();
    format!(
        "#cloud-config\n\
         coreos:\n  \
           etcd2:\n    \
             initial-cluster: {}\n    \
             initial-cluster-token: ferrite\n    \
             initial-advertise-peer-urls: {scheme}://$private_ipv4:2380\n    \
             listen-peer-urls: {scheme}://$private_ipv4:2380\n    \
             advertise-client-urls: {scheme}://$private_ipv4:2379\n    \
             listen-client-urls: {scheme}://0.0.0.0:2379,{scheme}://0.0.0.0:4001\n\
         {more}  \
           units:\n    \
             - name: etcd2.service\n      \
               command: start\n",
        members.join(",")
    )
}

/// Whether etcd asks everybody for a certificate, and has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// It does not.
    Plain,
    /// It does: clients and peers.
    Tls,
}

/// The lines of etcd's settings that name the files of [`certs::cloud_config`].
fn certificates() -> String {
    let line = |key: &str, value: &str| format!("    {key}: {value}\n");
    ["", "peer-"]
        .iter()
        .map(|side| {
            line(&format!("{side}cert-file"), &format!("{MACHINE_FOLDER}/machine.pem"))
                + &line(&format!("{side}key-file"), &format!("{MACHINE_FOLDER}/machine-key.pem"))
                + &line(&format!("{side}trusted-ca-file"), &format!("{MACHINE_FOLDER}/ca.pem"))
                + &line(&format!("{side}client-cert-auth"), "true")
        })
        .collect()
}

/// A cloud-config with another one before it, as MIME multipart (RFC 2046, 5.1): what all machines get and what one machine gets.
///
/// # Errors
/// The text is no plain cloud-config.
pub fn with_part(user_data: &[u8], part: &str) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(user_data).ok().filter(|text| text.starts_with("#cloud-config"));
    let text = text.context("certificates can be added to a plain cloud-config only")?;
    // No line of a cloud-config begins with this.
    const BOUNDARY: &str = "==ferrite==";
    let mut out = format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n");
    for text in [part, text] {
        out.push_str(&format!(
            "--{BOUNDARY}\nContent-Type: text/cloud-config; charset=\"utf-8\"\n\n{text}\n"
        ));
    }
    out.push_str(&format!("--{BOUNDARY}--\n"));
    Ok(out.into_bytes())
}

/// Metadata in NoCloud's form.
fn metadata(cluster: &str, node: Node) -> String {
    format!("instance-id: {cluster}-{node}\nlocal-hostname: {node}\nlocal-ipv4: {}\n", node.address())
}

/// Writes the volume of a machine.
///
/// # Errors
/// The user-data is too long, or there is no space.
pub fn write(path: &Path, cluster: &str, node: Node, user_data: &[u8]) -> Result<()> {
    let files = [("user-data", user_data.to_vec()), ("meta-data", metadata(cluster, node).into_bytes())];
    let spec = FatSpec {
        bytes: VOLUME,
        label: "CIDATA",
        volume_id: u32::try_from(node.index()).unwrap_or_default(),
        files: files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
    };
    let volume = fat_volume(&spec)?;
    let write = || -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(VOLUME)?;
        volume.write_to(&file, 0)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_names_all_members() {
        let text = default_user_data(3, Security::Plain);
        assert!(text.starts_with("#cloud-config\n"));
        let members =
            "node1=http://10.90.0.11:2380,node2=http://10.90.0.12:2380,node3=http://10.90.0.13:2380";
        assert!(text.contains(&format!("\n    initial-cluster: {members}\n")), "{text}");
    }

    #[test]
    fn what_machines_get_is_understood_without_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user-data");
        let tls = default_user_data(3, Security::Tls);
        assert!(tls.contains("node3=https://10.90.0.13:2380") && !tls.contains("http:"), "{tls}");
        let part = "#cloud-config\nwrite_files:\n  - path: /etc/x\n    content: x\n";
        let both = with_part(tls.as_bytes(), part).unwrap();
        for text in [default_user_data(3, Security::Plain).into_bytes(), tls.into_bytes(), both] {
            std::fs::write(&path, &text).unwrap();
            let checked = crate::userdata::load(&path).unwrap();
            assert!(checked.warnings.as_slice().is_empty(), "{:?}", checked.warnings.as_slice());
        }
        assert!(with_part(b"#!/bin/sh\n", part).is_err());
    }

    #[test]
    fn the_volume_has_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        write(&path, "test", Node::all(1).next().unwrap(), b"#cloud-config\n").unwrap();
        let read = |name| crate::esp::read_file(File::open(&path).unwrap(), name, 1000).unwrap().unwrap();
        assert_eq!(read("user-data"), b"#cloud-config\n");
        assert_eq!(
            read("meta-data"),
            b"instance-id: test-node1\nlocal-hostname: node1\nlocal-ipv4: 10.90.0.11\n"
        );
    }
}
