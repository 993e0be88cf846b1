//! Unit files where they lie: which file has a name, which drop-ins add to it, what is enabled.
//!
//! PID 1 loads units through [`UnitFolders`]; `systemctl` looks at and changes the same folders through [`install`].
//! systemd.unit(5), "Unit File Load Path" and "Description".

pub mod install;
mod links;
#[cfg(test)]
mod machine;
pub mod presets;
mod revert;
pub mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use image_config::unit::{UnitName, UnitType};

/// Where unit files are, strongest first: systemd.unit(5), "System Unit Search Path".
const SEARCH_PATH: [&str; 11] = [
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "run/systemd/generator.late",
];
/// Two changes of a folder within this may have one time: file systems' clocks advance with the kernel's tick, 10 ms at most.
const CLOCK_STEP: Duration = Duration::from_millis(50);
/// Links that are followed from one unit file to the next before it counts as a circle.
const MOST_LINKS: usize = 8;

/// The folders in which unit files lie.
#[derive(Debug)]
pub struct UnitFolders {
    /// What absolute links are relative to.
    root: PathBuf,
    folders: Vec<PathBuf>,
    /// Names of links to other names, as of the folders' last change.
    aliases: RefCell<Option<Aliases>>,
}

#[derive(Debug)]
struct Aliases {
    /// When each folder was last changed.
    changed: Vec<Option<SystemTime>>,
    /// Whether one was changed so shortly before the reading that a later change might have the same time.
    is_fresh: bool,
    of: BTreeMap<UnitName, Vec<UnitName>>,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragment {
    /// A file.
    Found {
        /// The name that the unit really has.
        name: UnitName,
        /// Its main file.
        path: PathBuf,
        /// Its other names.
        aliases: Vec<UnitName>,
    },
    /// Switched off: a link to `/dev/null`, or an empty file.
    Masked,
    /// Nothing.
    NotFound,
    /// Links that lead nowhere, or that cannot be read.
    Unreadable(String),
}

impl UnitFolders {
    /// The folders of a system below `root`.
    pub fn of_system(root: &Path) -> UnitFolders {
        let folders = SEARCH_PATH.iter().map(|folder| root.join(folder)).collect();
        UnitFolders { root: root.to_owned(), ..UnitFolders::new(folders) }
    }

    /// These folders, strongest first.
    pub fn new(folders: Vec<PathBuf>) -> UnitFolders {
        UnitFolders { root: PathBuf::from("/"), folders, aliases: RefCell::new(None) }
    }

    /// The folders, strongest first.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// What stands behind a name, links to other names followed.
    pub fn fragment(&self, wanted: &UnitName) -> Fragment {
        let mut name = wanted.clone();
        let mut aliases: Vec<UnitName> = Vec::new();
        for _ in 0..MOST_LINKS {
            let Some(path) = self.find(&name) else { return Fragment::NotFound };
            let target = match link_target(&path) {
                Err(error) => return Fragment::Unreadable(format!("{}: {error}", path.display())),
                Ok(_) if is_mask(&path) => return Fragment::Masked,
                Ok(target) => target,
            };
            match target.and_then(|target| alias_of(&name, &target)) {
                None if !self.behind_links(&path).exists() => return Fragment::NotFound,
                None => {
                    for alias in self.aliases_of(&name) {
                        if alias != name && !aliases.contains(&alias) {
                            aliases.push(alias);
                        }
                    }
                    return Fragment::Found { name, path, aliases };
                }
                Some(next) => {
                    aliases.push(name);
                    name = next;
                }
            }
        }
        Fragment::Unreadable(format!("too many links from {wanted}"))
    }

    /// The file that a path leads to, absolute links being those of the system below the root.
    pub fn behind_links(&self, path: &Path) -> PathBuf {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            path = match link_target(&path) {
                Ok(Some(target)) => match target.strip_prefix("/") {
                    Ok(inside) => self.root.join(inside),
                    Err(_) => path.parent().unwrap_or(Path::new("/")).join(target),
                },
                _ => break,
            };
        }
        path
    }

    /// The strongest file for a name, else for its template.
    pub fn find(&self, name: &UnitName) -> Option<PathBuf> {
        let template = name.template();
        let names = std::iter::once(name.as_str()).chain(template.as_ref().map(UnitName::as_str));
        for name in names {
            for folder in &self.folders {
                let path = folder.join(name);
                if path.symlink_metadata().is_ok_and(|data| !data.is_dir()) {
                    return Some(path);
                }
            }
        }
        None
    }

    /// Drop-ins of a unit with these names, in the order in which they count.
    pub fn drop_ins(&self, names: &[&UnitName]) -> Vec<PathBuf> {
        let files = self.extensions(names, "d").into_iter();
        files.filter(|(name, path)| is_conf(name) && !is_mask(path)).map(|(_, path)| path).collect()
    }

    /// Names of the units in the `.wants` (or `.requires`, `.upholds`) folders of a unit.
    pub fn linked(&self, names: &[&UnitName], suffix: &str) -> BTreeSet<String> {
        let instance = names.iter().find_map(|name| name.instance().filter(|instance| !instance.is_empty()));
        let unit = |(entry, path): (OsString, PathBuf)| {
            let entry = UnitName::parse(entry.to_str()?).ok().filter(|_| !is_mask(&path))?;
            let entry = if entry.is_template() { entry.with_instance(instance?).ok()? } else { entry };
            Some(entry.as_str().to_owned())
        };
        self.extensions(names, suffix).into_iter().filter_map(unit).collect()
    }

    /// Every name that a file or a link has, each once.
    pub fn names(&self) -> BTreeSet<UnitName> {
        let entries = self.folders.iter().flat_map(|folder| read_folder(folder));
        entries.filter(|path| !path.is_dir()).filter_map(|path| unit_name_of(&path)).collect()
    }

    /// Files of the folders that extend a unit, by file name: of two with one name the first folder's wins.
    fn extensions(&self, names: &[&UnitName], suffix: &str) -> BTreeMap<OsString, PathBuf> {
        let mut files = BTreeMap::new();
        for folder in self.extension_folders(names, suffix) {
            for path in read_folder(&folder) {
                if let Some(name) = path.file_name() {
                    files.entry(name.to_owned()).or_insert(path);
                }
            }
        }
        files
    }

    /// Those folders, strongest first. A unit's own and those of its template and prefixes are taken folder by folder of
    /// the search path; those of its type come last.
    fn extension_folders(&self, names: &[&UnitName], suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in names {
            let holders = holders_of(name);
            for folder in &self.folders {
                found.extend(holders.iter().map(|holder| folder.join(format!("{holder}.{suffix}"))));
            }
        }
        let kind = names.first().map_or(UnitType::Service, |name| name.kind());
        found.extend(self.folders.iter().map(|folder| folder.join(format!("{kind}.{suffix}"))));
        found
    }

    /// Other names of a unit: links to it in the folders.
    fn aliases_of(&self, name: &UnitName) -> Vec<UnitName> {
        let changed: Vec<Option<SystemTime>> = self
            .folders
            .iter()
            .map(|folder| fs::metadata(folder).and_then(|data| data.modified()).ok())
            .collect();
        let mut cache = self.aliases.borrow_mut();
        if cache.as_ref().is_none_or(|aliases| aliases.is_fresh || aliases.changed != changed) {
            let is_fresh = |time: &SystemTime| time.elapsed().is_ok_and(|age| age < CLOCK_STEP);
            let is_fresh = changed.iter().flatten().any(is_fresh);
            *cache = Some(Aliases { changed, is_fresh, of: self.read_aliases() });
        }
        let all = cache.as_ref().map(|aliases| &aliases.of);
        let mut found = all.and_then(|of| of.get(name)).cloned().unwrap_or_default();
        // A link between templates makes each instance of the one an alias of the other's.
        if let (Some(template), Some(instance)) = (name.template(), name.instance())
            && let Some(templates) = all.and_then(|of| of.get(&template))
        {
            found.extend(templates.iter().filter_map(|alias| alias.with_instance(instance).ok()));
        }
        found.retain(|alias| self.find(alias).is_some_and(|path| !is_mask(&path)));
        found
    }

    fn read_aliases(&self) -> BTreeMap<UnitName, Vec<UnitName>> {
        let mut of: BTreeMap<UnitName, Vec<UnitName>> = BTreeMap::new();
        for path in self.folders.iter().flat_map(|folder| read_folder(folder)) {
            let (Ok(Some(target)), Some(alias)) = (link_target(&path), unit_name_of(&path)) else { continue };
            // The strongest link of a name is the one that counts.
            if self.find(&alias).as_ref() == Some(&path)
                && let Some(name) = alias_of(&alias, &target)
            {
                of.entry(name).or_default().push(alias);
            }
        }
        of
    }
}

/// Names whose `.d` and `.wants` folders concern a unit, strongest first: itself, its template, and for each hyphen of its
/// prefix what stands before it (`a-b-c@x.service`: `a-b-.service`, `a-.service`, then `a-b-@x.service` and so on).
fn holders_of(name: &UnitName) -> Vec<String> {
    let mut holders = vec![name.as_str().to_owned()];
    if let Some(template) = name.template() {
        holders.extend(holders_of(&template));
    }
    let prefix = name.prefix();
    let shorter = prefix.strip_suffix('-').unwrap_or(prefix).rsplit_once('-').map(|(shorter, _)| shorter);
    if let Some(shorter) = shorter.filter(|shorter| !shorter.is_empty()) {
        let instance = match name.instance() {
            Some(instance) if !instance.is_empty() => format!("@{instance}"),
            _ => String::new(),
        };
        if let Ok(next) = UnitName::parse(&format!("{shorter}-{instance}.{}", name.kind())) {
            holders.extend(holders_of(&next));
        }
    }
    let mut seen = BTreeSet::new();
    holders.retain(|holder| seen.insert(holder.clone()));
    holders
}

fn is_conf(name: &std::ffi::OsStr) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "conf")
}

/// The other unit that a link to `target` makes `name` an alias of; `None` when it is the same unit elsewhere.
fn alias_of(name: &UnitName, target: &Path) -> Option<UnitName> {
    let file = target.file_name()?.to_str()?;
    if file == name.as_str() || name.template().is_some_and(|template| template.as_str() == file) {
        return None;
    }
    // A unit cannot be another name of one of another type.
    let other = UnitName::parse(file).ok().filter(|other| other.kind() == name.kind())?;
    match (other.is_template(), name.instance()) {
        (true, Some("")) | (false, _) => Some(other),
        (true, Some(instance)) => other.with_instance(instance).ok(),
        (true, None) => None,
    }
}

fn unit_name_of(path: &Path) -> Option<UnitName> {
    UnitName::parse(path.file_name()?.to_str()?).ok()
}

fn link_target(path: &Path) -> io::Result<Option<PathBuf>> {
    if path.symlink_metadata()?.is_symlink() { fs::read_link(path).map(Some) } else { Ok(None) }
}

/// `/dev/null` or an empty file: this name is switched off.
pub fn is_mask(path: &Path) -> bool {
    if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return true;
    }
    fs::metadata(path)
        .is_ok_and(|data| data.file_type().is_char_device() || data.is_file() && data.len() == 0)
}

fn read_folder(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_name_and_its_template_extend_it_in_systemds_order() {
        // As systemd 257 took them, found by removing the winner again and again.
        let name = UnitName::parse("a-b-c@x.service").unwrap();
        let want = [
            "a-b-c@x.service",
            "a-b-c@.service",
            "a-b-.service",
            "a-.service",
            "a-b-@x.service",
            "a-b-@.service",
            "a-@x.service",
            "a-@.service",
        ];
        assert_eq!(holders_of(&name), want);
        let name = UnitName::parse("foo--bar.service").unwrap();
        assert_eq!(holders_of(&name), ["foo--bar.service", "foo--.service", "foo-.service"]);
    }

    #[test]
    fn of_drop_ins_with_one_name_the_stronger_folder_wins_then_the_nearer_name() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "[Unit]\n").unwrap();
        };
        for folder in ["etc/systemd/system", "usr/lib/systemd/system"] {
            for holder in ["a-b.service", "a-.service", "service"] {
                write(&format!("{folder}/{holder}.d/10.conf"));
            }
        }
        write("usr/lib/systemd/system/service.d/05.conf");
        write("usr/lib/systemd/system/service.d/README");
        let folders = UnitFolders::of_system(root.path());
        let name = UnitName::parse("a-b.service").unwrap();
        let mut winners = Vec::new();
        loop {
            let found = folders.drop_ins(&[&name]);
            let [first, winner] = &found[..] else { break };
            assert!(first.ends_with("service.d/05.conf"), "{found:?}");
            winners.push(winner.strip_prefix(root.path()).unwrap().to_string_lossy().into_owned());
            fs::remove_file(winner).unwrap();
        }
        let want = [
            "etc/systemd/system/a-b.service.d/10.conf",
            "etc/systemd/system/a-.service.d/10.conf",
            "usr/lib/systemd/system/a-b.service.d/10.conf",
            "usr/lib/systemd/system/a-.service.d/10.conf",
            "etc/systemd/system/service.d/10.conf",
            "usr/lib/systemd/system/service.d/10.conf",
        ];
        assert_eq!(winners, want);
    }

    #[test]
    fn a_unit_knows_its_other_names_whichever_it_is_asked_for_by() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc/systemd/system");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("real.service"), "[Service]\n").unwrap();
        fs::write(etc.join("t@.service"), "[Service]\n").unwrap();
        symlink("real.service", etc.join("other.service")).unwrap();
        symlink("t@.service", etc.join("u@.service")).unwrap();
        let folders = UnitFolders::of_system(root.path());
        let aliases = |name: &str| match folders.fragment(&UnitName::parse(name).unwrap()) {
            Fragment::Found { name, aliases, .. } => (
                name.as_str().to_owned(),
                aliases.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>(),
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(aliases("real.service"), ("real.service".into(), vec!["other.service".into()]));
        assert_eq!(aliases("other.service"), ("real.service".into(), vec!["other.service".into()]));
        assert_eq!(aliases("u@x.service"), ("t@x.service".into(), vec!["u@x.service".into()]));
        assert_eq!(aliases("t@x.service"), ("t@x.service".into(), vec!["u@x.service".into()]));
        // The map follows the folder.
        fs::remove_file(etc.join("other.service")).unwrap();
        filetime_moves(&etc);
        assert_eq!(aliases("real.service"), ("real.service".into(), vec![]));
    }

    /// Gives a folder another time of change, however coarse the file system's clock is.
    fn filetime_moves(folder: &Path) {
        let later = SystemTime::now() + Duration::from_secs(5);
        fs::File::open(folder).unwrap().set_modified(later).unwrap();
    }
}
