//! The boot flags of a slot: three fields in the attribute word of its GPT entry.

use core::fmt;

/// Tries of a slot that is known to be good. Every boot takes one and `boot-complete.target` restores them, so a good slot
/// that stops working loses its turn after this many boots (SAFETY 8).
pub const TRIES_FULL: u8 = 7;

const PRIORITY_SHIFT: u32 = 48;
const TRIES_SHIFT: u32 = 52;
const SUCCESSFUL_BIT: u64 = 1 << 56;
const NIBBLE: u64 = 0xf;

/// The attribute word of a slot's GPT entry (UEFI 2.10, table 5.7: bits 48 to 63 belong to the partition type), with
/// the fields of Container Linux: priority in bits 48-51, tries left in 52-55, successful in bit 56.
///
/// Changing a field leaves all other bits as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SlotFlags(u64);

/// A value does not fit its four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagsError {
    /// `priority` or `tries`.
    pub field: &'static str,
    /// The refused value; the range is 0 to 15.
    pub value: u8,
}

impl fmt::Display for FlagsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is outside 0 to 15", self.field, self.value)
    }
}

impl core::error::Error for FlagsError {}

impl SlotFlags {
    /// A slot that is known to be good and boots first: what a fresh image has in USR-A.
    pub const FRESH: Self =
        Self((2 << PRIORITY_SHIFT) | ((TRIES_FULL as u64) << TRIES_SHIFT) | SUCCESSFUL_BIT);
    /// A slot that never boots.
    pub const EMPTY: Self = Self(0);

    /// Takes the attribute word as it stands in the entry.
    pub const fn from_attributes(attributes: u64) -> Self {
        Self(attributes)
    }

    /// The attribute word for the entry.
    pub const fn to_attributes(self) -> u64 {
        self.0
    }

    /// 0 to 15; 0 never boots, a higher one boots first.
    pub const fn priority(self) -> u8 {
        ((self.0 >> PRIORITY_SHIFT) & NIBBLE) as u8
    }

    /// 0 to 15 boots left before the slot needs `successful` to be a candidate.
    pub const fn tries(self) -> u8 {
        ((self.0 >> TRIES_SHIFT) & NIBBLE) as u8
    }

    /// True once a boot of this slot's content has reached `boot-complete.target`.
    pub const fn successful(self) -> bool {
        self.0 & SUCCESSFUL_BIT != 0
    }

    /// Sets the priority.
    ///
    /// # Errors
    /// Values above 15 do not fit.
    pub const fn with_priority(self, priority: u8) -> Result<Self, FlagsError> {
        match self.with_nibble(PRIORITY_SHIFT, priority) {
            Some(flags) => Ok(flags),
            None => Err(FlagsError { field: "priority", value: priority }),
        }
    }

    /// Sets the tries left.
    ///
    /// # Errors
    /// Values above 15 do not fit.
    pub const fn with_tries(self, tries: u8) -> Result<Self, FlagsError> {
        match self.with_nibble(TRIES_SHIFT, tries) {
            Some(flags) => Ok(flags),
            None => Err(FlagsError { field: "tries", value: tries }),
        }
    }

    /// Sets or clears the successful bit.
    pub const fn with_successful(self, successful: bool) -> Self {
        if successful { Self(self.0 | SUCCESSFUL_BIT) } else { Self(self.0 & !SUCCESSFUL_BIT) }
    }

    /// One boot: a try less, or the same flags when none is left.
    pub const fn after_try(self) -> Self {
        if self.tries() == 0 { self } else { Self(self.0 - (1 << TRIES_SHIFT)) }
    }

    /// What `boot-complete.target` writes for the running slot: successful, all tries (SAFETY 8).
    pub const fn marked_good(self) -> Self {
        let cleared = self.0 & !(NIBBLE << TRIES_SHIFT);
        Self(cleared | ((TRIES_FULL as u64) << TRIES_SHIFT) | SUCCESSFUL_BIT)
    }

    const fn with_nibble(self, shift: u32, value: u8) -> Option<Self> {
        if value > 15 {
            return None;
        }
        Some(Self((self.0 & !(NIBBLE << shift)) | ((value as u64) << shift)))
    }
}

impl fmt::Debug for SlotFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SlotFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "priority={} tries={} successful={}",
            self.priority(),
            self.tries(),
            u8::from(self.successful())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_sit_on_the_bits_of_container_linux() {
        assert_eq!(SlotFlags::FRESH.to_attributes(), 0x0172_0000_0000_0000);
        let flags = SlotFlags::from_attributes(0x00a5_0000_0000_0001);
        assert_eq!((flags.priority(), flags.tries(), flags.successful()), (5, 10, false));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let error = SlotFlags::EMPTY.with_tries(16).unwrap_err();
        assert_eq!(error.to_string(), "tries 16 is outside 0 to 15");
        assert!(SlotFlags::EMPTY.with_priority(16).is_err());
    }

    #[test]
    fn a_try_is_taken_until_none_is_left() {
        let one = SlotFlags::EMPTY.with_tries(1).unwrap();
        assert_eq!(one.after_try().tries(), 0);
        assert_eq!(one.after_try().after_try(), one.after_try());
    }

    proptest! {
        #[test]
        fn changing_a_field_leaves_the_other_bits(word: u64, value in 0u8..16) {
            let flags = SlotFlags::from_attributes(word);
            let tries = flags.with_tries(value).unwrap();
            prop_assert_eq!(tries.to_attributes() & !(0xf << 52), word & !(0xf << 52));
            prop_assert_eq!(tries.tries(), value);
            let priority = flags.with_priority(value).unwrap();
            prop_assert_eq!(priority.to_attributes() & !(0xf << 48), word & !(0xf << 48));
            prop_assert_eq!(flags.marked_good().to_attributes() & !(0x1f << 52), word & !(0x1f << 52));
        }
    }
}
