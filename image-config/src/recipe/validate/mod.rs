//! The rules of a recipe. Every broken one is reported, with its place.

mod accounts;
mod budgets;
mod files;
mod trees;

use std::path::{Path, PathBuf};

use self::files::{Place, path_in_image};
use super::names::NameError;
use super::{
    Architecture, DebianSources, DropRules, KeepModules, Kernel, Keys, PartitionSize, Partitions, Pattern,
    Provided, Recipe, SigningKey, Units, User, raw,
};
use super::{Component, ImageVersion, MirrorUrl, ModuleName, PackageName, ProductName, Suite};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::unit::UnitName;
use crate::yaml::{self, Step};

/// The kernel's own limit is 2047 bytes; the rest is for what the builder and the loader add.
const LONGEST_COMMAND_LINE: usize = 1024;
/// Parameters that decide what is booted: the builder or the loader sets them.
const RESERVED_PARAMETERS: [&str; 8] =
    ["gpt", "panic", "oops", "init", "rdinit", "initrd", "root", "systemd.unit"];

macro_rules! steps {
    ($($step:expr),+ $(,)?) => { &[$(Step::from($step)),+] };
}
use steps;

/// Checks every rule.
pub(super) fn recipe(file: &str, text: &str, raw: raw::Recipe, folder: &Path) -> Result<Recipe, Diagnostics> {
    let mut check = Check { file, text, findings: Vec::new() };
    let name = check.word(steps!["name"], &raw.name, ProductName::parse);
    let version = check.word(steps!["version"], &raw.version, ImageVersion::parse);
    let architecture = check.word(steps!["architecture"], &raw.architecture, architecture);
    let debian = debian(&mut check, &raw.debian);
    let packages = check.list(steps!["packages"], &raw.packages, PackageName::parse);
    let provides = check.list(steps!["provides"], &raw.provides, provided);
    let replace = check.list(steps!["replace"], &raw.replace, |text| path_in_image(text, Place::File));
    let drop = drop_rules(&mut check, &raw.drop);
    let mut files = files::files(&mut check, raw.files);
    files::applets(&mut check, raw.applets.as_ref(), &mut files);
    let trees = trees::trees(&mut check, &raw.trees);
    let users: Vec<User> =
        raw.users.iter().enumerate().filter_map(|(at, user)| accounts::user(&mut check, at, user)).collect();
    let groups = accounts::groups(&mut check, &raw.groups);
    accounts::unique_accounts(&mut check, &raw.users, &raw.groups);
    let kernel = kernel(&mut check, &raw.kernel);
    let initramfs_modules = check.list(steps!["initramfs", "modules"], &raw.initramfs.modules, |text| {
        // One spelling, so that `dm-verity` and `dm_verity` count as the same.
        ModuleName::parse(&text.replace('-', "_"))
    });
    let partitions = partitions(&mut check, &raw.partitions);
    let budgets = budgets::budgets(&mut check, &raw.budgets);
    let units = units(&mut check, &raw.units);
    let keys = keys(&mut check, &raw.keys);
    let user_data = raw.user_data.as_ref();
    let user_data = user_data.and_then(|text| check.word(steps!["user_data"], text, files::host_path));
    let minimum_loader = raw.minimum_loader.unwrap_or(1);
    if minimum_loader == 0 {
        check.error(steps!["minimum_loader"], "loader versions start at 1", None);
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
            trees,
            users,
            groups,
            kernel: kernel?,
            initramfs_modules,
            partitions,
            budgets,
            units: units?,
            keys,
            user_data,
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
    let suites = check.list(steps!["debian", "suites"], &raw.suites, Suite::parse);
    if raw.suites.is_empty() {
        check.error(
            steps!["debian", "suites"],
            "no suite is given",
            Some("such as [trixie, trixie-security]".to_owned()),
        );
    }
    let main = ["main".to_owned()];
    let components = raw.components.as_deref().unwrap_or(&main);
    if components.is_empty() {
        check.error(
            steps!["debian", "components"],
            "no component is given",
            Some("such as [main]".to_owned()),
        );
    }
    DebianSources {
        suites,
        components: check.list(steps!["debian", "components"], components, Component::parse),
        mirrors: check.list(steps!["debian", "mirrors"], &raw.mirrors, MirrorUrl::parse),
        security_mirrors: check.list(
            steps!["debian", "security_mirrors"],
            &raw.security_mirrors,
            MirrorUrl::parse,
        ),
        snapshot: raw
            .snapshot
            .as_ref()
            .and_then(|text| check.word(steps!["debian", "snapshot"], text, MirrorUrl::parse)),
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

fn drop_rules(check: &mut Check<'_>, raw: &[String]) -> DropRules {
    let mut rules = DropRules::default();
    for (index, text) in raw.iter().enumerate() {
        if let Err(error) = rules.push(text) {
            check.error(steps!["drop", index], error.problem, error.hint);
        }
    }
    rules
}

fn kernel(check: &mut Check<'_>, raw: &raw::Kernel) -> Option<Kernel> {
    let package = check.word(steps!["kernel", "package"], &raw.package, PackageName::parse);
    let command_line = check.word(steps!["kernel", "command_line"], &raw.command_line, command_line);
    let modules = match &raw.modules {
        None | Some(raw::KeepModules::All) => KeepModules::All,
        Some(raw::KeepModules::Matching(texts)) => {
            KeepModules::Matching(check.list(steps!["kernel", "modules"], texts, Pattern::parse))
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
        check.word(steps!["partitions", name], text, in_range).unwrap_or(fallback)
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
    let enable = check.list(steps!["units", "enable"], &raw.enable, parse);
    let mask = check.list(steps!["units", "mask"], &raw.mask, parse);
    for (index, text) in raw.mask.iter().enumerate() {
        if raw.enable.contains(text) {
            check.error(steps!["units", "mask", index], format!("`{text}` is enabled and masked"), None);
        }
    }
    let default = check.word(
        steps!["units", "default"],
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
    let signing = raw.signing.as_ref().and_then(|text| check.word(steps!["keys", "signing"], text, key_path));
    Keys {
        signing: signing.map_or(SigningKey::Development, SigningKey::File),
        trusted: check.list(steps!["keys", "trusted"], &raw.trusted, key_path),
        channel: raw.channel.as_ref().and_then(|text| check.word(steps!["keys", "channel"], text, key_path)),
    }
}

/// A path of a key file: anywhere, since keys do not belong beside a recipe.
fn key_path(text: &str) -> Result<PathBuf, NameError> {
    if text.is_empty() {
        return Err(NameError::new("the path of the key is empty"));
    }
    Ok(PathBuf::from(text))
}
