//! Time zones of this machine: `/etc/localtime` and tzdata.

use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::time::{TimeZone, TimeZones};

/// A zone file larger than this is none.
const LARGEST: u64 = 1 << 20;

/// Reads zone files below a root.
#[derive(Debug, Clone)]
pub struct ZoneFiles {
    /// Prefix of the machine's folders.
    pub root: PathBuf,
}

impl ZoneFiles {
    fn read(&self, path: &str) -> Option<TimeZone> {
        let path = self.root.join(path);
        let size = fs::metadata(&path).ok()?;
        if !size.is_file() || size.len() > LARGEST {
            return None;
        }
        TimeZone::parse(&fs::read(path).ok()?).ok()
    }
}

impl Default for ZoneFiles {
    fn default() -> Self {
        ZoneFiles { root: Path::new("/").to_owned() }
    }
}

impl TimeZones for ZoneFiles {
    fn local(&self) -> TimeZone {
        self.read("etc/localtime").unwrap_or_else(TimeZone::utc)
    }

    fn named(&self, name: &str) -> Option<TimeZone> {
        self.read(&format!("usr/share/zoneinfo/{name}"))
    }
}
