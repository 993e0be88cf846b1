//! Names of units as fleet takes them: systemd's names, a little narrower.

use image_config::unit::{UnitName, UnitNameError, UnitType, complete_unit_name};

/// Why a text names no unit that can be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is no unit name at all.
    #[error(transparent)]
    NoUnit(#[from] UnitNameError),
    /// Units of this type have no templates.
    #[error("`{name}` is no unit name: a {kind} has no instances")]
    NoInstances {
        /// The name.
        name: String,
        /// Its type.
        kind: UnitType,
    },
}

/// Checks a whole name.
///
/// # Errors
/// [`NameError`] says what is wrong.
pub fn check(text: &str) -> Result<UnitName, NameError> {
    let name = UnitName::parse(text)?;
    let has_templates = matches!(
        name.kind(),
        UnitType::Path | UnitType::Service | UnitType::Socket | UnitType::Target | UnitType::Timer
    );
    if name.instance().is_some() && !has_templates {
        return Err(NameError::NoInstances { name: text.to_owned(), kind: name.kind() });
    }
    Ok(name)
}

/// What people type after a command, as a whole name: the last part of a path, a service if no type is given.
///
/// Deviation: fleet made `foo.target` to `foo.target.service`, for it knew seven types only.
#[must_use]
pub fn of_argument(text: &str) -> String {
    complete_unit_name(text.rsplit('/').next().unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_systemds_and_some_types_have_no_instances() {
        for good in ["a.service", "a@.service", "a@1.timer", "a-b:c_d\\x2d.mount", "x.slice"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["a", "a.", "@a.service", "a@1.mount", "a b.service", "a.exe", "", "a/b.service"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let told = check("a@1.mount").map_err(|error| error.to_string());
        assert_eq!(told, Err("`a@1.mount` is no unit name: a mount has no instances".to_owned()));
    }

    #[test]
    fn arguments_become_names() {
        for (typed, name) in [
            ("hello", "hello.service"),
            ("./units/apache@1", "apache@1.service"),
            ("/srv/x.timer", "x.timer"),
            ("foo.target", "foo.target"),
        ] {
            assert_eq!(of_argument(typed), name);
        }
    }
}
