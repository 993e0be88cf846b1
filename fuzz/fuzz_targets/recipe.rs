//! An image recipe.
#![no_main]

use std::path::Path;

use image_config::recipe::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Recipe::parse("recipe.yaml", bytes, Path::new("/")).map_err(|found| found.to_string());
});
