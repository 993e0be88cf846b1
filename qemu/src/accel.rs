//! Which accelerator works on this host.

use std::fs::{self, OpenOptions};

use crate::argv::Accelerator;
use crate::sys;

/// An accelerator and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The one to use.
    pub accel: Accelerator,
    /// Why KVM is not used; `None` when it is.
    pub why_not_kvm: Option<String>,
}

/// What was found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Observed {
    /// Opening `/dev/kvm` for reading and writing.
    device: Result<(), String>,
    /// vmx or svm among the processor's flags.
    virtualisation_flag: bool,
    /// `KVM_CREATE_VM`.
    create_vm: Result<(), String>,
}

/// Looks at the host. KVM counts only when the device can be opened, the processor says that it can run guests (containers and
/// nested hosts have the device without that) and the kernel makes a virtual machine.
pub fn detect() -> Detected {
    decide(&observe())
}

fn observe() -> Observed {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let create_vm = match &kvm {
        Ok(kvm) => sys::create_kvm_vm(kvm).map_err(|error| error.to_string()),
        Err(_) => Ok(()),
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Observed {
        device: kvm.map(drop).map_err(|error| error.to_string()),
        virtualisation_flag: has_virtualisation_flag(&cpuinfo),
        create_vm,
    }
}

fn has_virtualisation_flag(cpuinfo: &str) -> bool {
    let mut flags =
        cpuinfo.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == "flags");
    flags.any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

fn decide(seen: &Observed) -> Detected {
    let why = match seen {
        Observed { device: Err(error), .. } => Some(format!("/dev/kvm: {error}")),
        Observed { virtualisation_flag: false, .. } => {
            Some("/dev/kvm is there, but the processor has neither the vmx nor the svm flag".to_owned())
        }
        Observed { create_vm: Err(error), .. } => Some(format!("KVM makes no virtual machine: {error}")),
        Observed { .. } => None,
    };
    let accel = if why.is_some() { Accelerator::Tcg } else { Accelerator::Kvm };
    Detected { accel, why_not_kvm: why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_used_only_when_all_three_signs_agree() {
        let good = Observed { device: Ok(()), virtualisation_flag: true, create_vm: Ok(()) };
        assert_eq!(decide(&good), Detected { accel: Accelerator::Kvm, why_not_kvm: None });
        let cases = [
            (
                Observed { device: Err("Permission denied".to_owned()), ..good.clone() },
                "/dev/kvm: Permission denied",
            ),
            (Observed { virtualisation_flag: false, ..good.clone() }, "neither the vmx nor the svm"),
            (Observed { create_vm: Err("EBUSY".to_owned()), ..good }, "no virtual machine: EBUSY"),
        ];
        for (seen, words) in cases {
            let got = decide(&seen);
            assert_eq!(got.accel, Accelerator::Tcg, "{seen:?}");
            assert!(got.why_not_kvm.as_deref().is_some_and(|why| why.contains(words)), "{got:?}");
        }
    }

    #[test]
    fn flags_are_words_of_the_flags_line() {
        let cases = [
            ("flags\t\t: fpu vmx sse", true),
            ("flags : svm", true),
            ("flags : fpu svm_lock", false),
            ("vmx flags\t: vnmi invvpid vmx", false),
            ("model name : vmx svm", false),
            ("", false),
        ];
        for (text, want) in cases {
            assert_eq!(has_virtualisation_flag(text), want, "{text:?}");
        }
    }

    #[test]
    fn looking_at_this_host_gives_kvm_or_a_reason() {
        let got = detect();
        assert_eq!(got.accel == Accelerator::Kvm, got.why_not_kvm.is_none(), "{got:?}");
    }
}
