//! A cloud-config, whatever its first line is.
#![no_main]

use image_config::user_data::UserData;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = UserData::read_cloud_config("user-data", bytes) {
        let _ = data.validate().map_or_else(|found| found.to_string(), |found| found.to_string());
    }
});
