//! Filters of system calls: `SystemCallFilter=`, `RestrictAddressFamilies=`, `RestrictNamespaces=` and their kin.
//!
//! Each setting becomes one or more filters ([`Plan`]), which the kernel combines: the strictest answer counts. All of
//! them end a process that makes calls of another architecture, so that any of the settings implies
//! `SystemCallArchitectures=native`; the image has programs of no other.

use std::collections::BTreeMap;

use image_config::unit::{Denial, FamilyFilter, Sandbox, SyscallFilter};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use syscalls::Sysno;

use super::{Context, Step, code};
use crate::sys::setup::{self, Instruction};

/// Bits of a new file's mode that let it run as its owner or group.
const SET_ID_BITS: [u64; 2] = [0o4000, 0o2000];
/// Flags of clone(2) for namespaces, linux/sched.h.
const NAMESPACE_FLAGS: [u64; 8] =
    [0x0000_0080, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const PERMISSION: u32 = libc::EPERM.cast_unsigned();
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const SHM_EXEC: u64 = 0o100_000;
const O_CREAT: u64 = 0o100;

/// A condition on an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// All these bits are set.
    Has(u64),
    Is(u64),
    IsNot(u64),
    Above(u64),
}

/// Tests that must all hold, by argument; none at all always holds.
type Rule = Vec<(u8, Test)>;

/// One filter: calls with rules, of which one must hold for the call to be answered specially.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    setting: &'static str,
    code: u8,
    rules: BTreeMap<i64, Vec<Rule>>,
    matching: SeccompAction,
    other: SeccompAction,
}

/// Filters in the order in which they are loaded.
#[derive(Debug, Default)]
struct Plan {
    filters: Vec<Filter>,
}

impl Plan {
    /// Calls that fail with an error when a rule holds.
    fn deny(&mut self, setting: &'static str, errno: u32, calls: &[(Sysno, Vec<Rule>)]) {
        let rules = calls.iter().map(|(call, rules)| (number(*call), rules.clone())).collect();
        self.push(setting, code::SECCOMP, rules, SeccompAction::Errno(errno), SeccompAction::Allow);
    }

    fn push(
        &mut self,
        setting: &'static str,
        code: u8,
        rules: BTreeMap<i64, Vec<Rule>>,
        matching: SeccompAction,
        other: SeccompAction,
    ) {
        self.filters.push(Filter { setting, code, rules, matching, other });
    }

    /// Everything that a sandbox asks for.
    fn of(sandbox: &Sandbox) -> Plan {
        let mut plan = Plan::default();
        let always = || vec![Vec::new()];
        if let Some(families) = &sandbox.address_families {
            plan.restrict_families(families);
        }
        if sandbox.memory_deny_write_execute {
            let both = vec![vec![(2, Test::Has(PROT_WRITE | PROT_EXEC))]];
            let exec = vec![vec![(2, Test::Has(PROT_EXEC))]];
            plan.deny(
                "MemoryDenyWriteExecute=",
                PERMISSION,
                &[
                    (Sysno::mmap, both),
                    (Sysno::mprotect, exec.clone()),
                    (Sysno::pkey_mprotect, exec),
                    (Sysno::shmat, vec![vec![(2, Test::Has(SHM_EXEC))]]),
                ],
            );
        }
        if sandbox.restrict_realtime {
            // Policies but other, batch and idle; linux/sched.h.
            let mut rules: Vec<Rule> = [1, 2, 4].map(|policy| vec![(1, Test::Is(policy))]).to_vec();
            rules.push(vec![(1, Test::Above(5))]);
            plan.deny("RestrictRealtime=", PERMISSION, &[(Sysno::sched_setscheduler, rules)]);
        }
        if sandbox.restrict_suid_sgid {
            plan.restrict_set_id();
        }
        if let Some(allowed) = sandbox.allowed_namespaces {
            plan.restrict_namespaces(allowed);
        }
        if sandbox.protect_hostname {
            let calls = [(Sysno::sethostname, always()), (Sysno::setdomainname, always())];
            plan.deny("ProtectHostname=", PERMISSION, &calls);
        }
        if sandbox.protect_kernel_tunables {
            plan.deny("ProtectKernelTunables=", PERMISSION, &[(Sysno::_sysctl, always())]);
        }
        if sandbox.protect_kernel_modules {
            let calls = [Sysno::init_module, Sysno::finit_module, Sysno::delete_module];
            plan.deny("ProtectKernelModules=", PERMISSION, &calls.map(|call| (call, always())));
        }
        if sandbox.protect_kernel_logs {
            plan.deny("ProtectKernelLogs=", PERMISSION, &[(Sysno::syslog, always())]);
        }
        if sandbox.protect_clock {
            let calls = [Sysno::adjtimex, Sysno::clock_adjtime, Sysno::clock_settime, Sysno::settimeofday];
            plan.deny("ProtectClock=", PERMISSION, &calls.map(|call| (call, always())));
        }
        if sandbox.private_devices {
            let calls = [Sysno::ioperm, Sysno::iopl];
            plan.deny("PrivateDevices=", PERMISSION, &calls.map(|call| (call, always())));
        }
        if sandbox.lock_personality {
            // The native one may be asked for, and what it is (linux/personality.h).
            let other = vec![vec![(0, Test::IsNot(0)), (0, Test::IsNot(0xffff_ffff))]];
            plan.deny("LockPersonality=", PERMISSION, &[(Sysno::personality, other)]);
        }
        if !sandbox.system_call_architectures.is_empty()
            && plan.filters.is_empty()
            && sandbox.system_call_filter.is_none()
        {
            // A call that does not exist: the filter is there for its check of the architecture.
            plan.deny(
                "SystemCallArchitectures=",
                libc::ENOSYS.cast_unsigned(),
                &[(Sysno::_sysctl, always())],
            );
        }
        if let Some(filter) = &sandbox.system_call_filter {
            plan.filter_calls(filter, sandbox.system_call_error.unwrap_or(Denial::Kill));
        }
        plan
    }

    fn restrict_families(&mut self, filter: &FamilyFilter) {
        let families = filter.families.iter().map(|family| u64::from(*family));
        let rules: Vec<Rule> = if filter.is_allow_list {
            vec![families.map(|family| (0, Test::IsNot(family))).collect()]
        } else {
            families.map(|family| vec![(0, Test::Is(family))]).collect()
        };
        if !rules.is_empty() {
            let rules = [(number(Sysno::socket), rules)].into();
            let answer = SeccompAction::Errno(libc::EAFNOSUPPORT.cast_unsigned());
            self.push(
                "RestrictAddressFamilies=",
                code::ADDRESS_FAMILIES,
                rules,
                answer,
                SeccompAction::Allow,
            );
        }
    }

    /// No file may be given the bits by which others run it as its owner or group.
    fn restrict_set_id(&mut self) {
        const SETTING: &str = "RestrictSUIDSGID=";
        let mode_at =
            |argument: u8| -> Vec<Rule> { SET_ID_BITS.map(|bit| vec![(argument, Test::Has(bit))]).to_vec() };
        let create_at = |flags: u8, mode: u8| -> Vec<Rule> {
            SET_ID_BITS.map(|bit| vec![(flags, Test::Has(O_CREAT)), (mode, Test::Has(bit))]).to_vec()
        };
        self.deny(
            SETTING,
            PERMISSION,
            &[
                (Sysno::chmod, mode_at(1)),
                (Sysno::fchmod, mode_at(1)),
                (Sysno::fchmodat, mode_at(2)),
                (Sysno::fchmodat2, mode_at(2)),
                (Sysno::mkdir, mode_at(1)),
                (Sysno::mkdirat, mode_at(2)),
                (Sysno::mknod, mode_at(1)),
                (Sysno::mknodat, mode_at(2)),
                (Sysno::creat, mode_at(1)),
                (Sysno::open, create_at(1, 2)),
                (Sysno::openat, create_at(2, 3)),
            ],
        );
        // Its flags are behind a pointer, where no filter sees them.
        self.deny(SETTING, libc::ENOSYS.cast_unsigned(), &[(Sysno::openat2, vec![Vec::new()])]);
    }

    fn restrict_namespaces(&mut self, allowed: u64) {
        const SETTING: &str = "RestrictNamespaces=";
        let forbidden: Vec<u64> = NAMESPACE_FLAGS.into_iter().filter(|flag| allowed & flag == 0).collect();
        if forbidden.is_empty() {
            return;
        }
        let with = |argument: u8| -> Vec<Rule> {
            forbidden.iter().map(|flag| vec![(argument, Test::Has(*flag))]).collect()
        };
        let mut join = with(1);
        // Without a kind, setns(2) joins whatever it is given.
        join.push(vec![(1, Test::Is(0))]);
        let clone = with(0).into_iter().filter(|rule| *rule != [(0, Test::Has(0x80))]).collect();
        let calls = [(Sysno::unshare, with(0)), (Sysno::clone, clone), (Sysno::setns, join)];
        self.deny(SETTING, PERMISSION, &calls);
        // Its flags are behind a pointer; libraries then fall back to clone.
        self.deny(SETTING, libc::ENOSYS.cast_unsigned(), &[(Sysno::clone3, vec![Vec::new()])]);
    }

    fn filter_calls(&mut self, filter: &SyscallFilter, default: Denial) {
        const SETTING: &str = "SystemCallFilter=";
        let always = || vec![Rule::new()];
        let mut by_answer: BTreeMap<Denial, BTreeMap<i64, Vec<Rule>>> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        for (name, own) in &filter.calls {
            // Names of other architectures mean nothing here.
            let Ok(call) = name.parse::<Sysno>() else { continue };
            let answer = own.or((!filter.is_allow_list).then_some(default));
            if let Some(answer) = answer {
                by_answer.entry(answer).or_default().insert(number(call), always());
            }
            listed.insert(number(call), always());
        }
        for (answer, rules) in by_answer {
            self.push(SETTING, code::SECCOMP, rules, action(answer), SeccompAction::Allow);
        }
        // The last: it may forbid the loading of filters itself.
        if filter.is_allow_list {
            self.push(SETTING, code::SECCOMP, listed, SeccompAction::Allow, action(default));
        }
    }
}

fn action(denial: Denial) -> SeccompAction {
    match denial {
        Denial::Kill => SeccompAction::KillProcess,
        Denial::Errno(errno) => SeccompAction::Errno(u32::from(errno)),
    }
}

fn number(call: Sysno) -> i64 {
    i64::from(call.id())
}

impl Filter {
    fn compile(&self) -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (call, list) in &self.rules {
            let compiled: Vec<SeccompRule> =
                list.iter().filter(|rule| !rule.is_empty()).map(compile_rule).collect::<Result<_, _>>()?;
            // No rule at all: the call alone decides.
            rules.insert(*call, if list.iter().any(Vec::is_empty) { Vec::new() } else { compiled });
        }
        SeccompFilter::new(rules, self.other.clone(), self.matching.clone(), TargetArch::x86_64)?.try_into()
    }
}

fn compile_rule(rule: &Rule) -> Result<SeccompRule, BackendError> {
    let condition = |(argument, test): &(u8, Test)| {
        let (operator, value) = match test {
            Test::Has(bits) => (SeccompCmpOp::MaskedEq(*bits), *bits),
            Test::Is(value) => (SeccompCmpOp::Eq, *value),
            Test::IsNot(value) => (SeccompCmpOp::Ne, *value),
            Test::Above(value) => (SeccompCmpOp::Gt, *value),
        };
        // Every tested argument is an int: the kernel looks at no more of it.
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator, value)
    };
    SeccompRule::new(rule.iter().map(condition).collect::<Result<_, _>>()?)
}

/// Ends a process that makes calls of the x32 interface, whose numbers no other filter knows: they are those of
/// x86-64 with bit 30 set (asm/unistd.h, `__X32_SYSCALL_BIT`).
const NO_X32: [Instruction; 4] = [
    Instruction { code: 0x20, jt: 0, jf: 0, k: 0 }, // load the call's number
    Instruction { code: 0x35, jt: 0, jf: 1, k: 0x4000_0000 }, // not below it: the next one
    Instruction { code: 0x06, jt: 0, jf: 0, k: 0x8000_0000 }, // kill the process
    Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }, // allow
];

/// Loads the filters of a sandbox.
pub(super) fn load(sandbox: &Sandbox) -> Step<()> {
    let plan = Plan::of(sandbox);
    if plan.filters.is_empty() {
        return Ok(());
    }
    let mut programs: Vec<(&'static str, u8, Vec<Instruction>)> =
        vec![("SystemCallFilter=", code::SECCOMP, NO_X32.to_vec())];
    for filter in &plan.filters {
        let compiled = filter.compile().step(filter.code, filter.setting)?;
        let instructions = compiled
            .iter()
            .map(|one| Instruction { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
            .collect();
        programs.push((filter.setting, filter.code, instructions));
    }
    // All are compiled before the first is loaded: what comes after may be forbidden by it. Only seccomp itself is made
    // sure of by the order, the filter of calls being the last.
    for (setting, code, program) in &programs {
        setup::load_filter(program).step(*code, setting)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image_config::unit::{System, Unit, UnitName};

    use super::*;

    fn plan(lines: &str) -> Plan {
        let text = format!("[Service]\nExecStart=/bin/true\n{lines}\n");
        let name = UnitName::parse("a.service").unwrap();
        let (unit, warnings) = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        assert!(warnings.is_empty(), "{warnings:?}");
        Plan::of(&unit.service().unwrap().exec.sandbox.effective())
    }

    /// What the program answers, by running it as the kernel would.
    fn run(program: &[seccompiler::sock_filter], call: i64, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u8; 64];
        data[..4].copy_from_slice(&u32::try_from(call).unwrap().to_ne_bytes());
        data[4..8].copy_from_slice(&0xc000_003e_u32.to_ne_bytes()); // AUDIT_ARCH_X86_64
        for (place, argument) in arguments.iter().enumerate() {
            data[16 + place * 8..24 + place * 8].copy_from_slice(&argument.to_ne_bytes());
        }
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let one = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
            match one.code {
                0x20 => {
                    let place = one.k as usize;
                    accumulator = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
                }
                0x05 => at += one.k as usize,
                0x15 => at += jump(accumulator == one.k),
                0x25 => at += jump(accumulator > one.k),
                0x35 => at += jump(accumulator >= one.k),
                0x54 => accumulator &= one.k,
                0x06 => return one.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// The strictest answer of all filters, as the kernel combines them: the lowest, read as signed numbers.
    fn answer(plan: &Plan, call: Sysno, arguments: [u64; 6]) -> u32 {
        let answers =
            plan.filters.iter().map(|filter| run(&filter.compile().unwrap(), number(call), arguments));
        answers.min_by_key(|answer| (*answer & 0xffff_0000).cast_signed()).unwrap_or(ALLOW)
    }

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;
    const fn errno(number: u32) -> u32 {
        0x0005_0000 | number
    }

    #[test]
    fn lists_of_calls_allow_and_deny() {
        let redis = plan("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources");
        for (call, want) in
            [(Sysno::openat, ALLOW), (Sysno::execve, ALLOW), (Sysno::setuid, KILL), (Sysno::mount, KILL)]
        {
            assert_eq!(answer(&redis, call, [0; 6]), want, "{call:?}");
        }
        let lines = "SystemCallFilter=~@mount kexec_load:EBUSY\nSystemCallErrorNumber=EPERM";
        let deny = plan(lines);
        for (call, want) in [(Sysno::mount, errno(1)), (Sysno::kexec_load, errno(16)), (Sysno::openat, ALLOW)]
        {
            assert_eq!(answer(&deny, call, [0; 6]), want, "{call:?}");
        }
        let own = plan("SystemCallFilter=@system-service:ENOENT\nSystemCallFilter=getpid");
        assert_eq!(answer(&own, Sysno::reboot, [0; 6]), KILL);
    }

    #[test]
    fn restrictions_look_at_arguments() {
        let all = plan(
            "RestrictAddressFamilies=AF_UNIX AF_INET\nMemoryDenyWriteExecute=yes\nRestrictRealtime=yes\n\
             RestrictSUIDSGID=yes\nRestrictNamespaces=net\nLockPersonality=yes\nProtectClock=yes\nProtectHostname=yes",
        );
        let cases: &[(Sysno, [u64; 6], u32)] = &[
            (Sysno::socket, [1, 0, 0, 0, 0, 0], ALLOW),
            (Sysno::socket, [10, 0, 0, 0, 0, 0], errno(97)),
            (Sysno::mmap, [0, 0, 6, 0, 0, 0], errno(1)),
            (Sysno::mmap, [0, 0, 5, 0, 0, 0], ALLOW),
            (Sysno::mprotect, [0, 0, 5, 0, 0, 0], errno(1)),
            (Sysno::sched_setscheduler, [0, 1, 0, 0, 0, 0], errno(1)),
            (Sysno::sched_setscheduler, [0, 3, 0, 0, 0, 0], ALLOW),
            (Sysno::sched_setscheduler, [0, 6, 0, 0, 0, 0], errno(1)),
            (Sysno::chmod, [0, 0o4755, 0, 0, 0, 0], errno(1)),
            (Sysno::chmod, [0, 0o755, 0, 0, 0, 0], ALLOW),
            (Sysno::open, [0, O_CREAT, 0o2755, 0, 0, 0], errno(1)),
            (Sysno::open, [0, 0, 0o2755, 0, 0, 0], ALLOW),
            (Sysno::unshare, [0x4000_0000, 0, 0, 0, 0, 0], ALLOW),
            (Sysno::unshare, [0x4000_0000 | 0x0002_0000, 0, 0, 0, 0, 0], errno(1)),
            (Sysno::clone, [0x1000_0000, 0, 0, 0, 0, 0], errno(1)),
            (Sysno::clone, [0x0012_0011, 0, 0, 0, 0, 0], errno(1)),
            (Sysno::clone, [0x11, 0, 0, 0, 0, 0], ALLOW),
            (Sysno::clone3, [0; 6], errno(38)),
            (Sysno::setns, [3, 0, 0, 0, 0, 0], errno(1)),
            (Sysno::personality, [0xffff_ffff, 0, 0, 0, 0, 0], ALLOW),
            (Sysno::personality, [8, 0, 0, 0, 0, 0], errno(1)),
            (Sysno::settimeofday, [0; 6], errno(1)),
            (Sysno::sethostname, [0; 6], errno(1)),
            (Sysno::read, [0; 6], ALLOW),
        ];
        for (call, arguments, want) in cases {
            assert_eq!(answer(&all, *call, *arguments), *want, "{call:?} {arguments:x?}");
        }
        assert_eq!(
            answer(&plan("RestrictAddressFamilies=none"), Sysno::socket, [1, 0, 0, 0, 0, 0]),
            errno(97)
        );
        assert_eq!(
            answer(&plan("RestrictAddressFamilies=~AF_PACKET"), Sysno::socket, [17, 0, 0, 0, 0, 0]),
            errno(97)
        );
    }

    #[test]
    fn nothing_asked_for_is_nothing_filtered_and_all_fits_the_kernel() {
        assert!(plan("PrivateTmp=yes").filters.is_empty());
        assert_eq!(plan("SystemCallArchitectures=native").filters.len(), 1);
        for filter in plan("SystemCallFilter=@known").filters {
            assert!(filter.compile().unwrap().len() <= 4096, "BPF_MAXINSNS");
        }
    }
}
