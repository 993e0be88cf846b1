//! Users, groups and keys of a plan, in the account files that `init` reads and writes at every boot.

use std::io;
use std::path::{Path, PathBuf};

use image_config::user_data::plan::{
    Account, AuthorizedKeys, Directory, Existing, ExistingUser, File, Group, Owner, User,
};
use init::boot::sysusers::{self, database::Database};

use super::files::{FileError, Files};
use crate::journey::Earlier;

/// Numbers of people, from below; Debian's `UID_MIN` to what the recipe's own users may have.
const PEOPLE: (u32, u32) = (1000, 59_999);
/// Numbers of systems, from above; Debian's `SYS_UID_MIN` to `SYS_UID_MAX`.
const SYSTEMS: (u32, u32) = (100, 999);
/// What a home folder begins with.
const SKELETON: &str = "etc/skel";
const HOME_MODE: u16 = 0o755;
/// The group of those who get none of their own.
const USERS_GROUP: &str = "users";

/// Why an account is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The files.
    #[error("the account files cannot be {0}")]
    Files(&'static str, #[source] io::Error),
    /// Somebody else has the number.
    #[error("{kind} {name} cannot have the number {number}, which is {holder}'s")]
    Taken {
        /// User or group.
        kind: &'static str,
        /// Whose number it was to be.
        name: String,
        /// The number.
        number: u32,
        /// Whose it is.
        holder: String,
    },
    /// No number is left.
    #[error("no number is free for {0}")]
    NoNumber(String),
    /// A group that does not exist.
    #[error("user {user}: there is no group {group}")]
    NoGroup {
        /// Who should be in it.
        user: String,
        /// Its name.
        group: String,
    },
    /// A user that does not exist.
    #[error("there is no user {0}")]
    NoUser(String),
    /// A text that would be more than one field of a line.
    #[error("{what} of {name} has a colon or a line break in it")]
    Field {
        /// Which one.
        what: &'static str,
        /// Whose.
        name: String,
    },
    /// Its files.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A user as far as others need it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    uid: u32,
    gid: u32,
    home: String,
}

/// The account files below a root.
#[derive(Debug)]
pub struct Accounts<'a> {
    root: &'a Path,
    files: &'a Files,
}

impl<'a> Accounts<'a> {
    /// Those of the tree that `files` writes to.
    pub fn new(root: &'a Path, files: &'a Files) -> Self {
        Self { root, files }
    }

    fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Database) -> Result<(), AccountError>,
    ) -> Result<(), AccountError> {
        let before = sysusers::read(&self.etc()).map_err(|error| AccountError::Files("read", error))?;
        let mut after = before.clone();
        change(&mut after)?;
        sysusers::write(&self.etc(), &before, &after).map_err(|error| AccountError::Files("written", error))
    }

    /// Makes a group, or adds what is written to one that exists.
    ///
    /// # Errors
    /// [`AccountError`]
    pub fn group(&self, group: &Group) -> Result<(), AccountError> {
        self.change(|database| {
            let name = &group.name;
            match (database.gid(name), group.gid) {
                (Some(has), Some(wanted)) if has != wanted => {
                    check_free(database, "group", name, wanted)?;
                    database.group.set_field(name, 2, &wanted.to_string());
                }
                (Some(_), _) => {}
                (None, wanted) => _ = add_group(database, name, wanted, group.is_system)?,
            }
            if let Some(hash) = &group.password_hash {
                check_field("the password", name, hash)?;
                database.gshadow.set_field(name, 1, hash);
            }
            for member in &group.members {
                add_member(database, member, name);
            }
            Ok(())
        })
    }

    /// Takes a group away.
    ///
    /// # Errors
    /// [`AccountError`]
    pub fn delete_group(&self, name: &str) -> Result<(), AccountError> {
        self.change(|database| {
            database.group.remove(name);
            database.gshadow.remove(name);
            Ok(())
        })
    }

    /// Takes a user away; its files stay.
    ///
    /// # Errors
    /// [`AccountError`]
    pub fn delete_user(&self, name: &str) -> Result<(), AccountError> {
        self.change(|database| {
            database.passwd.remove(name);
            database.shadow.remove(name);
            database.group.remove_member(name);
            database.gshadow.remove_member(name);
            Ok(())
        })
    }

    /// Makes a user, or changes one that exists as far as [`User::existing`] says.
    ///
    /// # Errors
    /// [`AccountError`]
    pub fn user(&self, user: &User) -> Result<(), AccountError> {
        let name = &user.name;
        let texts =
            [("the full name", &user.gecos), ("the home folder", &user.home), ("the shell", &user.shell)];
        for (what, text) in texts.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?))) {
            check_field(what, name, text)?;
        }
        if let Some(hash) = &user.password_hash {
            check_field("the password", name, hash)?;
        }
        let mut is_new = false;
        self.change(|database| {
            is_new = database.passwd.line(name).is_none();
            if is_new {
                add_user(database, user)?;
            } else {
                change_user(database, user)?;
            }
            Ok(())
        })?;
        if is_new && user.creates_home {
            self.make_home(name)?;
        }
        self.sudo(user)
    }

    fn find(&self, name: &str) -> Result<Found, AccountError> {
        let database = sysusers::read(&self.etc()).map_err(|error| AccountError::Files("read", error))?;
        let field = |at| database.passwd.field(name, at);
        let number = |at| field(at).and_then(|text: &str| text.parse().ok());
        match (number(2), number(3), field(5)) {
            (Some(uid), Some(gid), Some(home)) => Ok(Found { uid, gid, home: home.to_owned() }),
            _ => Err(AccountError::NoUser(name.to_owned())),
        }
    }

    /// The home folder with what every home begins with; one that is there stays as it is.
    fn make_home(&self, name: &str) -> Result<(), AccountError> {
        let found = self.find(name)?;
        if found.home == "/" || self.root.join(found.home.trim_start_matches('/')).exists() {
            return Ok(());
        }
        self.folder(&found, &found.home, HOME_MODE)?;
        for entry in std::fs::read_dir(self.root.join(SKELETON)).into_iter().flatten().flatten() {
            let Ok(bytes) = std::fs::read(entry.path()) else { continue };
            let path = format!("{}/{}", found.home, entry.file_name().to_string_lossy());
            self.file(&found, &path, 0o644, &bytes)?;
        }
        Ok(())
    }

    fn folder(&self, owner: &Found, path: &str, mode: u16) -> Result<(), AccountError> {
        let folder = Directory {
            path: path.to_owned(),
            mode: Some(mode),
            owner: owner.ids(),
            existing: Existing::Refuse,
        };
        Ok(self.files.make_folder(&folder, false)?)
    }

    fn file(&self, owner: &Found, path: &str, mode: u16, bytes: &[u8]) -> Result<(), AccountError> {
        let file = File {
            path: path.to_owned(),
            mode: Some(mode),
            owner: owner.ids(),
            contents: None,
            append: Vec::new(),
            existing: Existing::Replace,
        };
        Ok(self.files.write(&file, Some(bytes), &[], Earlier::Made)?)
    }

    fn sudo(&self, user: &User) -> Result<(), AccountError> {
        if user.sudo.is_empty() {
            return Ok(());
        }
        let mut text = String::from("# Of the user-data.\n");
        for rule in &user.sudo {
            text.push_str(&format!("{} {}\n", user.name, rule.replace('\n', " ")));
        }
        // sudo skips files with a dot in their names.
        let path = format!("/etc/sudoers.d/90-{}", user.name.replace('.', "_"));
        self.file(&ROOT, &path, 0o440, text.as_bytes())
    }

    /// Writes a set of keys, replacing the set of that name.
    ///
    /// # Errors
    /// [`AccountError`]
    pub fn keys(&self, keys: &AuthorizedKeys) -> Result<(), AccountError> {
        let found = self.find(&keys.user)?;
        let ssh = format!("{}/.ssh", found.home.trim_end_matches('/'));
        self.folder(&found, &ssh, 0o700)?;
        let sets = format!("{ssh}/authorized_keys.d");
        self.folder(&found, &sets, 0o700)?;
        let text: String = keys.keys.iter().map(|key| format!("{}\n", key.trim())).collect();
        self.file(&found, &format!("{sets}/{}", keys.set), 0o600, text.as_bytes())
    }
}

const ROOT: Found = Found { uid: 0, gid: 0, home: String::new() };

impl Found {
    fn ids(&self) -> Owner {
        Owner { user: Some(Account::Id(self.uid)), group: Some(Account::Id(self.gid)) }
    }
}

fn check_field(what: &'static str, name: &str, text: &str) -> Result<(), AccountError> {
    let splits = text.contains([':', '\n']);
    if splits { Err(AccountError::Field { what, name: name.to_owned() }) } else { Ok(()) }
}

fn check_free(database: &Database, kind: &'static str, name: &str, number: u32) -> Result<(), AccountError> {
    let table = if kind == "user" { &database.passwd } else { &database.group };
    match table.holder(number) {
        Some(holder) if holder != name => {
            Err(AccountError::Taken { kind, name: name.to_owned(), number, holder: holder.to_owned() })
        }
        _ => Ok(()),
    }
}

/// A number that no user and no group has.
fn free(database: &Database, name: &str, is_system: bool) -> Result<u32, AccountError> {
    let taken = database.numbers();
    let is_free = |number: &u32| !taken.contains(number);
    let number = if is_system {
        (SYSTEMS.0..=SYSTEMS.1).rev().find(is_free)
    } else {
        (PEOPLE.0..=PEOPLE.1).find(is_free)
    };
    number.ok_or_else(|| AccountError::NoNumber(name.to_owned()))
}

fn add_group(
    database: &mut Database,
    name: &str,
    wanted: Option<u32>,
    is_system: bool,
) -> Result<u32, AccountError> {
    let gid = match wanted {
        Some(gid) => {
            check_free(database, "group", name, gid)?;
            gid
        }
        None => free(database, name, is_system)?,
    };
    database.group.add(format!("{name}:x:{gid}:"));
    if database.gshadow.line(name).is_none() {
        database.gshadow.add(format!("{name}:!*::"));
    }
    Ok(gid)
}

fn add_member(database: &mut Database, user: &str, group: &str) {
    database.group.add_member(group, user);
    if database.gshadow.line(group).is_some() {
        database.gshadow.add_member(group, user);
    }
}

/// The password field: a star lets no password in, an exclamation mark before a hash locks it.
fn secret(user: &User) -> String {
    match &user.password_hash {
        Some(hash) if user.is_locked => format!("!{hash}"),
        Some(hash) => hash.clone(),
        None => "*".to_owned(),
    }
}

/// A group by name or number.
fn group_number(database: &Database, user: &str, group: &str) -> Result<u32, AccountError> {
    let by_number = || group.parse().ok().filter(|gid| database.group.holder(*gid).is_some());
    database
        .gid(group)
        .or_else(by_number)
        .ok_or_else(|| AccountError::NoGroup { user: user.to_owned(), group: group.to_owned() })
}

fn join_groups(database: &mut Database, user: &User) -> Result<(), AccountError> {
    for group in &user.groups {
        group_number(database, &user.name, group)?;
        add_member(database, &user.name, group);
    }
    Ok(())
}

fn add_user(database: &mut Database, user: &User) -> Result<(), AccountError> {
    let name = &user.name;
    if let Some(uid) = user.uid {
        check_free(database, "user", name, uid)?;
    }
    let gid = match &user.primary_group {
        Some(group) => group_number(database, name, group)?,
        None if user.creates_group => match database.gid(name) {
            Some(gid) => gid,
            None => {
                let alike = user.uid.filter(|uid| database.group.holder(*uid).is_none());
                add_group(database, name, alike, user.is_system)?
            }
        },
        None => group_number(database, name, USERS_GROUP)?,
    };
    // User and group have one number where that is possible.
    let alike = (user.primary_group.is_none() && user.creates_group).then_some(gid);
    let alike = alike.filter(|gid| database.passwd.holder(*gid).is_none());
    let uid = match user.uid.or(alike) {
        Some(uid) => uid,
        None => free(database, name, user.is_system)?,
    };
    let gecos = user.gecos.as_deref().unwrap_or_default();
    let home = user.home.clone().unwrap_or_else(|| format!("/home/{name}"));
    let shell = user.shell.as_deref().unwrap_or("/bin/bash");
    database.passwd.add(format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}"));
    database.shadow.remove(name);
    database.shadow.add(format!("{name}:{}:::::::", secret(user)));
    join_groups(database, user)
}

fn change_user(database: &mut Database, user: &User) -> Result<(), AccountError> {
    let name = &user.name;
    if database.shadow.line(name).is_none() {
        database.shadow.add(format!("{name}:!*:::::::"));
    }
    if user.password_hash.is_some() {
        database.shadow.set_field(name, 1, &secret(user));
    }
    if user.existing == ExistingUser::PasswordOnly {
        return Ok(());
    }
    if let Some(uid) = user.uid {
        check_free(database, "user", name, uid)?;
        database.passwd.set_field(name, 2, &uid.to_string());
    }
    if let Some(group) = &user.primary_group {
        let gid = group_number(database, name, group)?;
        database.passwd.set_field(name, 3, &gid.to_string());
    }
    for (at, text) in [(4, &user.gecos), (5, &user.home), (6, &user.shell)] {
        if let Some(text) = text {
            database.passwd.set_field(name, at, text);
        }
    }
    join_groups(database, user)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        root: tempfile::TempDir,
        files: Files,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("etc")).unwrap();
            let machine = Self { files: Files::open(root.path()).unwrap(), root };
            for (name, text) in [
                ("passwd", "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500::/home/core:/bin/bash\n"),
                ("group", "root:x:0:\nsudo:x:27:\nusers:x:100:\ncore:x:500:\n"),
                ("shadow", "root:*:::::::\ncore:!*:::::::\n"),
            ] {
                std::fs::write(machine.root.path().join("etc").join(name), text).unwrap();
            }
            machine
        }

        fn accounts(&self) -> Accounts<'_> {
            Accounts::new(self.root.path(), &self.files)
        }

        fn line(&self, file: &str, name: &str) -> String {
            let text = std::fs::read_to_string(self.root.path().join("etc").join(file)).unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("{name}:")));
            line.unwrap_or_default().to_owned()
        }
    }

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            uid: None,
            password_hash: None,
            is_locked: false,
            gecos: None,
            home: None,
            creates_home: false,
            primary_group: None,
            creates_group: true,
            groups: Vec::new(),
            shell: None,
            is_system: false,
            sudo: Vec::new(),
            existing: ExistingUser::PasswordOnly,
        }
    }

    #[test]
    fn a_new_user_gets_a_group_of_its_name_and_number() {
        let machine = Machine::new();
        let groups = vec!["sudo".to_owned()];
        let elroy =
            User { groups, gecos: Some("E".into()), password_hash: Some("$6$x".into()), ..user("elroy") };
        machine.accounts().user(&elroy).unwrap();
        assert_eq!(machine.line("passwd", "elroy"), "elroy:x:1000:1000:E:/home/elroy:/bin/bash");
        assert_eq!(machine.line("group", "elroy"), "elroy:x:1000:");
        assert_eq!(machine.line("group", "sudo"), "sudo:x:27:elroy");
        assert_eq!(machine.line("shadow", "elroy"), "elroy:$6$x:::::::");
        machine.accounts().user(&User { is_system: true, creates_group: false, ..user("daemon") }).unwrap();
        assert_eq!(machine.line("passwd", "daemon"), "daemon:x:999:100::/home/daemon:/bin/bash");
        machine.accounts().delete_user("elroy").unwrap();
        assert_eq!(
            (machine.line("passwd", "elroy"), machine.line("group", "sudo")),
            (String::new(), "sudo:x:27:".into())
        );
    }

    #[test]
    fn a_user_that_exists_keeps_what_is_not_said_of_it() {
        let machine = Machine::new();
        let change = User {
            uid: Some(600),
            shell: Some("/bin/sh".into()),
            password_hash: Some("h".into()),
            ..user("core")
        };
        machine.accounts().user(&change).unwrap();
        assert_eq!(machine.line("passwd", "core"), "core:x:500:500::/home/core:/bin/bash");
        assert_eq!(machine.line("shadow", "core"), "core:h:::::::");
        machine.accounts().user(&User { existing: ExistingUser::Modify, is_locked: true, ..change }).unwrap();
        assert_eq!(machine.line("passwd", "core"), "core:x:600:500::/home/core:/bin/sh");
        assert_eq!(machine.line("shadow", "core"), "core:!h:::::::");
    }

    #[test]
    fn what_cannot_be_is_said_and_changes_nothing() {
        let machine = Machine::new();
        let error = |user: User| machine.accounts().user(&user).unwrap_err().to_string();
        assert_eq!(
            error(User { uid: Some(500), ..user("a") }),
            "user a cannot have the number 500, which is core's"
        );
        assert_eq!(error(User { groups: vec!["no".into()], ..user("a") }), "user a: there is no group no");
        assert_eq!(
            error(User { gecos: Some("a:b".into()), ..user("a") }),
            "the full name of a has a colon or a line break in it"
        );
        assert_eq!(machine.line("passwd", "a"), "");
        let keys = AuthorizedKeys { user: "a".into(), set: "s".into(), keys: vec![] };
        assert_eq!(machine.accounts().keys(&keys).unwrap_err().to_string(), "there is no user a");
    }

    #[test]
    fn groups_are_made_with_their_members() {
        let machine = Machine::new();
        let group = Group {
            name: "ops".into(),
            gid: Some(2000),
            password_hash: None,
            is_system: false,
            members: vec!["core".into()],
        };
        machine.accounts().group(&group).unwrap();
        machine.accounts().group(&group).unwrap();
        assert_eq!(machine.line("group", "ops"), "ops:x:2000:core");
        machine.accounts().delete_group("ops").unwrap();
        assert_eq!(machine.line("group", "ops"), "");
    }
}
