//! Namespaces but for that of mounts: `PrivateNetwork=`, `PrivateIPC=`, `ProtectHostname=`, `PrivateUsers=`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use image_config::unit::{PrivateUsers, ProtectControlGroups, Sandbox};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::identity::Identity;
use super::{Context, Step, code};
use crate::sys::{loopback, setup};

/// Enters those that do not depend on the user. Commands of a unit whose main process runs share its network and IPC.
pub(super) fn enter(sandbox: &Sandbox, main_pid: Option<u32>) -> Step<()> {
    let shared = |kind: &str| main_pid.and_then(|pid| File::open(format!("/proc/{pid}/ns/{kind}")).ok());
    if let Some(path) = &sandbox.network_namespace {
        join(path, LinkNameSpaceType::Network)
            .step(code::NETWORK, format_args!("NetworkNamespacePath={path}"))?;
    } else if sandbox.private_network {
        const WHAT: &str = "PrivateNetwork=";
        match shared("net") {
            Some(namespace) => {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .step(code::NETWORK, WHAT)?;
            }
            None => {
                setup::unshare(UnshareFlags::NEWNET).step(code::NETWORK, WHAT)?;
                loopback::bring_up().step(code::NETWORK, WHAT)?;
            }
        }
    }
    if let Some(path) = &sandbox.ipc_namespace {
        join(path, LinkNameSpaceType::InterProcessCommunication)
            .step(code::NAMESPACE, format_args!("IPCNamespacePath={path}"))?;
    } else if sandbox.private_ipc {
        const WHAT: &str = "PrivateIPC=";
        match shared("ipc") {
            Some(namespace) => {
                move_into_link_name_space(
                    namespace.as_fd(),
                    Some(LinkNameSpaceType::InterProcessCommunication),
                )
                .step(code::NAMESPACE, WHAT)?;
            }
            None => setup::unshare(UnshareFlags::NEWIPC).step(code::NAMESPACE, WHAT)?,
        }
    }
    if sandbox.protect_hostname {
        setup::unshare(UnshareFlags::NEWUTS).step(code::NAMESPACE, "ProtectHostname=")?;
    }
    if matches!(sandbox.protect_control_groups, ProtectControlGroups::Private | ProtectControlGroups::Strict)
    {
        setup::unshare(UnshareFlags::NEWCGROUP).step(code::NAMESPACE, "ProtectControlGroups=")?;
    }
    Ok(())
}

fn join(path: &str, kind: LinkNameSpaceType) -> io::Result<()> {
    Ok(move_into_link_name_space(File::open(path)?.as_fd(), Some(kind))?)
}

/// `PrivateUsers=`: last of the namespaces, for in it nothing of the machine's can be changed any more.
pub(super) fn enter_users(sandbox: &Sandbox, identity: &Identity) -> Step<()> {
    let (users, groups) = match sandbox.private_users {
        PrivateUsers::No => return Ok(()),
        PrivateUsers::Own => (own_map(identity.user_id()), own_map(identity.group_id())),
        PrivateUsers::Identity => ("0 0 65536\n".to_owned(), "0 0 65536\n".to_owned()),
        // All but the last, which means "no id".
        PrivateUsers::Full => ("0 0 4294967295\n".to_owned(), "0 0 4294967295\n".to_owned()),
    };
    become_own_users(&users, &groups).step(code::USER, "PrivateUsers=")
}

/// Lines of user_namespaces(7): root, and one other id, each as itself.
fn own_map(id: Option<u32>) -> String {
    match id.filter(|id| *id != 0) {
        Some(id) => format!("0 0 1\n{id} {id} 1\n"),
        None => "0 0 1\n".to_owned(),
    }
}

/// The maps are written from outside, by a helper that stays there until the namespace exists.
fn become_own_users(users: &str, groups: &str) -> io::Result<()> {
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let own = std::process::id();
    let helper = setup::in_helper(|| {
        let mut byte = [0];
        // It must not wait for a parent that is gone: it has the pipe's other end itself.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_ok()
            && rustix::io::read(&ready, &mut byte).is_ok()
            && byte == [1]
            && fs::write(format!("/proc/{own}/uid_map"), users).is_ok()
            && fs::write(format!("/proc/{own}/gid_map"), groups).is_ok()
    })?;
    let entered = setup::unshare(UnshareFlags::NEWUSER);
    rustix::io::write(&tell, &[u8::from(entered.is_ok())])?;
    let written = helper.wait();
    entered.and(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_hold_root_and_the_units_user() {
        assert_eq!(own_map(Some(101)), "0 0 1\n101 101 1\n");
        assert_eq!((own_map(None), own_map(Some(0))), ("0 0 1\n".to_owned(), "0 0 1\n".to_owned()));
    }
}
