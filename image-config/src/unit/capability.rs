//! Capabilities by name, and sets of them: capabilities(7).

use super::value::ValueError;

/// Names in the order of their numbers, linux/capability.h.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities; bit n is capability number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// Every capability, those of later kernels too.
    pub const ALL: Self = Self((1 << 63) - 1);
    /// No capability.
    pub const NONE: Self = Self(0);

    /// The capability of this name, in any case, with or without `CAP_`, or of this number.
    ///
    /// # Errors
    /// [`ValueError`] for anything else.
    pub fn one(name: &str) -> Result<Self, ValueError> {
        let upper = name.to_ascii_uppercase();
        let found =
            NAMES.iter().position(|known| *known == upper || known.strip_prefix("CAP_") == Some(&upper));
        let number = found.or_else(|| name.parse().ok().filter(|number| *number < 63));
        match number {
            Some(number) => Ok(Self(1 << number)),
            None => {
                Err(ValueError { value: name.to_owned(), expected: "a capability such as `CAP_NET_ADMIN`" })
            }
        }
    }

    /// Capabilities that are in either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Capabilities that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other's are in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Numbers of the capabilities in it.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..63).filter(move |number| self.0 >> number & 1 == 1)
    }

    /// Adds an assignment of `CapabilityBoundingSet=` or `AmbientCapabilities=`: nothing is the empty set, `~` takes the
    /// listed ones out (alone: leaves nothing out), a further line adds to what is there.
    pub(super) fn assign(slot: &mut Option<Self>, invert: bool, listed: Option<Self>, initial: Self) {
        let Some(listed) = listed else {
            *slot = Some(if invert { Self::ALL } else { Self::NONE });
            return;
        };
        let current = slot.filter(|current| *current != initial);
        *slot = Some(match (current, invert) {
            (None, true) => Self::ALL.without(listed),
            (None, false) => listed,
            (Some(current), true) => current.without(listed),
            (Some(current), false) => current.with(listed),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_kernel_numbers() {
        for (name, bit) in
            [("CAP_CHOWN", 0), ("cap_sys_admin", 21), ("SYS_TIME", 25), ("CAP_CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(CapabilitySet::one(name), Ok(CapabilitySet(1 << bit)), "{name}");
        }
        assert_eq!(CapabilitySet::one("45"), Ok(CapabilitySet(1 << 45)));
        assert!(CapabilitySet::one("CAP_NOPE").is_err() && CapabilitySet::one("64").is_err());
        assert_eq!(CapabilitySet(0b101).numbers().collect::<Vec<_>>(), [0, 2]);
    }
}
