//! The files that other programs read the network's servers from.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::lease::Lease;

/// glibc reads no more name servers than this (resolv.conf(5)).
const MAX_SERVERS: usize = 3;

/// The text of resolv.conf for the leases in force, the first link's servers first.
pub fn resolv_conf<'a>(leases: impl Iterator<Item = &'a Lease> + Clone) -> String {
    let mut text = "# Written by the network service from DHCP leases.\n".to_owned();
    let search = distinct(leases.clone().flat_map(|lease| &lease.search));
    if !search.is_empty() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let servers = distinct(leases.flat_map(|lease| &lease.dns).map(ToString::to_string));
    for server in servers.iter().take(MAX_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// One time server a line.
pub fn time_servers<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
    distinct(leases.flat_map(|lease| &lease.ntp).map(ToString::to_string))
        .iter()
        .fold(String::new(), |text, server| text + server + "\n")
}

fn distinct<T: ToString>(items: impl Iterator<Item = T>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for item in items {
        let item = item.to_string();
        if !list.contains(&item) {
            list.push(item);
        }
    }
    list
}

/// Puts both files in place below `folder`, each in one step.
///
/// # Errors
/// The kernel's.
pub fn write(folder: &Path, resolv_conf: &str, time_servers: &str) -> io::Result<()> {
    for (name, text) in [("resolv.conf", resolv_conf), ("ntp-servers", time_servers)] {
        let beside = folder.join(format!(".{name}.new"));
        std::fs::write(&beside, text)?;
        std::fs::rename(beside, folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_links_share_one_file() {
        let lease = |dns: &[[u8; 4]], search: &str| Lease {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            server: [10, 0, 2, 2].into(),
            routes: Vec::new(),
            dns: dns.iter().map(|address| (*address).into()).collect(),
            search: vec![search.to_owned()],
            ntp: vec![[10, 0, 2, 4].into()],
            mtu: None,
            seconds: None,
            renew: 1,
            rebind: 2,
        };
        let leases = [
            lease(&[[10, 0, 0, 1], [10, 0, 0, 2]], "a.org"),
            lease(&[[10, 0, 0, 1], [10, 0, 0, 3], [10, 0, 0, 4]], "b.org"),
        ];
        let text = resolv_conf(leases.iter());
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["search a.org b.org", "nameserver 10.0.0.1", "nameserver 10.0.0.2", "nameserver 10.0.0.3"]
        );
        assert_eq!(time_servers(leases.iter()), "10.0.2.4\n");
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &text, "").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("resolv.conf")).unwrap(), text);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
