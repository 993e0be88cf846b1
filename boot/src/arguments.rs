//! What the loader appends to the signed command line (`docs/ARCHITECTURE.md`, "Kernel command line").

use core::fmt;

use slots::{FOOTER_VERSION, Guid, KeyId, LOADER_VERSION};

/// Two moments of the loader, in microseconds since power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The loader's first instruction.
    pub entry_us: u64,
    /// Just before the kernel's.
    pub start_us: u64,
}

/// The appended arguments; `Display` writes them, separated by spaces, without a space at either end.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    /// The disk that init may use, and no other (SAFETY 6).
    pub disk: Guid,
    /// PARTUUID of the slot that runs (SAFETY 18).
    pub slot: Guid,
    /// True while the slot is not known to be good.
    pub trial: bool,
    /// Keys that the loader trusts (SAFETY 11).
    pub keys: &'a [KeyId],
    /// Least rollback index that the loader starts (SAFETY 12).
    pub floor: u64,
    /// Absent when no loader ran.
    pub marks: Option<Marks>,
}

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ferrite.disk={} ferrite.slot={}", self.disk, self.slot)?;
        write!(f, " ferrite.trial={}", u8::from(self.trial))?;
        write!(f, " ferrite.loader={LOADER_VERSION},{FOOTER_VERSION},")?;
        for (index, key) in self.keys.iter().enumerate() {
            write!(f, "{}{key}", if index == 0 { "" } else { "+" })?;
        }
        if self.floor > 0 {
            write!(f, ",{}", self.floor)?;
        }
        match self.marks {
            Some(marks) => write!(f, " ferrite.marks={},{}", marks.entry_us, marks.start_us),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_as_the_contract_says() {
        let keys = [KeyId([0xab; 32]), KeyId([1; 32])];
        let mut arguments = Arguments {
            disk: Guid::from_hash([0x11; 16]),
            slot: Guid::from_hash([0x22; 16]),
            trial: true,
            keys: &keys,
            floor: 0,
            marks: Some(Marks { entry_us: 5, start_us: 17 }),
        };
        assert_eq!(
            arguments.to_string(),
            "ferrite.disk=11111111-1111-8111-9111-111111111111 ferrite.slot=22222222-2222-8222-a222-222222222222 \
             ferrite.trial=1 ferrite.loader=1,1,abababababababab+0101010101010101 ferrite.marks=5,17"
        );
        arguments.floor = 7;
        assert!(arguments.to_string().contains("+0101010101010101,7 ferrite.marks="));
        (arguments.marks, arguments.trial, arguments.floor) = (None, false, 0);
        assert!(
            arguments
                .to_string()
                .ends_with("ferrite.trial=0 ferrite.loader=1,1,abababababababab+0101010101010101")
        );
    }
}
