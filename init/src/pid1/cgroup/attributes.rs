//! Which files of a control group get which text: systemd.resource-control(5) to the kernel's `cgroup-v2`.

use std::fs;

use image_config::unit::{Amount, CpuWeight, ResourceControl};

/// How much of the machine there is to have shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// Bytes of memory.
    pub memory: u64,
    /// Tasks that can exist at once.
    pub tasks: u64,
}

/// `CPUQuotaPeriodSec=` unless written, and the kernel's bounds, in microseconds.
const PERIOD: u64 = 100_000;
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
/// The least quota that the kernel takes, in microseconds a period.
const LEAST_QUOTA: u64 = 1000;
/// `DefaultTasksMax=` of systemd: 15 % of what the machine can have.
const DEFAULT_TASKS: Amount = Amount::Share(1500);

impl Machine {
    /// As the kernel tells it; what it does not tell counts as large.
    pub fn read() -> Machine {
        let number =
            |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let pids = number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX);
        let threads = number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX);
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let memory =
            total.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).map(|kilobytes| kilobytes << 10);
        Machine { memory: memory.unwrap_or(u64::MAX), tasks: pids.min(threads) }
    }
}

/// Whether the controller of CPUs is needed.
pub(super) fn needs_cpuset(control: &ResourceControl) -> bool {
    !(control.allowed_cpus.is_empty() && control.allowed_memory_nodes.is_empty())
}

/// Whether a file gets a text that nobody asked for.
pub(super) fn is_default(file: &str) -> bool {
    file == "pids.max"
}

/// What the kernel has when nothing was written; `None` for files that are never written.
pub(super) fn default_of(file: &str) -> Option<&'static str> {
    Some(match file {
        "cpu.weight" => "100",
        "cpu.idle" | "memory.min" | "memory.low" => "0",
        "cpu.max" | "memory.high" | "memory.max" | "memory.swap.max" | "memory.zswap.max" | "pids.max" => {
            "max"
        }
        "cpuset.cpus" | "cpuset.mems" => "\n",
        "io.weight" => "default 100",
        _ => return None,
    })
}

/// Files and texts for a unit, and for how the machine is.
pub(super) fn of(
    control: &ResourceControl,
    machine: Machine,
    starting: bool,
    is_leaf: bool,
) -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    let weight = control.startup_cpu_weight.filter(|_| starting).or(control.cpu_weight);
    // A weight that only holds for the start gives way to the kernel's default.
    let weight = weight.or(control.startup_cpu_weight.map(|_| CpuWeight::Weight(100)));
    match weight {
        Some(CpuWeight::Idle) => list.push(("cpu.idle", "1".to_owned())),
        Some(CpuWeight::Weight(weight)) => list.push(("cpu.weight", weight.to_string())),
        None => {}
    }
    if let Some(quota) = control.cpu_quota {
        let period = control.cpu_quota_period.unwrap_or(PERIOD).clamp(*PERIODS.start(), *PERIODS.end());
        let part = u128::from(quota) * u128::from(period) / 1_000_000;
        let part = u64::try_from(part).unwrap_or(u64::MAX).max(LEAST_QUOTA);
        list.push(("cpu.max", format!("{part} {period}")));
    }
    if !control.allowed_cpus.is_empty() {
        list.push(("cpuset.cpus", ranges(&control.allowed_cpus)));
    }
    if !control.allowed_memory_nodes.is_empty() {
        list.push(("cpuset.mems", ranges(&control.allowed_memory_nodes)));
    }
    let memory = [
        ("memory.min", control.memory_min),
        ("memory.low", control.memory_low),
        ("memory.high", control.memory_high),
        ("memory.max", control.memory_max),
        ("memory.swap.max", control.memory_swap_max),
        ("memory.zswap.max", control.memory_zswap_max),
    ];
    for (file, amount) in memory {
        list.extend(amount.map(|amount| (file, limit(amount.of(machine.memory)))));
    }
    let tasks = control.tasks_max.or(is_leaf.then_some(DEFAULT_TASKS));
    list.extend(tasks.map(|tasks| ("pids.max", limit(tasks.of(machine.tasks)))));
    let weight = control.startup_io_weight.filter(|_| starting).or(control.io_weight);
    let weight = weight.or(control.startup_io_weight.map(|_| 100));
    list.extend(weight.map(|weight| ("io.weight", format!("default {weight}"))));
    list
}

fn limit(number: Option<u64>) -> String {
    number.map_or_else(|| "max".to_owned(), |number| number.to_string())
}

/// Sorted numbers as the kernel writes sets of them: `0-2,5`.
fn ranges(numbers: &[u32]) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match spans.last_mut().filter(|(_, last)| last.checked_add(1) == Some(*number)) {
            Some((_, last)) => *last = *number,
            None => spans.push((*number, *number)),
        }
    }
    let words: Vec<String> = spans
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { memory: 1 << 30, tasks: 1000 };

    #[test]
    fn nothing_written_is_the_default_limit_of_tasks_alone() {
        let control = ResourceControl::default();
        assert_eq!(of(&control, MACHINE, false, true), [("pids.max", "150".to_owned())]);
        assert_eq!(of(&control, MACHINE, false, false), []);
    }

    #[test]
    fn whatever_is_written_has_a_default_to_go_back_to() {
        let some = Some(Amount::Number(1));
        let control = ResourceControl {
            cpu_weight: Some(CpuWeight::Weight(50)),
            cpu_quota: Some(1),
            allowed_cpus: vec![0],
            allowed_memory_nodes: vec![0],
            memory_min: some,
            memory_low: some,
            memory_high: some,
            memory_max: some,
            memory_swap_max: some,
            memory_zswap_max: some,
            io_weight: Some(7),
            ..ResourceControl::default()
        };
        let files: Vec<&str> = of(&control, MACHINE, false, true).iter().map(|(file, _)| *file).collect();
        assert_eq!(files.len(), 12);
        assert!(files.iter().all(|file| default_of(file).is_some()), "{files:?}");
    }

    #[test]
    fn settings_become_the_kernels_texts() {
        let control = ResourceControl {
            cpu_weight: Some(CpuWeight::Weight(50)),
            startup_cpu_weight: Some(CpuWeight::Idle),
            cpu_quota: Some(1_500_000),
            cpu_quota_period: Some(10_000),
            allowed_cpus: vec![0, 1, 2, 5],
            memory_max: Some(Amount::Share(5000)),
            memory_high: Some(Amount::Infinity),
            memory_low: Some(Amount::Number(4096)),
            tasks_max: Some(Amount::Infinity),
            io_weight: Some(7),
            ..ResourceControl::default()
        };
        let text = |starting| -> Vec<String> {
            of(&control, MACHINE, starting, true)
                .iter()
                .map(|(file, value)| format!("{file}={value}"))
                .collect()
        };
        let mut want = [
            "cpu.weight=50",
            "cpu.max=15000 10000",
            "cpuset.cpus=0-2,5",
            "memory.low=4096",
            "memory.high=max",
            "memory.max=536870912",
            "pids.max=max",
            "io.weight=default 7",
        ];
        assert_eq!(text(false), want);
        want[0] = "cpu.idle=1";
        assert_eq!(text(true), want);
    }

    #[test]
    fn a_quota_keeps_to_what_the_kernel_takes() {
        let control =
            ResourceControl { cpu_quota: Some(100), cpu_quota_period: Some(5), ..ResourceControl::default() };
        assert!(of(&control, MACHINE, false, false).contains(&("cpu.max", "1000 1000".to_owned())));
    }
}
