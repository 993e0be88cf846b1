//! Carries a plan out, one step after the other.

pub mod accounts;
pub mod files;
pub mod machine;
pub mod scripts;
pub mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use image_config::user_data::plan::{Contents, File, OnFailure, Planned, Step};
use image_config::user_data::resource::Resource;

use self::accounts::{AccountError, Accounts};
use self::files::{FileError, Files};
use self::machine::MachineError;
use self::scripts::ScriptError;
use self::units::UnitError;
use crate::journey::{Earlier, Journey};

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Files, folders, links.
    #[error(transparent)]
    File(#[from] FileError),
    /// Users and groups.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The machine as a whole.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Units.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A program.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A remote content that was not fetched.
    #[error("{0} was not fetched")]
    NotFetched(String),
}

/// What steps need besides themselves.
#[derive(Debug)]
pub struct Executor<'a> {
    root: PathBuf,
    files: Files,
    fetched: &'a BTreeMap<Resource, Vec<u8>>,
    instance: &'a str,
    /// Files that this run has written.
    rewritten: BTreeSet<String>,
    /// Lines for the log that are no failures.
    pub notes: Vec<String>,
}

impl<'a> Executor<'a> {
    /// For the system below `root`, with all remote contents at hand.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub fn new(root: &Path, fetched: &'a BTreeMap<Resource, Vec<u8>>, instance: &'a str) -> io::Result<Self> {
        let files = Files::open(root)?;
        Ok(Self {
            root: root.to_owned(),
            files,
            fetched,
            instance,
            rewritten: BTreeSet::new(),
            notes: Vec::new(),
        })
    }

    /// Takes these steps. Returns what failed, a line each with where it was asked for; after the first failure nothing else is done
    /// when that stops the boot.
    pub fn run<'p>(
        &mut self,
        steps: impl Iterator<Item = &'p Planned>,
        on_failure: OnFailure,
        journey: &Journey,
    ) -> Vec<String> {
        let mut failed = Vec::new();
        for planned in steps {
            if let Err(error) = self.take(&planned.step, journey) {
                failed.push(format!("{}: {}", planned.origin, init::early::console::chain(&error)));
                if on_failure == OnFailure::StopBoot {
                    break;
                }
            }
        }
        failed
    }

    fn take(&mut self, step: &Step, journey: &Journey) -> Result<(), StepError> {
        let accounts = Accounts::new(&self.root, &self.files);
        match step {
            Step::SetHostname(name) => machine::set_hostname(&self.root, &self.files, name)?,
            Step::CreateGroup(group) => accounts.group(group)?,
            Step::DeleteGroup(name) => accounts.delete_group(name)?,
            Step::CreateUser(user) => accounts.user(user)?,
            Step::DeleteUser(name) => accounts.delete_user(name)?,
            Step::AuthorizeKeys(keys) => accounts.keys(keys)?,
            Step::TrustCertificates(wish) => {
                let texts: Result<Vec<&[u8]>, _> = wish.trusted.iter().map(|one| self.bytes(one)).collect();
                machine::trust(&self.root, &self.files, &texts?, wish.removes_defaults)?;
            }
            Step::MakeDirectory(folder) => {
                self.files.make_folder(folder, journey.has_made(&folder.path))?;
            }
            Step::WriteFile(file) => {
                self.write(file, journey)?;
                if file.path == machine::HOSTNAME_FILE {
                    machine::follow_hostname(&self.root)?;
                }
            }
            Step::MakeLink(link) => {
                self.files.link(link, journey.has_made(&link.path))?;
            }
            Step::SetAssignments(wish) => machine::assign(&self.root, &self.files, wish)?,
            Step::WriteHosts { hostname } => machine::write_hosts(&self.files, hostname.as_deref())?,
            Step::SetTimezone(zone) => machine::set_timezone(&self.root, &self.files, zone)?,
            Step::SetTimeServers(servers) => machine::set_time_servers(&self.files, servers)?,
            Step::MaskUnit(place) => units::mask(&self.root, place)?,
            Step::UnmaskUnit(place) => units::unmask(&self.root, place)?,
            Step::EnableUnit(place) => self.notes.extend(units::enable(&self.root, place)?),
            Step::DisableUnit(place) => units::disable(&self.root, place)?,
            Step::ReloadUnits => units::reload()?,
            Step::UnitCommand { unit, command } => units::command(unit, *command)?,
            Step::Run(script) => scripts::run(&self.root, script, self.instance)?,
        }
        Ok(())
    }

    fn write(&mut self, file: &File, journey: &Journey) -> Result<(), StepError> {
        let contents = file.contents.as_ref().map(|contents| self.bytes(contents)).transpose()?;
        let append: Result<Vec<&[u8]>, _> = file.append.iter().map(|more| self.bytes(more)).collect();
        // What an interrupted run has appended is not appended twice, unless this run has written the file already.
        let earlier = match journey.earlier(file) {
            Earlier::Appended(_) if self.rewritten.contains(&file.path) => Earlier::Nothing,
            earlier => earlier,
        };
        self.files.write(file, contents, &append?, earlier)?;
        self.rewritten.insert(file.path.clone());
        Ok(())
    }

    fn bytes<'c>(&'c self, contents: &'c Contents) -> Result<&'c [u8], StepError> {
        match contents {
            Contents::Inline(bytes) => Ok(bytes),
            Contents::Remote(resource) => {
                let found = self.fetched.get(resource).map(Vec::as_slice);
                found.ok_or_else(|| StepError::NotFetched(resource.url.clone()))
            }
        }
    }
}
