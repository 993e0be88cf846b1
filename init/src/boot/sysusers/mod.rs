//! Users and groups at every boot (SAFETY 24): those of the image that an edited `/etc` lacks, then what sysusers.d(5)
//! asks for. Accounts that are there are never changed.

pub mod database;
pub mod parse;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use self::database::{Database, Table};
use self::parse::{Primary, Wanted, Wish};
use super::identity;
use super::tmpfiles::{self, parse::Specifiers};

/// Folders with configuration, the strongest first.
const FOLDERS: &[&str] =
    &["etc/sysusers.d", "run/sysusers.d", "usr/local/lib/sysusers.d", "usr/lib/sysusers.d"];
/// Numbers for those who take any, from above, unless an `r` line says otherwise: Debian's `SYS_UID_MIN` to `_MAX`.
const SYSTEM_RANGE: (u32, u32) = (100, 999);
/// The files, with the mode of one that is new.
const FILES: [(&str, u32); 4] = [("passwd", 0o644), ("group", 0o644), ("shadow", 0o640), ("gshadow", 0o640)];

/// Reads what there is below `root`, adds what is missing and writes what has changed; returns what went wrong, a line
/// each.
pub fn run(root: &Path, specifiers: &Specifiers) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut wishes = Vec::new();
    for (name, path) in tmpfiles::files(root, FOLDERS) {
        match fs::read_to_string(&path) {
            Ok(text) => wishes.extend(parse::parse(&name, &text, specifiers, &mut problems)),
            Err(error) => warnings.push(format!("sysusers: {}: {error}", path.display())),
        }
    }
    warnings.extend(problems.iter().map(|problem| format!("sysusers: {problem}")));
    let before = match read(&root.join("etc")) {
        Ok(before) => before,
        // Adding to what cannot be read would lose it.
        Err(error) => {
            warnings.push(format!("sysusers: the account files cannot be read: {error}"));
            return warnings;
        }
    };
    let image = read(&root.join("usr/etc")).unwrap_or_default();
    let owner = |path: &str| {
        let path = root.join(path.trim_start_matches('/'));
        fs::metadata(path).ok().map(|data| (data.uid(), data.gid()))
    };
    let mut merge = Merge::new(before.clone(), &wishes);
    merge.image(&image);
    merge.wishes(&wishes, &owner);
    warnings.extend(merge.warnings.iter().map(|warning| format!("sysusers: {warning}")));
    if let Err(error) = write(&root.join("etc"), &before, &merge.database) {
        warnings.push(format!("sysusers: the account files cannot be written: {error}"));
    }
    warnings
}

fn tables(database: &Database) -> [&Table; 4] {
    [&database.passwd, &database.group, &database.shadow, &database.gshadow]
}

/// Reads the account files of a folder; a missing one is empty.
///
/// # Errors
/// One of them cannot be read.
pub fn read(folder: &Path) -> io::Result<Database> {
    let table = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Table::parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
        Err(error) => Err(error),
    };
    Ok(Database {
        passwd: table("passwd")?,
        group: table("group")?,
        shadow: table("shadow")?,
        gshadow: table("gshadow")?,
    })
}

/// Writes those that have changed. Groups before users and secrets last: whatever a power cut leaves, no line points to one that is
/// missing.
///
/// # Errors
/// One of them cannot be written.
pub fn write(folder: &Path, before: &Database, after: &Database) -> io::Result<()> {
    let order = [1, 0, 3, 2];
    for at in order {
        let (old, new) = (tables(before).into_iter().nth(at), tables(after).into_iter().nth(at));
        let (Some((name, mode)), Some(new)) = (FILES.get(at), new) else { continue };
        if old == Some(new) {
            continue;
        }
        let path = folder.join(name);
        let present = fs::metadata(&path).ok();
        let mode = present.as_ref().map_or(*mode, |data| data.permissions().mode() & 0o7777);
        let owner = present.map_or((0, 0), |data| (data.uid(), data.gid()));
        identity::replace_owned(&path, mode, owner, new.text().as_bytes())?;
    }
    Ok(())
}

/// A database that accounts are added to.
struct Merge {
    database: Database,
    ranges: Vec<(u32, u32)>,
    warnings: Vec<String>,
}

impl Merge {
    fn new(database: Database, wishes: &[Wish]) -> Merge {
        let ranges = wishes.iter().filter_map(|wish| match wish {
            Wish::Range { first, last } => Some((*first, *last)),
            _ => None,
        });
        let mut ranges: Vec<(u32, u32)> = ranges.collect();
        if ranges.is_empty() {
            ranges.push(SYSTEM_RANGE);
        }
        Merge { database, ranges, warnings: Vec::new() }
    }

    /// The highest number that no user and no group has.
    fn free(&self) -> Option<u32> {
        let taken = self.database.numbers();
        self.ranges.iter().find_map(|(first, last)| (*first..=*last).rev().find(|id| !taken.contains(id)))
    }

    fn add_group(&mut self, name: &str, gid: u32, password: &str) {
        self.database.group.add(format!("{name}:{password}:{gid}:"));
        if self.database.gshadow.line(name).is_none() {
            self.database.gshadow.add(format!("{name}:!*::"));
        }
    }

    /// Adds what the image has and the machine lacks: the image's numbers unless they are taken.
    fn image(&mut self, image: &Database) {
        let mut new_groups = Vec::new();
        for name in
            image.group.names().filter(|name| self.database.group.line(name).is_none()).collect::<Vec<_>>()
        {
            let Some(gid) = image.gid(name) else { continue };
            let Some(gid) = self.number_of_image("group", name, gid) else { continue };
            let password = image.group.field(name, 1).unwrap_or("x").to_owned();
            self.add_group(name, gid, &password);
            new_groups.push(name);
        }
        let mut new_users = Vec::new();
        for name in
            image.passwd.names().filter(|name| self.database.passwd.line(name).is_none()).collect::<Vec<_>>()
        {
            let fields: Vec<&str> = image.passwd.line(name).unwrap_or_default().split(':').collect();
            let [_, password, uid, gid, gecos, home, shell] = fields.as_slice() else { continue };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
            let Some(uid) = self.number_of_image("user", name, uid) else { continue };
            // The group by its name: its number may be another one here.
            let gid = image.group.holder(gid).and_then(|group| self.database.gid(group)).unwrap_or(gid);
            self.database.passwd.add(format!("{name}:{password}:{uid}:{gid}:{gecos}:{home}:{shell}"));
            if self.database.shadow.line(name).is_none() {
                let line = image.shadow.line(name).map_or_else(|| format!("{name}:!*:::::::"), str::to_owned);
                self.database.shadow.add(line);
            }
            new_users.push(name);
        }
        // Whom an administrator has taken out of a group stays out; only who is new comes in.
        for group in image.group.names() {
            for user in image.group.field(group, 3).unwrap_or_default().split(',') {
                if !user.is_empty() && (new_users.contains(&user) || new_groups.contains(&group)) {
                    self.add_member(user, group);
                }
            }
        }
    }

    /// The number that an account of the image gets here.
    fn number_of_image(&mut self, kind: &str, name: &str, wanted: u32) -> Option<u32> {
        let table = if kind == "user" { &self.database.passwd } else { &self.database.group };
        let Some(holder) = table.holder(wanted).map(str::to_owned) else { return Some(wanted) };
        let given = self.free();
        self.warnings.push(match given {
            Some(id) => format!("{kind} {name} of the image gets id {id}, its own {wanted} is {holder}'s"),
            None => {
                format!("{kind} {name} of the image is left out: {holder} has its id and no other is free")
            }
        });
        given
    }

    fn add_member(&mut self, user: &str, group: &str) {
        self.database.group.add_member(group, user);
        if self.database.gshadow.line(group).is_some() {
            self.database.gshadow.add_member(group, user);
        }
    }

    /// Groups first, then users, then members, as systemd-sysusers(8) does it.
    fn wishes(&mut self, wishes: &[Wish], owner: &dyn Fn(&str) -> Option<(u32, u32)>) {
        for wish in wishes {
            if let Wish::Group { name, gid } = wish {
                let gid = match gid {
                    Wanted::Any => None,
                    Wanted::Number(id) => Some(*id),
                    Wanted::OwnerOf(path) => owner(path).map(|(_, gid)| gid),
                };
                self.group(name, gid);
            }
        }
        for wish in wishes {
            if let Wish::User { .. } = wish {
                self.user(wish, owner);
            }
        }
        for wish in wishes {
            if let Wish::Member { user, group } = wish {
                if self.database.passwd.line(user).is_none() {
                    let line = Wish::User {
                        name: user.clone(),
                        uid: Wanted::Any,
                        primary: Primary::Own,
                        gecos: String::new(),
                        home: "/".to_owned(),
                        shell: "/usr/sbin/nologin".to_owned(),
                        locked: false,
                    };
                    self.user(&line, owner);
                }
                if self.group(group, None).is_some() && self.database.passwd.line(user).is_some() {
                    self.add_member(user, group);
                }
            }
        }
    }

    /// Makes a group unless it is there; its number.
    fn group(&mut self, name: &str, wanted: Option<u32>) -> Option<u32> {
        if let Some(gid) = self.database.gid(name) {
            return Some(gid);
        }
        let wanted = wanted.filter(|gid| self.database.group.holder(*gid).is_none());
        let Some(gid) = wanted.or_else(|| self.free()) else {
            self.warnings.push(format!("group {name} is left out: no id is free"));
            return None;
        };
        self.add_group(name, gid, "x");
        Some(gid)
    }

    fn user(&mut self, wish: &Wish, owner: &dyn Fn(&str) -> Option<(u32, u32)>) {
        let Wish::User { name, uid, primary, gecos, home, shell, locked } = wish else { return };
        if self.database.passwd.line(name).is_some() {
            return;
        }
        let wanted = match uid {
            Wanted::Any => None,
            Wanted::Number(id) => Some(*id),
            Wanted::OwnerOf(path) => owner(path).map(|(uid, _)| uid),
        };
        let wanted = wanted.filter(|uid| self.database.passwd.holder(*uid).is_none());
        let gid = match primary {
            Primary::Own => self.group(name, wanted),
            Primary::Number(gid) => Some(*gid).filter(|gid| self.database.group.holder(*gid).is_some()),
            Primary::Name(group) => self.database.gid(group),
        };
        let Some(gid) = gid else {
            self.warnings.push(format!("user {name} is left out: its group is not there"));
            return;
        };
        // User and group have one number where that is possible.
        let alike =
            Some(gid).filter(|gid| *primary == Primary::Own && self.database.passwd.holder(*gid).is_none());
        let Some(uid) = wanted.or(alike).or_else(|| self.free()) else {
            self.warnings.push(format!("user {name} is left out: no id is free"));
            return;
        };
        self.database.passwd.add(format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}"));
        if self.database.shadow.line(name).is_none() {
            // The eighth field: the account expired on the second day of 1970.
            let expiry = if *locked { "1" } else { "" };
            self.database.shadow.add(format!("{name}:!*::::::{expiry}:"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            fs::create_dir(machine.0.path().join("etc")).unwrap();
            for (path, text) in files {
                let path = machine.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            machine
        }

        fn run(&self) -> Vec<String> {
            run(self.0.path(), &Specifiers::default())
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.path().join("etc").join(name)).unwrap()
        }
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n";

    #[test]
    fn a_new_release_brings_its_users_to_an_edited_etc() {
        let machine = Machine::new(&[
            ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nme:x:301:1000::/home/me:/bin/sh\n"),
            ("etc/group", "root:x:0:\nsudo:x:27:me\n"),
            ("etc/shadow", "root:*:::::::\nme:secret:::::::\n"),
            (
                "usr/etc/passwd",
                "root:x:0:0:root:/root:/bin/zsh\netcd:x:300:300::/var/lib/etcd:/x\nnew:x:301:301::/:/x\n",
            ),
            ("usr/etc/group", "root:x:0:\nsudo:x:27:core,new\netcd:x:300:\nnew:x:301:\n"),
            ("usr/etc/shadow", "etcd:!:::::::\n"),
        ]);
        let warnings = machine.run();
        assert_eq!(warnings, ["sysusers: user new of the image gets id 999, its own 301 is me's"]);
        assert_eq!(
            machine.text("passwd"),
            "root:x:0:0:root:/root:/bin/bash\nme:x:301:1000::/home/me:/bin/sh\netcd:x:300:300::/var/lib/etcd:/x\nnew:x:999:301::/:/x\n"
        );
        // Only who is new joins a group that was there.
        assert!(machine.text("group").starts_with("root:x:0:\nsudo:x:27:me,new\netcd:x:300:\n"));
        assert!(machine.text("shadow").contains("me:secret:") && machine.text("shadow").contains("etcd:!:"));
        let before = machine.text("passwd");
        assert_eq!(machine.run(), Vec::<String>::new());
        assert_eq!(machine.text("passwd"), before, "the second boot changes nothing");
    }

    #[test]
    fn lines_of_packages_make_users_groups_and_members() {
        let machine = Machine::new(&[
            ("etc/passwd", PASSWD),
            ("etc/group", "root:x:0:\n"),
            (
                "usr/lib/sysusers.d/a.conf",
                "u web 33 \"Web\" /var/www\nu! db - \"Data Base\"\ng render -\nm db render\nm late web\nu odd 0:nogroup\n",
            ),
            ("usr/lib/sysusers.d/b.conf", "u hidden 5\n"),
            ("etc/sysusers.d/b.conf", "r - 500-501\n"),
        ]);
        assert_eq!(
            machine.run(),
            [
                "sysusers: user odd is left out: its group is not there",
                "sysusers: group late is left out: no id is free",
                "sysusers: user late is left out: its group is not there",
            ]
        );
        assert_eq!(
            machine.text("passwd"),
            format!(
                "{PASSWD}web:x:33:33:Web:/var/www:/usr/sbin/nologin\ndb:x:500:500:Data Base:/:/usr/sbin/nologin\n"
            )
        );
        assert_eq!(machine.text("group"), "root:x:0:\nrender:x:501:db\nweb:x:33:\ndb:x:500:\n");
        assert_eq!(machine.text("shadow"), "web:!*:::::::\ndb:!*::::::1:\n");
    }

    #[test]
    fn modes_stay_and_secrets_are_not_for_everybody() {
        let machine = Machine::new(&[
            ("etc/passwd", PASSWD),
            ("etc/group", "root:x:0:\n"),
            ("usr/lib/sysusers.d/a.conf", "u web -\n"),
        ]);
        let path = |name: &str| machine.0.path().join("etc").join(name);
        fs::set_permissions(path("passwd"), fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(machine.run(), Vec::<String>::new());
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("passwd"), mode("shadow"), mode("gshadow")), (0o604, 0o640, 0o640));
        assert!(machine.text("passwd").ends_with("web:x:999:999::/:/usr/sbin/nologin\n"));
    }
}
