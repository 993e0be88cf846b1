//! A lock file.
#![no_main]

use image_config::lock::Lock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Lock::parse("recipe.lock", bytes).map_err(|found| found.to_string());
});
