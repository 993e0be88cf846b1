//! The reference machine: Debian's systemd on a root in memory, started with the kernel of the image that it is compared with.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use builder::rootfs::{self, Accounts};
use builder::tree::{Kind, Meta, Node, Reader, Tree};
use builder::{cpio, direct};
use debian::archive::{Archive, Config};
use debian::cache::Cache;
use debian::mirrors::MirrorSet;
use debian::progress::Silent;
use debian::resolve::{Provided, Request};
use debian::unpack::Integrity;
use image_config::recipe::{FileSource, Recipe};

use super::scenario::add;
use crate::Image;

/// Where the root lies in the initramfs.
const ROOT: &str = "reference";
/// What the recipe stands in for and the reference has.
const REAL: &str = "systemd";
/// Units that have nothing to do here: what needs D-Bus, logins on the console, upkeep of files that are as they should be.
const MASKED: [&str; 12] = [
    "systemd-logind.service",
    "getty.target",
    "systemd-firstboot.service",
    "systemd-networkd.service",
    "systemd-modules-load.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-sysusers.service",
    "ldconfig.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-hostnamed.socket",
    "systemd-sysext.socket",
];
/// No configuration of its own and no root device: everything is in the initramfs. Kernel messages stay off the console.
const COMMAND_LINE: &str = "console=ttyS0,115200 loglevel=4 random.trust_cpu=on panic=-1 rdinit=/reference-init \
    systemd.unit=multi-user.target systemd.show_status=false systemd.firstboot=false";
/// Largest text that is read from a package.
const TEXT_LIMIT: u64 = 1 << 20;

/// What the reference machine starts from.
pub(super) struct ReferenceFiles {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub command_line: String,
}

/// Makes them in `work`. The initramfs is that of the image, for its modules, and a second archive behind it.
pub(super) fn files(image: &Image, work: &Path) -> Result<ReferenceFiles> {
    let system = work.join("lender.raw");
    image.copy_to(&system)?;
    let lent = direct::extract(&system)?;
    let initramfs = work.join("reference.cpio");
    let mut archive = BufWriter::new(File::create(&initramfs)?);
    archive.write_all(&fs::read(&lent.initramfs)?)?;
    let reader = Reader::new();
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let guest = super::folder()?.join("guest");
    add(&mut tree, "reference-init", Kind::file(fs::read(guest.join("reference-init"))?), 0o755)?;
    let root = root(&image.recipe, &guest, &reader)?;
    tree.insert(ROOT.as_bytes(), Node { kind: root.root().kind.clone(), ..directory() })?;
    cpio::write(&tree, &reader, &mut archive)?;
    archive.flush()?;
    Ok(ReferenceFiles { kernel: lent.kernel, initramfs, command_line: COMMAND_LINE.to_owned() })
}

fn directory() -> Node {
    Node::new(Kind::empty_directory(), Meta::root(0o755, 0), builder::tree::Origin::new("conformance"))
}

/// Debian's packages as they are, with the accounts that their scripts would have made.
fn root(recipe: &Recipe, guest: &Path, reader: &Reader) -> Result<Tree> {
    let mirrors = MirrorSet::discover(&[], &[], Path::new("/"));
    let archive = Archive::open(Config::debian("trixie", &mirrors, Cache::from_env())?, Arc::new(Silent))?;
    let mut requests: Vec<Request> =
        recipe.packages.iter().map(|name| Request { name: name.to_string(), version: None }).collect();
    requests.push(Request { name: REAL.to_owned(), version: None });
    let provided = recipe.provides.iter().filter(|provided| provided.name.as_str() != REAL);
    let provided: Vec<Provided> = provided
        .map(|provided| {
            let version = provided.version.as_deref().map(str::parse).transpose()?;
            Ok(Provided { name: provided.name.to_string(), version })
        })
        .collect::<Result<_>>()?;
    let closure = archive.resolve(&requests, &provided)?;
    let unpacked = archive.unpack(&closure.packages(), Integrity::OnRead)?;
    let mut tree = rootfs::merge(&unpacked, 0)?;
    tree.drop_if(&|path| {
        recipe.drop.drops(&String::from_utf8_lossy(path)) && !path.starts_with(b"usr/share/base-passwd")
    });
    // Generators run at every reload and have nothing to do here: each would only cost time.
    tree.remove(b"usr/lib/systemd/system-generators");
    accounts(&mut tree, reader)?;
    furnish(&mut tree, recipe, guest)?;
    Ok(tree)
}

fn text(tree: &Tree, reader: &Reader, path: &str) -> Result<String> {
    let data = tree.get(path.as_bytes()).and_then(Node::file).with_context(|| format!("no {path}"))?;
    Ok(String::from_utf8(reader.read_all(&data.content, TEXT_LIMIT)?)?)
}

fn accounts(tree: &mut Tree, reader: &Reader) -> Result<()> {
    let master = |file: &str| text(tree, reader, &format!("usr/share/base-passwd/{file}.master"));
    let mut accounts = Accounts::from_masters(&master("passwd")?, &master("group")?)?;
    let folder = "usr/lib/sysusers.d";
    let names: Vec<String> = tree
        .get(folder.as_bytes())
        .and_then(Node::entries)
        .into_iter()
        .flat_map(|entries| entries.keys().map(|name| String::from_utf8_lossy(name).into_owned()))
        .collect();
    for name in names {
        let path = format!("{folder}/{name}");
        accounts.apply_sysusers(&path, &text(tree, reader, &path)?)?;
    }
    accounts.settle_root_shell(false);
    for (path, text, mode) in [
        ("etc/passwd", accounts.passwd(), 0o644),
        ("etc/group", accounts.group(), 0o644),
        ("etc/shadow", accounts.shadow(), 0o600),
        ("etc/gshadow", accounts.gshadow(), 0o600),
    ] {
        add(tree, path, Kind::file(text.into_bytes()), mode)?;
    }
    Ok(())
}

/// Mount points, links of a merged `/usr`, BusyBox's programs, the unit that runs the scenarios.
fn furnish(tree: &mut Tree, recipe: &Recipe, guest: &Path) -> Result<()> {
    for (path, mode) in [
        ("dev", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("home", 0o755),
        ("root", 0o700),
        ("mnt", 0o755),
        ("opt", 0o755),
        ("srv", 0o755),
        ("var/tmp", 0o1777),
        ("var/log", 0o755),
        ("var/cache", 0o755),
    ] {
        tree.replace(path.as_bytes(), Node { meta: Meta::root(mode, 0), ..directory() })?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = Kind::Symlink(format!("usr/{name}").into_bytes());
        tree.replace(name.as_bytes(), Node { kind: link, ..directory() })?;
    }
    // The same programs in both machines: BusyBox's also where a package brings another.
    for file in &recipe.files {
        if let FileSource::Symlink(target) = &file.source
            && target.rsplit('/').next() == Some("busybox")
        {
            let link = Kind::Symlink(target.as_bytes().to_vec());
            tree.replace(file.path.to_string().as_bytes(), Node { kind: link, ..directory() })?;
        }
    }
    for (source, path, mode) in [
        ("start", "usr/lib/conformance/start", 0o755),
        ("conformance.service", "usr/lib/systemd/system/conformance.service", 0o644),
    ] {
        add(tree, path, Kind::file(fs::read(guest.join(source))?), mode)?;
    }
    let link = |target: &str| Kind::Symlink(target.as_bytes().to_vec());
    add(
        tree,
        "etc/systemd/system/multi-user.target.wants/conformance.service",
        link("/usr/lib/systemd/system/conformance.service"),
        0o777,
    )?;
    for unit in MASKED {
        add(tree, &format!("etc/systemd/system/{unit}"), link("/dev/null"), 0o777)?;
    }
    for (path, text) in [
        ("etc/os-release", "ID=debian\nNAME=Debian\nVERSION_ID=13\n"),
        ("etc/machine-id", "00000000000040008000000000000001\n"),
        ("etc/hostname", "reference\n"),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    ] {
        tree.replace(
            path.as_bytes(),
            Node { kind: Kind::file(text.as_bytes()), meta: Meta::root(0o644, 0), ..directory() },
        )?;
    }
    Ok(())
}
