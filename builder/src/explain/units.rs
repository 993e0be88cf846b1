//! How bytes and counts are shown. Units are powers of 1024, as in a recipe's budgets.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `834 B`, `12.3 KiB`, `145.2 MiB`: one decimal, rounded to the nearest.
pub fn bytes(bytes: u64) -> String {
    // A number that rounds up to 1024 of a unit is shown in the next one.
    let unit = [("KiB", KIB, MIB), ("MiB", MIB, GIB)]
        .into_iter()
        .find(|(_, unit, next)| bytes < *next && tenths(bytes, *unit) < 10_240);
    match unit {
        _ if bytes < KIB => format!("{bytes} B"),
        Some((name, unit, _)) => shown(tenths(bytes, unit), name),
        None => shown(tenths(bytes, GIB), "GiB"),
    }
}

/// The same with a sign: `+1.5 MiB`, `-3 B`, `0 B`.
pub fn signed(delta: i64) -> String {
    let sign = match delta {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", bytes(delta.unsigned_abs()))
}

/// `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Permille of `whole`, as percent with one decimal; 0 when there is nothing.
pub fn percent(part: u64, whole: u64) -> String {
    let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}", permille / 10, permille % 10)
}

fn tenths(bytes: u64, unit: u64) -> u128 {
    (u128::from(bytes) * 10 + u128::from(unit / 2)) / u128::from(unit)
}

fn shown(tenths: u128, unit: &str) -> String {
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_people_would_choose() {
        let cases: &[(u64, &str)] = &[
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_048_576, "1.0 MiB"),
            (152_254_218, "145.2 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ];
        for (number, want) in cases {
            assert_eq!(bytes(*number), *want, "{number}");
        }
        assert_eq!(
            (signed(-2048).as_str(), signed(0).as_str(), signed(3).as_str()),
            ("-2.0 KiB", "0 B", "+3 B")
        );
        assert_eq!(signed(i64::MIN), "-8589934592.0 GiB");
        assert_eq!(
            (percent(1, 3), percent(5, 0), percent(7, 7)),
            ("33.3".into(), "500.0".into(), "100.0".into())
        );
    }
}
