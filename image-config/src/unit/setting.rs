//! One assignment on its way into a typed field: every way in which values are read.

use std::time::Duration;

use super::condition::{Condition, ConditionKind};
use super::environment::is_variable_name;
use super::exec::{
    EnvironmentFile, Input, Output, Resource, ResourceLimit, ServiceDirectory, WorkingDirectory,
};
use super::exit_code::exit_code;
use super::file::Warning;
use super::name::{UnitName, UnitType};
use super::reader::Ignored;
use super::service::ExitStatusSet;
use super::signal::Signal;
use super::specifier::{System, expand_specifiers};
use super::syntax::{Escapes, Words};
use super::value::{self, TimeSpan, ValueError};

/// An assignment and what is needed to read it.
pub(super) struct Setting<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub unit: &'a UnitName,
    /// Path of the unit's main file, for `%y`.
    pub fragment: &'a str,
    pub system: &'a System,
    /// File and line of the assignment.
    pub place: (&'a str, u32),
    pub warnings: &'a mut Vec<Warning>,
}

/// How the numbers of a `Limit...=` are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum LimitUnit {
    Bytes,
    Count,
    Seconds,
    Microseconds,
    Nice,
}

impl Setting<'_> {
    /// Reports a part that is left out, while the rest of the assignment counts.
    pub fn warn(&mut self, message: String) {
        let (path, line) = self.place;
        self.warnings.push(Warning { path: path.to_owned(), line, message });
    }

    pub fn expand(&self, text: &str) -> Result<String, Ignored> {
        expand_specifiers(text, self.unit, self.fragment, self.system).map_err(|error| self.ignored(&error))
    }

    pub fn ignored(&self, problem: &dyn std::fmt::Display) -> Ignored {
        format!("`{}=` is ignored: {problem}", self.key)
    }

    /// A value read by `parse`; empty is an error where `parse` says so.
    pub fn plain<T>(
        &self,
        slot: &mut T,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<(), Ignored> {
        *slot = parse(self.value).map_err(|error| self.ignored(&error))?;
        Ok(())
    }

    /// As [`Setting::plain`]; empty is back to nothing written.
    pub fn optional<T>(
        &self,
        slot: &mut Option<T>,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<(), Ignored> {
        *slot = match self.value {
            "" => None,
            value => Some(parse(value).map_err(|error| self.ignored(&error))?),
        };
        Ok(())
    }

    /// One of a table's words.
    pub fn choice<T: Copy>(&self, slot: &mut T, table: &[(&str, T)]) -> Result<(), Ignored> {
        self.plain(slot, |text| value::choice(text, table))
    }

    /// A span in which zero means "no limit".
    pub fn limit_span(&self, slot: &mut TimeSpan) -> Result<(), Ignored> {
        self.plain(slot, |text| value::time_span(text).map(TimeSpan::zero_is_infinity))
    }

    /// A signal.
    pub fn signal(&self, slot: &mut Signal) -> Result<(), Ignored> {
        *slot = Signal::parse(self.value)
            .ok_or_else(|| self.ignored(&format!("`{}` is no signal", self.value)))?;
        Ok(())
    }

    /// Text, specifiers expanded.
    pub fn text(&self, slot: &mut String) -> Result<(), Ignored> {
        *slot = self.expand(self.value)?;
        Ok(())
    }

    /// Text, specifiers expanded; empty is nothing.
    pub fn optional_text(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        *slot = (!text.is_empty()).then_some(text);
        Ok(())
    }

    /// Name or number of a user or group.
    pub fn account(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        self.optional_text(slot)?;
        if slot.as_ref().is_some_and(|text| !is_account(text)) {
            return Err(self.ignored(&format!("`{}` is no user or group", slot.take().unwrap_or_default())));
        }
        Ok(())
    }

    /// An absolute path, specifiers expanded; empty is nothing.
    pub fn path(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        *slot = match text.as_str() {
            "" => None,
            path => Some(value::absolute_path(path).map_err(|error| self.ignored(&error))?),
        };
        Ok(())
    }

    /// A list of absolute paths; empty resets it.
    pub fn paths(&mut self, slot: &mut Vec<String>) -> Result<(), Ignored> {
        let mut words = Vec::new();
        self.list(&mut words, |word| value::absolute_path(word).is_ok())?;
        if self.value.is_empty() {
            slot.clear();
        }
        slot.extend(words.iter().filter_map(|word| value::absolute_path(word).ok()));
        Ok(())
    }

    /// A span that ends; empty, zero and infinity are nothing.
    pub fn duration(&self, slot: &mut Option<Duration>) -> Result<(), Ignored> {
        let mut span = None;
        self.optional(&mut span, value::time_span)?;
        *slot = span.and_then(TimeSpan::finite).filter(|span| !span.is_zero());
        Ok(())
    }

    /// One unit; empty is nothing.
    pub fn unit_name(&self, slot: &mut Option<UnitName>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        *slot = match text.as_str() {
            "" => None,
            text => Some(UnitName::parse(text).map_err(|error| self.ignored(&error))?),
        };
        Ok(())
    }

    /// `Unit=` of a timer or path: a unit that can be started, of another type; empty is nothing.
    pub fn triggered_unit(&self, slot: &mut Option<UnitName>) -> Result<(), Ignored> {
        let mut unit = None;
        self.unit_name(&mut unit)?;
        if let Some(unit) = &unit {
            if unit.kind() == self.unit.kind() {
                return Err(self.ignored(&format!("`{unit}` is of the same type")));
            }
            if matches!(unit.kind(), UnitType::Device | UnitType::Scope) || unit.is_template() {
                return Err(self.ignored(&format!("`{unit}` cannot be started")));
            }
        }
        *slot = unit;
        Ok(())
    }

    /// The value's words, as [`Setting::words_of`] reads them.
    pub fn words(&mut self, escapes: Escapes) -> Result<Vec<String>, Ignored> {
        self.words_of(self.value, escapes)
    }

    /// The words of a part of the value, specifiers expanded after the quotes are off. Words from the first broken one on
    /// are left out.
    pub fn words_of(&mut self, text: &str, escapes: Escapes) -> Result<Vec<String>, Ignored> {
        let mut words = Vec::new();
        for word in Words::new(text, escapes) {
            match word.map_err(|error| self.ignored(&error)).and_then(|word| self.expand(&word)) {
                Ok(word) => words.push(word),
                Err(problem) if words.is_empty() => return Err(problem),
                Err(_) => {
                    let message = format!(
                        "`{}=` counts up to `{}` only: what follows cannot be read",
                        self.key,
                        words.join(" ")
                    );
                    self.warn(message);
                    break;
                }
            }
        }
        Ok(words)
    }

    /// A list of words; empty resets it.
    pub fn list(&mut self, slot: &mut Vec<String>, accept: fn(&str) -> bool) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
        }
        for word in self.words(Escapes::Decode)? {
            if accept(&word) {
                slot.push(word);
            } else {
                self.warn(format!("`{word}` in `{}=` is left out: it has no meaning there", self.key));
            }
        }
        Ok(())
    }

    /// A list of units. Dependencies cannot be reset: an empty value does nothing.
    pub fn units(&mut self, slot: &mut Vec<UnitName>) -> Result<(), Ignored> {
        for word in self.words(Escapes::Keep)? {
            match UnitName::parse(&word).map(|name| self.instantiate(name)) {
                Ok(Some(name)) if slot.contains(&name) => {}
                Ok(Some(name)) => slot.push(name),
                // A template is read for its `[Install]`; its instances will name instances here.
                Ok(None) if self.unit.is_template() => {}
                Ok(None) => self.warn(format!("`{word}` in `{}=` is left out: it is a template", self.key)),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// A template means its instance of this unit's own instance; in a unit that is no instance, of its name.
    fn instantiate(&self, name: UnitName) -> Option<UnitName> {
        if !name.is_template() {
            return Some(name);
        }
        let instance = self.unit.instance().unwrap_or(self.unit.prefix());
        name.with_instance(instance).ok().filter(|_| !instance.is_empty())
    }

    /// A list of unit names of `[Install]`, in which templates stay templates; empty does nothing.
    pub fn install_units(&mut self, slot: &mut Vec<UnitName>) -> Result<(), Ignored> {
        for word in self.words(Escapes::Keep)? {
            match UnitName::parse(&word) {
                Ok(name) if slot.contains(&name) => {}
                Ok(name) => slot.push(name),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// `Condition...=` and `Assert...=`; empty resets the whole list.
    pub fn condition(&self, slot: &mut Vec<Condition>, kind: ConditionKind) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let (trigger, rest) = strip(self.value, '|');
        let (negate, rest) = strip(rest.trim_start(), '!');
        let mut argument = self.expand(rest.trim_start())?;
        if kind.takes_path() {
            argument = value::absolute_path(&argument).map_err(|error| self.ignored(&error))?;
        }
        slot.push(Condition { kind, trigger, negate, argument });
        Ok(())
    }

    /// `Environment=`; empty resets.
    pub fn environment(&mut self, slot: &mut Vec<(String, String)>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
        }
        for word in self.words(Escapes::Decode)? {
            match word.split_once('=').filter(|(name, _)| is_variable_name(name)) {
                Some((name, value)) => slot.push((name.to_owned(), value.to_owned())),
                None => self.warn(format!("`{word}` is left out: it is no assignment of a variable")),
            }
        }
        Ok(())
    }

    /// `EnvironmentFile=`; empty resets.
    pub fn environment_file(&self, slot: &mut Vec<EnvironmentFile>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let (optional, rest) = strip(self.value, '-');
        let path = value::absolute_path(&self.expand(rest)?).map_err(|error| self.ignored(&error))?;
        slot.push(EnvironmentFile { path, optional });
        Ok(())
    }

    /// `WorkingDirectory=`.
    pub fn working_directory(&self, slot: &mut WorkingDirectory) -> Result<(), Ignored> {
        let (optional, rest) = strip(self.value, '-');
        *slot = match self.expand(rest)?.as_str() {
            "" => WorkingDirectory::Root,
            "~" => WorkingDirectory::Home { optional },
            path => {
                let path = value::absolute_path(path).map_err(|error| self.ignored(&error))?;
                WorkingDirectory::Path { path, optional }
            }
        };
        Ok(())
    }

    /// `RuntimeDirectory=` and its kin; empty resets.
    pub fn directory(&mut self, slot: &mut ServiceDirectory) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.paths.clear();
            slot.links.clear();
        }
        for word in self.words(Escapes::Strip)? {
            // path[:link[:flags]]; the one flag that systemd has is `ro`.
            let mut parts = word.splitn(3, ':');
            let path = parts.next().unwrap_or_default().trim_end_matches('/');
            let link = parts.next().filter(|link| !link.is_empty()).map(|link| link.trim_end_matches('/'));
            if ![Some(path), link].into_iter().flatten().all(is_relative) {
                self.warn(format!("`{word}` in `{}=` is left out: it is no relative path", self.key));
                continue;
            }
            slot.links.extend(link.map(|link| (path.to_owned(), link.to_owned())));
            slot.paths.push(path.to_owned());
        }
        Ok(())
    }

    /// `Limit...=`: one value, or `soft:hard`.
    pub fn limit(
        &self,
        slot: &mut Vec<ResourceLimit>,
        resource: Resource,
        unit: LimitUnit,
    ) -> Result<(), Ignored> {
        slot.retain(|limit| limit.resource != resource);
        if self.value.is_empty() {
            return Ok(());
        }
        let (soft, hard) = self.value.split_once(':').unwrap_or((self.value, self.value));
        let read = |text: &str| limit_value(text.trim(), unit).map_err(|error| self.ignored(&error));
        let (soft, hard) = (read(soft)?, read(hard)?);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(self.ignored(&"the soft limit is above the hard one"));
        }
        slot.push(ResourceLimit { resource, soft, hard });
        Ok(())
    }

    /// `StandardInput=`.
    pub fn input(&self, slot: &mut Input) -> Result<(), Ignored> {
        let file =
            |path: &str| value::absolute_path(&self.expand(path)?).map_err(|error| self.ignored(&error));
        *slot = match self.value.split_once(':') {
            Some(("file", path)) => Input::File(file(path)?),
            Some(("fd", name)) => Input::Fd(self.expand(name)?),
            _ => match self.value {
                "null" | "" => Input::Null,
                "tty" => Input::Tty,
                "tty-force" => Input::TtyForce,
                "tty-fail" => Input::TtyFail,
                "socket" => Input::Socket,
                "fd" => Input::Fd("stdin".to_owned()),
                "data" => Input::Data,
                other => return Err(self.ignored(&format!("`{other}` is not supported as an input"))),
            },
        };
        Ok(())
    }

    /// `StandardOutput=` and `StandardError=`; `stream` names the descriptor that a bare `fd` means.
    pub fn output(&self, slot: &mut Option<Output>, stream: &str) -> Result<(), Ignored> {
        let file =
            |path: &str| value::absolute_path(&self.expand(path)?).map_err(|error| self.ignored(&error));
        *slot = Some(match self.value.split_once(':') {
            Some(("file", path)) => Output::File(file(path)?),
            Some(("append", path)) => Output::Append(file(path)?),
            Some(("truncate", path)) => Output::Truncate(file(path)?),
            Some(("fd", name)) => Output::Fd(self.expand(name)?),
            _ => match self.value {
                "" => {
                    *slot = None;
                    return Ok(());
                }
                "inherit" => Output::Inherit,
                "null" => Output::Null,
                "tty" => Output::Tty,
                // syslog's socket is ours: systemd too takes the old names for the journal.
                "journal" | "syslog" => Output::Journal,
                "kmsg" => Output::Kmsg,
                "journal+console" | "syslog+console" => Output::JournalConsole,
                "kmsg+console" => Output::KmsgConsole,
                "socket" => Output::Socket,
                "fd" => Output::Fd(stream.to_owned()),
                other => return Err(self.ignored(&format!("`{other}` is not supported as an output"))),
            },
        });
        Ok(())
    }

    /// `SuccessExitStatus=` and its kin; empty resets.
    pub fn exit_status(&mut self, slot: &mut ExitStatusSet) -> Result<(), Ignored> {
        if self.value.is_empty() {
            *slot = ExitStatusSet::default();
        }
        for word in self.words(Escapes::Strip)? {
            if let Some(code) = word.parse::<u8>().ok().or_else(|| exit_code(&word)) {
                slot.codes.insert(code);
            } else if let Some(signal) = Signal::parse(&word) {
                slot.signals.insert(signal);
            } else {
                self.warn(format!("`{word}` in `{}=` is left out: neither exit code nor signal", self.key));
            }
        }
        Ok(())
    }
}

/// Takes a prefix off, and says whether it was there.
pub(super) fn strip(text: &str, prefix: char) -> (bool, &str) {
    match text.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// A path without a slash at its start and without `.` and `..`.
fn is_relative(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_account(text: &str) -> bool {
    text.len() <= 255
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn limit_value(text: &str, unit: LimitUnit) -> Result<Option<u64>, ValueError> {
    if text == "infinity" {
        return Ok(None);
    }
    let span =
        |text: &str| value::time_span(text).map(|span| span.finite().map(|duration| duration.as_micros()));
    let whole = |us: Option<u128>| us.map(|us| u64::try_from(us).unwrap_or(u64::MAX));
    match unit {
        LimitUnit::Bytes => value::size(text).map(Some),
        LimitUnit::Count => value::count(text).map(Some),
        // Limits of whole seconds are rounded up: less would be no limit that was asked for.
        LimitUnit::Seconds => span(text).map(|us| whole(us.map(|us| us.div_ceil(1_000_000)))),
        LimitUnit::Microseconds if text.chars().all(|c| c.is_ascii_digit()) => value::count(text).map(Some),
        LimitUnit::Microseconds => span(text).map(whole),
        // With a sign it is a nice level (-20 to 19), which the kernel counts from 40 down to 1.
        LimitUnit::Nice if text.starts_with(['+', '-']) => {
            let level = value::integer(text, -20..=19, "a nice level from -20 to 19")?;
            Ok(u64::try_from(20 - level).ok())
        }
        LimitUnit::Nice => value::count(text).map(Some),
    }
}
