//! Showing entries: from where, how many, and what comes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Failure;
use super::options::{BootChoice, FromCursor, Options};
use super::output::{Format, Printer, Style};
use crate::journal::entry::Id;
use crate::journal::export::{Cursor, Record};
use crate::journal::query::{Journal, boots, seek_tail};
use crate::journal::start;

/// Bytes that are collected before they are written.
const CHUNK: usize = 32 << 10;

/// Shows what is wanted.
pub fn show(mut journal: Journal, mut options: Options) -> Result<u8, Failure> {
    if journal.files().is_empty() && !options.follow && !options.quiet {
        eprintln!("No journal files were found.");
    }
    if let Some(choice) = options.boot {
        options.filter.boot = Some(choose_boot(&journal, choice)?);
    }
    if let Some(path) = &options.cursor_file
        && let Ok(text) = fs::read_to_string(path)
    {
        let cursor = Cursor::parse(text.trim());
        let cursor = cursor.ok_or_else(|| Failure::Text(format!("Failed to parse cursor in {path}")))?;
        options.cursor = Some(FromCursor { cursor, after: true });
    }
    let mut session = Session {
        out: io::stdout().lock(),
        bytes: Vec::with_capacity(2 * CHUNK),
        printer: Printer::new(style(&options)),
        last: None,
        shown: 0,
    };
    let mut record = Record::default();
    if options.reverse {
        session.backwards(&mut journal, &mut record, &options)?;
    } else {
        session.forwards(&mut journal, &mut record, &options)?;
    }
    session.flush()?;
    if options.follow {
        session.follow(&mut journal, &mut record, &options)?;
    }
    if session.shown == 0 && !options.quiet && is_for_people(options.format) {
        writeln!(session.out, "-- No entries --")?;
    }
    if let Some(cursor) = &session.last {
        if options.show_cursor {
            writeln!(session.out, "-- cursor: {cursor}")?;
        }
        if let Some(path) = &options.cursor_file {
            fs::write(path, format!("{cursor}\n"))?;
        }
    }
    session.out.flush()?;
    if journal.denied() > 0 && !options.quiet {
        eprintln!("Hint: {} journal files are not readable for this user.", journal.denied());
    }
    Ok(u8::from(session.shown == 0 && options.filter.grep.is_some()))
}

fn is_for_people(format: Format) -> bool {
    use Format::{Export, Json, JsonPretty, JsonSeq, JsonSse};
    !matches!(format, Export | Json | JsonPretty | JsonSse | JsonSeq)
}

fn style(options: &Options) -> Style {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var("SYSTEMD_COLORS").is_ok_and(|value| matches!(value.as_str(), "0" | "no" | "false"))
        || std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
    Style {
        format: options.format,
        fields: options.output_fields.clone(),
        all: options.all,
        utc: options.utc,
        no_hostname: options.no_hostname,
        colours: !plain && io::stdout().is_terminal(),
    }
}

struct Session {
    out: io::StdoutLock<'static>,
    bytes: Vec<u8>,
    printer: Printer,
    last: Option<Cursor>,
    shown: u64,
}

impl Session {
    fn print(&mut self, record: &Record) -> io::Result<()> {
        self.printer.print(record, &mut self.bytes);
        self.last = Some(record.cursor);
        self.shown += 1;
        if self.bytes.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        self.bytes.shrink_to(2 * CHUNK);
        self.out.flush()
    }

    fn forwards(&mut self, journal: &mut Journal, record: &mut Record, options: &Options) -> io::Result<()> {
        let filter = &options.filter;
        let count = options.lines.flatten();
        match (&options.cursor, count.filter(|_| !options.from_start)) {
            (None, Some(count)) => drop(seek_tail(journal, filter, count)?),
            (None, None) => journal.seek_start(),
            (Some(from), _) => seek_cursor(journal, record, *from)?,
        }
        let most = count.unwrap_or(u64::MAX);
        while self.shown < most && journal.next(record, &|file| filter.skips(file))? {
            if filter.wants(record) {
                self.print(record)?;
            }
        }
        Ok(())
    }

    fn backwards(&mut self, journal: &mut Journal, record: &mut Record, options: &Options) -> io::Result<()> {
        let filter = &options.filter;
        let most = options.lines.flatten().unwrap_or(u64::MAX);
        journal.seek_end()?;
        while self.shown < most && journal.back(record, &|file| filter.skips(file))? {
            if let Some(FromCursor { cursor, after }) = options.cursor
                && is_same_sequence(&cursor, &record.cursor)
                && (record.cursor.sequence < cursor.sequence
                    || after && record.cursor.sequence == cursor.sequence)
            {
                break;
            }
            if filter.wants(record) {
                self.print(record)?;
            }
        }
        Ok(())
    }

    /// Shows what comes, until somebody ends it.
    fn follow(&mut self, journal: &mut Journal, record: &mut Record, options: &Options) -> io::Result<()> {
        let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let mut watched = 0;
        for folder in journal.folders() {
            watched += usize::from(inotify::add_watch(&news, folder, flags).is_ok());
        }
        for file in journal.files().iter().filter(|_| journal.folders().is_empty()) {
            watched += usize::from(inotify::add_watch(&news, &file.path, flags).is_ok());
        }
        // A folder that is not there yet cannot be watched: it is looked for.
        let timeout = if watched == 0 || watched < journal.folders().len() { Some(seconds(2)) } else { None };
        loop {
            while journal.follow(record)? {
                if options.filter.wants(record) {
                    self.print(record)?;
                }
            }
            self.flush()?;
            let mut waits = [
                PollFd::new(&news, PollFlags::IN),
                // Errors are reported without being asked for: the reader of a pipe has gone.
                PollFd::new(&self.out, PollFlags::empty()),
            ];
            match poll(&mut waits, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if waits.iter().any(|wait| wait.revents().intersects(PollFlags::ERR | PollFlags::NVAL)) {
                return Ok(());
            }
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&news, &mut buffer);
            while reader.next().is_ok() {}
        }
    }
}

fn seconds(count: i64) -> rustix::event::Timespec {
    rustix::event::Timespec { tv_sec: count, tv_nsec: 0 }
}

fn is_same_sequence(one: &Cursor, other: &Cursor) -> bool {
    one.sequence_id == other.sequence_id
}

/// Goes to the entry of a cursor, or behind it; where it is gone, to the first one after its time.
fn seek_cursor(journal: &mut Journal, record: &mut Record, from: FromCursor) -> io::Result<()> {
    let wanted = from.cursor;
    let first = journal.files().iter().position(|file| file.boot == wanted.boot);
    journal.seek((first.unwrap_or(0), 0))?;
    loop {
        let before = journal.position();
        if !journal.next(record, &|_| false)? {
            return Ok(());
        }
        let found = &record.cursor;
        let (reached, is_it) = if is_same_sequence(found, &wanted) {
            (found.sequence >= wanted.sequence, found.sequence == wanted.sequence)
        } else {
            (found.stamp.realtime > wanted.stamp.realtime, false)
        };
        if reached {
            return if is_it && from.after { Ok(()) } else { journal.seek(before) };
        }
    }
}

/// The boot that is meant.
fn choose_boot(journal: &Journal, choice: BootChoice) -> Result<Id, Failure> {
    let missing = |offset: i64| {
        let text = "No such boot ID in journal";
        Failure::Text(format!("Data from the specified boot ({offset:+}) is not available: {text}"))
    };
    let known = boots(journal)?;
    let current = start::machine(std::path::Path::new("/")).boot;
    if choice.id.is_none() && choice.offset == 0 && known.iter().any(|boot| boot.id == current) {
        return Ok(current);
    }
    let last = known.len().checked_sub(1).ok_or_else(|| missing(choice.offset))?;
    let base = match choice.id {
        Some(id) => known.iter().position(|boot| boot.id == id).ok_or_else(|| {
            Failure::Text(format!(
                "Data from the specified boot ({id}) is not available: No such boot ID in journal"
            ))
        })?,
        None if choice.offset > 0 => {
            let place = usize::try_from(choice.offset - 1).ok();
            return place
                .and_then(|place| known.get(place))
                .map(|boot| boot.id)
                .ok_or_else(|| missing(choice.offset));
        }
        None => last,
    };
    let place =
        i64::try_from(base).ok().and_then(|base| usize::try_from(base.checked_add(choice.offset)?).ok());
    place.and_then(|place| known.get(place)).map(|boot| boot.id).ok_or_else(|| missing(choice.offset))
}

/// Shows the names of all fields, or all values of one, each once.
pub fn fields(mut journal: Journal, wanted: Option<&str>) -> Result<u8, Failure> {
    let mut record = Record::default();
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    while journal.next(&mut record, &|_| false)? {
        match wanted {
            None => seen.extend(record.fields().map(|(name, _)| name.as_bytes().to_vec())),
            Some(field) => seen.extend(record.all(field).map(<[u8]>::to_vec)),
        }
    }
    let mut out = io::stdout().lock();
    for value in seen {
        out.write_all(&value)?;
        out.write_all(b"\n")?;
    }
    Ok(0)
}
