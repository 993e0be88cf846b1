//! The four account files as texts. At boot lines are added and never changed but for group members; user-data may change them.

use std::collections::BTreeSet;

/// passwd(5), group(5), shadow(5) and gshadow(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// `passwd`
    pub passwd: Table,
    /// `group`
    pub group: Table,
    /// `shadow`
    pub shadow: Table,
    /// `gshadow`
    pub gshadow: Table,
}

/// Lines with fields between colons, the name first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Reads a text.
    pub fn parse(text: &str) -> Table {
        Table { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// The line of a name.
    pub fn line(&self, name: &str) -> Option<&str> {
        self.lines.iter().map(String::as_str).find(|line| line.split(':').next() == Some(name))
    }

    /// A field of a name's line, 0 the name itself.
    pub fn field(&self, name: &str, at: usize) -> Option<&str> {
        self.line(name)?.split(':').nth(at)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.lines.iter().filter_map(|line| line.split(':').next());
        names.filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))
    }

    /// The name whose third field is this number.
    pub fn holder(&self, number: u32) -> Option<&str> {
        let text = number.to_string();
        self.lines.iter().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1) == Some(text.as_str()) && !name.starts_with(['#', '+', '-'])).then_some(name)
        })
    }

    /// Adds a line, before those that hand over to a name service.
    pub fn add(&mut self, line: String) {
        let end = self.lines.iter().position(|line| line.starts_with('+')).unwrap_or(self.lines.len());
        self.lines.insert(end, line);
    }

    /// Adds a user to the members that are the last field of a group's line.
    pub fn add_member(&mut self, group: &str, user: &str) {
        let line = self.lines.iter_mut().find(|line| line.split(':').next() == Some(group));
        let Some(line) = line.filter(|line| line.matches(':').count() >= 3) else { return };
        let members = line.rsplit(':').next().unwrap_or_default();
        if members.split(',').any(|member| member == user) {
            return;
        }
        if !members.is_empty() {
            line.push(',');
        }
        line.push_str(user);
    }

    /// Replaces a field of a name's line, 0 the name itself; a line that has not so many stays.
    pub fn set_field(&mut self, name: &str, at: usize, value: &str) {
        let line = self.lines.iter_mut().find(|line| line.split(':').next() == Some(name));
        let Some(line) = line else { return };
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(field) = fields.get_mut(at) {
            *field = value;
            *line = fields.join(":");
        }
    }

    /// Takes the line of a name away.
    pub fn remove(&mut self, name: &str) {
        self.lines.retain(|line| line.split(':').next() != Some(name));
    }

    /// Takes a user out of all groups.
    pub fn remove_member(&mut self, user: &str) {
        for line in &mut self.lines {
            let Some((head, members)) = line.rsplit_once(':') else { continue };
            if members.split(',').any(|member| member == user) {
                let rest: Vec<&str> = members.split(',').filter(|member| *member != user).collect();
                *line = format!("{head}:{}", rest.join(","));
            }
        }
    }
}

impl Database {
    /// Numbers of users and groups that are taken.
    pub fn numbers(&self) -> BTreeSet<u32> {
        let third = |table: &Table| -> Vec<u32> {
            table.lines.iter().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
        };
        third(&self.passwd).into_iter().chain(third(&self.group)).collect()
    }

    /// A group's number.
    pub fn gid(&self, group: &str) -> Option<u32> {
        self.group.field(group, 2)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_before_the_name_service_and_the_rest_stays() {
        let mut table = Table::parse("root:x:0:0::/root:/bin/sh\n# mine\n+::::::\n");
        table.add("a:x:5:5::/:/x".to_owned());
        assert_eq!(table.text(), "root:x:0:0::/root:/bin/sh\n# mine\na:x:5:5::/:/x\n+::::::\n");
        assert_eq!((table.holder(5), table.holder(6), table.field("a", 2)), (Some("a"), None, Some("5")));
        assert_eq!(table.names().collect::<Vec<_>>(), ["root", "a"]);
    }

    #[test]
    fn lines_are_changed_and_taken_away() {
        let mut table = Table::parse("a:x:1:u,v\nb:x:2:u\nshort\n");
        table.set_field("a", 2, "9");
        table.set_field("short", 2, "9");
        table.remove_member("u");
        assert_eq!(table.text(), "a:x:9:v\nb:x:2:\nshort\n");
        table.remove("a");
        assert_eq!(table.text(), "b:x:2:\nshort\n");
    }

    #[test]
    fn members_are_added_once() {
        let mut table = Table::parse("sudo:x:27:\nbroken\n");
        for user in ["a", "b", "a"] {
            table.add_member("sudo", user);
        }
        table.add_member("broken", "a");
        assert_eq!(table.text(), "sudo:x:27:a,b\nbroken\n");
    }
}
