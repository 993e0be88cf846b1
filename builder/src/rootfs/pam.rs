//! What `pam-auth-update` would have made: `/etc/pam.d/common-*` out of libpam-runtime's templates and the profiles
//! that packages ship in `/usr/share/pam-configs`.

/// One profile of `/usr/share/pam-configs`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Profile {
    name: String,
    enabled: bool,
    priority: i64,
    fields: Vec<(String, Vec<String>)>,
}

impl Profile {
    /// Reads the colon-separated fields; indented lines continue the field above.
    fn parse(text: &str) -> Self {
        let mut profile = Self { name: String::new(), enabled: false, priority: 0, fields: Vec::new() };
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, values)) = profile.fields.last_mut() {
                    values.push(line.trim().to_owned());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                let value = value.trim();
                let values = if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
                match key {
                    "Name" => value.clone_into(&mut profile.name),
                    "Default" => profile.enabled = value == "yes",
                    "Priority" => profile.priority = value.parse().unwrap_or(0),
                    _ => {}
                }
                profile.fields.push((key.to_owned(), values));
            }
        }
        profile
    }

    fn lines(&self, key: &str) -> Option<&[String]> {
        self.fields.iter().find(|(there, _)| there == key).map(|(_, values)| values.as_slice())
    }

    /// The lines of a stack: those for its first module when there are such.
    fn stack(&self, kind: &str, first: bool) -> &[String] {
        let initial = if first { self.lines(&format!("{kind}-Initial")) } else { None };
        initial.or_else(|| self.lines(kind)).unwrap_or_default()
    }
}

/// Fills a template (`/usr/share/pam/common-KIND`) from the profiles that are enabled by default, higher priority
/// first. `end` in a control field becomes the number of modules of the primary block that it jumps over.
pub fn common_file(template: &str, file_name: &str, profiles: &[String]) -> String {
    let interactive = !file_name.ends_with("noninteractive");
    let stem = file_name.trim_start_matches("common-").trim_end_matches("-noninteractive");
    let kind = match stem {
        "auth" => "Auth",
        "account" => "Account",
        "password" => "Password",
        _ => "Session",
    };
    let mut enabled: Vec<_> =
        profiles.iter().map(|text| Profile::parse(text)).filter(|profile| profile.enabled).collect();
    enabled.retain(|profile| {
        interactive || profile.lines("Session-Interactive-Only").is_none_or(|v| v != ["yes"])
    });
    enabled.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    let block = |wanted: &str| {
        let of_kind = |profile: &&Profile| {
            profile.lines(&format!("{kind}-Type")).is_some_and(|types| types == [wanted])
        };
        let mut lines: Vec<String> = Vec::new();
        for profile in enabled.iter().filter(of_kind) {
            let first = lines.is_empty();
            lines.extend(profile.stack(kind, first).iter().cloned());
        }
        let count = lines.len();
        let numbered = lines.iter().enumerate().map(|(index, line)| {
            let jump = count - index;
            format!("{stem}\t{}\n", line.replace("=end", &format!("={jump}")))
        });
        numbered.collect::<String>()
    };
    let mut text = String::new();
    for line in template.lines() {
        match line.trim().strip_prefix('$').and_then(|name| name.rsplit_once('_')) {
            Some((_, "primary")) => match block("Primary").as_str() {
                // Nobody decides: jump over the template's denial.
                "" => text.push_str(&format!("{stem}\t[default=1]\tpam_permit.so\n")),
                lines => text.push_str(lines),
            },
            Some((_, "additional")) => text.push_str(&block("Additional")),
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: &str = "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\
        \t[success=end default=ignore]\tpam_unix.so try_first_pass\nAuth-Initial:\n\
        \t[success=end default=ignore]\tpam_unix.so\nSession-Type: Additional\nSession:\n\trequired\tpam_unix.so\n";
    const OTHER: &str = "Name: Other\nDefault: yes\nPriority: 300\nAuth-Type: Primary\nAuth:\n\
        \t[success=end default=ignore]\tpam_other.so\nSession-Type: Additional\nSession-Interactive-Only: yes\n\
        Session:\n\toptional\tpam_other.so\n";
    const OFF: &str =
        "Name: Home\nDefault: no\nPriority: 900\nAuth-Type: Primary\nAuth:\n\trequired pam_home.so\n";
    const TEMPLATE: &str = "# head\n$auth_primary\nauth\trequisite\tpam_deny.so\n$auth_additional\n";

    fn profiles() -> Vec<String> {
        vec![UNIX.to_owned(), OTHER.to_owned(), OFF.to_owned()]
    }

    #[test]
    fn one_profile_uses_its_initial_lines_and_jumps_over_itself() {
        let text = common_file(TEMPLATE, "common-auth", &[UNIX.to_owned()]);
        let expected =
            "# head\nauth\t[success=1 default=ignore]\tpam_unix.so\nauth\trequisite\tpam_deny.so\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn higher_priority_goes_first_and_jumps_over_the_rest() {
        let text = common_file(TEMPLATE, "common-auth", &profiles());
        assert!(text.contains("[success=2 default=ignore]\tpam_other.so\nauth\t[success=1 default=ignore]\tpam_unix.so try_first_pass\n"), "{text}");
        assert!(!text.contains("pam_home"));
    }

    #[test]
    fn an_empty_primary_block_jumps_over_the_denial() {
        let template = "$session_primary\nsession\trequisite\tpam_deny.so\n";
        let text = common_file(template, "common-session", &profiles());
        assert_eq!(text, "session\t[default=1]\tpam_permit.so\nsession\trequisite\tpam_deny.so\n");
    }

    #[test]
    fn interactive_only_profiles_stay_out_of_noninteractive_sessions() {
        let template = "$session_additional\n";
        assert!(common_file(template, "common-session", &profiles()).contains("pam_other"));
        assert_eq!(
            common_file(template, "common-session-noninteractive", &profiles()),
            "session\trequired\tpam_unix.so\n"
        );
    }
}
