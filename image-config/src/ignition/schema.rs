//! The shape of Ignition configs of spec 3.0 to 3.5: which keys there are, since when, and what their values are.

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Bool,
    Int,
    Object(&'static [Key]),
    /// A list; elements of objects that have the named key in common are one when configs are merged, others follow one another.
    List(&'static Shape, Option<&'static str>),
}

/// A key of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The minor version that brought it: 1 for 3.1.
    pub(super) since: u64,
    pub(super) is_required: bool,
    pub(super) shape: Shape,
}

/// The newest minor version that is read.
pub(super) const NEWEST: u64 = 5;

use Shape::{Bool, Int, List, Object, Text};

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, since: 0, is_required: false, shape }
}

const fn since(minor: u64, name: &'static str, shape: Shape) -> Key {
    Key { name, since: minor, is_required: false, shape }
}

const fn required(name: &'static str, shape: Shape) -> Key {
    Key { name, since: 0, is_required: true, shape }
}

const TEXTS: Shape = List(&Text, None);

const HEADERS: Shape = List(&Object(&[required("name", Text), key("value", Text)]), Some("name"));

const RESOURCE: Shape = Object(&[
    key("source", Text),
    key("compression", Text),
    since(1, "httpHeaders", HEADERS),
    key("verification", Object(&[key("hash", Text)])),
]);

const ACCOUNT: Shape = Object(&[key("id", Int), key("name", Text)]);

const IGNITION: Shape = Object(&[
    required("version", Text),
    key("config", Object(&[key("merge", List(&RESOURCE, None)), key("replace", RESOURCE)])),
    key("timeouts", Object(&[key("httpResponseHeaders", Int), key("httpTotal", Int)])),
    key(
        "security",
        Object(&[key("tls", Object(&[key("certificateAuthorities", List(&RESOURCE, Some("source")))]))]),
    ),
    since(1, "proxy", Object(&[key("httpProxy", Text), key("httpsProxy", Text), key("noProxy", TEXTS)])),
]);

const FILE: Shape = Object(&[
    required("path", Text),
    key("overwrite", Bool),
    key("contents", RESOURCE),
    key("append", List(&RESOURCE, None)),
    key("mode", Int),
    key("user", ACCOUNT),
    key("group", ACCOUNT),
]);

const DIRECTORY: Shape = Object(&[
    required("path", Text),
    key("overwrite", Bool),
    key("mode", Int),
    key("user", ACCOUNT),
    key("group", ACCOUNT),
]);

const LINK: Shape = Object(&[
    required("path", Text),
    key("overwrite", Bool),
    key("target", Text),
    key("hard", Bool),
    key("user", ACCOUNT),
    key("group", ACCOUNT),
]);

const PARTITION: Shape = Object(&[
    key("label", Text),
    key("number", Int),
    key("sizeMiB", Int),
    key("startMiB", Int),
    key("typeGuid", Text),
    key("guid", Text),
    key("wipePartitionEntry", Bool),
    key("shouldExist", Bool),
    since(2, "resize", Bool),
]);

const DISK: Shape = Object(&[
    required("device", Text),
    key("wipeTable", Bool),
    key("partitions", List(&PARTITION, Some("number"))),
]);

const RAID: Shape = Object(&[
    required("name", Text),
    key("level", Text),
    key("devices", TEXTS),
    key("spares", Int),
    key("options", TEXTS),
]);

const FILESYSTEM: Shape = Object(&[
    required("device", Text),
    key("format", Text),
    key("path", Text),
    key("wipeFilesystem", Bool),
    key("label", Text),
    key("uuid", Text),
    key("options", TEXTS),
    since(1, "mountOptions", TEXTS),
]);

const TANG: Shape = Object(&[key("url", Text), key("thumbprint", Text), since(4, "advertisement", Text)]);

const CLEVIS: Shape = Object(&[
    key("tang", List(&TANG, Some("url"))),
    key("tpm2", Bool),
    key("threshold", Int),
    key("custom", Object(&[key("pin", Text), key("config", Text), key("needsNetwork", Bool)])),
]);

const LUKS: Shape = Object(&[
    required("name", Text),
    key("device", Text),
    key("keyFile", RESOURCE),
    key("label", Text),
    key("uuid", Text),
    key("options", TEXTS),
    key("wipeVolume", Bool),
    key("clevis", CLEVIS),
    since(4, "discard", Bool),
    since(4, "openOptions", TEXTS),
    since(5, "cex", Object(&[key("enabled", Bool)])),
]);

const STORAGE: Shape = Object(&[
    key("disks", List(&DISK, Some("device"))),
    key("raid", List(&RAID, Some("name"))),
    key("filesystems", List(&FILESYSTEM, Some("path"))),
    key("files", List(&FILE, Some("path"))),
    key("directories", List(&DIRECTORY, Some("path"))),
    key("links", List(&LINK, Some("path"))),
    since(2, "luks", List(&LUKS, Some("name"))),
]);

const DROP_IN: Shape = Object(&[required("name", Text), key("contents", Text)]);

const UNIT: Shape = Object(&[
    required("name", Text),
    key("enabled", Bool),
    key("mask", Bool),
    key("contents", Text),
    key("dropins", List(&DROP_IN, Some("name"))),
]);

const USER: Shape = Object(&[
    required("name", Text),
    key("passwordHash", Text),
    key("sshAuthorizedKeys", TEXTS),
    key("uid", Int),
    key("gecos", Text),
    key("homeDir", Text),
    key("noCreateHome", Bool),
    key("primaryGroup", Text),
    key("groups", TEXTS),
    key("noUserGroup", Bool),
    key("noLogInit", Bool),
    key("shell", Text),
    since(2, "shouldExist", Bool),
    key("system", Bool),
]);

const GROUP: Shape = Object(&[
    required("name", Text),
    key("gid", Int),
    key("passwordHash", Text),
    since(2, "shouldExist", Bool),
    key("system", Bool),
]);

/// A whole config.
pub(super) const CONFIG: Shape = Object(&[
    required("ignition", IGNITION),
    key("storage", STORAGE),
    key("systemd", Object(&[key("units", List(&UNIT, Some("name")))])),
    key(
        "passwd",
        Object(&[key("users", List(&USER, Some("name"))), key("groups", List(&GROUP, Some("name")))]),
    ),
    since(3, "kernelArguments", Object(&[key("shouldExist", TEXTS), key("shouldNotExist", TEXTS)])),
]);
