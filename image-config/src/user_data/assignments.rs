//! Files of `KEY=value` lines, edited in place: `/etc/environment`, `/etc/coreos/update.conf`.

/// The file's text with these keys set. Lines of a key are replaced where they stand, keys without a line are appended, sorted; everything
/// else stays as it is. The result ends with a line feed.
#[must_use]
pub fn edit(text: &str, assignments: &[(String, String)]) -> String {
    let value = |line: &str| {
        let key = line.split_once('=')?.0;
        assignments.iter().rfind(|(wanted, _)| wanted == key)
    };
    let mut out = String::new();
    for line in text.lines() {
        match value(line) {
            Some((key, value)) => out.extend([key, "=", value]),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    let has_line = |key: &str| text.lines().any(|line| line.split_once('=').is_some_and(|(it, _)| it == key));
    let mut missing: Vec<_> = assignments.iter().filter(|(key, _)| !has_line(key)).collect();
    missing.sort_by(|(a, _), (b, _)| a.cmp(b));
    missing.dedup_by(|(later, _), (earlier, _)| later == earlier);
    for (key, _) in missing {
        if let Some((key, value)) = assignments.iter().rfind(|(it, _)| it == key) {
            out.extend([key, "=", value, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_replaced_in_place_and_missing_ones_appended_sorted() {
        let set = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let cases = [
            ("", set(&[]), ""),
            ("", set(&[("B", "2"), ("A", "1")]), "A=1\nB=2\n"),
            ("# c\nA=0\nX=y", set(&[("A", "1")]), "# c\nA=1\nX=y\n"),
            ("A=0\nAB=0\n", set(&[("A", "1"), ("C", "")]), "A=1\nAB=0\nC=\n"),
            ("", set(&[("A", "1"), ("A", "2")]), "A=2\n"),
        ];
        for (text, assignments, want) in cases {
            let edited = edit(text, &assignments);
            assert_eq!(edited, want, "{text:?}");
            assert_eq!(edit(&edited, &assignments), edited, "nothing to do the second time");
        }
    }
}
