//! Comparisons in conditions: `>=6.1`, `$=node*`, `<4`: systemd.unit(5), "Conditions and Asserts".

use std::cmp::Ordering;

use crate::boot::glob;

/// How the machine's value is to stand to the one in the unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Fits a shell pattern.
    Pattern,
    /// Does not.
    NoPattern,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=` or `==`
    Equal,
    /// `!=` or `<>`
    Other,
    /// `>=`
    AtLeast,
    /// `>`
    More,
}

/// Longer ones first, because some begin others.
const OPERATORS: [(&str, Operator); 10] = [
    ("$=", Operator::Pattern),
    ("!$=", Operator::NoPattern),
    ("<>", Operator::Other),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("!=", Operator::Other),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::More),
    ("=", Operator::Equal),
];

impl Operator {
    /// Takes an operator off the front of `text`; `None` when there is none.
    pub fn take(text: &str) -> (Option<Operator>, &str) {
        for (sign, operator) in &OPERATORS {
            if let Some(rest) = text.strip_prefix(sign) {
                return (Some(*operator), rest.trim_start());
            }
        }
        (None, text)
    }

    /// Whether an order is what the operator asks for. Patterns ask for none.
    pub fn allows(self, order: Ordering) -> bool {
        match self {
            Operator::Less => order.is_lt(),
            Operator::AtMost => order.is_le(),
            Operator::Equal | Operator::Pattern => order.is_eq(),
            Operator::Other | Operator::NoPattern => order.is_ne(),
            Operator::AtLeast => order.is_ge(),
            Operator::More => order.is_gt(),
        }
    }

    /// Compares two versions, or a version with a pattern.
    pub fn holds_for_version(self, found: &str, wanted: &str) -> bool {
        match self {
            Operator::Pattern => fits(wanted, found),
            Operator::NoPattern => !fits(wanted, found),
            operator => operator.allows(versions(found, wanted)),
        }
    }
}

/// Whether a text fits a shell pattern.
pub fn fits(pattern: &str, text: &str) -> bool {
    glob::matches(pattern.as_bytes(), text.as_bytes())
}

/// A list of words, each a version with an operator before it or a pattern, all of which must hold.
pub fn version_holds(found: &str, list: &str) -> bool {
    let mut words = list.split_whitespace();
    while let Some(word) = words.next() {
        let (operator, rest) = Operator::take(word);
        // The version may stand apart from its operator.
        let wanted = if rest.is_empty() && operator.is_some() { words.next().unwrap_or("") } else { rest };
        if !operator.unwrap_or(Operator::Pattern).holds_for_version(found, wanted) {
            return false;
        }
    }
    true
}

/// Compares two numbers with an operator that may be left out; what is no number is not met.
pub fn number_holds(found: u64, wanted: &str, parse: impl Fn(&str) -> Option<u64>) -> bool {
    let (operator, rest) = Operator::take(wanted);
    parse(rest).is_some_and(|wanted| operator.unwrap_or(Operator::AtLeast).allows(found.cmp(&wanted)))
}

/// The order of versions: UAPI.10, "Version Format Specification". `~` comes before the end, `-`, `^` and `.` divide,
/// digits compare as numbers and before letters in no case.
pub fn versions(left: &str, right: &str) -> Ordering {
    let meaningful = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    let mut left: Vec<u8> = left.bytes().filter(meaningful).collect();
    let mut right: Vec<u8> = right.bytes().filter(meaningful).collect();
    left.reverse();
    right.reverse();
    loop {
        for divider in *b"~-^." {
            let (first, second) = (left.last() == Some(&divider), right.last() == Some(&divider));
            match (first, second) {
                // What is marked as coming before goes before everything, the end too.
                (true, false) if divider == b'~' => return Ordering::Less,
                (false, true) if divider == b'~' => return Ordering::Greater,
                (true, true) => {
                    left.pop();
                    right.pop();
                }
                (false, false) => {}
                _ if left.is_empty() => return Ordering::Less,
                _ if right.is_empty() => return Ordering::Greater,
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
            }
        }
        match (left.is_empty(), right.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let digits =
            left.last().is_some_and(u8::is_ascii_digit) || right.last().is_some_and(u8::is_ascii_digit);
        let order = if digits {
            let (first, second) = (run(&mut left, u8::is_ascii_digit), run(&mut right, u8::is_ascii_digit));
            match (first.is_empty(), second.is_empty()) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => number(&first).cmp(&number(&second)),
            }
        } else {
            run(&mut left, u8::is_ascii_alphabetic).cmp(&run(&mut right, u8::is_ascii_alphabetic))
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes what fits off the end of a text that was turned round.
fn run(text: &mut Vec<u8>, fits: impl Fn(&u8) -> bool) -> Vec<u8> {
    let mut taken = Vec::new();
    while let Some(byte) = text.pop_if(|byte| fits(byte)) {
        taken.push(byte);
    }
    taken
}

/// Digits without leading zeros: longer is larger.
fn number(digits: &[u8]) -> (usize, Vec<u8>) {
    let digits: Vec<u8> = digits.iter().copied().skip_while(|digit| *digit == b'0').collect();
    (digits.len(), digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_as_the_specification_says() {
        let ordered = ["~", "", "1~rc1", "1", "1-2", "1^post", "1.0", "1.0.1", "1.2", "1.10", "2", "10"];
        for pair in ordered.windows(2) {
            assert_eq!(versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(versions("1.02", "1.2"), Ordering::Equal);
        assert_eq!(versions("6.12.48+deb13-amd64", "6.12"), Ordering::Greater);
    }

    #[test]
    fn lists_of_versions_hold_when_every_word_does() {
        let cases = [
            (">=6.1", true),
            (">=6.1 <7", true),
            (">= 6.1", true),
            ("<6", false),
            ("6.12*", true),
            ("6.11*", false),
            ("!=6.12.1", true),
            ("$=6.*", true),
            ("!$=6.*", false),
            ("", true),
        ];
        for (list, want) in cases {
            assert_eq!(version_holds("6.12.48-amd64", list), want, "{list}");
        }
    }

    #[test]
    fn numbers_are_at_least_what_is_written_without_an_operator() {
        let parse = |text: &str| text.parse().ok();
        let cases = [("4", true), ("5", false), ("<5", true), ("= 4", true), ("!=4", false), ("x", false)];
        for (wanted, want) in cases {
            assert_eq!(number_holds(4, wanted, parse), want, "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn the_order_has_no_surprises(left in "[a-z0-9.~^-]{0,8}", right in "[a-z0-9.~^-]{0,8}") {
            prop_assert_eq!(versions(&left, &right), versions(&right, &left).reverse());
            prop_assert_eq!(versions(&left, &left), Ordering::Equal);
        }
    }
}
