//! Kernel modules: what their `.modinfo` says, the tables that `depmod` writes, and what an initramfs must load.
//!
//! Names are compared with `-` as `_`, as the kernel and modprobe do.

mod compress;
mod elf;
mod info;
mod order;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use compress::{CompressError, Compression, decompress};
pub use elf::ElfError;
pub use info::ModuleInfo;
pub use order::OrderError;

use crate::parts::{Key, Parts};
use crate::tree::{ContentError, FileData, Reader, Tree, display};

/// No module comes near this; a larger one is damaged or hostile.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why modules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The folder is not in the tree.
    #[error("{path} is no folder of kernel modules")]
    NoFolder {
        /// The folder.
        path: String,
    },
    /// A file's bytes could not be had.
    #[error("cannot read {path}")]
    Content {
        /// The file in the image.
        path: String,
        /// The cause.
        #[source]
        source: ContentError,
    },
    /// A module cannot be decompressed.
    #[error("cannot decompress {path}")]
    Compress {
        /// The file in the image.
        path: String,
        /// The cause.
        #[source]
        source: CompressError,
    },
    /// A module is no ELF file that we read.
    #[error("{path} is no kernel module")]
    Elf {
        /// The file in the image.
        path: String,
        /// The cause.
        #[source]
        source: ElfError,
    },
    /// Two files of one module.
    #[error("{first} and {second} are both module {name}")]
    Twice {
        /// The module's name.
        name: String,
        /// One file.
        first: String,
        /// The other file.
        second: String,
    },
}

/// One module file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Name as the kernel shows it: `_`, never `-`.
    pub name: String,
    /// Path relative to the folder of the kernel release, with its suffix: `kernel/fs/ext4/ext4.ko.xz`.
    pub path: String,
    /// What the file says.
    pub info: ModuleInfo,
}

/// All modules of one kernel release, in the order of `modules.order`.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    list: Vec<Module>,
    by_name: BTreeMap<String, usize>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads all modules below `folder` (such as `usr/lib/modules/6.12.107+deb13-cloud-amd64`) with all threads of
    /// the rayon pool. What a kernel's modules say is kept among the parts: decompressing them is the dearest work of a build.
    pub fn scan(tree: &Tree, folder: &[u8], reader: &Reader, parts: &Parts) -> Result<Self, ModulesError> {
        let shown = display(folder);
        let root = tree.get(folder).filter(|node| node.entries().is_some());
        let root = root.ok_or_else(|| ModulesError::NoFolder { path: shown.clone() })?;
        let read = |path: &str, data: &FileData| {
            reader
                .read_all(&data.content, MAX_FILE_BYTES)
                .map_err(|source| ModulesError::Content { path: format!("{shown}/{path}"), source })
        };
        let text = |name: &str| -> Result<String, ModulesError> {
            let file = root.entries().and_then(|entries| entries.get(name.as_bytes())?.file());
            let bytes = file.map_or(Ok(Vec::new()), |data| read(name, data))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let files: Vec<_> = root
            .walk()
            .filter_map(|(path, node)| Some((String::from_utf8(path).ok()?, node.file()?)))
            .filter(|(path, _)| module_name(path).is_some())
            .collect();
        let key = files_key(&files);
        let kept = key.as_ref().and_then(|key| parts.get(key));
        let list = match kept.and_then(|bytes| postcard::from_bytes::<Vec<Module>>(&bytes).ok()) {
            Some(list) => list,
            None => {
                let read_module = |(path, data): (String, &Arc<FileData>)| {
                    let bytes = read(&path, data)?;
                    Module::read(path, &bytes)
                };
                let list = files.into_par_iter().map(read_module).collect::<Result<Vec<_>, _>>()?;
                if let (Some(key), Ok(bytes)) = (key, postcard::to_stdvec(&list)) {
                    // A cache that cannot be written costs time at the next build.
                    let _ = parts.put(&key, &bytes);
                }
                list
            }
        };
        Self::new(list, &text("modules.order")?, &text("modules.builtin")?)
    }

    /// The modules whose path relative to the folder of the release passes `keeps`, in the same order.
    #[must_use]
    pub fn only(self, keeps: impl Fn(&str) -> bool) -> Self {
        let list: Vec<_> = self.list.into_iter().filter(|module| keeps(&module.path)).collect();
        let by_name = list.iter().enumerate().map(|(index, module)| (module.name.clone(), index)).collect();
        Self { list, by_name, builtin: self.builtin }
    }

    /// Orders modules as `modules.order` lists them, unlisted ones by path after them. `builtin` is the text of
    /// `modules.builtin`.
    pub fn new(mut list: Vec<Module>, order: &str, builtin: &str) -> Result<Self, ModulesError> {
        let ranks: BTreeMap<&str, usize> =
            order.lines().enumerate().map(|(rank, line)| (line.trim(), rank)).collect();
        let rank = |module: &Module| {
            let plain = Compression::split(&module.path).0;
            ranks.get(plain).copied().unwrap_or(usize::MAX)
        };
        list.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path)));
        let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
        for (index, module) in list.iter().enumerate() {
            if let Some(first) = by_name.insert(module.name.clone(), index) {
                let first = list.get(first).map(|module| module.path.clone()).unwrap_or_default();
                let (name, second) = (module.name.clone(), module.path.clone());
                return Err(ModulesError::Twice { name, first, second });
            }
        }
        let builtin = builtin.lines().filter_map(module_name).collect();
        Ok(Self { list, by_name, builtin })
    }

    /// All modules in order.
    pub fn list(&self) -> &[Module] {
        &self.list
    }

    /// The module with this name, `-` or `_`.
    pub fn get(&self, name: &str) -> Option<&Module> {
        self.index(name).and_then(|index| self.list.get(index))
    }

    /// Whether the module is part of the kernel itself.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&canonical(name))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(&canonical(name)).copied()
    }
}

/// What decides about what modules say: their paths and contents. `None` when somebody's digest is not known.
fn files_key(files: &[(String, &Arc<FileData>)]) -> Option<Key> {
    let mut key = Key::new("modules 1");
    for (path, data) in files {
        key.add(path.as_bytes());
        key.add(&data.sha256?);
    }
    Some(key)
}

impl Module {
    /// Reads a module file; `path` is relative to the folder of the kernel release and says how it is compressed.
    pub fn read(path: String, bytes: &[u8]) -> Result<Self, ModulesError> {
        let plain = decompress(&path, bytes, MAX_FILE_BYTES)
            .map_err(|source| ModulesError::Compress { path: path.clone(), source })?;
        let info =
            ModuleInfo::read(&plain).map_err(|source| ModulesError::Elf { path: path.clone(), source })?;
        Ok(Self { name: module_name(&path).unwrap_or_default(), path, info })
    }

    /// The path without the suffix of a compression.
    pub fn plain_path(&self) -> &str {
        Compression::split(&self.path).0
    }
}

/// A module's name in the form that all comparisons use.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module in a file, or `None` when the path is none of a module.
fn module_name(path: &str) -> Option<String> {
    let plain = Compression::split(path.trim()).0;
    let file = plain.rsplit('/').next()?;
    Some(canonical(file.strip_suffix(".ko")?))
}

#[cfg(test)]
mod tests;
