//! A tree to a cloud-config.

use super::{CloudConfig, accounts, coreos, files, machine, unsupported};
use crate::tree::Node;
use crate::user_data::report::{Fields, Report, Spelling};

/// Reads a cloud-config; what is wrong with it goes to the report.
///
/// What is wrong is left out of the result, so that it is a whole config without.
pub fn read(tree: &Node, report: &mut Report<'_>) -> CloudConfig {
    let mut config = CloudConfig::default();
    let Some(mut top) = report.fields(tree, "", Spelling::Lenient) else { return config };
    machine::hostname(&mut top, &mut config, report);
    accounts::top_keys(&mut top, &mut config, report);
    accounts::groups(&mut top, &mut config, report);
    accounts::users(&mut top, &mut config, report);
    files::write_files(&mut top, &mut config, report);
    machine::machine(&mut top, &mut config, report);
    coreos::coreos(&mut top, &mut config, report);
    misplaced(&mut top, report);
    unsupported::top(&mut top, report);
    top.finish(&[], report);
    config
}

/// Sections of `coreos` that stand beside it.
fn misplaced(top: &mut Fields<'_>, report: &mut Report<'_>) {
    for key in ["etcd", "etcd2", "fleet", "flannel", "locksmith", "units", "oem", "update"] {
        if let Some(entry) = top.entry(key) {
            let hint = "indent it, and what belongs to it, to put it there".to_owned();
            report.warn(entry.key_at, format!("`{key}` belongs below `coreos`: here it does nothing"), hint);
        }
    }
}
