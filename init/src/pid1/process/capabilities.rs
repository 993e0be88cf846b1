//! `CapabilityBoundingSet=`, `AmbientCapabilities=`, `SecureBits=` and the change of user.
//!
//! `CAP_SYS_ADMIN` and `CAP_SETPCAP` are kept through the change of user, for the steps after it. They end with execve, which gives a program of an ordinary user the ambient capabilities and nothing else.

use image_config::unit::{CapabilitySet as Wanted, Sandbox};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_keep_capabilities,
};

use super::identity::Identity;
use super::{Context, Step, code};

/// What the steps after the change of user need: filters of system calls, secure bits.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SETPCAP);

/// Drops what is not in the bounding set.
pub(super) fn confine(sandbox: &Sandbox) -> Step<()> {
    let Some(bounding) = sandbox.bounding_set else { return Ok(()) };
    for number in Wanted::ALL.without(bounding).numbers() {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Those above the kernel's last are refused: nobody has them.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)
                .step(code::CAPABILITIES, "CapabilityBoundingSet=")?;
        }
    }
    Ok(())
}

/// Becomes the user, with the ambient capabilities.
pub(super) fn change_user(identity: &Identity, ambient: Wanted, secure_bits: u32) -> Step<()> {
    if identity.user_id().is_none() && ambient == Wanted::NONE {
        return Ok(());
    }
    let before = capabilities(None).step(code::CAPABILITIES, "cannot read the capabilities")?;
    if identity.user_id().is_some_and(|id| id != 0) {
        set_keep_capabilities(true).step(code::CAPABILITIES, "cannot keep capabilities")?;
        identity.set_user()?;
        if secure_bits & CapabilitiesSecureBits::KEEP_CAPS.bits() == 0 {
            set_keep_capabilities(false).step(code::CAPABILITIES, "cannot stop keeping capabilities")?;
        }
        let kept = CapabilitySet::from_bits_retain(ambient.0).union(NEEDED) & before.permitted;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).step(code::CAPABILITIES, "cannot set the capabilities")?;
    } else {
        identity.set_user()?;
    }
    if ambient == Wanted::NONE {
        return Ok(());
    }
    const WHAT: &str = "AmbientCapabilities=";
    let now = capabilities(None).step(code::CAPABILITIES, WHAT)?;
    let wanted = CapabilitySet::from_bits_retain(ambient.0) & now.permitted;
    set_capabilities(None, CapabilitySets { inheritable: wanted, ..now }).step(code::CAPABILITIES, WHAT)?;
    clear_ambient_capability_set().step(code::CAPABILITIES, WHAT)?;
    for number in Wanted(wanted.bits()).numbers() {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .step(code::CAPABILITIES, WHAT)?;
    }
    Ok(())
}

/// Sets the secure bits, after which the rules of capabilities differ for this process and its children.
pub(super) fn set_secure_bits(bits: u32) -> Step<()> {
    if bits == 0 {
        return Ok(());
    }
    const WHAT: &str = "SecureBits=";
    let now = capabilities_secure_bits().step(code::SECUREBITS, WHAT)?;
    set_capabilities_secure_bits(now | CapabilitiesSecureBits::from_bits_retain(bits))
        .step(code::SECUREBITS, WHAT)
}
