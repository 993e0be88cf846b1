//! Which module a device wants, and what that module needs first: depmod's text files, pure.

use std::collections::{HashMap, HashSet};

use crate::boot::glob;

/// The files that depmod writes for one kernel, and what modprobe.d adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// `modules.dep`
    pub dep: &'a str,
    /// `modules.alias`
    pub alias: &'a str,
    /// `modules.softdep`
    pub softdep: &'a str,
    /// All files of modprobe.d, one behind the other.
    pub modprobe: &'a str,
}

/// The files, indexed.
#[derive(Debug, Default)]
pub struct Index<'a> {
    /// By name: path of the module and paths of what it needs, the deepest last, as modules.dep has them.
    modules: HashMap<String, (&'a str, &'a str)>,
    /// By the text in front of the first `:` or wildcard: pattern and module.
    aliases: HashMap<&'a str, Vec<(&'a str, &'a str)>>,
    /// Patterns with a wildcard in the name of the bus: they are tried on every device.
    odd: Vec<(&'a str, &'a str)>,
    soft: HashMap<String, (Vec<&'a str>, Vec<&'a str>)>,
    blacklist: HashSet<String>,
    options: HashMap<String, Vec<&'a str>>,
}

/// One module file to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// Path below `/usr/lib/modules/RELEASE/`.
    pub path: &'a str,
    /// Parameters from modprobe.d, separated by blanks.
    pub parameters: String,
}

impl<'a> Index<'a> {
    /// Indexes the files. Lines that are none of theirs are skipped.
    pub fn new(sources: Sources<'a>) -> Self {
        let mut index = Self::default();
        for line in sources.dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                index.modules.insert(module_name(path), (path, needs));
            }
        }
        for line in sources.alias.lines() {
            index.add_alias(line);
        }
        for line in sources.softdep.lines().chain(sources.modprobe.lines()) {
            index.add_setting(line);
        }
        index
    }

    fn add_alias(&mut self, line: &'a str) {
        let mut words = line.split_ascii_whitespace();
        let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let end = pattern.find([':', '*', '?', '[']).unwrap_or(pattern.len());
        let (key, rest) = pattern.split_at(end);
        // `acpi*:` means the bus acpi: no other bus starts so.
        if rest.is_empty() || rest.starts_with(':') || rest.starts_with("*:") {
            self.aliases.entry(key).or_default().push((pattern, module));
        } else {
            self.odd.push((pattern, module));
        }
    }

    fn add_setting(&mut self, line: &'a str) {
        let mut words = line.split_ascii_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { return };
        match verb {
            "softdep" => {
                let (mut pre, mut post, mut in_post) = (Vec::new(), Vec::new(), false);
                for word in words {
                    match word {
                        "pre:" => in_post = false,
                        "post:" => in_post = true,
                        name if in_post => post.push(name),
                        name => pre.push(name),
                    }
                }
                self.soft.insert(canonical(name), (pre, post));
            }
            "blacklist" => {
                self.blacklist.insert(canonical(name));
            }
            "options" => self.options.entry(canonical(name)).or_default().extend(words),
            _ => {}
        }
    }

    /// The modules for a device's modalias, without those of the blacklist, which only names automatic loads.
    pub fn for_device(&self, modalias: &str) -> Vec<&'a str> {
        let key = modalias.split_once(':').map_or(modalias, |(key, _)| key);
        let bus = self.aliases.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<&str> = bus
            .iter()
            .chain(&self.odd)
            .filter(|(pattern, _)| glob::matches(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| *module)
            .filter(|module| !self.blacklist.contains(&canonical(module)))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What to load, in order, for a module given by name or exact alias; empty for one that is built in or unknown.
    pub fn plan(&self, name: &str) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        self.add_steps(name, &mut HashSet::new(), &mut steps);
        steps
    }

    fn add_steps(&self, name: &str, seen: &mut HashSet<String>, steps: &mut Vec<Step<'a>>) {
        let name = canonical(name);
        // Soft dependencies may form circles.
        if !seen.insert(name.clone()) {
            return;
        }
        let Some((path, needs)) = self.modules.get(&name) else {
            let aliased = self.aliases.get(name.as_str()).into_iter().flatten();
            let modules: Vec<&str> =
                aliased.filter(|(pattern, _)| *pattern == name).map(|(_, module)| *module).collect();
            for module in modules {
                self.add_steps(module, seen, steps);
            }
            return;
        };
        let empty = (Vec::new(), Vec::new());
        let (pre, post) = self.soft.get(&name).unwrap_or(&empty);
        for soft in pre {
            self.add_steps(soft, seen, steps);
        }
        // modules.dep names the direct need first and the deepest last.
        for need in needs.split_ascii_whitespace().rev() {
            self.add_steps(&module_name(need), seen, steps);
        }
        let parameters = self.options.get(&name).map(|words| words.join(" ")).unwrap_or_default();
        steps.push(Step { path, parameters });
        for soft in post {
            self.add_steps(soft, seen, steps);
        }
    }
}

/// `kernel/drivers/net/virtio-net.ko.xz` -> `virtio_net`
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    canonical(file.split_once(".ko").map_or(file, |(name, _)| name))
}

/// The kernel treats `-` and `_` in module names as one character.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "kernel/net/core/failover.ko.xz:\n\
        kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz\n\
        kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz\n\
        kernel/crypto/crc32c-intel.ko:\n\
        kernel/lib/libcrc32c.ko:\n\
        kernel/drivers/firmware/qemu_fw_cfg.ko.xz:\n";
    const ALIAS: &str = "# Aliases\n\
        alias virtio:d00000001v* virtio_net\n\
        alias acpi*:QEMU0002:* qemu_fw_cfg\n\
        alias of:N*T*Cqemu,fw-cfg-mmio qemu_fw_cfg\n\
        alias crc32c crc32c_intel\n\
        alias pc?:x y\n";

    fn index(modprobe: &'static str) -> Index<'static> {
        Index::new(Sources {
            dep: DEP,
            alias: ALIAS,
            softdep: "softdep libcrc32c pre: crc32c post: libcrc32c\n",
            modprobe,
        })
    }

    fn paths(steps: &[Step<'_>]) -> Vec<String> {
        steps.iter().map(|step| step.path.rsplit('/').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn devices_find_their_modules() {
        let index = index("");
        let cases: &[(&str, &[&str])] = &[
            ("virtio:d00000001v00001AF4", &["virtio_net"]),
            ("virtio:d00000002v00001AF4", &[]),
            ("acpi:QEMU0002:", &["qemu_fw_cfg"]),
            ("pci:x", &["y"]),
            ("", &[]),
        ];
        for (modalias, modules) in cases {
            assert_eq!(index.for_device(modalias), *modules, "{modalias}");
        }
    }

    #[test]
    fn what_a_module_needs_comes_first_and_once() {
        let index = index("");
        assert_eq!(
            paths(&index.plan("virtio-net")),
            ["failover.ko.xz", "net_failover.ko.xz", "virtio_net.ko.xz"]
        );
        assert_eq!(
            paths(&index.plan("libcrc32c")),
            ["crc32c-intel.ko", "libcrc32c.ko"],
            "soft need by alias, no circle"
        );
        assert_eq!(paths(&index.plan("built_in")), [""; 0]);
    }

    #[test]
    fn modprobe_d_keeps_modules_out_and_gives_parameters() {
        let index = index("blacklist virtio-net\noptions qemu_fw_cfg a=1 b=2\n");
        assert_eq!(index.for_device("virtio:d00000001v00001AF4"), [""; 0]);
        assert_eq!(index.plan("qemu-fw-cfg")[0].parameters, "a=1 b=2");
        assert_eq!(paths(&index.plan("virtio_net")).len(), 3, "asked for by name, it is loaded");
    }

    proptest! {
        #[test]
        fn any_files_are_indexed_and_every_plan_ends(
            dep in "([a-c]{1,2}\\.ko:( [a-c]{1,2}\\.ko){0,3}\n){0,6}",
            alias in "(alias [a-c:*?\\[]{1,6} [a-c]{1,2}\n|.{0,20}\n){0,6}",
            softdep in "(softdep [a-c]{1,2} pre: [a-c] post: [a-c]\n){0,4}",
            modalias in "[a-c:]{0,8}",
        ) {
            let index = Index::new(Sources { dep: &dep, alias: &alias, softdep: &softdep, modprobe: &alias });
            for module in index.for_device(&modalias) {
                let steps = index.plan(module);
                let mut once: Vec<_> = steps.iter().map(|step| module_name(step.path)).collect();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), steps.len());
            }
        }
    }
}
