//! Who the process is: `User=`, `Group=`, `SupplementaryGroups=`, `DynamicUser=`.

use std::path::Path;

use image_config::unit::ExecContext;
use rustix::fs::{Gid, Uid};

use super::{Context, RunIdentity, Step, code, failure};
use crate::pid1::accounts::{self, User};

/// Shells that let nobody in, which are no news to a program.
const NO_SHELLS: [&str; 4] = ["nologin", "false", "true", "sync"];

/// Users and groups, as numbers and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    user: Option<User>,
    group: Option<u32>,
    groups: Option<Vec<u32>>,
}

impl Identity {
    /// Looks names up.
    pub fn resolve(exec: &ExecContext, root: &Path, run: &RunIdentity) -> Step<Identity> {
        let named = exec.user.as_ref().map(|name| (name, accounts::user(root, name)));
        let user = match (named, run.dynamic_id.filter(|_| exec.sandbox.dynamic_user)) {
            // A user that exists is used, systemd.exec(5) `DynamicUser=`.
            (Some((_, Some(user))), _) => Some(user),
            (Some((name, None)), Some(id)) => Some(dynamic_user(name, id)),
            (Some((name, None)), None) => {
                return Err(failure(code::USER, format!("User={name}: there is no such user")));
            }
            (None, Some(id)) => Some(dynamic_user("", id)),
            (None, None) if exec.sandbox.dynamic_user => {
                return Err(failure(code::USER, "DynamicUser=: no id is left"));
            }
            (None, None) => None,
        };
        let find = |setting: &str, name: &String| {
            accounts::group(root, name)
                .ok_or_else(|| failure(code::GROUP, format!("{setting}={name}: there is no such group")))
        };
        let group = match &exec.group {
            Some(name) => match accounts::group(root, name).or(run.dynamic_id) {
                Some(id) => Some(id),
                None => Some(find("Group", name)?),
            },
            None => user.as_ref().map(|user| user.gid),
        };
        let supplementary: Vec<u32> = exec
            .supplementary_groups
            .iter()
            .map(|name| find("SupplementaryGroups", name))
            .collect::<Step<_>>()?;
        let groups = if user.is_none() && group.is_none() && supplementary.is_empty() {
            None
        } else {
            let own = user.iter().flat_map(|user| accounts::groups_of(root, &user.name));
            let mut ids: Vec<u32> = group.into_iter().chain(own).chain(supplementary).collect();
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        };
        Ok(Identity { user, group, groups })
    }

    pub fn user_id(&self) -> Option<u32> {
        self.user.as_ref().map(|user| user.uid)
    }

    pub fn group_id(&self) -> Option<u32> {
        self.group
    }

    /// Whom folders are given to.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.user.as_ref().map(|user| (user.uid, self.group.unwrap_or(user.gid)))
    }

    /// The user's name; `None` is root, or nobody in particular.
    pub fn name(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str()).filter(|name| !name.is_empty())
    }

    /// The home folder, for `WorkingDirectory=~`.
    pub fn home(&self) -> Option<String> {
        match &self.user {
            None => Some("/root".to_owned()),
            Some(user) => Some(user.home.clone()).filter(|home| !home.is_empty()),
        }
    }

    /// `$HOME`, where it says something.
    pub fn telling_home(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.home.as_str()).filter(|home| !matches!(*home, "" | "/"))
    }

    /// `$SHELL`, where it says something.
    pub fn telling_shell(&self) -> Option<&str> {
        let shell = self.user.as_ref()?.shell.as_str();
        let name = shell.rsplit('/').next().unwrap_or(shell);
        (!NO_SHELLS.contains(&name)).then_some(shell)
    }

    /// Changes the groups, while root still can.
    pub fn set_groups(&self, applies: bool) -> Step<()> {
        if !applies {
            return Ok(());
        }
        if let Some(groups) = &self.groups {
            let ids: Vec<Gid> = groups.iter().map(|id| Gid::from_raw(*id)).collect();
            rustix::thread::set_thread_groups(&ids).step(code::GROUP, "SupplementaryGroups=")?;
        }
        if let Some(group) = self.group {
            let id = Gid::from_raw(group);
            rustix::thread::set_thread_res_gid(id, id, id).step(code::GROUP, "Group=")?;
        }
        Ok(())
    }

    /// Changes the user.
    pub fn set_user(&self) -> Step<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let id = Uid::from_raw(user.uid);
        rustix::thread::set_thread_res_uid(id, id, id).step(code::USER, format_args!("User={}", user.name))
    }
}

fn dynamic_user(name: &str, id: u32) -> User {
    User {
        name: name.to_owned(),
        uid: id,
        gid: id,
        home: "/".to_owned(),
        shell: "/usr/sbin/nologin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_become_numbers_and_missing_ones_say_which_setting() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "etcd:x:101:102::/var/lib/etcd:/usr/sbin/nologin\n")
            .unwrap();
        fs::write(root.path().join("etc/group"), "ssl:x:27:core,etcd\nadm:x:4:\n").unwrap();
        let run = RunIdentity { invocation: String::new(), dynamic_id: None };
        let resolve = |exec: &ExecContext, run: &RunIdentity| Identity::resolve(exec, root.path(), run);
        let mut exec = ExecContext { user: Some("etcd".into()), ..ExecContext::default() };
        exec.supplementary_groups = vec!["adm".into(), "27".into()];
        let etcd = resolve(&exec, &run).unwrap();
        assert_eq!((etcd.owner(), etcd.groups.as_deref()), (Some((101, 102)), Some(&[4, 27, 102][..])));
        assert_eq!((etcd.telling_home(), etcd.telling_shell()), (Some("/var/lib/etcd"), None));
        exec.supplementary_groups = vec!["gone".into()];
        assert_eq!(resolve(&exec, &run).unwrap_err().code, code::GROUP);
        exec = ExecContext { user: Some("gone".into()), ..ExecContext::default() };
        let error = resolve(&exec, &run).unwrap_err();
        assert_eq!((error.code, error.text.as_str()), (code::USER, "User=gone: there is no such user"));
        exec.sandbox.dynamic_user = true;
        let dynamic = resolve(&exec, &RunIdentity { dynamic_id: Some(61200), ..run.clone() }).unwrap();
        assert_eq!((dynamic.owner(), dynamic.name()), (Some((61200, 61200)), Some("gone")));
        assert_eq!(dynamic.groups, Some(vec![61200]));
        let nobody = resolve(&ExecContext::default(), &run).unwrap();
        assert_eq!((nobody.groups, nobody.user), (None, None));
    }
}
