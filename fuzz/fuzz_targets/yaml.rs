//! YAML to a tree with positions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = image_config::yaml::tree("text", text).map_err(|found| found.to_string());
});
