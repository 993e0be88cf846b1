//! What a run is about to make, on the disk before it makes any of it: so that going on after a power cut finds its own files no
//! obstacle, and appends to none of them twice. A note that came after its file would be lost by a cut that the file survives, and
//! Ignition would refuse its own file in every later boot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use image_config::user_data::plan::{File as Written, Step};
use init::boot::identity;

/// Before the length and path of a file that something is appended to.
const APPEND: &str = "append ";

/// What an earlier, interrupted run may have done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing.
    Nothing,
    /// It made the file.
    Made,
    /// It appended to the file, which had so many bytes before.
    Appended(u64),
}

/// What an interrupted run may have made, by a file that is removed when all is done: a line for each path that was not there before, and
/// for each file that is appended to, with its length before.
#[derive(Debug, Default)]
pub struct Journey {
    made: BTreeSet<String>,
    lengths: BTreeMap<String, u64>,
}

impl Journey {
    /// Goes on with the journey that is noted at `path`, or begins one, and notes what `steps` make below `root` and nobody has noted
    /// yet. What this run notes is not what an earlier one has made.
    ///
    /// # Errors
    /// The file cannot be read or written, or does not reach the disk.
    pub fn begin<'s>(path: &Path, root: &Path, steps: impl Iterator<Item = &'s Step>) -> io::Result<Self> {
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // A line without its end is one that a power cut has cut.
        let whole = before.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut journey = Self::default();
        for line in whole.lines() {
            match line.strip_prefix(APPEND).and_then(|rest| rest.split_once(' ')) {
                Some((length, path)) => {
                    let length = length.parse().map_err(io::Error::other)?;
                    journey.lengths.insert(path.to_owned(), length);
                }
                None => drop(journey.made.insert(line.to_owned())),
            }
        }
        let mut text = whole.lines().map(|line| format!("{line}\n")).collect::<String>();
        steps.filter_map(|step| journey.note(root, step)).for_each(|note| text.push_str(&note));
        identity::replace(path, 0o600, text.as_bytes())?;
        Ok(journey)
    }

    /// One that is noted nowhere: for what may be done again.
    pub fn unnoted() -> Self {
        Self::default()
    }

    /// The line of what a step makes, if there is none yet.
    fn note(&self, root: &Path, step: &Step) -> Option<String> {
        let found = |path: &str| root.join(path.trim_start_matches('/')).symlink_metadata().ok();
        let path = match step {
            Step::WriteFile(file) if file.contents.is_none() => {
                let length = found(&file.path).map_or(0, |present| present.len());
                let is_new = !self.lengths.contains_key(&file.path);
                return is_new.then(|| format!("{APPEND}{length} {}\n", file.path));
            }
            Step::WriteFile(file) => &file.path,
            Step::MakeDirectory(folder) => &folder.path,
            Step::MakeLink(link) => &link.path,
            _ => return None,
        };
        (!self.made.contains(path) && found(path).is_none()).then(|| format!("{path}\n"))
    }

    /// Whether an earlier run was about to make this path, which was not there before.
    pub fn has_made(&self, path: &str) -> bool {
        self.made.contains(path)
    }

    /// What an earlier run may have done to a file that is now written, or appended to.
    pub fn earlier(&self, file: &Written) -> Earlier {
        match (&file.contents, self.lengths.get(&file.path)) {
            (None, Some(length)) => Earlier::Appended(*length),
            (Some(_), _) if self.has_made(&file.path) => Earlier::Made,
            _ => Earlier::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use image_config::user_data::plan::{Contents, Directory, Existing, Owner};

    use super::*;

    fn file(path: &str, contents: Option<Contents>) -> Written {
        let (owner, existing) = (Owner::default(), Existing::Refuse);
        Written { path: path.to_owned(), mode: None, owner, contents, append: Vec::new(), existing }
    }

    #[test]
    fn only_what_an_earlier_run_was_about_to_make_counts() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("journey");
        std::fs::write(root.path().join("theirs"), "12345").unwrap();
        let whole = |path| file(path, Some(Contents::Inline(Vec::new())));
        let files = [whole("/a b"), whole("/theirs"), file("/theirs", None), file("/grown", None)];
        let mut steps: Vec<_> = files.iter().cloned().map(|file| Step::WriteFile(Box::new(file))).collect();
        let earlier = |journey: &Journey| files.each_ref().map(|file| journey.earlier(file));

        let first = Journey::begin(&path, root.path(), steps.iter()).unwrap();
        assert_eq!(earlier(&first), [Earlier::Nothing; 4], "this run is not an earlier one");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/a b\nappend 5 /theirs\nappend 0 /grown\n");

        // What the first run made, and half a line of the next one's.
        for name in ["a b", "theirs", "grown"] {
            std::fs::write(root.path().join(name), "more than before").unwrap();
        }
        let noted = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, noted + "/cut").unwrap();
        let (owner, existing) = (Owner::default(), Existing::default());
        steps.push(Step::MakeDirectory(Directory { path: "/d".to_owned(), mode: None, owner, existing }));
        let second = Journey::begin(&path, root.path(), steps.iter()).unwrap();
        let want = [Earlier::Made, Earlier::Nothing, Earlier::Appended(5), Earlier::Appended(0)];
        assert_eq!(earlier(&second), want);
        assert!(!second.has_made("/cut") && !second.has_made("/d"));

        let third = Journey::begin(&path, root.path(), steps.iter()).unwrap();
        assert!(third.has_made("/d") && !third.has_made("/cut") && earlier(&third) == want);
        assert_eq!(earlier(&Journey::unnoted()), [Earlier::Nothing; 4]);
    }
}
