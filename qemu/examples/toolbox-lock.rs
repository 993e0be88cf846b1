//! Writes `toolbox.lock` anew on standard output: the same packages in the versions that Debian has now.
//! `cargo run -p qemu --example toolbox-lock > /tmp/new && mv /tmp/new qemu/toolbox.lock`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use debian::archive::{Archive, Config};
use debian::cache::Cache;
use debian::mirrors::MirrorSet;
use qemu::toolbox::{LOCK, current, list};

fn main() -> Result<(), Box<dyn Error>> {
    let mirrors = MirrorSet::discover(&[], &[], Path::new("/"));
    let config = Config::debian("trixie", &mirrors, Cache::from_env())?;
    let archive = Archive::open(config, Arc::new(debian::progress::Silent))?;
    print!("{}", list::format(&current(&archive, &list::parse(LOCK)?)?));
    Ok(())
}
