//! Keys of cloud-init that mean something elsewhere: told of, with their line, never silently ignored.

use crate::user_data::report::{Fields, Report};

const NO_PACKAGES: &str = "the image has no package manager: put packages into its recipe";
const ELSEWHERE: &str = "Ferrite has nothing that it could be done with; `runcmd` may do";
const NETWORK: &str = "links are configured by DHCP and by router advertisements";
const MODULES: &str = "there are no modules to choose: every key that is supported is applied";
const DISKS: &str = "data disks come later; `mounts` mounts what is formatted already";
const PASSWORDS: &str = "SSH takes keys only, and the console logs in by itself";
const HOST_KEYS: &str = "the machine makes its host keys at its first boot";

/// Keys of the top level, and what to do instead.
const KEYS: &[(&str, &str)] = &[
    ("apk_repos", NO_PACKAGES),
    ("apt", NO_PACKAGES),
    ("apt_pipelining", NO_PACKAGES),
    ("package_reboot_if_required", NO_PACKAGES),
    ("package_update", NO_PACKAGES),
    ("package_upgrade", NO_PACKAGES),
    ("packages", NO_PACKAGES),
    ("snap", NO_PACKAGES),
    ("ubuntu_advantage", NO_PACKAGES),
    ("ubuntu_pro", NO_PACKAGES),
    ("yum_repo_dir", NO_PACKAGES),
    ("yum_repos", NO_PACKAGES),
    ("zypper", NO_PACKAGES),
    ("allow_public_ssh_keys", HOST_KEYS),
    ("ansible", ELSEWHERE),
    ("authkey_hash", HOST_KEYS),
    ("autoinstall", ELSEWHERE),
    ("byobu_by_default", ELSEWHERE),
    ("chef", ELSEWHERE),
    ("chpasswd", PASSWORDS),
    ("cloud_config_modules", MODULES),
    ("cloud_final_modules", MODULES),
    ("cloud_init_modules", MODULES),
    ("create_hostname_file", MODULES),
    ("datasource", MODULES),
    ("datasource_list", MODULES),
    ("device_aliases", DISKS),
    ("disable_ec2_metadata", NETWORK),
    ("disable_root", PASSWORDS),
    ("disable_root_opts", PASSWORDS),
    ("disk_setup", DISKS),
    ("drivers", ELSEWHERE),
    ("fan", NETWORK),
    ("final_message", "`runcmd` can write one"),
    ("fs_setup", DISKS),
    ("growpart", "the state partition grows by itself"),
    ("grub_dpkg", NO_PACKAGES),
    ("keyboard", "the image has no key maps"),
    ("landscape", ELSEWHERE),
    ("launch_index", ELSEWHERE),
    ("locale", "the image has no locales but C.UTF-8"),
    ("locale_configfile", "the image has no locales but C.UTF-8"),
    ("lxd", ELSEWHERE),
    ("manage_resolv_conf", NETWORK),
    ("mcollective", ELSEWHERE),
    ("merge_how", "parts of a multipart text are applied one after the other"),
    ("merge_type", "parts of a multipart text are applied one after the other"),
    ("mount_default_fields", "write all fields of each mount"),
    ("network", NETWORK),
    ("no_ssh_fingerprints", HOST_KEYS),
    ("output", "what commands write is in the journal"),
    ("password", PASSWORDS),
    ("phone_home", "`runcmd` may do it, with curl"),
    ("power_state", "`runcmd` may end with `systemctl reboot`"),
    ("preserve_hostname", "leave `hostname` out"),
    ("puppet", ELSEWHERE),
    ("random_seed", "the kernel is seeded by the host and from the last boot"),
    ("resize_rootfs", "the state partition grows by itself"),
    ("resolv_conf", NETWORK),
    ("rh_subscription", NO_PACKAGES),
    ("rsyslog", "the journal has it all"),
    ("salt_minion", ELSEWHERE),
    ("spacewalk", ELSEWHERE),
    ("ssh", HOST_KEYS),
    ("ssh_deletekeys", HOST_KEYS),
    ("ssh_fp_console_blacklist", HOST_KEYS),
    ("ssh_genkeytypes", HOST_KEYS),
    ("ssh_import_id", "copy the keys into `ssh_authorized_keys`"),
    ("ssh_key_console_blacklist", HOST_KEYS),
    ("ssh_keys", HOST_KEYS),
    ("ssh_publish_hostkeys", HOST_KEYS),
    ("ssh_pwauth", PASSWORDS),
    ("ssh_quiet_keygen", HOST_KEYS),
    ("swap", "a swap file made with `runcmd` can be named in `mounts`"),
    ("syslog_fix_perms", ELSEWHERE),
    ("system_info", "`users` makes users"),
    ("updates", "user-data is read once"),
    ("user", "`users` makes users; `ssh_authorized_keys` at the top is for `core`"),
    ("vendor_data", "there is only one text"),
    ("vendor_data2", "there is only one text"),
    ("wireguard", NETWORK),
    ("write_files_deferred", "`write_files` has `defer: true`"),
    ("zypper_repos", NO_PACKAGES),
];

/// Warns of the top-level keys that are not supported.
pub(super) fn top(top: &mut Fields<'_>, report: &mut Report<'_>) {
    warn(top, KEYS, report);
}

/// Warns of the keys of a table that are there.
pub(super) fn warn(fields: &mut Fields<'_>, keys: &[(&'static str, &str)], report: &mut Report<'_>) {
    for entry in fields.rest() {
        let key = entry.key.replace('-', "_");
        if let Some((key, instead)) = keys.iter().find(|(known, _)| *known == key) {
            fields.entry(key);
            report.warn(
                entry.key_at,
                format!("`{}` is not supported", fields.name_of(&entry.key)),
                (*instead).to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_listed_once() {
        let mut keys: Vec<_> = super::KEYS.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
