//! The other formats, and telling them apart.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use debian::progress::Silent;
use proptest::prelude::*;

use super::*;
use crate::sparse::tests::{pieces, sparse_file};

const DISK: u64 = 5 << 20;

fn identity() -> Identity {
    Identity::new("ferrite", "1.2.3", "abcd", 1_700_000_000)
}

/// A raw image written in a format under a name that says nothing.
fn write_to(path: &Path, format: Format, raw: &File) {
    let to = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    format.write(raw, &to, &identity(), &Silent).unwrap();
}

#[test]
fn names_are_those_of_the_command_line() {
    for format in Format::ALL {
        assert_eq!(Format::from_str(format.name(), false), Ok(format));
        assert_eq!(serde_json::to_string(&format).unwrap(), format!("{:?}", format.name()));
    }
}

#[test]
fn a_format_is_told_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let (raw, bytes) = sparse_file(DISK, &[(3 << 20, b"some text, ".repeat(9_000)), (DISK - 5, vec![1; 5])]);
    for format in Format::ALL {
        write_to(&path, format, &raw);
        let image = DiskImage::open(&path).unwrap();
        assert_eq!((image.format(), image.bytes()), (format, DISK));
        let mut read = vec![0; DISK as usize];
        image.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes, "{format}");
        // Neither a footer nor a table is part of the disk.
        assert!(image.read_exact_at(&mut [0; 2], DISK - 1).is_err());
    }
    fs::write(&path, "abc").unwrap();
    assert_eq!(DiskImage::open(&path).unwrap().bytes(), 3);
    assert!(matches!(DiskImage::open(folder.path()), Err(OpenError::Io { .. })));
}

#[test]
fn refusals_name_file_place_and_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let (raw, _) = sparse_file(DISK, &[(0, vec![1; 100])]);
    // Byte to change, counted from the end when negative; what the error says, and what its hint.
    let cases: &[(Format, i64, &[u8], &str, &str)] = &[
        (Format::Qcow2, 79, &[0x18], "byte 72: extended second-level entries", "qemu-img convert -O raw"),
        (Format::Qcow2, 20, &[9], "byte 20: wrong cluster size", "qemu-img check"),
        (Format::RawZst, -1, &[0], "no table of zstd frames", "zstd -d"),
        (Format::RawZst, -5, &[4], "wrong descriptor", "zstd -t"),
        (Format::RawZst, -9, &[255, 255, 255, 0], "wrong number of frames", "zstd -t"),
        (Format::RawZst, -9, &[4], "wrong frame header", "zstd -t"),
        (Format::RawZst, -13, &[0, 0, 0, 2], "wrong frame size", "zstd -t"),
        (Format::RawZst, -17, &[3], "wrong sum of the frames", "zstd -t"),
        (Format::Vhd, -1, &[1], "wrong checksum of the VHD footer", "damaged or cut off"),
    ];
    for (format, at, bytes, message, hint) in cases {
        write_to(&path, *format, &raw);
        let file = File::options().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        file.write_all_at(bytes, len.checked_add_signed(*at).filter(|_| *at < 0).unwrap_or(*at as u64))
            .unwrap();
        let error = DiskImage::open(&path).unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains(message) && text.contains("disk"), "{format} {at}: {text}");
        assert!(error.hint().unwrap().contains(hint), "{format} {at}: {:?}", error.hint());
    }
}

#[test]
fn a_vhd_has_the_footer_of_the_specification() {
    let (raw, bytes) = sparse_file(DISK, &[(1 << 20, vec![3; 4096])]);
    let to = tempfile::tempfile().unwrap();
    vhd::write(&raw, DISK, &identity(), &to, &Silent).unwrap();
    let mut found = vec![0; DISK as usize + 512];
    FileExt::read_exact_at(&to, &mut found, 0).unwrap();
    assert_eq!(to.metadata().unwrap().len(), found.len() as u64);
    let (disk, footer) = found.split_at(DISK as usize);
    assert!(disk == bytes);
    assert_eq!(&footer[..8], b"conectix");
    assert_eq!(footer[8..24], [0, 0, 0, 2, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(u32::from_be_bytes(footer[24..28].try_into().unwrap()), 1_700_000_000 - 946_684_800);
    assert_eq!(footer[40..48], footer[48..56]);
    assert_eq!(u64::from_be_bytes(footer[48..56].try_into().unwrap()), DISK);
    // 10,240 sectors: 602 tracks of 17 over 4 heads.
    assert_eq!(footer[56..64], [0, 150, 4, 17, 0, 0, 0, 2]);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    let stored: u32 = footer[64..68].iter().map(|byte| u32::from(*byte)).sum();
    assert_eq!(!(sum - stored), u32::from_be_bytes(footer[64..68].try_into().unwrap()));
    assert_eq!(footer[68..84], identity().unique_id);
    assert!(sparse::is_zero(&footer[84..]));
}

#[test]
fn a_vhds_id_follows_from_what_the_image_is() {
    let base = identity();
    assert_eq!(base, Identity::new("ferrite", "1.2.3", "abcd", 1_700_000_000));
    // Version 8 and variant of RFC 9562.
    assert_eq!((base.unique_id[6] >> 4, base.unique_id[8] >> 6), (8, 2));
    for (product, version, root_hash) in
        [("other", "1.2.3", "abcd"), ("ferrite", "1.2.4", "abcd"), ("ferrite", "1.2.3", "abce")]
    {
        assert_ne!(base.unique_id, Identity::new(product, version, root_hash, 0).unique_id);
    }
}

#[test]
fn a_vhd_takes_sizes_that_azure_takes() {
    let (raw, _) = sparse_file(DISK, &[]);
    let to = tempfile::tempfile().unwrap();
    for len in [0, DISK - 512, (2040 << 30) + (1 << 20)] {
        let error = vhd::write(&raw, len, &identity(), &to, &Silent).unwrap_err().to_string();
        assert!(error.contains("multiple of 1 MiB"), "{error}");
    }
}

#[test]
fn times_outside_the_clock_of_vhd_are_its_ends() {
    let (raw, _) = sparse_file(1 << 20, &[]);
    for (build_time, stored) in [(0, 0), (946_684_799, 0), (946_684_801, 1), (u64::MAX, u32::MAX)] {
        let to = tempfile::tempfile().unwrap();
        vhd::write(&raw, 1 << 20, &Identity { build_time, ..identity() }, &to, &Silent).unwrap();
        let mut time = [0; 4];
        FileExt::read_exact_at(&to, &mut time, (1 << 20) + 24).unwrap();
        assert_eq!(u32::from_be_bytes(time), stored, "{build_time}");
    }
}

#[test]
fn zeros_of_a_compressed_disk_cost_next_to_nothing() {
    let (raw, _) = sparse_file(2 << 30, &[(700 << 20, vec![1; 100])]);
    let to = tempfile::tempfile().unwrap();
    rawzst::write(&raw, 2 << 30, &to, &Silent).unwrap();
    let bytes = to.metadata().unwrap().len();
    assert!(bytes < 160_000, "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_compressed_disk_reads_back_for_any_number_of_threads(
        pieces in pieces(DISK),
        len in (DISK - (1 << 20) - 1)..=DISK,
    ) {
        let (raw, bytes) = sparse_file(DISK, &pieces);
        let with = |threads| {
            let to = tempfile::NamedTempFile::new().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| rawzst::write(&raw, len, to.as_file(), &Silent)).unwrap();
            to
        };
        let (one, two) = (with(1), with(2));
        let file = fs::read(one.path()).unwrap();
        prop_assert!(file == fs::read(two.path()).unwrap());
        // As any decompressor reads it, and as ours does.
        prop_assert!(zstd::stream::decode_all(file.as_slice()).unwrap() == bytes[..len as usize]);
        let image = DiskImage::open(one.path()).unwrap();
        prop_assert_eq!((image.format(), image.bytes()), (Format::RawZst, len));
        let mut read = vec![0; len as usize];
        image.read_exact_at(&mut read, 0).unwrap();
        prop_assert!(read == bytes[..len as usize]);
    }

    #[test]
    fn damaged_files_are_read_without_panic(
        format in 0usize..4,
        pieces in pieces(DISK),
        damage in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<u32>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let (raw, _) = sparse_file(DISK, &pieces);
        write_to(&path, Format::ALL[format], &raw);
        let file = File::options().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for (at_end, at, byte) in damage {
            let at = u64::from(at);
            let at = if at_end { len - 1 - at % len.min(600) } else { at % len };
            file.write_all_at(&[byte], at).unwrap();
        }
        if let Some(cut) = cut {
            file.set_len(u64::from(cut) % len).unwrap();
        }
        if let Ok(image) = DiskImage::open(&path) {
            for at in (0..image.bytes().min(DISK)).step_by(65_536).chain([image.bytes().saturating_sub(512)]) {
                let _ = image.read_exact_at(&mut [0; 512], at);
            }
        }
    }
}
