//! `[Slice]`: systemd.slice(5). A slice has no keys of its own, only those of systemd.resource-control(5).

use super::name::{UnitName, UnitType};
use super::reader::{Directive, Section};
use super::resources::ResourceControl;

/// Settings of the `[Slice]` section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// What everything in it may use up together.
    pub resources: ResourceControl,
}

impl Slice {
    /// The slice that a slice lies in: `a-b.slice` in `a.slice`, that in `-.slice`, which lies in none. `None` too for a
    /// name that is no slice's (`a--b.slice`, `-a.slice`).
    #[must_use]
    pub fn parent(name: &UnitName) -> Option<UnitName> {
        if name.as_str() == "-.slice" || !is_slice(name) {
            return None;
        }
        let parent = name.stem().rsplit_once('-').map_or("-", |(parent, _)| parent);
        UnitName::parse(&format!("{parent}.slice")).ok()
    }
}

/// Whether a name may be a slice's: no instance, and no empty part between hyphens.
fn is_slice(name: &UnitName) -> bool {
    name.kind() == UnitType::Slice
        && name.instance().is_none()
        && (name.stem() == "-" || name.stem().split('-').all(|part| !part.is_empty()))
}

impl Section for Slice {
    const OWN: &'static [Directive<Self>] = &[];

    fn resources(&mut self) -> Option<&mut ResourceControl> {
        Some(&mut self.resources)
    }

    fn problem(&self, own: &UnitName) -> Option<&'static str> {
        (!is_slice(own)).then_some("this is no name for a slice: parts between hyphens must not be empty")
    }
}
