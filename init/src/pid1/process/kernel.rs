//! Attributes that the kernel keeps of a process: limits, priorities, scheduling, keyring.

use std::fs;
use std::io;

use image_config::unit::{ExecContext, KeyringMode, Resource, ResourceLimit, Sandbox};
use rustix::process::{Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;

use super::{Context, Step, code};
use crate::sys::setup;

/// Open files of a process whose unit says nothing: systemd's `DefaultLimitNOFILE=`. Programs that use select(2) need the lower one.
const OPEN_FILES: Rlimit = Rlimit { current: Some(1024), maximum: Some(512 << 10) };

/// The same as the kernel takes it.
pub(super) const OPEN_FILES_RAW: [u64; 2] = [1024, 512 << 10];

/// Lets this process have as many open files as there may be: it holds a copy of every stream to the journal. The processes that it starts
/// get [`OPEN_FILES`].
///
/// # Errors
/// The kernel's.
pub fn have_many_open_files() -> io::Result<()> {
    let most = Rlimit { current: OPEN_FILES.maximum, ..OPEN_FILES };
    Ok(setrlimit(rustix::process::Resource::Nofile, most)?)
}

/// `OOMScoreAdjust=`, `Nice=`, `CPUScheduling...=`, `CPUAffinity=`, `IOScheduling...=`, `TimerSlackNSec=`,
/// `Personality=`.
pub(super) fn set_limits_of_process(exec: &ExecContext) -> Step<()> {
    // Without the privilege it has what its parent has.
    let _lower = setrlimit(rustix::process::Resource::Nofile, OPEN_FILES);
    if let Some(mask) = exec.coredump_filter {
        // Kernels are built without core dumps too.
        match fs::write("/proc/self/coredump_filter", format!("{mask:#x}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.step(code::LIMITS, format_args!("CoredumpFilter={mask:#x}"))?,
        }
    }
    if let Some(score) = exec.oom_score_adjust {
        match fs::write("/proc/self/oom_score_adj", score.to_string()) {
            // In a container nobody may lower it; systemd too goes on.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result.step(code::OOM_ADJUST, format_args!("OOMScoreAdjust={score}"))?,
        }
    }
    if let Some(nice) = exec.nice {
        rustix::process::setpriority_process(None, nice).step(code::NICE, format_args!("Nice={nice}"))?;
    }
    let scheduling = &exec.scheduling;
    if scheduling.policy.is_some() || scheduling.priority.is_some() || scheduling.reset_on_fork {
        // Real-time policies count from 1, the others have 0 alone.
        let policy = scheduling.policy.unwrap_or(0);
        let real_time = matches!(policy, 1 | 2);
        let priority = if real_time { scheduling.priority.unwrap_or(1) } else { 0 };
        setup::set_scheduler(policy, priority, scheduling.reset_on_fork)
            .step(code::SETSCHEDULER, format_args!("CPUSchedulingPolicy={policy}, priority {priority}"))?;
    }
    if !scheduling.cpu_affinity.is_empty() {
        let mut cpus = CpuSet::new();
        let known = |cpu: &usize| *cpu < CpuSet::MAX_CPU;
        let wanted =
            scheduling.cpu_affinity.iter().filter_map(|cpu| usize::try_from(*cpu).ok()).filter(known);
        wanted.for_each(|cpu| cpus.set(cpu));
        rustix::thread::sched_setaffinity(None, &cpus).step(code::CPUAFFINITY, "CPUAffinity=")?;
    }
    if scheduling.io_class.is_some() || scheduling.io_priority.is_some() {
        // Best effort, with the middle priority, is what the kernel itself gives (linux/ioprio.h).
        let (class, priority) = (scheduling.io_class.unwrap_or(2), scheduling.io_priority.unwrap_or(4));
        let priority = if matches!(class, 1 | 2) { priority } else { 0 };
        setup::set_io_priority(class, priority)
            .step(code::IOPRIO, format_args!("IOSchedulingClass={class}, priority {priority}"))?;
    }
    if let Some(slack) = scheduling.timer_slack {
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(slack))
            .step(code::TIMERSLACK, format_args!("TimerSlackNSec={slack}"))?;
    }
    if let Some(persona) = exec.personality {
        setup::set_personality(persona).step(code::PERSONALITY, "Personality=")?;
    }
    Ok(())
}

/// `Limit...=`. A hard limit that may not be raised stays where it is, and the soft one below it.
pub(super) fn set_resource_limits(exec: &ExecContext) -> Step<()> {
    for limit in &exec.limits {
        let resource = resource(limit.resource);
        let wanted = Rlimit { current: limit.soft, maximum: limit.hard };
        let result = match setrlimit(resource, wanted) {
            Err(rustix::io::Errno::PERM) => {
                let closest = closest(limit, getrlimit(resource).maximum);
                setrlimit(resource, closest)
            }
            result => result,
        };
        result.step(code::LIMITS, format_args!("Limit{:?}=", limit.resource))?;
    }
    Ok(())
}

/// The limit within a hard one that stands; `None` is without limit.
fn closest(limit: &ResourceLimit, hard: Option<u64>) -> Rlimit {
    let below = |wanted: Option<u64>| match (wanted, hard) {
        (Some(wanted), Some(hard)) => Some(wanted.min(hard)),
        (None, hard) => hard,
        (wanted, None) => wanted,
    };
    Rlimit { current: below(limit.soft), maximum: below(limit.hard) }
}

/// The same resource as rustix names it.
fn resource(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::Cpu => Kernel::Cpu,
        Resource::Fsize => Kernel::Fsize,
        Resource::Data => Kernel::Data,
        Resource::Stack => Kernel::Stack,
        Resource::Core => Kernel::Core,
        Resource::Rss => Kernel::Rss,
        Resource::Nproc => Kernel::Nproc,
        Resource::Nofile => Kernel::Nofile,
        Resource::Memlock => Kernel::Memlock,
        Resource::As => Kernel::As,
        Resource::Locks => Kernel::Locks,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
    }
}

/// `KeyringMode=`. A kernel without keyrings has none to share either.
pub(super) fn join_keyring(sandbox: &Sandbox) -> Step<()> {
    let link_user = match sandbox.keyring_mode.unwrap_or(KeyringMode::Private) {
        KeyringMode::Inherit => return Ok(()),
        KeyringMode::Private => false,
        KeyringMode::Shared => true,
    };
    match setup::new_session_keyring(link_user) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
            Ok(())
        }
        result => result.step(code::KEYRING, "KeyringMode="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_keep_within_the_hard_one_that_stands() {
        let limit = |soft, hard| ResourceLimit { resource: Resource::Nofile, soft, hard };
        let got = |soft, hard, stands| {
            let closest = closest(&limit(soft, hard), stands);
            (closest.current, closest.maximum)
        };
        assert_eq!(got(Some(5), Some(10), Some(7)), (Some(5), Some(7)));
        assert_eq!(got(Some(9), None, Some(7)), (Some(7), Some(7)));
        assert_eq!(got(None, None, None), (None, None));
        assert_eq!(got(Some(9), Some(9), None), (Some(9), Some(9)));
    }
}
