//! Settings of daemons: which key of `coreos.etcd` and its like becomes which variable.
//!
//! The tables are in the order of coreos-cloudinit's structures, which is the order of the variables. What was written for etcd 0.4 and 2
//! is translated to what etcd 3.5 reads; `docs/user-data.md` shows the same tables.

use crate::user_data::report::{Fields, Report};

/// What a key's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text; numbers and booleans count as what was written.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
}

/// What becomes of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A variable with the value.
    Variable(&'static str),
    /// A variable with the value, the key's name being an old one: what to write instead.
    Renamed(&'static str, &'static str),
    /// Files of authorities: a variable with the value, and one that asks for certificates.
    Authority(&'static str, &'static str),
    /// An address without scheme, which etcd 0.4 had: see [`translate_addresses`].
    Address,
    /// A switch for more words in the log.
    Verbose,
    /// Nothing: today's daemon has nothing like it.
    Gone,
}

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name, with underscores.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What becomes of it.
    pub meaning: Meaning,
}

const fn text(name: &'static str, variable: &'static str) -> Key {
    Key { name, kind: Kind::Text, meaning: Meaning::Variable(variable) }
}

const fn int(name: &'static str, variable: &'static str) -> Key {
    Key { name, kind: Kind::Int, meaning: Meaning::Variable(variable) }
}

const fn boolean(name: &'static str, variable: &'static str) -> Key {
    Key { name, kind: Kind::Bool, meaning: Meaning::Variable(variable) }
}

const fn float(name: &'static str, variable: &'static str) -> Key {
    Key { name, kind: Kind::Float, meaning: Meaning::Variable(variable) }
}

const fn key(name: &'static str, kind: Kind, meaning: Meaning) -> Key {
    Key { name, kind, meaning }
}

/// `coreos.etcd`: etcd 0.4.
pub const ETCD: &[Key] = &[
    key("addr", Kind::Text, Meaning::Address),
    text("advertise_client_urls", "ETCD_ADVERTISE_CLIENT_URLS"),
    key("bind_addr", Kind::Text, Meaning::Address),
    key("ca_file", Kind::Text, Meaning::Authority("ETCD_TRUSTED_CA_FILE", "ETCD_CLIENT_CERT_AUTH")),
    text("cert_file", "ETCD_CERT_FILE"),
    key("cluster_active_size", Kind::Int, Meaning::Gone),
    key("cluster_remove_delay", Kind::Float, Meaning::Gone),
    key("cluster_sync_interval", Kind::Float, Meaning::Gone),
    text("cors", "ETCD_CORS"),
    text("data_dir", "ETCD_DATA_DIR"),
    text("discovery", "ETCD_DISCOVERY"),
    text("discovery_fallback", "ETCD_DISCOVERY_FALLBACK"),
    text("discovery_srv", "ETCD_DISCOVERY_SRV"),
    text("discovery_proxy", "ETCD_DISCOVERY_PROXY"),
    int("election_timeout", "ETCD_ELECTION_TIMEOUT"),
    boolean("force_new_cluster", "ETCD_FORCE_NEW_CLUSTER"),
    key("graphite_host", Kind::Text, Meaning::Gone),
    int("heartbeat_interval", "ETCD_HEARTBEAT_INTERVAL"),
    key("http_read_timeout", Kind::Float, Meaning::Gone),
    key("http_write_timeout", Kind::Float, Meaning::Gone),
    text("initial_advertise_peer_urls", "ETCD_INITIAL_ADVERTISE_PEER_URLS"),
    text("initial_cluster", "ETCD_INITIAL_CLUSTER"),
    text("initial_cluster_state", "ETCD_INITIAL_CLUSTER_STATE"),
    text("initial_cluster_token", "ETCD_INITIAL_CLUSTER_TOKEN"),
    text("key_file", "ETCD_KEY_FILE"),
    text("listen_client_urls", "ETCD_LISTEN_CLIENT_URLS"),
    text("listen_peer_urls", "ETCD_LISTEN_PEER_URLS"),
    key("max_result_buffer", Kind::Int, Meaning::Gone),
    key("max_retry_attempts", Kind::Int, Meaning::Gone),
    int("max_snapshots", "ETCD_MAX_SNAPSHOTS"),
    int("max_wals", "ETCD_MAX_WALS"),
    text("name", "ETCD_NAME"),
    key("peer_addr", Kind::Text, Meaning::Address),
    key("peer_bind_addr", Kind::Text, Meaning::Address),
    key(
        "peer_ca_file",
        Kind::Text,
        Meaning::Authority("ETCD_PEER_TRUSTED_CA_FILE", "ETCD_PEER_CLIENT_CERT_AUTH"),
    ),
    text("peer_cert_file", "ETCD_PEER_CERT_FILE"),
    key("peer_election_timeout", Kind::Int, Meaning::Renamed("ETCD_ELECTION_TIMEOUT", "election_timeout")),
    key(
        "peer_heartbeat_interval",
        Kind::Int,
        Meaning::Renamed("ETCD_HEARTBEAT_INTERVAL", "heartbeat_interval"),
    ),
    text("peer_key_file", "ETCD_PEER_KEY_FILE"),
    key("peers", Kind::Text, Meaning::Gone),
    key("peers_file", Kind::Text, Meaning::Gone),
    key("proxy", Kind::Text, Meaning::Gone),
    key("retry_interval", Kind::Float, Meaning::Gone),
    key("snapshot", Kind::Bool, Meaning::Gone),
    int("snapshot_count", "ETCD_SNAPSHOT_COUNT"),
    key("trace", Kind::Text, Meaning::Gone),
    key("verbose", Kind::Bool, Meaning::Verbose),
    key("very_verbose", Kind::Bool, Meaning::Verbose),
    key("very_very_verbose", Kind::Bool, Meaning::Verbose),
];

/// `coreos.etcd2`: etcd 2.
pub const ETCD2: &[Key] = &[
    text("advertise_client_urls", "ETCD_ADVERTISE_CLIENT_URLS"),
    key("ca_file", Kind::Text, Meaning::Authority("ETCD_TRUSTED_CA_FILE", "ETCD_CLIENT_CERT_AUTH")),
    text("cert_file", "ETCD_CERT_FILE"),
    boolean("client_cert_auth", "ETCD_CLIENT_CERT_AUTH"),
    text("cors", "ETCD_CORS"),
    text("data_dir", "ETCD_DATA_DIR"),
    key("debug", Kind::Bool, Meaning::Verbose),
    text("discovery", "ETCD_DISCOVERY"),
    text("discovery_fallback", "ETCD_DISCOVERY_FALLBACK"),
    text("discovery_srv", "ETCD_DISCOVERY_SRV"),
    text("discovery_proxy", "ETCD_DISCOVERY_PROXY"),
    int("election_timeout", "ETCD_ELECTION_TIMEOUT"),
    boolean("enable_pprof", "ETCD_ENABLE_PPROF"),
    boolean("force_new_cluster", "ETCD_FORCE_NEW_CLUSTER"),
    int("heartbeat_interval", "ETCD_HEARTBEAT_INTERVAL"),
    text("initial_advertise_peer_urls", "ETCD_INITIAL_ADVERTISE_PEER_URLS"),
    text("initial_cluster", "ETCD_INITIAL_CLUSTER"),
    text("initial_cluster_state", "ETCD_INITIAL_CLUSTER_STATE"),
    text("initial_cluster_token", "ETCD_INITIAL_CLUSTER_TOKEN"),
    text("key_file", "ETCD_KEY_FILE"),
    text("listen_client_urls", "ETCD_LISTEN_CLIENT_URLS"),
    text("listen_peer_urls", "ETCD_LISTEN_PEER_URLS"),
    key("log_package_levels", Kind::Text, Meaning::Gone),
    int("max_snapshots", "ETCD_MAX_SNAPSHOTS"),
    int("max_wals", "ETCD_MAX_WALS"),
    text("name", "ETCD_NAME"),
    key(
        "peer_ca_file",
        Kind::Text,
        Meaning::Authority("ETCD_PEER_TRUSTED_CA_FILE", "ETCD_PEER_CLIENT_CERT_AUTH"),
    ),
    text("peer_cert_file", "ETCD_PEER_CERT_FILE"),
    text("peer_key_file", "ETCD_PEER_KEY_FILE"),
    boolean("peer_client_cert_auth", "ETCD_PEER_CLIENT_CERT_AUTH"),
    text("peer_trusted_ca_file", "ETCD_PEER_TRUSTED_CA_FILE"),
    text("proxy", "ETCD_PROXY"),
    int("proxy_dial_timeout", "ETCD_PROXY_DIAL_TIMEOUT"),
    int("proxy_failure_wait", "ETCD_PROXY_FAILURE_WAIT"),
    int("proxy_read_timeout", "ETCD_PROXY_READ_TIMEOUT"),
    int("proxy_refresh_interval", "ETCD_PROXY_REFRESH_INTERVAL"),
    int("proxy_write_timeout", "ETCD_PROXY_WRITE_TIMEOUT"),
    int("snapshot_count", "ETCD_SNAPSHOT_COUNT"),
    boolean("strict_reconfig_check", "ETCD_STRICT_RECONFIG_CHECK"),
    text("trusted_ca_file", "ETCD_TRUSTED_CA_FILE"),
    text("wal_dir", "ETCD_WAL_DIR"),
];

/// `coreos.fleet`.
pub const FLEET: &[Key] = &[
    text("agent_ttl", "FLEET_AGENT_TTL"),
    text("authorized_keys_file", "FLEET_AUTHORIZED_KEYS_FILE"),
    boolean("disable_engine", "FLEET_DISABLE_ENGINE"),
    float("engine_reconcile_interval", "FLEET_ENGINE_RECONCILE_INTERVAL"),
    text("etcd_cafile", "FLEET_ETCD_CAFILE"),
    text("etcd_certfile", "FLEET_ETCD_CERTFILE"),
    text("etcd_keyfile", "FLEET_ETCD_KEYFILE"),
    text("etcd_key_prefix", "FLEET_ETCD_KEY_PREFIX"),
    float("etcd_request_timeout", "FLEET_ETCD_REQUEST_TIMEOUT"),
    text("etcd_servers", "FLEET_ETCD_SERVERS"),
    text("etcd_username", "FLEET_ETCD_USERNAME"),
    text("etcd_password", "FLEET_ETCD_PASSWORD"),
    text("metadata", "FLEET_METADATA"),
    text("public_ip", "FLEET_PUBLIC_IP"),
    int("token_limit", "FLEET_TOKEN_LIMIT"),
    int("verbosity", "FLEET_VERBOSITY"),
    boolean("verify_units", "FLEET_VERIFY_UNITS"),
];

/// `coreos.locksmith`.
pub const LOCKSMITH: &[Key] = &[
    text("endpoint", "LOCKSMITHD_ENDPOINT"),
    text("etcd_cafile", "LOCKSMITHD_ETCD_CAFILE"),
    text("etcd_certfile", "LOCKSMITHD_ETCD_CERTFILE"),
    text("etcd_keyfile", "LOCKSMITHD_ETCD_KEYFILE"),
    text("etcd_username", "LOCKSMITHD_ETCD_USERNAME"),
    text("etcd_password", "LOCKSMITHD_ETCD_PASSWORD"),
    text("group", "LOCKSMITHD_GROUP"),
    text("window_start", "REBOOT_WINDOW_START"),
    text("window_length", "REBOOT_WINDOW_LENGTH"),
];

/// `coreos.flannel`.
pub const FLANNEL: &[Key] = &[
    text("etcd_endpoints", "FLANNELD_ETCD_ENDPOINTS"),
    text("etcd_cafile", "FLANNELD_ETCD_CAFILE"),
    text("etcd_certfile", "FLANNELD_ETCD_CERTFILE"),
    text("etcd_keyfile", "FLANNELD_ETCD_KEYFILE"),
    text("etcd_prefix", "FLANNELD_ETCD_PREFIX"),
    text("etcd_username", "FLANNELD_ETCD_USERNAME"),
    text("etcd_password", "FLANNELD_ETCD_PASSWORD"),
    text("ip_masq", "FLANNELD_IP_MASQ"),
    text("subnet_file", "FLANNELD_SUBNET_FILE"),
    text("interface", "FLANNELD_IFACE"),
    text("public_ip", "FLANNELD_PUBLIC_IP"),
];

/// Variables in order.
pub type Environment = Vec<(String, String)>;

/// A section, read.
#[derive(Debug, Default)]
pub(super) struct Section {
    environment: Environment,
    addresses: OldAddresses,
}

impl Section {
    /// The variables as they are.
    pub(super) fn plain(self) -> Environment {
        self.environment
    }

    /// The variables for a unit file: a `%` is doubled, for a single one begins a specifier there.
    pub(super) fn for_unit(mut self) -> Environment {
        let addresses = &mut self.addresses;
        let old = [
            &mut addresses.client,
            &mut addresses.client_bind,
            &mut addresses.peer,
            &mut addresses.peer_bind,
        ];
        let values = self.environment.iter_mut().map(|(_, value)| value).chain(old.into_iter().flatten());
        values.filter(|value| value.contains('%')).for_each(|value| *value = value.replace('%', "%%"));
        translate_addresses(&self.addresses, &mut self.environment);
        self.environment
    }
}

/// Reads a section by its table. Values that are nothing, 0, false or empty become no variable.
pub(super) fn read(fields: &mut Fields<'_>, table: &[Key], report: &mut Report<'_>) -> Section {
    let mut environment = Vec::new();
    let mut addresses = OldAddresses::default();
    for key in table {
        let Some(entry) = fields.entry(key.name) else { continue };
        let Some(value) = value(entry, key, fields, report) else { continue };
        match key.meaning {
            Meaning::Variable(variable) => set(&mut environment, variable, value),
            Meaning::Renamed(variable, name) => {
                let message = format!("`{}` is an old key", fields.name_of(&entry.key));
                report.warn(entry.key_at, message, format!("it is called `{name}` now"));
                set(&mut environment, variable, value);
            }
            Meaning::Authority(file, switch) => {
                set(&mut environment, file, value);
                set(&mut environment, switch, "true".to_owned());
            }
            Meaning::Verbose => set(&mut environment, "ETCD_LOG_LEVEL", "debug".to_owned()),
            Meaning::Address => match key.name {
                "addr" => addresses.client = Some(value),
                "bind_addr" => addresses.client_bind = Some(value),
                "peer_addr" => addresses.peer = Some(value),
                _ => addresses.peer_bind = Some(value),
            },
            Meaning::Gone => {
                let message =
                    format!("`{}` does nothing: etcd 3.5 has nothing like it", fields.name_of(&entry.key));
                let hint = match key.name {
                    "peers" | "peers_file" => {
                        Some("name the members in `initial_cluster`, or use `discovery`")
                    }
                    _ => None,
                };
                report.warn(entry.key_at, message, hint.map(str::to_owned));
            }
        }
    }
    Section { environment, addresses }
}

/// The value as a variable has it; `None` for nothing and for zero values.
fn value(
    entry: &crate::tree::Entry,
    key: &Key,
    fields: &Fields<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let name = fields.name_of(&entry.key);
    let node = &entry.value;
    match key.kind {
        Kind::Text => report.text(node, &name).filter(|text| !text.is_empty()),
        Kind::Bool if node.scalar().is_none() => report.text(node, &name),
        Kind::Bool => report.boolean(node, &name)?.then(|| "true".to_owned()),
        Kind::Int => report.integer(node, &name).filter(|number| *number != 0).map(|it| it.to_string()),
        Kind::Float => report.number(node, &name).filter(|number| *number != 0.0).map(|it| it.to_string()),
    }
}

/// Sets a variable where it is not set yet.
fn set(environment: &mut Environment, variable: &str, value: String) {
    if environment.iter().all(|(known, _)| known != variable) {
        environment.push((variable.to_owned(), value));
    }
}

/// Addresses as etcd 0.4 had them: `host:port`.
#[derive(Debug, Default)]
struct OldAddresses {
    client: Option<String>,
    client_bind: Option<String>,
    peer: Option<String>,
    peer_bind: Option<String>,
}

/// etcd 0.4 announced `addr` and listened on its port, on every address unless `bind_addr` said otherwise. etcd 3.5 wants URLs for both; and
/// a first member that is alone must be named in `initial-cluster` as it is announced. Clients of today look at port 2379 of the machine
/// itself, so that is listened to as well.
fn translate_addresses(old: &OldAddresses, environment: &mut Environment) {
    let has = |environment: &Environment, name: &str| environment.iter().any(|(known, _)| known == name);
    let scheme = |file: &str| if has(environment, file) { "https" } else { "http" };
    let (client_scheme, peer_scheme) = (scheme("ETCD_CERT_FILE"), scheme("ETCD_PEER_CERT_FILE"));
    if let Some(address) = &old.client {
        let (host, port) = split(address, "4001");
        let bind = listen(old.client_bind.as_deref(), port);
        let mut listen = format!("{client_scheme}://{bind}");
        if port != "2379" {
            listen += &format!(",{client_scheme}://127.0.0.1:2379");
        }
        set(environment, "ETCD_LISTEN_CLIENT_URLS", listen);
        set(environment, "ETCD_ADVERTISE_CLIENT_URLS", format!("{client_scheme}://{host}:{port}"));
    }
    if let Some(address) = &old.peer {
        let (host, port) = split(address, "7001");
        let url = format!("{peer_scheme}://{host}:{port}");
        let bind = listen(old.peer_bind.as_deref(), port);
        set(environment, "ETCD_LISTEN_PEER_URLS", format!("{peer_scheme}://{bind}"));
        set(environment, "ETCD_INITIAL_ADVERTISE_PEER_URLS", url.clone());
        let is_joined_otherwise = ["ETCD_DISCOVERY", "ETCD_DISCOVERY_SRV", "ETCD_INITIAL_CLUSTER"];
        if !is_joined_otherwise.iter().any(|name| has(environment, name)) {
            // Debian's unit names a member after its machine.
            let name = environment.iter().find(|(known, _)| known == "ETCD_NAME");
            let name = name.map_or("%H", |(_, name)| name).to_owned();
            set(environment, "ETCD_INITIAL_CLUSTER", format!("{name}={url}"));
        }
    }
}

/// Where to listen: etcd takes addresses only, no names.
fn listen(bind: Option<&str>, port: &str) -> String {
    match bind {
        Some(bind) => {
            let (host, port) = split(bind, port);
            format!("{}:{port}", if host.is_empty() { "0.0.0.0" } else { host })
        }
        None => format!("0.0.0.0:{port}"),
    }
}

/// Host and port; the port is optional.
fn split<'a>(address: &'a str, port: &'a str) -> (&'a str, &'a str) {
    let address = address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
    match address.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => (host, port),
        _ => (address, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_each_key_once() {
        for table in [ETCD, ETCD2, FLEET, LOCKSMITH, FLANNEL] {
            let mut names: Vec<_> = table.iter().map(|key| key.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }

    #[test]
    fn addresses_of_etcd_0_4_become_urls() {
        let translated = |old: OldAddresses, known: &[(&str, &str)]| {
            let mut environment: Environment =
                known.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            translate_addresses(&old, &mut environment);
            environment.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            translated(
                OldAddresses {
                    client: some("10.0.0.1:4001"),
                    peer: some("10.0.0.1:7001"),
                    ..Default::default()
                },
                &[]
            ),
            [
                "ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:4001,http://127.0.0.1:2379",
                "ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:4001",
                "ETCD_LISTEN_PEER_URLS=http://0.0.0.0:7001",
                "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:7001",
                "ETCD_INITIAL_CLUSTER=%H=http://10.0.0.1:7001",
            ]
        );
        assert_eq!(
            translated(
                OldAddresses { peer: some("[fd00::1]"), peer_bind: some("10.0.0.2"), ..Default::default() },
                &[("ETCD_DISCOVERY", "http://d/x"), ("ETCD_PEER_CERT_FILE", "/c")]
            )[2..],
            [
                "ETCD_LISTEN_PEER_URLS=https://10.0.0.2:7001",
                "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://[fd00::1]:7001",
            ]
        );
    }
}
