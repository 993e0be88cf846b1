//! The disk image in the formats that were asked for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use debian::progress::Progress;
use image_config::recipe::Recipe;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::steps::Steps;
use super::{BuildError, BuildOptions, Built, Manifest, Output, identity};
use crate::formats::{Format, Identity};

/// A disk image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its format.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
    /// Size of the file; less is stored of a sparse one.
    pub bytes: u64,
}

/// The path of the image `stem` in a format. The stem has dots of its own, so no extension is replaced.
pub fn image_path(folder: &Path, stem: &str, format: Format) -> PathBuf {
    folder.join(format!("{stem}.{format}"))
}

/// The formats that are made from the raw image, each once.
pub fn without_raw(formats: &[Format]) -> Vec<Format> {
    let mut others: Vec<_> = formats.iter().copied().filter(|format| *format != Format::Raw).collect();
    others.sort_unstable();
    others.dedup();
    others
}

/// The image in several formats, each file whole and none under its name yet.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    stem: String,
    outputs: Vec<(Format, Output)>,
}

impl Images {
    /// Writes these formats from a finished raw image.
    ///
    /// # Errors
    /// A file cannot be written, or a format has no room for the disk.
    pub fn convert(
        raw: &Path,
        (folder, stem): (&Path, &str),
        formats: &[Format],
        identity: &Identity,
        progress: &dyn Progress,
    ) -> Result<Self, BuildError> {
        let error = |path: &Path, source| BuildError::Output { path: path.to_owned(), source };
        let source = File::open(raw).map_err(|source| BuildError::Read { path: raw.to_owned(), source })?;
        let mut outputs: Vec<(Format, Output)> = Vec::new();
        for format in formats {
            let output = Output::new(&image_path(folder, stem, *format));
            let file = output.create().map_err(|source| error(output.temporary(), source))?;
            format
                .write(&source, &file, identity, progress)
                .map_err(|source| BuildError::Format { format: *format, source })?;
            outputs.push((*format, output));
        }
        Ok(Self { folder: folder.to_owned(), stem: stem.to_owned(), outputs })
    }

    /// Adds the raw image itself.
    #[must_use]
    pub fn with_raw(mut self, raw: Output) -> Self {
        self.outputs.push((Format::Raw, raw));
        self
    }

    /// Deletes what an earlier build has left in formats that this one does not write: beside the new image it would pass for
    /// it. Returns a note for each.
    ///
    /// # Errors
    /// The system's; the file is named.
    pub fn remove_stale(&self) -> Result<Vec<String>, BuildError> {
        let mut notes = Vec::new();
        for format in Format::ALL {
            if self.outputs.iter().any(|(written, _)| *written == format) {
                continue;
            }
            let path = image_path(&self.folder, &self.stem, format);
            match fs::remove_file(&path) {
                Ok(()) => notes.push(format!(
                    "deleted {}, which an earlier build wrote: `--format {format}` writes it anew",
                    path.display()
                )),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(BuildError::Output { path, source }),
            }
        }
        Ok(notes)
    }

    /// Gives the files their names. In the order of [`Format::ALL`].
    ///
    /// # Errors
    /// The system's; the file is named.
    pub fn publish(self) -> Result<Vec<BuiltImage>, BuildError> {
        let mut images = Vec::new();
        for (format, output) in self.outputs {
            let path = image_path(&self.folder, &self.stem, format);
            let published = output.publish().and_then(|path| Ok((fs::metadata(&path)?.len(), path)));
            let (bytes, path) = published.map_err(|source| BuildError::Output { path, source })?;
            images.push(BuiltImage { format, path, bytes });
        }
        images.sort_by_key(|image| image.format);
        Ok(images)
    }
}

/// Whether a build that was recorded has these formats or the raw image that they are made from.
pub fn can_complete(built: &Built, formats: &[Format]) -> bool {
    let has = |format: Format| built.images.iter().any(|image| image.format == format);
    has(Format::Raw) || formats.iter().all(|format| has(*format))
}

/// Takes a recorded build for this one, and writes the formats that it has not. The ones that it has and nobody asks for now
/// stay: they are of the same image.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn complete(
    record: &Record,
    options: &BuildOptions,
    recipe: &Recipe,
    mut steps: Steps,
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let stem = recipe.file_stem();
    // The build that was recorded may have been started from another folder.
    let here = |path: &Path| options.out.join(path.file_name().unwrap_or_default());
    let mut built = record.built.clone();
    (built.slot, built.manifest) = (here(&built.slot), here(&built.manifest));
    built.sbom = here(&built.sbom);
    built.images.iter_mut().for_each(|image| image.path = here(&image.path));
    let mut missing = without_raw(&options.formats);
    missing.retain(|format| built.images.iter().all(|image| image.format != *format));
    built.unchanged = missing.is_empty();
    if !built.unchanged {
        let read = |source| BuildError::Read { path: built.manifest.clone(), source };
        let manifest = Manifest::load(&built.manifest).map_err(read)?;
        let identity = identity(recipe, &manifest.root_hash, manifest.build_time);
        let raw = image_path(&options.out, &stem, Format::Raw);
        let place = (options.out.as_path(), stem.as_str());
        let images =
            steps.measure("formats", || Images::convert(&raw, place, &missing, &identity, progress))?;
        built.images.extend(images.publish()?);
        built.images.sort_by_key(|image| image.format);
        // Without a record the next build does everything again.
        let _ = record.store_again(&options.out, &stem, &built);
    }
    let first = options.formats.first().copied().unwrap_or(Format::Raw);
    built.image = image_path(&options.out, &stem, first);
    (built.seconds, built.steps) = steps.finish();
    if built.unchanged {
        built.steps.clear();
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use debian::progress::Silent;

    use super::*;
    use crate::formats::DiskImage;

    const STEM: &str = "demo-1.2.3-x86_64";

    fn convert(folder: &Path, formats: &[Format]) -> Images {
        let raw = Output::new(&image_path(folder, STEM, Format::Raw));
        raw.create().unwrap().set_len(3 << 20).unwrap();
        let identity = Identity::new("demo", "1.2.3", "00", 0);
        let others = without_raw(formats);
        let images = Images::convert(raw.temporary(), (folder, STEM), &others, &identity, &Silent).unwrap();
        if formats.contains(&Format::Raw) { images.with_raw(raw) } else { images }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_format_gets_a_file_of_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let asked = [Format::Vhd, Format::Qcow2, Format::RawZst, Format::Raw, Format::Qcow2];
        let images = convert(folder.path(), &asked);
        assert!(names(folder.path()).iter().all(|name| name.starts_with('.')), "nothing has its name yet");
        assert_eq!(images.remove_stale().unwrap(), [""; 0]);
        let built = images.publish().unwrap();
        assert_eq!(built.iter().map(|image| image.format).collect::<Vec<_>>(), Format::ALL);
        assert_eq!(
            names(folder.path()),
            ["qcow2", "raw", "raw.zst", "vhd"].map(|suffix| format!("{STEM}.{suffix}"))
        );
        for image in built {
            assert_eq!(fs::metadata(&image.path).unwrap().len(), image.bytes);
            let disk = DiskImage::open(&image.path).unwrap();
            assert_eq!((disk.format(), disk.bytes()), (image.format, 3 << 20));
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_left_to_mislead() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["demo-1.2.3-x86_64.qcow2", "demo-1.2.3-x86_64.vhd", "demo-1.2.4-x86_64.qcow2", "x.raw"] {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        let images = convert(folder.path(), &[Format::RawZst]);
        let notes = images.remove_stale().unwrap();
        images.publish().unwrap();
        assert_eq!(names(folder.path()), ["demo-1.2.3-x86_64.raw.zst", "demo-1.2.4-x86_64.qcow2", "x.raw"]);
        assert_eq!(notes.len(), 2);
        assert!(
            notes[0].contains("demo-1.2.3-x86_64.qcow2") && notes[0].contains("--format qcow2"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_build_that_fails_later_leaves_the_old_files() {
        let folder = tempfile::tempdir().unwrap();
        let old = image_path(folder.path(), STEM, Format::Qcow2);
        fs::write(&old, "old").unwrap();
        drop(convert(folder.path(), &Format::ALL));
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(names(folder.path()).len(), 1);
    }
}
