//! The machine's network links as sysfs shows them.

use std::path::Path;

/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ETHERNET: &str = "1";

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name: `eth0`.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Hardware address.
    pub hardware: [u8; 6],
    /// A cable is plugged in and the other end answers; only known of a link that is up.
    pub carrier: bool,
}

/// All Ethernet links that have a device behind them (cards, virtio-net), sorted by number. Bridges, tunnels and the like
/// belong to whoever made them.
pub fn physical(class: &Path) -> Vec<Link> {
    let entries = std::fs::read_dir(class).into_iter().flatten().flatten();
    let mut links: Vec<Link> = entries.filter_map(|entry| read(&entry.path())).collect();
    links.sort_by_key(|link| link.index);
    links
}

fn read(path: &Path) -> Option<Link> {
    let file = |name: &str| std::fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
    if file("type")? != ETHERNET || !path.join("device").exists() {
        return None;
    }
    Some(Link {
        name: path.file_name()?.to_str()?.to_owned(),
        index: file("ifindex")?.parse().ok()?,
        hardware: parse_hardware(&file("address")?)?,
        // Reading it of a link that is down is an error.
        carrier: file("carrier").as_deref() == Some("1"),
    })
}

fn parse_hardware(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_with_an_ethernet_address_count() {
        let class = tempfile::tempdir().unwrap();
        let link = |name: &str, kind: &str, index: &str, address: &str, carrier: &str, device: bool| {
            let path = class.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            for (file, text) in
                [("type", kind), ("ifindex", index), ("address", address), ("carrier", carrier)]
            {
                std::fs::write(path.join(file), format!("{text}\n")).unwrap();
            }
            if device {
                std::fs::create_dir(path.join("device")).unwrap();
            }
        };
        link("eth1", "1", "3", "52:54:00:12:34:57", "0", true);
        link("eth0", "1", "2", "52:54:00:12:34:56", "1", true);
        link("lo", "772", "1", "00:00:00:00:00:00", "1", false);
        link("br0", "1", "4", "52:54:00:12:34:58", "1", false);
        link("odd", "1", "5", "52:54", "1", true);
        let found = physical(class.path());
        let names: Vec<_> = found.iter().map(|link| (link.name.as_str(), link.index, link.carrier)).collect();
        assert_eq!(names, [("eth0", 2, true), ("eth1", 3, false)]);
        assert_eq!(found[0].hardware, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    }
}
