//! Users and groups of the image: Debian's fixed ones, those that packages ask for by `sysusers.d`, and the recipe's.
//!
//! Every account is locked: no image has a password (the database has no way to hold one).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use image_config::recipe::{Account, Owner};
use sha2::{Digest, Sha256};

/// First id for accounts that packages ask for without a number; Debian's own fixed ids end at 99.
const DYNAMIC_FIRST: u32 = 300;
/// How many ids there are for them; the range ends below 1000, where people's accounts start.
const DYNAMIC_COUNT: u32 = 600;
const NO_LOGIN: &str = "/usr/sbin/nologin";

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Number of its primary group.
    pub gid: u32,
    /// Full name or description.
    pub gecos: String,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    /// Users that belong to it besides those whose primary group it is.
    pub members: Vec<String>,
}

/// Why accounts could not be made. `line` is what asked for it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// A line of a master file or of `sysusers.d` is not understood.
    #[error("{file}:{line}: {problem}")]
    Syntax {
        /// The file in the image.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Two accounts want one number.
    #[error("{kind} {name} wants id {id}, which {holder} has")]
    IdTaken {
        /// `user` or `group`.
        kind: &'static str,
        /// Who wants it.
        name: String,
        /// The number.
        id: u32,
        /// Who has it.
        holder: String,
    },
    /// A name that nothing brings.
    #[error("there is no {kind} {name}")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// The image's account files while they are being put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
}

impl Accounts {
    /// Starts from Debian's fixed accounts: the texts of base-passwd's `passwd.master` and `group.master`.
    ///
    /// # Errors
    /// A line without the fields of passwd(5) or group(5).
    pub fn from_masters(passwd: &str, group: &str) -> Result<Self, AccountError> {
        let mut accounts = Self::default();
        for (line, fields) in records(group) {
            let [name, _, gid, members] = fields.as_slice() else {
                return Err(syntax("group.master", line, "a group has 4 fields"));
            };
            let gid = number(gid).ok_or_else(|| syntax("group.master", line, "the gid is no number"))?;
            let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
            accounts.groups.insert((*name).to_owned(), Group { gid, members });
        }
        for (line, fields) in records(passwd) {
            let [name, _, uid, gid, gecos, home, shell] = fields.as_slice() else {
                return Err(syntax("passwd.master", line, "a user has 7 fields"));
            };
            let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
                return Err(syntax("passwd.master", line, "uid or gid is no number"));
            };
            let user = User {
                uid,
                gid,
                gecos: (*gecos).to_owned(),
                home: (*home).to_owned(),
                shell: (*shell).to_owned(),
            };
            accounts.users.insert((*name).to_owned(), user);
        }
        Ok(accounts)
    }

    /// Applies the text of one `sysusers.d` file (sysusers.d(5): the types `u`, `u!`, `g`, `m`; `r` is ignored, our range is
    /// fixed). Accounts that exist are left alone.
    ///
    /// # Errors
    /// A line that is not understood, or a number that is taken.
    pub fn apply_sysusers(&mut self, file: &str, text: &str) -> Result<(), AccountError> {
        for (index, line) in text.lines().enumerate() {
            let fields = split_quoted(line);
            let field = |at: usize| fields.get(at).map(String::as_str).filter(|field| *field != "-");
            let (Some(kind), Some(name)) = (fields.first(), field(1)) else { continue };
            if kind.starts_with('#') {
                continue;
            }
            match kind.as_str() {
                "u" | "u!" => {
                    let user_line =
                        UserLine { id: field(2), gecos: field(3), home: field(4), shell: field(5) };
                    self.sysusers_user(name, &user_line).map_err(|problem| match problem {
                        Ok(error) => error,
                        Err(problem) => syntax(file, index + 1, problem),
                    })?;
                }
                "g" => {
                    let gid = match field(2).map(number) {
                        Some(None) => return Err(syntax(file, index + 1, "the gid is no number")),
                        Some(gid) => gid,
                        None => None,
                    };
                    self.ensure_group(name, gid)?;
                }
                "m" => {
                    let group = field(2).ok_or_else(|| syntax(file, index + 1, "m needs a group"))?;
                    self.ensure_group(group, None)?;
                    self.add_member(group, name)?;
                }
                "r" => {}
                other => return Err(syntax(file, index + 1, &format!("unknown type {other:?}"))),
            }
        }
        Ok(())
    }

    /// The inner error is a syntax problem of the line.
    fn sysusers_user(
        &mut self,
        name: &str,
        line: &UserLine<'_>,
    ) -> Result<(), Result<AccountError, &'static str>> {
        if self.users.contains_key(name) {
            return Ok(());
        }
        let (uid, group) = match line.id.map(|id| id.split_once(':').unwrap_or((id, ""))) {
            None => (None, None),
            Some((uid, group)) => {
                let parsed =
                    if uid == "-" { None } else { Some(number(uid).ok_or(Err("the uid is no number"))?) };
                (parsed, Some(group).filter(|group| !group.is_empty()))
            }
        };
        let gid = match group {
            Some(group) => match number(group) {
                Some(gid) => gid,
                None => self.gid(group).map_err(Ok)?,
            },
            None => self.ensure_group(name, uid).map_err(Ok)?,
        };
        let uid = match uid {
            Some(uid) => uid,
            None => self.free_id(name),
        };
        let user = User {
            uid,
            gid,
            gecos: line.gecos.unwrap_or_default().to_owned(),
            home: line.home.unwrap_or("/").to_owned(),
            shell: line.shell.unwrap_or(NO_LOGIN).to_owned(),
        };
        self.add_user(name, user).map_err(Ok)
    }

    /// Makes sure that a group exists and returns its number; a new one gets `gid` or a free one.
    ///
    /// # Errors
    /// Another group has the number.
    pub fn ensure_group(&mut self, name: &str, gid: Option<u32>) -> Result<u32, AccountError> {
        if let Some(group) = self.groups.get(name) {
            return Ok(group.gid);
        }
        let gid = gid.unwrap_or_else(|| self.free_id(name));
        if let Some((holder, _)) = self.groups.iter().find(|(_, group)| group.gid == gid) {
            return Err(AccountError::IdTaken {
                kind: "group",
                name: name.to_owned(),
                id: gid,
                holder: holder.clone(),
            });
        }
        self.groups.insert(name.to_owned(), Group { gid, members: Vec::new() });
        Ok(gid)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Another user has its number or its name.
    pub fn add_user(&mut self, name: &str, user: User) -> Result<(), AccountError> {
        let taken = self.users.iter().find(|(other, there)| there.uid == user.uid || *other == name);
        if let Some((holder, _)) = taken {
            let holder = holder.clone();
            return Err(AccountError::IdTaken { kind: "user", name: name.to_owned(), id: user.uid, holder });
        }
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    /// Gives root `/bin/sh` when the image has no bash, which Debian's masters name: a shell that is not there lets
    /// nobody in.
    pub fn settle_root_shell(&mut self, image_has_bash: bool) {
        let root = self.users.get_mut("root").filter(|root| root.shell == "/bin/bash" && !image_has_bash);
        if let Some(root) = root {
            "/bin/sh".clone_into(&mut root.shell);
        }
    }

    /// Makes a user a member of a group.
    ///
    /// # Errors
    /// There is no such group.
    pub fn add_member(&mut self, group: &str, user: &str) -> Result<(), AccountError> {
        let unknown = || AccountError::Unknown { kind: "group", name: group.to_owned() };
        let members = &mut self.groups.get_mut(group).ok_or_else(unknown)?.members;
        if !members.iter().any(|member| member == user) {
            members.push(user.to_owned());
        }
        Ok(())
    }

    /// Number of a user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn uid(&self, name: &str) -> Result<u32, AccountError> {
        let found = self.users.get(name).map(|user| user.uid);
        found.ok_or_else(|| AccountError::Unknown { kind: "user", name: name.to_owned() })
    }

    /// Number of a group.
    ///
    /// # Errors
    /// There is no such group.
    pub fn gid(&self, name: &str) -> Result<u32, AccountError> {
        let found = self.groups.get(name).map(|group| group.gid);
        found.ok_or_else(|| AccountError::Unknown { kind: "group", name: name.to_owned() })
    }

    /// User and group of a file of the recipe by number.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn owner(&self, owner: &Owner) -> Result<(u32, u32), AccountError> {
        let uid = match &owner.user {
            Account::Id(uid) => *uid,
            Account::Name(name) => self.uid(name.as_str())?,
        };
        let gid = match &owner.group {
            Account::Id(gid) => *gid,
            Account::Name(name) => self.gid(name.as_str())?,
        };
        Ok((uid, gid))
    }

    /// The text of `/etc/passwd`.
    pub fn passwd(&self) -> String {
        self.by_uid().into_iter().fold(String::new(), |mut text, (name, user)| {
            let User { uid, gid, gecos, home, shell } = user;
            let _ = writeln!(text, "{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}");
            text
        })
    }

    /// The text of `/etc/shadow`: every account locked ("!*" is no hash of anything, shadow(5)).
    pub fn shadow(&self) -> String {
        self.by_uid().into_iter().fold(String::new(), |mut text, (name, _)| {
            // A date of 0 would force a new password at login; an empty one turns ageing off, and does not vary by build day.
            let _ = writeln!(text, "{name}:!*:::::::");
            text
        })
    }

    /// The text of `/etc/group`.
    pub fn group(&self) -> String {
        self.by_gid().into_iter().fold(String::new(), |mut text, (name, group)| {
            let _ = writeln!(text, "{name}:x:{}:{}", group.gid, group.members.join(","));
            text
        })
    }

    /// The text of `/etc/gshadow`.
    pub fn gshadow(&self) -> String {
        self.by_gid().into_iter().fold(String::new(), |mut text, (name, group)| {
            let _ = writeln!(text, "{name}:!*::{}", group.members.join(","));
            text
        })
    }

    fn by_uid(&self) -> Vec<(&String, &User)> {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(_, user)| user.uid);
        users
    }

    fn by_gid(&self) -> Vec<(&String, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| group.gid);
        groups
    }

    /// A free number for `name` that depends on the name, not on who else is there: another release with other packages
    /// gives an account the same number, so files on STATE keep their owner. Only a collision moves it.
    fn free_id(&self, name: &str) -> u32 {
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let [a, b, c, d, ..] = digest;
        let start = u32::from_le_bytes([a, b, c, d]) % DYNAMIC_COUNT;
        let taken = |id: u32| {
            self.users.values().any(|user| user.uid == id)
                || self.groups.iter().any(|(group, there)| there.gid == id && group != name)
        };
        (0..DYNAMIC_COUNT)
            .map(|step| DYNAMIC_FIRST + (start + step) % DYNAMIC_COUNT)
            .find(|id| !taken(*id))
            .unwrap_or(
                // 600 accounts of packages in one image: the next ones go behind the range, still unique.
                DYNAMIC_FIRST
                    + DYNAMIC_COUNT
                    + u32::try_from(self.users.len() + self.groups.len()).unwrap_or(u32::MAX / 2),
            )
    }
}

/// The optional fields of a `u` line.
struct UserLine<'a> {
    id: Option<&'a str>,
    gecos: Option<&'a str>,
    home: Option<&'a str>,
    shell: Option<&'a str>,
}

fn syntax(file: &str, line: usize, problem: &str) -> AccountError {
    AccountError::Syntax { file: file.to_owned(), line, problem: problem.to_owned() }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn records(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| (index + 1, line.split(':').collect()))
}

/// Splits at white space; double or single quotes keep it.
fn split_quoted(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:*:0:\nsudo:*:27:\nnogroup:*:65534:\n";

    fn masters() -> Accounts {
        Accounts::from_masters(PASSWD, GROUP).unwrap()
    }

    #[test]
    fn root_has_a_shell_that_is_there() {
        let mut accounts = masters();
        accounts.settle_root_shell(true);
        assert!(accounts.passwd().starts_with("root:x:0:0:root:/root:/bin/bash\n"));
        accounts.settle_root_shell(false);
        assert!(accounts.passwd().starts_with("root:x:0:0:root:/root:/bin/sh\n"));
    }

    #[test]
    fn packages_users_are_added_with_their_groups() {
        let mut accounts = masters();
        accounts
            .apply_sysusers(
                "a.conf",
                "# text\nu sshd -:nogroup \"sshd user\" /run/sshd\nu etcd 120\ng _ssh -\n",
            )
            .unwrap();
        assert!(
            accounts.passwd().contains(":65534:sshd user:/run/sshd:/usr/sbin/nologin\n"),
            "{}",
            accounts.passwd()
        );
        assert!(accounts.passwd().contains("etcd:x:120:120::/:/usr/sbin/nologin\n"));
        assert!(accounts.gid("_ssh").unwrap() >= DYNAMIC_FIRST);
    }

    #[test]
    fn a_package_more_does_not_move_the_others_ids() {
        let (mut alone, mut together) = (masters(), masters());
        alone.apply_sysusers("a", "u etcd -\n").unwrap();
        together.apply_sysusers("a", "u chrony -\nu avahi -\nu etcd -\n").unwrap();
        assert_eq!(alone.uid("etcd"), together.uid("etcd"));
        assert_eq!(alone.gid("etcd"), alone.uid("etcd"));
    }

    #[test]
    fn every_account_is_locked() {
        let accounts = masters();
        assert_eq!(accounts.shadow(), "root:!*:::::::\nnobody:!*:::::::\n");
        assert!(accounts.passwd().lines().all(|line| line.split(':').nth(1) == Some("x")));
    }

    #[test]
    fn an_id_that_is_taken_is_refused_with_its_holder() {
        let error = masters().apply_sysusers("a.conf", "g wheel 27\n").unwrap_err();
        assert_eq!(error.to_string(), "group wheel wants id 27, which sudo has");
    }

    #[test]
    fn bad_lines_name_file_and_line() {
        for (text, message) in [
            ("\nx foo\n", "a.conf:2: unknown type \"x\""),
            ("u foo abc\n", "a.conf:1: the uid is no number"),
            ("m foo\n", "a.conf:1: m needs a group"),
        ] {
            assert_eq!(masters().apply_sysusers("a.conf", text).unwrap_err().to_string(), message);
        }
        assert!(Accounts::from_masters("root:x\n", "").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[ug!mr\\- a-z0-9:\"'\n]{0,200}") {
            let _ = masters().apply_sysusers("a", &text);
            let _ = Accounts::from_masters(&text, &text);
        }
    }
}
