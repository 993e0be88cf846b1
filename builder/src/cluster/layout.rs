//! Names and addresses of a cluster's machines: they follow from the number alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The switch's DHCP server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// Hardware address of the server: locally administered.
pub const SERVER_MAC: [u8; 6] = [0x52, 0x46, 0x45, 0, 1, 0xff];
/// Bits of the network's prefix.
pub const PREFIX: u8 = 24;
/// The most machines of one cluster: what fits the addresses below.
pub const MOST: usize = 32;

/// A machine's number, counted from 1, as people write it: `2` or `node2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Node(usize);

impl Node {
    /// All machines of a cluster of `count`.
    pub fn all(count: usize) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The place in lists, counted from 0; the switch's port too.
    pub fn index(self) -> usize {
        self.0.saturating_sub(1)
    }

    /// Host name.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// Address on the private network.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, 0, 10 + self.low())
    }

    /// Hardware address of the card on the private network.
    pub fn mac(self) -> [u8; 6] {
        [0x52, 0x46, 0x45, 0, 1, self.low()]
    }

    /// Hardware address of the card to the host.
    pub fn outer_mac(self) -> [u8; 6] {
        [0x52, 0x46, 0x45, 0, 2, self.low()]
    }

    fn low(self) -> u8 {
        // Numbers above [`MOST`] are refused where they are read.
        u8::try_from(self.0).unwrap_or(u8::MAX)
    }
}

impl std::str::FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("node").unwrap_or(text);
        let number = digits.parse::<usize>().ok().filter(|number| (1..=MOST).contains(number));
        number
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no machine: write its number or its name, 2 or node2"))
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node{}", self.0)
    }
}

/// Whose address is which, for the DHCP server.
pub fn hosts(count: usize) -> BTreeMap<[u8; 6], Ipv4Addr> {
    Node::all(count).map(|node| (node.mac(), node.address())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_by_number_or_name() {
        let two: Node = "2".parse().unwrap();
        assert_eq!("node2".parse(), Ok(two));
        assert_eq!(
            (two.index(), two.name(), two.address()),
            (1, "node2".to_owned(), Ipv4Addr::new(10, 90, 0, 12))
        );
        for text in ["", "0", "33", "node", "nodeX", "-1", "node2 "] {
            assert!(text.parse::<Node>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_two_machines_share_an_address() {
        let hosts = hosts(MOST);
        let addresses: std::collections::BTreeSet<_> = hosts.values().collect();
        assert_eq!((hosts.len(), addresses.len()), (MOST, MOST));
        assert!(!hosts.contains_key(&SERVER_MAC) && !addresses.contains(&SERVER));
    }
}
