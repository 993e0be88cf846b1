//! Commands to one shell script, as cloud-init makes it: lines run in one shell, so that `cd` and variables hold for the next.

use crate::cloud_config::CommandEntry;

/// The script. Lists of words are quoted; what is a line of the shell stays one.
#[must_use]
pub fn script(commands: &[CommandEntry]) -> Vec<u8> {
    let mut text = String::from("#!/bin/sh\n");
    for command in commands {
        match command {
            CommandEntry::Shell(line) => text.push_str(line),
            CommandEntry::Arguments(words) => {
                let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
                text.push_str(&quoted.join(" "));
            }
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_lines_are_not() {
        let commands = [
            CommandEntry::Shell("echo $HOME".to_owned()),
            CommandEntry::Arguments(vec!["echo".to_owned(), "it's $HOME".to_owned()]),
        ];
        assert_eq!(script(&commands), b"#!/bin/sh\necho $HOME\n'echo' 'it'\\''s $HOME'\n");
    }
}
