//! A cloud-config to steps, in the order of updates-and-config, 7.3.

use std::fmt::Write as _;

use super::{CloudConfig, FileContents, FileEntry, MountEntry, UnitEntry, UnitFileName, UserEntry};
use crate::unit::{UnitName, escape_path};
use crate::user_data::Metadata;
use crate::user_data::plan::{
    AssignmentFile, AuthorizedKeys, Certificates, Contents, Existing, ExistingUser, File, Frequency, Group,
    Origin, Script, Stage, Step, UnitCommand, User,
};
use crate::user_data::report::At;
use crate::user_data::resource::{Compression, Resource};
use crate::user_data::shell;
use crate::user_data::source::Source;
use crate::user_data::steps::{Steps, unit_folder};

/// The image's own user.
pub(crate) const CORE: &str = "core";
/// Name of the set of keys that comes from user-data.
pub(crate) const KEY_SET: &str = "coreos-cloudinit";
/// Name of the drop-ins with settings of daemons.
pub const DROP_IN: &str = "20-cloudinit.conf";
const UPDATE_CONF: &str = "/etc/coreos/update.conf";
const UPDATE_CONF_TEMPLATE: &str = "/usr/share/coreos/update.conf";
const FLANNEL_OPTIONS: &str = "/run/flannel/options.env";
const OEM_RELEASE: &str = "/etc/oem-release";

/// Adds a config's steps. Metadata says what the config does not.
pub fn lower(config: &CloudConfig, metadata: &Metadata, source: &Source, steps: &mut Steps) {
    if let Some(commands) = &config.boot_commands {
        let script = Script {
            name: "bootcmd".to_owned(),
            interpreter: "/bin/sh".to_owned(),
            contents: shell::script(&commands.value),
        };
        steps.script(Stage::Early, Frequency::Boot, source.origin(commands.at), script);
    }
    hostname(config, metadata, source, steps);
    accounts(config, metadata, source, steps);
    files(config, false, source, steps);
    settings(config, source, steps);
    units(config, source, steps);
    files(config, true, source, steps);
    if let Some(commands) = &config.run_commands {
        let script = Script {
            name: "runcmd".to_owned(),
            interpreter: "/bin/sh".to_owned(),
            contents: shell::script(&commands.value),
        };
        steps.script(Stage::Final, Frequency::Instance, source.origin(commands.at), script);
    }
}

fn hostname(config: &CloudConfig, metadata: &Metadata, source: &Source, steps: &mut Steps) {
    if let Some(name) = &config.hostname {
        steps.once(source.origin(name.at), Step::SetHostname(name.value.clone()));
    } else if let Some(name) = &metadata.hostname {
        steps.once(Origin::default(), Step::SetHostname(name.clone()));
    }
}

fn accounts(config: &CloudConfig, metadata: &Metadata, source: &Source, steps: &mut Steps) {
    if let Some(certificates) = &config.certificates {
        let trusted = certificates.value.trusted.iter();
        let step = Step::TrustCertificates(Certificates {
            trusted: trusted.map(|pem| Contents::Inline(pem.clone().into_bytes())).collect(),
            removes_defaults: certificates.value.removes_defaults,
        });
        steps.once(source.origin(certificates.at), step);
    }
    for group in &config.groups {
        let step = Step::CreateGroup(Group {
            name: group.value.name.clone(),
            gid: None,
            password_hash: None,
            is_system: false,
            members: Vec::new(),
        });
        steps.once(source.origin(group.at), step);
    }
    for At { value: user, at } in &config.users {
        steps.once(source.origin(*at), Step::CreateUser(Box::new(planned_user(user))));
        if !user.ssh_authorized_keys.is_empty() {
            keys(&user.name, user.ssh_authorized_keys.clone(), source.origin(*at), steps);
        }
    }
    // Members may be users of this config, so that they join when all of them exist.
    for group in config.groups.iter().filter(|group| !group.value.members.is_empty()) {
        let step = Step::CreateGroup(Group {
            name: group.value.name.clone(),
            gid: None,
            password_hash: None,
            is_system: false,
            members: group.value.members.clone(),
        });
        steps.once(source.origin(group.at), step);
    }
    let mut core: Vec<String> = config.ssh_authorized_keys.iter().map(|key| key.value.clone()).collect();
    core.extend(metadata.ssh_authorized_keys.iter().cloned());
    if !core.is_empty() {
        let origin = config.ssh_authorized_keys.first().map(|key| source.origin(key.at));
        keys(CORE, core, origin.unwrap_or_default(), steps);
    }
}

fn keys(user: &str, keys: Vec<String>, origin: Origin, steps: &mut Steps) {
    let mut unique: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    unique.extend(keys.into_iter().filter(|key| seen.insert(key.clone())));
    let step =
        Step::AuthorizeKeys(AuthorizedKeys { user: user.to_owned(), set: KEY_SET.to_owned(), keys: unique });
    steps.once(origin, step);
}

fn planned_user(user: &UserEntry) -> User {
    User {
        name: user.name.clone(),
        uid: user.uid,
        password_hash: user.password_hash.clone(),
        is_locked: user.is_locked,
        gecos: user.gecos.clone(),
        home: user.home.clone(),
        creates_home: !user.has_no_home && !user.is_system,
        primary_group: user.primary_group.clone(),
        creates_group: !user.has_no_group,
        groups: user.groups.clone(),
        shell: user.shell.clone(),
        is_system: user.is_system,
        sudo: user.sudo.clone(),
        existing: ExistingUser::PasswordOnly,
    }
}

fn files(config: &CloudConfig, is_deferred: bool, source: &Source, steps: &mut Steps) {
    for At { value: entry, at } in config.files.iter().filter(|file| file.value.is_deferred == is_deferred) {
        let stage = if is_deferred { Stage::Final } else { Stage::Configure };
        // /run is empty in every boot.
        let frequency = if entry.path.starts_with("/run/") { Frequency::Boot } else { Frequency::Instance };
        steps.push(stage, frequency, source.origin(*at), Step::WriteFile(Box::new(planned_file(entry))));
    }
}

fn planned_file(entry: &FileEntry) -> File {
    let contents = match &entry.contents {
        FileContents::Inline(bytes) => Contents::Inline(bytes.clone()),
        FileContents::Source { url, headers } => Contents::Remote(Resource {
            url: url.clone(),
            headers: headers.clone(),
            compression: Compression::None,
            verification: None,
        }),
    };
    let (contents, append) =
        if entry.is_appended { (None, vec![contents]) } else { (Some(contents), Vec::new()) };
    let mode = if entry.is_appended { entry.mode } else { Some(entry.mode.unwrap_or(0o644)) };
    File {
        path: entry.path.clone(),
        mode,
        owner: entry.owner.clone(),
        contents,
        append,
        existing: Existing::Replace,
    }
}

/// Files that settings become.
fn settings(config: &CloudConfig, source: &Source, steps: &mut Steps) {
    if let Some(oem) = &config.oem {
        let mut text = String::new();
        for (key, value) in &oem.value {
            let is_plain = matches!(*key, "ID" | "VERSION_ID");
            let quote = if is_plain { "" } else { "\"" };
            let _ = writeln!(text, "{key}={quote}{value}{quote}");
        }
        steps.text_file(source.origin(oem.at), OEM_RELEASE.to_owned(), &text);
    }
    update_conf(config, source, steps);
    if let Some(at) = config.manages_hosts {
        let hostname = config.hostname.as_ref().map(|name| name.value.clone());
        steps.once(source.origin(at), Step::WriteHosts { hostname });
    }
    if let Some(flannel) = config.flannel.as_ref().filter(|flannel| !flannel.value.is_empty()) {
        let lines: String = flannel.value.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        steps.text_file(source.origin(flannel.at), FLANNEL_OPTIONS.to_owned(), &lines);
    }
    if let Some(zone) = &config.timezone {
        steps.once(source.origin(zone.at), Step::SetTimezone(zone.value.clone()));
    }
    if let Some(ntp) = &config.ntp {
        steps.once(source.origin(ntp.at), Step::SetTimeServers(ntp.value.clone()));
    }
    for mount in &config.mounts {
        self::mount(&mount.value, source.origin(mount.at), steps);
    }
}

fn update_conf(config: &CloudConfig, source: &Source, steps: &mut Steps) {
    let Some(At { value: update, at }) = &config.update else { return };
    let assignments: Vec<(String, String)> =
        [("REBOOT_STRATEGY", &update.reboot_strategy), ("GROUP", &update.group), ("SERVER", &update.server)]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
            .collect();
    if !assignments.is_empty() {
        let file = AssignmentFile {
            path: UPDATE_CONF.to_owned(),
            template: Some(UPDATE_CONF_TEMPLATE.to_owned()),
            assignments,
        };
        steps.once(source.origin(*at), Step::SetAssignments(file));
    }
}

/// A mount or swap unit, as systemd's generator makes it of a line of fstab(5).
fn mount(mount: &MountEntry, origin: Origin, steps: &mut Steps) {
    let options: Vec<&str> = mount.options.split(',').map(str::trim).collect();
    let has = |option: &str| options.contains(&option);
    let is_remote =
        has("_netdev") || ["nfs", "nfs4", "cifs", "ceph", "glusterfs"].contains(&mount.kind.as_str());
    let device = match mount.what.split_once('=') {
        Some(("LABEL", label)) => format!("/dev/disk/by-label/{label}"),
        Some(("UUID", uuid)) => format!("/dev/disk/by-uuid/{}", uuid.to_ascii_lowercase()),
        Some(("PARTUUID", uuid)) => format!("/dev/disk/by-partuuid/{}", uuid.to_ascii_lowercase()),
        Some(("PARTLABEL", label)) => format!("/dev/disk/by-partlabel/{label}"),
        _ => mount.what.clone(),
    };
    let (place, suffix) = match &mount.place {
        Some(place) => (place.as_str(), "mount"),
        None => (device.as_str(), "swap"),
    };
    let name = escape_path(place).and_then(|stem| UnitName::parse(&format!("{stem}.{suffix}")).ok());
    let Some(name) = name else { return };
    let percent = |text: &str| text.replace('%', "%%");
    let kept: Vec<&str> =
        options.iter().copied().filter(|option| !matches!(*option, "nofail" | "auto")).collect();
    let target = match (suffix, is_remote) {
        ("swap", _) => "swap.target",
        (_, true) => "remote-fs.target",
        (_, false) => "local-fs.target",
    };
    let mut text = "# From `mounts` of the user-data.\n".to_owned();
    if has("nofail") && !is_remote {
        // Otherwise the target, and with it the boot, would wait for a device that may never come.
        text += "[Unit]\nDefaultDependencies=no\nConflicts=umount.target\nBefore=umount.target\n";
    }
    if suffix == "mount" {
        let _ = write!(text, "\n[Mount]\nWhat={}\nWhere={}\n", percent(&device), percent(place));
        if mount.kind != "auto" {
            let _ = writeln!(text, "Type={}", percent(&mount.kind));
        }
    } else {
        let _ = write!(text, "\n[Swap]\nWhat={}\n", percent(&device));
    }
    if !kept.is_empty() {
        let _ = writeln!(text, "Options={}", percent(&kept.join(",")));
    }
    let wanted = if has("nofail") { "WantedBy" } else { "RequiredBy" };
    let _ = write!(text, "\n[Install]\n{wanted}={target}\n");
    steps.unit_file(origin.clone(), format!("{}/{name}", unit_folder(false)), &text);
    if !has("noauto") {
        steps.unit(origin.clone(), false, Step::EnableUnit, &name);
        // In the first boot the target may be reached already.
        steps.command(origin, Frequency::Instance, &name, UnitCommand::Start);
    }
}

/// The user's units in order, then those that settings make.
fn units(config: &CloudConfig, source: &Source, steps: &mut Steps) {
    for At { value: unit, at } in &config.units {
        self::unit(unit, &source.origin(*at), steps);
    }
    for At { value: daemon, at } in &config.daemons {
        let origin = source.origin(*at);
        if !daemon.environment.is_empty() {
            let path = format!("{}/{}.d/{DROP_IN}", unit_folder(true), daemon.unit);
            steps.unit_file(origin.clone(), path, &drop_in(&daemon.environment));
        }
        steps.unit(origin, true, Step::UnmaskUnit, &daemon.unit);
    }
    update_units(config, source, steps);
    // Jobs in the order written: they are handed over together.
    for At { value: unit, at } in &config.units {
        if let (UnitFileName::Unit(name), Some(command)) = (&unit.name, unit.command) {
            steps.command(source.origin(*at), Frequency::Boot, name, command);
        }
    }
}

fn unit(unit: &UnitEntry, origin: &Origin, steps: &mut Steps) {
    let (folder, file) = match &unit.name {
        UnitFileName::Unit(name) => (unit_folder(unit.is_runtime), name.as_str()),
        UnitFileName::Network(name) if unit.is_runtime => ("/run/systemd/network", name.as_str()),
        UnitFileName::Network(name) => ("/etc/systemd/network", name.as_str()),
    };
    if let Some(content) = unit.content.as_ref().filter(|_| !unit.is_masked) {
        steps.unit_file(origin.clone(), format!("{folder}/{file}"), content);
    }
    for (name, content) in unit.drop_ins.iter().filter(|(_, content)| !content.is_empty()) {
        steps.unit_file(origin.clone(), format!("{folder}/{file}.d/{name}"), content);
    }
    let UnitFileName::Unit(name) = &unit.name else { return };
    if unit.is_masked {
        steps.unit(origin.clone(), unit.is_runtime, Step::MaskUnit, name);
        return;
    }
    if unit.is_runtime {
        steps.unit(origin.clone(), true, Step::UnmaskUnit, name);
    }
    if unit.is_enabled {
        steps.unit(origin.clone(), unit.is_runtime, Step::EnableUnit, name);
    }
}

/// The units that follow `coreos.update`.
fn update_units(config: &CloudConfig, source: &Source, steps: &mut Steps) {
    let Some(At { value: update, at }) = &config.update else { return };
    let origin = source.origin(*at);
    if let (Some(strategy), Ok(locksmith)) = (&update.reboot_strategy, UnitName::parse("locksmithd.service"))
    {
        if strategy == "off" {
            steps.command(origin.clone(), Frequency::Boot, &locksmith, UnitCommand::Stop);
            steps.unit(origin.clone(), true, Step::MaskUnit, &locksmith);
        } else {
            steps.unit(origin.clone(), true, Step::UnmaskUnit, &locksmith);
            steps.command(origin.clone(), Frequency::Boot, &locksmith, UnitCommand::Restart);
        }
    }
    let is_changed = update.group.is_some() || update.server.is_some();
    if let (true, Ok(engine)) = (is_changed, UnitName::parse("update-engine.service")) {
        steps.command(origin, Frequency::Instance, &engine, UnitCommand::Restart);
    }
}

/// A drop-in that sets variables.
fn drop_in(environment: &[(String, String)]) -> String {
    let mut text = String::from("[Service]\n");
    for (key, value) in environment {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(text, "Environment=\"{key}={value}\"");
    }
    text
}
