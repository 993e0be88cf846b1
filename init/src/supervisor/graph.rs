//! Relations between units: from names to edges, and the ones that nobody writes down.

use super::Supervisor;
use super::collect::implies_relations;
use super::spec::{Edge, UnitId, UnitKind, UnitSpec};

impl Supervisor {
    /// Makes the edges of `unit` from its specification. Units that it names and that are not known become
    /// [`LoadState::NotFound`]; the shell loads what can be loaded before it adds a unit.
    pub(super) fn connect(&mut self, unit: UnitId) {
        let Some(spec) = self.unit(unit).map(|found| found.spec.clone()) else { return };
        for (edge, name) in &spec.relations {
            let other = self.lookup_or_insert(name);
            self.add_edge(unit, *edge, other);
        }
        if implies_relations(&spec) {
            for (edge, name) in default_relations(&spec) {
                if spec.name != name {
                    let other = self.lookup_or_insert(name);
                    self.add_edge(unit, edge, other);
                }
            }
        }
    }

    /// A target comes after what it pulls in, unless that other unit says it comes after the target.
    pub(super) fn order_targets(&mut self) {
        let mut wanted = Vec::new();
        for (index, unit) in self.units.iter().enumerate() {
            if unit.spec.kind != UnitKind::Target || !unit.spec.default_dependencies {
                continue;
            }
            let Ok(index) = u32::try_from(index) else { continue };
            let target = UnitId(index);
            for edge in [Edge::Requires, Edge::Wants, Edge::BindsTo, Edge::Requisite] {
                for other in unit.related(edge) {
                    let orders_itself = self.unit(other).is_none_or(|other| !other.spec.default_dependencies);
                    if !orders_itself
                        && !unit.is_related(Edge::Before, other)
                        && !unit.is_related(Edge::After, other)
                    {
                        wanted.push((target, other));
                    }
                }
            }
        }
        for (target, other) in wanted {
            self.add_edge(target, Edge::After, other);
        }
    }

    pub(super) fn add_edge(&mut self, from: UnitId, edge: Edge, to: UnitId) {
        if from == to {
            return; // a unit that names itself (through an alias, say) means nothing by it
        }
        for (unit, entry) in [(from, (edge, to)), (to, (edge.inverse(), from))] {
            if let Some(unit) = self.units.get_mut(unit.index())
                && let Err(place) = unit.edges.binary_search(&entry)
            {
                unit.edges.insert(place, entry);
            }
        }
    }
}

/// `DefaultDependencies=yes`: the section "Default Dependencies" of the manual page of each kind of unit.
pub(super) fn default_relations(spec: &UnitSpec) -> Vec<(Edge, &'static str)> {
    let mut relations = match spec.kind {
        UnitKind::Device | UnitKind::Unsupported => return Vec::new(),
        UnitKind::Mount | UnitKind::Swap => {
            vec![(Edge::Conflicts, "umount.target"), (Edge::Before, "umount.target")]
        }
        _ => vec![(Edge::Conflicts, "shutdown.target"), (Edge::Before, "shutdown.target")],
    };
    let group = match spec.kind {
        UnitKind::Socket => Some("sockets.target"),
        UnitKind::Timer => Some("timers.target"),
        UnitKind::Path => Some("paths.target"),
        UnitKind::Swap => Some("swap.target"),
        _ => None,
    };
    relations.extend(group.map(|target| (Edge::Before, target)));
    if matches!(spec.kind, UnitKind::Service | UnitKind::Socket | UnitKind::Timer | UnitKind::Path) {
        relations.extend([(Edge::Requires, "sysinit.target"), (Edge::After, "sysinit.target")]);
    }
    if spec.kind == UnitKind::Service {
        relations.push((Edge::After, "basic.target"));
    }
    relations
}
