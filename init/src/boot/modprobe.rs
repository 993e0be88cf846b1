//! `modprobe`: loads modules by name or alias. The kernel runs it when it misses one (`/proc/sys/kernel/modprobe`); images
//! with kmod have that program's instead.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::coldplug::Library;

/// Where the image keeps this program under its name.
pub const PATH: &str = "/usr/lib/ferrite/modprobe";
/// Where the kernel reads which program to run.
const SETTING: &str = "/proc/sys/kernel/modprobe";

/// Tells the kernel to run this program when the one that it knows is not there.
///
/// # Errors
/// The setting cannot be read or written.
pub fn register() -> io::Result<()> {
    let known = fs::read_to_string(SETTING)?;
    match wanted(&known, &|path| Path::new(path).exists()) {
        Some(path) => fs::write(SETTING, path),
        None => Ok(()),
    }
}

/// What to write to the setting, if anything: an empty one was switched off by somebody.
fn wanted(known: &str, exists: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    let known = known.trim();
    (!known.is_empty() && !exists(known) && exists(PATH)).then_some(PATH)
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Request {
    quiet: bool,
    /// `-a`: every word is a module; else the words behind the first are its parameters, which are not taken.
    all: bool,
    names: Vec<String>,
}

fn parse(words: &[String]) -> Result<Request, String> {
    let mut request = Request::default();
    let mut only_names = false;
    for word in words {
        match word.as_str() {
            name if only_names || !name.starts_with('-') => request.names.push(name.to_owned()),
            "--" => only_names = true,
            "-q" | "--quiet" | "-s" | "--syslog" | "-b" | "--use-blacklist" | "-v" | "--verbose" => {
                request.quiet |= matches!(word.as_str(), "-q" | "--quiet");
            }
            "-a" | "--all" => request.all = true,
            "-qa" | "-aq" => (request.all, request.quiet) = (true, true),
            other => return Err(format!("option {other} is not known")),
        }
    }
    if !request.all && request.names.len() > 1 {
        return Err("parameters come from /etc/modprobe.d, not from the command line".to_owned());
    }
    Ok(request)
}

/// Runs `modprobe`: 0 when all modules are loaded or built in, 1 when one is not.
pub fn run(words: &[String]) -> ExitCode {
    let request = match parse(words) {
        Ok(request) => request,
        Err(problem) => {
            eprintln!("modprobe: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let library = Library::open();
    let index = library.index();
    let mut good = true;
    for name in &request.names {
        let modules = if index.plan(name).is_empty() { index.for_device(name) } else { vec![name.as_str()] };
        let problems: Vec<String> = modules.iter().flat_map(|module| library.load(&index, module)).collect();
        let built_in = || Path::new("/sys/module").join(name.replace('-', "_")).is_dir();
        if modules.is_empty() && !built_in() {
            good = false;
            if !request.quiet {
                eprintln!("modprobe: FATAL: Module {name} not found.");
            }
        }
        for problem in &problems {
            good = false;
            eprintln!("modprobe: {problem}");
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_understood() {
        let words = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let request = words("-q -- net-pf-10").unwrap();
        assert_eq!((request.quiet, request.names), (true, vec!["net-pf-10".to_owned()]));
        assert_eq!(words("-a one two").unwrap().names.len(), 2);
        assert!(words("one debug=1").is_err() && words("-r one").is_err());
    }

    #[test]
    fn kmods_program_stays_and_a_missing_one_is_replaced() {
        let only = |present: &'static [&'static str]| move |path: &str| present.contains(&path);
        assert_eq!(wanted("/sbin/modprobe\n", &only(&["/sbin/modprobe", PATH])), None);
        assert_eq!(wanted("/sbin/modprobe\n", &only(&[PATH])), Some(PATH));
        assert_eq!(wanted("/sbin/modprobe\n", &only(&[])), None);
        assert_eq!(wanted("\n", &only(&[PATH])), None);
    }
}
