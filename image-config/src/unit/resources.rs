//! What the processes of a unit may use up: systemd.resource-control(5), for control groups of version 2.

use super::name::UnitName;

/// Settings of a unit's control group; `None` and empty leave the kernel's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceControl {
    /// `CPUWeight=`.
    pub cpu_weight: Option<CpuWeight>,
    /// `StartupCPUWeight=`: in place of `cpu_weight` while the machine starts or stops.
    pub startup_cpu_weight: Option<CpuWeight>,
    /// `CPUQuota=`: microseconds of CPU time a second.
    pub cpu_quota: Option<u64>,
    /// `CPUQuotaPeriodSec=`, in microseconds; `None` is 100 ms.
    pub cpu_quota_period: Option<u64>,
    /// `AllowedCPUs=`.
    pub allowed_cpus: Vec<u32>,
    /// `AllowedMemoryNodes=`.
    pub allowed_memory_nodes: Vec<u32>,
    /// `MemoryMin=`.
    pub memory_min: Option<Amount>,
    /// `MemoryLow=`.
    pub memory_low: Option<Amount>,
    /// `MemoryHigh=`.
    pub memory_high: Option<Amount>,
    /// `MemoryMax=`.
    pub memory_max: Option<Amount>,
    /// `MemorySwapMax=`.
    pub memory_swap_max: Option<Amount>,
    /// `MemoryZSwapMax=`.
    pub memory_zswap_max: Option<Amount>,
    /// `TasksMax=`.
    pub tasks_max: Option<Amount>,
    /// `IOWeight=`, 1 to 10000.
    pub io_weight: Option<u64>,
    /// `StartupIOWeight=`.
    pub startup_io_weight: Option<u64>,
    /// `IODeviceWeight=`: a device, or a file on it, and its weight.
    pub io_device_weights: Vec<(String, u64)>,
    /// `IOReadBandwidthMax=` and its kin: a device, or a file on it, what is limited, and to how much a second.
    pub io_limits: Vec<(String, IoLimit, Option<u64>)>,
    /// `IODeviceLatencyTargetSec=`: a device, or a file on it, and microseconds.
    pub io_latencies: Vec<(String, u64)>,
    /// `Delegate=`; `None` is no.
    pub delegate: Option<Delegate>,
    /// `DelegateSubgroup=`: the group below the unit's that its processes start in.
    pub delegate_subgroup: Option<String>,
    /// `Slice=`; `None` is `system.slice`, or for instances one of their template's.
    pub slice: Option<UnitName>,
    /// `DevicePolicy=`.
    pub device_policy: DevicePolicy,
    /// `DeviceAllow=`.
    pub device_allow: Vec<DeviceRule>,
}

/// `CPUWeight=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuWeight {
    /// Only what nobody else wants.
    Idle,
    /// 1 to 10000; 100 is everybody's.
    Weight(u64),
}

/// A limit of memory or of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Number(u64),
    /// This many hundredths of a percent of what the machine has.
    Share(u32),
    /// No limit.
    Infinity,
}

impl Amount {
    /// The number, with shares taken of `whole`; `None` is no limit.
    #[must_use]
    pub fn of(self, whole: u64) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Share(share) => {
                let part = u128::from(whole) * u128::from(share) / 10_000;
                Some(u64::try_from(part).unwrap_or(u64::MAX))
            }
            Self::Infinity => None,
        }
    }
}

/// What of a device is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoLimit {
    /// Bytes read.
    ReadBandwidth,
    /// Bytes written.
    WriteBandwidth,
    /// Reads.
    ReadIops,
    /// Writes.
    WriteIops,
}

impl IoLimit {
    /// Its name in the kernel's `io.max`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::ReadBandwidth => "rbps",
            Self::WriteBandwidth => "wbps",
            Self::ReadIops => "riops",
            Self::WriteIops => "wiops",
        }
    }
}

/// `Delegate=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegate {
    /// Every controller.
    All,
    /// These, by the kernel's names.
    Controllers(Vec<String>),
}

/// `DevicePolicy=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DevicePolicy {
    /// Everything, unless `DeviceAllow=` is there; then as closed.
    #[default]
    Auto,
    /// The standard pseudo devices, and what `DeviceAllow=` lists.
    Closed,
    /// What `DeviceAllow=` lists.
    Strict,
}

/// One `DeviceAllow=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// A device node, or `char-` or `block-` and a name of `/proc/devices` with or without wildcards.
    pub device: String,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// Nodes of it may be made.
    pub make: bool,
}

impl ResourceControl {
    /// The slice that a unit of this name is in, systemd.resource-control(5) `Slice=`.
    #[must_use]
    pub fn slice_of(&self, unit: &UnitName) -> String {
        if let Some(slice) = &self.slice {
            return slice.as_str().to_owned();
        }
        match unit.instance() {
            // Dashes make levels of slices: those of the template's own name are escaped.
            Some(_) => format!("system-{}.slice", unit.prefix().replace('-', "\\x2d")),
            None => "system.slice".to_owned(),
        }
    }
}

/// The slices above and including a slice, the outermost first: `a-b.slice` is in `a.slice`, and all are in the root,
/// which `-.slice` is.
#[must_use]
pub fn slice_path(slice: &str) -> Vec<String> {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return Vec::new();
    }
    let ends = name.match_indices('-').map(|(place, _)| place).chain([name.len()]);
    ends.filter_map(|end| name.get(..end))
        .filter(|part| !part.is_empty())
        .map(|part| format!("{part}.slice"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_their_dashes() {
        assert_eq!(slice_path("a-b-c.slice"), ["a.slice", "a-b.slice", "a-b-c.slice"]);
        assert_eq!(slice_path("system.slice"), ["system.slice"]);
        assert_eq!(slice_path("-.slice"), [""; 0]);
        let resources = ResourceControl::default();
        let slice = |name: &str| resources.slice_of(&UnitName::parse(name).unwrap());
        assert_eq!(slice("a.service"), "system.slice");
        assert_eq!(slice("serial-getty@ttyS0.service"), "system-serial\\x2dgetty.slice");
    }

    #[test]
    fn shares_are_taken_of_the_whole() {
        assert_eq!(Amount::Share(2_550).of(1000), Some(255));
        assert_eq!((Amount::Number(7).of(1), Amount::Infinity.of(1)), (Some(7), None));
    }
}
