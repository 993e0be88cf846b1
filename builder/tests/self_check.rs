//! The same bytes, whoever builds where: `ferrite self-check` on the product's own recipe.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails by panicking is a test that fails"
)]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What the second build's cache needs: the packages, fetched and unpacked.
const CACHE_BYTES: u64 = 1 << 30;

/// A folder in memory, where the machine has one with enough room: another file system than that of the checkout.
fn in_memory() -> Option<TempDir> {
    let space = rustix::fs::statvfs("/dev/shm").ok()?;
    let free = space.f_bavail.checked_mul(space.f_frsize)?;
    (free >= CACHE_BYTES).then(|| TempDir::with_prefix_in("ferrite-cache-", "/dev/shm").ok()).flatten()
}

#[test]
fn an_image_has_the_same_bytes_wherever_it_is_built() {
    let scratch = TempDir::with_prefix_in("self-check-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let memory = in_memory();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
    command.args(["self-check", "--json", "--scratch"]).arg(scratch.path().join("s"));
    if let Some(memory) = &memory {
        command.arg("--second-cache").arg(memory.path());
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let check: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(check["identical"], true, "{check}");
    assert_eq!(check["difference"], serde_json::Value::Null);
    let names: Vec<_> =
        check["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    let of_kind = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    for ending in [".raw", ".qcow2", ".raw.zst", ".vhd", ".usr", ".manifest.json", ".sbom.cdx.json"] {
        assert!(of_kind(ending), "no {ending} in {names:?}");
    }
    // The conditions differ in all that they say they do; only the user may be the same, and that is said.
    let [first, second] = [&check["conditions"][0], &check["conditions"][1]];
    for name in
        ["umask", "time_zone", "locale", "threads", "checkout", "recipe", "out", "home", "cache", "target"]
    {
        assert_ne!(first[name], second[name], "{name}");
    }
    let notes = check["notes"].to_string();
    assert!(first["user"] != second["user"] || notes.contains("as the same user"), "{notes}");
    let place = second["checkout"].as_str().unwrap();
    assert!(place.contains(' ') && !place.is_ascii(), "{place}");
    if let Some(memory) = &memory {
        assert!(memory.path().join("parts").is_dir(), "the second build did not use its own cache");
    }
}

#[test]
fn a_scratch_folder_with_something_in_it_is_refused() {
    let scratch = TempDir::with_prefix_in("self-check-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(scratch.path().join("mine"), "keep").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
    let output = command.args(["self-check", "--scratch"]).arg(scratch.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("is not empty; --scratch names a folder that is"), "{stderr}");
    assert!(Path::new(&scratch.path().join("mine")).is_file());
}
