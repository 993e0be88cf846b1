//! Where in a recipe's text something is said: for answers that point at the line.

use super::raw;
use crate::diagnostic::Position;
use crate::yaml::{self, Step};

/// Something that a recipe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A package under `packages:`, or `kernel: package:`.
    Package(&'a str),
    /// A package under `provides:`.
    Provided(&'a str),
    /// A path under `files:`, or the link of one of `applets: names:`.
    File(&'a str),
    /// The tree with this index, from 0, under `trees:`.
    Tree(usize),
    /// A path under `replace:`.
    Replaced(&'a str),
    /// The rule with this index, from 0, under `drop:`.
    DropRule(usize),
    /// `kernel: modules:`.
    KeptModules,
}

/// Where `text`, a valid recipe, says it; `None` when it does not.
#[must_use]
pub fn position(text: &str, what: Named<'_>) -> Option<Position> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: raw::Recipe = yaml::parse("", text).ok()?;
    yaml::locate(text, &steps(&raw, what)?)
}

fn steps(raw: &raw::Recipe, what: Named<'_>) -> Option<Vec<Step>> {
    let key = |name: &str| Step::Key(name.to_owned());
    let element = |list: &str, index: Option<usize>| Some(vec![key(list), Step::Index(index?)]);
    let of = |list: &[String], text: &str| list.iter().position(|one| one == text);
    match what {
        Named::Package(name) => element("packages", of(&raw.packages, name))
            .or_else(|| (raw.kernel.package == name).then(|| vec![key("kernel"), key("package")])),
        Named::Provided(name) => element(
            "provides",
            raw.provides.iter().position(|one| one.split('(').next().map(str::trim) == Some(name)),
        ),
        Named::Replaced(path) => element("replace", of(&raw.replace, path)),
        Named::Tree(index) => element("trees", (index < raw.trees.len()).then_some(index)),
        Named::DropRule(index) => element("drop", (index < raw.drop.len()).then_some(index)),
        Named::KeptModules => raw.kernel.modules.is_some().then(|| vec![key("kernel"), key("modules")]),
        Named::File(path) => {
            if let Some(index) = raw.files.iter().position(|file| file.path == path) {
                return Some(vec![key("files"), Step::Index(index), key("path")]);
            }
            let name = path.strip_prefix("/usr/bin/")?;
            let index = raw.applets.as_ref()?.names.iter().position(|applet| applet == name)?;
            Some(vec![key("applets"), key("names"), Step::Index(index)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
name: demo
version: 0.1.0
architecture: x86_64
debian:
  suites: [trixie]
packages:
  - bash
  - curl
provides:
  - systemd (= 257)
replace: [/usr/lib/os-release]
drop:
  - /usr/share
  - \"!/usr/share/doc\"
files:
  - path: /etc/motd
    content: hello
  - content: x
    path: /etc/x
trees:
  - source: overlay
applets:
  program: /usr/bin/busybox
  names: [ls,
    cat]
kernel:
  package: linux-image-cloud-amd64
  modules: all
initramfs:
  modules: [virtio_blk]
";

    #[test]
    fn what_a_recipe_says_is_found_where_it_says_it() {
        let line = |what| position(TEXT, what).map(|at| at.line);
        let cases = [
            (Named::Package("curl"), Some(8)),
            (Named::Package("linux-image-cloud-amd64"), Some(27)),
            (Named::Package("zsh"), None),
            (Named::Provided("systemd"), Some(10)),
            (Named::Replaced("/usr/lib/os-release"), Some(11)),
            (Named::DropRule(1), Some(14)),
            (Named::DropRule(2), None),
            (Named::File("/etc/motd"), Some(16)),
            (Named::File("/etc/x"), Some(19)),
            (Named::Tree(0), Some(21)),
            (Named::Tree(1), None),
            (Named::File("/usr/bin/cat"), Some(25)),
            (Named::File("/usr/bin/busybox"), None),
            (Named::KeptModules, Some(28)),
        ];
        for (what, want) in cases {
            assert_eq!(line(what), want, "{what:?}");
        }
        assert_eq!(position("name: [", Named::Package("x")), None);
    }
}
