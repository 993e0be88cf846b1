//! What the recipe enables and masks, as links in `/etc/systemd/system`: there `systemctl disable` can take them away again.

use std::collections::BTreeSet;

use image_config::recipe::Units;
use image_config::unit::{System, Unit, UnitName};

use super::RootfsError;
use super::staging::Staging;

/// Where units come from, best first.
const FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Makes the links of all units that the recipe names, those of their `Also=` included.
///
/// # Errors
/// A unit does not exist in the image, or a link's place is taken.
pub fn enable(staging: &mut Staging, units: &Units) -> Result<(), RootfsError> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<UnitName> = units.enable.iter().rev().cloned().collect();
    while let Some(unit) = todo.pop() {
        if seen.insert(unit.clone()) {
            todo.extend(enable_one(staging, &unit)?);
        }
    }
    for unit in &units.mask {
        staging.own_link(&format!("etc/systemd/system/{}", unit.as_str()), "/dev/null")?;
    }
    let default = &units.default;
    let (folder, _) = find(staging, default)?;
    staging.own_link("etc/systemd/system/default.target", &format!("/{folder}/{}", default.as_str()))?;
    Ok(())
}

/// Makes the links of one unit; returns the units that it wants enabled as well.
fn enable_one(staging: &mut Staging, unit: &UnitName) -> Result<Vec<UnitName>, RootfsError> {
    let (folder, file_name) = find(staging, unit)?;
    let path = format!("{folder}/{file_name}");
    let text = staging.text(path.as_bytes())?.unwrap_or_default();
    let (parsed, _) =
        Unit::parse(unit, &[(format!("/{path}").as_str(), text.as_bytes())], &System::default());
    let install = parsed.install;
    if install.is_empty() {
        staging.note(format!(
            "{}: it is enabled, but has no [Install] section, so nothing starts it",
            unit.as_str()
        ));
    }
    let unit = match (unit.is_template(), &install.default_instance) {
        (true, Some(instance)) => unit.with_instance(instance).unwrap_or_else(|_| unit.clone()),
        _ => unit.clone(),
    };
    let target = format!("/{path}");
    let groups =
        [(&install.wanted_by, "wants"), (&install.required_by, "requires"), (&install.upheld_by, "upholds")];
    for (wanted_by, suffix) in groups {
        for by in wanted_by {
            let link = format!("etc/systemd/system/{}.{suffix}/{}", by.as_str(), unit.as_str());
            staging.own_link_if_absent(&link, &target)?;
        }
    }
    for alias in &install.alias {
        staging.own_link_if_absent(&format!("etc/systemd/system/{}", alias.as_str()), &target)?;
    }
    Ok(install.also)
}

/// The folder and file of a unit; an instance's is its template's.
fn find(staging: &Staging, unit: &UnitName) -> Result<(&'static str, String), RootfsError> {
    let template = unit.template();
    let names = [Some(unit.as_str().to_owned()), template.map(|name| name.as_str().to_owned())];
    for name in names.into_iter().flatten() {
        for folder in FOLDERS {
            if staging.has(format!("{folder}/{name}").as_bytes()) {
                return Ok((folder, name));
            }
        }
    }
    Err(RootfsError::NoUnit { unit: unit.as_str().to_owned() })
}
