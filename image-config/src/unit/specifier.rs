//! Specifiers (`%i`, `%H` and so on): systemd.unit(5), "Specifiers", for the system's service manager.

use super::name::{UnitName, unescape, unescape_path};

/// What the machine says about itself: the values behind specifiers that no unit name can give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    /// Host name in full; `%H`, and `%l` up to its first dot.
    pub host_name: String,
    /// Pretty host name (`/etc/machine-info`); `%q`. Empty: the host name.
    pub pretty_host_name: String,
    /// Machine id, 32 hex digits; `%m`.
    pub machine_id: String,
    /// Boot id, 32 hex digits; `%b`.
    pub boot_id: String,
    /// Kernel release; `%v`.
    pub kernel_release: String,
    /// Architecture as systemd names it (`x86-64`); `%a`.
    pub architecture: String,
    /// `ID=` of os-release; `%o`.
    pub os_id: String,
    /// `VERSION_ID=` of os-release; `%w`.
    pub os_version_id: String,
    /// `BUILD_ID=` of os-release; `%B`.
    pub os_build_id: String,
    /// `VARIANT_ID=` of os-release; `%W`.
    pub os_variant_id: String,
    /// `IMAGE_ID=` of os-release; `%M`.
    pub image_id: String,
    /// `IMAGE_VERSION=` of os-release; `%A`.
    pub image_version: String,
}

/// Why specifiers cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecifierError {
    /// `%I`, `%J`, `%P` or `%f` of a name whose escapes are broken.
    #[error("%{specifier}: the unit's name `{name}` cannot be unescaped")]
    Unescape {
        /// The specifier's letter.
        specifier: char,
        /// The unit.
        name: UnitName,
    },
    /// The result is longer than any setting may be.
    #[error("the text becomes longer than 1 MiB")]
    TooLong,
}

/// Longest expansion in bytes: systemd's limit of a line.
const LONGEST: usize = 1 << 20;

/// Replaces specifiers. Those that systemd does not know stay as they are, as with systemd.
///
/// # Errors
/// [`SpecifierError`] when the name cannot be unescaped or the result is too long.
pub fn expand_specifiers(
    text: &str,
    name: &UnitName,
    fragment: &str,
    system: &System,
) -> Result<String, SpecifierError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
        } else if let Some(specifier) = rest.next() {
            match value(specifier, name, fragment, system)? {
                Some(value) => out.push_str(&value),
                None => out.extend(['%', specifier]),
            }
        } else {
            out.push('%');
        }
        if out.len() > LONGEST {
            return Err(SpecifierError::TooLong);
        }
    }
    Ok(out)
}

fn value(
    specifier: char,
    name: &UnitName,
    fragment: &str,
    system: &System,
) -> Result<Option<String>, SpecifierError> {
    let plain = |text: Vec<u8>| {
        String::from_utf8(text).map_err(|_| SpecifierError::Unescape { specifier, name: name.clone() })
    };
    let broken = || SpecifierError::Unescape { specifier, name: name.clone() };
    let unescaped = |text: &str| plain(unescape(text).ok_or_else(broken)?);
    // What stands behind the last hyphen of the prefix.
    let last_part = name.prefix().rsplit('-').next().unwrap_or_default();
    let instance = name.instance().unwrap_or_default();
    let text: &str = match specifier {
        '%' => "%",
        'n' => name.as_str(),
        'N' => name.stem(),
        'p' => name.prefix(),
        'P' => return unescaped(name.prefix()).map(Some),
        'i' => instance,
        'I' => return unescaped(instance).map(Some),
        'j' => last_part,
        'J' => return unescaped(last_part).map(Some),
        'f' => {
            let source = if instance.is_empty() { name.prefix() } else { instance };
            return plain(unescape_path(source).ok_or_else(broken)?).map(Some);
        }
        'y' => fragment,
        'Y' => fragment.rsplit_once('/').map_or("", |(folder, _)| folder),
        't' => "/run",
        'S' => "/var/lib",
        'C' => "/var/cache",
        'L' => "/var/log",
        'E' => "/etc",
        'D' => "/usr/share",
        'T' => "/tmp",
        'V' => "/var/tmp",
        'd' => return Ok(Some(format!("/run/credentials/{name}"))),
        // The manager's own user, not `User=`: systemd.unit(5) says so.
        'u' | 'g' => "root",
        'U' | 'G' => "0",
        'h' => "/root",
        's' => "/bin/sh",
        'H' => &system.host_name,
        'l' => system.host_name.split('.').next().unwrap_or_default(),
        'q' if system.pretty_host_name.is_empty() => &system.host_name,
        'q' => &system.pretty_host_name,
        'm' => &system.machine_id,
        'b' => &system.boot_id,
        'v' => &system.kernel_release,
        'a' => &system.architecture,
        'o' => &system.os_id,
        'w' => &system.os_version_id,
        'B' => &system.os_build_id,
        'W' => &system.os_variant_id,
        'M' => &system.image_id,
        'A' => &system.image_version,
        _ => return Ok(None),
    };
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(text: &str, name: &str) -> Result<String, SpecifierError> {
        let system =
            System { host_name: "node1.example".into(), machine_id: "ab".repeat(16), ..System::default() };
        expand_specifiers(text, &UnitName::parse(name).unwrap(), "/usr/lib/systemd/system/x.service", &system)
    }

    #[test]
    fn specifiers_have_the_values_that_systemd_gives_them() {
        let cases: &[(&str, &str, &str)] = &[
            ("%n %N %p", "a-b@c\\x2dd.service", "a-b@c\\x2dd.service a-b@c\\x2dd a-b"),
            ("%i|%I|%j|%J", "a-b@c\\x2dd.service", "c\\x2dd|c-d|b|b"),
            ("%f", "x@dev-sda.service", "/dev/sda"),
            ("%f", "dev-sda.mount", "/dev/sda"),
            ("%f", "x@-.service", "/"),
            ("%H %l %m", "a.service", &format!("node1.example node1 {}", "ab".repeat(16))),
            ("%t %S %C %L %E %h %u %U", "a.service", "/run /var/lib /var/cache /var/log /etc /root root 0"),
            ("100%% %z %", "a.service", "100% %z %"),
            ("%y %Y", "a.service", "/usr/lib/systemd/system/x.service /usr/lib/systemd/system"),
            ("%i", "a.service", ""),
        ];
        for (text, name, want) in cases {
            assert_eq!(expand(text, name).as_deref(), Ok(*want), "{text} in {name}");
        }
        assert!(matches!(
            expand("%I", "a@\\x2.service"),
            Err(SpecifierError::Unescape { specifier: 'I', .. })
        ));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(%.|\\PC){0,40}") {
            let _ = expand(&text, "a@b.service");
        }

        #[test]
        fn doubled_percent_signs_round_trip(text in "\\PC{0,40}") {
            prop_assert_eq!(expand(&text.replace('%', "%%"), "a.service"), Ok(text));
        }
    }
}
