//! `ferrite man`: manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::failure::Failure;
use super::manual::{self, Entry};
use super::{USAGE, output};

/// Arguments of `man`.
#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// The command whose page is printed [default: ferrite itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write all pages into this folder, made when it is not there, and print their paths
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub out: Option<PathBuf>,
}

/// Prints or writes pages.
///
/// # Errors
/// stdout or a file cannot be written.
pub fn run(args: &ManArgs) -> Result<ExitCode> {
    let mut root = manual::command().disable_help_subcommand(true);
    root.build();
    if let Some(folder) = &args.out {
        let mut written = Vec::new();
        write_all(&root, "", folder, &mut written)?;
        output::print(written.concat())?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = args.command.iter().try_fold(&root, |command, name| command.find_subcommand(name));
    let Some(command) = found else {
        let error = anyhow::anyhow!("there is no command `ferrite {}`", args.command.join(" "));
        Failure::of(&error).with_hint("`ferrite --help` lists the commands").report(false);
        return Ok(ExitCode::from(USAGE));
    };
    output::print(page(command, &args.command.join(" "))?)?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(command: &Command, path: &str, folder: &Path, written: &mut Vec<String>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = folder.join(Man::new(command.clone()).get_filename());
    fs::write(&file, page(command, path)?).with_context(|| format!("cannot write {}", file.display()))?;
    written.push(format!("{}\n", file.display()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_all(sub, format!("{path} {}", sub.get_name()).trim_start(), folder, written)?;
    }
    Ok(())
}

/// The page of a command whose names below `ferrite` are `path`.
fn page(command: &Command, path: &str) -> Result<String> {
    let help = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string);
    let (description, codes) = manual::split_exit_codes(&help.unwrap_or_default());
    let mut command = command.clone();
    if !description.is_empty() {
        command = command.long_about(description);
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    // No date: the same program gives the same page.
    let man = Man::new(command.clone())
        .title(name)
        .date("")
        .source(concat!("Ferrite ", env!("CARGO_PKG_VERSION")))
        .manual("Ferrite Manual");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    let codes: Vec<(String, String)> =
        codes.into_iter().map(|(code, meaning)| (code.to_string(), sentence(&meaning))).collect();
    section(&mut roff, "EXIT STATUS", codes.iter().map(|(code, meaning)| (code.as_str(), meaning.as_str())));
    if let Some(notes) = manual::notes(path) {
        section(&mut roff, "FILES", notes.files.iter().copied());
        section(&mut roff, "ENVIRONMENT", notes.environment.iter().copied());
        let examples: Vec<(Entry, String)> =
            notes.examples.iter().map(|example| (*example, sentence(example.1))).collect();
        section(&mut roff, "EXAMPLES", examples.iter().map(|((line, _), what)| (*line, what.as_str())));
    }
    if !path.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("ferrite"), roman("(1)")]);
    }
    roff.to_writer(&mut out)?;
    Ok(String::from_utf8(out)?)
}

/// A section of words and their meanings; none when there are none.
fn section<'a>(roff: &mut Roff, title: &str, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (index, (word, meaning)) in entries.into_iter().enumerate() {
        if index == 0 {
            roff.control("SH", [title]);
        }
        roff.control("TP", []);
        roff.text([bold(word)]);
        roff.text([roman(meaning)]);
    }
}

/// With a capital at its start and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(path: &str) -> String {
        let mut root = manual::command().disable_help_subcommand(true);
        root.build();
        let command = path.split_whitespace().try_fold(&root, |command, name| command.find_subcommand(name));
        page(command.unwrap(), path).unwrap()
    }

    #[test]
    fn a_page_has_its_sections_in_the_usual_order() {
        let page = page_of("build");
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let want = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "FILES",
            "ENVIRONMENT",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ];
        assert_eq!(sections, want);
        assert!(page.contains("ferrite\\-build \\- Builds a disk image"), "{page}");
        assert!(page.contains("\n\\fB1\\fR\nRefused or failed, stderr says why.\n"), "{page}");
        assert!(!page.contains("Exit codes"), "{page}");
    }

    #[test]
    fn the_first_page_names_the_others() {
        let page = page_of("");
        for name in ["build", "run", "inspect", "validate", "doctor", "completions", "man"] {
            assert!(page.contains(&format!("ferrite\\-{name}(1)")), "{name}");
        }
    }

    #[test]
    fn texts_become_sentences() {
        assert_eq!(sentence("built"), "Built.");
        assert_eq!(sentence("What it is."), "What it is.");
        assert_eq!(sentence(""), ".");
    }
}
