//! `systemd-analyze verify`: Debian's and ours say the same of the unit files that Debian's packages ship.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use builder::guest::{self, Sources};
use debian::cache::Cache;
use ferrite_tests::scratch;

use super::*;

/// Packages whose unit files must run unmodified, and systemd, whose own are the largest collection there is.
const PACKAGES: [&str; 9] = [
    "etcd-server",
    "openssh-server",
    "chrony",
    "nginx",
    "apache2",
    "redis-server",
    "cron",
    "podman",
    "systemd",
];

/// Keys that systemd has and Ferrite does not: it says so, with file and line, and Debian's program has nothing to say. Why:
const UNSUPPORTED: [(&str, &str); 6] = [
    ("BusName", "there is no D-Bus"),
    ("IPAddressAllow", "there is no filter of a unit's packets"),
    ("IPAddressDeny", "there is no filter of a unit's packets"),
    ("ImportCredential", "there is no store of credentials to import from"),
    ("LogExtraFields", "the journal has the fields that it knows"),
    ("MemoryPressureWatch", "memory is always watched"),
];

/// Units that Ferrite refuses and systemd takes, and why.
const REFUSED: [(&str, &str); 1] =
    [("proc-sys-fs-binfmt_misc.automount", "there are no automounts: mounts happen at boot")];

/// What a program says of a unit: its exit status, and the places that it complains about.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    code: i32,
    places: BTreeSet<String>,
}

/// The places in what was printed about a unit's own files: `FILE:LINE`, or the unit's name for complaints about no line.
/// Debian's program also speaks of units that it loads with this one; each of them has a run of its own here.
fn places(text: &str, unit: &str) -> BTreeSet<String> {
    let unsupported = |line: &str| {
        let key = line
            .strip_suffix("=` is not supported and has no effect")
            .and_then(|line| line.rsplit('`').next());
        key.is_some_and(|key| UNSUPPORTED.iter().any(|(known, _)| *known == key))
    };
    let own = |line: &str| {
        // Templates are looked at as an instance of this name.
        let line = line.replace("@test_instance.", "@.");
        let (place, rest) = line.split_once(": ").filter(|_| !unsupported(&line))?;
        if place == unit {
            return Some(format!("{place}: {}", rest.split(' ').next().unwrap_or_default()));
        }
        let (path, number) = place.rsplit_once(':')?;
        number.parse::<u32>().ok()?;
        let inside = path.split_once("/usr/lib/systemd/system/")?.1;
        inside.starts_with(unit).then(|| format!("{inside}:{number}"))
    };
    text.lines().filter_map(own).collect()
}

#[test]
fn debians_unit_files_are_judged_as_systemd_judges_them() {
    let tools = Tools::of_packages(&PACKAGES).unwrap();
    let folder = scratch().unwrap();
    let ours = folder.path().join("systemd-analyze");
    let programs = guest::build(&Sources::find().unwrap(), &Cache::from_env()).unwrap();
    fs::write(&ours, &*programs.init).unwrap();
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();

    let units = tools.root().join("usr/lib/systemd/system");
    let is_unit = |name: &String| name.contains('.') && !name.ends_with(".d") && !units.join(name).is_dir();
    let mut names: Vec<String> = fs::read_dir(&units)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(is_unit)
        .collect();
    names.sort();
    let judge = |mut command: Command, unit: &str| {
        command.args(["verify", "--man=no"]).arg(format!("--root={}", tools.root().display())).arg(unit);
        command.env_clear().env("LC_ALL", "C");
        let (code, text) = run(&mut command);
        (Verdict { code, places: places(&text, unit) }, text)
    };
    let mut differences = BTreeMap::new();
    for name in names.iter().filter(|name| !REFUSED.iter().any(|(refused, _)| refused == name)) {
        let (theirs, their_text) = judge(tools.command("systemd-analyze").unwrap(), name);
        let mut command = Command::new(&ours);
        command.arg0("systemd-analyze");
        let (own, own_text) = judge(command, name);
        if own != theirs {
            differences
                .insert(name.clone(), format!("systemd: {theirs:?}\n{their_text}ours: {own:?}\n{own_text}"));
        }
    }
    println!("unit files: {} judged, {} differently", names.len(), differences.len());
    for (name, difference) in &differences {
        println!("--- {name}\n{difference}");
    }
    assert!(names.len() > 200 && differences.is_empty());
}
