//! Bytes of any source: detection, gzip, multipart, and whatever is in them, to a plan.
#![no_main]

use image_config::user_data::{Facts, UserData};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = UserData::read("user-data", bytes) {
        let _ = data.addresses();
        let _ = data.plan(&Facts::default());
        let _ = data.validate().map_or_else(|found| found.to_string(), |found| found.to_string());
    }
});
