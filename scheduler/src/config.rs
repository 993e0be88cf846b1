//! `fleet.conf` and the variables that win over it: reference of the options in `docs/scheduler.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kv::{Credentials, TlsFiles};

use crate::keys::DEFAULT_PREFIX;

/// Where the file is.
pub const PATH: &str = "/etc/fleet/fleet.conf";
/// What the variables begin with.
const VARIABLES: &str = "FLEET_";

/// Options of fleet's that have nothing to set here, and why.
const WITHOUT_MEANING: [(&str, &str); 6] = [
    ("engine_reconcile_interval", "the engine acts on changes, not at intervals"),
    ("disable_watches", "there is one watch, and nothing to do without it"),
    ("enable_grpc", "fleet's experiment is not there"),
    ("verify_units", "fleet ignored it as well"),
    ("authorized_keys_file", "fleet ignored it as well"),
    ("systemd_user", "there is no user instance"),
];

/// What the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tell more.
    pub verbose: bool,
    /// URLs of etcd; empty for the usual ones.
    pub etcd_servers: Vec<String>,
    /// Milliseconds for one attempt.
    pub request_timeout: u64,
    /// PEM files.
    pub tls: TlsFiles,
    /// A user of etcd's.
    pub credentials: Option<Credentials>,
    /// Where the keys begin.
    pub key_prefix: String,
    /// The machine's address for others; empty to find out.
    pub public_ip: String,
    /// Of the machine.
    pub metadata: BTreeMap<String, String>,
    /// Milliseconds of the lease.
    pub ttl: u64,
    /// Milliseconds that a machine may be gone after the end of its lease.
    pub grace: u64,
    /// Where unit files are written.
    pub units_directory: PathBuf,
    /// Entries on a page of the API.
    pub token_limit: u16,
    /// Never decides.
    pub disable_engine: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            verbose: false,
            etcd_servers: Vec::new(),
            request_timeout: 3_000,
            tls: TlsFiles::default(),
            credentials: None,
            key_prefix: DEFAULT_PREFIX.to_owned(),
            public_ip: String::new(),
            metadata: BTreeMap::new(),
            ttl: 30_000,
            grace: 10_000,
            units_directory: PathBuf::from("/run/fleet/units"),
            token_limit: 100,
            disable_engine: false,
        }
    }
}

impl Config {
    /// Reads the text of the file and the variables, which win. What cannot be understood is told to `complain` and left at its
    /// default.
    pub fn read(
        file: &str,
        variables: impl Iterator<Item = (String, String)>,
        complain: &mut dyn FnMut(String),
    ) -> Self {
        let mut config = Self::default();
        let mut user = (String::new(), String::new());
        for (number, line) in (1..).zip(file.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';', '[']) {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                complain(format!("{PATH}:{number}: the line has no `=`"));
                continue;
            };
            let place = format!("{PATH}:{number}");
            config.set(&place, name.trim(), unquote(value.trim()), &mut user, complain);
        }
        let mut own: Vec<(String, String)> =
            variables.filter(|(name, _)| name.starts_with(VARIABLES)).collect();
        own.sort();
        for (name, value) in own {
            let option = name.trim_start_matches(VARIABLES).to_ascii_lowercase();
            config.set(&name, &option, value.trim(), &mut user, complain);
        }
        if !user.0.is_empty() {
            config.credentials = Some(Credentials { user: user.0, password: user.1 });
        }
        config
    }

    fn set(
        &mut self,
        place: &str,
        name: &str,
        value: &str,
        user: &mut (String, String),
        complain: &mut dyn FnMut(String),
    ) {
        let mut wrong = |what: &str| complain(format!("{place}: {name} is {what}, not {value:?}"));
        let path = || (!value.is_empty()).then(|| PathBuf::from(value));
        match name {
            "verbosity" => match value.parse::<i64>() {
                Ok(level) => self.verbose = level > 0,
                Err(_) => wrong("a whole number"),
            },
            "etcd_servers" => {
                let plain: String = value.chars().filter(|it| !"[]\"'".contains(*it)).collect();
                match kv::config::endpoints(&plain) {
                    Ok(endpoints) => self.etcd_servers = endpoints,
                    Err(error) => complain(format!("{place}: {error}")),
                }
            }
            "etcd_request_timeout" => match seconds(value) {
                Some(limit @ 1..) => self.request_timeout = limit,
                _ => wrong("seconds"),
            },
            "etcd_cafile" => self.tls.ca = path(),
            "etcd_certfile" => self.tls.certificate = path(),
            "etcd_keyfile" => self.tls.key = path(),
            "etcd_username" => value.clone_into(&mut user.0),
            "etcd_password" => value.clone_into(&mut user.1),
            "etcd_key_prefix" => value.clone_into(&mut self.key_prefix),
            "public_ip" => value.clone_into(&mut self.public_ip),
            "metadata" => self.metadata = metadata(value),
            "agent_ttl" => match duration(value) {
                // etcd's leases are of whole seconds, and shorter ones do not outlive an election of etcd.
                Some(ttl @ 3_000..) => self.ttl = ttl,
                _ => wrong("a duration of 3s or more"),
            },
            "machine_grace" => match duration(value) {
                Some(grace) => self.grace = grace,
                None => wrong("a duration"),
            },
            "units_directory" => {
                if let Some(path) = path() {
                    self.units_directory = path;
                }
            }
            "token_limit" => match value.parse() {
                Ok(limit @ 1..) => self.token_limit = limit,
                _ => wrong("a number from 1 to 65535"),
            },
            "disable_engine" => match boolean(value) {
                Some(is_on) => self.disable_engine = is_on,
                None => wrong("true or false"),
            },
            name => match WITHOUT_MEANING.iter().find(|(other, _)| *other == name) {
                Some((_, why)) => complain(format!("{place}: {name} does nothing: {why}")),
                None => complain(format!("{place}: there is no option {name}")),
            },
        }
    }

    /// How etcd is reached.
    #[must_use]
    pub fn etcd(&self) -> kv::Config {
        let mut config = kv::Config {
            tls: self.tls.clone(),
            credentials: self.credentials.clone(),
            attempt: std::time::Duration::from_millis(self.request_timeout),
            ..kv::Config::default()
        };
        if !self.etcd_servers.is_empty() {
            config.endpoints.clone_from(&self.etcd_servers);
        }
        config
    }
}

fn unquote(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.or_else(|| value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))).unwrap_or(value)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// `k=v,k=v`, spaces around names and values away; the last one of a name wins, and what has no `=` does not count.
#[must_use]
pub fn metadata(text: &str) -> BTreeMap<String, String> {
    let pairs = unquote(text.trim()).split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Seconds with a fraction, to milliseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && rest.is_empty()) || !digits(whole) || !digits(rest) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let thousandths: u64 = format!("{rest:0<3}").get(..3)?.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(thousandths)
}

/// A duration as Go writes it (`30s`, `1m30s`, `1.5h`, `500ms`), to milliseconds.
#[must_use]
pub fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (text, 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (value, tail) = rest.split_at(number);
        let unit = tail.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let thousandths = seconds(value)?;
        let part = match unit {
            "h" => thousandths.checked_mul(3600)?,
            "m" => thousandths.checked_mul(60)?,
            "s" => thousandths,
            "ms" => thousandths / 1000,
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(file: &str, variables: &[(&str, &str)]) -> (Config, Vec<String>) {
        let mut told = Vec::new();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::read(file, variables, &mut |problem| told.push(problem));
        (config, told)
    }

    #[test]
    fn the_file_is_fleets_and_variables_win() {
        let file = "# c\nmetadata=\"region=us, disk = ssd,disk=hdd,junk\"\npublic_ip=10.0.0.1\nagent_ttl=1m\n\
                    etcd_servers=[\"http://a:2379\", \"http://b:2379\"]\ntoken_limit=5\ndisable_engine=true\netcd_request_timeout=1.5\n";
        let (config, told) = read(
            file,
            &[("FLEET_PUBLIC_IP", "10.0.0.2"), ("FLEET_METADATA", "criticity=dev"), ("HOME", "/")],
        );
        assert_eq!(told, Vec::<String>::new());
        assert_eq!(config.public_ip, "10.0.0.2");
        assert_eq!(config.metadata, BTreeMap::from([("criticity".to_owned(), "dev".to_owned())]));
        assert_eq!(
            (config.ttl, config.token_limit, config.disable_engine, config.request_timeout),
            (60_000, 5, true, 1_500)
        );
        assert_eq!(config.etcd_servers, ["http://a:2379", "http://b:2379"]);
        let (config, _) = read(file, &[]);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(config.metadata, BTreeMap::from([pair("region", "us"), pair("disk", "hdd")]));
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        let (config, told) =
            read("agent_ttl=soon\nx\ncolour=blue\nverify_units=true\n", &[("FLEET_TOKEN_LIMIT", "0")]);
        assert_eq!(
            told,
            [
                "/etc/fleet/fleet.conf:1: agent_ttl is a duration of 3s or more, not \"soon\"",
                "/etc/fleet/fleet.conf:2: the line has no `=`",
                "/etc/fleet/fleet.conf:3: there is no option colour",
                "/etc/fleet/fleet.conf:4: verify_units does nothing: fleet ignored it as well",
                "FLEET_TOKEN_LIMIT: token_limit is a number from 1 to 65535, not \"0\"",
            ]
        );
        assert_eq!(config, Config::default());
    }

    #[test]
    fn durations_are_gos() {
        let cases: &[(&str, Option<u64>)] = &[
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            ("0", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("3x", None),
            ("99999999999999999999h", None),
        ];
        for (text, want) in cases {
            assert_eq!(duration(text), *want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in "\\PC{0,60}", value in "[0-9.smh]{0,8}", name in "(agent_ttl|metadata|etcd_servers|token_limit|etcd_request_timeout)") {
            let _ = read(&format!("{name}={value}\n{name}={text}\n"), &[]);
            let _ = duration(&text);
        }
    }
}
