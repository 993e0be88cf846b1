//! The processor's time-stamp counter, which starts at power-on: the only clock that saw firmware and loader.
#![allow(unsafe_code, reason = "reading the counter is an intrinsic marked unsafe")]

/// The counter; `None` on processors without one.
pub fn read() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has RDTSC, and it touches no memory.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}
