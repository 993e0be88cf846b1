//! Which modules to load for a list of names, and in which order.

use super::{Module, Modules, canonical};

/// Most similar names shown with an unknown one.
const SUGGESTIONS: usize = 3;

/// Why a list of modules cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No module and nothing built in has this name.
    #[error("the kernel has no module {name:?}{}", hint(.similar))]
    Unknown {
        /// The name as asked for.
        name: String,
        /// Similar names, the most similar first.
        similar: Vec<String>,
    },
    /// A module needs one that does not exist.
    #[error("module {module} depends on {missing}, which the kernel does not have")]
    Missing {
        /// The module.
        module: String,
        /// What it needs.
        missing: String,
    },
    /// Modules that need each other.
    #[error("module {module} depends on itself through others")]
    Cycle {
        /// One of them.
        module: String,
    },
}

fn hint(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(" or ")) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

impl Modules {
    /// The modules to load for `names`, in an order in which each finds what it needs: dependencies and `pre:` soft
    /// dependencies first, otherwise as listed. What is built in needs no loading; soft dependencies that do not
    /// exist do not matter.
    pub fn load_order<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<&Module>, OrderError> {
        let mut states = vec![State::New; self.list().len()];
        let mut order = Vec::new();
        for name in names {
            match self.index(name) {
                Some(index) => self.visit(index, &mut states, &mut order)?,
                None if self.is_builtin(name) => {}
                None => return Err(OrderError::Unknown { name: name.into(), similar: self.similar(name) }),
            }
        }
        Ok(order)
    }

    fn visit<'m>(
        &'m self,
        index: usize,
        states: &mut [State],
        order: &mut Vec<&'m Module>,
    ) -> Result<(), OrderError> {
        let (Some(module), Some(state)) = (self.list().get(index), states.get_mut(index)) else {
            return Ok(());
        };
        match state {
            State::Done => return Ok(()),
            State::Open => return Err(OrderError::Cycle { module: module.name.clone() }),
            State::New => *state = State::Open,
        }
        for name in module.info.loads_before() {
            for soft in self.named_or_aliased(name) {
                // Soft dependencies may point at each other; whoever came first waits no longer.
                if states.get(soft) == Some(&State::New) {
                    self.visit_soft(soft, states, order);
                }
            }
        }
        for name in &module.info.depends {
            match self.index(name) {
                Some(needed) => self.visit(needed, states, order)?,
                None if self.is_builtin(name) => {}
                None => {
                    return Err(OrderError::Missing { module: module.name.clone(), missing: name.clone() });
                }
            }
        }
        if let Some(state) = states.get_mut(index) {
            *state = State::Done;
        }
        order.push(module);
        Ok(())
    }

    /// A soft dependency with all that it needs, or nothing of it when that leads to a module that is being visited.
    fn visit_soft<'m>(&'m self, index: usize, states: &mut [State], order: &mut Vec<&'m Module>) {
        let (mut tried_states, mut tried_order) = (states.to_vec(), order.clone());
        if self.visit(index, &mut tried_states, &mut tried_order).is_ok() {
            states.copy_from_slice(&tried_states);
            *order = tried_order;
        }
    }

    /// Modules with this name, or else with this alias.
    fn named_or_aliased(&self, name: &str) -> Vec<usize> {
        if let Some(index) = self.index(name) {
            return vec![index];
        }
        if self.is_builtin(name) {
            return Vec::new();
        }
        let wanted = canonical(name);
        let serves = |module: &Module| module.info.aliases.iter().any(|alias| canonical(alias) == wanted);
        self.list().iter().enumerate().filter(|(_, module)| serves(module)).map(|(index, _)| index).collect()
    }

    fn similar(&self, name: &str) -> Vec<String> {
        let wanted = canonical(name);
        let mut near: Vec<_> = (self.list().iter().map(|module| &module.name))
            .chain(&self.builtin)
            .map(|known| (strsim::damerau_levenshtein(&wanted, known), known))
            .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
            .collect();
        near.sort_unstable();
        near.into_iter().take(SUGGESTIONS).map(|(_, known)| known.clone()).collect()
    }
}
