//! Filling a manifest from what was built.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use debian::resolve::Why;
use debian::unpack::Unpacked;
use image_config::recipe::Recipe;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Manifest, ManifestFile, ManifestPackage, ManifestPart, SCHEMA, inputs_digest};
use crate::licence::Licences;
use crate::packages::Supply;
use crate::signing::hex;
use crate::slotimage::SlotImage;
use crate::tree::{ContentError, FileData, Kind, Node, Reader, Tree, display, escape};

/// Bytes of a file that are hashed at a time.
const HASH_BYTES: usize = 1 << 20;

/// The packages of an image with what only their closure says about them. `licences` are those of the unpacked packages, in their
/// order.
pub fn source_packages<'a>(supply: &'a Supply, licences: &[Licences]) -> Vec<SourcePackage<'a>> {
    let names = supply.closure.selected.iter().map(|selected| selected.package.name.as_str());
    let edges: HashMap<_, _> = names.zip(&supply.edges).collect();
    let describe = |(unpacked, licences): (&'a Unpacked, &Licences)| {
        let name = unpacked.package.name.as_str();
        let depends = edges.get(name).map(|names| names.to_vec()).unwrap_or_default();
        let requested = supply.closure.get(name).is_some_and(|selected| selected.why == Why::Requested);
        SourcePackage { unpacked, requested, depends, licences: licences.expressions.clone() }
    };
    supply.unpacked.iter().zip(licences).map(describe).collect()
}

/// A package of the image with what only the whole closure says about it.
#[derive(Debug)]
pub struct SourcePackage<'a> {
    /// The package and its files.
    pub unpacked: &'a Unpacked,
    /// Whether the recipe names it.
    pub requested: bool,
    /// Names of the packages that satisfy its dependencies, sorted.
    pub depends: Vec<String>,
    /// Its licences; not empty.
    pub licences: Vec<String>,
}

/// What a manifest is made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The packages, in any order.
    pub packages: Vec<SourcePackage<'a>>,
    /// The files of the EROFS.
    pub usr: &'a Tree,
    /// Where each inode's content is, as [`crate::erofs::Plan::content_at`] says; the EROFS is the slot's first part, at offset 0.
    pub content_at: &'a [Option<u64>],
    /// The release of the kernel.
    pub kernel: &'a str,
    /// The slot.
    pub slot: &'a SlotImage,
    /// Unix seconds.
    pub build_time: u64,
}

/// Makes the manifest.
///
/// # Errors
/// A file whose digest nobody has computed yet cannot be read.
pub fn collect(sources: &Sources<'_>) -> Result<Manifest, ContentError> {
    let Sources { recipe, slot, .. } = sources;
    let parts = slot.footer.parts.named().into_iter().map(|(name, part)| ManifestPart {
        name: name.replace(' ', "_"),
        offset: part.offset,
        bytes: part.length,
        sha256: hex(&part.sha256),
    });
    Ok(Manifest {
        schema: SCHEMA,
        name: recipe.name.to_string(),
        version: recipe.version.to_string(),
        architecture: recipe.architecture.to_string(),
        build_time: sources.build_time,
        inputs: inputs_digest(recipe),
        kernel: sources.kernel.to_owned(),
        root_hash: hex(&slot.footer.verity.root_hash),
        key_id: hex(&slot.footer.key_id.0),
        slot_bytes: slot.bytes(),
        parts: parts.collect(),
        packages: packages(sources),
        files: files(sources.usr, sources.content_at, &labels(sources))?,
    })
}

fn packages(sources: &Sources<'_>) -> Vec<ManifestPackage> {
    let installed = sources.usr.bytes_by_origin();
    let installed: BTreeMap<_, _> =
        installed.iter().map(|(origin, bytes)| (origin.as_str(), *bytes)).collect();
    let mut listed: Vec<_> = sources
        .packages
        .iter()
        .map(|source| {
            let package = &source.unpacked.package;
            ManifestPackage {
                name: package.name.clone(),
                version: package.version.to_string(),
                architecture: package.architecture.clone(),
                source: package.source.clone(),
                source_version: package.source_version.to_string(),
                sha256: hex(&package.sha256.0),
                bytes: package.size,
                installed_bytes: installed.get(package.to_string().as_str()).copied().unwrap_or(0),
                licences: source.licences.clone(),
                requested: source.requested,
                depends: source.depends.clone(),
            }
        })
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed
}

/// Names of packages by what the tree calls their files' origin.
fn labels<'a>(sources: &Sources<'a>) -> HashMap<String, &'a str> {
    let packages = sources.packages.iter().map(|source| &source.unpacked.package);
    packages.map(|package| (package.to_string(), package.name.as_str())).collect()
}

fn files(
    usr: &Tree,
    content_at: &[Option<u64>],
    packages: &HashMap<String, &str>,
) -> Result<Vec<ManifestFile>, ContentError> {
    let digests = missing_digests(usr)?;
    let mut first_names: HashMap<*const FileData, (String, Option<String>)> = HashMap::new();
    let mut content_at = content_at.iter();
    let mut files = Vec::new();
    for (path, node) in usr.walk() {
        let mut file = entry(&path, node);
        match packages.get(node.origin.as_str()) {
            Some(package) => file.package = Some((*package).to_owned()),
            None if node.origin.is_implied() => {}
            None => file.origin = Some(origin(node.origin.as_str())),
        }
        if let Some(data) = node.file() {
            let address = Arc::as_ptr(data);
            if let Some((first, hex)) = first_names.get(&address) {
                // No inode of its own, and its bytes count once.
                file.kind = "hardlink".to_owned();
                (file.target, file.target_hex) = (Some(first.clone()), hex.clone());
                files.push(file);
                continue;
            }
            first_names.insert(address, (file.path.clone(), file.path_hex.clone()));
            file.bytes = Some(data.len());
            file.sha256 = data.sha256.or_else(|| digests.get(&address).copied()).map(|digest| hex(&digest));
        }
        file.offset = content_at.next().copied().flatten();
        files.push(file);
    }
    Ok(files)
}

/// What a node says about itself.
fn entry(path: &[u8], node: &Node) -> ManifestFile {
    let absolute = [b"/usr".as_slice(), if path.is_empty() { b"" } else { b"/" }, path].concat();
    let shown = display(&absolute);
    let target = match &node.kind {
        Kind::Symlink(target) => Some((escape(target), target)),
        _ => None,
    };
    let target_hex = target.as_ref().filter(|(shown, bytes)| shown.as_bytes() != **bytes);
    ManifestFile {
        path_hex: (shown.as_bytes() != absolute).then(|| hex(&absolute)),
        path: shown,
        kind: kind(&node.kind).to_owned(),
        package: None,
        origin: None,
        mode: format!("{:04o}", node.meta.mode),
        uid: node.meta.uid,
        gid: node.meta.gid,
        bytes: None,
        sha256: None,
        offset: None,
        target_hex: target_hex.map(|(_, bytes)| hex(bytes)),
        target: target.map(|(shown, _)| shown),
    }
}

const fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory(_) => "directory",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "symlink",
        Kind::CharDevice { .. } => "character-device",
        Kind::BlockDevice { .. } => "block-device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

/// Who brought it, in one word where it is one of us.
fn origin(text: &str) -> String {
    if text.starts_with("the recipe") { "recipe" } else { text }.to_owned()
}

/// SHA-256 of the files that come without one, by the address of their data. Packages' files bring theirs along from unpacking; what
/// is left is what Ferrite and the recipe add.
fn missing_digests(usr: &Tree) -> Result<HashMap<*const FileData, [u8; 32]>, ContentError> {
    let files = usr.walk().filter_map(|(_, node)| node.file()).filter(|data| data.sha256.is_none());
    let mut seen = HashSet::new();
    let unknown: Vec<&Arc<FileData>> = files.filter(|data| seen.insert(Arc::as_ptr(data))).collect();
    let reader = Reader::new();
    let digests = unknown.par_iter().map(|data| digest(data, &reader)).collect::<Result<Vec<_>, _>>()?;
    Ok(unknown.into_iter().map(Arc::as_ptr).zip(digests).collect())
}

fn digest(data: &FileData, reader: &Reader) -> Result<[u8; 32], ContentError> {
    let mut hasher = Sha256::new();
    let whole = usize::try_from(data.len()).unwrap_or(HASH_BYTES);
    let mut buffer = vec![0; whole.min(HASH_BYTES)];
    let mut done = 0;
    while done < data.len() {
        let left = usize::try_from(data.len() - done).unwrap_or(HASH_BYTES);
        let part = buffer.get_mut(..left.min(HASH_BYTES)).unwrap_or_default();
        reader.read_at(&data.content, done, part)?;
        hasher.update(&*part);
        done += part.len() as u64;
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::{Options, Plan};
    use crate::tree::{Content, Meta, Origin, Piece};

    const BLOCK: usize = 4096;

    fn node(kind: Kind, origin: &str) -> Node {
        Node::new(kind, Meta::root(0o755, 1000), Origin::new(origin))
    }

    fn tree() -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 1000));
        let mut add = |path: &[u8], kind: Kind, origin: &str| tree.insert(path, node(kind, origin)).unwrap();
        add(b"bin/short", Kind::file(*b"a tail and no block"), "a 1");
        add(b"bin/long", Kind::file(vec![7; 3 * BLOCK + 5]), "a 1");
        add(b"bin/plain", Kind::file(vec![8; BLOCK + 3000]), "b 1:2-3");
        add(b"bin/same", Kind::file(vec![8; BLOCK + 3000]), "ferrite");
        add(b"bin/empty", Kind::file(Vec::new()), "the recipe");
        add(b"bin/sh", Kind::Symlink(b"./short\xff".to_vec()), "a 1");
        add(b"dev/null", Kind::CharDevice { major: 1, minor: 3 }, "a 1");
        add(b"lib/caf\xe9\n", Kind::file(*b"x"), "a 1");
        let piece = Piece { at: 5 * BLOCK as u64, content: Content::Bytes(vec![9; BLOCK].into()) };
        add(b"lib/sparse", Kind::File(Arc::new(FileData::sparse(20 * BLOCK as u64, vec![piece]))), "a 1");
        add(b"lib/holes", Kind::File(Arc::new(FileData::sparse(20 * BLOCK as u64, Vec::new()))), "a 1");
        tree.hard_link(b"bin/long", b"aaa/first", Origin::new("b 1:2-3")).unwrap();
        tree.hard_link(b"lib/caf\xe9\n", b"lib/caf\xea", Origin::new("the recipe's tree x")).unwrap();
        tree
    }

    fn listed() -> (Vec<ManifestFile>, Vec<u8>) {
        let tree = tree();
        let plan = Plan::new(&tree, &Options::new([9; 16], "usr", 1000)).unwrap();
        let mut image = Vec::new();
        plan.write_to(&mut image, &Reader::new()).unwrap();
        let packages = HashMap::from([("a 1".to_owned(), "a"), ("b 1:2-3".to_owned(), "b")]);
        (files(&tree, plan.content_at(), &packages).unwrap(), image)
    }

    fn find<'a>(files: &'a [ManifestFile], path: &str) -> &'a ManifestFile {
        files.iter().find(|file| file.path == path).unwrap()
    }

    #[test]
    fn the_first_bytes_of_each_file_are_where_the_manifest_says() {
        let (files, image) = listed();
        let expected: [(&str, Vec<u8>); 5] = [
            ("/usr/bin/short", b"a tail and no block".to_vec()),
            ("/usr/aaa/first", vec![7; 3 * BLOCK]),
            ("/usr/bin/plain", vec![8; BLOCK + 3000]),
            ("/usr/bin/same", vec![8; BLOCK + 3000]),
            ("/usr/lib/sparse", vec![9; BLOCK]),
        ];
        for (path, want) in &expected {
            let offset = find(&files, path).offset.unwrap() as usize;
            assert_eq!(&image[offset..offset + want.len()], want, "{path}");
        }
        assert_eq!(find(&files, "/usr/bin/same").offset, find(&files, "/usr/bin/plain").offset);
        for without in ["/usr", "/usr/bin/empty", "/usr/bin/sh", "/usr/dev/null", "/usr/lib/holes"] {
            assert_eq!(find(&files, without).offset, None, "{without}");
        }
    }

    #[test]
    fn every_file_has_the_digest_of_its_content_and_who_brought_it() {
        let (files, _) = listed();
        let digest = |bytes: &[u8]| Some(hex(&Sha256::digest(bytes)));
        let mut sparse = vec![0; 20 * BLOCK];
        assert_eq!(find(&files, "/usr/lib/holes").sha256, digest(&sparse));
        sparse[5 * BLOCK..6 * BLOCK].fill(9);
        assert_eq!(find(&files, "/usr/lib/sparse").sha256, digest(&sparse));
        assert_eq!(find(&files, "/usr/bin/empty").sha256, digest(b""));
        assert_eq!(find(&files, "/usr/bin/plain").sha256, digest(&vec![8; BLOCK + 3000]));
        let brought = |path: &str| {
            let file = find(&files, path);
            (file.package.as_deref(), file.origin.as_deref())
        };
        assert_eq!(brought("/usr/bin/plain"), (Some("b"), None));
        assert_eq!(brought("/usr/bin/same"), (None, Some("ferrite")));
        assert_eq!(brought("/usr/bin/empty"), (None, Some("recipe")));
        assert_eq!(brought("/usr/bin"), (None, None), "it is there for what lies below it");
    }

    #[test]
    fn the_first_name_of_a_file_has_its_bytes_and_the_others_point_to_it() {
        let (files, _) = listed();
        let (first, second) = (find(&files, "/usr/aaa/first"), find(&files, "/usr/bin/long"));
        assert_eq!((first.kind.as_str(), first.bytes), ("file", Some(3 * BLOCK as u64 + 5)));
        assert_eq!((second.kind.as_str(), second.bytes, &second.sha256), ("hardlink", None, &None));
        assert_eq!(second.target.as_deref(), Some("/usr/aaa/first"));
    }

    #[test]
    fn names_that_are_no_text_are_given_in_full() {
        let (files, _) = listed();
        let odd = find(&files, "/usr/lib/caf\\xe9\\n");
        assert_eq!(odd.path_hex.as_deref(), Some("2f7573722f6c69622f636166e90a"));
        let link = find(&files, "/usr/bin/sh");
        assert_eq!(link.target.as_deref(), Some("./short\\xff"));
        assert_eq!(link.target_hex.as_deref(), Some("2e2f73686f7274ff"));
        let other = find(&files, "/usr/lib/caf\\xea");
        assert_eq!(
            (other.target.as_deref(), other.target_hex.as_deref()),
            (odd.path.as_str().into(), odd.path_hex.as_deref())
        );
        assert!(files.iter().filter(|file| file.path_hex.is_some()).count() == 2);
        assert!(files.windows(2).all(|pair| pair[0].path != pair[1].path));
    }
}
