//! Scenario files: text to what the guest needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use builder::tree::{Kind, Meta, Node, Origin, Tree};

/// Where the runner has units put.
const UNITS: &str = "run/systemd/system";
/// The folder among those of manual pages that holds the guest's programs.
const GUEST: &str = "guest";
/// Ends of unit names.
const KINDS: [&str; 9] =
    [".service", ".socket", ".timer", ".path", ".target", ".mount", ".slice", ".swap", ".automount"];

/// One scenario: files, actions, and the claim of a manual page that they try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// `PAGE/NN-NAME`, from its place.
    pub name: String,
    /// The manual page, such as `systemd.service(5)`.
    pub page: String,
    /// The section or directive of the page.
    pub section: String,
    /// What the page says there, in short.
    pub claim: String,
    files: Vec<ScenarioFile>,
    actions: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ScenarioFile {
    /// From the root, without a leading `/`.
    path: String,
    content: FileContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FileContent {
    Text { text: String, mode: u16 },
    Link(String),
}

/// What follows a `---` line.
enum Part {
    File(ScenarioFile),
    Actions,
}

impl Scenario {
    /// Reads a scenario file; `file` is how messages call it.
    ///
    /// # Errors
    /// `FILE:LINE` and what is wrong there.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self> {
        let mut lines = text.lines().enumerate();
        let head = lines.next().and_then(|(_, line)| line.strip_prefix("# ")).unwrap_or_default();
        let fields: Vec<&str> = head.split(" | ").map(str::trim).collect();
        let [page, section, claim] = fields.as_slice() else {
            bail!("{file}:1: the first line is `# PAGE(SECTION) | SECTION OR DIRECTIVE | CLAIM`");
        };
        let mut scenario = Self {
            name: name.to_owned(),
            page: (*page).to_owned(),
            section: (*section).to_owned(),
            claim: (*claim).to_owned(),
            files: Vec::new(),
            actions: String::new(),
        };
        let mut part = None;
        for (index, line) in lines {
            if let Some(marker) = line.strip_prefix("--- ") {
                scenario.end_part(part.take());
                part = Some(Part::parse(marker).with_context(|| format!("{file}:{}", index + 1))?);
                continue;
            }
            let text = match &mut part {
                Some(Part::Actions) => &mut scenario.actions,
                Some(Part::File(ScenarioFile { content: FileContent::Text { text, .. }, .. })) => text,
                _ if line.trim().is_empty() || line.starts_with('#') => continue,
                _ => bail!(
                    "{file}:{}: text before the first `--- unit NAME`, `--- file`, `--- link` or `--- run`",
                    index + 1
                ),
            };
            text.push_str(line);
            text.push('\n');
        }
        scenario.end_part(part);
        if scenario.actions.trim().is_empty() {
            bail!("{file}: there is no `--- run` part");
        }
        Ok(scenario)
    }

    fn end_part(&mut self, part: Option<Part>) {
        if let Some(Part::File(file)) = part {
            self.files.push(file);
        }
    }

    /// Units that are stopped and reset when the scenario is over: those that it brings, and instances and others that
    /// its actions name.
    pub fn units(&self) -> BTreeSet<String> {
        let of_files = self.files.iter().filter_map(|file| {
            let name = file.path.strip_prefix(UNITS)?.trim_start_matches('/');
            (!name.contains('/')).then_some(name)
        });
        let of_actions = self
            .actions
            .split(|c: char| !(c.is_ascii_alphanumeric() || "@.-_:\\".contains(c)))
            .filter(|word| {
                // Of a folder of unit files only templates are not named.
                word.contains('@') || self.files.is_empty()
            });
        let is_unit = |name: &&str| {
            KINDS.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind)) && !name.contains("@.")
        };
        of_files.chain(of_actions).filter(is_unit).map(str::to_owned).collect()
    }

    /// Adds the scenario's folder to what the guest unpacks.
    ///
    /// # Errors
    /// Two files have one path.
    pub fn add_to(&self, tree: &mut Tree) -> Result<()> {
        let folder = format!("scenarios/{}", self.name);
        for file in &self.files {
            let (kind, mode) = match &file.content {
                FileContent::Text { text, mode } => (Kind::file(text.as_bytes()), *mode),
                FileContent::Link(target) => (Kind::Symlink(target.as_bytes().to_vec()), 0o777),
            };
            add(tree, &format!("{folder}/files/{}", file.path), kind, mode)?;
        }
        if self.files.is_empty() {
            add(tree, &format!("{folder}/files"), Kind::empty_directory(), 0o755)?;
        }
        let lines =
            |words: &mut dyn Iterator<Item = String>| words.map(|word| word + "\n").collect::<String>();
        let paths = lines(&mut self.files.iter().map(|file| format!("/{}", removed_with(&file.path))));
        let units = lines(&mut self.units().into_iter());
        for (name, text) in [("paths", &paths), ("units", &units), ("run", &self.actions)] {
            add(tree, &format!("{folder}/{name}"), Kind::file(text.as_bytes()), 0o644)?;
        }
        Ok(())
    }
}

/// Adds a file of the tests' own to a tree.
pub(super) fn add(tree: &mut Tree, path: &str, kind: Kind, mode: u16) -> Result<()> {
    tree.insert(path.as_bytes(), Node::new(kind, Meta::root(mode, 0), Origin::new("conformance")))?;
    Ok(())
}

/// What is removed to be rid of a file: the folder of drop-ins or of links that it is in, else the file.
fn removed_with(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((folder, _))
            if [".d", ".wants", ".requires", ".upholds"].iter().any(|end| folder.ends_with(end)) =>
        {
            folder
        }
        _ => path,
    }
}

impl Part {
    fn parse(marker: &str) -> Result<Self> {
        let words: Vec<&str> = marker.split_ascii_whitespace().collect();
        let text = |mode| FileContent::Text { text: String::new(), mode };
        let place = |path: &str| path.trim_start_matches('/').to_owned();
        let (path, content) = match words.as_slice() {
            ["run"] => return Ok(Self::Actions),
            ["unit", name] => (format!("{UNITS}/{name}"), text(0o644)),
            ["file", path] => (place(path), text(0o644)),
            ["file", path, mode] => {
                let mode = u16::from_str_radix(mode, 8).with_context(|| format!("{mode} is no mode"))?;
                (place(path), text(mode))
            }
            ["link", name, target] if name.starts_with('/') => {
                (place(name), FileContent::Link((*target).to_owned()))
            }
            ["link", name, target] => (format!("{UNITS}/{name}"), FileContent::Link((*target).to_owned())),
            _ => {
                bail!("`--- {marker}` is none of `unit NAME`, `file PATH [MODE]`, `link NAME TARGET`, `run`")
            }
        };
        Ok(Self::File(ScenarioFile { path, content }))
    }
}

/// All scenarios of a folder of folders (`PAGE/NN-NAME.txt`), in the order in which they run.
///
/// # Errors
/// One cannot be read, or is malformed.
pub fn load_all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut found = Vec::new();
    for page in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let page = page?;
        if !page.file_type()?.is_dir() || page.file_name() == GUEST {
            continue;
        }
        for file in fs::read_dir(page.path())? {
            let path = file?.path();
            let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".txt")) else {
                bail!("{} is no scenario: those end in .txt", path.display());
            };
            let name = format!("{}/{stem}", page.file_name().to_string_lossy());
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            found.push(Scenario::parse(&name, &path.display().to_string(), &text)?);
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The scenarios as a table of Markdown, a row each: manual page, section or directive, claim, name.
pub fn table(scenarios: &[Scenario]) -> String {
    let head = "| manual page | section or directive | what is tried | scenario |\n|---|---|---|---|\n";
    let rows = scenarios.iter().map(|scenario| {
        let Scenario { name, page, section, claim, .. } = scenario;
        format!("| {page} | {section} | {claim} | `{name}` |\n")
    });
    head.to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# systemd.unit(5) | Wants= | It pulls in.\n\
        --- unit a@.service\n[Service]\nExecStart=/bin/true\n--- unit a@1.service.d/x.conf\n[Service]\n\
        --- link b.target.wants/a@2.service ../a@.service\n--- run\nrun systemctl start a@1.service\n";

    #[test]
    fn a_scenario_has_files_units_and_actions() -> Result<()> {
        let scenario = Scenario::parse("p/01", "f", TEXT)?;
        assert_eq!((scenario.page.as_str(), scenario.section.as_str()), ("systemd.unit(5)", "Wants="));
        assert_eq!(scenario.units().into_iter().collect::<Vec<_>>(), ["a@1.service"]);
        let mut tree = Tree::new(Meta::root(0o755, 0));
        scenario.add_to(&mut tree)?;
        let paths: Vec<String> =
            tree.walk().map(|(path, _)| String::from_utf8_lossy(&path).into_owned()).collect();
        for path in ["a@.service", "a@1.service.d/x.conf", "b.target.wants/a@2.service"] {
            let path = format!("scenarios/p/01/files/run/systemd/system/{path}");
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let problem = |text: &str| format!("{:#}", Scenario::parse("p/01", "f.txt", text).unwrap_err());
        assert!(problem("--- run\nx\n").starts_with("f.txt:1: the first line is"));
        assert!(problem("# a | b | c\nx\n").starts_with("f.txt:2: text before"));
        assert!(problem("# a | b | c\n--- units a\n").starts_with("f.txt:2: `--- units a` is none of"));
        assert_eq!(problem("# a | b | c\n--- unit a.service\n"), "f.txt: there is no `--- run` part");
    }

    #[test]
    fn folders_of_drop_ins_and_links_go_with_their_files() {
        for (path, removed) in [
            ("run/systemd/system/a.service", "run/systemd/system/a.service"),
            ("run/systemd/system/a.service.d/x.conf", "run/systemd/system/a.service.d"),
            ("etc/systemd/system/a.target.wants/b.service", "etc/systemd/system/a.target.wants"),
        ] {
            assert_eq!(removed_with(path), removed);
        }
    }
}
