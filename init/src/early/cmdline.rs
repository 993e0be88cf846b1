//! The kernel command line, as far as Ferrite wrote it (`docs/ARCHITECTURE.md`, "Kernel command line").
//!
//! When a key stands twice, the first counts: the signed part comes first, so nothing that is appended to it can replace it.

use slots::Guid;
use std::fmt;

/// `ferrite.verity=`: what dm-verity needs to know about the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// Lower-case hex, 64 digits (SHA-256).
    pub root_hash: String,
    /// Lower-case hex; empty for no salt.
    pub salt: String,
    /// Blocks of 4096 bytes that the tree covers, from the partition's start.
    pub data_blocks: u64,
    /// Byte offset of the verity superblock; a multiple of 4096.
    pub superblock_offset: u64,
}

/// `ferrite.image=`: what was booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name of the image; also the host name of last resort.
    pub name: String,
    /// Version of the image.
    pub version: String,
    /// When it was built, Unix seconds: the clock's floor (SAFETY 25).
    pub build_time: u64,
}

/// `ferrite.marks=`: the loader's boot marks, in microseconds since power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderMarks {
    /// Entry of the loader: the firmware's share.
    pub entry: u64,
    /// Just before it started the kernel.
    pub start_image: u64,
}

/// `ferrite.loader=`: what the loader says of itself (SAFETY 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// Its version; a slot's footer can ask for a newer one.
    pub version: u32,
    /// The highest footer version that it reads.
    pub footer_version: u32,
    /// Beginnings (16 hex digits) of the ids of the keys that it trusts.
    pub keys: Vec<String>,
    /// The least rollback index that it starts (SAFETY 12); loaders that have no floor do not say.
    pub rollback_floor: u64,
}

/// All that Ferrite reads from the command line. What is absent or malformed is `None`, with a line in `problems` for the latter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// GUID of the disk that the loader booted from.
    pub disk: Option<Guid>,
    /// PARTUUID of the running slot (SAFETY 18).
    pub slot: Option<Guid>,
    /// The slot is not yet successful.
    pub trial: bool,
    /// How to open the slot.
    pub verity: Option<Verity>,
    /// What the slot holds.
    pub image: Option<Image>,
    /// The loader's marks; absent without a loader.
    pub marks: Option<LoaderMarks>,
    /// What the loader would start.
    pub loader: Option<Loader>,
    /// `KEY=VALUE` words that could not be read.
    pub problems: Vec<String>,
}

impl CommandLine {
    /// Reads `/proc/cmdline`.
    ///
    /// # Errors
    /// proc(5) is not mounted.
    pub fn read() -> std::io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string("/proc/cmdline")?))
    }

    /// Reads a command line.
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        let mut trial = None;
        for word in text.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else { continue };
            let understood = match key {
                "ferrite.disk" => first(&mut line.disk, value.parse().ok()),
                "ferrite.slot" => first(&mut line.slot, value.parse().ok()),
                "ferrite.verity" => first(&mut line.verity, parse_verity(value)),
                "ferrite.image" => first(&mut line.image, parse_image(value)),
                "ferrite.marks" => first(&mut line.marks, parse_marks(value)),
                "ferrite.loader" => first(&mut line.loader, parse_loader(value)),
                "ferrite.trial" => first(&mut trial, parse_flag(value)),
                _ => true,
            };
            if !understood {
                line.problems.push(word.to_owned());
            }
        }
        line.trial = trial.unwrap_or(false);
        line
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Keeps the first value of a key; false when this one is malformed.
fn first<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let understood = value.is_some();
    if place.is_none() {
        *place = value;
    }
    understood
}

fn parse_flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn parse_verity(value: &str) -> Option<Verity> {
    let mut parts = value.split(',');
    let (root_hash, salt) = (parts.next()?, parts.next()?);
    let data_blocks: u64 = parts.next()?.parse().ok()?;
    let superblock_offset: u64 = parts.next()?.parse().ok()?;
    let sound = is_hex(root_hash)
        && root_hash.len() == 64
        && is_hex(salt)
        && salt.len() <= 512
        && data_blocks > 0
        && superblock_offset.is_multiple_of(4096)
        && superblock_offset / 4096 >= data_blocks
        && parts.next().is_none();
    sound.then(|| Verity {
        root_hash: root_hash.to_owned(),
        salt: salt.to_owned(),
        data_blocks,
        superblock_offset,
    })
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse_image(value: &str) -> Option<Image> {
    let mut parts = value.split(',');
    let (name, version) = (parts.next()?, parts.next()?);
    let build_time = parts.next()?.parse().ok()?;
    let sound = !name.is_empty() && parts.next().is_none();
    sound.then(|| Image { name: name.to_owned(), version: version.to_owned(), build_time })
}

fn parse_marks(value: &str) -> Option<LoaderMarks> {
    let (entry, start_image) = value.split_once(',')?;
    Some(LoaderMarks { entry: entry.parse().ok()?, start_image: start_image.parse().ok()? })
}

fn parse_loader(value: &str) -> Option<Loader> {
    let mut parts = value.split(',');
    let version = parts.next()?.parse().ok()?;
    let footer_version = parts.next()?.parse().ok()?;
    let keys = parts.next()?.split('+').filter(|key| !key.is_empty()).map(str::to_owned).collect();
    let rollback_floor = parts.next().map_or(Some(0), |floor| floor.parse().ok())?;
    Some(Loader { version, footer_version, keys, rollback_floor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "9a3f0000000000000000000000000000000000000000000000000000000000ff";

    #[test]
    fn a_whole_command_line_is_understood() {
        let line = CommandLine::parse(&format!(
            "console=ttyS0 gpt panic=10 ferrite.verity={HASH},00ff,25600,104857600 ferrite.image=ferrite,1.2.3,1760000000 \
             ferrite.disk=11111111-2222-3333-4444-555555555555 ferrite.slot=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee \
             ferrite.trial=1 ferrite.loader=2,1,00112233+4455 ferrite.marks=3900000,4200000\n"
        ));
        assert_eq!(line.problems, Vec::<String>::new());
        assert!(line.trial);
        assert_eq!(line.disk.unwrap().to_string(), "11111111-2222-3333-4444-555555555555");
        assert_eq!(line.slot.unwrap().to_string(), "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
        assert_eq!(line.marks, Some(LoaderMarks { entry: 3_900_000, start_image: 4_200_000 }));
        let keys = vec!["00112233".to_owned(), "4455".to_owned()];
        let loader = Loader { version: 2, footer_version: 1, keys, rollback_floor: 0 };
        assert_eq!(line.loader, Some(loader));
        assert_eq!(
            parse_loader("2,1,,7").map(|loader| (loader.keys.len(), loader.rollback_floor)),
            Some((0, 7))
        );
        let verity = line.verity.unwrap();
        assert_eq!((verity.data_blocks, verity.superblock_offset), (25_600, 104_857_600));
        assert_eq!(line.image.unwrap().to_string(), "ferrite 1.2.3");
    }

    #[test]
    fn what_is_appended_cannot_replace_what_is_signed() {
        let other = HASH.replace("9a3f", "0000");
        let line =
            CommandLine::parse(&format!("ferrite.verity={HASH},,1,4096 ferrite.verity={other},,1,4096"));
        assert_eq!(line.verity.unwrap().root_hash, HASH);
    }

    #[test]
    fn malformed_values_are_named_and_not_used() {
        let cases = [
            "ferrite.verity=abc,00,1,4096".to_owned(),
            format!("ferrite.verity={HASH},00,1,4097"),
            format!("ferrite.verity={HASH},00,0,4096"),
            format!("ferrite.verity={HASH},0g,1,4096"),
            format!("ferrite.verity={HASH},00,2,4096"),
            format!("ferrite.verity={HASH},00,1,4096,5"),
            "ferrite.disk=11111111".to_owned(),
            "ferrite.image=,1,2".to_owned(),
            "ferrite.marks=1".to_owned(),
            "ferrite.trial=yes".to_owned(),
        ];
        for word in cases {
            let line = CommandLine::parse(&word);
            assert_eq!(
                line,
                CommandLine { problems: vec![word.clone()], ..CommandLine::default() },
                "{word}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(ferrite\\.(verity|image|marks|disk|slot|trial)=[0-9a-f,-]{0,90} ?|.{0,20}){0,4}") {
            CommandLine::parse(&text);
        }
    }
}
