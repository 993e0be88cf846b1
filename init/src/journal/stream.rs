//! The stream protocol of `/run/systemd/journal/stdout`, sd_journal_stream_fd(3): seven header lines, then lines of text.

/// Longest line that is kept whole, `LineMax=` of journald.conf(5).
pub const LINE_MAX: usize = 48 << 10;
/// Longest header line.
const HEADER_MAX: usize = 1024;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Goes into `SYSLOG_IDENTIFIER=`.
    pub identifier: String,
    /// The unit, believed only when root says it.
    pub unit: String,
    /// Facility and level, `facility << 3 | level`.
    pub priority: u8,
    /// A `<N>` before a line is its level.
    pub level_prefix: bool,
    /// Also shown on the console.
    pub to_console: bool,
}

impl Header {
    /// The lines of the header, as a client sends them.
    pub fn lines(&self) -> String {
        let number = |flag: bool| u8::from(flag);
        format!(
            "{}\n{}\n{}\n{}\n0\n0\n{}\n",
            one_line(&self.identifier),
            one_line(&self.unit),
            self.priority,
            number(self.level_prefix),
            number(self.to_console)
        )
    }

    /// The same as one word, for the descriptor store.
    pub fn to_word(&self) -> String {
        self.lines().trim_end_matches('\n').replace('\n', "\u{1}")
    }

    /// Reads what [`Header::to_word`] wrote.
    pub fn from_word(word: &str) -> Option<Header> {
        let mut stream = Stream::default();
        for line in word.split('\u{1}') {
            stream.header_line(line).ok()?;
        }
        (stream.state == HEADER_LINES).then_some(stream.header)
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(255).collect()
}

/// How a line came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreak {
    /// A line end.
    Newline,
    /// It was too long.
    LineMax,
    /// A NUL byte.
    Nul,
    /// The stream ended, or another process went on with it.
    Eof,
}

impl LineBreak {
    /// The value of `_LINE_BREAK=`, which plain line ends do without.
    pub fn word(self) -> Option<&'static str> {
        match self {
            LineBreak::Newline => None,
            LineBreak::LineMax => Some("line-max"),
            LineBreak::Nul => Some("nul"),
            LineBreak::Eof => Some("eof"),
        }
    }
}

/// A line of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its level, 0 to 7.
    pub level: u8,
    /// Its bytes, without prefix and end.
    pub text: &'a [u8],
    /// How it ended.
    pub end: LineBreak,
}

const HEADER_LINES: usize = 7;

/// The header is not as it should be; the connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the header of a stream is not understood")]
pub struct HeaderError {
    /// Which line, from 1 on.
    pub line: usize,
}

/// Reads a stream as it comes in.
#[derive(Debug, Default)]
pub struct Stream {
    header: Header,
    /// Header lines seen.
    state: usize,
    bytes: Vec<u8>,
}

impl Stream {
    /// A stream whose header was read in an earlier life of the daemon.
    pub fn resumed(header: Header) -> Stream {
        Stream { header, state: HEADER_LINES, bytes: Vec::new() }
    }

    /// The header once it is complete.
    pub fn header(&self) -> Option<&Header> {
        Some(&self.header).filter(|_| self.state == HEADER_LINES)
    }

    /// Forgets the unit: who sent the header may not speak for one.
    pub fn forget_unit(&mut self) {
        self.header.unit.clear();
    }

    /// Takes in bytes and gives the lines that are complete.
    ///
    /// # Errors
    /// [`HeaderError`]: this is not the protocol.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&Header, Line<'_>)) -> Result<(), HeaderError> {
        let mut rest = bytes;
        while self.state < HEADER_LINES {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.bytes.extend_from_slice(rest);
                let too_long = self.bytes.len() > HEADER_MAX;
                return if too_long { Err(HeaderError { line: self.state + 1 }) } else { Ok(()) };
            };
            self.bytes.extend_from_slice(rest.get(..end).unwrap_or_default());
            rest = rest.get(end + 1..).unwrap_or_default();
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
            self.header_line(&text)?;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | 0)) {
            let how = if rest.get(end) == Some(&0) { LineBreak::Nul } else { LineBreak::Newline };
            self.collect(rest.get(..end).unwrap_or_default(), &mut line);
            self.finish(how, &mut line);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        self.collect(rest, &mut line);
        Ok(())
    }

    /// Gives what is left as a line, if anything is.
    pub fn flush(&mut self, mut line: impl FnMut(&Header, Line<'_>)) {
        if self.state == HEADER_LINES {
            self.finish(LineBreak::Eof, &mut line);
        }
    }

    fn collect(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&Header, Line<'_>)) {
        while self.bytes.len() + bytes.len() > LINE_MAX {
            let (now, later) = bytes.split_at(LINE_MAX.saturating_sub(self.bytes.len()).min(bytes.len()));
            self.bytes.extend_from_slice(now);
            self.finish(LineBreak::LineMax, line);
            bytes = later;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(&mut self, end: LineBreak, line: &mut impl FnMut(&Header, Line<'_>)) {
        let prefix = match self.bytes.get(..3) {
            Some([b'<', digit @ b'0'..=b'7', b'>']) if self.header.level_prefix => Some(digit - b'0'),
            _ => None,
        };
        let text = self.bytes.get(prefix.map_or(0, |_| 3)..).unwrap_or_default().trim_ascii_end();
        if !text.is_empty() {
            line(&self.header, Line { level: prefix.unwrap_or(self.header.priority & 7), text, end });
        }
        self.bytes.clear();
        self.bytes.shrink_to(512);
    }

    fn header_line(&mut self, text: &str) -> Result<(), HeaderError> {
        let error = HeaderError { line: self.state + 1 };
        let flag = || image_config::unit::value::boolean(text).map_err(|_| error.clone());
        match self.state {
            0 => self.header.identifier = text.trim().to_owned(),
            1 => self.header.unit = text.trim().to_owned(),
            2 => self.header.priority = text.parse().map_err(|_| error.clone())?,
            3 => self.header.level_prefix = flag()?,
            // To syslog and to the kernel's log: there is no other daemon to forward to.
            4 | 5 => drop(flag()?),
            6 => self.header.to_console = flag()?,
            _ => return Err(error),
        }
        self.state += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            identifier: "app".to_owned(),
            unit: "app.service".to_owned(),
            priority: 30,
            level_prefix: true,
            to_console: false,
        }
    }

    fn lines(parts: &[&[u8]]) -> Vec<(u8, String, LineBreak)> {
        let mut stream = Stream::default();
        let mut seen = Vec::new();
        let mut note = |_: &Header, line: Line<'_>| {
            seen.push((line.level, String::from_utf8_lossy(line.text).into_owned(), line.end));
        };
        for part in parts {
            stream.push(part, &mut note).unwrap();
        }
        stream.flush(&mut note);
        seen
    }

    #[test]
    fn lines_have_levels_and_ends() {
        let head = header().lines();
        let seen = lines(&[head.as_bytes(), b"one\n<3>t", b"wo\n\n<9>x\0", b"rest"]);
        assert_eq!(
            seen,
            [
                (6, "one".to_owned(), LineBreak::Newline),
                (3, "two".to_owned(), LineBreak::Newline),
                (6, "<9>x".to_owned(), LineBreak::Nul),
                (6, "rest".to_owned(), LineBreak::Eof),
            ]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let seen = lines(&[header().lines().as_bytes(), &vec![b'x'; LINE_MAX + 10], b"\n"]);
        assert_eq!(seen.iter().map(|(_, text, _)| text.len()).collect::<Vec<_>>(), [LINE_MAX, 10]);
        assert_eq!(seen[0].2, LineBreak::LineMax);
    }

    #[test]
    fn a_header_that_is_none_is_refused_and_one_survives_a_restart() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(b"a\nb\nnumber\n", |_, _| ()), Err(HeaderError { line: 3 }));
        assert_eq!(Header::from_word(&header().to_word()), Some(header()));
        assert_eq!(Header::from_word("a"), None);
    }

    proptest! {
        #[test]
        fn how_it_is_cut_does_not_matter(text in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..400) {
            let whole = [header().lines().as_bytes(), &text].concat();
            let at = at.min(whole.len());
            prop_assert_eq!(lines(&[&whole]), lines(&[&whole[..at], &whole[at..]]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = Stream::default();
            let _refused = stream.push(&bytes, |_, _| ());
            stream.flush(|_, _| ());
        }
    }
}
