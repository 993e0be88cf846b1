//! Paths as people know them and as the image has them: `/etc/motd` of the running system is `/usr/etc/motd` in the image,
//! `/bin/sh` is `/usr/bin/sh`, and what a package ships in `/var` waits in the factory.

/// Links of the root into `/usr`.
const MERGED: [&str; 4] = ["/bin", "/sbin", "/lib", "/lib64"];
/// Where files for `/var` wait to be copied at the first boot.
const FACTORY: &str = "/usr/share/factory";
/// What an image does not have: made, or mounted, when it boots.
const RUNTIME: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/mnt"];
/// On the state partition: `/var`, and the links of the root into it.
const STATE: [&str; 5] = ["/var", "/home", "/root", "/opt", "/srv"];

/// Where a path leads that is not one of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Made at every boot.
    Runtime,
    /// On the state partition.
    State,
    /// The kernel package's own folder: its kernel is a part of the slot.
    Boot,
}

/// An absolute path without empty components, `.` and a trailing `/`, and with `..` taken literally.
pub(super) fn normal(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(out.pop()),
            name => out.push(name),
        }
    }
    format!("/{}", out.join("/"))
}

/// The path in the image of a path of the running system.
pub(super) fn in_image(path: &str) -> String {
    if MERGED.iter().any(|top| is_at_or_below(path, top)) {
        return format!("/usr{path}");
    }
    match path {
        // The image is /usr; what else / has is made at boot.
        "/" => "/usr".to_owned(),
        _ if is_at_or_below(path, "/etc") => format!("/usr{path}"),
        _ if is_at_or_below(path, "/var") && path != "/var" => format!("{FACTORY}{path}"),
        _ => path.to_owned(),
    }
}

/// The path in the running system of a path in the image.
pub(super) fn running(path: &str) -> &str {
    let etc = path.strip_prefix("/usr").filter(|rest| is_at_or_below(rest, "/etc"));
    let var = path.strip_prefix(FACTORY).filter(|rest| is_at_or_below(rest, "/var"));
    etc.or(var).unwrap_or(path)
}

/// Where a path of the running system leads when the image does not have it.
pub(super) fn elsewhere(path: &str) -> Option<Elsewhere> {
    let under = |tops: &[&str]| tops.iter().any(|top| is_at_or_below(path, top));
    match () {
        () if under(&RUNTIME) => Some(Elsewhere::Runtime),
        () if under(&STATE) => Some(Elsewhere::State),
        () if under(&["/boot"]) => Some(Elsewhere::Boot),
        () => None,
    }
}

/// Whether `path` is `folder` or lies below it; everything lies below `/`.
pub(super) fn is_at_or_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The last component.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// All but the last component; `/` for what lies at the top.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_running_system_have_a_place_in_the_image() {
        let cases = [
            ("/etc/motd", "/usr/etc/motd"),
            ("/bin/sh", "/usr/bin/sh"),
            ("/lib64", "/usr/lib64"),
            ("/", "/usr"),
            ("/library", "/library"),
            ("/usr/bin/sh", "/usr/bin/sh"),
            ("/var/lib/x", "/usr/share/factory/var/lib/x"),
        ];
        for (path, want) in cases {
            assert_eq!(in_image(path), want, "{path}");
        }
        for (path, want) in [
            ("/usr/etc/motd", "/etc/motd"),
            ("/usr/share/factory/var/x", "/var/x"),
            ("/usr/etcd", "/usr/etcd"),
        ] {
            assert_eq!(running(path), want, "{path}");
        }
        assert_eq!(elsewhere("/run/x"), Some(Elsewhere::Runtime));
        assert_eq!(elsewhere("/home"), Some(Elsewhere::State));
        assert_eq!(elsewhere("/runner"), None);
        for (path, want) in [("//usr//bin/./x/", "/usr/bin/x"), ("/usr/../../etc", "/etc"), ("/", "/")] {
            assert_eq!(normal(path), want, "{path}");
        }
        assert_eq!((parent("/usr"), parent("/usr/bin"), name("/usr/bin")), ("/", "/usr", "bin"));
        assert!(is_at_or_below("/usr/x", "/") && !is_at_or_below("/usrx", "/usr"));
    }
}
