//! The checkout, the Rust toolchain that it names, and a C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Check;
use crate::guest;

const WHY_SOURCE: &str = "the programs inside the image are compiled from it";
const WHY_RUST: &str = "the programs inside the image are compiled with it";
const WHY_COMPILER: &str = "it links programs, and compiles the C code that some crates have";
const INSTALL_RUSTUP: &str = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";

/// What `rust-toolchain.toml` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Pinned {
    channel: String,
    targets: Vec<String>,
}

/// What the machine has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// `cargo --version` works.
    cargo: bool,
    /// The version of `rustc`, as `rustc --version` has it in its second word.
    rustc: Option<String>,
    /// `rustup` is in `PATH`.
    rustup: bool,
    /// Targets without a standard library.
    missing_targets: Vec<String>,
}

pub(super) fn checks(offline: bool) -> Vec<Check> {
    let source = guest::source_folder();
    let place = match &source {
        Ok(path) => Check::ok("source", path.display().to_string()),
        Err(error) => Check::missing(
            "source",
            error.to_string(),
            WHY_SOURCE,
            "export FERRITE_SOURCE=FOLDER, where FOLDER is a checkout of Ferrite",
        ),
    };
    let source = source.unwrap_or_else(|_| PathBuf::from("/"));
    let pinned = pinned(&fs::read_to_string(source.join("rust-toolchain.toml")).unwrap_or_default());
    let rust = judge(&pinned, &look(&source, &pinned), offline);
    vec![place, rust, compiler(&source)]
}

fn look(source: &Path, pinned: &Pinned) -> Seen {
    let rustup = says("rustup", &["--version"], source).is_some();
    let cargo = says("cargo", &["--version"], source).is_some();
    let version = says("rustc", &["--version"], source);
    let has = |target: &String| {
        let folder = says("rustc", &["--print", "target-libdir", "--target", target], source);
        folder.is_some_and(|folder| Path::new(folder.trim()).is_dir())
    };
    Seen {
        cargo,
        rustc: version.and_then(|line| line.split_whitespace().nth(1).map(str::to_owned)),
        rustup,
        missing_targets: pinned.targets.iter().filter(|target| !has(target)).cloned().collect(),
    }
}

/// What a program prints when it is run in the checkout, where a toolchain is pinned; it must not install one now.
fn says(program: &str, arguments: &[&str], source: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(source).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.env("RUSTUP_AUTO_INSTALL", "0").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(pinned: &Pinned, seen: &Seen, offline: bool) -> Check {
    let wanted = format!("{} with {}", pinned.channel, pinned.targets.join(", "));
    let targets: String = pinned.targets.iter().map(|target| format!(" --target {target}")).collect();
    let install = format!("rustup toolchain install {}{targets}", pinned.channel);
    let good_version = seen.rustc.as_ref() == Some(&pinned.channel);
    match seen {
        Seen { cargo: true, rustc: Some(found), missing_targets, .. } if missing_targets.is_empty() => {
            if good_version {
                Check::ok("rust", wanted)
            } else {
                Check::warning(
                    "rust",
                    format!("{found} in place of {}", pinned.channel),
                    "images of another compiler have other bytes",
                    install,
                )
            }
        }
        Seen { rustup: true, .. } => {
            let found = if seen.cargo && good_version {
                format!("{} without {}", pinned.channel, seen.missing_targets.join(", "))
            } else {
                format!("no toolchain {}", pinned.channel)
            };
            // rustup brings what is missing by itself, when it can.
            if offline {
                Check::missing("rust", found, WHY_RUST, install)
            } else {
                Check::warning("rust", found, "the first build fetches it, which takes a while", install)
            }
        }
        Seen { cargo: true, rustc: Some(found), missing_targets, .. } => Check::missing(
            "rust",
            format!("{found} without {}", missing_targets.join(", ")),
            WHY_RUST,
            format!("{INSTALL_RUSTUP} (with rustup the targets come by themselves)"),
        ),
        Seen { .. } => Check::missing("rust", "neither cargo nor rustup in PATH", WHY_RUST, INSTALL_RUSTUP),
    }
}

/// The two keys of `rust-toolchain.toml` that matter here. The file is ours, so one line a key is all it has.
fn pinned(text: &str) -> Pinned {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| Some(line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')?.trim()))
    };
    let words =
        |value: &str| -> Vec<String> { value.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
    Pinned {
        channel: value("channel").and_then(|value| words(value).into_iter().next()).unwrap_or_default(),
        targets: value("targets").map(words).unwrap_or_default(),
    }
}

fn compiler(source: &Path) -> Check {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let install = install_compiler(&os_release);
    let version = |name: &str| {
        says(name, &["--version"], source).and_then(|text| text.lines().next().map(str::to_owned))
    };
    match version("cc") {
        Some(version) => Check::ok("compiler", version),
        None => Check::missing("compiler", "no cc in PATH", WHY_COMPILER, install),
    }
}

/// The command that brings a C compiler, by what the system says that it is (os-release(5)).
fn install_compiler(os_release: &str) -> String {
    let value = |name: &str| os_release.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let names = format!("{} {}", value("ID="), value("ID_LIKE=")).replace('"', "");
    let known = names.split_whitespace().find_map(|name| {
        Some(match name {
            "debian" | "ubuntu" => "sudo apt-get install gcc libc6-dev",
            "fedora" | "rhel" | "centos" => "sudo dnf install gcc glibc-devel",
            "arch" => "sudo pacman -S gcc",
            "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => {
                "sudo zypper install gcc glibc-devel"
            }
            "alpine" => "sudo apk add gcc musl-dev",
            "gentoo" => "sudo emerge sys-devel/gcc",
            "void" => "sudo xbps-install gcc",
            "nixos" => "nix-shell -p gcc",
            _ => return None,
        })
    });
    known.unwrap_or("install gcc with the package manager of this system").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn wanted() -> Pinned {
        Pinned { channel: "1.95.0".to_owned(), targets: vec!["a".to_owned(), "b".to_owned()] }
    }

    #[test]
    fn the_pinned_toolchain_is_read_from_its_file() {
        let text = fs::read_to_string(guest::source_folder().unwrap().join("rust-toolchain.toml")).unwrap();
        let found = pinned(&text);
        assert!(found.channel.starts_with("1."), "{found:?}");
        assert_eq!(found.targets, ["x86_64-unknown-linux-musl", "x86_64-unknown-uefi"]);
        assert_eq!(pinned("nothing"), Pinned::default());
    }

    #[test]
    fn a_toolchain_is_judged_by_version_targets_and_who_can_bring_it() {
        let all =
            Seen { cargo: true, rustc: Some("1.95.0".to_owned()), rustup: false, missing_targets: vec![] };
        let without = Seen { missing_targets: vec!["b".to_owned()], ..all.clone() };
        let none = Seen { cargo: false, rustc: None, rustup: false, missing_targets: wanted().targets };
        let cases = [
            (all.clone(), true, Status::Ok, "1.95.0 with a, b"),
            (
                Seen { rustc: Some("1.99.0".to_owned()), ..all },
                true,
                Status::Warning,
                "1.99.0 in place of 1.95.0",
            ),
            (without.clone(), false, Status::Missing, "1.95.0 without b"),
            (Seen { rustup: true, ..without.clone() }, false, Status::Warning, "1.95.0 without b"),
            (Seen { rustup: true, ..without }, true, Status::Missing, "1.95.0 without b"),
            (Seen { rustup: true, ..none.clone() }, false, Status::Warning, "no toolchain 1.95.0"),
            (none, false, Status::Missing, "neither cargo nor rustup"),
        ];
        for (seen, offline, status, words) in cases {
            let check = judge(&wanted(), &seen, offline);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.found.starts_with(words), "{check:?}");
            assert_eq!(check.fix.is_some(), status != Status::Ok);
        }
        let check = judge(
            &wanted(),
            &Seen { cargo: false, rustc: None, rustup: true, missing_targets: vec![] },
            true,
        );
        assert_eq!(check.fix.as_deref(), Some("rustup toolchain install 1.95.0 --target a --target b"));
    }

    #[test]
    fn the_way_to_a_compiler_is_that_of_the_system() {
        let cases = [
            ("ID=debian\n", "apt-get"),
            ("PRETTY_NAME=\"x\"\nID=\"linuxmint\"\nID_LIKE=\"ubuntu debian\"\n", "apt-get"),
            ("ID=fedora\n", "dnf"),
            ("", "package manager"),
        ];
        for (text, word) in cases {
            assert!(install_compiler(text).contains(word), "{text:?}");
        }
    }
}
