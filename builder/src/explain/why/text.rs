//! Answers for people.

use std::fmt;

use super::{
    Answer, Bringer, By, Chain, Missing, PackageAnswer, PathAnswer, PatternAnswer, Reason, Share, Step,
};
use crate::explain::units::{bytes, count};

/// How many rows are shown of who brought what.
const ROWS: usize = 20;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(answer) => write_package(f, answer),
            Self::Path(answer) => write_path(f, answer),
            Self::Pattern(answer) => write_pattern(f, answer),
            Self::Missing(missing) => write_missing(f, missing),
        }
    }
}

impl fmt::Display for Chain {
    /// `openssh-server (recipes/ferrite.yaml:19 asks for it) -> libpam0g`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.place.as_deref().unwrap_or("the recipe");
        for (at, package) in self.packages.iter().enumerate() {
            match at {
                0 => write!(f, "{package} ({who} asks for it)")?,
                _ => write!(f, " -> {package}")?,
            }
        }
        Ok(())
    }
}

fn chain_or_none(chain: Option<&Chain>) -> String {
    chain.map_or_else(|| "nothing that the recipe asks for leads to it".to_owned(), ToString::to_string)
}

fn write_package(f: &mut fmt::Formatter<'_>, answer: &PackageAnswer) -> fmt::Result {
    let (size, files) = (bytes(answer.bytes), count(answer.files, "file"));
    writeln!(f, "{} {}: {size} in {files}", answer.package, answer.version)?;
    writeln!(f, "  {}", chain_or_none(answer.chain.as_ref()))?;
    let Some(without) = &answer.without else {
        let needing = answer.needed_by.len() as u64;
        let verb = if needing == 1 { "needs" } else { "need" };
        return match needing {
            0 => Ok(()),
            _ => writeln!(f, "  {} {verb} it directly (--all shows them)", count(needing, "package")),
        };
    };
    if answer.needed_by.is_empty() {
        writeln!(f, "\nno package needs it")?;
    } else {
        writeln!(f, "\nneeded directly by:")?;
    }
    for need in &answer.needed_by {
        writeln!(f, "  {}: {}", need.package, chain_or_none(need.chain.as_ref()))?;
    }
    let gone = without.packages.len() as u64;
    writeln!(f, "\nwithout it, {} would go, {}:", count(gone, "package"), bytes(without.bytes))?;
    writeln!(f, "  {}", without.packages.join(", "))?;
    let others: Vec<&str> =
        without.given_up.iter().map(String::as_str).filter(|name| *name != answer.package).collect();
    if !others.is_empty() {
        writeln!(f, "  asked for by the recipe: {}", others.join(", "))?;
        writeln!(f, "  (unless another package can take its place)")?;
    }
    Ok(())
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    steps.iter().try_for_each(|step| match step {
        Step::Place { path, leads_to } => writeln!(f, "{path} is {leads_to} in the image"),
        Step::Hardlink { path, leads_to } => {
            writeln!(f, "{path} is another name of {leads_to} (a hard link)")
        }
        Step::Symlink { path, target, who, place, .. } => {
            let place = place.as_ref().map(|place| format!(", {place}")).unwrap_or_default();
            writeln!(f, "{path} is a link to {target} {}{place}", brought(who))
        }
    })
}

/// `of bash`, `of Ferrite itself`.
fn brought(who: &Bringer) -> String {
    match who {
        Bringer::Package(name) => format!("of {name}"),
        Bringer::Ferrite => "of Ferrite itself".to_owned(),
        Bringer::Recipe => "of the recipe".to_owned(),
        Bringer::Nobody => "that nobody brought by name".to_owned(),
    }
}

fn write_path(f: &mut fmt::Formatter<'_>, answer: &PathAnswer) -> fmt::Result {
    write_steps(f, &answer.steps)?;
    let By { who, version, chain, place, replaces } = &answer.by;
    let kind = match answer.kind.as_str() {
        "directory" => "folder",
        "character-device" => "character device",
        "block-device" => "block device",
        other => other,
    };
    let size = if answer.bytes > 0 { format!(", {}", bytes(answer.bytes)) } else { String::new() };
    let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    writeln!(f, "{}: {kind} {}{version}{size}", answer.path, brought(who))?;
    match who {
        Bringer::Package(_) => writeln!(f, "  {}", chain_or_none(chain.as_ref()))?,
        Bringer::Recipe => match place {
            Some(place) => writeln!(f, "  {place} adds it")?,
            None => writeln!(f, "  `files:`, `trees:` or `applets:` of the recipe add it")?,
        },
        Bringer::Ferrite => {
            writeln!(
                f,
                "  one of its programs or units, or made in place of what packages' scripts would do"
            )?;
        }
        Bringer::Nobody => writeln!(f, "  it is there for what is in it")?,
    }
    if let Some(place) = replaces {
        writeln!(f, "  it wins over a package's: `replace:` at {place}")?;
    }
    if !answer.content.is_empty() {
        writeln!(f, "what is in it:")?;
        write_shares(f, &answer.content)?;
    }
    Ok(())
}

fn write_pattern(f: &mut fmt::Formatter<'_>, answer: &PatternAnswer) -> fmt::Result {
    let number = answer.matches.len() as u64;
    let size = bytes(answer.matches.iter().map(|found| found.bytes).sum());
    let verb = if number == 1 { "matches" } else { "match" };
    writeln!(f, "{} {verb} {}, {size}:", count(number, "path"), answer.pattern)?;
    write_shares(f, &answer.content)?;
    if answer.all {
        writeln!(f)?;
        for found in &answer.matches {
            writeln!(f, "{:>11}  {} ({})", bytes(found.bytes), found.path, found.who)?;
        }
    } else {
        writeln!(f, "--all lists every path")?;
    }
    Ok(())
}

fn write_shares(f: &mut fmt::Formatter<'_>, shares: &[Share]) -> fmt::Result {
    for Share { part, chain } in shares.iter().take(ROWS) {
        write!(f, "{:>11}  {} ({})", bytes(part.bytes), part.who, count(part.files, "file"))?;
        match (&part.who, chain) {
            (Bringer::Package(_), chain) => writeln!(f, ": {}", chain_or_none(chain.as_ref()))?,
            _ => writeln!(f)?,
        }
    }
    let more = shares.iter().skip(ROWS);
    let rest = more.clone().count() as u64;
    if rest > 0 {
        writeln!(f, "{:>11}  {} more", bytes(more.map(|share| share.part.bytes).sum()), rest)?;
    }
    Ok(())
}

fn write_missing(f: &mut fmt::Formatter<'_>, missing: &Missing) -> fmt::Result {
    write_steps(f, &missing.steps)?;
    writeln!(f, "{} is not in the image", missing.query)?;
    let at = |place: &Option<String>| place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    for reason in &missing.reasons {
        let text = match reason {
            Reason::Dropped { rule, place } => {
                format!(
                    "the recipe's rule `drop: {rule}`{} keeps it out, should a package bring it",
                    at(place)
                )
            }
            Reason::Module { place } => {
                format!("the recipe's `kernel: modules:`{} keeps other modules only", at(place))
            }
            Reason::Provided { place } => {
                format!("Ferrite stands in for it: `provides:` of the recipe{}", at(place))
            }
            Reason::Runtime => "it is made when the machine boots".to_owned(),
            Reason::State => {
                "it is on the state partition: folders there are made at boot by /usr/lib/tmpfiles.d"
                    .to_owned()
            }
            Reason::Kernel { release } => {
                format!("the kernel {release} is a part of the slot, beside /usr: `ferrite size` shows it")
            }
            Reason::Circle => "its links lead to each other".to_owned(),
            Reason::Dangling { path } => format!("{path}, where the link leads, is not there"),
            Reason::NoMatch => "no path of it matches the pattern".to_owned(),
            Reason::NoRecipe => "with --recipe FILE, the rules of that recipe are looked at".to_owned(),
        };
        writeln!(f, "  {text}")?;
    }
    if !missing.similar.is_empty() {
        writeln!(f, "  similar, and there: {}", missing.similar.join(", "))?;
    }
    Ok(())
}
