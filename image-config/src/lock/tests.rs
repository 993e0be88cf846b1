use proptest::prelude::*;

use super::*;

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER: &str = "00b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn text() -> String {
    format!(
        "# A comment.\nferrite-lock 1\narchitecture amd64\ncomponent main\nsuite trixie 2026-09-12T07:55:41Z\n\
         suite trixie-security 2026-11-01T00:00:00Z\nrequest bash\nrequest linux-image\nprovide awk\n\
         provide linux-image 6.12\npackage bash 5.2.37-2+b5 amd64 trixie 1500000 {DIGEST} pool/main/b/bash/bash.deb\n\
         package libc6 2.41-12 amd64 trixie-security 3000000 {OTHER} pool/main/g/glibc/libc6.deb\n"
    )
}

fn parse(text: &str) -> Result<Lock, String> {
    Lock::parse("r.lock", text.as_bytes()).map_err(|findings| findings.to_string())
}

fn recipe(changes: &[(&str, &str)]) -> Recipe {
    let mut text = "name: x\nversion: '1'\narchitecture: x86_64\ndebian:\n  suites: [trixie, trixie-security]\n\
                    packages: [bash]\nprovides: [linux-image (= 6.12), awk]\nkernel:\n  package: linux-image\n\
                    initramfs:\n  modules: [ext4]\n"
        .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    Recipe::parse("r.yaml", text.as_bytes(), Path::new("")).unwrap()
}

#[test]
fn a_lock_is_read_and_written() {
    let lock = parse(&text()).unwrap();
    assert_eq!(lock.packages().len(), 2);
    let libc = lock.package("libc6").unwrap();
    assert_eq!(
        (libc.suite.as_str(), libc.size, libc.sha256.to_string().as_str()),
        ("trixie-security", 3_000_000, OTHER)
    );
    let dates: Vec<_> = lock.suites().map(|(suite, date)| format!("{suite} {date}")).collect();
    assert_eq!(dates, ["trixie 2026-09-12T07:55:41Z", "trixie-security 2026-11-01T00:00:00Z"]);
    // But for its comment, the text is the one form that a lock has.
    let written = lock.to_string();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), text().lines().skip(1).collect::<Vec<_>>());
    assert_eq!(parse(&written).unwrap(), lock);
}

#[test]
fn lines_may_come_in_any_order_and_with_any_blanks() {
    let mut lines: Vec<String> = text().lines().skip(2).map(|line| format!("  {line} \r\n\r\n")).collect();
    lines.reverse();
    // But for the suites, whose order decides between equal versions.
    let found = lines.iter().position(|line| line.contains("suite trixie ")).unwrap();
    lines.swap(found, found - 1);
    assert_eq!(parse(&format!("ferrite-lock 1\n{}", lines.concat())).unwrap(), parse(&text()).unwrap());
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("ferrite-lock 1", "ferrite-lock 2", &["r.lock:2:14: error: lock file of form `2`", "newer ferrite"]),
        ("ferrite-lock 1\n", "", &["r.lock:2:1: error: a lock file begins with `ferrite-lock 1`"]),
        (
            "package bash",
            "pakage bash",
            &["r.lock:11:1: error: unknown word `pakage`", "did you mean `package`?"],
        ),
        (
            "request bash",
            "<<<<<<< HEAD\nrequest bash",
            &["r.lock:7:1: error: the file has the marks of a merge"],
        ),
        (
            " pool/main/b/bash/bash.deb",
            "",
            &["r.lock:11:1: error: `package` does not take 6 words", "BYTES SHA256 FILE"],
        ),
        (DIGEST, &DIGEST[1..], &["r.lock:11:47: error: `3b0c", "this has 63 characters"]),
        (DIGEST, &DIGEST.to_uppercase(), &["is no SHA-256 digest"]),
        (OTHER, DIGEST, &["r.lock:12:53: error: the digest of libc6 is that of another package"]),
        (
            "g/glibc/libc6.deb",
            "b/bash/bash.deb",
            &["r.lock:12:118: error: the file pool/main/b/bash/bash.deb"],
        ),
        ("package libc6", "package bash", &["r.lock:12:9: error: package bash is locked twice"]),
        ("request linux-image", "request bash", &["r.lock:8:9: error: `bash` is there twice"]),
        ("provide awk", "provide linux-image 6.12", &["r.lock:10:9: error: `linux-image` is there twice"]),
        ("trixie 1500000", "sid 1500000", &["r.lock:11:32: error: package bash is of suite sid"]),
        (
            "2+b5 amd64",
            "2+b5 arm64",
            &["r.lock:11:26: error: package bash is of architecture arm64", "for amd64"],
        ),
        ("1500000", "0", &["`0` is no size"]),
        ("1500000", "+5", &["`+5` is no size"]),
        ("pool/main/b", "../main/b", &["is no path of a mirror's file"]),
        ("pool/main/b", "http://x/b", &["is no path of a mirror's file"]),
        ("2026-09-12T07:55:41Z", "2026-09-12", &["r.lock:5:14: error: `2026-09-12` is no date"]),
        ("suite trixie-security", "suite trixie", &["r.lock:6:7: error: `trixie` is there twice"]),
        (
            "request bash",
            "request zsh",
            &["r.lock:7:9: error: zsh is asked for, but neither locked nor provided"],
        ),
        (
            "provide linux-image 6.12",
            "provide linux-image x",
            &["r.lock:10:21: error: `x` is no package version"],
        ),
        ("architecture amd64\n", "", &["the lock file has no line `architecture`"]),
        ("component main\n", "component main\ncomponent main\n", &["`main` is there twice"]),
        (
            "architecture amd64\n",
            "architecture amd64\narchitecture i386\n",
            &["r.lock:4:14: error: a second architecture"],
        ),
    ];
    for (from, to, phrases) in cases {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from:?}");
        let message = parse(&changed).unwrap_err();
        for phrase in *phrases {
            assert!(message.contains(phrase), "{from:?} -> {to:?}: no {phrase:?} in\n{message}");
        }
        assert!(message.contains("hint: "), "{message}");
    }
    assert!(parse("").unwrap_err().contains("the lock file is empty"));
    assert!(Lock::parse("r.lock", b"\xff").unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_file_that_is_no_lock_has_few_findings() {
    let message = parse(&format!("ferrite-lock 1\n{}", "junk\n".repeat(1000))).unwrap_err();
    assert_eq!(message.matches("unknown word").count(), 30);
}

#[test]
fn a_lock_matches_its_recipe_whatever_the_order() {
    let lock = parse(&text()).unwrap();
    assert_eq!(lock.differences(&Inputs::of(&recipe(&[]))), Vec::<String>::new());
    // The rest of a recipe decides nothing about packages.
    let other = recipe(&[
        ("name: x", "name: y"),
        ("[ext4]", "[erofs]"),
        ("provides: [linux-image (= 6.12), awk]", "provides: [awk, linux-image (= 6.12)]"),
    ]);
    assert!(lock.differences(&Inputs::of(&other)).is_empty());
    for (from, to, want) in [
        ("[bash]", "[bash, zsh]", "the recipe asks for zsh, the lock does not"),
        (
            "[bash]",
            "[bash, aa, bb, cc, dd, ee, ff, gg]",
            "the recipe asks for aa, bb, cc, dd, ee and 2 more, the lock does not",
        ),
        ("packages: [bash]", "packages: []", "the lock is for a recipe that asks for bash"),
        (", awk]", "]", "the lock is for a recipe that provides awk"),
        ("6.12", "6.13", "the recipe provides linux-image (= 6.13), the lock does not"),
        (
            "[trixie, trixie-security]",
            "[trixie]",
            "suites: the recipe has trixie, the lock trixie, trixie-security",
        ),
        (
            "security]",
            "security]\n  components: [main, contrib]",
            "components: the recipe has main, contrib, the lock main",
        ),
    ] {
        let found = lock.differences(&Inputs::of(&recipe(&[(from, to)])));
        assert!(found.iter().any(|difference| difference == want), "{found:?}");
    }
}

#[test]
fn changes_between_locks_are_told_apart() {
    let old = parse(&text()).unwrap();
    let upgraded = text().replace("5.2.37-2+b5", "5.2.37-2+b6").replace("package libc6", "package libc7");
    let changes = Changes::between(Some(&old), &parse(&upgraded).unwrap());
    let names = |packages: &[LockedPackage]| packages.iter().map(|p| p.name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(&changes.added), names(&changes.removed)),
        (vec!["libc7".to_owned()], vec!["libc6".to_owned()])
    );
    assert_eq!(changes.changed.len(), 1);
    assert_eq!(changes.changed[0].to.version.as_str(), "5.2.37-2+b6");
    // The content of bash is the same, so that only libc7 is to be fetched.
    assert_eq!(changes.download_bytes(), 3_000_000);
    assert!(Changes::between(Some(&old), &old).is_empty());
    assert_eq!(Changes::between(None, &old).added.len(), 2);
}

#[test]
fn packages_that_break_a_rule_make_no_lock() {
    let lock = parse(&text()).unwrap();
    let dates: Vec<_> = lock.suites().map(|(_, date)| date).collect();
    let twice = [lock.packages(), lock.packages()].concat();
    let error = Lock::new(lock.inputs().clone(), dates.clone(), twice).unwrap_err();
    assert_eq!(error.to_string(), "package bash is locked twice");
    assert!(Lock::new(lock.inputs().clone(), Vec::new(), lock.packages().to_vec()).is_err());
    assert_eq!(
        Lock::new(lock.inputs().clone(), dates, lock.packages().iter().rev().cloned().collect()),
        Ok(lock)
    );
}

prop_compose! {
    fn packages()(rows in prop::collection::btree_map("[a-z0-9][a-z0-9+.-]{1,8}", ("[0-9][a-z0-9.+~:-]{0,8}", any::<bool>(), 1..u64::MAX, any::<bool>()), 1..20)) -> Vec<LockedPackage> {
        rows.into_iter().enumerate().map(|(index, (name, (version, all, size, security)))| {
            let mut digest = [7; 32];
            digest[0] = index as u8;
            LockedPackage {
                filename: PoolPath::parse(&format!("pool/main/{name}_{version}.deb")).unwrap(),
                name: PackageName::parse(&name).unwrap(),
                version: PackageVersion::parse(&version).unwrap(),
                architecture: if all { "all" } else { "amd64" }.to_owned(),
                suite: Suite::parse(if security { "trixie-security" } else { "trixie" }).unwrap(),
                size,
                sha256: Sha256(digest),
            }
        }).collect()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(packages in packages(), seconds in 0..200_000_000_000_u64) {
        let mut inputs = Inputs::of(&recipe(&[]));
        inputs.requests = packages.iter().map(|package| package.name.clone()).step_by(2).collect();
        let date = ReleaseDate::from_unix(seconds).unwrap();
        let lock = Lock::new(inputs, vec![date, date], packages).unwrap();
        prop_assert_eq!(Lock::parse("x", lock.to_string().as_bytes()).unwrap(), lock);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Lock::parse("x", &bytes);
    }

    #[test]
    fn any_damage_never_panics_and_places_are_in_the_text(at in 0..700_usize, junk in "\\PC{0,3}|[\\n\\t ]") {
        let mut text = text();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert_str(at, &junk);
        if let Err(findings) = Lock::parse("x", text.as_bytes()) {
            for finding in findings.as_slice() {
                let place = finding.position.map_or(1, |at| at.line);
                prop_assert!((1..=text.lines().count()).contains(&place));
            }
        }
    }
}
