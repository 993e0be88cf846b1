//! `RuntimeDirectory=`, `StateDirectory=` and their kin, and the folders of `PrivateTmp=`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use image_config::unit::{ExecContext, PrivateTmp, ServiceDirectory};

use super::identity::Identity;
use super::{Circumstances, Context, RunIdentity, Step, code};
use crate::pid1::paths;

/// A kind of folder: where it is, its variable, its setting, the exit code of a failure.
struct Kind {
    base: &'static str,
    variable: &'static str,
    setting: &'static str,
    code: u8,
}

/// In the order of systemd's documentation.
const KINDS: [Kind; 5] = [
    Kind {
        base: "run",
        variable: "RUNTIME_DIRECTORY",
        setting: "RuntimeDirectory",
        code: code::RUNTIME_DIRECTORY,
    },
    Kind {
        base: "var/lib",
        variable: "STATE_DIRECTORY",
        setting: "StateDirectory",
        code: code::STATE_DIRECTORY,
    },
    Kind {
        base: "var/cache",
        variable: "CACHE_DIRECTORY",
        setting: "CacheDirectory",
        code: code::CACHE_DIRECTORY,
    },
    Kind {
        base: "var/log",
        variable: "LOGS_DIRECTORY",
        setting: "LogsDirectory",
        code: code::LOGS_DIRECTORY,
    },
    Kind {
        base: "etc",
        variable: "CONFIGURATION_DIRECTORY",
        setting: "ConfigurationDirectory",
        code: code::CONFIGURATION_DIRECTORY,
    },
];

fn written(exec: &ExecContext) -> [&ServiceDirectory; 5] {
    [
        &exec.runtime_directory,
        &exec.state_directory,
        &exec.cache_directory,
        &exec.logs_directory,
        &exec.configuration_directory,
    ]
}

/// The folders that were made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Folders {
    /// Variable and paths, in order.
    made: Vec<(&'static str, Vec<PathBuf>)>,
    /// What stays writable: where the folders really are.
    pub writable: Vec<PathBuf>,
    /// Bases whose `private` folder has folders of a dynamic user in it.
    pub private_bases: Vec<PathBuf>,
}

impl Folders {
    /// `$RUNTIME_DIRECTORY` and its kin.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.made.iter().map(|(variable, paths)| {
            let paths: Vec<String> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            (*variable, paths.join(":"))
        })
    }
}

/// Makes what is missing of the unit's folders and gives it to the unit's user.
pub(super) fn make(exec: &ExecContext, how: &Circumstances<'_>, identity: &Identity) -> Step<Folders> {
    let mut folders = Folders::default();
    for (kind, written) in KINDS.iter().zip(written(exec)) {
        let owner = identity.owner();
        let base = how.root.join(kind.base);
        // Folders that outlive the dynamic user must not be reached by the next one who gets its id.
        let private = exec.sandbox.dynamic_user && !matches!(kind.base, "run" | "etc");
        let mut made = Vec::new();
        for path in &written.paths {
            let whole = base.join(path);
            let real = if private { base.join("private").join(path) } else { whole.clone() };
            let what = format!("{}={path}", kind.setting);
            if private {
                paths::make_folder(&base.join("private"), 0o700, None).step(kind.code, &what)?;
                move_in(&whole, &real).step(kind.code, &what)?;
            }
            let was_owned = fs::metadata(&real).ok().map(|found| (found.uid(), found.gid()));
            // Configuration that is there has an owner already: whoever writes it, which need not be the service.
            if kind.base == "etc" && was_owned.is_some() {
                made.push(whole);
                folders.writable.push(real);
                continue;
            }
            paths::make_folder(&real, written.mode.unwrap_or(0o755), owner).step(kind.code, &what)?;
            if let Some(owner) = owner.filter(|owner| was_owned.is_some_and(|was| was != *owner)) {
                give(&real, owner).step(kind.code, &what)?;
            }
            if private {
                link(&base, &whole, &real).step(kind.code, &what)?;
            }
            made.push(whole);
            folders.writable.push(real);
        }
        for (path, name) in &written.links {
            link(&base, &base.join(name), &base.join(path))
                .step(kind.code, format_args!("{}={path}:{name}", kind.setting))?;
        }
        if private && !made.is_empty() {
            folders.private_bases.push(base.join("private"));
        }
        if !made.is_empty() {
            folders.made.push((kind.variable, made));
        }
    }
    Ok(folders)
}

/// A folder that an ordinary user had becomes the dynamic user's.
fn move_in(whole: &Path, real: &Path) -> io::Result<()> {
    match whole.symlink_metadata() {
        Ok(found) if found.is_dir() && !real.exists() => {
            if let Some(parent) = real.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
            fs::rename(whole, real)
        }
        _ => Ok(()),
    }
}

/// The way from one folder to something else, both below `base`.
fn relative(base: &Path, from: &Path, to: &Path) -> PathBuf {
    let up = from.strip_prefix(base).map_or(0, |path| path.components().count());
    let down = to.strip_prefix(base).unwrap_or(to);
    std::iter::repeat_n(Path::new(".."), up).chain([down]).collect()
}

/// A link to something below the same base, relative as systemd makes them; one that is there already and right stays.
fn link(base: &Path, at: &Path, to: &Path) -> io::Result<()> {
    if fs::canonicalize(at).is_ok_and(|found| fs::canonicalize(to).is_ok_and(|wanted| found == wanted)) {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    if at.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(at)?;
    }
    symlink(relative(base, at.parent().unwrap_or(base), to), at)
}

/// Gives everything in a folder to its new owner. Links are not followed, other file systems are entered.
fn give(folder: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        lchown(&path, Some(user), Some(group))?;
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// The folders of `RuntimeDirectory=`, which go when the service goes.
pub fn runtime_folders(exec: &ExecContext, root: &Path) -> Vec<PathBuf> {
    let directory = &exec.runtime_directory;
    let links = directory.links.iter().map(|(_, link)| link);
    directory.paths.iter().chain(links).map(|path| root.join("run").join(path)).collect()
}

/// What `PrivateTmp=` puts in place of `/tmp` and `/var/tmp`: nobody's but this start's, for their names cannot be
/// guessed. They go when the service goes.
pub fn private_tmp_folders(exec: &ExecContext, unit: &str, run: &RunIdentity, root: &Path) -> Vec<PathBuf> {
    if exec.sandbox.effective().private_tmp != PrivateTmp::Yes {
        return Vec::new();
    }
    let name = format!("ferrite-private-{unit}-{}", run.invocation);
    ["tmp", "var/tmp"].map(|base| root.join(base).join(&name)).to_vec()
}

/// Makes a folder of `PrivateTmp=` and the one in it that is mounted; processes of the same start share it.
///
/// # Errors
/// The file system's, and when somebody else has made it.
pub(super) fn make_private_tmp(folder: &Path) -> io::Result<PathBuf> {
    if let Some(above) = folder.parent().filter(|above| !above.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
        fs::set_permissions(above, fs::Permissions::from_mode(0o1777))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = folder.symlink_metadata()?;
            if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
                return Err(error);
            }
        }
        result => result?,
    }
    let inner = folder.join("tmp");
    paths::make_folder(&inner, 0o1777, None)?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use image_config::unit::Service;

    use super::super::circumstances;
    use super::*;

    fn made(root: &Path, service: &Service, dynamic_id: Option<u32>) -> Step<Folders> {
        let null = fs::File::open("/dev/null").unwrap();
        let run = RunIdentity { invocation: "1".to_owned(), dynamic_id };
        let how = circumstances(root, service, &run, &null);
        let identity = Identity::resolve(&service.exec, root, &run)?;
        make(&service.exec, &how, &identity)
    }

    #[test]
    fn folders_are_made_with_their_mode_and_links() {
        let root = tempfile::tempdir().unwrap();
        let mut service = Service::default();
        service.exec.runtime_directory = ServiceDirectory {
            paths: vec!["a".into(), "b/c".into()],
            links: vec![("a".into(), "other".into())],
            mode: Some(0o2750),
        };
        service.exec.state_directory.paths = vec!["s".into()];
        let folders = made(root.path(), &service, None).unwrap();
        let run = root.path().join("run");
        let variables: Vec<_> = folders.variables().collect();
        let two = format!("{}:{}", run.join("a").display(), run.join("b/c").display());
        assert_eq!(variables[0], ("RUNTIME_DIRECTORY", two));
        assert_eq!(variables[1].0, "STATE_DIRECTORY");
        assert_eq!(fs::metadata(run.join("b/c")).unwrap().mode() & 0o7777, 0o2750);
        assert_eq!(fs::canonicalize(run.join("other")).unwrap(), fs::canonicalize(run.join("a")).unwrap());
        assert_eq!(made(root.path(), &service, None).unwrap(), folders);
        assert_eq!(runtime_folders(&service.exec, root.path()).len(), 3);
    }

    #[test]
    fn a_dynamic_user_keeps_its_folders_in_private() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give folders away
        }
        let root = tempfile::tempdir().unwrap();
        let mut service = Service::default();
        service.exec.sandbox.dynamic_user = true;
        service.exec.state_directory.paths = vec!["s".into(), "a/b".into()];
        let lib = root.path().join("var/lib");
        fs::create_dir_all(lib.join("s")).unwrap();
        fs::write(lib.join("s/kept"), "1").unwrap();
        let folders = made(root.path(), &service, Some(61300)).unwrap();
        assert_eq!(fs::read_to_string(lib.join("s/kept")).unwrap(), "1");
        assert_eq!(fs::read_link(lib.join("s")).unwrap(), Path::new("private/s"));
        assert_eq!(fs::read_link(lib.join("a/b")).unwrap(), Path::new("../private/a/b"));
        assert!(lib.join("a/b").is_dir());
        assert_eq!(fs::metadata(lib.join("private")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(lib.join("private/s/kept")).unwrap().uid(), 61300);
        assert_eq!(
            (folders.writable, folders.private_bases),
            (vec![lib.join("private/s"), lib.join("private/a/b")], vec![lib.join("private")])
        );
    }

    #[test]
    fn configuration_is_the_users_unless_it_was_there() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give folders away
        }
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir_all(etc.join("old")).unwrap();
        fs::set_permissions(etc.join("old"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::write(etc.join("passwd"), "web:x:33:33::/:/bin/sh\n").unwrap();
        let mut service = Service::default();
        service.exec.user = Some("web".into());
        service.exec.configuration_directory.paths = vec!["old".into(), "new".into()];
        let folders = made(root.path(), &service, None).unwrap();
        let look = |name: &str| fs::metadata(etc.join(name)).map(|it| (it.uid(), it.mode() & 0o777)).unwrap();
        assert_eq!((look("old"), look("new")), ((0, 0o711), (33, 0o755)));
        let value = format!("{}:{}", etc.join("old").display(), etc.join("new").display());
        assert_eq!(folders.variables().next(), Some(("CONFIGURATION_DIRECTORY", value)));
    }

    #[test]
    fn a_private_tmp_is_shared_by_its_start_and_nobody_elses() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("x");
        let inner = make_private_tmp(&folder).unwrap();
        assert_eq!(make_private_tmp(&folder).unwrap(), inner);
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o7777, 0o1777);
        symlink("/etc", root.path().join("y")).unwrap();
        assert!(make_private_tmp(&root.path().join("y")).is_err());
    }
}
