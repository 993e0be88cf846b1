use proptest::prelude::*;

use super::super::testing::{any_manifest, file, manifest, other};
use super::*;

/// The comparison as it would be with the images the other way round.
fn inverse(mut diff: Diff) -> Diff {
    use std::mem::swap;
    let counts = |counts: &mut Counts| swap(&mut counts.added, &mut counts.removed);
    for field in &mut diff.image {
        swap(&mut field.before, &mut field.after);
    }
    for part in &mut diff.parts {
        swap(&mut part.before, &mut part.after);
        part.delta = -part.delta;
    }
    for group in &mut diff.groups {
        swap(&mut group.before, &mut group.after);
        swap(&mut group.before_version, &mut group.after_version);
        group.delta = -group.delta;
        group.change = match group.change {
            Change::Added => Change::Removed,
            Change::Removed => Change::Added,
            other => other,
        };
        counts(&mut group.counts);
        for file in &mut group.files {
            swap(&mut file.before, &mut file.after);
            file.delta = -file.delta;
            file.change = match file.change {
                FileChange::Added => FileChange::Removed,
                FileChange::Removed => FileChange::Added,
                other => other,
            };
        }
    }
    counts(&mut diff.files);
    diff
}

fn before() -> Manifest {
    manifest(
        &[("aa", true, &[]), ("bb", false, &[]), ("gone", false, &[])],
        vec![
            file("/usr/bin/a", Some("aa"), 5000),
            file("/usr/bin/b", Some("bb"), 100),
            file("/usr/bin/gone", Some("gone"), 20_000),
            file("/usr/lib/ferrite/init", None, 100),
        ],
    )
}

fn after() -> Manifest {
    let mut longer = file("/usr/bin/a", Some("aa"), 9000);
    longer.mode = "0755".to_owned();
    let mut made = manifest(
        &[("aa", true, &[]), ("bb", false, &[]), ("new", true, &[])],
        vec![
            longer,
            file("/usr/bin/b", Some("bb"), 100),
            file("/usr/bin/new", Some("new"), 10),
            other("/usr/bin/link", "symlink", Some("new"), Some("new")),
            file("/usr/lib/ferrite/init", None, 101),
        ],
    );
    made.version = "2".to_owned();
    made.packages[0].version = "1.1".to_owned();
    made
}

#[test]
fn changes_are_listed_by_weight_with_what_they_are() {
    let (before, after) = (before(), after());
    let diff = Diff::of(&Image::new(&before), &Image::new(&after));
    let text = Report { diff: &diff, files: true }.to_string();
    assert_eq!(
        text,
        "version       1 -> 2

parts of the slot:
   -12.0 KiB  slot         80.0 KiB -> 68.0 KiB
   -12.0 KiB  usr          44.0 KiB -> 32.0 KiB

packages: 1 added, 1 removed, 1 changed, 1 with other files
   -20.0 KiB  removed  gone 1 (1 file removed)
       -20.0 KiB  D /usr/bin/gone
    +4.0 KiB  changed  aa 1 -> 1.1 (1 file changed)
        +4.0 KiB  M /usr/bin/a (content, mode)
    +4.0 KiB  added    new 1 (2 files added)
        +4.0 KiB  A /usr/bin/new
             0 B  A /usr/bin/link
         0 B  files    (Ferrite itself) (1 file changed)
             0 B  M /usr/lib/ferrite/init (content)

files: 2 files added, 1 file removed, 2 files changed
"
    );
}

#[test]
fn bytes_that_count_for_another_file_are_told() {
    let twin = |path: &str, package: &str, offset: u64| {
        let mut made = file(path, Some(package), 4096);
        made.offset = Some(offset);
        made
    };
    let packages: [(&str, bool, &[&str]); 2] = [("aa", true, &[]), ("bb", true, &[])];
    let before = manifest(&packages, vec![twin("/usr/a", "aa", 8192), twin("/usr/b", "bb", 8192)]);
    let after = manifest(&packages[1..], vec![twin("/usr/b", "bb", 8192)]);
    let (mut before, mut after) = (before, after);
    before.parts[0].bytes = 12_288;
    after.parts[0].bytes = 12_288;
    let diff = Diff::of(&Image::new(&before), &Image::new(&after));
    let told: Vec<_> =
        diff.groups.iter().map(|group| (group.who.to_string(), group.change, group.delta)).collect();
    assert_eq!(told, [("aa".into(), Change::Removed, -4096), ("bb".into(), Change::Files, 4096)]);
    assert_eq!(diff.groups[1].files[0].change, FileChange::Recounted);
    assert_eq!(diff.files, Counts { removed: 1, ..Counts::default() });
}

#[test]
fn equal_images_are_the_same() {
    let made = before();
    let diff = Diff::of(&Image::new(&made), &Image::new(&made));
    assert!(diff.same);
    assert_eq!(Report { diff: &diff, files: true }.to_string(), "the same\n");
}

proptest! {
    #[test]
    fn an_image_does_not_differ_from_itself(manifest in any_manifest()) {
        let image = Image::new(&manifest);
        let diff = Diff::of(&image, &image);
        prop_assert!(diff.same && diff.groups.is_empty() && diff.files == Counts::default());
    }

    #[test]
    fn the_other_way_round_is_the_inverse(a in any_manifest(), b in any_manifest()) {
        let (a, b) = (Image::new(&a), Image::new(&b));
        prop_assert_eq!(inverse(Diff::of(&a, &b)), Diff::of(&b, &a));
    }

    #[test]
    fn all_changes_together_are_the_change_of_the_slot(a in any_manifest(), b in any_manifest()) {
        let diff = Diff::of(&Image::new(&a), &Image::new(&b));
        let parts: i64 = diff.parts.iter().filter(|part| !["slot", "usr"].contains(&part.name.as_str())).map(|part| part.delta).sum();
        let groups: i64 = diff.groups.iter().map(|group| group.delta).sum();
        prop_assert_eq!(parts + groups, delta(a.slot_bytes, b.slot_bytes));
        let usr: i64 = diff.parts.iter().filter(|part| part.name == "usr").map(|part| part.delta).sum();
        let system: i64 = diff.parts.iter().filter(|part| part.name == "file-system").map(|part| part.delta).sum();
        prop_assert_eq!(groups + system, usr);
    }
}
