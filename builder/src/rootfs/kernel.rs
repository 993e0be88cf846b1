//! The kernel: out of `/boot`, its modules indexed, and the initramfs that brings up `/usr`.

use std::sync::Arc;

use image_config::recipe::{KeepModules, Recipe};

use super::staging::ferrite;
use crate::cpio::{self, CpioError};
use crate::modules::{Compression, Modules, ModulesError, OrderError, decompress};
use crate::parts::Parts;
use crate::tree::{ContentError, Kind, Meta, Node, Reader, Tree, TreeError};

/// Largest kernel or module that is read whole.
const READ_LIMIT: u64 = 256 << 20;
/// Where modules lie in the tree of `/usr`.
const MODULES: &str = "lib/modules";
/// Folders of the initramfs that `init` mounts over.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// What a slot holds besides `/usr`.
#[derive(Debug)]
pub struct KernelParts {
    /// `uname -r`.
    pub release: String,
    /// The kernel with its EFI stub.
    pub kernel: Vec<u8>,
    /// The initramfs, a newc archive.
    pub initramfs: Vec<u8>,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No package brought a kernel, or several did.
    #[error(
        "the packages bring {count} kernels (/boot/vmlinuz-*), an image has one; check `kernel: package:` of the recipe"
    )]
    Count {
        /// How many.
        count: usize,
    },
    /// The kernel's bytes.
    #[error("cannot read /boot/vmlinuz-{release}")]
    Read {
        /// `uname -r`.
        release: String,
        /// Why.
        source: ContentError,
    },
    /// The modules cannot be read.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The initramfs cannot have what the recipe asks for.
    #[error("initramfs modules of the recipe")]
    Order(#[from] OrderError),
    /// A module for the initramfs cannot be read.
    #[error("cannot take {path} into the initramfs")]
    Module {
        /// Its path below the modules of the release.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Paths collide.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The archive.
    #[error("cannot write the initramfs")]
    Archive(#[from] CpioError),
}

/// Takes the kernel out of `boot`, leaves in `usr` the modules that the recipe keeps with depmod's tables over them, and
/// makes the initramfs with `init` as `/init`.
///
/// # Errors
/// [`KernelError`].
pub fn prepare(
    recipe: &Recipe,
    usr: &mut Tree,
    boot: &Tree,
    init: &Arc<[u8]>,
    build_time: u64,
    parts: &Parts,
) -> Result<KernelParts, KernelError> {
    let reader = Reader::new();
    let (release, kernel) = kernel(boot, &reader)?;
    let folder = format!("{MODULES}/{release}");
    let modules = Modules::scan(usr, folder.as_bytes(), &reader, parts)?;
    let initramfs = initramfs(recipe, usr, &folder, &modules, init, build_time, &reader)?;
    if let KeepModules::Matching(_) = &recipe.kernel.modules {
        drop_modules(recipe, usr, &folder, &modules)?;
    }
    let kept = modules.only(|path| usr.get(format!("{folder}/{path}").as_bytes()).is_some());
    for (name, text) in kept.tables() {
        usr.replace(format!("{folder}/{name}").as_bytes(), file(text.into_bytes(), 0o644, build_time))?;
    }
    Ok(KernelParts { release, kernel, initramfs })
}

fn file(bytes: impl Into<Arc<[u8]>>, mode: u16, time: u64) -> Node {
    Node::new(Kind::file(bytes), Meta::root(mode, time), ferrite())
}

/// The one kernel of `/boot`, and its release.
fn kernel(boot: &Tree, reader: &Reader) -> Result<(String, Vec<u8>), KernelError> {
    let entries = boot.root().entries().into_iter().flatten();
    let kernels: Vec<_> = entries
        .filter_map(|(name, node)| {
            let release = std::str::from_utf8(name.strip_prefix(b"vmlinuz-")?).ok()?;
            Some((release.to_owned(), Arc::clone(node.file()?)))
        })
        .collect();
    let [(release, data)] = kernels.as_slice() else {
        return Err(KernelError::Count { count: kernels.len() });
    };
    let bytes = reader
        .read_all(&data.content, READ_LIMIT)
        .map_err(|source| KernelError::Read { release: release.clone(), source })?;
    Ok((release.clone(), bytes))
}

/// The archive: `/init`, the two devices that the kernel opens before anything is mounted, mount points, modules.
fn initramfs(
    recipe: &Recipe,
    usr: &Tree,
    folder: &str,
    modules: &Modules,
    init: &Arc<[u8]>,
    time: u64,
    reader: &Reader,
) -> Result<Vec<u8>, KernelError> {
    let mut tree = Tree::new(Meta::root(0o755, time));
    tree.insert(b"init", file(Arc::clone(init), 0o755, time))?;
    for name in MOUNT_POINTS {
        tree.insert(name.as_bytes(), Node::new(Kind::empty_directory(), Meta::root(0o755, time), ferrite()))?;
    }
    for (name, minor, mode) in [("dev/console", 1, 0o600), ("dev/null", 3, 0o666)] {
        let major = if minor == 1 { 5 } else { 1 };
        tree.insert(
            name.as_bytes(),
            Node::new(Kind::CharDevice { major, minor }, Meta::root(mode, time), ferrite()),
        )?;
    }
    let names = recipe.initramfs_modules.iter().map(|name| name.as_str());
    let mut list = String::new();
    for module in modules.load_order(names)? {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| KernelError::Module {
            path: module.path.clone(),
            source,
        };
        let path = format!("{folder}/{}", module.path);
        let data =
            usr.get(path.as_bytes()).and_then(Node::file).ok_or_else(|| failed("it is not there".into()))?;
        let packed = reader.read_all(&data.content, READ_LIMIT).map_err(|error| failed(Box::new(error)))?;
        let plain = decompress(&module.path, &packed, READ_LIMIT).map_err(|error| failed(Box::new(error)))?;
        let target = format!("/{folder}/{}", Compression::split(&module.path).0);
        tree.insert(target.as_bytes(), file(plain, 0o644, time))?;
        list.push_str(&target);
        list.push('\n');
    }
    tree.insert(b"lib/modules/load", file(list.into_bytes(), 0o644, time))?;
    let mut archive = Vec::new();
    cpio::write(&tree, reader, &mut archive)?;
    Ok(archive)
}

/// Drops the modules that match none of the recipe's patterns and that no kept one needs.
fn drop_modules(recipe: &Recipe, usr: &mut Tree, folder: &str, modules: &Modules) -> Result<(), KernelError> {
    let KeepModules::Matching(patterns) = &recipe.kernel.modules else { return Ok(()) };
    let matching = modules.list().iter().filter(|module| {
        let below = module.path.strip_prefix("kernel/").unwrap_or(&module.path);
        patterns.iter().any(|pattern| pattern.matches(below))
    });
    let names: Vec<_> = matching.map(|module| module.name.as_str()).collect();
    let kept: std::collections::BTreeSet<String> =
        modules.load_order(names)?.into_iter().map(|module| format!("{folder}/{}", module.path)).collect();
    let all: std::collections::BTreeSet<String> =
        modules.list().iter().map(|module| format!("{folder}/{}", module.path)).collect();
    let below = format!("{folder}/kernel/");
    usr.drop_if(&|path| {
        let Ok(path) = std::str::from_utf8(path) else { return false };
        let is_folder = path.starts_with(&below) && !all.contains(path);
        is_folder || (all.contains(path) && !kept.contains(path))
    });
    Ok(())
}
