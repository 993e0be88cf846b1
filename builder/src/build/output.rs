//! Files that appear under their final names only when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use debian::temporary::Temporary;

/// A file under construction; deleted unless it is [`Output::publish`]ed.
#[derive(Debug)]
pub struct Output {
    temporary: Temporary,
    last: PathBuf,
}

impl Output {
    /// A file that will be `path`; it is built in the same folder, under a name of this process. What a killed build has left of
    /// it is deleted.
    pub fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        remove_leftovers(path, &name);
        let temporary = Temporary::new(path.with_file_name(format!(".{name}.{}.part", std::process::id())));
        Self { temporary, last: path.to_owned() }
    }

    /// Where to build it.
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// Creates the file, empty, to read and write.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.temporary())
    }

    /// Gives the finished file its name, replacing what had it.
    ///
    /// # Errors
    /// The system's; the file is deleted then.
    pub fn publish(self) -> io::Result<PathBuf> {
        self.temporary.publish(&self.last)?;
        Ok(self.last)
    }
}

/// Deletes partial files of processes that are gone. Failing to is no reason not to build.
fn remove_leftovers(path: &Path, name: &str) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let number = found.to_str().and_then(|found| {
            found.strip_prefix(&format!(".{name}."))?.strip_suffix(".part")?.parse::<u32>().ok()
        });
        if number.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_build_left_goes_and_what_a_running_one_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Process 1 always runs; no process has the largest number there can be.
        let kept = [".a.raw.1.part", ".b.raw.4294967295.part", ".a.raw.x.part"];
        for name in kept.iter().chain(&[".a.raw.4294967295.part"]) {
            fs::write(at(name), "half").unwrap();
        }
        drop(Output::new(&at("a.raw")));
        assert!(kept.iter().all(|name| at(name).exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), kept.len());
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.raw");
        fs::write(&path, "old").unwrap();
        let output = Output::new(&path);
        fs::write(output.temporary(), "half").unwrap();
        drop(output);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_finished_file_takes_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.raw");
        let output = Output::new(&path);
        fs::write(output.temporary(), "new").unwrap();
        output.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}
