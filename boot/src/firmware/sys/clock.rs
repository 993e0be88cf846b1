//! Time since power-on by the time-stamp counter, which starts at zero with the processor.

use core::arch::x86_64::{__cpuid, _rdtsc};
use core::time::Duration;

/// How long the counter is watched when the processor does not tell its rate. 1% of error in marks of a few seconds
/// would be 30 ms; the firmware's own timer is better than that over this time.
const CALIBRATION: Duration = Duration::from_millis(1);
/// How often. An emulated processor that loses its turn in between sees too many ticks, never too few: the least counts.
const CALIBRATIONS: usize = 4;

/// The time-stamp counter and its rate.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    entry_ticks: u64,
    ticks_per_ms: u64,
}

impl Clock {
    /// Notes this moment as the loader's entry, and learns the counter's rate.
    pub fn start() -> Self {
        let entry_ticks = ticks();
        let ticks_per_ms = told_rate().unwrap_or_else(measured_rate).max(1);
        Self { entry_ticks, ticks_per_ms }
    }

    /// Microseconds from power-on to the loader's entry.
    pub const fn entry_us(self) -> u64 {
        self.microseconds(self.entry_ticks)
    }

    /// Microseconds from power-on to now.
    pub fn now_us(self) -> u64 {
        self.microseconds(ticks())
    }

    const fn microseconds(self, ticks: u64) -> u64 {
        let whole = ticks / self.ticks_per_ms;
        let rest = ticks % self.ticks_per_ms;
        whole.saturating_mul(1000).saturating_add(rest.saturating_mul(1000) / self.ticks_per_ms)
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and UEFI runs at the privilege that may use it.
    unsafe { _rdtsc() }
}

/// Ticks per millisecond as the hypervisor or processor says: leaf 0x4000_0010 (kHz), leaf 0x15 (crystal and ratio).
fn told_rate() -> Option<u64> {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT != 0 && __cpuid(0x4000_0000).eax >= 0x4000_0010 {
        let khz = u64::from(__cpuid(0x4000_0010).eax);
        return (khz > 0).then_some(khz);
    }
    if __cpuid(0).eax >= 0x15 {
        let leaf = __cpuid(0x15);
        let crystal_hz = u64::from(leaf.ecx);
        let scaled = crystal_hz.saturating_mul(u64::from(leaf.ebx)).checked_div(u64::from(leaf.eax))?;
        return (scaled > 0).then_some(scaled / 1000);
    }
    None
}

fn measured_rate() -> u64 {
    let watch = || {
        let before = ticks();
        uefi::boot::stall(CALIBRATION);
        ticks().saturating_sub(before) / CALIBRATION.as_millis().try_into().unwrap_or(1).max(1u64)
    };
    core::iter::repeat_with(watch).take(CALIBRATIONS).min().unwrap_or(1)
}
