//! Keys about the machine as a whole: its name, hosts, authorities, time, mounts, commands.

use super::{CertificatesEntry, CloudConfig, CommandEntry, MountEntry, unsupported};
use crate::tree::Node;
use crate::user_data::plan::TimeServers;
use crate::user_data::report::{At, Fields, Report, Spelling};

/// Longest host name that the kernel takes (`__NEW_UTS_LEN`).
const LONGEST_HOSTNAME: usize = 64;

pub(super) fn hostname(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let hostname = top.text("hostname", report);
    let fqdn = top.text("fqdn", report);
    let prefers_fqdn = top.boolean("prefer_fqdn_over_hostname", report).unwrap_or(false);
    let chosen = match (hostname, fqdn) {
        (_, Some(fqdn)) if prefers_fqdn => Some(fqdn),
        (Some(hostname), _) => Some(hostname),
        (None, Some(fqdn)) => {
            let value = fqdn.value.split('.').next().unwrap_or_default().to_owned();
            Some(At { value, at: fqdn.at })
        }
        (None, None) => None,
    };
    config.hostname = chosen.filter(|name| match hostname_problem(&name.value) {
        None => true,
        Some(problem) => {
            let hint = "letters, digits and hyphens, in labels with dots between them".to_owned();
            report.error(name.at, format!("`{}` is no host name: {problem}", name.value), hint);
            false
        }
    });
}

/// What keeps a text from being a host name (RFC 1123, 2.1; underscores are let through, as many machines have them).
pub(crate) fn hostname_problem(name: &str) -> Option<&'static str> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > LONGEST_HOSTNAME {
        Some("it has more than 64 characters")
    } else if let Some(label) = name.split('.').find(|label| label.is_empty() || label.len() > 63) {
        Some(if label.is_empty() { "a label is empty" } else { "a label has more than 63 characters" })
    } else if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        Some("a label begins or ends with a hyphen")
    } else if name.contains(|c: char| !is_letter(c) && !matches!(c, '-' | '.')) {
        Some("it has a character that does not belong there")
    } else {
        None
    }
}

pub(super) fn machine(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    hosts(top, config, report);
    certificates(top, config, report);
    timezone(top, config, report);
    ntp(top, config, report);
    mounts(top, config, report);
    config.boot_commands = commands(top, "bootcmd", report);
    config.run_commands = commands(top, "runcmd", report);
}

fn hosts(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(value) = top.text("manage_etc_hosts", report) else { return };
    match value.value.as_str() {
        // The second and third are today's cloud-init.
        "localhost" | "true" | "True" | "template" => config.manages_hosts = Some(value.at),
        "false" | "False" => {}
        other => {
            let message = format!("invalid option to `manage_etc_hosts`: `{other}`");
            report.error(
                value.at,
                message,
                "`localhost` writes /etc/hosts with the machine's name".to_owned(),
            );
        }
    }
}

fn certificates(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(mut fields) = top.fields("ca_certs", Spelling::Lenient, report) else { return };
    let at = fields.at();
    let mut entry = CertificatesEntry {
        removes_defaults: fields.boolean("remove_defaults", report).unwrap_or(false),
        ..CertificatesEntry::default()
    };
    for text in fields.texts("trusted", report) {
        if text.value.contains("-----BEGIN CERTIFICATE-----")
            && text.value.contains("-----END CERTIFICATE-----")
        {
            entry.trusted.push(text.value);
        } else {
            let hint =
                "PEM is wanted: `-----BEGIN CERTIFICATE-----`, lines of base64, `-----END CERTIFICATE-----`";
            report.error(text.at, "this is no certificate", hint.to_owned());
        }
    }
    fields.finish(&[], report);
    config.certificates = Some(At { value: entry, at });
}

fn timezone(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(zone) = top.text("timezone", report) else { return };
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
    };
    if zone.value.split('/').all(is_part) {
        config.timezone = Some(zone);
    } else {
        let hint = "a name of the time zone database, such as `UTC` or `Europe/Paris`".to_owned();
        report.error(zone.at, format!("`{}` is no time zone", zone.value), hint);
    }
}

fn ntp(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    let Some(mut fields) = top.fields("ntp", Spelling::Lenient, report) else { return };
    let at = fields.at();
    let is_enabled = fields.boolean("enabled", report).unwrap_or(true);
    let mut servers = fields.texts("servers", report);
    servers.extend(fields.texts("pools", report));
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_');
    servers.retain(|server| {
        let is_good = !server.value.is_empty() && server.value.chars().all(is_host);
        if !is_good {
            report.error(server.at, format!("`{}` is no host name or address", server.value), None);
        }
        is_good
    });
    const UNSUPPORTED: &[(&str, &str)] = &[
        ("config", "there is one client, and nothing to configure of it"),
        ("ntp_client", "there is one client: Ferrite's"),
        ("packages", "there is one client: Ferrite's"),
        ("allow", "the machine serves no time"),
        ("peers", "name them in `servers`"),
    ];
    unsupported::warn(&mut fields, UNSUPPORTED, report);
    fields.finish(&[], report);
    let servers = servers.into_iter().map(|server| server.value).collect();
    config.ntp = Some(At { value: TimeServers { servers, is_enabled }, at });
}

fn mounts(top: &mut Fields<'_>, config: &mut CloudConfig, report: &mut Report<'_>) {
    for (index, node) in top.list("mounts", report).iter().enumerate() {
        let name = format!("mounts[{index}]");
        let texts: Vec<Option<String>> = report
            .list(node, &name)
            .iter()
            .map(|field| if field.is_null() { None } else { report.text(field, &name) })
            .collect();
        match mount(&texts) {
            Ok(value) => config.mounts.push(At { value, at: node.at }),
            Err(_) if node.elements().is_none() => {}
            Err(problem) => {
                let hint = "a mount is a list: `[device, folder, type, options]`".to_owned();
                report.error(node.at, format!("`{name}`: {problem}"), hint);
            }
        }
    }
}

/// The fields of fstab(5).
fn mount(fields: &[Option<String>]) -> Result<MountEntry, String> {
    let field = |index: usize| {
        fields.get(index).and_then(|field| field.as_deref()).map(str::trim).filter(|field| !field.is_empty())
    };
    let device = field(0).ok_or("the device is missing")?;
    let kind = field(2).unwrap_or("auto");
    let options = field(3).unwrap_or("defaults,nofail");
    let is_short_device = ["sd", "vd", "xvd", "nvme", "hd", "mmcblk"].iter().any(|it| device.starts_with(it))
        && !device.contains(['/', ':', '=']);
    let what = if is_short_device { format!("/dev/{device}") } else { device.to_owned() };
    if device.starts_with("ephemeral") || device == "swap" {
        return Err(format!("`{device}` is a cloud's name of a disk: name the device itself"));
    }
    let place = match field(1) {
        None | Some("none" | "swap") if kind == "swap" => None,
        Some(place) if place.starts_with('/') && !place.contains("/../") => Some(format!(
            "/{}",
            place.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
        )),
        Some(place) => return Err(format!("`{place}` is no absolute path of a folder")),
        None => return Err("the folder to mount it on is missing".to_owned()),
    };
    if [&what, kind, options].iter().any(|text| text.contains(['\n', '\r'])) {
        return Err("a field has a line break".to_owned());
    }
    if place.as_deref() == Some("/")
        || place.as_deref().is_some_and(|it| it == "/usr" || it.starts_with("/usr/"))
    {
        return Err("this folder belongs to the image".to_owned());
    }
    Ok(MountEntry { what, place, kind: kind.to_owned(), options: options.to_owned() })
}

fn commands(
    top: &mut Fields<'_>,
    key: &'static str,
    report: &mut Report<'_>,
) -> Option<At<Vec<CommandEntry>>> {
    let entry = top.entry(key)?;
    let list = report.list(&entry.value, key);
    let mut commands = Vec::new();
    for (index, node) in list.iter().enumerate() {
        if let Some(command) = command(node, &format!("{key}[{index}]"), report) {
            commands.push(command);
        }
    }
    (!commands.is_empty()).then_some(At { value: commands, at: entry.key_at })
}

fn command(node: &Node, name: &str, report: &mut Report<'_>) -> Option<CommandEntry> {
    if node.entries().is_some() {
        let hint = "text with `: ` in it needs quotes around it".to_owned();
        report.error(node.at, format!("`{name}`: a command belongs here, not a mapping"), hint);
        return None;
    }
    match node.elements() {
        Some(_) => {
            let words = report.texts(node, name);
            Some(CommandEntry::Arguments(words.into_iter().map(|word| word.value).collect()))
        }
        None => report.text(node, name).map(CommandEntry::Shell),
    }
}
