use super::*;

const GOOD: &str = "\
name: demo
version: 0.1.0
architecture: x86_64
debian:
  suites: [trixie, trixie-security]
packages:
  - bash
provides:
  - systemd (= 257)
  - awk
files:
  - path: /etc/motd
    content: hello
    owner: root:10
    mode: \"0600\"
  - path: /etc/link
    symlink: ../usr/x
  - path: /var/lib/demo
    directory: true
    owner: core:core
applets:
  program: /usr/bin/busybox
  names: [ls]
users:
  - name: core
    uid: 500
    groups: [sudo]
kernel:
  package: linux-image-cloud-amd64
  command_line: >-
    console=ttyS0
    quiet
initramfs:
  modules: [virtio_blk, dm-verity]
partitions:
  usr: 512MiB
budgets:
  - {package: bash, at_most: 2MiB}
  - {path: /usr/lib/modules, at_most: 90MiB}
  - {part: slot, at_most: 200MiB}
units:
  enable: [ssh.service]
";

fn parse(text: &str) -> Result<Recipe, Diagnostics> {
    Recipe::parse("r.yaml", text.as_bytes(), Path::new("recipes"))
}

/// The findings in [`GOOD`] with one part of it replaced.
fn findings(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from:?} is not in the text");
    match parse(&GOOD.replacen(from, to, 1)) {
        Ok(_) => Vec::new(),
        Err(all) => all.as_slice().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_recipe_becomes_typed_values_with_defaults() {
    let recipe = parse(GOOD).unwrap();
    assert_eq!(recipe.file_stem(), "demo-0.1.0-x86_64");
    assert_eq!(recipe.debian.components[0].as_str(), "main");
    assert_eq!(recipe.provides[0].version.as_deref(), Some("257"));
    assert_eq!(recipe.provides[1].version, None);
    assert_eq!(recipe.kernel.command_line, "console=ttyS0 quiet");
    assert_eq!(recipe.kernel.modules, KeepModules::All);
    assert_eq!(recipe.initramfs_modules[1].as_str(), "dm_verity");
    assert_eq!((recipe.partitions.esp.bytes(), recipe.partitions.usr.bytes()), (64 << 20, 512 << 20));
    let budgets: Vec<String> =
        recipe.budgets.iter().map(|budget| format!("{}: {}", budget.subject, budget.at_most)).collect();
    assert_eq!(budgets, ["package bash: 2MiB", "path /usr/lib/modules: 90MiB", "part slot: 200MiB"]);
    assert_eq!(recipe.units.default.as_str(), "multi-user.target");
    assert_eq!(recipe.keys.signing, SigningKey::Development);
    assert_eq!((recipe.rollback_index, recipe.minimum_loader), (0, 1));
    let motd = &recipe.files[0];
    assert_eq!((motd.mode, &motd.owner.user, &motd.owner.group), (0o600, &Account::Id(0), &Account::Id(10)));
    assert_eq!(recipe.files[2].source, FileSource::Directory);
    let applet = &recipe.files[3];
    assert_eq!(
        (applet.path.as_str(), &applet.source),
        ("/usr/bin/ls", &FileSource::Symlink("busybox".into()))
    );
    let core = &recipe.users[0];
    assert_eq!((core.home.as_str(), core.shell.as_str()), ("/home/core", "/bin/sh"));
    assert_eq!(core.group, PrimaryGroup::Own { gid: 500 });
}

#[test]
fn a_tree_goes_to_the_root_and_keeps_its_owners_unless_it_is_told_otherwise() {
    let trees = "trees:\n  - source: a/b.tar.zst\n  - {source: c, to: /var/lib/x, owner: \"7:_ssh\"}\n  - {source: d, to: /}\nkernel:";
    let recipe = parse(&GOOD.replacen("kernel:", trees, 1)).unwrap();
    let [archive, folder, root] = &recipe.trees[..] else { panic!("{:?}", recipe.trees) };
    assert_eq!((archive.source.to_str(), &archive.to, &archive.owner), (Some("a/b.tar.zst"), &None, &None));
    assert_eq!(folder.to.as_ref().map(ImagePath::as_str), Some("/var/lib/x"));
    assert_eq!(folder.owner.as_ref().unwrap().user, Account::Id(7));
    assert_eq!(root.to, None);
}

#[test]
fn every_broken_rule_is_refused_where_it_stands() {
    let cases: &[(&str, &str, &str)] = &[
        ("name: demo", "name: Demo_1", "r.yaml:1:7: error: `Demo_1` is no product name"),
        ("version: 0.1.0", "version: 1,0", "r.yaml:2:10: error: `1,0` is no image version"),
        ("architecture: x86_64", "architecture: amd64", "hint: write `x86_64`"),
        (
            "architecture: x86_64",
            "architecture: arm64",
            "r.yaml:3:15: error: images for 64-bit ARM cannot be built yet",
        ),
        ("suites: [trixie, trixie-security]", "suites: []", "no suite is given"),
        (
            "suites: [trixie, trixie-security]",
            "suites: [trixie, trixie]",
            "r.yaml:5:20: error: `trixie` is listed twice",
        ),
        ("debian:", "debian:\n  mirrors: [ftp://x]", "r.yaml:5:13: error: mirror `ftp://x`"),
        ("- bash", "- bash (>= 5)", "hint: write `bash` alone"),
        ("- bash", "- bash\n  - curl\n  - bash", "r.yaml:9:5: error: `bash` is listed twice"),
        ("systemd (= 257)", "systemd (>= 257)", "is no provided package"),
        ("path: /etc/motd", "path: etc/motd", "hint: write `/etc/motd`"),
        ("path: /etc/motd", "path: /etc/../motd", "has a `..` component"),
        ("path: /etc/motd", "path: /bin/x", "hint: write `/usr/bin/x`"),
        ("path: /etc/motd", "path: /usr/etc/motd", "hint: write `/etc/motd`"),
        ("path: /etc/motd", "path: /var/motd", "the image cannot hold `/var/motd`"),
        ("path: /etc/motd", "path: /etc/link", "`/etc/link` is listed twice"),
        ("path: /etc/motd", "path: /etc/link/x", "cannot both exist"),
        ("content: hello", "content: hello\n    source: x", "`content`, `source` exclude each other"),
        ("content: hello", "source: ../x", "leads out of the recipe's folder"),
        ("content: hello", "source: /etc/passwd", "leads out of the recipe's folder"),
        ("    content: hello\n", "", "nothing says what `/etc/motd` is"),
        ("owner: root:10", "owner: root", "hint: write `user:group`"),
        (
            "mode: \"0600\"",
            "mode: 600",
            "r.yaml:15:11: error: files[0].mode: the file mode is the number 600",
        ),
        ("mode: \"0600\"", "mode: \"0800\"", "`0800` is no file mode"),
        ("symlink: ../usr/x", "symlink: x\n    mode: \"0777\"", "a symbolic link has no mode"),
        ("names: [ls]", "names: [busybox]", "`/usr/bin/busybox` is something else already"),
        ("names: [ls]", "names: [/bin/ls]", "`/bin/ls` is a path"),
        ("kernel:", "trees: [{to: /usr}]\nkernel:", "the key `source` is missing"),
        ("kernel:", "trees: [{source: a, form: tar}]\nkernel:", "unknown key `form`"),
        (
            "kernel:",
            "trees:\n  - source: ../a\nkernel:",
            "r.yaml:29:13: error: `../a` leads out of the recipe's folder",
        ),
        ("kernel:", "trees: [{source: ./.}]\nkernel:", "the recipe's own folder"),
        ("kernel:", "trees: [{source: /a}]\nkernel:", "leads out of the recipe's folder"),
        ("kernel:", "trees: [{source: a, to: /lib}]\nkernel:", "hint: write `/usr/lib`"),
        ("kernel:", "trees: [{source: a, to: /usr/etc/x}]\nkernel:", "hint: write `/etc/x`"),
        ("kernel:", "trees: [{source: a, to: /opt}]\nkernel:", "the image cannot hold `/opt`"),
        ("kernel:", "trees: [{source: a, to: usr}]\nkernel:", "hint: write `/usr`"),
        ("kernel:", "trees: [{source: a, owner: root}]\nkernel:", "hint: write `user:group`"),
        (
            "kernel:",
            "trees: [{source: a}, {source: ./a, to: /}]\nkernel:",
            "`./a` goes to the same place twice",
        ),
        ("uid: 500", "uid: 0", "hint: 0 is root"),
        ("uid: 500", "uid: 65534", "hint: 65534 is nobody"),
        ("uid: 500", "uid: 500\n    group: x\n    gid: 5", "`gid` and `group` exclude each other"),
        ("uid: 500", "uid: 500\n  - name: core\n    uid: 501", "user `core` is listed twice"),
        ("uid: 500", "uid: 500\n  - name: b\n    uid: 500", "user `core` has the uid 500 too"),
        ("uid: 500", "uid: 500\n    gecos: a:b", "the description cannot be stored"),
        ("name: core", "name: root", "`root` is always there"),
        ("kernel:", "groups: [{name: core, gid: 7}]\nkernel:", "there are two groups `core`"),
        ("kernel:", "groups: [{name: x, gid: 500}]\nkernel:", "group `core` has the gid 500 too"),
        ("    quiet", "    panic=5", "the command line sets `panic`"),
        ("    quiet", "    ferrite.slot=1", "the command line sets `ferrite.slot`"),
        ("    quiet", "    ä", "not printable ASCII"),
        ("[virtio_blk, dm-verity]", "[dm_verity, dm-verity]", "`dm-verity` is listed twice"),
        ("usr: 512MiB", "usr: 512MB", "powers of 1024"),
        ("usr: 512MiB", "usr: 1MiB", "no sensible size for the partition `usr`"),
        ("usr: 512MiB", "usr: 512", "hint: write `512MiB` or `512GiB`"),
        ("package: bash, at", "at", "r.yaml:38:5: error: nothing says what the budget is for"),
        ("package: bash, at", "package: bash, part: usr, at", "`package`, `part` exclude each other"),
        ("package: bash, at", "package: Bash, at", "r.yaml:38:15: error: `Bash` is no package name"),
        ("package: bash, at", "pakage: bash, at", "hint: did you mean `package`?"),
        ("bash, at_most: 2MiB", "bash", "the key `at_most` is missing"),
        ("at_most: 2MiB", "at_most: 2MB", "r.yaml:38:30: error: size `2MB` has an unknown unit"),
        ("at_most: 2MiB", "at_most: 2", "hint: write `2MiB` or `2GiB`"),
        ("at_most: 2MiB", "at_most: 0MiB", "size `0MiB` is nothing"),
        ("path: /usr/lib/modules", "path: /lib/modules", "hint: write `/usr/lib/modules`"),
        ("path: /usr/lib/modules", "path: /usr/etc/x", "hint: write `/etc/x`"),
        ("part: slot", "part: slots", "hint: did you mean `slot`?"),
        ("part: slot", "part: esp", "hint: the parts are slot, usr, verity, kernel, initramfs"),
        ("path: /usr/lib/modules", "package: bash", "r.yaml:39:5: error: package bash has two budgets"),
        ("[ssh.service]", "[ssh]", "hint: write `ssh.service`"),
        ("[ssh.service]", "[ssh.service]\n  mask: [ssh.service]", "is enabled and masked"),
        ("[ssh.service]", "[ssh.service]\n  default: ssh.service", "is no target"),
        (
            "packages:",
            "drop: [usr/share]\npackages:",
            "r.yaml:6:8: error: pattern `usr/share` is not absolute",
        ),
        ("packages:", "minimum_loader: 0\npackages:", "loader versions start at 1"),
        ("packages:", "pakages:", "hint: did you mean `packages`?"),
    ];
    for (from, to, want) in cases {
        let found = findings(from, to);
        assert!(found.iter().any(|finding| finding.contains(want)), "{to:?}: {found:#?} lacks {want:?}");
    }
}

#[test]
fn all_broken_rules_are_told_at_once_in_order() {
    let text = GOOD
        .replace("name: demo", "name: D")
        .replace("uid: 500", "uid: 0")
        .replace("usr: 512MiB", "usr: lots")
        .replace("path: /etc/motd", "path: motd");
    let lines: Vec<usize> =
        parse(&text).unwrap_err().as_slice().iter().map(|finding| finding.position.unwrap().line).collect();
    assert_eq!(lines, [1, 12, 26, 36]);
}

#[test]
fn the_recipes_of_this_repository_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    for name in ["ferrite.yaml", "minimal.yaml"] {
        let recipe = Recipe::load(&folder.join(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(recipe.initramfs_modules[0].as_str(), "i6300esb", "SAFETY 16: the watchdog comes first");
        assert_eq!(recipe.folder, folder);
    }
}

#[test]
fn a_recipe_that_is_not_there_is_an_error_that_names_it() {
    let error = Recipe::load(Path::new("nowhere/r.yaml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the recipe nowhere/r.yaml");
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let page = include_str!("../../../docs/recipe.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    parse(example).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_snippet_of_the_reference_is_valid() {
    let page = include_str!("../../../docs/recipe.md");
    for snippet in page.split("```yaml\n").skip(2).filter_map(|rest| rest.split("```").next()) {
        let given: Vec<&str> = snippet
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split(':').next())
            .collect();
        // The snippet's keys take the place of the same keys of a recipe that is complete.
        let mut text = String::from(snippet);
        let mut skipping = false;
        for line in GOOD.lines() {
            if !line.starts_with(' ') {
                skipping = given.iter().any(|key| line.split(':').next() == Some(key));
            }
            if !skipping {
                text.push_str(line);
                text.push('\n');
            }
        }
        parse(&text).unwrap_or_else(|error| panic!("{error}\nin the snippet\n{snippet}"));
    }
}
