use std::path::Path;

use proptest::prelude::*;

use super::super::testing::{any_manifest, file, manifest, other};
use super::*;
use crate::build::Manifest;

const RECIPE: &str = "\
name: demo
version: 0.1.0
architecture: x86_64
debian:
  suites: [trixie]
packages:
  - openssh-server
  - busybox
provides:
  - systemd (= 257)
replace: [/usr/lib/os-release]
drop:
  - /usr/share/man
files:
  - path: /etc/motd
    content: hello
applets:
  program: /usr/bin/busybox
  names: [sh]
kernel:
  package: linux-image-cloud-amd64
  modules: [fs/fat/**]
initramfs:
  modules: [virtio_blk]
";

fn demo() -> Manifest {
    let by =
        |path: &str, origin: &str| ManifestFile { origin: Some(origin.to_owned()), ..file(path, None, 10) };
    let mut shell = other("/usr/bin/sh", "symlink", None, Some("busybox"));
    shell.origin = Some("recipe".to_owned());
    manifest(
        &[
            ("busybox", true, &["libc6"]),
            ("libc6", false, &["libgcc-s1"]),
            ("libgcc-s1", false, &["libc6"]),
            ("libpam0g", false, &["libc6"]),
            ("openssh-client", false, &["libc6"]),
            ("openssh-server", true, &["libpam0g", "openssh-client"]),
        ],
        vec![
            other("/usr/bin", "directory", Some("busybox"), None),
            file("/usr/bin/[", Some("busybox"), 1),
            file("/usr/bin/busybox", Some("busybox"), 5000),
            other("/usr/bin/loop", "symlink", Some("busybox"), Some("loop2")),
            other("/usr/bin/loop2", "symlink", Some("busybox"), Some("/bin/loop")),
            other("/usr/bin/scp", "hardlink", Some("openssh-client"), Some("/usr/bin/ssh")),
            shell,
            file("/usr/bin/ssh", Some("openssh-client"), 9000),
            other("/usr/etc", "directory", None, None),
            by("/usr/etc/motd", "recipe"),
            other("/usr/etc/mtab", "symlink", None, Some("../proc/self/mounts")),
            other("/usr/etc/os-release", "symlink", None, Some("../usr/lib/os-release")),
            other("/usr/lib64", "symlink", None, Some("lib")),
            by("/usr/lib/os-release", "ferrite"),
            file("/usr/lib/libc.so.6", Some("libc6"), 8000),
            file("/usr/share/factory/var/lib/seed", Some("libpam0g"), 7),
        ],
    )
}

/// The answer in the demo image, with its recipe.
fn told(query: &str, detail: Detail) -> String {
    let made = demo();
    let recipe = Recipe::parse("r.yaml", RECIPE.as_bytes(), Path::new("")).unwrap();
    let source = Source { recipe: &recipe, text: RECIPE, file: "r.yaml" };
    let image = Image::new(&made);
    Why::new(&image, Some(source)).answer(query, detail).unwrap().to_string()
}

#[test]
fn a_package_is_explained_by_the_shortest_chain() {
    assert_eq!(
        told("libpam0g", Detail::Chain),
        "libpam0g 1: 4.0 KiB in 1 file
  openssh-server (r.yaml:7 asks for it) -> libpam0g
  1 package needs it directly (--all shows them)
"
    );
    assert_eq!(
        told("busybox:amd64", Detail::Chain),
        "busybox 1: 12.0 KiB in 4 files\n  busybox (r.yaml:8 asks for it)\n"
    );
    assert_eq!(
        told("libpam0g", Detail::All),
        "libpam0g 1: 4.0 KiB in 1 file
  openssh-server (r.yaml:7 asks for it) -> libpam0g

needed directly by:
  openssh-server: openssh-server (r.yaml:7 asks for it)

without it, 3 packages would go, 16.0 KiB:
  libpam0g, openssh-client, openssh-server
  asked for by the recipe: openssh-server
  (unless another package can take its place)
"
    );
}

#[test]
fn a_path_is_followed_through_links_to_who_brought_it() {
    let cases = [
        (
            "/usr/bin/ssh",
            "/usr/bin/ssh: file of openssh-client 1, 12.0 KiB
  openssh-server (r.yaml:7 asks for it) -> openssh-client
",
        ),
        (
            "/bin/sh",
            "/bin/sh is /usr/bin/sh in the image
/usr/bin/sh is a link to busybox of the recipe, r.yaml:19
/usr/bin/busybox: file of busybox 1, 8.0 KiB
  busybox (r.yaml:8 asks for it)
",
        ),
        (
            "usr/bin/scp",
            "/usr/bin/scp is another name of /usr/bin/ssh (a hard link)
/usr/bin/ssh: file of openssh-client 1, 12.0 KiB
  openssh-server (r.yaml:7 asks for it) -> openssh-client
",
        ),
        (
            "/lib64/libc.so.6",
            "/lib64/libc.so.6 is /usr/lib64/libc.so.6 in the image
/usr/lib64 is a link to lib of Ferrite itself
/usr/lib/libc.so.6: file of libc6 1, 8.0 KiB
  busybox (r.yaml:8 asks for it) -> libc6
",
        ),
        (
            "/etc/motd",
            "/etc/motd is /usr/etc/motd in the image
/usr/etc/motd: file of the recipe, 4.0 KiB
  r.yaml:15 adds it
",
        ),
        (
            "/etc/os-release",
            "/etc/os-release is /usr/etc/os-release in the image
/usr/etc/os-release is a link to ../usr/lib/os-release of Ferrite itself
/usr/lib/os-release: file of Ferrite itself, 4.0 KiB
  one of its programs or units, or made in place of what packages' scripts would do
  it wins over a package's: `replace:` at r.yaml:11
",
        ),
        (
            "/var/lib/seed",
            "/var/lib/seed is /usr/share/factory/var/lib/seed in the image
/usr/share/factory/var/lib/seed: file of libpam0g 1, 4.0 KiB
  openssh-server (r.yaml:7 asks for it) -> libpam0g
",
        ),
        (
            "/usr/bin/[",
            "/usr/bin/[: file of busybox 1, 4.0 KiB
  busybox (r.yaml:8 asks for it)
",
        ),
        (
            "/usr/bin/",
            "/usr/bin: folder of busybox 1, 24.0 KiB
  busybox (r.yaml:8 asks for it)
what is in it:
   12.0 KiB  busybox (4 files): busybox (r.yaml:8 asks for it)
   12.0 KiB  openssh-client (2 files): openssh-server (r.yaml:7 asks for it) -> openssh-client
        0 B  (the recipe) (1 file)
",
        ),
        (
            "/bin/s*",
            "3 paths match /bin/s*, 12.0 KiB:
   12.0 KiB  openssh-client (2 files): openssh-server (r.yaml:7 asks for it) -> openssh-client
        0 B  (the recipe) (1 file)
--all lists every path
",
        ),
    ];
    for (query, want) in cases {
        assert_eq!(told(query, Detail::Chain), want, "{query}");
    }
    assert!(told("/bin/s*", Detail::All).contains("\n   12.0 KiB  /usr/bin/ssh (openssh-client)\n"));
}

#[test]
fn what_is_not_there_is_explained() {
    let cases = [
        (
            "/usr/share/man/man1/ls.1.gz",
            "  the recipe's rule `drop: /usr/share/man` (r.yaml:13) keeps it out, should a package bring it\n",
        ),
        ("systemd", "  Ferrite stands in for it: `provides:` of the recipe (r.yaml:10)\n"),
        ("/usr/sbin/ssh", "  similar, and there: /usr/bin/ssh\n"),
        ("/usr/bin/busibox", "  similar, and there: /usr/bin/busybox\n"),
        ("openssh", "  similar, and there: openssh-client, openssh-server\n"),
        ("ssh", "  similar, and there: openssh-client, openssh-server, /usr/bin/ssh\n"),
        ("/run/lock", "  it is made when the machine boots\n"),
        (
            "/home/core",
            "  it is on the state partition: folders there are made at boot by /usr/lib/tmpfiles.d\n",
        ),
        (
            "/boot/vmlinuz-6.12.0-cloud-amd64",
            "  the kernel 6.12.0-cloud-amd64 is a part of the slot, beside /usr: `ferrite size` shows it\n",
        ),
        (
            "/lib/modules/6.12.0-cloud-amd64/kernel/fs/xfs/xfs.ko.xz",
            "  the recipe's `kernel: modules:` (r.yaml:22) keeps other modules only\n",
        ),
        ("/usr/bin/loop", "  its links lead to each other\n"),
        (
            "/etc/mtab",
            "/usr/etc/mtab is a link to ../proc/self/mounts of Ferrite itself
/etc/mtab is not in the image
  /proc/self/mounts, where the link leads, is not there
  it is made when the machine boots
",
        ),
        ("/usr/*/nothing", "  no path of it matches the pattern\n"),
    ];
    for (query, want) in cases {
        let text = told(query, Detail::Chain);
        assert!(text.contains(want), "{query}:\n{text}");
        assert!(text.contains(&format!("{query} is not in the image\n")), "{text}");
    }
    // Without the recipe, nothing is said about its rules but how to have them looked at.
    let made = demo();
    let image = Image::new(&made);
    let answer = Why::new(&image, None).answer("/usr/share/man", Detail::Chain).unwrap();
    assert_eq!(
        answer.to_string(),
        "/usr/share/man is not in the image\n  with --recipe FILE, the rules of that recipe are looked at\n"
    );
}

#[test]
fn a_broken_pattern_is_an_error() {
    let made = demo();
    let image = Image::new(&made);
    let error = Why::new(&image, None).answer("/usr/**x", Detail::Chain).unwrap_err().to_string();
    assert_eq!(
        error,
        "`**` in `/usr/**x` is not alone\nhint: `**` stands between slashes, `*` matches within a name"
    );
}

#[test]
fn answers_are_json_that_scripts_can_use() {
    let made = demo();
    let image = Image::new(&made);
    let why = Why::new(&image, None);
    let json = |query: &str| serde_json::to_value(why.answer(query, Detail::All).unwrap()).unwrap();
    let package = json("libpam0g");
    assert_eq!(package["is"], "package");
    assert_eq!(package["chain"]["packages"], serde_json::json!(["openssh-server", "libpam0g"]));
    assert_eq!(package["without"]["given_up"], serde_json::json!(["openssh-server"]));
    let path = json("/bin/sh");
    assert_eq!((&path["is"], &path["package"]), (&"path".into(), &"busybox".into()));
    assert_eq!(
        (&path["steps"][1]["step"], &path["steps"][1]["origin"]),
        (&"symlink".into(), &"recipe".into())
    );
    assert_eq!(json("/usr/bin/s*")["matches"].as_array().unwrap().len(), 3);
    assert_eq!(json("/run/x")["reasons"][0]["reason"], "runtime");
}

proptest! {
    #[test]
    fn every_question_has_an_answer(manifest in any_manifest(), query in "(/(usr|bin|etc|lib)(/[a-c*\\[]{1,2}){0,3}|[a-f]{2}|\\PC{0,8})") {
        let image = Image::new(&manifest);
        let why = Why::new(&image, None);
        if let Ok(answer) = why.answer(&query, Detail::All) {
            prop_assert!(!answer.to_string().is_empty());
        }
        for file in &manifest.files {
            let answer = why.answer(&file.path, Detail::Chain).unwrap();
            let lost = matches!(answer, Answer::Missing(_));
            // Only links may lead out of the image.
            prop_assert!(!lost || manifest.files.iter().any(|file| file.target.is_some()), "{}", answer);
        }
        for package in &manifest.packages {
            let found = matches!(why.answer(&package.name, Detail::All).unwrap(), Answer::Package(_));
            prop_assert!(found);
        }
    }
}
