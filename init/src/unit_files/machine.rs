//! A root folder with unit files, for the tests of this module.

use std::fs;
use std::path::Path;

use image_config::unit::UnitName;

use super::UnitFolders;
use super::install::Installer;
use super::state::FileState;

/// The folder; it goes when this does.
pub struct Machine(tempfile::TempDir);

impl Machine {
    /// With these files, paths from the root and texts.
    pub fn new(files: &[(&str, &str)]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = machine.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        machine
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Changes its links for good.
    pub fn installer(&self) -> Installer {
        Installer::new(self.root(), false, false)
    }

    /// Whether a unit is enabled.
    pub fn state(&self, unit: &str) -> FileState {
        UnitFolders::of_system(self.root()).state(&UnitName::parse(unit).unwrap())
    }

    /// Where a link in `/etc/systemd/system` points.
    pub fn target(&self, link: &str) -> Option<String> {
        let path = self.root().join("etc/systemd/system").join(link);
        fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
    }
}
