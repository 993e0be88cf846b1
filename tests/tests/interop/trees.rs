//! An image with trees of the hardest files: what the standard tools and Ferrite itself say of it.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::sync::Arc;

use builder::build::{self, BuildOptions, Manifest, ManifestFile};
use builder::explain::diff::Diff;
use builder::explain::size::{By, Size};
use builder::explain::why::{Answer, Detail, Source, Why};
use builder::explain::{self, Bringer};
use builder::formats::Format;
use builder::signing::hex;
use debian::progress::Silent;
use ferrite_tests::hard_cases::{self, ARCHIVE, FOLDER, LATIN_1, LONG_NAME, MANY, SPARSE_BYTES, SPARSE_DATA};
use ferrite_tests::scratch;

use super::*;

/// The file system of the image in a file of its own.
fn usr(image: &Image, folder: &Path) -> PathBuf {
    let report = Image::inspect(&image.raw).unwrap();
    assert!(report.is_good(), "{:?}", report.problems);
    let slot = partition(image, &report, "USR-A", folder);
    let part = report.slots["USR-A"].parts.iter().find(|part| part.offset == 0).unwrap();
    let usr = folder.join("usr.erofs");
    extract(&slot, 0, part.length, &usr);
    fs::remove_file(slot).unwrap();
    usr
}

fn manifest(image: &Image) -> Manifest {
    Manifest::load(&build::manifest_path(&image.raw)).unwrap()
}

#[test]
fn fsck_and_dump_erofs_read_what_the_trees_had() {
    let (tools, folder, image) = (tools(), scratch().unwrap(), hard_cases::image().unwrap());
    let usr = usr(&image, folder.path());
    assert_eq!(check(tools.command("fsck.erofs").unwrap().arg(&usr)), "");
    let path = |place: &str, name: &[u8]| {
        let place = place.trim_start_matches("/usr");
        [b"--path=", place.as_bytes(), b"/", name].concat()
    };
    let dump = |place: &str, name: &[u8]| {
        let mut command = tools.command("dump.erofs").unwrap();
        command
            .arg(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path(place, name)))
            .arg(&usr);
        command
    };
    for place in [FOLDER, ARCHIVE] {
        let sparse = check(&mut dump(place, b"sparse"));
        assert!(sparse.contains(&format!("Size: {SPARSE_BYTES}")), "{sparse}");
        let linked = check(&mut dump(place, b"one/file"));
        assert!(linked.contains("Links: 3"), "{linked}");
        let inode = |text: &str| text.lines().find(|line| line.contains("NID")).map(str::to_owned).unwrap();
        assert_eq!(
            inode(&linked).split("NID").nth(1),
            inode(&check(&mut dump(place, b"two/file"))).split("NID").nth(1)
        );
    }
    for (place, name) in [(FOLDER, &LONG_NAME[..]), (FOLDER, LATIN_1), (ARCHIVE, &hard_cases::odd_name())] {
        let text = check(&mut dump(place, name));
        assert!(text.contains("regular file"), "{text}");
    }
    let owner = check(&mut dump(ARCHIVE, b"setuid"));
    assert!(owner.contains("Uid: 1234") && owner.contains("Gid: 70000"), "{owner}");
    let owner = check(&mut dump(FOLDER, b"setuid"));
    assert!(owner.contains("Uid: 0 ") && owner.contains("Gid: 0 "), "{owner}");
    // Every byte of the sparse files, as somebody else's reader has it.
    for place in [FOLDER, ARCHIVE] {
        let mut child = dump(place, b"sparse").arg("--cat").stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (mut at, mut chunk) = (0, vec![0; MIB as usize]);
        loop {
            let count = output.read(&mut chunk).unwrap();
            if count == 0 {
                break;
            }
            let mut want = vec![0; count];
            for (start, text) in SPARSE_DATA {
                for (index, byte) in text.bytes().enumerate() {
                    if let Some(target) =
                        (start + index as u64).checked_sub(at).and_then(|at| want.get_mut(at as usize))
                    {
                        *target = byte;
                    }
                }
            }
            assert!(chunk[..count] == want, "{place}: the chunk at {at}");
            at += count as u64;
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(at, SPARSE_BYTES, "{place}");
    }
}

#[test]
fn holes_take_no_room_and_the_manifest_has_every_name_in_full() {
    let image = hard_cases::image().unwrap();
    let manifest = manifest(&image);
    let slot = fs::metadata(&image.usr).unwrap().len();
    println!("hard cases: {slot} bytes in the slot");
    // Some 20 MB are the kernel and what else the smallest image has.
    assert!(slot < 64 * MIB, "{slot}");
    let find = |path: &str| manifest.files.iter().find(|file| file.path == path).unwrap();
    let [ours, theirs] = [FOLDER, ARCHIVE].map(|place| find(&format!("{place}/sparse")));
    assert_eq!((ours.bytes, theirs.bytes), (Some(SPARSE_BYTES), Some(SPARSE_BYTES)));
    assert_eq!(ours.sha256, theirs.sha256, "equal content, read in two ways");
    let in_many = |file: &&ManifestFile| file.path.starts_with(&format!("{ARCHIVE}/many/"));
    assert_eq!(manifest.files.iter().filter(in_many).count(), MANY as usize);
    let in_full: Vec<_> = manifest.files.iter().filter_map(|file| file.path_hex.clone()).collect();
    let path = |place: &str, name: &[u8]| hex(&[place.as_bytes(), b"/", name].concat());
    for (place, name) in [(FOLDER, LATIN_1), (FOLDER, &b"new\nline"[..]), (ARCHIVE, &hard_cases::odd_name())]
    {
        assert!(in_full.contains(&path(place, name)), "{place}/{}", name.escape_ascii());
    }
    let device = find(&format!("{ARCHIVE}/block"));
    assert_eq!((device.kind.as_str(), device.origin.as_deref()), ("block-device", Some("recipe")));
}

#[test]
fn questions_about_the_image_are_answered() {
    let image = hard_cases::image().unwrap();
    let (manifest, recipe_file) = (manifest(&image), hard_cases::recipe().unwrap());
    let text = fs::read_to_string(&recipe_file).unwrap();
    let about = explain::Image::new(&manifest);
    let why = Why::new(&about, Some(Source { recipe: &image.recipe, text: &text, file: "r.yaml" }));
    let line = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
    for (query, who, place) in [
        // Either tree could have it: the archive goes to the root.
        (format!("{FOLDER}/caf\\xe9"), Bringer::Recipe, None),
        (format!("{ARCHIVE}/null"), Bringer::Recipe, Some(format!("r.yaml:{}", line("hard.tar.zst")))),
        ("/usr/bin/getfattr".to_owned(), Bringer::Package("attr".to_owned()), None),
    ] {
        let Answer::Path(answer) = why.answer(&query, Detail::All).unwrap() else { panic!("{query}") };
        assert_eq!((&answer.by.who, &answer.by.place), (&who, &place), "{query}");
        assert!(!Answer::Path(answer).to_string().is_empty());
    }
    for by in [By::Path, By::Package, By::Kind] {
        let size = Size::of(&about, by, None).unwrap();
        assert_eq!(size.tree.bytes, fs::metadata(&image.usr).unwrap().len(), "{by:?}");
        assert!(size.tree.files > u64::from(MANY), "{by:?}");
    }
    let sparse = Size::of(&about, By::Path, Some(&format!("{FOLDER}/sparse"))).unwrap();
    assert!(sparse.tree.bytes < MIB, "{}", sparse.tree.bytes);
    let smallest = Manifest::load(&build::manifest_path(&Image::minimal().unwrap().raw)).unwrap();
    let smallest = explain::Image::new(&smallest);
    let diff = Diff::of(&smallest, &about);
    let recipe = diff.groups.iter().find(|group| group.who == Bringer::Recipe).unwrap();
    assert!(recipe.counts.added > u64::from(MANY) && recipe.counts.removed == 0, "{:?}", recipe.counts);
    assert!(recipe.files.iter().any(|file| file.path == format!("{FOLDER}/caf\\xe9")));
}

#[test]
fn a_second_build_is_the_same_and_a_third_does_nothing() {
    let (image, folder) = (hard_cases::image().unwrap(), scratch().unwrap());
    let options = BuildOptions {
        recipe: hard_cases::recipe().unwrap(),
        out: folder.path().to_owned(),
        version: None,
        offline: false,
        locked: false,
        snapshot: None,
        mirrors: Vec::new(),
        formats: vec![Format::Raw],
    };
    let built = build::build(&options, Arc::new(Silent)).unwrap();
    assert!(!built.unchanged);
    assert_eq!(fs::read(&built.manifest).unwrap(), fs::read(build::manifest_path(&image.raw)).unwrap());
    assert!(fs::read(&built.slot).unwrap() == fs::read(&image.usr).unwrap(), "the slots differ");
    assert!(build::build(&options, Arc::new(Silent)).unwrap().unchanged);
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains(".tar")), "left behind: {names:?}");
}
