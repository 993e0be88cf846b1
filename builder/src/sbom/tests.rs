use super::*;
use serde_json::Value;

fn package(name: &str, licences: &[&str], requested: bool, depends: &[&str]) -> ManifestPackage {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    ManifestPackage {
        name: name.to_owned(),
        version: "1:2.0+b1".to_owned(),
        architecture: "amd64".to_owned(),
        source: format!("{name}-source"),
        source_version: "1:2.0".to_owned(),
        sha256: "ab".repeat(32),
        bytes: 10,
        installed_bytes: 20,
        licences: texts(licences),
        requested,
        depends: texts(depends),
    }
}

fn manifest() -> Manifest {
    Manifest {
        schema: crate::build::MANIFEST_SCHEMA,
        name: "ferrite".to_owned(),
        version: "0.1.0".to_owned(),
        architecture: "x86_64".to_owned(),
        build_time: 1_750_000_000,
        inputs: String::new(),
        kernel: "6.12.0".to_owned(),
        root_hash: "cd".repeat(32),
        key_id: "ef".repeat(32),
        slot_bytes: 4096,
        parts: Vec::new(),
        packages: vec![
            package("a", &["MIT"], true, &["b"]),
            package("b", &["BSD-3-Clause OR GPL-2.0-only", "ISC"], false, &[]),
            package("c", &["LicenseRef-debian-c-copyright"], true, &["a", "b"]),
        ],
        files: Vec::new(),
    }
}

fn linked_crate(name: &str, licence: &str, own: bool, depends: &[&str]) -> LinkedCrate {
    LinkedCrate {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: licence.to_owned(),
        own,
        sha256: (!own).then(|| "12".repeat(32)),
        depends: depends.iter().map(|name| ((*name).to_owned(), "1.0.0".to_owned())).collect(),
    }
}

fn programs() -> Vec<Program> {
    let program = |package: &str, crates: Vec<LinkedCrate>| Program {
        description: "A program",
        sha256: "34".repeat(32),
        linked: LinkedProgram { package: package.to_owned(), toolchain: "1.95.0".to_owned(), crates },
    };
    vec![
        program(
            "boot",
            vec![
                linked_crate("boot", "MIT", true, &["libc", "slots"]),
                linked_crate("libc", "MIT/Apache-2.0", false, &[]),
                linked_crate("slots", "MIT", true, &[]),
            ],
        ),
        program(
            "init",
            vec![
                linked_crate("init", "MIT", true, &["libc", "odd"]),
                linked_crate("libc", "MIT/Apache-2.0", false, &[]),
                linked_crate("odd", "", false, &["libc"]),
            ],
        ),
    ]
}

fn sbom(manifest: &Manifest) -> Value {
    let copyright = Some(("/usr/share/doc/a/copyright".to_owned(), "56".repeat(32)));
    let licences =
        |basis| Licences { expressions: vec!["MIT".to_owned()], basis, copyright: copyright.clone() };
    let licences = BTreeMap::from([
        ("a".to_owned(), licences(Basis::Declared)),
        ("b".to_owned(), licences(Basis::Concluded)),
        ("c".to_owned(), licences(Basis::Unknown)),
    ]);
    let sources = Sources { manifest, licences: &licences, distribution: "trixie", programs: &programs() };
    serde_json::from_slice(&document(&sources).unwrap()).unwrap()
}

fn component<'a>(sbom: &'a Value, name: &str) -> &'a Value {
    sbom["components"].as_array().unwrap().iter().find(|component| component["name"] == name).unwrap()
}

#[test]
fn a_package_has_its_url_digest_and_licence() {
    let sbom = sbom(&manifest());
    let a = component(&sbom, "a");
    assert_eq!(a["purl"], "pkg:deb/debian/a@1:2.0%2Bb1?arch=amd64&distro=trixie");
    assert_eq!(a["bom-ref"], a["purl"]);
    assert_eq!(a["hashes"], serde_json::json!([{ "alg": "SHA-256", "content": "ab".repeat(32) }]));
    assert_eq!(
        a["licenses"],
        serde_json::json!([{ "license": { "id": "MIT", "acknowledgement": "declared" } }])
    );
    let properties = a["properties"].as_array().unwrap();
    assert!(
        properties.contains(&serde_json::json!({ "name": "ferrite:debian:source", "value": "a-source" }))
    );
    assert_eq!(
        component(&sbom, "b")["licenses"],
        serde_json::json!([{ "expression": "(BSD-3-Clause OR GPL-2.0-only) AND ISC", "acknowledgement": "concluded" }])
    );
    assert_eq!(
        component(&sbom, "c")["licenses"],
        serde_json::json!([{ "license": { "name": "LicenseRef-debian-c-copyright" } }])
    );
}

#[test]
fn the_graph_begins_at_the_image_and_knows_every_component() {
    let sbom = sbom(&manifest());
    let needs = |reference: &str| {
        let all = sbom["dependencies"].as_array().unwrap();
        let found = all.iter().find(|dependency| dependency["ref"] == reference).unwrap();
        let names =
            found["dependsOn"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let deb = |name: &str| format!("pkg:deb/debian/{name}@1:2.0%2Bb1?arch=amd64&distro=trixie");
    let image = sbom["metadata"]["component"]["bom-ref"].as_str().unwrap();
    assert_eq!(
        needs(image),
        [
            deb("a"),
            deb("c"),
            "pkg:generic/ferrite-boot@1.0.0".to_owned(),
            "pkg:generic/ferrite-init@1.0.0".to_owned()
        ]
    );
    assert_eq!(needs(&deb("c")), [deb("a"), deb("b")]);
    assert_eq!(
        needs("pkg:generic/ferrite-init@1.0.0"),
        ["pkg:cargo/libc@1.0.0", "pkg:cargo/odd@1.0.0", "pkg:github/rust-lang/rust@1.95.0"]
    );
    let references: Vec<_> =
        sbom["components"].as_array().unwrap().iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
    assert!(
        references.iter().all(|reference| needs(reference).iter().all(|n| references.contains(&n.as_str())))
    );
    assert_eq!(
        references.iter().collect::<BTreeSet<_>>().len(),
        references.len(),
        "a crate of both is there once"
    );
}

#[test]
fn crates_have_licences_in_the_form_of_today() {
    let sbom = sbom(&manifest());
    assert_eq!(component(&sbom, "libc")["licenses"][0]["expression"], "MIT OR Apache-2.0");
    assert_eq!(component(&sbom, "odd")["licenses"][0]["license"]["name"], "LicenseRef-cargo-odd");
    assert_eq!(component(&sbom, "ferrite-init")["hashes"][0]["content"], "34".repeat(32));
}

#[test]
fn the_serial_number_follows_from_the_content() {
    let number = |manifest: &Manifest| sbom(manifest)["serialNumber"].as_str().unwrap().to_owned();
    let first = number(&manifest());
    assert!(first.starts_with("urn:uuid:"));
    assert_eq!(first, number(&manifest()));
    let other = Manifest { root_hash: "00".repeat(32), ..manifest() };
    assert_ne!(first, number(&other));
}

#[test]
fn times_are_those_of_the_calendar() {
    for (seconds, want) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_750_000_000, "2025-06-15T15:06:40Z"),
        (4_102_444_800, "2100-01-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(seconds), want);
    }
}
