//! The table of scenarios, as its head explains it.

use anyhow::{Context as _, Result, bail, ensure};

/// Several commands on a store that is empty at first.
#[derive(Debug, Default)]
pub struct Scenario {
    pub name: String,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub enum Step {
    Run(Call),
    Background(Call),
    Lines(usize),
    End(Option<usize>),
    Gone(String),
    Note(String, String),
}

/// A command.
#[derive(Debug, Default, Clone)]
pub struct Call {
    /// As it stands in the table.
    pub line: String,
    pub words: Vec<Vec<u8>>,
    pub stdin: Option<String>,
    pub environment: Vec<(String, String)>,
    /// Why the two differ.
    pub reason: Option<String>,
}

pub fn parse(text: &str) -> Result<Vec<Scenario>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut next = Call::default();
    for (number, line) in text.lines().enumerate() {
        let context = || format!("line {}: {line}", number + 1);
        let Some(kind) = line.chars().next().filter(|kind| *kind != '#') else { continue };
        let rest = line.get(1..).unwrap_or_default().trim_start();
        if kind == '=' {
            scenarios.push(Scenario { name: rest.to_owned(), steps: Vec::new() });
            continue;
        }
        let scenario = scenarios.last_mut().with_context(context)?;
        match kind {
            '$' | '&' => {
                let words = words(rest).with_context(context)?;
                let call = Call { line: rest.to_owned(), words, ..std::mem::take(&mut next) };
                scenario.steps.push(if kind == '$' { Step::Run(call) } else { Step::Background(call) });
            }
            '<' => next.stdin = Some(rest.to_owned()),
            '~' => next.reason = Some(rest.to_owned()),
            '%' => {
                let (name, value) = rest.split_once('=').with_context(context)?;
                next.environment.push((name.to_owned(), value.to_owned()));
            }
            '+' => scenario.steps.push(Step::Lines(rest.parse().with_context(context)?)),
            '.' if rest.is_empty() => scenario.steps.push(Step::End(None)),
            '.' => scenario.steps.push(Step::End(Some(rest.parse().with_context(context)?))),
            '-' => scenario.steps.push(Step::Gone(rest.to_owned())),
            '!' => {
                let (name, key) = rest.split_once(' ').with_context(context)?;
                scenario.steps.push(Step::Note(name.to_owned(), key.to_owned()));
            }
            _ => bail!(context()),
        }
    }
    for scenario in &scenarios {
        let count = |is: fn(&Step) -> bool| scenario.steps.iter().filter(|step| is(step)).count();
        let begun = count(|step| matches!(step, Step::Background(_)));
        ensure!(begun == count(|step| matches!(step, Step::End(_))), "{}: `&` without `.`", scenario.name);
    }
    Ok(scenarios)
}

/// Words as a shell would part them.
fn words(line: &str) -> Result<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut chars = line.chars().peekable();
    let push = |word: &mut Option<Vec<u8>>, char: char| {
        word.get_or_insert_default().extend(char.encode_utf8(&mut [0; 4]).bytes());
    };
    while let Some(char) = chars.next() {
        match char {
            ' ' => words.extend(word.take()),
            '\'' | '"' => {
                word.get_or_insert_default();
                loop {
                    match chars.next().context("a quote is open")? {
                        end if end == char => break,
                        other => push(&mut word, other),
                    }
                }
            }
            '$' if chars.peek() == Some(&'\'') => {
                chars.next();
                word.get_or_insert_default();
                loop {
                    match chars.next().context("a quote is open")? {
                        '\'' => break,
                        '\\' => match chars.next().context("a quote is open")? {
                            'n' => push(&mut word, '\n'),
                            't' => push(&mut word, '\t'),
                            'x' => {
                                let digits: String = chars.by_ref().take(2).collect();
                                word.get_or_insert_default().push(u8::from_str_radix(&digits, 16)?);
                            }
                            other => push(&mut word, other),
                        },
                        other => push(&mut word, other),
                    }
                }
            }
            other => push(&mut word, other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[test]
fn lines_are_parted_as_a_shell_parts_them() {
    let parted = words(r#"set "two words" '' $'a\x41\n' x'y'z"#).unwrap();
    assert_eq!(parted, [&b"set"[..], b"two words", b"", b"aA\n", b"xyz"]);
    assert!(words("'open").is_err());
}
