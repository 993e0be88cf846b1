//! From assignments to typed settings: which table a key is looked up in, and what is said about keys in none.

use super::common::{Common, Install, StartLimitAction};
use super::condition::ConditionKind;
use super::directives::{COMMON, INSTALL, KILL, MOVED_TO_UNIT};
use super::exec::ExecContext;
use super::exec_keys::{ACCEPTED, EXEC};
use super::file::{Unit, UnitFile, UnitKind, Warning};
use super::known;
use super::name::{UnitName, UnitType};
use super::resource_keys::RESOURCES;
use super::resources::ResourceControl;
use super::sandbox_keys::SANDBOX;
use super::service::KillContext;
use super::setting::Setting;
use super::specifier::System;
use crate::diagnostic::did_you_mean;

/// Why an assignment is ignored; becomes the message of a warning.
pub(super) type Ignored = String;

/// How a value reaches `T`.
pub(super) type Assign<T> = fn(&mut T, &mut Setting<'_>) -> Result<(), Ignored>;

/// A key and how its value reaches `T`.
pub(super) type Directive<T> = (&'static str, Assign<T>);

/// The section that one type of unit has to itself.
pub(super) trait Section: Sized + 'static {
    /// Its own keys.
    const OWN: &'static [Directive<Self>];
    /// Keys of its own that systemd has and this crate does not understand.
    const KNOWN: &'static [&'static str] = &[];

    /// Where keys of systemd.exec(5) go, if it has them.
    fn exec(&mut self) -> Option<&mut ExecContext> {
        None
    }

    /// Where keys of systemd.kill(5) go, if it has them.
    fn kill(&mut self) -> Option<&mut KillContext> {
        None
    }

    /// Where keys of systemd.resource-control(5) go, if it has them.
    fn resources(&mut self) -> Option<&mut ResourceControl> {
        None
    }

    /// What makes the unit unfit to be loaded.
    fn problem(&self, own: &UnitName) -> Option<&'static str>;
}

/// What makes a unit unfit to be loaded.
pub(super) fn problem(unit: &Unit) -> Option<&'static str> {
    match &unit.kind {
        // One that only takes the machine down when it is reached needs no commands.
        UnitKind::Service(it) if unit.common.success_action != StartLimitAction::None => {
            it.problem_but_for_commands()
        }
        UnitKind::Service(it) => Section::problem(&**it, &unit.name),
        UnitKind::Socket(it) => it.problem(&unit.name),
        UnitKind::Timer(it) => it.problem(&unit.name),
        UnitKind::Path(it) => it.problem(&unit.name),
        UnitKind::Mount(it) => it.problem(&unit.name),
        UnitKind::Swap(it) => it.problem(&unit.name),
        UnitKind::Slice(it) => it.problem(&unit.name),
        UnitKind::Other(UnitType::Automount) => {
            Some("automount units are not supported: mount it with a mount unit at boot")
        }
        UnitKind::Target | UnitKind::Device | UnitKind::Other(_) => None,
    }
}

/// Reads all assignments of a unit into their fields.
pub(super) fn apply(file: &UnitFile, system: &System) -> (Unit, Vec<Warning>) {
    let kind = match file.name().kind() {
        UnitType::Service => UnitKind::Service(Box::default()),
        UnitType::Socket => UnitKind::Socket(Box::default()),
        UnitType::Timer => UnitKind::Timer(Box::default()),
        UnitType::Path => UnitKind::Path(Box::default()),
        UnitType::Mount => UnitKind::Mount(Box::default()),
        UnitType::Swap => UnitKind::Swap(Box::default()),
        UnitType::Slice => UnitKind::Slice(Box::default()),
        UnitType::Target => UnitKind::Target,
        UnitType::Device => UnitKind::Device,
        other @ (UnitType::Automount | UnitType::Scope) => UnitKind::Other(other),
    };
    let mut unit = Unit {
        name: file.name().clone(),
        paths: file.paths().to_vec(),
        common: Common::default(),
        install: Install::default(),
        kind,
    };
    let fragment = file.paths().first().map_or("", String::as_str);
    let mut warnings = Vec::new();
    let mut told: Vec<(usize, &str)> = Vec::new();
    for assignment in file.assignments() {
        let place = (file.paths().get(assignment.file).map_or("", String::as_str), assignment.line);
        let section = assignment.section.as_str();
        if !has_section(file.name().kind(), section) {
            // One warning a section, not one a line; sections of other programs are their own business.
            if !section.starts_with("X-") && !told.contains(&(assignment.file, section)) {
                told.push((assignment.file, section));
                let message = format!("unknown section [{section}]");
                warnings.push(Warning { path: place.0.to_owned(), line: place.1, message });
            }
            continue;
        }
        let mut setting = Setting {
            key: &assignment.key,
            value: &assignment.value,
            unit: file.name(),
            fragment,
            system,
            place,
            warnings: &mut warnings,
        };
        if let Err(message) = assign(&mut unit, section, &mut setting) {
            setting.warn(message);
        }
    }
    if let Some(problem) = problem(&unit).filter(|_| !unit.name.is_template()) {
        warnings.push(Warning { path: fragment.to_owned(), line: 0, message: problem.to_owned() });
    }
    (unit, warnings)
}

fn has_section(kind: UnitType, section: &str) -> bool {
    matches!(section, "Unit" | "Install") || own_section(kind) == Some(section)
}

/// The section that a type of unit has to itself.
fn own_section(kind: UnitType) -> Option<&'static str> {
    match kind {
        UnitType::Service => Some("Service"),
        UnitType::Socket => Some("Socket"),
        UnitType::Timer => Some("Timer"),
        UnitType::Path => Some("Path"),
        UnitType::Mount => Some("Mount"),
        UnitType::Automount => Some("Automount"),
        UnitType::Swap => Some("Swap"),
        UnitType::Slice => Some("Slice"),
        UnitType::Scope => Some("Scope"),
        UnitType::Target | UnitType::Device => None,
    }
}

fn assign(unit: &mut Unit, section: &str, setting: &mut Setting<'_>) -> Result<(), Ignored> {
    let key = setting.key;
    if key.starts_with("X-") {
        return Ok(());
    }
    match section {
        "Unit" => return assign_common(&mut unit.common, setting),
        "Install" => {
            return match find(INSTALL, key) {
                Some(assign) => assign(&mut unit.install, setting),
                None => Err(unknown(section, key, names(INSTALL).collect(), &[])),
            };
        }
        _ => {}
    }
    match &mut unit.kind {
        UnitKind::Service(service) => {
            if MOVED_TO_UNIT.contains(&key)
                && let Some(assign) = find(COMMON, key)
            {
                return assign(&mut unit.common, setting);
            }
            assign_own(&mut **service, section, setting)
        }
        UnitKind::Socket(it) => assign_own(&mut **it, section, setting),
        UnitKind::Timer(it) => assign_own(&mut **it, section, setting),
        UnitKind::Path(it) => assign_own(&mut **it, section, setting),
        UnitKind::Mount(it) => assign_own(&mut **it, section, setting),
        UnitKind::Swap(it) => assign_own(&mut **it, section, setting),
        UnitKind::Slice(it) => assign_own(&mut **it, section, setting),
        UnitKind::Other(UnitType::Scope) => {
            let mut known = [known::SCOPE, known::SERVICE, known::OLD_OR_STARTUP].concat();
            known.extend(names(KILL).chain(names(RESOURCES)).chain(ACCEPTED.iter().copied()));
            Err(unknown(section, key, Vec::new(), &known))
        }
        // The type as a whole is refused; a warning a line would say no more.
        UnitKind::Other(_) | UnitKind::Target | UnitKind::Device => Ok(()),
    }
}

fn assign_common(common: &mut Common, setting: &mut Setting<'_>) -> Result<(), Ignored> {
    let key = setting.key;
    if let Some(kind) = key.strip_prefix("Condition").and_then(ConditionKind::from_name) {
        return setting.condition(&mut common.conditions, kind);
    }
    if let Some(kind) = key.strip_prefix("Assert").and_then(ConditionKind::from_name) {
        return setting.condition(&mut common.asserts, kind);
    }
    match find(COMMON, key) {
        Some(assign) => assign(common, setting),
        None => Err(unknown("Unit", key, names(COMMON).collect(), known::UNIT)),
    }
}

/// A key of the section of the unit's type.
fn assign_own<S: Section>(own: &mut S, section: &str, setting: &mut Setting<'_>) -> Result<(), Ignored> {
    let key = setting.key;
    if let Some(assign) = find(S::OWN, key) {
        return assign(own, setting);
    }
    if let (Some(exec), Some(assign)) = (own.exec(), find(EXEC, key)) {
        return assign(exec, setting);
    }
    if let (Some(exec), Some(assign)) = (own.exec(), find(SANDBOX, key)) {
        return assign(&mut exec.sandbox, setting);
    }
    if let (Some(kill), Some(assign)) = (own.kill(), find(KILL, key)) {
        return assign(kill, setting);
    }
    if let (Some(resources), Some(assign)) = (own.resources(), find(RESOURCES, key)) {
        return assign(resources, setting);
    }
    if ACCEPTED.contains(&key) && own.resources().is_some() {
        return Ok(());
    }
    let mut understood: Vec<&str> = names(S::OWN).collect();
    let mut known = S::KNOWN.to_vec();
    if own.exec().is_some() {
        understood.extend(names(EXEC).chain(names(SANDBOX)).chain(names(KILL)));
    }
    if own.resources().is_some() {
        understood.extend(names(RESOURCES).chain(ACCEPTED.iter().copied()));
    }
    if own.exec().is_some() || section == "Slice" {
        known.extend([known::SERVICE, known::OLD_OR_STARTUP].concat());
    }
    Err(unknown(section, key, understood, &known))
}

fn find<T>(table: &[Directive<T>], key: &str) -> Option<Assign<T>> {
    table.iter().find(|(name, _)| *name == key).map(|(_, assign)| *assign)
}

fn names<T>(table: &'static [Directive<T>]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|(name, _)| *name)
}

/// The message about a key that is in no table: systemd's but not ours, or nobody's.
fn unknown(section: &str, key: &str, understood: Vec<&'static str>, known: &[&'static str]) -> Ignored {
    if known.contains(&key) {
        return format!("`{key}=` is not supported and has no effect");
    }
    if let Some(home) = home(key).filter(|home| *home != section) {
        return format!("unknown key `{key}=` in [{section}]: it belongs in [{home}]");
    }
    match did_you_mean(key, understood.into_iter().chain(known.iter().copied())) {
        Some(near) => format!("unknown key `{key}=` in [{section}]: did you mean `{near}=`?"),
        None => format!("unknown key `{key}=` in [{section}]"),
    }
}

/// The section that understands a key; of several, the one where it is used most.
fn home(key: &str) -> Option<&'static str> {
    use super::{Mount, PathUnit, Service, Slice, Socket, Swap, Timer};
    let processes = || find(EXEC, key).is_some() || find(SANDBOX, key).is_some() || find(KILL, key).is_some();
    let homes: [(&'static str, bool); 10] = [
        ("Unit", find(COMMON, key).is_some()),
        ("Install", find(INSTALL, key).is_some()),
        ("Service", find(Service::OWN, key).is_some() || processes() || find(RESOURCES, key).is_some()),
        ("Socket", find(Socket::OWN, key).is_some()),
        ("Timer", find(Timer::OWN, key).is_some()),
        ("Path", find(PathUnit::OWN, key).is_some()),
        ("Mount", find(Mount::OWN, key).is_some()),
        ("Swap", find(Swap::OWN, key).is_some()),
        ("Slice", find(Slice::OWN, key).is_some()),
        ("Service", ACCEPTED.contains(&key)),
    ];
    homes.into_iter().find_map(|(section, has)| has.then_some(section))
}

/// Every key that is understood, by the suffix of the type whose section has it, for tests that try them all.
#[cfg(test)]
pub(super) fn understood() -> Vec<(&'static str, Vec<&'static str>)> {
    use super::{Mount, PathUnit, Service, Slice, Socket, Swap, Timer};
    let processes = || {
        let all = names(EXEC).chain(names(SANDBOX)).chain(names(KILL)).chain(names(RESOURCES));
        all.chain(ACCEPTED.iter().copied())
    };
    vec![
        ("service", names(Service::OWN).chain(processes()).chain(MOVED_TO_UNIT.iter().copied()).collect()),
        ("socket", names(Socket::OWN).chain(processes()).collect()),
        ("timer", names(Timer::OWN).collect()),
        ("path", names(PathUnit::OWN).collect()),
        ("mount", names(Mount::OWN).chain(processes()).collect()),
        ("swap", names(Swap::OWN).chain(processes()).collect()),
        ("slice", names(Slice::OWN).chain(names(RESOURCES)).collect()),
    ]
}

/// The keys of `[Unit]` and `[Install]` that are understood, conditions apart.
#[cfg(test)]
pub(super) fn understood_by_all() -> [Vec<&'static str>; 2] {
    [names(COMMON).collect(), names(INSTALL).collect()]
}
