//! An Ignition config, and one that it is merged with.
#![no_main]

use image_config::ignition;
use image_config::user_data::source::Source;
use image_config::user_data::{Facts, Outcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: (&str, &[u8])| {
    let source = Source { name: "config".to_owned(), text: text.0.to_owned(), ..Source::default() };
    let mut facts = Facts::default();
    if let Outcome::Fetch(resources, _) = ignition::plan(&source, &facts) {
        facts.fetched = resources.into_iter().map(|resource| (resource, text.1.to_vec())).collect();
        let _ = ignition::plan(&source, &facts);
    }
});
