//! Builds on hosts that are not as one would wish: no home, a checkout that cannot be written, full disks, one processor,
//! little memory, broken downloads, another build beside this one, a user who presses Ctrl-C.
//!
//! Packages come from the user's cache when it has them, as in every build. What needs a file system of its own runs in a user
//! and mount namespace; where the kernel gives none to this user, such a test says so on stderr and checks nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that fails by panicking is a test that fails"
)]

#[path = "hosts/mirror.rs"]
mod mirror;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use debian::cache::Cache;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::mirror::{Mirror, Packages};

const FERRITE: &str = env!("CARGO_BIN_EXE_ferrite");
/// Stem of the files of the minimal image.
const STEM: &str = "ferrite-minimal-0.1.0-x86_64";

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| source().join("target"), |folder| source().join(folder))
}

/// A folder for one test.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(TempDir::with_prefix_in("hosts-", env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder in it.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

/// `ferrite build` of the minimal recipe.
fn build(out: &Path) -> Command {
    let mut command = Command::new(FERRITE);
    command.arg("build").arg("--recipe").arg(source().join("recipes/minimal.yaml")).arg("--out").arg(out);
    command
}

/// The minimal image, built once for all tests of this process on the host as it is; the folder with its files.
fn reference() -> &'static Path {
    static IMAGE: OnceLock<Scratch> = OnceLock::new();
    let scratch = IMAGE.get_or_init(|| {
        let scratch = Scratch::new();
        succeeds(&mut build(&scratch.path("out")));
        scratch
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| scratch.path("out"))
}

fn manifest() -> PathBuf {
    reference().join(format!("{STEM}.manifest.json"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output.stderr));
    output
}

/// The command fails with one error that has these phrases and a hint; what it said is returned.
fn is_refused(command: &mut Command, phrases: &[&str]) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    for phrase in phrases.iter().chain(&["\nhint: "]) {
        assert!(said.contains(phrase), "no {phrase:?} in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The files in `out` are those of the reference, byte for byte.
fn is_the_same_image(out: &Path) {
    for suffix in ["usr", "raw", "qcow2", "manifest.json", "sbom.cdx.json"] {
        let name = format!("{STEM}.{suffix}");
        let (first, second) = (reference().join(&name), out.join(&name));
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{} differs", second.display());
    }
}

/// Everything below a folder whose name tells that it is half done.
fn half_done(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(".tmp-") || name.contains(".part") || name.contains(".new-") {
            found.push(entry.path());
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(half_done(&entry.path()));
        }
    }
    found
}

/// The command in a user and mount namespace of its own, after `before` and before `after`, which are scripts of the shell with
/// the folder of `scratch` as `$scratch`. `None` where the kernel gives this user no namespaces.
fn in_namespace(scratch: &Scratch, before: &str, command: &Command, after: &str) -> Option<Command> {
    let possible = Command::new("unshare").args(["-Urm", "sh", "-c", "mount -t tmpfs none /tmp"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not make namespaces (`ferrite doctor` says why)");
        return None;
    }
    let script = format!("set -eu; {before}\nset +e; \"$0\" \"$@\"; code=$?; {after}\nexit $code");
    let mut inside = Command::new("unshare");
    inside.args(["-Urm", "sh", "-c", &script]).arg(command.get_program()).args(command.get_args());
    inside.env("scratch", scratch.0.path());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    Some(inside)
}

/// Where cargo and rustup keep their things, for hosts without a home.
fn toolchain_homes() -> [(&'static str, OsString); 2] {
    let folder = |name: &str, below: &str| {
        env::var_os(name).unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap()).join(below).into())
    };
    [("CARGO_HOME", folder("CARGO_HOME", ".cargo")), ("RUSTUP_HOME", folder("RUSTUP_HOME", ".rustup"))]
}

#[test]
fn without_a_home_the_cache_is_in_the_temporary_folder() {
    reference();
    let scratch = Scratch::new();
    let temporary = scratch.folder("tmp");
    let user = rustix::process::getuid().as_raw();
    std::os::unix::fs::symlink(Cache::from_env().root(), temporary.join(format!("ferrite-cache-{user}")))
        .unwrap();
    let mut command = build(&scratch.path("out"));
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap())
        .env("TMPDIR", &temporary)
        .envs(toolchain_homes());
    // Where the test itself was told to put programs, this build finds them.
    command.envs(env::var_os("CARGO_TARGET_DIR").map(|folder| ("CARGO_TARGET_DIR", folder)));
    succeeds(command.arg("--offline"));
    is_the_same_image(&scratch.path("out"));
}

#[test]
fn a_checkout_that_cannot_be_written_is_enough() {
    reference();
    let scratch = Scratch::new();
    // Programs have a file system of their own below it; everything else of the checkout is read-only, for root as well.
    let before = format!(
        "mkdir -p {target}; mount --bind {source} {source}; mount --bind {target} {target}; \
         mount -o remount,bind,ro {source}; ! touch {source}/written 2>/dev/null",
        source = quoted(source()),
        target = quoted(&target()),
    );
    let Some(mut command) = in_namespace(&scratch, &before, &build(&scratch.path("out")), "") else { return };
    succeeds(&mut command);
    is_the_same_image(&scratch.path("out"));
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[test]
fn temporary_files_and_images_may_be_on_other_file_systems() {
    reference();
    let scratch = Scratch::new();
    let (temporary, out) = (scratch.folder("tmp"), scratch.folder("out"));
    let copies = scratch.folder("copies");
    let mut command = build(&out);
    command.env("TMPDIR", &temporary);
    let before = "mount -t tmpfs -o size=64m none \"$scratch/tmp\"; mount -t tmpfs none \"$scratch/out\"";
    let after = "cp --sparse=always \"$scratch/out/\"* \"$scratch/copies\"";
    let Some(mut command) = in_namespace(&scratch, before, &command, after) else { return };
    succeeds(&mut command);
    is_the_same_image(&copies);
}

#[test]
fn a_full_disk_leaves_no_image_and_no_rest_of_one() {
    reference();
    let scratch = Scratch::new();
    let out = scratch.folder("out");
    let before = "mount -t tmpfs -o size=16m none \"$scratch/out\"";
    let after = "ls -A \"$scratch/out\" > \"$scratch/left\"";
    let Some(mut command) = in_namespace(&scratch, before, &build(&out), after) else { return };
    is_refused(&mut command, &["No space left on device", "make room", "--out"]);
    assert_eq!(fs::read_to_string(scratch.path("left")).unwrap(), "");
}

#[test]
fn a_cache_on_a_full_disk_is_told_with_the_way_to_another() {
    let mirror = Mirror::start(&manifest(), Packages::Sent);
    let scratch = Scratch::new();
    let cache = scratch.folder("cache");
    let mut command = build(&scratch.path("out"));
    command.args(mirror.options()).env("FERRITE_CACHE", &cache);
    // Less than the archive's index takes.
    let before = "mount -t tmpfs -o size=4m none \"$scratch/cache\"";
    let after = "find \"$scratch/cache\" -name '*.tmp-*' > \"$scratch/left\"";
    let Some(mut command) = in_namespace(&scratch, before, &command, after) else { return };
    is_refused(&mut command, &["No space left on device", "FERRITE_CACHE"]);
    assert_eq!(fs::read_to_string(scratch.path("left")).unwrap(), "");
    assert_eq!(fs::read_dir(scratch.path("out")).into_iter().flatten().count(), 0);
}

#[test]
fn one_processor_gives_the_same_bytes() {
    reference();
    let scratch = Scratch::new();
    let out = scratch.path("out");
    // A child inherits the processors of the thread that starts it: this one ends with the build.
    let alone = thread::spawn(move || {
        let own = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|number| own.is_set(*number)).unwrap();
        let mut one = rustix::thread::CpuSet::new();
        one.set(first);
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        succeeds(&mut build(&out));
    });
    alone.join().unwrap();
    is_the_same_image(&scratch.path("out"));
}

#[test]
fn two_gibibytes_of_addresses_are_enough() {
    reference();
    let scratch = Scratch::new();
    let build = build(&scratch.path("out"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -v 2097152; exec \"$0\" \"$@\""])
        .arg(build.get_program())
        .args(build.get_args());
    succeeds(&mut command);
    is_the_same_image(&scratch.path("out"));
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let run = |mirror: &Mirror| {
        let mut command = build(&scratch.path("out"));
        command.args(mirror.options()).env("FERRITE_CACHE", scratch.path("cache"));
        command
    };
    let broken = Mirror::start(&manifest(), Packages::CutShort);
    is_refused(&mut run(&broken), &["cannot fetch pool/", &broken.url]);
    let begun = broken.asked().first().unwrap().path.clone();
    let whole = Mirror::start(&manifest(), Packages::Sent);
    succeeds(&mut run(&whole));
    is_the_same_image(&scratch.path("out"));
    let asked = whole.asked();
    let again: Vec<_> = asked.iter().filter(|asked| asked.path == begun).collect();
    assert!(matches!(again[..], [asked] if asked.from.is_some_and(|from| from > 0)), "{begun}: {asked:?}");
    assert!(asked.iter().filter(|asked| asked.path != begun).all(|asked| asked.from.is_none()), "{asked:?}");
    assert_eq!(half_done(&scratch.path("cache")), Vec::<PathBuf>::new());
}

#[test]
fn two_builds_at_once_share_an_empty_cache_and_every_download() {
    let mirror = Mirror::start(&manifest(), Packages::Sent);
    let scratch = Scratch::new();
    let outs = [scratch.path("one"), scratch.path("two")];
    let start = |out: &PathBuf| {
        let mut command = build(out);
        command.args(mirror.options()).env("FERRITE_CACHE", scratch.path("cache"));
        command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    for running in outs.each_ref().map(start) {
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    outs.iter().for_each(|out| is_the_same_image(out));
    let mut paths: Vec<String> = mirror.asked().into_iter().map(|asked| asked.path).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "each package is fetched once");
    assert_eq!(half_done(&scratch.path("cache")), Vec::<PathBuf>::new());
}

/// Waits for something that happens soon; a test that waits in vain fails.
fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happens() {
        assert!(start.elapsed() < Duration::from_secs(300), "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn send(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_build_that_is_told_to_end_takes_what_it_started_with_it() {
    let mirror = Mirror::start(&manifest(), Packages::Stalled);
    let scratch = Scratch::new();
    // A compiler that never ends, in the place of cargo.
    let (programs, number) = (scratch.folder("bin"), scratch.path("compiler"));
    let script = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", quoted(&number));
    fs::write(programs.join("cargo"), script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(programs.join("cargo"), mode).unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    let mut command = build(&scratch.path("out"));
    command.args(mirror.options()).env("FERRITE_CACHE", scratch.path("cache")).env("PATH", path);
    command.env("CARGO_TARGET_DIR", scratch.path("target")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    until("a download and a compiler", || {
        !mirror.asked().is_empty() && fs::read_to_string(&number).is_ok_and(|text| text.ends_with('\n'))
    });
    let compiler: u32 = fs::read_to_string(&number).unwrap().trim().parse().unwrap();
    send(running.id(), Signal::TERM);
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(15), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("interrupted") && !said.contains("error: "), "{said}");
    assert_eq!(text(&output.stdout), "");
    // It is gone, or waits for its parent to take notice.
    let state = fs::read_to_string(format!("/proc/{compiler}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    assert_eq!(half_done(&scratch.path("cache")), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(scratch.path("out")).into_iter().flatten().count(), 0);
}

#[test]
fn ctrl_c_while_the_image_is_written_leaves_nothing_of_it() {
    reference();
    let scratch = Scratch::new();
    let out = scratch.folder("out");
    // A fast machine may be done before the signal comes; then it is tried again.
    let caught = (0..20).any(|_| {
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
        // Whoever runs the tests may ignore the signal, and a child inherits that.
        let mut command = Command::new("env");
        let build = build(&out);
        command.arg("--default-signal=INT").arg(build.get_program()).args(build.get_args());
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("a file that is half done", || !half_done(&out).is_empty());
        send(running.id(), Signal::INT);
        let output = running.wait_with_output().unwrap();
        assert_eq!(half_done(&out), Vec::<PathBuf>::new());
        output.status.signal() == Some(2) && fs::read_dir(&out).unwrap().count() == 0
    });
    assert!(caught, "the signal never came in time");
    // The next one is as if nothing had been.
    succeeds(&mut build(&out));
    is_the_same_image(&out);
}
