//! The bill of materials, held against the schemas of CycloneDX and, where they leave a text to itself, against other readers of
//! package URLs and licences.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::*;

const BOM: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";
const SCHEMAS: [(&str, &str); 3] = [
    (BOM, include_str!("../../schemas/cyclonedx/bom-1.6.schema.json")),
    (
        "http://cyclonedx.org/schema/spdx.schema.json",
        include_str!("../../schemas/cyclonedx/spdx.schema.json"),
    ),
    (
        "http://cyclonedx.org/schema/jsf-0.82.schema.json",
        include_str!("../../schemas/cyclonedx/jsf-0.82.schema.json"),
    ),
];

/// Everything that is wrong with a bill of materials.
struct Validator {
    schemas: boon::Schemas,
    bom: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        for (address, text) in SCHEMAS {
            compiler.add_resource(address, serde_json::from_str(text).unwrap()).unwrap();
        }
        let bom = compiler.compile(BOM, &mut schemas).unwrap();
        Self { schemas, bom }
    }

    fn problems(&self, bom: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.schemas.validate(bom, self.bom) {
            problems.push(format!("{error:#}"));
        }
        let components: Vec<&Value> = bom["components"].as_array().into_iter().flatten().collect();
        let mut references = BTreeSet::from([text(&bom["metadata"]["component"]["bom-ref"])]);
        for component in &components {
            let name = text(&component["name"]);
            if !references.insert(text(&component["bom-ref"])) {
                problems.push(format!("{name}: its reference is not its own"));
            }
            problems.extend(purl_problem(component).map(|problem| format!("{name}: {problem}")));
            problems.extend(licence_problem(component).map(|problem| format!("{name}: {problem}")));
        }
        for dependency in bom["dependencies"].as_array().into_iter().flatten() {
            let needed = dependency["dependsOn"].as_array().into_iter().flatten();
            for reference in needed.chain([&dependency["ref"]]).map(text) {
                if !references.contains(&reference) {
                    problems.push(format!("{reference} is no component"));
                }
            }
        }
        problems
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The package URL must say again what the component says.
fn purl_problem(component: &Value) -> Option<String> {
    let Some(purl) = component["purl"].as_str() else { return Some("no package URL".to_owned()) };
    let parsed = match purl.parse::<packageurl::PackageUrl<'_>>() {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("{purl}: {error}")),
    };
    let version_agrees = parsed.version() == component["version"].as_str();
    let complete = parsed.ty() != "deb"
        || parsed.name() == text(&component["name"])
            && parsed.namespace() == Some("debian")
            && ["arch", "distro"].iter().all(|key| parsed.qualifiers().contains_key(*key));
    (!version_agrees || !complete).then(|| format!("{purl} is not of this component"))
}

/// A licence must be named, and SPDX must know it unless it is called a reference.
fn licence_problem(component: &Value) -> Option<String> {
    let choices = component["licenses"].as_array().filter(|choices| !choices.is_empty());
    let Some(choices) = choices else { return Some("no licence".to_owned()) };
    choices.iter().find_map(|choice| {
        let shown = [&choice["expression"], &choice["license"]["id"], &choice["license"]["name"]];
        let shown = shown.into_iter().find_map(Value::as_str).unwrap_or_default();
        spdx::Expression::parse(shown).err().map(|error| error.to_string())
    })
}

fn bom(image: &Image) -> Value {
    serde_json::from_slice(&fs::read(builder::sbom::sbom_path(&image.raw)).unwrap()).unwrap()
}

#[test]
fn the_bill_of_materials_is_valid_and_names_a_licence_for_every_package() {
    let validator = Validator::new();
    both_images(|image, _| {
        let bom = bom(image);
        assert_eq!(validator.problems(&bom), [""; 0]);
        let components = bom["components"].as_array().unwrap();
        let of = |kind: &str| {
            components.iter().filter(|component| text(&component["purl"]).starts_with(kind)).count()
        };
        let manifest = builder::build::Manifest::load(&builder::build::manifest_path(&image.raw)).unwrap();
        assert_eq!(of("pkg:deb/"), manifest.packages.len());
        assert!(of("pkg:cargo/") > 10 && of("pkg:generic/ferrite-") >= 2, "Ferrite's own programs are there");
    });
}

#[test]
fn what_is_wrong_with_a_bill_of_materials_is_found() {
    let validator = Validator::new();
    let good = bom(&Image::minimal().unwrap());
    let first_licence = json!([{ "license": { "id": "GPL-2.0-sometimes" } }]);
    let changes: [(&str, Value, &str); 9] = [
        ("/components/0/purl", Value::Null, "no package URL"),
        (
            "/components/0/purl",
            json!("pkg:deb/debian/other@1?arch=amd64&distro=trixie"),
            "is not of this component",
        ),
        ("/components/0/hashes/0/content", json!("abc"), "hashes"),
        ("/components/0/licenses", first_licence, "licenses"),
        ("/components/0/licenses", json!([{ "expression": "MIT AND Nonsense" }]), "unknown"),
        ("/components/0/licenses", json!([]), "no licence"),
        ("/components/0/bom-ref", good["components"][1]["bom-ref"].clone(), "not its own"),
        ("/dependencies/0/dependsOn", json!(["nobody"]), "nobody is no component"),
        ("/serialNumber", json!("urn:uuid:1"), "serialNumber"),
    ];
    assert_eq!(validator.problems(&good), [""; 0]);
    for (path, value, want) in changes {
        let mut bad = good.clone();
        let place = bad.pointer_mut(path).unwrap_or_else(|| panic!("{path} is not there"));
        *place = value;
        let problems = validator.problems(&bad).join("\n");
        assert!(problems.contains(want), "{path}: {want:?} is not in {problems:?}");
    }
}
