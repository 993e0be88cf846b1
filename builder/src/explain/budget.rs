//! Whether an image keeps within the budgets of its recipe.

use std::fmt;

use image_config::diagnostic::did_you_mean;
use image_config::recipe::{Budget, Part, Subject};
use serde::Serialize;

use super::units::{bytes, percent};
use super::{Image, contributions, heaviest, paths};
use crate::build::Manifest;

/// How many contributors an overrun names.
const CONTRIBUTORS: usize = 5;

/// A budget, and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// As the recipe says it: `package etcd-server`.
    pub subject: String,
    /// Bytes in the slot.
    pub bytes: u64,
    /// The most that are allowed.
    pub at_most: u64,
}

impl Usage {
    /// By how many bytes the budget is passed; 0 when it is kept.
    pub const fn excess(&self) -> u64 {
        self.bytes.saturating_sub(self.at_most)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, at_most) = (bytes(self.bytes), bytes(self.at_most));
        write!(f, "{}: {used} of {at_most} ({}%)", self.subject, percent(self.bytes, self.at_most))
    }
}

/// A budget that is passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrun {
    /// Which, and how far.
    pub usage: Usage,
    /// What takes the most room in it, largest first: bytes, and a name.
    pub largest: Vec<(u64, String)>,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { subject, bytes: used, at_most } = &self.usage;
        // Sizes that are shown alike still say which is larger.
        let exact = if bytes(*used) == bytes(*at_most) { format!(" ({used} bytes)") } else { String::new() };
        let (more, used, at_most) = (bytes(self.usage.excess()), bytes(*used), bytes(*at_most));
        write!(f, "  {subject}: {used}{exact}, {more} more than its {at_most}")?;
        for (size, name) in &self.largest {
            write!(f, "\n    {:>11}  {name}", bytes(*size))?;
        }
        Ok(())
    }
}

/// A budget for something that the image does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// As the recipe says it.
    pub subject: String,
    /// What was meant, perhaps.
    pub near: Option<String>,
}

/// Why an image does not keep within its budgets; everything at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BudgetError {
    /// Budgets that are passed, in the recipe's order.
    pub overruns: Vec<Overrun>,
    /// Budgets that guard nothing, in the recipe's order.
    pub unknown: Vec<Unknown>,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections = Vec::new();
        if !self.overruns.is_empty() {
            let list: Vec<_> = self.overruns.iter().map(ToString::to_string).collect();
            sections.push(format!("the image outgrows its recipe's budgets:\n{}", list.join("\n")));
        }
        if !self.unknown.is_empty() {
            let list = self.unknown.iter().map(|unknown| {
                let near = unknown.near.as_ref().map(|near| format!("; did you mean {near}?"));
                format!("  {}{}", unknown.subject, near.unwrap_or_default())
            });
            let list = list.collect::<Vec<_>>().join("\n");
            sections.push(format!("the recipe has budgets for what is not in the image:\n{list}"));
        }
        f.write_str(&sections.join("\n"))
    }
}

/// Refuses an image that outgrows a budget, or a budget that guards nothing.
///
/// # Errors
/// [`BudgetError`], with everything that is wrong.
pub fn check(budgets: &[Budget], manifest: &Manifest) -> Result<(), BudgetError> {
    if budgets.is_empty() {
        return Ok(());
    }
    let image = Image::new(manifest);
    let (mut overruns, mut unknown) = (Vec::new(), Vec::new());
    for budget in budgets {
        match usage(&image, budget) {
            Some(usage) if usage.excess() > 0 => {
                overruns.push(Overrun { usage, largest: largest(&image, &budget.subject) });
            }
            Some(_) => {}
            None => {
                unknown.push(Unknown {
                    subject: budget.subject.to_string(),
                    near: near(&image, &budget.subject),
                });
            }
        }
    }
    if overruns.is_empty() && unknown.is_empty() { Ok(()) } else { Err(BudgetError { overruns, unknown }) }
}

/// What is used of a budget; `None` when the image does not have what it is for.
pub fn usage(image: &Image<'_>, budget: &Budget) -> Option<Usage> {
    let sum = |files: &mut dyn Iterator<Item = u64>| files.sum::<u64>();
    let used = match &budget.subject {
        Subject::Part(part) => image.space.part(part.name())?,
        Subject::Package(name) => {
            image.package(name.as_str())?;
            sum(&mut files_of(image, name.as_str()).map(|(_, bytes)| bytes))
        }
        Subject::Path(path) => {
            let path = paths::in_image(path.as_str());
            image.below(&path).next()?;
            sum(&mut image.below(&path).map(|(_, bytes)| bytes))
        }
    };
    Some(Usage { subject: budget.subject.to_string(), bytes: used, at_most: budget.at_most.bytes() })
}

fn files_of<'i>(image: &'i Image<'_>, package: &'i str) -> impl Iterator<Item = (&'i str, u64)> {
    let files = image.files().filter(move |(file, _)| file.package.as_deref() == Some(package));
    files.map(|(file, bytes)| (file.path.as_str(), bytes))
}

/// What takes the most room in something: files of a package, packages of `/usr`, parts of the slot.
fn largest(image: &Image<'_>, subject: &Subject) -> Vec<(u64, String)> {
    let packages = || contributions(image.files()).into_iter().map(|one| (one.bytes, one.who.to_string()));
    let mut list: Vec<(u64, String)> = match subject {
        Subject::Package(name) => {
            files_of(image, name.as_str()).map(|(path, bytes)| (bytes, path.to_owned())).collect()
        }
        Subject::Path(path) => {
            let below = image.below(&paths::in_image(path.as_str())).collect::<Vec<_>>();
            below
                .into_iter()
                .map(|(file, bytes)| (bytes, format!("{} ({})", file.path, super::Bringer::of(file))))
                .collect()
        }
        Subject::Part(Part::Usr) => packages().collect(),
        Subject::Part(Part::Slot) => {
            let parts =
                image.space.parts.iter().map(|(name, bytes)| (*bytes, format!("{name} (part of the slot)")));
            packages().chain(parts).collect()
        }
        // Nothing is known of what these consist of.
        Subject::Part(Part::Verity | Part::Kernel | Part::Initramfs) => Vec::new(),
    };
    list.retain(|(bytes, _)| *bytes > 0);
    list.sort_by(|a, b| heaviest((a.0, &a.1), (b.0, &b.1)));
    list.truncate(CONTRIBUTORS);
    list
}

/// What the author of a budget meant, perhaps.
fn near(image: &Image<'_>, subject: &Subject) -> Option<String> {
    match subject {
        Subject::Package(name) => {
            let names = image.manifest.packages.iter().map(|package| package.name.as_str());
            did_you_mean(name.as_str(), names).map(str::to_owned)
        }
        Subject::Path(path) => {
            let similar = super::why::similar(image, &paths::in_image(path.as_str()));
            similar.first().map(|path| paths::running(path).to_owned())
        }
        Subject::Part(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use image_config::recipe::{ByteSize, ImagePath, PackageName};

    use super::super::testing::{file, manifest, other};
    use super::*;

    fn budget(subject: Subject, at_most: &str) -> Budget {
        Budget { subject, at_most: ByteSize::parse(at_most).unwrap() }
    }

    fn package(name: &str, at_most: &str) -> Budget {
        budget(Subject::Package(PackageName::parse(name).unwrap()), at_most)
    }

    fn path(path: &str, at_most: &str) -> Budget {
        budget(Subject::Path(ImagePath::parse(path).unwrap()), at_most)
    }

    fn demo() -> Manifest {
        manifest(
            &[("etcd-server", true, &[]), ("bash", true, &[])],
            vec![
                other("/usr/bin", "directory", None, None),
                file("/usr/bin/bash", Some("bash"), 3000),
                file("/usr/bin/etcd", Some("etcd-server"), 90_000),
                file("/usr/bin/etcd-helper", Some("etcd-server"), 5000),
                file("/usr/etc/bash.bashrc", Some("bash"), 10),
            ],
        )
    }

    #[test]
    fn an_image_within_its_budgets_passes() {
        let budgets = [
            package("etcd-server", "96KiB"), // 22 and 2 blocks: exactly
            path("/usr/bin", "1MiB"),
            path("/etc", "4KiB"),
            budget(Subject::Part(Part::Slot), "1MiB"),
        ];
        assert_eq!(check(&budgets, &demo()), Ok(()));
        let made = demo();
        let image = Image::new(&made);
        assert_eq!(
            usage(&image, &budgets[0]).unwrap().to_string(),
            "package etcd-server: 96.0 KiB of 96.0 KiB (100.0%)"
        );
        assert_eq!(usage(&image, &budgets[3]).unwrap().bytes, made.slot_bytes);
        assert_eq!(check(&[], &made), Ok(()));
    }

    #[test]
    fn every_budget_that_is_passed_is_told_with_what_takes_the_most() {
        let budgets = [
            package("etcd-server", "95KiB"),
            package("bash", "1MiB"),
            path("/etc", "1KiB"),
            budget(Subject::Part(Part::Kernel), "9KiB"),
        ];
        assert_eq!(
            check(&budgets, &demo()).unwrap_err().to_string(),
            "the image outgrows its recipe's budgets:
  package etcd-server: 96.0 KiB, 1.0 KiB more than its 95.0 KiB
       88.0 KiB  /usr/bin/etcd
        8.0 KiB  /usr/bin/etcd-helper
  path /etc: 4.0 KiB, 3.0 KiB more than its 1.0 KiB
        4.0 KiB  /usr/etc/bash.bashrc (bash)
  part kernel: 9.8 KiB, 784 B more than its 9.0 KiB"
        );
    }

    #[test]
    fn budgets_that_guard_nothing_are_told_with_what_was_meant() {
        let budgets =
            [package("etcd-serve", "1MiB"), path("/usr/bin/bahs", "1MiB"), path("/usr/games", "1MiB")];
        assert_eq!(
            check(&budgets, &demo()).unwrap_err().to_string(),
            "the recipe has budgets for what is not in the image:
  package etcd-serve; did you mean etcd-server?
  path /usr/bin/bahs; did you mean /usr/bin/bash?
  path /usr/games"
        );
    }
}
