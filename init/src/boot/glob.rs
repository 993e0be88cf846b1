//! Shell patterns as fnmatch(3) has them, for module aliases and tmpfiles.d: `*`, `?`, `[a-z]`, `[!a-z]`, no escapes.

/// True when the whole of `text` matches `pattern`. Linear for one `*`, quadratic at worst; never panics.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where to go on when a literal fails: behind the last star, one byte further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, place));
                at += 1;
                continue;
            }
            Some(_) => {
                let step = text.get(place).and_then(|byte| match_one(pattern, at, *byte));
                if let Some(next) = step {
                    (at, place) = (next, place + 1);
                    continue;
                }
            }
            None if place == text.len() => return true,
            None => {}
        }
        match retry {
            Some((behind, from)) if from < text.len() => {
                retry = Some((behind, from + 1));
                (at, place) = (behind, from + 1);
            }
            _ => return false,
        }
    }
}

/// True when the text has a character that [`matches`] does not take literally.
pub fn is_pattern(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Matches one byte against the element at `at`; the place of the next element when it fits.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match set(pattern, at + 1, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // No closing bracket: a literal one.
            None => (byte == b'[').then_some(at + 1),
        },
        literal => (*literal == byte).then_some(at + 1),
    }
}

/// Looks `byte` up in the set that starts at `start`; whether it is in, and the place behind the set.
fn set(pattern: &[u8], start: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(start)?, b'!' | b'^');
    let first = start + usize::from(negated);
    let mut at = first;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        found |= (low..=high).contains(&byte);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_patterns_match() {
        let cases: &[(&str, &str, bool)] = &[
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", true),
            ("acpi*:QEMU0002:*", "acpi:QEMU0002:", true),
            ("a[0-9]?z", "a5qz", true),
            ("a[!0-9]z", "a5z", false),
            ("[]]x", "]x", true),
            ("a[b", "a[b", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_ends_without_panic(pattern in "[a-c*?\\[\\]!-]{0,12}", text in "[a-c\\[-]{0,12}") {
            matches(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_text_matches_itself_and_itself_with_stars(text in "[a-z]{0,8}", tail in "[a-z]{0,8}") {
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            let starred = format!("*{text}*");
            let around = format!("{tail}{text}{tail}");
            prop_assert!(matches(starred.as_bytes(), around.as_bytes()));
        }
    }
}
