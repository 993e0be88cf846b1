//! Links between machines: from what was asked to what the switch does, and back to words.

use std::time::Duration;

use qemu::switch::Switch;
use qemu::switch::fabric::Link;

use super::layout::Node;
use super::protocol::LinkChange;

/// The ordered pairs that a change touches, without those of a machine with itself.
pub fn pairs(change: &LinkChange) -> Vec<(Node, Node)> {
    let mut pairs = Vec::new();
    for from in &change.from {
        for to in change.to.iter().filter(|to| *to != from) {
            pairs.push((*from, *to));
            if !change.one_way {
                pairs.push((*to, *from));
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The link that a change asks for.
pub fn link(change: &LinkChange) -> Link {
    Link {
        cut: change.cut,
        delay: Duration::from_millis(change.delay_ms.into()),
        jitter: Duration::from_millis(change.jitter_ms.into()),
        loss_per_mille: change.loss_per_mille.min(1000),
    }
}

/// What a link is like; `None` for a perfect one.
fn words(link: Link) -> Option<String> {
    if link.cut {
        return Some("cut".to_owned());
    }
    let mut words = Vec::new();
    if link.delay > Duration::ZERO || link.jitter > Duration::ZERO {
        let jitter = link.jitter.as_millis();
        let more =
            if jitter > 0 { format!(" to {}", link.delay.as_millis() + jitter) } else { String::new() };
        words.push(format!("{}{more} ms late", link.delay.as_millis()));
    }
    if link.loss_per_mille > 0 {
        words.push(format!("{:.1} % lost", f64::from(link.loss_per_mille) / 10.0));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Every link that is not perfect: `node1 <-> node2 cut` where both directions are alike, else `node1 -> node2 cut`.
pub fn describe(switch: &Switch, count: usize) -> Vec<String> {
    let of = |from: Node, to: Node| switch.link(from.index(), to.index()).and_then(words);
    let mut lines = Vec::new();
    for from in Node::all(count) {
        for to in Node::all(count).filter(|to| *to > from) {
            match (of(from, to), of(to, from)) {
                (None, None) => {}
                (Some(there), Some(back)) if there == back => lines.push(format!("{from} <-> {to} {there}")),
                (there, back) => {
                    lines.extend(there.map(|words| format!("{from} -> {to} {words}")));
                    lines.extend(back.map(|words| format!("{to} -> {from} {words}")));
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[&str]) -> Vec<Node> {
        numbers.iter().map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn a_partition_cuts_both_ways_or_one() {
        let mut change = LinkChange {
            from: nodes(&["1"]),
            to: nodes(&["1", "2", "3"]),
            cut: true,
            ..LinkChange::default()
        };
        let names = |change: &LinkChange| -> Vec<String> {
            pairs(change).iter().map(|(from, to)| format!("{from}>{to}")).collect()
        };
        assert_eq!(names(&change), ["node1>node2", "node1>node3", "node2>node1", "node3>node1"]);
        change.one_way = true;
        assert_eq!(names(&change), ["node1>node2", "node1>node3"]);
    }

    #[test]
    fn links_are_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let switch = Switch::start(dir.path(), 3, 0, None).unwrap();
        assert_eq!(describe(&switch, 3), Vec::<String>::new());
        switch.set_link(0, 1, Link { cut: true, ..Link::default() });
        switch.set_link(1, 0, Link { cut: true, ..Link::default() });
        let slow = LinkChange { delay_ms: 20, jitter_ms: 5, loss_per_mille: 15, ..LinkChange::default() };
        switch.set_link(2, 1, link(&slow));
        assert_eq!(
            describe(&switch, 3),
            ["node1 <-> node2 cut", "node3 -> node2 20 to 25 ms late, 1.5 % lost"]
        );
    }
}
