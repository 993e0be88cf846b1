//! The rules of a recipe. Every broken one is reported, with its place.

use std::collections::BTreeMap;
use std::path::{Component as PathComponent, Path, PathBuf};

use super::names::NameError;
use super::{
    Account, AccountName, Architecture, DebianSources, DropRules, ExtraFile, FileSource, Group, ImagePath,
    KeepModules, Kernel, Keys, Owner, PartitionSize, Partitions, Pattern, PrimaryGroup, Provided, Recipe,
    SigningKey, Units, User, raw,
};
use super::{Component, ImageVersion, MirrorUrl, ModuleName, PackageName, ProductName, Suite};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::unit::UnitName;
use crate::yaml::{self, Step};

/// The kernel's own limit is 2047 bytes; the rest is for what the builder and the loader add.
const LONGEST_COMMAND_LINE: usize = 1024;
/// Above 59999 come systemd's dynamic users, `nobody` and the ranges of containers.
const HIGHEST_ID: u32 = 59_999;
/// Parameters that decide what is booted: the builder or the loader sets them.
const RESERVED_PARAMETERS: [&str; 8] =
    ["gpt", "panic", "oops", "init", "rdinit", "initrd", "root", "systemd.unit"];

macro_rules! path {
    ($($step:expr),+ $(,)?) => { &[$(Step::from($step)),+] };
}

/// Checks every rule.
pub(super) fn recipe(file: &str, text: &str, raw: raw::Recipe, folder: &Path) -> Result<Recipe, Diagnostics> {
    let mut check = Check { file, text, findings: Vec::new() };
    let name = check.word(path!["name"], &raw.name, ProductName::parse);
    let version = check.word(path!["version"], &raw.version, ImageVersion::parse);
    let architecture = check.word(path!["architecture"], &raw.architecture, architecture);
    let debian = debian(&mut check, &raw.debian);
    let packages = check.list(path!["packages"], &raw.packages, PackageName::parse);
    let provides = check.list(path!["provides"], &raw.provides, provided);
    let replace = check.list(path!["replace"], &raw.replace, |text| path_in_image(text, Place::File));
    let drop = drop_rules(&mut check, &raw.drop);
    let files = files(&mut check, raw.files);
    let users: Vec<User> =
        raw.users.iter().enumerate().filter_map(|(at, user)| self::user(&mut check, at, user)).collect();
    let groups = groups(&mut check, &raw.groups);
    unique_accounts(&mut check, &raw.users, &raw.groups);
    let kernel = kernel(&mut check, &raw.kernel);
    let initramfs_modules = check.list(path!["initramfs", "modules"], &raw.initramfs.modules, |text| {
        // One spelling, so that `dm-verity` and `dm_verity` count as the same.
        ModuleName::parse(&text.replace('-', "_"))
    });
    let partitions = partitions(&mut check, &raw.partitions);
    let units = units(&mut check, &raw.units);
    let keys = keys(&mut check, &raw.keys);
    let minimum_loader = raw.minimum_loader.unwrap_or(1);
    if minimum_loader == 0 {
        check.error(path!["minimum_loader"], "loader versions start at 1", None);
    }
    let assembled = (|| {
        Some(Recipe {
            name: name?,
            version: version?,
            architecture: architecture?,
            debian,
            packages,
            provides,
            replace,
            drop,
            files,
            users,
            groups,
            kernel: kernel?,
            initramfs_modules,
            partitions,
            units: units?,
            keys,
            rollback_index: raw.rollback_index.unwrap_or(0),
            minimum_loader,
            folder: folder.to_owned(),
        })
    })();
    match assembled {
        Some(recipe) if check.findings.is_empty() => Ok(recipe),
        _ => Err(Diagnostics::new(check.findings)),
    }
}

/// Collects findings.
struct Check<'a> {
    file: &'a str,
    text: &'a str,
    findings: Vec<Diagnostic>,
}

impl Check<'_> {
    fn error(&mut self, path: &[Step], message: impl Into<String>, hint: Option<String>) {
        let at = yaml::locate(self.text, path);
        self.findings.push(Diagnostic::error(self.file, self.text, at, message).with_hint(hint));
    }

    /// One checked word; `None` after reporting it.
    fn word<T>(
        &mut self,
        path: &[Step],
        text: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(path, error.problem, error.hint);
                None
            }
        }
    }

    /// A list of checked words, each at most once.
    fn list<T: PartialEq>(
        &mut self,
        path: &[Step],
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Vec<T> {
        let mut out: Vec<T> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let here: Vec<Step> = path.iter().cloned().chain([Step::Index(index)]).collect();
            if let Some(value) = self.word(&here, text, &parse) {
                if out.contains(&value) {
                    self.error(
                        &here,
                        format!("`{text}` is listed twice"),
                        Some("remove one of them".to_owned()),
                    );
                } else {
                    out.push(value);
                }
            }
        }
        out
    }
}

fn architecture(text: &str) -> Result<Architecture, NameError> {
    match text {
        "x86_64" => Ok(Architecture::X86_64),
        "amd64" | "x86-64" | "x64" => {
            Err(NameError::new(format!("unknown architecture `{text}`")).hint("write `x86_64`"))
        }
        "aarch64" | "arm64" => {
            Err(NameError::new("images for 64-bit ARM cannot be built yet")
                .hint("only `x86_64` is supported"))
        }
        other => {
            Err(NameError::new(format!("unknown architecture `{other}`")).hint("only `x86_64` is supported"))
        }
    }
}

fn debian(check: &mut Check<'_>, raw: &raw::Debian) -> DebianSources {
    let suites = check.list(path!["debian", "suites"], &raw.suites, Suite::parse);
    if raw.suites.is_empty() {
        check.error(
            path!["debian", "suites"],
            "no suite is given",
            Some("such as [trixie, trixie-security]".to_owned()),
        );
    }
    let main = ["main".to_owned()];
    let components = raw.components.as_deref().unwrap_or(&main);
    if components.is_empty() {
        check.error(
            path!["debian", "components"],
            "no component is given",
            Some("such as [main]".to_owned()),
        );
    }
    DebianSources {
        suites,
        components: check.list(path!["debian", "components"], components, Component::parse),
        mirrors: check.list(path!["debian", "mirrors"], &raw.mirrors, MirrorUrl::parse),
        security_mirrors: check.list(
            path!["debian", "security_mirrors"],
            &raw.security_mirrors,
            MirrorUrl::parse,
        ),
    }
}

/// `name` or `name (= version)`.
fn provided(text: &str) -> Result<Provided, NameError> {
    let Some((name, rest)) = text.split_once('(') else {
        return Ok(Provided { name: PackageName::parse(text.trim())?, version: None });
    };
    let name = PackageName::parse(name.trim())?;
    let version = rest.strip_suffix(')').and_then(|inner| inner.trim().strip_prefix('=')).map(str::trim);
    let well_formed = |version: &&str| {
        version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~:".contains(c))
    };
    match version.filter(well_formed) {
        Some(version) => Ok(Provided { name, version: Some(version.to_owned()) }),
        None => Err(NameError::new(format!("`{text}` is no provided package"))
            .hint(format!("write `{name}` or `{name} (= VERSION)`: other relations make no sense here"))),
    }
}

/// What is going to be at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Folder,
}

/// A path that an image can hold: `/usr` is the image, `/etc` its lower layer; all else is made at run time.
fn path_in_image(text: &str, place: Place) -> Result<ImagePath, NameError> {
    let path = ImagePath::parse(text)?;
    let top = text.split('/').nth(1).unwrap_or_default();
    if text == "/usr/etc" || text.starts_with("/usr/etc/") {
        return Err(NameError::new(format!("`{text}` is where the image stores `/etc`"))
            .hint(format!("write `{}`", text.trim_start_matches("/usr"))));
    }
    match top {
        "usr" | "etc" => Ok(path),
        "var" if place == Place::Folder => Ok(path),
        "bin" | "sbin" | "lib" | "lib64" => {
            Err(NameError::new(format!("`/{top}` is a link into `/usr`")).hint(format!("write `/usr{text}`")))
        }
        _ => Err(NameError::new(format!("the image cannot hold `{text}`")).hint(
            "it consists of `/usr` and `/etc`, and of folders in `/var`; the rest is made when it boots",
        )),
    }
}

fn drop_rules(check: &mut Check<'_>, raw: &[String]) -> DropRules {
    let mut rules = DropRules::default();
    for (index, text) in raw.iter().enumerate() {
        if let Err(error) = rules.push(text) {
            check.error(path!["drop", index], error.problem, error.hint);
        }
    }
    rules
}

fn files(check: &mut Check<'_>, raw: Vec<raw::File>) -> Vec<ExtraFile> {
    let mut out: Vec<ExtraFile> = Vec::with_capacity(raw.len());
    for (index, entry) in raw.into_iter().enumerate() {
        let Some(file) = file(check, index, entry) else { continue };
        if out.iter().any(|other| other.path == file.path) {
            check.error(path!["files", index, "path"], format!("`{}` is listed twice", file.path), None);
            continue;
        }
        let below = |inner: &ExtraFile, outer: &ExtraFile| {
            outer.source != FileSource::Directory
                && inner
                    .path
                    .as_str()
                    .strip_prefix(outer.path.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(other) = out.iter().find(|other| below(&file, other) || below(other, &file)) {
            let message = format!("`{}` and `{}` cannot both exist", other.path, file.path);
            check.error(path!["files", index, "path"], message, Some("one is not a folder".to_owned()));
        }
        out.push(file);
    }
    out
}

fn file(check: &mut Check<'_>, index: usize, raw: raw::File) -> Option<ExtraFile> {
    let mut sources = Vec::new();
    if let Some(text) = raw.content {
        sources.push(("content", FileSource::Inline(text)));
    }
    if let Some(text) = &raw.source {
        let source = check.word(path!["files", index, "source"], text, host_path)?;
        sources.push(("source", FileSource::Host(source)));
    }
    if let Some(target) = raw.symlink {
        if target.is_empty() || target.len() > 4095 || target.chars().any(char::is_control) {
            check.error(path!["files", index, "symlink"], "the link has no usable target", None);
            return None;
        }
        sources.push(("symlink", FileSource::Symlink(target)));
    }
    if raw.directory == Some(true) {
        sources.push(("directory", FileSource::Directory));
    }
    if sources.len() > 1 {
        let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
        check.error(path!["files", index], format!("`{}` exclude each other", names.join("`, `")), None);
        return None;
    }
    let Some((kind, source)) = sources.pop() else {
        let hint = "one of `content`, `source`, `symlink` and `directory: true` is needed";
        check.error(
            path!["files", index],
            format!("nothing says what `{}` is", raw.path),
            Some(hint.to_owned()),
        );
        return None;
    };
    let (place, mode) = match &source {
        FileSource::Inline(_) | FileSource::Host(_) => (Place::File, 0o644),
        FileSource::Symlink(_) => (Place::File, 0o777),
        FileSource::Directory => (Place::Folder, 0o755),
    };
    if kind == "symlink" && raw.mode.is_some() {
        check.error(path!["files", index, "mode"], "a symbolic link has no mode of its own", None);
    }
    let root = Account::Id(0);
    let owner = match &raw.owner {
        Some(text) => check.word(path!["files", index, "owner"], text, owner),
        None => Some(Owner { user: root.clone(), group: root }),
    };
    let path = check.word(path!["files", index, "path"], &raw.path, |text| path_in_image(text, place));
    Some(ExtraFile { path: path?, source, owner: owner?, mode: raw.mode.map_or(mode, |mode| mode.0) })
}

/// A path on the machine that builds: relative, and below the folder that it starts from.
fn host_path(text: &str) -> Result<PathBuf, NameError> {
    let path = Path::new(text);
    let plain =
        path.components().all(|part| matches!(part, PathComponent::Normal(_) | PathComponent::CurDir));
    if text.is_empty() || !plain {
        return Err(NameError::new(format!("`{text}` leads out of the recipe's folder"))
            .hint("write a path relative to the recipe, without `..`"));
    }
    Ok(path.to_owned())
}

/// A path of a key file: anywhere, since keys do not belong beside a recipe.
fn key_path(text: &str) -> Result<PathBuf, NameError> {
    if text.is_empty() {
        return Err(NameError::new("the path of the key is empty"));
    }
    Ok(PathBuf::from(text))
}

/// `user:group`, each a name or a number.
fn owner(text: &str) -> Result<Owner, NameError> {
    let Some((user, group)) = text.split_once(':') else {
        return Err(NameError::new(format!("owner `{text}` names no group"))
            .hint(format!("write `user:group`, such as `{text}:root`")));
    };
    Ok(Owner { user: account(user)?, group: account(group)? })
}

fn account(text: &str) -> Result<Account, NameError> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        let id = text.parse().ok().filter(|id| *id < u32::MAX - 1);
        return id
            .map(Account::Id)
            .ok_or_else(|| NameError::new(format!("`{text}` is too large for a user id")));
    }
    match AccountName::parse(text)?.as_str() {
        "root" => Ok(Account::Id(0)),
        _ => AccountName::parse(text).map(Account::Name),
    }
}

fn user(check: &mut Check<'_>, index: usize, raw: &raw::User) -> Option<User> {
    let field = |name: &str| [Step::from("users"), Step::from(index), Step::from(name)];
    let name = check.word(&field("name"), &raw.name, AccountName::parse);
    if raw.name == "root" {
        check.error(&field("name"), "`root` is always there", Some("remove the entry".to_owned()));
    }
    id_in_range(check, &field("uid"), raw.uid);
    let group = match (&raw.group, raw.gid) {
        (Some(_), Some(_)) => {
            let hint =
                "`gid` numbers a group of the user's own name, `group` names an existing one".to_owned();
            check.error(&field("gid"), "`gid` and `group` exclude each other", Some(hint));
            None
        }
        (Some(text), None) => {
            check.word(&field("group"), text, AccountName::parse).map(PrimaryGroup::Existing)
        }
        (None, gid) => {
            if let Some(gid) = gid {
                id_in_range(check, &field("gid"), gid);
            }
            Some(PrimaryGroup::Own { gid: gid.unwrap_or(raw.uid) })
        }
    };
    let groups = check.list(&field("groups"), &raw.groups, AccountName::parse);
    let (home, shell) = if raw.system {
        ("/nonexistent".to_owned(), "/usr/sbin/nologin")
    } else {
        (format!("/home/{}", raw.name), "/bin/sh")
    };
    let home = raw.home.clone().unwrap_or(home);
    let home = name.is_some().then(|| check.word(&field("home"), &home, account_path)).flatten();
    let shell = check.word(&field("shell"), raw.shell.as_deref().unwrap_or(shell), account_path);
    let gecos = raw.gecos.clone().unwrap_or_default();
    if gecos.contains(':') || gecos.chars().any(char::is_control) {
        let hint = "it is a field of /etc/passwd: no `:` and no line break".to_owned();
        check.error(&field("gecos"), "the description cannot be stored", Some(hint));
    }
    Some(User { name: name?, uid: raw.uid, group: group?, groups, home: home?, shell: shell?, gecos })
}

/// A path that can be a field of `/etc/passwd`.
fn account_path(text: &str) -> Result<ImagePath, NameError> {
    if text.contains(':') {
        return Err(NameError::new(format!("path `{text}` holds a `:`"))
            .hint("/etc/passwd separates its fields by it"));
    }
    ImagePath::parse(text)
}

fn id_in_range(check: &mut Check<'_>, path: &[Step], id: u32) {
    if id == 0 || id > HIGHEST_ID {
        let hint = match id {
            0 => "0 is root".to_owned(),
            65534 => "65534 is nobody".to_owned(),
            _ => format!("1 to {HIGHEST_ID}: above come dynamic users, nobody and the ids of containers"),
        };
        check.error(path, format!("{id} cannot be the id of a user or group here"), Some(hint));
    }
}

fn groups(check: &mut Check<'_>, raw: &[raw::Group]) -> Vec<Group> {
    let mut out = Vec::with_capacity(raw.len());
    for (index, group) in raw.iter().enumerate() {
        id_in_range(check, path!["groups", index, "gid"], group.gid);
        if let Some(name) = check.word(path!["groups", index, "name"], &group.name, AccountName::parse) {
            out.push(Group { name, gid: group.gid });
        }
    }
    out
}

/// Each user and uid once, each group and gid once; users' own groups count.
fn unique_accounts(check: &mut Check<'_>, users: &[raw::User], groups: &[raw::Group]) {
    let (mut names, mut uids) = (BTreeMap::new(), BTreeMap::new());
    let (mut group_names, mut gids) = (BTreeMap::new(), BTreeMap::new());
    for (index, user) in users.iter().enumerate() {
        if names.insert(user.name.as_str(), index).is_some() {
            check.error(path!["users", index, "name"], format!("user `{}` is listed twice", user.name), None);
        }
        if let Some(other) = uids.insert(user.uid, user.name.as_str()) {
            check.error(
                path!["users", index, "uid"],
                format!("user `{other}` has the uid {} too", user.uid),
                None,
            );
        }
        if user.group.is_none() {
            let gid = user.gid.unwrap_or(user.uid);
            group_names.insert(user.name.as_str(), ());
            if let Some(other) = gids.insert(gid, user.name.as_str()) {
                let message = format!("the own group of user `{other}` has the gid {gid} too");
                check.error(path!["users", index, "gid"], message, None);
            }
        }
    }
    for (index, group) in groups.iter().enumerate() {
        if group_names.insert(group.name.as_str(), ()).is_some() {
            let hint = "a user without `group:` brings a group of its own name".to_owned();
            let message = format!("there are two groups `{}`", group.name);
            check.error(path!["groups", index, "name"], message, Some(hint));
        }
        if let Some(other) = gids.insert(group.gid, group.name.as_str()) {
            check.error(
                path!["groups", index, "gid"],
                format!("group `{other}` has the gid {} too", group.gid),
                None,
            );
        }
    }
}

fn kernel(check: &mut Check<'_>, raw: &raw::Kernel) -> Option<Kernel> {
    let package = check.word(path!["kernel", "package"], &raw.package, PackageName::parse);
    let command_line = check.word(path!["kernel", "command_line"], &raw.command_line, command_line);
    let modules = match &raw.modules {
        None | Some(raw::KeepModules::All) => KeepModules::All,
        Some(raw::KeepModules::Matching(texts)) => {
            KeepModules::Matching(check.list(path!["kernel", "modules"], texts, Pattern::parse))
        }
    };
    Some(Kernel { package: package?, command_line: command_line?, modules })
}

fn command_line(text: &str) -> Result<String, NameError> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > LONGEST_COMMAND_LINE {
        return Err(NameError::new(format!("the command line has {} characters", line.len()))
            .hint(format!("at most {LONGEST_COMMAND_LINE}: the builder and the loader add to it")));
    }
    if !line.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err(NameError::new("the command line holds characters that are not printable ASCII"));
    }
    for parameter in line.split(' ') {
        let name = parameter.split('=').next().unwrap_or_default();
        if RESERVED_PARAMETERS.contains(&name) || name.starts_with("ferrite.") {
            return Err(NameError::new(format!("the command line sets `{name}`"))
                .hint("the builder and the loader set it: leave it out"));
        }
        if name == "--" {
            return Err(NameError::new("the command line has arguments for init")
                .hint("what follows `--` would swallow what the builder and the loader add"));
        }
    }
    Ok(line)
}

fn partitions(check: &mut Check<'_>, raw: &raw::Partitions) -> Partitions {
    let mut size = |name: &str, text: Option<&String>, default: u32, least: u32, most: u32| {
        let fallback = PartitionSize::from_mib(default);
        let Some(text) = text else { return fallback };
        let range = PartitionSize::from_mib(least)..=PartitionSize::from_mib(most);
        let in_range = |text: &str| {
            let size = PartitionSize::parse(text)?;
            if range.contains(&size) {
                return Ok(size);
            }
            Err(NameError::new(format!("{size} is no sensible size for the partition `{name}`"))
                .hint(format!("{} to {}; the default is {fallback}", range.start(), range.end())))
        };
        check.word(path!["partitions", name], text, in_range).unwrap_or(fallback)
    };
    Partitions {
        // Below 40 MiB, FAT32 with clusters of 512 bytes has fewer than the 65,525 clusters that make it FAT32.
        esp: size("esp", raw.esp.as_ref(), 64, 40, 2048),
        usr: size("usr", raw.usr.as_ref(), 1024, 32, 65_536),
        oem: size("oem", raw.oem.as_ref(), 16, 1, 1024),
    }
}

fn units(check: &mut Check<'_>, raw: &raw::Units) -> Option<Units> {
    let parse = |text: &str| {
        UnitName::parse(text).map_err(|error| {
            let hint = (!text.contains('.')).then(|| format!("write `{text}.service`"));
            NameError { problem: error.to_string(), hint }
        })
    };
    let enable = check.list(path!["units", "enable"], &raw.enable, parse);
    let mask = check.list(path!["units", "mask"], &raw.mask, parse);
    for (index, text) in raw.mask.iter().enumerate() {
        if raw.enable.contains(text) {
            check.error(path!["units", "mask", index], format!("`{text}` is enabled and masked"), None);
        }
    }
    let default = check.word(
        path!["units", "default"],
        raw.default.as_deref().unwrap_or("multi-user.target"),
        |text| {
            if !text.ends_with(".target") {
                return Err(NameError::new(format!("the default unit `{text}` is no target"))
                    .hint("such as `multi-user.target`"));
            }
            parse(text)
        },
    );
    Some(Units { enable, mask, default: default? })
}

fn keys(check: &mut Check<'_>, raw: &raw::Keys) -> Keys {
    let signing = raw.signing.as_ref().and_then(|text| check.word(path!["keys", "signing"], text, key_path));
    Keys {
        signing: signing.map_or(SigningKey::Development, SigningKey::File),
        trusted: check.list(path!["keys", "trusted"], &raw.trusted, key_path),
    }
}
