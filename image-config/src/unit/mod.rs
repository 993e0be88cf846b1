//! systemd unit files.

mod name;

pub use self::name::{
    LONGEST_NAME, UnitName, UnitNameError, UnitType, escape, escape_path, unescape, unescape_path,
};
