//! The `ferrite` command as terminals, scripts, shells and `man` see it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails by panicking is a test that fails"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What begins a colour.
const ESCAPE: &str = "\u{1b}[";

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn scratch() -> TempDir {
    TempDir::with_prefix_in("interface-", env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The command without what the tester's own environment says about colours.
fn ferrite(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A recipe with two mistakes.
fn broken(folder: &TempDir) -> PathBuf {
    let text = fs::read_to_string(source().join("recipes/minimal.yaml")).unwrap();
    let path = folder.path().join("recipe.yaml");
    fs::write(&path, text.replace("usr: 128MiB", "usr: 1MiB").replace("version: 0.1.0", "version: A B"))
        .unwrap();
    path
}

#[test]
fn a_failed_command_with_json_is_a_document_on_stdout_and_words_on_stderr() {
    for (arguments, code) in [
        (&["inspect", "--json", "/nonexistent"][..], 1),
        (&["build", "--json", "--recipe", "/nonexistent"], 1),
        (&["validate", "--json", "/nonexistent"], 2),
    ] {
        let output = ferrite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let found = json(&output);
        assert!(found["error"].as_str().unwrap().contains("/nonexistent"), "{found}");
        let deepest = found["causes"].as_array().unwrap().last().unwrap();
        assert!(deepest.as_str().unwrap().contains("No such file"), "{found}");
        let hint = found["hint"].as_str().unwrap();
        assert!(
            stderr(&output).starts_with("error: cannot ") && stderr(&output).contains(hint),
            "{output:?}"
        );
    }
    // Whoever uses it wrongly gets words alone, and 2.
    let output = ferrite(&["inspect", "--json"]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
}

#[test]
fn findings_are_data_for_scripts() {
    let folder = scratch();
    let path = broken(&folder);
    let output = ferrite(&["validate", "--json"]).arg(&path).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""));
    let found = json(&output);
    assert_eq!(found["valid"], false);
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2, "{found}");
    for finding in findings {
        assert_eq!(finding["file"].as_str(), path.to_str());
        assert!(finding["line"].as_u64() > Some(1) && finding["column"].as_u64() > Some(1), "{finding}");
        assert_eq!(finding["severity"], "error");
        assert!(!finding["message"].as_str().unwrap().is_empty());
        assert!(finding.get("hint").is_some());
    }
    let good = source().join("recipes/minimal.yaml");
    let output = ferrite(&["validate", "--json"]).arg(good).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output), serde_json::json!({ "valid": true, "findings": [] }));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let coloured = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = ferrite(arguments).envs(environment.iter().copied()).output().unwrap();
        let said = stderr(&output);
        assert!(said.contains("error:"), "{said}");
        said.contains(ESCAPE)
    };
    let failing = &["inspect", "/nonexistent"][..];
    let wrong = &["inspetc"][..];
    for arguments in [failing, wrong] {
        let with = |when: &'static str| [arguments, &["--color", when]].concat();
        assert!(!coloured(arguments, &[]), "no terminal");
        assert!(coloured(arguments, &[("CLICOLOR_FORCE", "1")]));
        assert!(!coloured(arguments, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(coloured(&with("always"), &[("NO_COLOR", "1")]));
        assert!(!coloured(&with("never"), &[("CLICOLOR_FORCE", "1")]));
    }
    let folder = scratch();
    let path = broken(&folder);
    let output = ferrite(&["validate", "--color=always"]).arg(&path).output().unwrap();
    assert!(stdout(&output).contains(ESCAPE), "{output:?}");
    let output = ferrite(&["validate"]).arg(&path).output().unwrap();
    assert!(!stdout(&output).contains(ESCAPE), "{output:?}");
    // Data has none.
    let output = ferrite(&["doctor", "--json", "--offline", "--color=always"]).output().unwrap();
    assert!(!stdout(&output).contains(ESCAPE), "{output:?}");
}

#[test]
fn a_terminal_gets_colours_unless_it_only_prints() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no script(1) to make a terminal with");
        return;
    }
    let program = env!("CARGO_BIN_EXE_ferrite");
    for (terminal, wanted) in [("xterm", true), ("dumb", false)] {
        let mut command = Command::new("script");
        command
            .args(["-qec", &format!("'{program}' inspect /nonexistent"), "/dev/null"])
            .stdin(Stdio::null());
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        let output = command.env("TERM", terminal).output().unwrap();
        let said = stdout(&output);
        assert!(said.contains("error:"), "{output:?}");
        assert_eq!(said.contains(ESCAPE), wanted, "{terminal}: {said:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
    for arguments in [&["completions", "bash"][..], &["man"], &["doctor", "--offline"]] {
        let mut running = ferrite(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(running.stdout.take());
        let output = running.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = ferrite(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = stderr(&output);
        assert!(said.starts_with("error: cannot write to stdout\n"), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
    }
}

#[test]
fn every_shell_gets_completions_that_it_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ferrite(&["completions", shell]).output().unwrap();
        let script = stdout(&output);
        assert!(output.status.success() && stderr(&output).is_empty(), "{output:?}");
        for word in ["inspect", "validate", "doctor", "offline"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = scratch();
    let script = folder.path().join("ferrite.bash");
    fs::write(&script, stdout(&ferrite(&["completions", "bash"]).output().unwrap())).unwrap();
    // What the shell would offer after `ferrite ins`, and whether it offers files for an image.
    let ask = "source \"$0\"; COMP_WORDS=(ferrite ins); COMP_CWORD=1; _ferrite ferrite ins ferrite; echo ${COMPREPLY[@]}; \
               cd \"$1\"; COMP_WORDS=(ferrite build --recipe rec); COMP_CWORD=3; _ferrite ferrite rec --recipe; \
               echo ${COMPREPLY[@]}";
    fs::write(folder.path().join("recipe.yaml"), "").unwrap();
    let output = Command::new("bash").args(["-c", ask]).arg(&script).arg(folder.path()).output().unwrap();
    assert_eq!(stdout(&output), "inspect\nrecipe.yaml\n", "{output:?}");
    assert_eq!(ferrite(&["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn manual_pages_are_read_without_a_warning() {
    let folder = scratch();
    let out = folder.path().join("man 1");
    let output = ferrite(&["man", "--out"]).arg(&out).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let listed: Vec<PathBuf> = stdout(&output).lines().map(PathBuf::from).collect();
    assert_eq!(listed.len(), fs::read_dir(&out).unwrap().count());
    assert!(
        listed.contains(&out.join("ferrite.1")) && listed.contains(&out.join("ferrite-build.1")),
        "{listed:?}"
    );
    // The same page alone.
    let one = ferrite(&["man", "build"]).output().unwrap();
    assert_eq!(one.stdout, fs::read(out.join("ferrite-build.1")).unwrap());
    let none = ferrite(&["man", "biuld"]).output().unwrap();
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(2), ""));
    assert!(stderr(&none).contains("no command `ferrite biuld`"), "{none:?}");
    if Command::new("man").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no man(1) to read pages with");
        return;
    }
    for page in &listed {
        let mut command = Command::new("man");
        // `w` stands for every warning that troff has.
        command
            .args(["--warnings=w", "-E", "UTF-8", "-l"])
            .arg(page)
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8");
        let output = command.output().unwrap();
        assert!(
            output.status.success() && stderr(&output).is_empty(),
            "{}: {}",
            page.display(),
            stderr(&output)
        );
        assert!(stdout(&output).contains("NAME"), "{}", page.display());
    }
}

#[test]
fn the_doctor_finds_this_host_fit_and_says_what_another_lacks() {
    let folder = scratch();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let doctor = || {
        let mut command = ferrite(&["doctor", "--json", "--offline"]);
        command.env("FERRITE_CACHE", &cache);
        command
    };
    let check = |output: &Output, name: &str| {
        let report = json(output);
        let checks = report["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {report}"))
    };
    let output = doctor().output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{output:?}");
    assert_eq!(json(&output)["can_build"], true);
    assert_eq!(check(&output, "rust")["status"], "ok");
    assert!(check(&output, "cache")["found"].as_str().unwrap().starts_with(cache.to_str().unwrap()));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "nothing is left in the cache");

    let output = doctor().env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for name in ["rust", "compiler"] {
        let check = check(&output, name);
        assert_eq!(check["status"], "missing", "{check}");
        assert!(!check["why"].as_str().unwrap().is_empty() && !check["fix"].as_str().unwrap().is_empty());
    }
    let output = doctor().env("FERRITE_SOURCE", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(check(&output, "source")["fix"].as_str().unwrap().contains("FERRITE_SOURCE"));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = doctor().env("FERRITE_CACHE", file.join("cache")).output().unwrap();
    assert_eq!(check(&output, "cache")["status"], "missing");
    assert_eq!(output.status.code(), Some(1));
    // For people: the same with words, and a verdict at the end.
    let output = ferrite(&["doctor", "--offline"]).env("PATH", "/nonexistent").output().unwrap();
    let said = stdout(&output);
    assert!(said.contains("\nmissing  rust ") && said.contains("\n") && said.contains("fix: curl"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("images cannot be built here: "), "{said}");
}
