//! The part of CycloneDX 1.6 that a bill of materials of an image uses (<https://cyclonedx.org/docs/1.6/json/>). Fields stand in
//! the order in which they are written.

use serde::Serialize;

/// A bill of materials.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    /// Address of the schema.
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    /// `CycloneDX`.
    pub bom_format: &'static str,
    /// `1.6`.
    pub spec_version: &'static str,
    /// `urn:uuid:...`; follows from the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Counts revisions of one serial number; always 1, because other content has another number.
    pub version: u32,
    /// Of what, by what and when.
    pub metadata: Metadata,
    /// What the image is made of.
    pub components: Vec<Component>,
    /// Who needs whom.
    pub dependencies: Vec<Dependency>,
}

/// Of what a bill of materials is.
#[derive(Debug, Clone, Serialize)]
pub struct Metadata {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// When in a product's life it was made.
    pub lifecycles: Vec<Lifecycle>,
    /// What made it.
    pub tools: Tools,
    /// The image.
    pub component: Component,
}

/// A phase of a product's life.
#[derive(Debug, Clone, Serialize)]
pub struct Lifecycle {
    /// `build`.
    pub phase: &'static str,
}

/// The tools that made a bill of materials.
#[derive(Debug, Clone, Serialize)]
pub struct Tools {
    /// The tools.
    pub components: Vec<Component>,
}

/// Something with a version.
#[derive(Debug, Clone, Serialize)]
pub struct Component {
    /// `operating-system`, `application` or `library`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What dependencies call it; unique in the document.
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Who supplies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Supplier>,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of the file that it comes in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
    /// Its licences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<LicenseChoice>,
    /// Its package URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// What the format has no field for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

impl Component {
    /// A component with a name and a version.
    pub fn new(kind: &'static str, name: &str, version: &str) -> Self {
        Self {
            kind,
            reference: None,
            supplier: None,
            name: name.to_owned(),
            version: version.to_owned(),
            description: None,
            hashes: Vec::new(),
            licenses: Vec::new(),
            purl: None,
            properties: Vec::new(),
        }
    }

    /// Names it by its package URL, which is its reference in the document as well.
    pub fn with_purl(mut self, purl: String) -> Self {
        self.reference = Some(purl.clone());
        self.purl = Some(purl);
        self
    }

    /// Adds a SHA-256 in hexadecimal.
    pub fn with_sha256(mut self, content: &str) -> Self {
        self.hashes.push(Hash { alg: "SHA-256", content: content.to_owned() });
        self
    }

    /// Adds a property in Ferrite's namespace.
    pub fn with_property(mut self, name: &str, value: &str) -> Self {
        self.properties.push(Property { name: format!("ferrite:{name}"), value: value.to_owned() });
        self
    }
}

/// An organisation.
#[derive(Debug, Clone, Serialize)]
pub struct Supplier {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub url: Vec<&'static str>,
}

/// A digest.
#[derive(Debug, Clone, Serialize)]
pub struct Hash {
    /// `SHA-256`.
    pub alg: &'static str,
    /// Hexadecimal.
    pub content: String,
}

/// A licence, or an expression of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LicenseChoice {
    /// One licence.
    License {
        /// The licence.
        license: License,
    },
    /// Several, as an SPDX expression; it must be alone then.
    Expression {
        /// The expression.
        expression: String,
        /// Who says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<&'static str>,
    },
}

/// One licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct License {
    /// SPDX identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of one that has no identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `declared` by its authors, or `concluded` from what they wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<&'static str>,
}

/// A name and a value.
#[derive(Debug, Clone, Serialize)]
pub struct Property {
    /// The name, with its namespace.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Who needs whom.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The reference of who needs.
    #[serde(rename = "ref")]
    pub reference: String,
    /// References of what is needed, sorted.
    pub depends_on: Vec<String>,
}
