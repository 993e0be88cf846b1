//! Groups of machines that the server asks to hold: a plain file, read when it changes.
//!
//! What machines may take is in signed metadata. A group can only withhold: "stop" while something is looked at, or a
//! percentage below what the rollout would give. A forged answer therefore does no more than a cut wire.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::channel::ChannelName;
use crate::channel::report::Advice;

/// Seconds after which a machine that was told to hold asks again.
const ASK_AGAIN: u64 = 15 * 60;
/// The file is a few lines.
const MAX_BYTES: u64 = 1 << 20;

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Machines of a hundred that may go on: 0 to 100.
    #[serde(default = "all")]
    pub percentage: u8,
    /// Nobody may go on.
    #[serde(default)]
    pub stopped: bool,
    /// Why, for the owners of machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn all() -> u8 {
    100
}

impl Default for Group {
    fn default() -> Self {
        Self { percentage: 100, stopped: false, reason: None }
    }
}

/// Groups by the name that machines report (`GROUP=`); one that is not there is not withheld from.
pub type Groups = BTreeMap<ChannelName, Group>;

/// What to tell a machine.
pub fn advise(groups: &Groups, name: &str, machine: &str) -> Advice {
    let group = ChannelName::parse(name).and_then(|name| groups.get(&name).cloned()).unwrap_or_default();
    let hold = group.stopped || place(machine) >= u64::from(group.percentage.min(100));
    let reason = || match (&group.reason, group.stopped) {
        (Some(reason), _) => reason.clone(),
        (None, true) => format!("group {name} is stopped"),
        (None, false) => format!("group {name} goes on with {} % of its machines", group.percentage),
    };
    Advice { hold, reason: hold.then(reason), ask_again_seconds: hold.then_some(ASK_AGAIN) }
}

/// A machine's place among a hundred: stable, so that a larger percentage only ever adds machines.
fn place(machine: &str) -> u64 {
    let digest: [u8; 32] =
        Sha256::new().chain_update("ferrite-group-1\0").chain_update(machine).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 100
}

/// The file, as it was when it was last read.
#[derive(Debug)]
pub struct GroupsFile {
    path: PathBuf,
    last: Mutex<(Option<(SystemTime, u64)>, Groups)>,
}

impl GroupsFile {
    /// Of a path at which there may be nothing.
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new((None, Groups::new())) }
    }

    /// The groups now. A file that cannot be read leaves them as they were: a slip of the pen does not let everybody go.
    pub fn current(&self) -> Groups {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp =
            fs::metadata(&self.path).and_then(|metadata| Ok((metadata.modified()?, metadata.len()))).ok();
        if last.0 != stamp {
            match read(&self.path) {
                Ok(groups) => *last = (stamp, groups),
                Err(error) => {
                    super::log(&format!(
                        "the groups stay as they were: cannot read {}: {error}",
                        self.path.display()
                    ));
                    last.0 = stamp;
                }
            }
        }
        last.1.clone()
    }
}

/// Reads the groups; a file that is not there has none.
///
/// # Errors
/// The file cannot be read, or is not the JSON of groups.
pub fn read(path: &Path) -> io::Result<Groups> {
    use io::Read as _;
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Groups::new()),
        result => result?,
    };
    serde_json::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the groups, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, groups: &Groups) -> io::Result<()> {
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    serde_json::to_writer_pretty(&mut file, groups)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(percentage: u8, stopped: bool) -> Groups {
        let group = Group { percentage, stopped, reason: None };
        Groups::from([(ChannelName::parse("stable").unwrap(), group)])
    }

    #[test]
    fn a_group_withholds_from_the_same_machines_until_its_percentage_grows() {
        let machines: Vec<String> = (0..2000).map(|number| format!("{number:032x}")).collect();
        let held = |groups: &Groups| -> Vec<bool> {
            machines.iter().map(|machine| advise(groups, "stable", machine).hold).collect()
        };
        let (some, more) = (held(&groups(20, false)), held(&groups(60, false)));
        let count = |held: &[bool]| held.iter().filter(|held| !**held).count();
        assert!((320..480).contains(&count(&some)) && (1080..1320).contains(&count(&more)));
        assert!(
            some.iter().zip(&more).all(|(before, after)| *before || !*after),
            "whoever may go on still may"
        );
        assert_eq!((count(&held(&groups(100, false))), count(&held(&groups(0, false)))), (2000, 0));
        assert_eq!(count(&held(&groups(100, true))), 0);
    }

    #[test]
    fn nobody_is_withheld_from_without_a_group() {
        assert_eq!(
            advise(&groups(0, true), "beta", "x"),
            Advice { hold: false, reason: None, ask_again_seconds: None }
        );
        let held = advise(&groups(0, true), "stable", "x");
        assert_eq!(held.reason.as_deref(), Some("group stable is stopped"));
    }

    #[test]
    fn a_slip_in_the_file_lets_nobody_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groups.json");
        let file = GroupsFile::new(path.clone());
        assert!(file.current().is_empty());
        write(&path, &groups(100, true)).unwrap();
        assert_eq!(file.current(), groups(100, true));
        fs::write(&path, "{ \"stable\": { \"stoped\": false } }").unwrap();
        assert_eq!(file.current(), groups(100, true));
        fs::write(&path, "{ \"stable\": { \"percentage\": 5 } }").unwrap();
        assert_eq!(file.current(), groups(5, false));
    }
}
