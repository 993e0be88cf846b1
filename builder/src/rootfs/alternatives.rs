//! What `update-alternatives` would have made: links for names that several packages can provide.
//!
//! Maintainer scripts are read, never run: only calls whose words are all literal are understood, and a script that
//! computes them has no effect.

use std::collections::BTreeMap;

/// One `--install LINK NAME PATH PRIORITY` with its slaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// Priority; the highest one wins.
    pub priority: i64,
    /// The link and what it points at, absolute; the master first, then its slaves.
    pub links: Vec<(String, String)>,
}

/// The links that win, by absolute path, over all scripts. Man pages are left out: images have none.
pub fn chosen<'a>(scripts: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut masters: BTreeMap<String, Alternative> = BTreeMap::new();
    for alternative in scripts.into_iter().flat_map(parse) {
        let Some((link, _)) = alternative.links.first() else { continue };
        let better = masters.get(link).is_none_or(|there| alternative.priority > there.priority);
        if better {
            masters.insert(link.clone(), alternative);
        }
    }
    let links = masters.into_values().flat_map(|alternative| alternative.links);
    links.filter(|(link, _)| !link.starts_with("/usr/share/man/")).collect()
}

/// The alternatives that one script installs.
fn parse(script: &str) -> Vec<Alternative> {
    let joined = script.replace("\\\n", " ");
    let calls =
        joined.lines().filter_map(|line| line.split_once("update-alternatives").map(|(_, words)| words));
    calls.filter_map(|words| parse_call(&literal_words(words)?)).collect()
}

/// The words of a call up to an operator of the shell; `None` when one of them is not literal.
fn literal_words(text: &str) -> Option<Vec<&str>> {
    let end = text.find(['|', ';', '&', '>']).unwrap_or(text.len());
    let words: Vec<_> =
        text.get(..end)?.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    let literal = |word: &&str| !word.contains(['$', '`', '*', '"', '\'', '\\']);
    words.iter().all(literal).then_some(words)
}

fn parse_call(words: &[&str]) -> Option<Alternative> {
    let mut words = words.iter().skip_while(|word| **word != "--install").skip(1);
    let (link, _name, path) = (words.next()?, words.next()?, words.next()?);
    let priority = words.next()?.parse().ok()?;
    let mut links = vec![((*link).to_owned(), (*path).to_owned())];
    while let Some(word) = words.next() {
        if *word == "--slave" {
            let (link, _name, path) = (words.next()?, words.next()?, words.next()?);
            links.push(((*link).to_owned(), (*path).to_owned()));
        }
    }
    let absolute = links.iter().all(|(link, path)| link.starts_with('/') && path.starts_with('/'));
    absolute.then_some(Alternative { priority, links })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priority_wins_with_its_slaves() {
        let mawk = "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/bin/nawk nawk /usr/bin/mawk\n";
        let gawk = "\tupdate-alternatives --install \"/usr/bin/awk\" awk /usr/bin/gawk 10 --quiet || true\n";
        let links = chosen([mawk, gawk]);
        assert_eq!(links, BTreeMap::from([("/usr/bin/awk".to_owned(), "/usr/bin/gawk".to_owned())]));
        assert_eq!(chosen([mawk]).len(), 2);
    }

    #[test]
    fn computed_calls_and_man_pages_have_no_effect() {
        let script = "update-alternatives --install /usr/bin/x x $(which x) 5\nupdate-alternatives --install \
            /usr/share/man/man7/builtins.7.gz builtins.7.gz /usr/share/man/man7/bash-builtins.7.gz 10 || true\n\
            update-alternatives --remove rcp /usr/bin/scp\n";
        assert!(chosen([script]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_script_is_read_without_a_panic(script in "(update-alternatives|--install|--slave|/a| |\\\\\n|[0-9\"'|;$])*") {
            let _ = chosen([script.as_str()]);
        }
    }
}
