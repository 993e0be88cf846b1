//! The order of Debian's versions.

use debian::version::Version;

use super::*;

/// xorshift64*: the same versions in every run.
struct Generator(u64);

impl Generator {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn pick(&mut self, characters: &str) -> char {
        char::from(characters.as_bytes()[self.below(characters.len())])
    }

    fn part(&mut self, characters: &str) -> String {
        (0..self.below(6)).map(|_| self.pick(characters)).collect()
    }

    fn version(&mut self) -> String {
        let mut text = match self.below(4) {
            0 => format!("{}:", self.below(3)),
            _ => String::new(),
        };
        text.push(self.pick("00123"));
        text.push_str(&self.part("0019.+~aZ-"));
        if self.below(2) == 0 {
            text.push('-');
            text.push(self.pick("01a"));
            text.push_str(&self.part("0019.+~aZ"));
        } else {
            text = text.trim_end_matches('-').to_owned();
        }
        text
    }

    /// A version that differs in one place, so that pairs are not decided by their first character.
    fn neighbour(&mut self, of: &str) -> String {
        let from = of.find(':').map_or(1, |colon| colon + 2);
        let mut text = of.to_owned();
        let at = from + self.below(text.len() - from + 1);
        if self.below(2) == 0 || at == text.len() {
            text.insert(at, self.pick("0019.+~aZ"));
        } else {
            text.remove(at);
        }
        text
    }
}

#[test]
fn versions_sort_as_dpkg_sorts_them() {
    let tools = tools();
    let mut generator = Generator(0x5eed_f00d);
    let mut pairs: Vec<(String, String)> = [
        ("1.0", "1.0-0"),
        ("1.0", "0:1.0"),
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~"),
        ("1.0+b1", "1.0"),
        ("1a", "1+"),
        ("1.00", "1.0"),
        ("1.10", "1.9"),
        ("2:1", "1:9"),
        ("1.0-1~deb13u1", "1.0-1"),
        ("1-1-1", "1-1-2"),
        ("1.18446744073709551616", "1.18446744073709551615"),
        ("0~", "0"),
    ]
    .map(|(a, b)| (a.to_owned(), b.to_owned()))
    .into();
    while pairs.len() < 350 {
        let a = generator.version();
        let b = if generator.below(3) == 0 { generator.version() } else { generator.neighbour(&a) };
        // What neither takes says nothing about the order.
        if a.parse::<Version>().is_ok() && b.parse::<Version>().is_ok() {
            pairs.push((a, b));
        }
    }
    let mut seen = [0; 3];
    for (a, b) in pairs {
        let order = a.parse::<Version>().unwrap().cmp(&b.parse::<Version>().unwrap());
        let (index, relation) = match order {
            std::cmp::Ordering::Less => (0, "lt"),
            std::cmp::Ordering::Equal => (1, "eq"),
            std::cmp::Ordering::Greater => (2, "gt"),
        };
        seen[index] += 1;
        let (code, text) = run(tools.command("dpkg").unwrap().args(["--compare-versions", &a, relation, &b]));
        assert_eq!((code, text.as_str()), (0, ""), "{a} {relation} {b}");
    }
    assert!(seen.iter().all(|count| *count >= 5), "{seen:?}");
}
