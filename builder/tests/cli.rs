//! The `ferrite` command as its users run it: what it refuses, how it says so, and what it leaves behind.
//!
//! Packages come from the user's cache when it has them, as in every build.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails by panicking is a test that fails"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use debian::cache::Cache;
use tempfile::TempDir;

/// What a run came to.
#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ferrite<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_ferrite")).args(arguments))
}

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn scratch() -> TempDir {
    TempDir::with_prefix_in("cli-", env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The minimal recipe with some text replaced and some added at its end.
struct Recipe {
    folder: TempDir,
    path: PathBuf,
}

impl Recipe {
    fn new(changes: &[(&str, &str)], added: &str) -> Self {
        let mut text = fs::read_to_string(source().join("recipes/minimal.yaml")).unwrap();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "{from:?} is not once in the minimal recipe");
            text = text.replace(from, to);
        }
        text.push_str(added);
        let folder = scratch();
        let path = folder.path().join("recipe.yaml");
        fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    /// The minimal recipe as it is, with its lock file: the same packages whatever the mirrors have by now.
    fn locked() -> Self {
        let recipe = Self::new(&[], "");
        fs::copy(source().join("recipes/minimal.lock"), recipe.path.with_extension("lock")).unwrap();
        recipe
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn build(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
        command.arg("build").arg("--recipe").arg(&self.path).arg("--out").arg(self.out());
        command
    }

    /// The build fails with one error that has these phrases and a hint, and leaves nothing behind.
    fn is_refused(&self, phrases: &[&str]) -> String {
        self.refusal(&mut self.build(), phrases)
    }

    fn refusal(&self, command: &mut Command, phrases: &[&str]) -> String {
        let found = outcome(command);
        assert_eq!(found.code, 1, "{found:?}");
        assert_eq!(found.stdout, "");
        let text = &found.stderr;
        assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
        for phrase in phrases.iter().chain(&["hint: "]) {
            assert!(text.contains(phrase), "no {phrase:?} in:\n{text}");
        }
        assert!(text.ends_with('\n') && !text.contains("panicked"), "{text}");
        let left: Vec<_> =
            fs::read_dir(self.out()).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
        found.stderr
    }
}

/// The minimal image, built once for all tests of this process.
fn image() -> &'static Path {
    static IMAGE: OnceLock<(Recipe, PathBuf)> = OnceLock::new();
    let (_, path) = IMAGE.get_or_init(|| {
        let recipe = Recipe::locked();
        let built = outcome(&mut recipe.build());
        assert_eq!(built.code, 0, "{built:?}");
        let path = PathBuf::from(built.stdout.trim_end());
        assert_eq!(path, recipe.out().join("ferrite-minimal-0.1.0-x86_64.raw"));
        (recipe, path)
    });
    path
}

#[test]
fn an_unknown_package_is_refused_with_the_name_that_was_meant() {
    let recipe = Recipe::new(&[("- busybox-static", "- busybox-statik")], "");
    // What to do is in the line itself.
    let found = outcome(&mut recipe.build());
    assert_eq!(found.code, 1);
    assert!(
        found.stderr.contains("there is no package \"busybox-statik\" in trixie, trixie-security"),
        "{found:?}"
    );
    assert!(found.stderr.contains("did you mean busybox-static"), "{found:?}");
    assert_eq!(fs::read_dir(recipe.out()).unwrap().count(), 0);
}

#[test]
fn a_dependency_that_nothing_satisfies_is_refused_with_the_way_to_it() {
    // The security suite has the kernel, but not what the kernel asks for.
    let changes = [
        ("[trixie, trixie-security]", "[trixie-security]"),
        (
            "  - base-passwd         # root and nobody\n  - busybox-static\n  - e2fsprogs ",
            "  - linux-image-cloud-amd64 ",
        ),
        ("  - kmod (= 34.2)\n", ""),
    ];
    let text = Recipe::new(&changes, "").is_refused(&[
        "linux-image-cloud-amd64",
        "cannot be installed",
        "kmod",
        "`provides:`",
    ]);
    assert!(text.contains("kmod: there is no such package"), "{text}");
}

#[test]
fn packages_that_exclude_each_other_are_refused_with_both_names() {
    let recipe = Recipe::new(&[("- e2fsprogs ", "- busybox\n  - e2fsprogs ")], "");
    recipe.is_refused(&["busybox-static", "busybox 1:", "exclude each other"]);
}

#[test]
fn a_path_of_two_packages_is_refused_with_both_names() {
    // zutils wraps gzip's programs and counts on its scripts to move them out of the way.
    let recipe = Recipe::new(&[("- e2fsprogs ", "- gzip\n  - zutils\n  - e2fsprogs ")], "");
    recipe.is_refused(&["/usr/bin/z", " comes from gzip ", " and from zutils ", "`replace:`"]);
}

#[test]
fn a_path_of_a_package_and_the_recipe_is_refused_unless_it_is_replaced() {
    let files = "files:\n  - path: /usr/bin/busybox\n    content: no\n";
    let recipe = Recipe::new(&[], files);
    recipe.is_refused(&["/usr/bin/busybox comes from busybox-static", "from the recipe", "`replace:`"]);
}

#[test]
fn content_that_does_not_fit_is_refused_with_what_takes_the_room() {
    let changes = [
        ("usr: 128MiB", "usr: 32MiB"),
        ("- e2fsprogs ", "- linux-image-cloud-amd64\n  - e2fsprogs "),
        ("    - fs/fat/**\n", "    - fs/**\n    - drivers/**\n"),
    ];
    let text = Recipe::new(&changes, "").is_refused(&["the largest files:", "`partitions: usr:`"]);
    let (head, list) = text.split_once("the largest files:\n").unwrap();
    assert!(head.contains("MiB and has 32.0, ") && head.ends_with(" bytes too few\n"), "{head}");
    let rows: Vec<_> = list.lines().take_while(|line| !line.starts_with("hint")).collect();
    assert_eq!(rows.len(), 10, "{text}");
    assert!(rows.iter().all(|row| row.contains(" MiB  /usr/")), "{text}");
}

#[test]
fn a_file_system_that_is_full_is_an_error_with_the_file_and_no_image() {
    image();
    let recipe = Recipe::new(&[], "");
    // A limit on the size of files is what an ordinary user can set; the write that hits it fails like one on a full disk.
    let mut command = Command::new("sh");
    let build = recipe.build();
    command.args(["-c", "trap '' XFSZ; ulimit -f 24000; exec \"$0\" \"$@\""]);
    command.arg(build.get_program()).args(build.get_args());
    recipe.refusal(&mut command, &["caused by: File too large", "make room", "--out"]);
}

#[test]
fn what_stood_under_the_image_name_survives_a_build_that_fails() {
    image();
    let recipe = Recipe::new(&[], "");
    fs::create_dir(recipe.out()).unwrap();
    let old = recipe.out().join("ferrite-minimal-0.1.0-x86_64.raw");
    fs::write(&old, "old").unwrap();
    let mut command = Command::new("sh");
    let build = recipe.build();
    command.args(["-c", "trap '' XFSZ; ulimit -f 24000; exec \"$0\" \"$@\""]);
    assert_eq!(outcome(command.arg(build.get_program()).args(build.get_args())).code, 1);
    assert_eq!(fs::read_to_string(&old).unwrap(), "old");
    assert_eq!(fs::read_dir(recipe.out()).unwrap().count(), 1);
}

#[test]
fn a_mirror_that_is_not_there_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let recipe = Recipe::new(&[], "");
    let mirror = format!("http://127.0.0.1:{port}/debian");
    let mut command = recipe.build();
    command.args(both_archives(&mirror)).env("FERRITE_CACHE", recipe.folder.path().join("cache"));
    let text = recipe
        .refusal(&mut command, &["cannot fetch dists/trixie", &mirror, "Connection refused", "--mirror"]);
    // A mirror that fails the same way each time is told once, and once in the error.
    assert!(text.matches("Connection refused").count() <= 4, "{text}");
}

#[test]
fn an_empty_cache_without_network_is_told() {
    let recipe = Recipe::new(&[], "");
    let mut command = recipe.build();
    command.arg("--offline").env("FERRITE_CACHE", recipe.folder.path().join("cache"));
    recipe.refusal(&mut command, &["offline, and the cache in", "lacks", "without --offline"]);
}

/// Serves the indexes that the user's cache has; `alter` changes them. The first package breaks off, and with it the whole mirror
/// ends.
fn dying_mirror(alter: fn(Vec<u8>) -> Vec<u8>) -> String {
    // A locked build needs no indexes; this fetches them, whatever it says of the lock file.
    let recipe = source().join("recipes/minimal.yaml");
    ferrite([Path::new("lock"), Path::new("--check"), Path::new("--recipe"), &recipe]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if !serve(stream, alter) {
                return;
            }
        }
    });
    url
}

/// Options that make it the mirror of both archives: of the security archive alone, well-known mirrors would be asked too.
fn both_archives(mirror: &str) -> [String; 4] {
    let option = || "--mirror".to_owned();
    [option(), mirror.to_owned(), option(), format!("{mirror}-security")]
}

/// Answers one request; false when the mirror shall end.
fn serve(mut stream: TcpStream, alter: fn(Vec<u8>) -> Vec<u8>) -> bool {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    if path.contains("/pool/") {
        // Nothing can be done about a client that has gone.
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n!<arch>\nand then nothing");
        return false;
    }
    let root = Cache::from_env().root().to_owned();
    let found = if path.ends_with("/InRelease") {
        let suite = path.trim_end_matches("/InRelease").rsplit('/').next().unwrap_or_default();
        // The cache has one folder for each list of mirrors: `SUITE-KEY`.
        let folders = fs::read_dir(root.join("releases")).unwrap().map(|entry| entry.unwrap().path());
        let of_suite = |folder: &PathBuf| {
            folder
                .file_name()
                .and_then(|name| name.to_str()?.rsplit_once('-'))
                .is_some_and(|(name, _)| name == suite)
        };
        let files = folders.filter(of_suite).map(|folder| folder.join("InRelease"));
        let newest = files.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        newest.and_then(|path| fs::read(path).ok()).map(alter)
    } else {
        let hash = path.rsplit('/').next().unwrap_or_default();
        hash.get(..2).and_then(|start| fs::read(root.join("by-hash/sha256").join(start).join(hash)).ok())
    };
    let answer = match found {
        Some(body) => {
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.into_bytes(), body].concat()
        }
        None => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
    };
    let _ = stream.write_all(&answer);
    true
}

#[test]
fn a_mirror_that_goes_down_mid_way_is_told_with_the_package() {
    let mirror = dying_mirror(|bytes| bytes);
    let recipe = Recipe::new(&[], "");
    let mut command = recipe.build();
    command.args(both_archives(&mirror)).env("FERRITE_CACHE", recipe.folder.path().join("cache"));
    let text = recipe.refusal(&mut command, &["cannot fetch pool/", ".deb", &mirror, "Connection refused"]);
    assert!(!text.contains("InRelease"), "the indexes came whole:\n{text}");
}

#[test]
fn an_index_that_was_tampered_with_is_refused_by_name() {
    let mirror = dying_mirror(|bytes| {
        String::from_utf8(bytes).unwrap().replacen("Codename: trixie", "Codename: trixxe", 1).into_bytes()
    });
    let recipe = Recipe::new(&[], "");
    let mut command = recipe.build();
    command.args(both_archives(&mirror)).env("FERRITE_CACHE", recipe.folder.path().join("cache"));
    recipe.refusal(&mut command, &["dists/trixie", "InRelease", "signature", "cannot be trusted"]);
}

#[test]
fn keys_that_are_missing_or_garbage_are_refused_by_file() {
    for (keys, phrases) in [
        ("keys:\n  signing: none.pem\n", ["cannot read key file", "none.pem", "relative to the recipe"]),
        ("keys:\n  signing: garbage.pem\n", ["garbage.pem", "not an Ed25519 private key", "openssl genpkey"]),
        ("keys:\n  trusted: [garbage.pem]\n", ["garbage.pem", "not an Ed25519 public key", "-pubout"]),
    ] {
        let recipe = Recipe::new(&[], keys);
        fs::write(recipe.folder.path().join("garbage.pem"), "garbage\n").unwrap();
        recipe.is_refused(&phrases);
    }
    // The two halves in each other's place.
    let development = |name: &str| source().join("keys").join(name).display().to_string();
    let public = format!("keys:\n  signing: {}\n", development("development.pub"));
    Recipe::new(&[], &public).is_refused(&["development.pub", "not an Ed25519 private key"]);
    let private = format!("keys:\n  trusted: [{}]\n", development("development.key"));
    Recipe::new(&[], &private).is_refused(&["development.key", "not an Ed25519 public key"]);
}

#[test]
fn malformed_yaml_is_shown_in_its_line() {
    let recipe = Recipe::new(&[("\npartitions:\n  esp: 64MiB", "\npartitions:\n\tesp: 64MiB")], "");
    let place = format!("{}:", recipe.path.display());
    recipe.is_refused(&[
        &place,
        ":1: error: a tab in the indentation",
        "| \tesp: 64MiB\n",
        "| ^\n",
        "spaces",
    ]);
}

#[test]
fn validate_tells_valid_from_broken_from_unreadable() {
    for recipe in ["minimal", "ferrite"] {
        let found = ferrite([Path::new("validate"), &source().join(format!("recipes/{recipe}.yaml"))]);
        assert_eq!((found.code, found.stdout.as_str()), (0, ""), "{found:?}");
    }
    let broken = Recipe::new(&[("\npackages:", "\npakages:"), ("usr: 128MiB", "usr: 1GB")], "");
    let found = ferrite([Path::new("validate"), &broken.path]);
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains(":10:1: error: unknown key `pakages`"), "{found:?}");
    assert!(found.stdout.contains("^^^^^^^\nhint: did you mean `packages`?\n"), "{found:?}");
    let missing = ferrite(["validate", "/nonexistent/recipe.yaml"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("cannot read /nonexistent/recipe.yaml"), "{missing:?}");
}

#[test]
fn validate_judges_user_data_and_units() {
    let seeds = source().join("image-config/tests/seeds");
    let printed = seeds.join("user-data.yml");
    let found = ferrite([Path::new("validate"), &printed]);
    assert_eq!((found.code, found.stderr.as_str()), (1, ""), "{found:?}");
    let want = "user-data.yml:15:2: error: the indentation of `fleet:` does not match: 1 space, where the lines above have 0 or 2\n   \
                |\n15 |  fleet:\n   |  ^^^^^\nhint: indent it by 2 to put it beside `units:` (line 10), by 0 to put it beside `coreos:` (line 2)\n";
    assert!(found.stdout.ends_with(want), "{}", found.stdout);

    let fixed = seeds.join("user-data.fixed.yml");
    let found = ferrite([Path::new("validate"), &fixed]);
    assert_eq!(found.code, 0, "{found:?}");
    assert_eq!(found.stdout.matches(": warning: ").count(), 3, "{found:?}");
    assert!(found.stderr.contains("a valid cloud-config, with 3 warnings"), "{found:?}");
    assert_eq!(ferrite([Path::new("validate"), Path::new("--strict"), &fixed]).code, 1);
    let found = ferrite([Path::new("validate"), Path::new("--json"), &fixed]);
    let json: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(
        (&json["valid"], json["findings"].as_array().map(Vec::len)),
        (&serde_json::json!(true), Some(3))
    );

    // Without the first line: told, and the rest judged all the same.
    let folder = tempfile::tempdir().unwrap();
    let headless = folder.path().join("user-data.yml");
    let text = fs::read_to_string(&printed).unwrap().replacen("#cloud-config\n", "", 1);
    fs::write(&headless, text).unwrap();
    let found = ferrite([Path::new("validate"), &headless]);
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains(":1:1: error: must be \"#cloud-config\""), "{found:?}");
    assert!(found.stdout.contains(":14:2: error: the indentation of `fleet:`"), "{found:?}");

    let found = ferrite([Path::new("validate"), &seeds.join("nginx-sidekick@.service")]);
    assert!(
        found.stdout.contains("nginx-sidekick@.service:7:1: warning: `ExecStart=` is ignored"),
        "{found:?}"
    );
    let found = ferrite([Path::new("validate"), &seeds.join("nginx@.service")]);
    assert_eq!((found.code, found.stdout.as_str()), (0, ""), "{found:?}");
    let found = ferrite([Path::new("validate"), &seeds.join("fleet.service.d/40-fleet-metadata.conf")]);
    assert_eq!((found.code, found.stdout.as_str()), (0, ""), "{found:?}");
}

#[test]
fn inspect_explains_an_image_for_people_and_for_scripts() {
    let found = ferrite([Path::new("inspect"), image(), Path::new("--verify")]);
    assert_eq!(found.code, 0, "{found:?}");
    for phrase in ["EFI-SYSTEM", "USR-A", "USR-B", "OEM", "ferrite-minimal 0.1.0", "DEVELOPMENT KEY"] {
        assert!(found.stdout.contains(phrase), "no {phrase:?} in {}", found.stdout);
    }
    let found = ferrite([Path::new("inspect"), Path::new("--json"), image()]);
    let json: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(json["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(json["slots"]["USR-A"]["priority"], 2);
    assert_eq!(json["slots"]["USR-B"]["empty"], true);
    let slot = image().with_extension("usr");
    assert_eq!(ferrite([Path::new("inspect"), &slot]).code, 0);
}

#[test]
fn inspect_says_what_is_no_image_and_what_is_damaged() {
    let folder = scratch();
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, [0x5a; 10_000]).unwrap();
    for path in [garbage.as_path(), Path::new("/dev/null")] {
        let found = ferrite([Path::new("inspect"), path]);
        assert_eq!((found.code, found.stdout.as_str()), (1, ""));
        assert!(found.stderr.contains("neither a disk image"), "{found:?}");
    }
    let found = ferrite([Path::new("inspect"), folder.path()]);
    assert!(found.code == 1 && found.stderr.contains("directory"), "{found:?}");
    let found = ferrite(["inspect", "/nonexistent"]);
    assert!(found.code == 1 && found.stderr.contains("No such file"), "{found:?}");
    // The first half of a disk: the table is there, its copy and half of the slots are not.
    let half = folder.path().join("half.raw");
    let mut command = Command::new("cp");
    assert!(command.args(["--sparse=always", "--"]).arg(image()).arg(&half).status().unwrap().success());
    let file = fs::File::options().write(true).open(&half).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let found = ferrite([Path::new("inspect"), &half]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.stdout.contains("problem") && found.stderr.is_empty(), "{found:?}");
}

#[test]
fn an_image_is_explained_from_its_manifest() {
    let image = image().to_str().unwrap();
    let shell = ferrite(["why", "--image", image, "/bin/sh"]);
    assert_eq!((shell.code, shell.stderr.as_str()), (0, ""), "{shell:?}");
    assert!(shell.stdout.contains("/usr/bin/sh is a link to busybox of the recipe\n"), "{shell:?}");
    assert!(shell.stdout.contains("\n  busybox-static (the recipe asks for it)\n"), "{shell:?}");
    let recipe = source().join("recipes/minimal.yaml");
    let dropped =
        ferrite(["why", "--image", image, "--recipe", recipe.to_str().unwrap(), "/usr/include/ext2fs"]);
    assert_eq!(dropped.code, 1, "{dropped:?}");
    assert!(dropped.stdout.contains("`drop: /usr/include` ("), "{dropped:?}");

    let size = ferrite(["size", "--image", image, "--json", "--by", "package"]);
    let json: serde_json::Value = serde_json::from_str(&size.stdout).unwrap();
    let slot = fs::metadata(Path::new(image).with_extension("usr")).unwrap().len();
    assert_eq!((size.code, &json["slot_bytes"], &json["tree"]["bytes"]), (0, &slot.into(), &slot.into()));
    let sum: u64 =
        json["tree"]["children"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum, slot);

    let same = ferrite(["diff", image, image]);
    assert_eq!((same.code, same.stdout), (0, format!("{image} -> {image}\nthe same\n")));
}

#[test]
fn questions_about_an_image_that_is_not_there_end_with_the_next_step() {
    let recipe = Recipe::new(&[], "");
    let (path, out) = (recipe.path.to_str().unwrap(), recipe.out());
    let out = out.to_str().unwrap();
    for arguments in [
        &["why", "bash", "--recipe", path, "--out", out][..],
        &["size", "--recipe", path, "--out", out],
        &["diff", path, path, "--out", out],
    ] {
        let found = ferrite(arguments);
        let code = if arguments.contains(&"size") { 1 } else { 2 };
        assert_eq!((found.code, found.stdout.as_str()), (code, ""), "{found:?}");
        let command = format!("hint: `ferrite build --recipe {path} --out {out}` builds it\n");
        assert!(found.stderr.contains("has not been built") && found.stderr.contains(&command), "{found:?}");
    }
    let found = ferrite(["diff", path, "nowhere.raw", "--out", out]);
    assert_eq!(found.code, 2);
}

#[test]
fn an_image_that_outgrows_its_budgets_is_refused_with_all_of_them() {
    let budgets = "budgets:\n  - {part: initramfs, at_most: 1KiB}\n  - {package: e2fsprogs, at_most: 2KiB}\n  \
                   - {part: slot, at_most: 1GiB}\n  - {package: busybox-statik, at_most: 1MiB}\n";
    let text = Recipe::new(&[], budgets).is_refused(&[
        "the image outgrows its recipe's budgets",
        "part initramfs: ",
        "package e2fsprogs: ",
        "/usr/sbin/mke2fs",
        "package busybox-statik; did you mean busybox-static?",
    ]);
    assert!(!text.contains("part slot"), "{text}");
}

#[test]
fn run_refuses_what_is_no_disk_image() {
    let folder = scratch();
    let garbage = folder.path().join("garbage.raw");
    fs::write(&garbage, [0x5a; 10_000]).unwrap();
    let slot = image().with_extension("usr");
    for (path, phrase) in [
        (garbage.as_path(), "neither a disk image"),
        (slot.as_path(), "is a slot image"),
        (Path::new("/nonexistent.raw"), "No such file"),
    ] {
        let found = ferrite([Path::new("run"), Path::new("--image"), path]);
        assert_eq!((found.code, found.stdout.as_str()), (1, ""), "{found:?}");
        assert!(found.stderr.contains(phrase), "{found:?}");
    }
    // Nothing was made beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn every_command_has_help_that_tells_its_exit_codes() {
    for command in ["build", "run", "inspect", "lock", "validate", "why", "diff", "size"] {
        let found = ferrite([command, "--help"]);
        assert_eq!((found.code, found.stderr.as_str()), (0, ""), "{command}");
        assert!(found.stdout.contains("Exit codes: 0 "), "{}", found.stdout);
        assert!(found.stdout.contains("2 wrong use"), "{}", found.stdout);
    }
    assert!(ferrite(["--help"]).stdout.contains("Exit codes"));
    assert_eq!(ferrite(["--version"]).stdout, concat!("ferrite ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let cases: [(&[&str], &str); 15] = [
        (&[], "Usage: ferrite"),
        (&["biuld"], "'build'"),
        (&["build", "--recpie", "x"], "'--recipe'"),
        (&["build", "--mirror", "ftp://x"], "http or https"),
        (&["build", "--format", "raw,iso"], "[possible values: raw, qcow2, raw.zst, vhd]"),
        (&["run", "--port", "nonsense"], "HOST:GUEST"),
        (&["run", "--memory", "1"], "128 MiB"),
        (&["run", "--disk-size", "1G"], "4 GiB"),
        (&["run", "--ephemeral", "--reset"], "cannot be used with"),
        (&["inspect"], "<IMAGE>"),
        (&["why"], "<PATH|PACKAGE>"),
        (&["why", ""], "a value is required"),
        (&["why", "bash", "--image", "x.raw", "--out", "y"], "cannot be used with"),
        (&["diff", "a.raw"], "<B>"),
        (&["size", "--by", "color"], "possible values: path, package, kind"),
    ];
    for (arguments, phrase) in cases {
        let found = ferrite(arguments);
        assert_eq!((found.code, found.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(found.stderr.contains(phrase), "{arguments:?}: {}", found.stderr);
    }
    let recipe = Recipe::new(&[], "");
    let mut command = recipe.build();
    recipe
        .refusal(command.args(["--version", "A B"]), &["--version: `A B` is no image version", "lower-case"]);
}

#[test]
fn the_formats_that_are_asked_for_are_there_and_no_stale_ones() {
    let recipe = Recipe::new(&[], "");
    let at = |suffix: &str| recipe.out().join(format!("ferrite-minimal-0.1.0-x86_64.{suffix}"));
    let there = || {
        let suffixes = ["raw", "qcow2", "raw.zst", "vhd"];
        suffixes.into_iter().filter(|suffix| at(suffix).exists()).collect::<Vec<_>>()
    };
    let first = outcome(recipe.build().args(["--format", "vhd,raw"]));
    assert_eq!((first.code, first.stdout.trim_end()), (0, at("vhd").to_str().unwrap()), "{first:?}");
    assert_eq!(there(), ["raw", "vhd"]);

    // Of the same image: made from it, and what is there stays.
    let second = outcome(recipe.build().args(["--json", "--format", "qcow2", "--format", "raw.zst"]));
    let json: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!((&json["unchanged"], &json["steps"][1]["name"]), (&false.into(), &"formats".into()), "{json}");
    assert_eq!(json["steps"].as_array().unwrap().len(), 2, "the list of packages was looked at: {json}");
    assert_eq!(json["image"], at("qcow2").to_str().unwrap());
    let listed: Vec<_> = json["images"].as_array().unwrap().iter().collect();
    assert_eq!(listed.iter().map(|image| image["format"].as_str().unwrap()).collect::<Vec<_>>(), there());
    for image in listed {
        assert_eq!(image["bytes"], fs::metadata(image["path"].as_str().unwrap()).unwrap().len());
    }
    for suffix in there() {
        let report = ferrite([std::ffi::OsStr::new("inspect"), at(suffix).as_os_str()]);
        assert_eq!(report.code, 0, "{suffix}: {report:?}");
    }
    let third = outcome(recipe.build().args(["--json", "--format", "raw"]));
    let json: serde_json::Value = serde_json::from_str(&third.stdout).unwrap();
    assert_eq!((&json["unchanged"], there().len()), (&true.into(), 4), "{json}");

    // Of another image: beside the new one they would mislead.
    let text = fs::read_to_string(&recipe.path).unwrap();
    fs::write(&recipe.path, format!("{text}\nfiles:\n  - path: /usr/share/new\n    content: new\n")).unwrap();
    let fourth = outcome(recipe.build().args(["--format", "raw"]));
    assert_eq!((fourth.code, there()), (0, vec!["raw"]), "{fourth:?}");
    assert_eq!(fourth.stderr.matches("which an earlier build wrote").count(), 3, "{fourth:?}");
}

#[test]
fn images_that_cannot_be_read_or_booted_are_refused_with_the_next_step() {
    let folder = scratch();
    let (qcow2, compressed) = (folder.path().join("a.qcow2"), folder.path().join("a.raw.zst"));
    fs::write(&qcow2, b"QFI\xfb\0\0\0\x02").unwrap();
    // One byte in a frame of its own, without a table behind it.
    fs::write(&compressed, [0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 9, 0, 0, 7]).unwrap();
    for command in [&["inspect"][..], &["run", "--image"]] {
        for (path, phrases) in [
            (&qcow2, ["a.qcow2 as qcow2", "byte 4: qcow2 version 2", "hint: `qemu-img convert"]),
            (
                &compressed,
                ["a.raw.zst as raw.zst", "no table of zstd frames", "hint: unpack it with `zstd -d"],
            ),
        ] {
            let arguments = command.iter().map(std::ffi::OsStr::new).chain([path.as_os_str()]);
            let found = ferrite(arguments);
            assert_eq!(found.code, 1, "{found:?}");
            for phrase in phrases {
                assert!(found.stderr.contains(phrase), "no {phrase:?} in {found:?}");
            }
        }
    }
    let recipe = Recipe::new(&[], "");
    let built = outcome(recipe.build().args(["--format", "raw.zst"]));
    assert_eq!(built.code, 0, "{built:?}");
    let found = ferrite(["run", "--image", built.stdout.trim_end()]);
    assert_eq!(found.code, 1);
    assert!(found.stderr.contains("hint: `zstd -d ") && found.stderr.contains(".qcow2"), "{found:?}");
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let again = Recipe::locked();
    let built = outcome(again.build().arg("--json"));
    assert_eq!(built.code, 0, "{built:?}");
    let json: serde_json::Value = serde_json::from_str(&built.stdout).unwrap();
    let notes = json["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 1, "a recipe of ours needs no note but the one on the key: {notes:?}");
    for suffix in ["usr", "raw", "qcow2", "manifest.json"] {
        let (first, second) = (
            image().with_extension(suffix),
            again.out().join(format!("ferrite-minimal-0.1.0-x86_64.{suffix}")),
        );
        assert_eq!(first.file_name(), second.file_name());
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{suffix} differs");
    }
}
