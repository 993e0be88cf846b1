//! The peer: [mkosi](https://github.com/systemd/mkosi) of Debian trixie, with the same packages from the same mirrors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use debian::mirrors::MirrorSet;
use image_config::recipe::Recipe;

use super::{BenchError, io_error, measure};

/// Makes the tree that mkosi runs in, and runs it there.
const SCRIPT: &str = include_str!("mkosi.sh");
/// What trusts the archive's signatures, in the tree.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A tree with mkosi in it, its configuration, and the packages that it has fetched.
pub(super) struct Mkosi {
    tree: PathBuf,
}

impl Mkosi {
    /// Makes the tree unless it is there, and builds an image once, which fetches the packages.
    ///
    /// The image is what mkosi makes of a list of packages unless told more: one partition, no boot loader, no initramfs,
    /// no verity, no signatures.
    pub fn prepare(tree: &Path, recipe: &Recipe, packages: &[&str]) -> Result<Self, BenchError> {
        let mirrors: Vec<String> = recipe.debian.mirrors.iter().map(ToString::to_string).collect();
        let mirrors = MirrorSet::discover(&[], &mirrors, Path::new("/"));
        let tree = std::path::absolute(tree).map_err(io_error("find", tree))?;
        let mkosi = Self { tree };
        if !mkosi.tree.join("usr/bin/mkosi").exists() {
            let mut setup = mkosi.script("setup");
            measure::run(setup.args(mirrors.debian.urls().first())).map_err(failed("setting up mkosi"))?;
        }
        mkosi.write("mkosi.conf", &config(packages))?;
        mkosi.write("mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources", &sources(recipe, &mirrors))?;
        measure::run(mkosi.run().args(["--force", "build"])).map_err(failed("mkosi's first build"))?;
        Ok(mkosi)
    }

    /// Builds the image again, from the packages that were fetched.
    pub fn build(&self) -> Command {
        let mut command = self.run();
        command.args(["--force", "--cache-only=always", "build"]);
        command
    }

    /// What mkosi calls itself.
    pub fn version(&self) -> Result<String, BenchError> {
        let output = self.run().arg("--version").output().map_err(failed("mkosi --version"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn run(&self) -> Command {
        self.script("run")
    }

    fn script(&self, what: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "mkosi.sh", what]).arg(&self.tree);
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let path = self.tree.join("root").join(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(&path, text)).map_err(io_error("write", &path))
    }
}

fn failed(name: &'static str) -> impl FnOnce(std::io::Error) -> BenchError {
    move |source| BenchError::Run { name, source }
}

fn config(packages: &[&str]) -> String {
    format!(
        "[Distribution]\nDistribution=debian\nRelease=trixie\n\n[Output]\nFormat=disk\nOutput=image\n\n\
         [Content]\nBootable=no\nPackages={}\n",
        packages.join(",")
    )
}

/// The recipe's suites and nothing else: mkosi would ask for debug symbols and sources too.
fn sources(recipe: &Recipe, mirrors: &MirrorSet) -> String {
    let components: Vec<&str> = recipe.debian.components.iter().map(AsRef::as_ref).collect();
    let stanza = |suite: &str| {
        format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: {}\nSigned-By: {KEYRING}\n\n",
            mirrors.for_suite(suite).urls().first().map_or("", String::as_str),
            components.join(" ")
        )
    };
    recipe.debian.suites.iter().map(|suite| stanza(suite.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mkosi_is_told_the_packages() {
        assert!(config(&["bash", "libc6"]).ends_with("\nBootable=no\nPackages=bash,libc6\n"));
    }

    #[test]
    fn the_script_is_one_that_sh_can_read() {
        let status = Command::new("sh").args(["-n", "-c", SCRIPT]).status().unwrap();
        assert!(status.success());
    }
}
