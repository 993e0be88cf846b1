//! Two configs to one: the child's values win, lists whose elements have a key in common are merged by it, others follow one another.

use serde_json::{Map, Value as Json};

use super::schema::{CONFIG, Key, Shape};

/// The lists of `storage` in which a path occurs once, all three together.
const NODES: [&str; 3] = ["files", "directories", "links"];

/// Merges checked configs.
pub(super) fn merge(parent: Json, child: Json) -> Json {
    let mut parent = parent;
    forget_replaced_nodes(&mut parent, &child);
    value(&CONFIG, parent, child)
}

/// A path that the child makes a file of is no folder or link of the parent's any more.
fn forget_replaced_nodes(parent: &mut Json, child: &Json) {
    let path = |node: &Json| node.get("path").and_then(Json::as_str).map(str::to_owned);
    for kind in NODES {
        let Some(nodes) = child.pointer(&format!("/storage/{kind}")).and_then(Json::as_array) else {
            continue;
        };
        let paths: std::collections::HashSet<String> = nodes.iter().filter_map(path).collect();
        for other in NODES.into_iter().filter(|other| *other != kind) {
            if let Some(Json::Array(list)) = parent.pointer_mut(&format!("/storage/{other}")) {
                list.retain(|node| path(node).is_none_or(|path| !paths.contains(&path)));
            }
        }
    }
}

fn value(shape: &Shape, parent: Json, child: Json) -> Json {
    match (shape, parent, child) {
        (Shape::Object(keys), Json::Object(parent), Json::Object(child)) => {
            Json::Object(object(keys, parent, child))
        }
        (Shape::List(element, key), Json::Array(parent), Json::Array(child)) => {
            Json::Array(list(element, *key, parent, child))
        }
        (_, _, child) => child,
    }
}

fn object(keys: &[Key], mut parent: Map<String, Json>, child: Map<String, Json>) -> Map<String, Json> {
    for (name, new) in child {
        let merged = match (parent.remove(&name), keys.iter().find(|key| key.name == name)) {
            (Some(old), Some(key)) => value(&key.shape, old, new),
            _ => new,
        };
        parent.insert(name, merged);
    }
    parent
}

fn list(element: &Shape, key: Option<&str>, mut parent: Vec<Json>, child: Vec<Json>) -> Vec<Json> {
    let Some(key) = key else {
        // Keys of users, members of groups: each once. Of resources (`append`), every one counts.
        let is_text = matches!(element, Shape::Text);
        parent.extend(child);
        if is_text {
            let mut seen = std::collections::HashSet::new();
            parent.retain(|text| text.as_str().is_none_or(|text| seen.insert(text.to_owned())));
        }
        return parent;
    };
    let mut index: std::collections::HashMap<String, usize> = parent
        .iter()
        .enumerate()
        .filter_map(|(place, one)| Some((one.get(key)?.to_string(), place)))
        .collect();
    for one in child {
        let name = one.get(key).map(Json::to_string);
        let place = name.as_ref().and_then(|name| index.get(name)).copied();
        match place.and_then(|place| parent.get_mut(place)) {
            Some(old) => {
                let merged = value(element, old.take(), one);
                *old = merged;
            }
            None => {
                if let Some(name) = name {
                    index.insert(name, parent.len());
                }
                parent.push(one);
            }
        }
    }
    parent
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_wins_and_lists_are_merged_by_their_keys() {
        let parent = json!({
            "ignition": {"version": "3.0.0"},
            "storage": {
                "files": [
                    {"path": "/a", "mode": 1, "contents": {"source": "data:,x", "compression": "gzip"}, "append": [{"source": "data:,1"}]},
                    {"path": "/b"},
                ],
                "directories": [{"path": "/d"}, {"path": "/e"}],
            },
            "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["k1", "k2"]}]},
        });
        let child = json!({
            "ignition": {"version": "3.5.0"},
            "storage": {"files": [
                {"path": "/a", "mode": 2, "contents": {"source": "data:,y"}, "append": [{"source": "data:,1"}]},
                {"path": "/d"},
            ]},
            "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["k2", "k3"]}, {"name": "new"}]},
        });
        assert_eq!(
            merge(parent, child),
            json!({
                "ignition": {"version": "3.5.0"},
                "storage": {
                    "files": [
                        {"path": "/a", "mode": 2, "contents": {"source": "data:,y", "compression": "gzip"},
                         "append": [{"source": "data:,1"}, {"source": "data:,1"}]},
                        {"path": "/b"},
                        {"path": "/d"},
                    ],
                    "directories": [{"path": "/e"}],
                },
                "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["k1", "k2", "k3"]}, {"name": "new"}]},
            })
        );
    }
}
