//! What a DHCP server grants: checked values out of its answer (RFC 2131, 2132, 3442).

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, OptionCode};

/// Shortest lease that is honoured, in seconds: less would make the client and the network busy with nothing else.
const MIN_LEASE: u32 = 60;
/// The value that means "for ever" (RFC 2131, 3.3).
const INFINITE: u32 = u32::MAX;
/// Smallest MTU that every IPv4 link carries (RFC 791); less is a mistake.
const MIN_MTU: u16 = 576;
/// Most servers and routes that are taken from one answer.
const MAX_LIST: usize = 16;

/// A route to add with the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Network.
    pub destination: Ipv4Addr,
    /// Its prefix length, 0 to 32.
    pub prefix: u8,
    /// `None` for a network that is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

/// A granted address and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// A usable unicast address.
    pub address: Ipv4Addr,
    /// Prefix length of its subnet, 0 to 32.
    pub prefix: u8,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// Routes; those of option 121 replace the router option's.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Domains to search, from option 119 or else 15.
    pub search: Vec<String>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// MTU of the link.
    pub mtu: Option<u16>,
    /// How long the address may be used, in seconds; `None` for ever.
    pub seconds: Option<u32>,
    /// When to ask the server again, in seconds after the grant.
    pub renew: u32,
    /// When to ask anybody, in seconds after the grant; not before `renew`.
    pub rebind: u32,
}

impl Lease {
    /// Reads an offer or acknowledgement; `None` when it does not grant a usable address.
    pub fn from_message(message: &Message) -> Option<Self> {
        let address = message.yiaddr();
        let options = message.opts();
        let usable = !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
            && !address.is_broadcast()
            && address.octets()[0] != 0;
        let server = match options.get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => *server,
            _ => return None,
        };
        if !usable {
            return None;
        }
        let granted = match options.get(OptionCode::AddressLeaseTime) {
            Some(DhcpOption::AddressLeaseTime(seconds)) => (*seconds).max(MIN_LEASE),
            _ => return None,
        };
        let (renew, rebind) = times(message, granted);
        Some(Self {
            address,
            prefix: prefix(message)?,
            server,
            routes: routes(message),
            dns: addresses(options.get(OptionCode::DomainNameServer)),
            search: search(message),
            ntp: addresses(options.get(OptionCode::NtpServers)),
            mtu: mtu(message),
            seconds: (granted != INFINITE).then_some(granted),
            renew,
            rebind,
        })
    }
}

/// The server's times where they are in order, else a half and seven eighths of the lease (RFC 2131, 4.4.5).
fn times(message: &Message, granted: u32) -> (u32, u32) {
    let renew = match message.opts().get(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(seconds)) => *seconds,
        _ => granted / 2,
    };
    let rebind = match message.opts().get(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(seconds)) => *seconds,
        _ => granted - granted / 8,
    };
    if renew >= MIN_LEASE / 2 && renew < rebind && rebind < granted {
        (renew, rebind)
    } else {
        (granted / 2, granted - granted / 8)
    }
}

/// Prefix length from the mask; that of the address's class when the server gives none, nothing when it is no mask.
fn prefix(message: &Message) -> Option<u8> {
    let mask = match message.opts().get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => u32::from(*mask),
        _ => match message.yiaddr().octets()[0] {
            0..=127 => 0xff00_0000,
            128..=191 => 0xffff_0000,
            _ => 0xffff_ff00,
        },
    };
    let ones = mask.leading_ones();
    let contiguous = ones > 0 && mask.checked_shl(ones).unwrap_or(0) == 0;
    u8::try_from(ones).ok().filter(|_| contiguous)
}

fn routes(message: &Message) -> Vec<Route> {
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        message.opts().get(OptionCode::ClasslessStaticRoute)
    {
        let routes = routes.iter().take(MAX_LIST).map(|(network, gateway)| Route {
            destination: network.network(),
            prefix: network.prefix_len(),
            gateway: Some(*gateway).filter(|gateway| !gateway.is_unspecified()),
        });
        return routes.collect();
    }
    let routers = addresses(message.opts().get(OptionCode::Router));
    let default = |gateway| Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(gateway) };
    routers.into_iter().take(1).map(default).collect()
}

fn addresses(option: Option<&DhcpOption>) -> Vec<Ipv4Addr> {
    let Some(DhcpOption::DomainNameServer(list) | DhcpOption::NtpServers(list) | DhcpOption::Router(list)) =
        option
    else {
        return Vec::new();
    };
    let usable = list.iter().filter(|address| !address.is_unspecified() && !address.is_broadcast());
    usable.take(MAX_LIST).copied().collect()
}

fn search(message: &Message) -> Vec<String> {
    let names: Vec<String> = match message.opts().get(OptionCode::DomainSearch) {
        Some(DhcpOption::DomainSearch(names)) => names.iter().map(|name| name.to_string()).collect(),
        _ => match message.opts().get(OptionCode::DomainName) {
            Some(DhcpOption::DomainName(name)) => vec![name.clone()],
            _ => Vec::new(),
        },
    };
    let names = names.iter().map(|name| name.trim_end_matches(['.', '\0']));
    names.filter(|name| is_domain(name)).take(MAX_LIST).map(str::to_owned).collect()
}

/// Only what can stand in resolv.conf without changing its meaning.
fn is_domain(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(fine)
}

fn mtu(message: &Message) -> Option<u16> {
    match message.opts().get(OptionCode::InterfaceMtu) {
        Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= MIN_MTU => Some(*mtu),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::{DhcpOptions, MessageType};

    fn answer(options: Vec<DhcpOption>) -> Message {
        let mut message = Message::default();
        message.set_yiaddr([10, 0, 2, 15]);
        let all = [
            DhcpOption::MessageType(MessageType::Ack),
            DhcpOption::ServerIdentifier([10, 0, 2, 2].into()),
            DhcpOption::AddressLeaseTime(86_400),
            DhcpOption::SubnetMask([255, 255, 255, 0].into()),
        ];
        let mut list = DhcpOptions::new();
        for option in all.into_iter().chain(options) {
            list.insert(option);
        }
        message.set_opts(list);
        message
    }

    #[test]
    fn an_ordinary_answer_gives_address_route_and_servers() {
        let message = answer(vec![
            DhcpOption::Router(vec![[10, 0, 2, 2].into(), [10, 0, 2, 9].into()]),
            DhcpOption::DomainNameServer(vec![[10, 0, 2, 3].into(), [0, 0, 0, 0].into()]),
            DhcpOption::DomainName("example.org".to_owned()),
            DhcpOption::InterfaceMtu(1400),
        ]);
        let lease = Lease::from_message(&message).unwrap();
        assert_eq!((lease.address, lease.prefix), ([10, 0, 2, 15].into(), 24));
        let default =
            Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some([10, 0, 2, 2].into()) };
        assert_eq!(lease.routes, [default]);
        assert_eq!(lease.dns, [Ipv4Addr::from([10, 0, 2, 3])]);
        assert_eq!(lease.search, ["example.org"]);
        assert_eq!(
            (lease.mtu, lease.seconds, lease.renew, lease.rebind),
            (Some(1400), Some(86_400), 43_200, 75_600)
        );
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let routes = vec![
            ("10.1.0.0/16".parse().unwrap(), [10, 0, 2, 7].into()),
            ("10.2.0.0/16".parse().unwrap(), [0, 0, 0, 0].into()),
        ];
        let message = answer(vec![
            DhcpOption::Router(vec![[10, 0, 2, 2].into()]),
            DhcpOption::ClasslessStaticRoute(routes),
        ]);
        let routes = Lease::from_message(&message).unwrap().routes;
        assert_eq!(routes.len(), 2);
        assert_eq!(
            routes[0],
            Route { destination: [10, 1, 0, 0].into(), prefix: 16, gateway: Some([10, 0, 2, 7].into()) }
        );
        assert_eq!(routes[1].gateway, None);
    }

    #[test]
    fn unusable_answers_grant_nothing() {
        let mut nowhere = answer(vec![]);
        nowhere.set_yiaddr([0, 0, 0, 0]);
        let holes = answer(vec![DhcpOption::SubnetMask([255, 0, 255, 0].into())]);
        let mut timeless = answer(vec![]);
        timeless.opts_mut().remove(OptionCode::AddressLeaseTime);
        for message in [nowhere, holes, timeless] {
            assert_eq!(Lease::from_message(&message), None);
        }
    }

    #[test]
    fn absurd_times_and_names_are_put_right() {
        let lease = Lease::from_message(&answer(vec![
            DhcpOption::AddressLeaseTime(1),
            DhcpOption::Renewal(0),
            DhcpOption::DomainName("evil\nnameserver 1.2.3.4".to_owned()),
            DhcpOption::InterfaceMtu(68),
        ]));
        let lease = lease.unwrap();
        assert_eq!((lease.seconds, lease.renew, lease.rebind, lease.mtu), (Some(60), 30, 53, None));
        assert_eq!(lease.search, [""; 0]);
        let for_ever = Lease::from_message(&answer(vec![DhcpOption::AddressLeaseTime(u32::MAX)])).unwrap();
        assert_eq!(for_ever.seconds, None);
    }
}
