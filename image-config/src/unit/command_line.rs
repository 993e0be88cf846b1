//! `Exec...=` lines: systemd.service(5), "Command lines".

use super::reader::Ignored;
use super::service::ExecCommand;
use super::setting::Setting;
use super::syntax::{Escapes, Words};
use super::value;

impl Setting<'_> {
    /// `Exec...=`: one command, or several with `;` between them; empty resets.
    pub fn commands(&mut self, slot: &mut Vec<ExecCommand>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let mut words = Words::new(self.value, Escapes::Decode);
        let mut commands = Vec::new();
        while !words.rest().is_empty() {
            if !words.take_literal(";") {
                commands.push(self.command(&mut words)?);
            }
        }
        slot.append(&mut commands);
        Ok(())
    }

    /// The next word of a command line. One with an unknown escape keeps its backslashes, as with systemd.
    fn command_word(&mut self, words: &mut Words<'_>) -> Result<Option<String>, Ignored> {
        let mut retry = words.clone();
        let error = match words.next().transpose() {
            Ok(word) => return Ok(word),
            Err(error) => error,
        };
        match retry.next_undecoded() {
            Some(Ok(word)) => {
                self.warn(format!("`{}=`: {error}; `{word}` is taken as it stands", self.key));
                *words = retry;
                Ok(Some(word))
            }
            _ => Err(self.ignored(&error)),
        }
    }

    fn command(&mut self, words: &mut Words<'_>) -> Result<ExecCommand, Ignored> {
        let missing = |key: &str, what: &str| format!("`{key}=` is ignored: {what} is missing");
        let first = self.command_word(words)?.ok_or_else(|| missing(self.key, "the program"))?;
        let mut command = ExecCommand::default();
        let program = self.expand(prefixes(&first, &mut command))?;
        if program.is_empty() || program.ends_with('/') {
            return Err(self.ignored(&format!("`{first}` names no program")));
        }
        command.program = if program.starts_with('/') {
            value::absolute_path(&program).map_err(|error| self.ignored(&error))?
        } else if program.contains('/') {
            return Err(self.ignored(&format!("`{program}` is neither a plain name nor an absolute path")));
        } else {
            program
        };
        if command.argv0.is_some() {
            let name = self.command_word(words)?;
            let name = name.ok_or_else(|| missing(self.key, "the name that `@` asks for"))?;
            command.argv0 = Some(self.expand(&name)?);
        }
        loop {
            // A lone `;` ends the command, `\;` is an argument: both only outside quotes.
            if words.rest().is_empty() || words.clone().take_literal(";") {
                return Ok(command);
            }
            if words.take_literal("\\;") {
                command.raw_arguments.push(";".to_owned());
                continue;
            }
            match self.command_word(words)? {
                Some(word) => command.raw_arguments.push(self.expand(&word)?),
                None => return Ok(command),
            }
        }
    }
}

/// Takes the prefixes of a command off, each at most once. A set `argv0` only marks that `@` was there.
fn prefixes<'a>(word: &'a str, command: &mut ExecCommand) -> &'a str {
    let mut rest = word;
    let mut ambient = false;
    while let Some(c) = rest.chars().next() {
        match c {
            '-' if !command.ignore_failure => command.ignore_failure = true,
            '@' if command.argv0.is_none() => command.argv0 = Some(String::new()),
            ':' if !command.literal => command.literal = true,
            '+' if !(command.full_privileges || command.no_setuid || ambient) => {
                command.full_privileges = true
            }
            '!' if !(command.full_privileges || command.no_setuid || ambient) => command.no_setuid = true,
            '!' if !(command.full_privileges || ambient) => {
                command.no_setuid = false;
                ambient = true;
            }
            _ => break,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    rest
}
