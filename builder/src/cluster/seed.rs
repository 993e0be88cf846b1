//! What a machine is told at its first boot: a NoCloud volume with user-data and metadata.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::layout::Node;
use crate::esp::{FatSpec, fat_volume};

/// Bytes of the volume: room for 10 MB of user-data, the most that is read.
const VOLUME: u64 = 16 << 20;

/// The user-data of a cluster that was given none: etcd on all machines, which know each other from the start.
pub fn default_user_data(node: Node, count: usize) -> String {
    let members: Vec<String> =
        Node::all(count).map(|node| format!("{node}=http://{}:2380", node.address())).collect();
    format!(
        "#cloud-config\n\
         coreos:\n  \
           etcd2:\n    \
             name: {node}\n    \
             initial-cluster: {}\n    \
             initial-cluster-token: ferrite\n    \
             initial-advertise-peer-urls: http://$private_ipv4:2380\n    \
             listen-peer-urls: http://$private_ipv4:2380\n    \
             advertise-client-urls: http://$private_ipv4:2379\n    \
             listen-client-urls: http://0.0.0.0:2379,http://0.0.0.0:4001\n  \
           units:\n    \
             - name: etcd.service\n      \
               command: start\n",
        members.join(",")
    )
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
    fn every_machine_knows_all_members_and_its_own_name() {
        let nodes: Vec<Node> = Node::all(3).collect();
        let text = default_user_data(nodes[1], 3);
        assert!(text.starts_with("#cloud-config\n"));
        assert!(text.contains("\n    name: node2\n"), "{text}");
        let members =
            "node1=http://10.90.0.11:2380,node2=http://10.90.0.12:2380,node3=http://10.90.0.13:2380";
        assert!(text.contains(&format!("\n    initial-cluster: {members}\n")), "{text}");
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
