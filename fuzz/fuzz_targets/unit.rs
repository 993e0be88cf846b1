//! A unit file: the first byte picks its type.
#![no_main]

use image_config::unit::{System, Unit, UnitName};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 8] =
    ["a.service", "a@b.socket", "a.timer", "a.path", "a-b.mount", "a.swap", "a.slice", "a.target"];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    if let Ok(name) = UnitName::parse(NAMES[usize::from(*first) % NAMES.len()]) {
        let (unit, _) = Unit::parse(&name, &[("unit", text)], &System::default());
        let _ = unit.problem();
    }
});
