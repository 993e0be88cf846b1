//! Lock files: what a build takes when recipe, lock file and mirrors agree, and when they do not.
//!
//! With a lock file no signature is needed, so that most of this runs on packages and servers made up here. What needs signed
//! indexes takes Debian's own, from the user's cache when it has them, as every build does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails by panicking is a test that fails"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use builder::packages::{self, Origin, PackagesError, Plan, Sourcing, Supply};
use common::{Deb, Server, ferrite};
use debian::cache::Cache;
use debian::progress::Silent;
use image_config::lock::{Inputs, Lock};
use image_config::recipe::Recipe;
use tempfile::TempDir;

/// A recipe with a lock file, in a folder with a cache.
struct Lab {
    folder: TempDir,
    debs: Vec<Deb>,
}

const DATE: &str = "2026-09-12T07:55:41Z";

impl Lab {
    /// `app` needs `library`, which needs something that the recipe provides; `kernel` stands alone.
    fn new() -> Self {
        let debs = vec![
            Deb::new("app", "1.0", "Depends: library (>= 2), absent | systemd\n"),
            Deb::new("kernel", "6.12", ""),
            Deb::new("library", "2.0", "Section: libs\nDepends: systemd (>= 250)\n"),
        ];
        let lab =
            Self { folder: TempDir::with_prefix_in("lock-", env!("CARGO_TARGET_TMPDIR")).unwrap(), debs };
        lab.write_recipe("[app]");
        lab.write_lock(&lab.lock_text(&["app", "kernel"]));
        lab
    }

    fn recipe(&self) -> PathBuf {
        self.folder.path().join("recipe.yaml")
    }

    fn lock(&self) -> PathBuf {
        self.folder.path().join("recipe.lock")
    }

    fn write_recipe(&self, packages: &str) {
        fs::write(self.recipe(), recipe_text(packages, "kernel")).unwrap();
    }

    fn write_lock(&self, text: &str) {
        fs::write(self.lock(), text).unwrap();
    }

    fn lock_text(&self, requests: &[&str]) -> String {
        let mut text = format!(
            "ferrite-lock 1\narchitecture amd64\ncomponent main\nsuite trixie {DATE}\nprovide systemd 257\n"
        );
        text.extend(requests.iter().map(|name| format!("request {name}\n")));
        text.extend(self.debs.iter().map(Deb::lock_line));
        text
    }

    /// A server that has all packages but these.
    fn server_without(&self, gone: &[&str]) -> Server {
        let there = self.debs.iter().filter(|deb| !gone.contains(&deb.name.as_str()));
        Server::start(there.map(|deb| (deb.path(), deb.bytes.clone())).collect())
    }

    fn sourcing(&self, mirror: &Server, snapshot: &Server) -> Sourcing {
        Sourcing {
            mirrors: vec![mirror.base.clone()],
            snapshot: Some(format!("{}/archive", snapshot.base)),
            ..Sourcing::usual(Cache::at(self.folder.path().join("cache")))
        }
    }

    fn plan(&self, sourcing: &Sourcing) -> Result<Plan, PackagesError> {
        let recipe = Recipe::load(&self.recipe()).unwrap();
        packages::plan(&recipe, &self.recipe(), sourcing, Arc::new(Silent))
    }

    fn supply(&self, sourcing: &Sourcing) -> Result<Supply, PackagesError> {
        self.plan(sourcing)?.supply()
    }
}

fn recipe_text(packages: &str, kernel: &str) -> String {
    format!(
        "name: x\nversion: '1'\narchitecture: x86_64\ndebian:\n  suites: [trixie]\npackages: {packages}\n\
         provides: [systemd (= 257)]\nkernel:\n  package: {kernel}\ninitramfs:\n  modules: [erofs]\n"
    )
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn a_build_from_a_lock_opens_no_index() {
    let lab = Lab::new();
    let (mirror, snapshot) = (lab.server_without(&[]), lab.server_without(&[]));
    let plan = lab.plan(&lab.sourcing(&mirror, &snapshot)).unwrap();
    assert_eq!((plan.origin(), mirror.asked().len()), (Origin::Lock, 0), "a plan fetches nothing");
    let planned = plan.digest();
    let supply = plan.supply().unwrap();
    assert_eq!((supply.origin, supply.digest, supply.notes.len()), (Origin::Lock, planned, 0));
    let mut asked = mirror.asked();
    asked.sort();
    assert_eq!(asked, ["pool/app_1.0.deb", "pool/kernel_6.12.deb", "pool/library_2.0.deb"]);
    assert_eq!(snapshot.asked().len(), 0);
    // What the lock does not say comes from the packages themselves.
    let library = &supply.unpacked[2].package;
    assert_eq!((library.section.as_str(), library.depends.len()), ("libs", 1));
    let chain: Vec<_> = supply.closure.why("library").iter().map(|s| s.package.to_string()).collect();
    assert_eq!(chain, ["app 1.0", "library 2.0"]);
}

#[test]
fn the_digest_of_a_closure_is_that_of_its_files() {
    let lab = Lab::new();
    let (mirror, snapshot) = (lab.server_without(&[]), lab.server_without(&[]));
    let sourcing = lab.sourcing(&mirror, &snapshot);
    let digest = || lab.plan(&sourcing).unwrap().digest();
    let first = digest();
    // The order of lines and the dates of indexes decide nothing.
    let mut lines: Vec<_> = fs::read_to_string(lab.lock()).unwrap().lines().map(str::to_owned).collect();
    lines[1..].reverse();
    lab.write_lock(&lines.join("\n").replace(DATE, "2026-09-13T07:55:41Z"));
    assert_eq!(digest(), first);
    lab.write_lock(&lab.lock_text(&["app", "kernel"]).replace("app 1.0", "app 1.1"));
    assert_ne!(digest(), first);
}

#[test]
fn what_the_mirrors_have_dropped_comes_from_the_snapshot_archive() {
    let lab = Lab::new();
    let mirror = lab.server_without(&["library"]);
    let library = lab.debs[2].bytes.clone();
    // A day after the index was made.
    let path = "archive/debian/20260913T075541Z/pool/library_2.0.deb";
    let snapshot = Server::start([(path.to_owned(), library)].into());
    for locked in [false, true] {
        let cache = Cache::at(lab.folder.path().join(format!("cache-{locked}")));
        let sourcing = Sourcing { locked, cache, ..lab.sourcing(&mirror, &snapshot) };
        let supply = lab.supply(&sourcing).unwrap();
        assert_eq!((supply.origin, supply.unpacked.len()), (Origin::Lock, 3));
        assert_eq!(supply.notes.len(), 1);
        assert!(supply.notes[0].contains("snapshot archive: library 2.0"), "{:?}", supply.notes);
    }
    assert!(mirror.asked().iter().all(|path| path.starts_with("pool/")));
    assert!(snapshot.asked().iter().all(|asked| asked == path), "{:?}", snapshot.asked());
}

#[test]
fn locked_packages_that_are_nowhere_any_more_are_all_named() {
    let lab = Lab::new();
    let (mirror, snapshot) = (lab.server_without(&["library", "app"]), Server::start([].into()));
    let sourcing = Sourcing { locked: true, ..lab.sourcing(&mirror, &snapshot) };
    let message = lab.supply(&sourcing).unwrap_err().to_string();
    for phrase in
        ["2 of the packages", "recipe.lock", "app 1.0 (", "library 2.0 (", "404", "\nhint: `ferrite lock`"]
    {
        assert!(message.contains(phrase), "no {phrase:?} in {message}");
    }
    // Both moments were tried.
    let moments = ["20260913T075541Z", "20260912T075541Z"]
        .map(|time| format!("archive/debian/{time}/pool/app_1.0.deb"));
    assert!(moments.iter().all(|moment| snapshot.asked().contains(moment)), "{:?}", snapshot.asked());
}

#[test]
fn offline_a_lock_and_a_cache_are_enough() {
    let lab = Lab::new();
    let (mirror, snapshot) = (lab.server_without(&[]), lab.server_without(&[]));
    let online = lab.sourcing(&mirror, &snapshot);
    let offline = Sourcing { offline: true, ..online.clone() };
    let message = lab.supply(&offline).unwrap_err().to_string();
    assert!(message.contains("lacks app_1.0_all, kernel_6.12_all, library_2.0_all"), "{message}");
    assert_eq!(mirror.asked().len(), 0);
    let fetched = lab.supply(&online).unwrap();
    let asked = mirror.asked().len();
    let cached = lab.supply(&Sourcing { locked: true, ..offline }).unwrap();
    assert_eq!(cached.digest, fetched.digest);
    assert_eq!((mirror.asked().len(), snapshot.asked().len()), (asked, 0));
}

#[test]
fn a_lock_whose_lines_were_edited_is_refused() {
    for (from, to, phrases) in [
        ("package app 1.0", "package app 1.1", ["it is app_1.0_all, but", "app_1.1_all"]),
        ("package library 2.0", "package librarx 2.0", ["it is library_2.0_all, but", "librarx_2.0_all"]),
    ] {
        let lab = Lab::new();
        let (mirror, snapshot) = (lab.server_without(&[]), lab.server_without(&[]));
        lab.write_lock(&lab.lock_text(&["app", "kernel"]).replace(from, to));
        let message = chain(&lab.supply(&lab.sourcing(&mirror, &snapshot)).unwrap_err());
        assert!(phrases.iter().all(|phrase| message.contains(phrase)), "{message}");
    }
    let lab = Lab::new();
    let (mirror, snapshot) = (lab.server_without(&[]), lab.server_without(&[]));
    let (without, _) = lab
        .lock_text(&["app", "kernel"])
        .split_once("package library")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    lab.write_lock(&without);
    let message = chain(&lab.supply(&lab.sourcing(&mirror, &snapshot)).unwrap_err());
    assert!(
        message.contains("do not fit together") && message.contains("app needs library (>= 2)"),
        "{message}"
    );
}

#[test]
fn locked_refuses_a_lock_that_is_missing_or_of_another_recipe() {
    let lab = Lab::new();
    let build = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
        command
            .arg("build")
            .arg("--recipe")
            .arg(lab.recipe())
            .arg("--out")
            .arg(lab.folder.path().join("out"));
        common::outcome(command.args(arguments).env("FERRITE_CACHE", lab.folder.path().join("cache")))
    };
    lab.write_recipe("[app, zutils]");
    let found = build(&["--locked"]);
    assert_eq!((found.code, found.stdout.as_str()), (1, ""), "{found:?}");
    for phrase in
        ["recipe.lock is not for this recipe", "asks for zutils, the lock does not", "hint: `ferrite lock`"]
    {
        assert!(found.stderr.contains(phrase), "no {phrase:?} in {}", found.stderr);
    }
    lab.write_lock("ferrite-lock 1\npackage x\n");
    for arguments in [&["--locked"][..], &[]] {
        let found = build(arguments);
        assert_eq!(found.code, 1);
        assert!(
            found.stderr.contains("recipe.lock:2:1: error: `package` does not take 1 words"),
            "{found:?}"
        );
    }
    fs::remove_file(lab.lock()).unwrap();
    let found = build(&["--locked"]);
    assert_eq!(found.code, 1);
    assert!(
        found.stderr.contains("there is no lock file") && found.stderr.contains("hint: `ferrite lock`"),
        "{found:?}"
    );
}

#[test]
fn the_recipes_of_the_checkout_have_their_locks() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("recipes");
    for name in ["ferrite", "minimal"] {
        let recipe = recipes.join(format!("{name}.yaml"));
        let lock = Lock::load(&Lock::path_beside(&recipe)).unwrap().unwrap();
        let differences = lock.differences(&Inputs::of(&Recipe::load(&recipe).unwrap()));
        assert!(
            differences.is_empty(),
            "{name}: {differences:?}: run `ferrite lock --recipe recipes/{name}.yaml`"
        );
        assert!(!lock.to_string().contains("://"), "a lock names no mirror");
        assert_eq!(lock.to_string(), fs::read_to_string(Lock::path_beside(&recipe)).unwrap());
    }
}

/// A small recipe of Debian's own packages, and its current lock.
fn debians() -> (Lab, Lock) {
    let lab = Lab::new();
    fs::write(lab.recipe(), recipe_text("[netbase]", "busybox-static")).unwrap();
    let usual = Sourcing::usual(Cache::from_env());
    let lock = packages::lock(&Recipe::load(&lab.recipe()).unwrap(), &usual, Arc::new(Silent)).unwrap();
    // Into the user's cache, which the server below serves.
    lab.write_lock(&lock.to_string());
    lab.supply(&usual).unwrap();
    (lab, lock)
}

/// Serves the packages of a lock and the indexes from the user's cache.
fn debian_mirror(lock: &Lock) -> Server {
    let files = lock.packages().iter().map(|package| {
        let object = Cache::from_env().object_path(debian::digest::Digest(package.sha256.0));
        (package.filename.to_string(), object)
    });
    common::mirror_of_cache(files.collect())
}

#[test]
fn a_build_goes_on_when_a_locked_package_is_nowhere_any_more() {
    let (lab, lock) = debians();
    let mirror = debian_mirror(&lock);
    let nothing = Server::start([].into());
    // A version that never was.
    let netbase = lock.package("netbase").unwrap();
    let gone = lock
        .to_string()
        .replace(&format!("netbase {}", netbase.version), "netbase 0.1")
        .replace(&netbase.sha256.to_string(), &"12".repeat(32))
        .replace(netbase.filename.as_str(), "pool/main/n/netbase/netbase_0.1_all.deb");
    lab.write_lock(&gone);
    let sourcing = lab.sourcing(&mirror, &nothing);
    let message = lab.supply(&Sourcing { locked: true, ..sourcing.clone() }).unwrap_err().to_string();
    assert!(message.contains("netbase 0.1 ("), "{message}");
    assert!(!mirror.asked().iter().any(|path| path.contains("dists/")), "{:?}", mirror.asked());
    let supply = lab.supply(&sourcing).unwrap();
    assert_eq!(supply.origin, Origin::Indexes);
    let taken: Vec<_> = supply.closure.selected.iter().map(|s| s.package.to_string()).collect();
    let locked: Vec<_> = lock.packages().iter().map(|p| format!("{} {}", p.name, p.version)).collect();
    assert_eq!(taken, locked, "the current version, and the others as they were");
    assert_eq!(supply.notes.len(), 2, "{:?}", supply.notes);
    let note = &supply.notes[0];
    assert!(
        note.contains("netbase 0.1 is neither on the mirrors") && note.contains(netbase.version.as_str()),
        "{note}"
    );
    assert!(supply.notes[1].contains("`ferrite lock`"), "{:?}", supply.notes);
}

#[test]
fn a_lock_of_another_recipe_or_none_is_told_and_the_indexes_decide() {
    let (lab, lock) = debians();
    let mirror = debian_mirror(&lock);
    let sourcing = lab.sourcing(&mirror, &mirror);
    fs::write(lab.recipe(), recipe_text("[]", "busybox-static")).unwrap();
    let plan = lab.plan(&sourcing).unwrap();
    assert_eq!(plan.origin(), Origin::Indexes);
    assert!(plan.notes()[0].contains("asks for netbase"), "{:?}", plan.notes());
    let supply = plan.supply().unwrap();
    assert_eq!(supply.unpacked.len(), lock.packages().len() - 1);
    fs::remove_file(lab.lock()).unwrap();
    let first = lab.plan(&sourcing).unwrap();
    assert!(first.notes()[0].contains("no lock file"), "{:?}", first.notes());
    assert_eq!(first.digest(), supply.digest);
    // What was resolved is remembered, and is the same.
    let offline = Sourcing { offline: true, ..sourcing };
    assert_eq!(lab.plan(&offline).unwrap().digest(), first.digest());
}

#[test]
fn lock_writes_what_has_changed_and_nothing_else() {
    let (lab, lock) = debians();
    let run = |arguments: &[&str]| {
        let recipe = lab.recipe().display().to_string();
        ferrite(["lock", "--recipe", &recipe].into_iter().chain(arguments.iter().copied()))
    };
    let read = || fs::read_to_string(lab.lock()).unwrap();
    fs::remove_file(lab.lock()).unwrap();
    let check = run(&["--check"]);
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stderr.contains("there is no lock file") && !lab.lock().exists(), "{check:?}");
    let written = run(&[]);
    assert_eq!(written.code, 0, "{written:?}");
    let netbase = lock.package("netbase").unwrap();
    assert!(written.stdout.contains(&format!("+ netbase {}\n", netbase.version)), "{written:?}");
    assert_eq!(read(), lock.to_string());
    // Older indexes with the same packages are no reason to write.
    let (_, date) = lock.suites().next().unwrap();
    lab.write_lock(&read().replace(&date.to_string(), "2026-01-01T00:00:00Z"));
    let again = run(&[]);
    assert_eq!((again.code, again.stdout.as_str()), (0, ""));
    assert!(again.stderr.contains("up to date") && read().contains("2026-01-01"), "{again:?}");
    assert_eq!(run(&["--check"]).code, 0);
    // An older package is.
    lab.write_lock(&read().replace(&format!("netbase {}", netbase.version), "netbase 0.1"));
    let check = run(&["--check", "--json"]);
    assert_eq!(check.code, 1);
    let json: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!((&json["changed"], &json["upgraded"][0]["from"]), (&true.into(), &"0.1".into()), "{json}");
    let upgraded = run(&["--offline"]);
    assert_eq!(upgraded.stdout, format!("~ netbase 0.1 -> {}\n", netbase.version));
    assert_eq!(read(), lock.to_string());
    // So is a recipe that asks for less, or a file that is none.
    fs::write(lab.recipe(), recipe_text("[]", "busybox-static")).unwrap();
    let fewer = run(&[]);
    assert_eq!(fewer.stdout, format!("- netbase {}\n", netbase.version));
    assert!(fewer.stderr.contains("for a recipe that asks for netbase"), "{fewer:?}");
    lab.write_lock("<<<<<<< HEAD\n");
    let check = run(&["--check"]);
    assert!(
        check.code == 1 && check.stderr.contains("recipe.lock:1:1: error: a lock file begins with"),
        "{check:?}"
    );
    assert_eq!(run(&[]).code, 0);
    assert_eq!(fs::read_dir(lab.folder.path()).unwrap().count(), 2, "no file is left behind");
}

#[test]
fn lock_tells_failure_from_a_lock_that_is_behind() {
    let lab = Lab::new();
    fs::write(lab.recipe(), recipe_text("[netbasee]", "busybox-static")).unwrap();
    let recipe = lab.recipe().display().to_string();
    let (failed, check) =
        (ferrite(["lock", "--recipe", &recipe]), ferrite(["lock", "--check", "--recipe", &recipe]));
    assert_eq!((failed.code, check.code), (1, 2));
    for found in [failed, check] {
        assert!(found.stderr.contains("there is no package \"netbasee\""), "{found:?}");
        assert!(found.stderr.contains("did you mean netbase"), "{found:?}");
    }
    assert_eq!(ferrite(["lock", "--recipe", &lab.lock().display().to_string()]).code, 1);
    assert_eq!(ferrite(["lock", "--mirror", "ftp://x"]).code, 2);
}

#[test]
fn validate_knows_lock_files() {
    let lab = Lab::new();
    let path = lab.lock().display().to_string();
    let good = ferrite(["validate", &path]);
    assert_eq!((good.code, good.stdout.as_str()), (0, ""));
    assert!(good.stderr.contains("a valid lock file of 3 packages"), "{good:?}");
    lab.write_lock(&lab.lock_text(&["app", "kernel"]).replace("provide", "provides"));
    let bad = ferrite(["validate", &path]);
    assert_eq!(bad.code, 1);
    assert!(bad.stdout.contains("recipe.lock:5:1: error: unknown word `provides`"), "{bad:?}");
    assert!(bad.stdout.contains("hint: did you mean `provide`?"), "{bad:?}");
    let missing = ferrite(["validate", "/nonexistent/recipe.lock"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("cannot read /nonexistent/recipe.lock"), "{missing:?}");
}
