//! The bill of materials of an image: `sbom.cdx.json` in the CycloneDX form, from the manifest and what is linked into Ferrite's own
//! programs. Fields are explained in `docs/formats/manifest.md`.

pub mod crates;
mod model;
mod purl;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use self::crates::{LinkedCrate, LinkedProgram};
use self::model::{Bom, Component, Dependency, License, LicenseChoice, Lifecycle, Metadata, Supplier, Tools};
use crate::build::{Manifest, ManifestPackage};
use crate::json;
use crate::licence::{Basis, Licences};

/// Licence of Rust's standard library.
const RUST_LICENCE: &str = "MIT OR Apache-2.0";

/// A program of Ferrite's in the image.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it is, in a sentence.
    pub description: &'static str,
    /// SHA-256 of the built program in hexadecimal.
    pub sha256: String,
    /// What is linked into it.
    pub linked: LinkedProgram,
}

/// What a bill of materials is made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The image's manifest.
    pub manifest: &'a Manifest,
    /// Licences of packages by name; those of the manifest, and where they come from.
    pub licences: &'a BTreeMap<String, Licences>,
    /// Codename of the Debian release.
    pub distribution: &'a str,
    /// Ferrite's own programs.
    pub programs: &'a [Program],
}

/// Path of the bill of materials of an image.
pub fn sbom_path(image: &Path) -> PathBuf {
    image.with_extension("sbom.cdx.json")
}

/// The bill of materials as text. It depends on its sources alone: the serial number follows from the content, the time is the
/// image's.
///
/// # Errors
/// Never for sources that a build makes.
pub fn document(sources: &Sources<'_>) -> serde_json::Result<Vec<u8>> {
    let manifest = sources.manifest;
    let image = image(manifest);
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let root = image.reference.clone().unwrap_or_default();
    let mut components = packages(sources, &root, &mut graph);
    components.extend(programs(sources.programs, &root, &mut graph));
    let mut bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: None,
        version: 1,
        metadata: Metadata {
            timestamp: rfc3339(manifest.build_time),
            lifecycles: vec![Lifecycle { phase: "build" }],
            tools: Tools {
                components: vec![Component::new("application", "ferrite", env!("CARGO_PKG_VERSION"))],
            },
            component: image,
        },
        components,
        dependencies: graph
            .into_iter()
            .map(|(reference, needs)| Dependency { reference, depends_on: needs.into_iter().collect() })
            .collect(),
    };
    bom.serial_number = Some(serial_number(&json::to_lines(&bom)?));
    json::to_lines(&bom)
}

/// A UUID (version 8: made as the maker sees fit) of a digest of the content.
fn serial_number(content: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(content).into();
    let bytes = std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0));
    uuid::Builder::from_custom_bytes(bytes).into_uuid().urn().to_string()
}

fn image(manifest: &Manifest) -> Component {
    let mut image = Component::new("operating-system", &manifest.name, &manifest.version)
        .with_purl(purl::image(&manifest.name, &manifest.version, &manifest.architecture))
        .with_property("architecture", &manifest.architecture)
        .with_property("kernel", &manifest.kernel)
        .with_property("root-hash", &manifest.root_hash)
        .with_property("key-id", &manifest.key_id);
    image.description = Some("Operating system image built by Ferrite from Debian packages".to_owned());
    image
}

fn packages(
    sources: &Sources<'_>,
    root: &str,
    graph: &mut BTreeMap<String, BTreeSet<String>>,
) -> Vec<Component> {
    let purl = |package: &ManifestPackage| {
        purl::debian(&package.name, &package.version, &package.architecture, sources.distribution)
    };
    let packages = &sources.manifest.packages;
    let references: BTreeMap<&str, String> =
        packages.iter().map(|package| (package.name.as_str(), purl(package))).collect();
    let needs = |names: &mut dyn Iterator<Item = &str>| {
        names.filter_map(|name| references.get(name).cloned()).collect()
    };
    let mut requested =
        packages.iter().filter(|package| package.requested).map(|package| package.name.as_str());
    graph.insert(root.to_owned(), needs(&mut requested));
    let mut components = Vec::new();
    for package in packages {
        let reference = purl(package);
        graph.insert(reference.clone(), needs(&mut package.depends.iter().map(String::as_str)));
        let licences = sources.licences.get(&package.name);
        let mut component = Component::new("library", &package.name, &package.version)
            .with_purl(reference)
            .with_sha256(&package.sha256)
            .with_property("debian:source", &package.source)
            .with_property("debian:source-version", &package.source_version);
        component.supplier = Some(Supplier { name: "Debian", url: vec!["https://www.debian.org/"] });
        component.licenses = license_choices(&package.licences, licences.map(|found| found.basis));
        if let Some((path, sha256)) = licences.and_then(|found| found.copyright.as_ref()) {
            component = component
                .with_property("debian:copyright", path)
                .with_property("debian:copyright-sha256", sha256);
        }
        components.push(component);
    }
    components
}

/// Ferrite's programs, and the crates in them, each crate once.
fn programs(
    programs: &[Program],
    root: &str,
    graph: &mut BTreeMap<String, BTreeSet<String>>,
) -> Vec<Component> {
    let mut components: BTreeMap<String, Component> = BTreeMap::new();
    let mut own = Vec::new();
    for Program { description, sha256, linked } in programs {
        let named = |name: &str, version: &str| {
            linked.crates.iter().find(|found| found.name == name && found.version == version)
        };
        let std = purl::rust(&linked.toolchain);
        graph.entry(std.clone()).or_default();
        components.entry(std.clone()).or_insert_with(|| rust_std(&linked.toolchain));
        for linked_crate in &linked.crates {
            let reference = crate_purl(linked_crate);
            let needs = linked_crate
                .depends
                .iter()
                .filter_map(|(name, version)| named(name, version))
                .map(crate_purl);
            graph.entry(reference.clone()).or_default().extend(needs);
            if linked_crate.own && linked_crate.name == linked.package {
                // The program itself.
                let mut program = Component::new(
                    "application",
                    &format!("ferrite-{}", linked_crate.name),
                    &linked_crate.version,
                )
                .with_purl(reference.clone())
                .with_sha256(sha256);
                program.description = Some((*description).to_owned());
                program.licenses = crate_licences(linked_crate);
                own.push(program);
                graph.entry(reference.clone()).or_default().insert(std.clone());
                graph.entry(root.to_owned()).or_default().insert(reference);
            } else {
                components.entry(reference).or_insert_with(|| crate_component(linked_crate));
            }
        }
    }
    // A crate of ours can be a program and, in another program, a library: it is one component.
    components.retain(|reference, _| !own.iter().any(|program| program.purl.as_ref() == Some(reference)));
    own.extend(components.into_values());
    own
}

fn rust_std(toolchain: &str) -> Component {
    let mut component = Component::new("library", "rust-std", toolchain).with_purl(purl::rust(toolchain));
    component.description =
        Some("Standard library of the Rust toolchain, with what it links statically".to_owned());
    component.licenses = license_choices(&[RUST_LICENCE.to_owned()], Some(Basis::Declared));
    component
}

/// Crates of this workspace are not those of the same name on crates.io.
fn crate_purl(found: &LinkedCrate) -> String {
    if found.own {
        purl::generic(&format!("ferrite-{}", found.name), &found.version)
    } else {
        purl::cargo(&found.name, &found.version)
    }
}

fn crate_component(found: &LinkedCrate) -> Component {
    let mut component = Component::new("library", &found.name, &found.version).with_purl(crate_purl(found));
    if let Some(sha256) = &found.sha256 {
        component = component.with_sha256(sha256);
    }
    component.licenses = crate_licences(found);
    component
}

/// The licence of a crate. Old manifests write `MIT/Apache-2.0`.
fn crate_licences(found: &LinkedCrate) -> Vec<LicenseChoice> {
    let expression = match spdx::Expression::parse(&found.licence) {
        Ok(_) => found.licence.clone(),
        Err(_) => spdx::Expression::canonicalize(&found.licence)
            .ok()
            .flatten()
            .unwrap_or_else(|| format!("LicenseRef-cargo-{}", found.name.replace('_', "-"))),
    };
    license_choices(&[expression], Some(Basis::Declared))
}

/// A single identifier as such, anything else as one expression that all of them hold.
fn license_choices(expressions: &[String], basis: Option<Basis>) -> Vec<LicenseChoice> {
    let acknowledgement = match basis {
        Some(Basis::Declared) => Some("declared"),
        Some(Basis::Concluded) => Some("concluded"),
        Some(Basis::Unknown) | None => None,
    };
    match expressions {
        [] => Vec::new(),
        [one] if !one.contains(' ') => {
            let known = spdx::license_id(one).is_some();
            let (id, name) = if known { (Some(one.clone()), None) } else { (None, Some(one.clone())) };
            vec![LicenseChoice::License { license: License { id, name, acknowledgement } }]
        }
        [one] => vec![LicenseChoice::Expression { expression: one.clone(), acknowledgement }],
        several => {
            let shown =
                several.iter().map(|one| if one.contains(" OR ") { format!("({one})") } else { one.clone() });
            let expression = shown.collect::<Vec<_>>().join(" AND ");
            vec![LicenseChoice::Expression { expression, acknowledgement }]
        }
    }
}

/// A time as RFC 3339 in UTC, from Unix seconds.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, in eras of 400 years that begin on 1 March
    // (https://howardhinnant.github.io/date_algorithms.html#civil_from_days).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests;
