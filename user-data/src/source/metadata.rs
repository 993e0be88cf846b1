//! What comes along with user-data: who the machine is. NoCloud's `meta-data` (YAML or JSON) and OpenStack's `meta_data.json`.

use image_config::user_data::Addresses;
use image_config::yaml;
use serde_json::Value;

/// Facts about this machine from where its user-data came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Changes when the machine is to be taken for a new one.
    pub instance_id: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Keys for the user `core`.
    pub ssh_keys: Vec<String>,
    /// Values of `$private_ipv4` and its kin, as far as they are told.
    pub addresses: Addresses,
}

impl Metadata {
    /// Reads NoCloud's `meta-data`.
    ///
    /// # Errors
    /// It is neither YAML nor JSON; the message has the place.
    pub fn of_nocloud(bytes: &[u8]) -> Result<Self, String> {
        let text = text(bytes)?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value: Value =
            yaml::parse("meta-data", text).map_err(|findings| one_line(&findings.to_string()))?;
        Ok(Self::of_value(&value, &["instance-id", "instance_id"], &["local-hostname", "hostname"]))
    }

    /// Reads OpenStack's `meta_data.json`.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn of_openstack(bytes: &[u8]) -> Result<Self, String> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("meta_data.json: {error}"))?;
        Ok(Self::of_value(&value, &["uuid"], &["hostname", "name"]))
    }

    /// Adds what an `ec2/latest/meta-data.json` beside it says of addresses; OpenStack's own file is silent about them.
    pub fn add_ec2(&mut self, bytes: &[u8]) {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let told = addresses(&value);
        let own = &mut self.addresses;
        own.private_ipv4 = own.private_ipv4.take().or(told.private_ipv4);
        own.public_ipv4 = own.public_ipv4.take().or(told.public_ipv4);
    }

    fn of_value(value: &Value, ids: &[&str], names: &[&str]) -> Self {
        let first = |keys: &[&str]| keys.iter().find_map(|key| word(value.get(key)?));
        let keys = ["public-keys", "public_keys"].iter().find_map(|key| value.get(key));
        Self {
            instance_id: first(ids),
            hostname: first(names),
            ssh_keys: keys.map(keys_of).unwrap_or_default(),
            addresses: addresses(value),
        }
    }
}

/// The names of EC2's metadata, which NoCloud's files use as well.
fn addresses(value: &Value) -> Addresses {
    let get = |name: &str| {
        let found = value.get(name).or_else(|| value.get(name.replace('-', "_")));
        found.and_then(word)
    };
    Addresses {
        private_ipv4: get("local-ipv4").or_else(|| get("private-ipv4")),
        public_ipv4: get("public-ipv4"),
        private_ipv6: get("local-ipv6").or_else(|| get("private-ipv6")),
        public_ipv6: get("public-ipv6"),
    }
}

/// A string, or a number that somebody wrote without quotes; nothing when it is empty.
fn word(value: &Value) -> Option<String> {
    let word = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!word.is_empty()).then_some(word)
}

/// Keys as a text with lines, as a list, or by name; EC2 nests them once more (`{"0": {"openssh-key": ...}}`).
fn keys_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(list) => list.iter().flat_map(keys_of).collect(),
        Value::Object(map) => map.values().flat_map(keys_of).collect(),
        _ => Vec::new(),
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("meta-data is not UTF-8 text: {error}"))
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nocloud_tells_who_the_machine_is() {
        let text = "instance-id: 42\nlocal-hostname: node-1\npublic-keys:\n  - ssh-ed25519 A a\n  - ssh-rsa B\nlocal-ipv4: 10.0.0.5\n";
        let found = Metadata::of_nocloud(text.as_bytes()).unwrap();
        assert_eq!(found.instance_id.as_deref(), Some("42"));
        assert_eq!(found.hostname.as_deref(), Some("node-1"));
        assert_eq!(found.ssh_keys, ["ssh-ed25519 A a", "ssh-rsa B"]);
        assert_eq!(found.addresses.private_ipv4.as_deref(), Some("10.0.0.5"));
        let json = br#"{"instance_id": "i", "hostname": "h", "public-keys": {"0": {"openssh-key": "k"}}}"#;
        let found = Metadata::of_nocloud(json).unwrap();
        assert_eq!((found.instance_id.as_deref(), found.ssh_keys), (Some("i"), vec!["k".to_owned()]));
        assert_eq!(Metadata::of_nocloud(b"\n"), Ok(Metadata::default()));
        assert!(Metadata::of_nocloud(b"a: b: c").unwrap_err().starts_with("meta-data:1:"));
    }

    #[test]
    fn openstack_and_its_ec2_twin_add_up() {
        let json = br#"{"uuid": "u-1", "name": "n", "public_keys": {"mine": "ssh-rsa K\n"}}"#;
        let mut found = Metadata::of_openstack(json).unwrap();
        found.add_ec2(br#"{"local-ipv4": "10.1.1.1", "public-ipv4": ""}"#);
        assert_eq!(found.instance_id.as_deref(), Some("u-1"));
        assert_eq!(found.ssh_keys, ["ssh-rsa K"]);
        assert_eq!(found.addresses.private_ipv4.as_deref(), Some("10.1.1.1"));
        assert_eq!(found.addresses.public_ipv4, None);
        assert!(Metadata::of_openstack(b"{").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text: String) {
            for bytes in [&bytes, text.as_bytes()] {
                let _either = Metadata::of_nocloud(bytes);
                if let Ok(mut found) = Metadata::of_openstack(bytes) {
                    found.add_ec2(bytes);
                }
            }
        }
    }
}
