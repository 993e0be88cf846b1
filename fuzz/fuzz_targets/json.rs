//! JSON to a tree with positions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = image_config::json::parse("text", text);
});
