//! `journalctl`: shows what the journal has kept, with systemd's options, formats and exit codes (journalctl(1)).

mod files;
mod json;
mod options;
mod output;
mod show;
mod time;
mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::options::{Action, Options};
use self::output::{Format, Printer, Style};
use crate::journal::entry::Stamp;
use crate::journal::export::Record;
use crate::journal::query::Journal;
use crate::journal::{folder, ports, start, varlink};

const HELP: &str = "\
journalctl [OPTIONS...] [MATCHES...]

What is shown:
  -b --boot[=ID]            this boot, the one before (-1), the oldest (1), or by its id
  -u --unit=UNIT            of a unit or a pattern of units; may be repeated
  -t --identifier=NAME      of a syslog identifier; -T leaves one out
  -p --priority=LEVEL       this level and louder, or FROM..TO
     --facility=NAME[,...]  of syslog facilities
  -g --grep=PATTERN         whose message matches a regular expression
  -k --dmesg                the kernel's, of this boot
  -S --since=TIME           not older than TIME: today, -1h, \"2026-11-26 02:56\", @SECONDS
  -U --until=TIME           not newer than TIME
  -c --cursor=CURSOR        from an entry on; --after-cursor behind it
     --cursor-file=FILE     behind the cursor in FILE, which is kept up to date
  FIELD=VALUE ...           of a field; one field twice is either, two fields are both, + is or

How:
  -o --output=FORMAT        short, short-precise, short-iso, short-monotonic, verbose, export, json, cat ...
     --output-fields=LIST   only these fields in verbose, export, json, cat
  -n --lines[=[+]N]         the last (+: first) N, 10 if not said
  -f --follow               and what comes
  -r --reverse              newest first
  -a --all                  long and unprintable values too
  -e --pager-end            the last 1000 of this boot
  -q --quiet, --utc, --no-hostname, --show-cursor, --no-tail, --no-pager, -x

Other:
  --list-boots  --disk-usage  --header  -N --fields  -F --field=NAME
  --vacuum-size=BYTES  --vacuum-time=SPAN  --vacuum-files=N
  --rotate  --sync  --flush
  -D --directory=PATH  --file=PATH  --root=PATH
";

/// Runs `journalctl`.
pub fn run(arguments: &[String]) -> ExitCode {
    let result = Options::parse(arguments, Stamp::now().realtime).map_err(Failure::Text).and_then(act);
    match result {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has read enough.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// For the person who asked.
    #[error("{0}")]
    Text(String),
    /// The system's.
    #[error("journalctl: {0}")]
    Io(#[from] io::Error),
}

fn act(options: Options) -> Result<u8, Failure> {
    for method in &options.ask {
        ask(method)?;
    }
    match &options.action {
        Action::Ask => return Ok(0),
        Action::Help => {
            print!("{HELP}");
            return Ok(0);
        }
        Action::Formats => {
            Format::names().for_each(|name| println!("{name}"));
            return Ok(0);
        }
        Action::Version => {
            println!("ferrite {}", env!("CARGO_PKG_VERSION"));
            return Ok(0);
        }
        _ => {}
    }
    let journal = open(&options)?;
    match options.action.clone() {
        Action::ListBoots => files::list_boots(&journal, &options),
        Action::DiskUsage => files::disk_usage(&journal),
        Action::Header => files::header(&journal),
        Action::Vacuum => files::vacuum(&journal, &options),
        Action::Fields => show::fields(journal, None),
        Action::Field(name) => show::fields(journal, Some(&name)),
        _ => show::show(journal, options),
    }
}

fn ask(method: &str) -> Result<(), Failure> {
    let path = Path::new(ports::FOLDER).join(varlink::NAME);
    varlink::call(&path, method)
        .map_err(|error| Failure::Text(format!("Failed to ask the journal for {method}: {error}")))
}

fn open(options: &Options) -> Result<Journal, Failure> {
    if let [file] = options.files.as_slice() {
        return Journal::of_file(Path::new(file))
            .map_err(|error| Failure::Text(format!("Failed to open {file}: {error}")));
    }
    let folders = match &options.directory {
        Some(folder) => with_subfolders(Path::new(folder))
            .map_err(|error| Failure::Text(format!("Failed to open {folder}: {error}")))?,
        None => {
            let root = Path::new(options.root.as_deref().unwrap_or("/"));
            folder::of_machine(root, &start::machine(root).machine.to_string())
        }
    };
    match Journal::open(folders) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Failure::Text(
            "No journal files were opened due to insufficient permissions.\n\
             Hint: users in group 'systemd-journal' or 'adm' can see all messages."
                .to_owned(),
        )),
        journal => Ok(journal?),
    }
}

/// A folder of files, or one of folders of machines.
fn with_subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    let entries = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    folders.extend(entries.filter(|path| path.is_dir()));
    Ok(folders)
}

/// An entry as a line of `systemctl status`.
pub fn line(record: &Record) -> String {
    let style = Style {
        format: Format::Short,
        fields: Vec::new(),
        all: false,
        utc: false,
        no_hostname: false,
        colours: false,
    };
    let mut out = Vec::new();
    Printer::new(style).print(record, &mut out);
    String::from_utf8_lossy(&out).trim_end_matches('\n').to_owned()
}
