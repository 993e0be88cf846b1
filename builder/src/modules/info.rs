//! What a module says about itself.

use serde::{Deserialize, Serialize};

use super::canonical;
use super::elf::{Elf, ElfError};

/// The fields of `.modinfo` that the builder uses, and the exported symbols.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Names of modules whose symbols this one uses, with `_`.
    pub depends: Vec<String>,
    /// Patterns of devices and names that this module serves.
    pub aliases: Vec<String>,
    /// Lines of the form `pre: a b post: c`.
    pub softdeps: Vec<String>,
    /// Firmware files that it may ask for.
    pub firmware: Vec<String>,
    /// Kernel release and options that it was built for.
    pub vermagic: String,
    /// Names of exported symbols, sorted.
    pub symbols: Vec<String>,
}

impl ModuleInfo {
    /// Reads the bytes of a decompressed module.
    pub fn read(elf: &[u8]) -> Result<Self, ElfError> {
        let elf = Elf::parse(elf)?;
        let mut info = Self::parse(elf.section(".modinfo").ok_or(ElfError::NoModinfo)?);
        info.symbols = elf.symbols("__ksymtab_").map(lossy).collect();
        info.symbols.sort_unstable();
        info.symbols.dedup();
        Ok(info)
    }

    /// Reads the bytes of a `.modinfo` section: `key=value`, each ended by NUL. Unknown keys do not matter.
    pub fn parse(modinfo: &[u8]) -> Self {
        let mut info = Self::default();
        for line in modinfo.split(|&byte| byte == 0) {
            let Some(equals) = line.iter().position(|&byte| byte == b'=') else { continue };
            let (key, value) = line.split_at(equals);
            let value = lossy(value.get(1..).unwrap_or_default());
            match key {
                b"depends" => {
                    info.depends = value.split(',').filter(|name| !name.is_empty()).map(canonical).collect();
                }
                b"alias" => info.aliases.push(value),
                b"softdep" => info.softdeps.push(value),
                b"firmware" => info.firmware.push(value),
                b"vermagic" => info.vermagic = value,
                _ => {}
            }
        }
        info
    }

    /// Names that should be loaded before this module if they exist (`pre:` of its soft dependencies).
    pub fn loads_before(&self) -> impl Iterator<Item = &str> {
        self.softdeps.iter().flat_map(|line| {
            let mut before = false;
            line.split_ascii_whitespace().filter(move |word| {
                match *word {
                    "pre:" => before = true,
                    "post:" => before = false,
                    _ => return before,
                }
                false
            })
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
