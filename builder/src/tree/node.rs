//! One inode of an image: type, owner, mode, attributes, and who brought it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::content::FileData;

/// Who brought a file: a package ("bash 5.2.37-2"), a recipe line ("recipes/ferrite.yaml:31"). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Option<Arc<str>>);

impl Origin {
    /// An origin shown as `name` in messages and manifests.
    pub fn new(name: &str) -> Self {
        Self(Some(Arc::from(name)))
    }

    /// The origin of directories that exist only because something lies below them.
    pub const fn implied() -> Self {
        Self(None)
    }

    /// Whether nobody brought this directory by name.
    pub const fn is_implied(&self) -> bool {
        self.0.is_none()
    }

    /// The name as given to [`Origin::new`], "a path below it" for implied ones.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("a path below it")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.as_str())
    }
}

/// Owner, permissions and time of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
}

impl Meta {
    /// Metadata of root's files: owner 0:0.
    pub const fn root(mode: u16, mtime: u64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }
}

/// Extended attributes by full name (`security.capability`).
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Entries of a directory by name (no `/`, no NUL, not `.` or `..`).
pub type Entries = BTreeMap<Vec<u8>, Node>;

/// What an inode is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory and its entries.
    Directory(Entries),
    /// A regular file. Names that share one `Arc` are hard links of one inode.
    File(Arc<FileData>),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

impl Kind {
    /// What to call it in a message.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::File(_) => "file",
            Self::Symlink(_) => "symbolic link",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
        }
    }

    /// A file that holds these bytes.
    pub fn file(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::File(Arc::new(FileData::from_bytes(bytes)))
    }

    /// A directory without entries.
    pub const fn empty_directory() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

/// One name in the tree and what it stands for.
#[derive(Debug, Clone)]
pub struct Node {
    /// Owner, mode, time. Names that are hard links of one file must carry the same.
    pub meta: Meta,
    /// Extended attributes, the same for all hard links of one file.
    pub xattrs: Xattrs,
    /// Type and content.
    pub kind: Kind,
    /// Who brought it.
    pub origin: Origin,
}

impl Node {
    /// A node without extended attributes.
    pub const fn new(kind: Kind, meta: Meta, origin: Origin) -> Self {
        Self { meta, xattrs: BTreeMap::new(), kind, origin }
    }

    /// The entries when this is a directory.
    pub const fn entries(&self) -> Option<&Entries> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// The file data when this is a regular file.
    pub const fn file(&self) -> Option<&Arc<FileData>> {
        match &self.kind {
            Kind::File(data) => Some(data),
            _ => None,
        }
    }
}
