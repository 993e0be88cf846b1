//! Values that stand for many: sets of numbers, bytes as Base64.

use super::value::ValueError;

fn refused(value: &str, expected: &'static str) -> ValueError {
    ValueError { value: value.to_owned(), expected }
}

/// A set of small numbers (CPUs, memory nodes): single ones and ranges, with white space or commas between them.
///
/// # Errors
/// [`ValueError`] for anything else, and for numbers above 8191, the most CPUs that Linux knows.
pub fn number_set(text: &str) -> Result<Vec<u32>, ValueError> {
    const EXPECTED: &str = "a set of numbers such as `0-3 5`";
    let mut numbers = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last < 8192 => numbers.extend(first..=last),
            _ => return Err(refused(text, EXPECTED)),
        }
    }
    Ok(numbers)
}

/// Base64 with the standard alphabet, RFC 4648; white space is left out.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn base64(text: &str) -> Result<Vec<u8>, ValueError> {
    const EXPECTED: &str = "Base64";
    let digit = |c: u8| -> Option<u32> {
        match c {
            b'A'..=b'Z' => Some(u32::from(c - b'A')),
            b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
            b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        }
    };
    let solid: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let digits = solid.strip_suffix(b"==").or_else(|| solid.strip_suffix(b"=")).unwrap_or(&solid);
    if solid.len() % 4 != 0 || digits.len() % 4 == 1 {
        return Err(refused(text, EXPECTED));
    }
    let mut bytes = Vec::with_capacity(digits.len());
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for c in group {
            let Some(value) = digit(*c) else { return Err(refused(text, EXPECTED)) };
            bits = bits << 6 | value;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_single_numbers_and_ranges() {
        assert_eq!(number_set("0-2,5 7"), Ok(vec![0, 1, 2, 5, 7]));
        assert_eq!(number_set(""), Ok(Vec::new()));
        for bad in ["3-1", "x", "-1", "8192", "1-2-3"] {
            assert!(number_set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, want) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm 9v\nYg==", "foob")]
        {
            assert_eq!(base64(text).as_deref(), Ok(want.as_bytes()), "{text}");
        }
        for bad in ["Z", "Zg", "Zg=", "Zm9v====", "Zm9*", "===="] {
            assert!(base64(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9a-zA-Z+/= ,-]|\\PC){0,30}") {
            let _ = base64(&text);
            let _ = number_set(&text);
        }
    }
}
