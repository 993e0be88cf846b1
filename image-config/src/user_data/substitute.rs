//! `$private_ipv4` and its kin, replaced by the machine's addresses before the text is read (updates-and-config, 7.4).

use std::collections::BTreeSet;

use super::source::Edit;
use super::{Address, Addresses};

impl Address {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PrivateIpv4, Self::PublicIpv4, Self::PrivateIpv6, Self::PublicIpv6];

    /// As it stands in user-data.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::PrivateIpv4 => "$private_ipv4",
            Self::PublicIpv4 => "$public_ipv4",
            Self::PrivateIpv6 => "$private_ipv6",
            Self::PublicIpv6 => "$public_ipv6",
        }
    }

    /// Its variable in `/etc/environment`.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::PrivateIpv4 => "COREOS_PRIVATE_IPV4",
            Self::PublicIpv4 => "COREOS_PUBLIC_IPV4",
            Self::PrivateIpv6 => "COREOS_PRIVATE_IPV6",
            Self::PublicIpv6 => "COREOS_PUBLIC_IPV6",
        }
    }
}

impl Addresses {
    /// Addresses for documentation (RFC 5737, RFC 3849): what a text is judged with where there is no machine.
    #[must_use]
    pub fn example() -> Self {
        Self {
            private_ipv4: Some("192.0.2.1".to_owned()),
            public_ipv4: Some("203.0.113.1".to_owned()),
            private_ipv6: Some("2001:db8::1".to_owned()),
            public_ipv6: Some("2001:db8::2".to_owned()),
        }
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, address: Address) -> Option<&str> {
        match address {
            Address::PrivateIpv4 => self.private_ipv4.as_deref(),
            Address::PublicIpv4 => self.public_ipv4.as_deref(),
            Address::PrivateIpv6 => self.private_ipv6.as_deref(),
            Address::PublicIpv6 => self.public_ipv6.as_deref(),
        }
    }
}

/// The addresses that a text uses. Lines that are comments do not count: nothing waits for what nobody reads.
#[must_use]
pub fn addresses(text: &[u8]) -> BTreeSet<Address> {
    let mut used = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#")) {
        words(line, |word| {
            if let Word::Address(address) = word {
                used.insert(address);
            }
        });
    }
    used
}

/// The text with each word replaced by its address; `\$private_ipv4` loses its backslash and stays. The edits lead back.
#[must_use]
pub fn substitute(text: &[u8], addresses: &Addresses) -> (Vec<u8>, Vec<Edit>) {
    let mut out = Vec::with_capacity(text.len());
    let mut edits = Vec::new();
    for (line, number) in text.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        let mut column = 1;
        words(line, |word| {
            let (old, new): (usize, &[u8]) = match &word {
                Word::Other(byte) => {
                    out.push(*byte);
                    column += usize::from(byte & 0xc0 != 0x80);
                    return;
                }
                Word::Escaped(address) => (address.word().len() + 1, address.word().as_bytes()),
                Word::Address(address) => {
                    (address.word().len(), addresses.get(*address).unwrap_or_default().as_bytes())
                }
            };
            edits.push(Edit { line: number, column, old, new: new.len() });
            out.extend_from_slice(new);
            column += new.len();
        });
    }
    (out, edits)
}

/// What a text consists of.
enum Word {
    Address(Address),
    Escaped(Address),
    Other(u8),
}

fn words(text: &[u8], mut found: impl FnMut(Word)) {
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = if *first == b'\\' { after } else { rest };
        let is_candidate = escaped.first() == Some(&b'$');
        let address =
            Address::ALL.into_iter().find(|it| is_candidate && escaped.starts_with(it.word().as_bytes()));
        let (word, length) = match address {
            Some(address) if *first == b'\\' => (Word::Escaped(address), address.word().len() + 1),
            Some(address) => (Word::Address(address), address.word().len()),
            None => (Word::Other(*first), 1),
        };
        found(word);
        rest = rest.get(length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn substituted(text: &str) -> String {
        String::from_utf8(substitute(text.as_bytes(), &Addresses::example()).0).unwrap()
    }

    #[test]
    fn words_are_replaced_unless_a_backslash_stands_before_them() {
        let cases = [
            ("addr: $private_ipv4:4001", "addr: 192.0.2.1:4001"),
            ("$public_ipv4$private_ipv6", "203.0.113.12001:db8::1"),
            ("\\$private_ipv4", "$private_ipv4"),
            ("${private_ipv4} $private $PRIVATE_IPV4 \\n", "${private_ipv4} $private $PRIVATE_IPV4 \\n"),
            ("$private_ipv4x", "192.0.2.1x"),
            ("[$public_ipv6]", "[2001:db8::2]"),
        ];
        for (text, want) in cases {
            assert_eq!(substituted(text), want, "{text}");
        }
        let (empty, _) = substitute(b"a$private_ipv4b", &Addresses::default());
        assert_eq!(empty, b"ab");
    }

    #[test]
    fn edits_and_used_addresses_are_told() {
        let text = "#cloud-config\n# $public_ipv6\né: $private_ipv4 \\$public_ipv4\n";
        let (_, edits) = substitute(text.as_bytes(), &Addresses::example());
        let third: Vec<_> = edits.iter().filter(|edit| edit.line == 3).copied().collect();
        assert_eq!(
            third,
            [Edit { line: 3, column: 4, old: 13, new: 9 }, Edit { line: 3, column: 14, old: 13, new: 12 }]
        );
        assert_eq!(addresses(text.as_bytes()).into_iter().collect::<Vec<_>>(), [Address::PrivateIpv4]);
    }

    proptest! {
        #[test]
        fn text_without_the_words_stays(text in "[a-z$\\\\ \n]{0,60}") {
            prop_assert_eq!(substituted(&text), text);
        }
    }
}
