//! The part of tmpfiles.d(5) that packages and the builder use, applied once at boot.

pub mod apply;
pub mod chase;
pub mod parse;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use parse::{Item, Kind, Specifiers};

/// Folders with configuration, the strongest first: a file hides those of the same name in the folders behind it.
const FOLDERS: &[&str] = &["etc/tmpfiles.d", "run/tmpfiles.d", "usr/lib/tmpfiles.d"];

/// Reads all configuration below `root` and applies it there; returns what went wrong, a line each.
pub fn run(root: &Path, specifiers: &Specifiers) -> Vec<String> {
    let mut warnings = Vec::new();
    let items = read(root, specifiers, &mut warnings);
    let target = match apply::Target::open(root) {
        Ok(target) => target,
        Err(error) => return vec![format!("tmpfiles: cannot open {}: {error}", root.display())],
    };
    for item in items {
        if let Err(error) = target.apply(&item) {
            warnings.push(format!("tmpfiles: {}: {error}", item.path));
        }
    }
    warnings
}

fn read(root: &Path, specifiers: &Specifiers, warnings: &mut Vec<String>) -> Vec<Item> {
    let mut problems = Vec::new();
    let mut items = Vec::new();
    for (name, path) in files(root, FOLDERS) {
        match std::fs::read_to_string(&path) {
            Ok(text) => items.extend(parse::parse(&name, &text, specifiers, &mut problems)),
            Err(error) => warnings.push(format!("tmpfiles: {}: {error}", path.display())),
        }
    }
    warnings.extend(problems.iter().map(|problem| format!("tmpfiles: {problem}")));
    in_order(items)
}

/// The file that counts for each name, sorted by name.
pub(in crate::boot) fn files(root: &Path, folders: &[&str]) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.ends_with(".conf") {
                files.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    files
}

/// Folders before what is in them; the first line that creates a path wins over later ones, as systemd has it.
fn in_order(items: Vec<Item>) -> Vec<Item> {
    let mut created = HashSet::new();
    let adds = |kind: Kind| {
        !matches!(kind, Kind::Write | Kind::Append | Kind::Adjust | Kind::AdjustTree | Kind::Remove)
    };
    let mut items: Vec<Item> =
        items.into_iter().filter(|item| !adds(item.kind) || created.insert(item.path.clone())).collect();
    // Stable: of several lines for one path, the order of the files stays.
    items.sort_by(|a, b| (!adds(a.kind), &a.path).cmp(&(!adds(b.kind), &b.path)));
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn etc_hides_usr_and_folders_come_first() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib/tmpfiles.d/a.conf", "d /from-usr\n");
        write("etc/tmpfiles.d/a.conf", "z /x/y/z 0600\nf /x/y/z 0644\nd /x/y 0700\nh /no\n");
        write("usr/lib/tmpfiles.d/b.conf", "d /x/y 0777\nd /second\n");
        write("usr/lib/tmpfiles.d/ignored.txt", "d /ignored\n");
        let warnings = run(root.path(), &Specifiers::default());
        assert_eq!(warnings, ["tmpfiles: a.conf:4: type h is not supported"]);
        assert!(!root.path().join("from-usr").exists() && !root.path().join("ignored").exists());
        assert!(root.path().join("second").is_dir());
        let mode = |path: &str| {
            use std::os::unix::fs::PermissionsExt;
            fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("x/y"), mode("x/y/z")), (0o700, 0o600));
    }
}
