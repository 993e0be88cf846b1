//! As much of ELF as modules need: 64-bit little-endian relocatable files, sections by name, symbols by prefix.
//! Total: any bytes give a result or an error.

/// Why bytes are no module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not ELF, or not 64-bit little-endian.
    #[error("it is no 64-bit little-endian ELF file")]
    Format,
    /// A table or section lies outside the file.
    #[error("its {0} lies outside the file")]
    Outside(&'static str),
    /// A module without the section that describes it.
    #[error("it has no .modinfo section")]
    NoModinfo,
}

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;

/// One section header, as far as it concerns us.
#[derive(Debug, Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    len: u64,
    link: u32,
}

/// Section type without bytes in the file.
const NO_BITS: u32 = 8;
const SYMBOL_TABLE: u32 = 2;

/// An ELF file whose section table lies inside it.
#[derive(Debug)]
pub(super) struct Elf<'b> {
    bytes: &'b [u8],
    sections: Vec<Section>,
    names: &'b [u8],
}

impl<'b> Elf<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, ElfError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(ElfError::Format)?;
        if !header.starts_with(b"\x7fELF\x02\x01\x01") || u16_at(header, 58) != Some(64) {
            return Err(ElfError::Format);
        }
        let outside = ElfError::Outside("section table");
        let start = u64_at(header, 40).ok_or(outside)?;
        let count = usize::from(u16_at(header, 60).ok_or(outside)?);
        let names_index = usize::from(u16_at(header, 62).ok_or(outside)?);
        let table = slice(bytes, start, (count * SECTION_BYTES) as u64).ok_or(outside)?;
        let sections = table.chunks_exact(SECTION_BYTES).map(Section::parse).collect::<Option<Vec<_>>>();
        let sections = sections.ok_or(outside)?;
        let mut elf = Self { bytes, sections, names: &[] };
        elf.names = elf
            .sections
            .get(names_index)
            .and_then(|section| elf.content(section))
            .ok_or(ElfError::Outside("section names"))?;
        Ok(elf)
    }

    /// The bytes of the first section with this name.
    pub(super) fn section(&self, name: &str) -> Option<&'b [u8]> {
        let found =
            self.sections.iter().find(|section| text_at(self.names, section.name) == Some(name.as_bytes()));
        self.content(found?)
    }

    /// What follows `prefix` in the names of all symbols that begin with it.
    pub(super) fn symbols(&self, prefix: &str) -> impl Iterator<Item = &'b [u8]> {
        let table = self.sections.iter().find(|section| section.kind == SYMBOL_TABLE);
        let symbols = table.and_then(|table| self.content(table)).unwrap_or_default();
        let names = table
            .and_then(|table| self.sections.get(usize::try_from(table.link).ok()?))
            .and_then(|names| self.content(names))
            .unwrap_or_default();
        let prefix = prefix.as_bytes().to_vec();
        symbols
            .chunks_exact(SYMBOL_BYTES)
            .filter_map(move |symbol| text_at(names, u32_at(symbol, 0)?)?.strip_prefix(prefix.as_slice()))
    }

    fn content(&self, section: &Section) -> Option<&'b [u8]> {
        if section.kind == NO_BITS {
            return None;
        }
        slice(self.bytes, section.offset, section.len)
    }
}

impl Section {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name: u32_at(bytes, 0)?,
            kind: u32_at(bytes, 4)?,
            offset: u64_at(bytes, 24)?,
            len: u64_at(bytes, 32)?,
            link: u32_at(bytes, 40)?,
        })
    }
}

fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// The NUL-terminated text at `offset` of a string table.
fn text_at(table: &[u8], offset: u32) -> Option<&[u8]> {
    table.get(usize::try_from(offset).ok()?..)?.split(|&byte| byte == 0).next()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
