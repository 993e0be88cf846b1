//! What the kernel's command line and the serial number say about user-data: URLs, and cloud-init's `ds=` strings.

/// User-data by a URL of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The word in front of `=`.
    pub key: &'static str,
    /// As it stands.
    pub url: String,
}

/// Words with a URL; where a word stands twice the last one counts, as in coreos-cloudinit.
const URLS: [(&str, &str); 3] = [
    ("ignition.config.url", "ignition.config.url"),
    ("cloud-config-url", "cloud-config-url"),
    ("cloud_config_url", "cloud-config-url"),
];

/// Where a NoCloud seed is, and what it may leave out: `ds=nocloud;s=http://host/folder/;i=instance;h=name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Base of the URLs; without one, a volume is meant.
    pub base: Option<String>,
    /// In place of `instance-id`.
    pub instance_id: Option<String>,
    /// In place of `local-hostname`.
    pub hostname: Option<String>,
}

/// The URL of user-data on a kernel command line.
pub fn url_of(command_line: &str) -> Option<Address> {
    let mut found: Option<Address> = None;
    for word in command_line.split_ascii_whitespace() {
        let Some((key, url)) = word.split_once('=') else { continue };
        let Some((_, key)) = URLS.iter().find(|(known, _)| *known == key) else { continue };
        // Ignition's word wins: a machine that has both would otherwise be half configured by each.
        let weaker = found.as_ref().is_some_and(|found| found.key == URLS[0].0) && *key != URLS[0].0;
        if !url.is_empty() && !weaker {
            found = Some(Address { key, url: url.to_owned() });
        }
    }
    found
}

/// The seed that a kernel command line names.
pub fn seed_of(command_line: &str) -> Option<Seed> {
    command_line.split_ascii_whitespace().rev().find_map(parse_seed)
}

/// Reads `ds=nocloud[-net][;KEY=VALUE...]`; `None` for anything else, other data sources included.
pub fn parse_seed(word: &str) -> Option<Seed> {
    let mut parts = word.trim().strip_prefix("ds=")?.split(';');
    if !matches!(parts.next()?, "nocloud" | "nocloud-net") {
        return None;
    }
    let mut seed = Seed::default();
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "s" | "seedfrom" => seed.base = value,
            "i" | "instance-id" => seed.instance_id = value,
            "h" | "local-hostname" => seed.hostname = value,
            _ => {}
        }
    }
    Some(seed)
}

/// Whether a URL is one that can be fetched.
pub fn is_web(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_url_counts_and_ignition_wins() {
        let url = |line: &str| url_of(line).map(|found| (found.key, found.url));
        assert_eq!(
            url("quiet cloud_config_url=http://a cloud-config-url=http://b"),
            Some(("cloud-config-url", "http://b".into()))
        );
        assert_eq!(
            url("ignition.config.url=http://i cloud-config-url=http://b"),
            Some(("ignition.config.url", "http://i".into()))
        );
        assert_eq!(
            url("cloud-config-url=http://b ignition.config.url=http://i"),
            Some(("ignition.config.url", "http://i".into()))
        );
        assert_eq!(url("cloud-config-url= root=x"), None);
    }

    #[test]
    fn seeds_are_read_in_all_their_spellings() {
        let seed = parse_seed("ds=nocloud-net;seedfrom=http://h/x/;i=one;local-hostname=n;z=1").unwrap();
        assert_eq!(
            seed,
            Seed {
                base: Some("http://h/x/".into()),
                instance_id: Some("one".into()),
                hostname: Some("n".into())
            }
        );
        assert_eq!(parse_seed("ds=nocloud"), Some(Seed::default()));
        for other in ["ds=openstack;s=http://h", "nocloud", "s=http://h", "ds=nocloudy", ""] {
            assert_eq!(parse_seed(other), None, "{other}");
        }
        assert_eq!(
            seed_of("a ds=nocloud;s=http://1 ds=nocloud;s=http://2").unwrap().base.unwrap(),
            "http://2"
        );
    }

    #[test]
    fn only_the_web_is_fetched_from() {
        assert!(is_web("http://10.0.2.2:80/x") && is_web("https://a"));
        for url in ["tftp://a/b", "http://", "http:///x", "file:///etc/shadow", ""] {
            assert!(!is_web(url), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line: String) {
            url_of(&line);
            seed_of(&line);
            parse_seed(&line);
        }
    }
}
