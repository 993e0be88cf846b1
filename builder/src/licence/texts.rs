//! Licences known by their words.
//!
//! Only short licences are here, whose every clause can be told: a text is recognised when it has the sentences of a licence and
//! not many words more, because what is added (a clause, an exception) would make another licence of it. Names of people and
//! organisations in it do not matter (SPDX matching guidelines).

use super::notices;

/// A text as words: lower case, letters and digits alone, one space between. Dots stay inside numbers (`2.1`).
pub fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut previous = ' ';
    while let Some(character) = characters.next() {
        let in_number = character == '.'
            && previous.is_ascii_digit()
            && characters.peek().is_some_and(char::is_ascii_digit);
        if character.is_alphanumeric() || in_number {
            words.extend(character.to_lowercase());
        } else if !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        previous = character;
    }
    words.truncate(words.trim_end().len());
    words
}

/// A licence by the sentences that it has and those that it has not.
struct Known {
    id: &'static str,
    has: &'static [&'static str],
    has_not: &'static [&'static str],
    /// Words of the longest wording that is still this licence.
    most_words: usize,
}

const SOURCE: &str = "redistributions of source code must retain the above copyright notice";
const BINARY: &str = "redistributions in binary form must reproduce the above copyright notice";
const NO_ENDORSEMENT: &str = "to endorse or promote products derived from this software";
const ADVERTISING: &str =
    "all advertising materials mentioning features or use of this software must display";
const UNIVERSITY: &str = "by the university of california";
const DAMAGE: &str = "possibility of such damage";
const ALTERNATIVELY: &str = "alternatively";
const MIT_GRANT: &str = "permission is hereby granted free of charge to any person obtaining a copy of this software and associated documentation files the software to deal in the software without restriction including without limitation the rights to use copy modify merge publish distribute";
const MIT_CONDITION: &str =
    "this permission notice shall be included in all copies or substantial portions of the software";
const NO_PUBLICITY: &str = "shall not be used in advertising or otherwise to promote the sale use or other dealings in this software without prior written authorization";
const ISC_CONDITION: &str =
    "provided that the above copyright notice and this permission notice appear in all copies";
const FSFAP: &str = "copying and distribution of this file with or without modification are permitted in any medium without royalty provided the copyright notice and this notice are preserved";

const KNOWN: [Known; 13] = [
    Known {
        id: "BSD-2-Clause",
        has: &[SOURCE, BINARY, DAMAGE],
        has_not: &[NO_ENDORSEMENT, ADVERTISING, ALTERNATIVELY],
        most_words: 205,
    },
    Known {
        id: "BSD-3-Clause",
        has: &[SOURCE, BINARY, NO_ENDORSEMENT, DAMAGE],
        has_not: &[ADVERTISING, ALTERNATIVELY],
        most_words: 250,
    },
    Known {
        id: "BSD-4-Clause-UC",
        has: &[SOURCE, BINARY, NO_ENDORSEMENT, ADVERTISING, UNIVERSITY, DAMAGE],
        has_not: &[ALTERNATIVELY],
        most_words: 280,
    },
    Known {
        id: "BSD-4-Clause",
        has: &[SOURCE, BINARY, NO_ENDORSEMENT, ADVERTISING, DAMAGE],
        has_not: &[UNIVERSITY, ALTERNATIVELY],
        most_words: 280,
    },
    Known {
        id: "MIT",
        has: &[MIT_GRANT, MIT_CONDITION],
        has_not: &[NO_PUBLICITY, "distribute distribute with modifications"],
        most_words: 185,
    },
    Known {
        id: "X11",
        has: &[MIT_GRANT, MIT_CONDITION, NO_PUBLICITY],
        has_not: &["distribute distribute with modifications"],
        most_words: 230,
    },
    Known {
        id: "X11-distribute-modifications-variant",
        has: &[MIT_GRANT, "distribute distribute with modifications", MIT_CONDITION, NO_PUBLICITY],
        has_not: &[],
        most_words: 235,
    },
    Known {
        id: "ISC",
        has: &[
            "permission to use copy modify and or distribute this software for any purpose with or without fee is hereby granted",
            ISC_CONDITION,
            "the software is provided as is",
        ],
        has_not: &[],
        most_words: 150,
    },
    Known {
        id: "ISC",
        has: &[
            "permission to use copy modify and distribute this software for any purpose with or without fee is hereby granted",
            ISC_CONDITION,
            "the software is provided as is",
        ],
        has_not: &[],
        most_words: 150,
    },
    Known {
        id: "0BSD",
        has: &[
            "permission to use copy modify and or distribute this software for any purpose with or without fee is hereby granted the software is provided as is",
        ],
        has_not: &[ISC_CONDITION],
        most_words: 120,
    },
    Known {
        id: "Zlib",
        has: &[
            "this software is provided as is without any express or implied warranty in no event will the author",
            "to use this software for any purpose including commercial applications and to alter it and redistribute it freely",
            "altered source versions must be plainly marked as such",
        ],
        has_not: &[],
        most_words: 165,
    },
    Known {
        id: "FSFAP",
        has: &[FSFAP, "this file is offered as is without any warranty"],
        has_not: &[],
        most_words: 60,
    },
    Known { id: "FSFAP-no-warranty-disclaimer", has: &[FSFAP], has_not: &["warranty"], most_words: 50 },
];
/// Words of a notice that refers to a licence of the GNU project, with its disclaimer and the address of the foundation.
const MOST_WORDS_OF_A_NOTICE: usize = 220;

/// The licence that a text is, as an SPDX identifier. The text is all of it, without copyright lines or with few.
pub fn recognise(text: &str) -> Option<String> {
    let words = words(text);
    known(&words).map(str::to_owned).or_else(|| notice(&words))
}

/// As [`recognise`], of [`words`], for texts that are licences and not notices that refer to one.
pub fn known(words: &str) -> Option<&'static str> {
    let count = words.split(' ').count();
    let matches = |known: &&Known| {
        count <= known.most_words
            && known.has.iter().all(|sentence| words.contains(sentence))
            && !known.has_not.iter().any(|sentence| words.contains(sentence))
    };
    KNOWN.iter().find(matches).map(|known| known.id)
}

/// The one licence that a notice refers to, when it has no exception.
fn notice(words: &str) -> Option<String> {
    let plain = !["exception", "special permission", "in addition", ALTERNATIVELY, SOURCE]
        .iter()
        .any(|word| words.contains(word));
    if !plain || words.split(' ').count() > MOST_WORDS_OF_A_NOTICE {
        return None;
    }
    let mut found = notices::gnu(words);
    found.dedup();
    match found.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}
