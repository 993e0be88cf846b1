//! The three parts of a boot that this program has: finding user-data and carrying it out, doing so once the network is there, and what
//! comes after everything else has started. Start reading at [`Boot::find`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image_config::diagnostic::Diagnostics;
use image_config::user_data::plan::{Contents, MachinePlan, OnFailure, Planned, Stage, Step};
use image_config::user_data::{Address, DEEPEST_MERGE, Facts, Format, Outcome, UserData};
use image_config::user_data::{Addresses, Metadata as About};
use init::early::cmdline::CommandLine;

use crate::apply::{Executor, units};
use crate::journey::Journey;
use crate::report::{complain, status, tell};
use crate::source::metadata::Metadata;
use crate::source::{Content, Origin};
use crate::store::{self, Folder, Record, Told};
use crate::{addresses, network, search};

/// The unit that goes on when the network is there.
const NETWORK_UNIT: &str = "ferrite-user-data-network.service";
/// The unit of what comes last.
const FINAL_UNIT: &str = "ferrite-user-data-final.service";
/// Where the boot of a machine ends that Ignition could not configure.
const EMERGENCY: &str = "emergency.target";
/// How long a machine's first configuration is waited for: as long as coreos-cloudinit did.
const FIRST_PATIENCE: Duration = Duration::from_secs(300);
/// The same in a boot that must prove itself, which another machine's silence must not make fail (SAFETY 15).
const TRIAL_PATIENCE: Duration = Duration::from_secs(60);
/// The same when there is a copy of an earlier boot to go on with.
const LATER_PATIENCE: Duration = Duration::from_secs(30);

/// How often a plan is made anew: for each configuration that names another, and once for an address.
const MOST_ROUNDS: usize = DEEPEST_MERGE + 2;
/// Name of the text in messages.
const NAME: &str = "user-data";
/// Rank of volumes, which may be a while in coming.
const VOLUME_RANK: u8 = 2;

/// Where programs find the machine's addresses, as on CoreOS.
const ENVIRONMENT: &str = "/etc/environment";

/// What ended a part early.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// What went wrong has been said.
    #[error("the user-data was not applied as a whole")]
    Told,
    /// STATE cannot be written.
    #[error("cannot keep the record of user-data")]
    Store(#[source] std::io::Error),
    /// The root.
    #[error("cannot open the root folder")]
    Root(#[source] std::io::Error),
}

/// A boot of a machine.
#[derive(Debug)]
pub struct Boot {
    root: PathBuf,
    kept: Folder,
    record: Option<Record>,
    /// `/var` lasts for this boot alone (SAFETY 22).
    is_volatile: bool,
    is_trial: bool,
    machine_id: String,
    start: Instant,
}

/// User-data with all that belongs to it.
struct Material {
    text: Vec<u8>,
    told: Told,
    /// It comes from the copy of an earlier boot.
    is_copy: bool,
}

/// Whether the network may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    NotYet,
    There,
}

/// A plan and what its steps need, or that the network is needed for it.
enum Prepared {
    Ready(Box<Ready>),
    NeedsNetwork(&'static str),
}

struct Ready {
    plan: MachinePlan,
    facts: Facts,
    /// What there is to say about the text.
    findings: Diagnostics,
    /// The text has errors.
    is_refused: bool,
}

impl Boot {
    /// Looks at the machine.
    pub fn observe(root: &Path) -> Self {
        let kept = Folder::kept(root);
        let machine_id = std::fs::read_to_string(root.join("etc/machine-id")).unwrap_or_default();
        Self {
            root: root.to_owned(),
            record: kept.record(),
            kept,
            is_volatile: Path::new(init::early::VOLATILE_FLAG).exists(),
            is_trial: CommandLine::read().is_ok_and(|line| line.trial),
            machine_id,
            start: Instant::now(),
        }
    }

    /// Finds user-data, and carries it out unless that takes the network: then another unit goes on.
    ///
    /// # Errors
    /// [`BootError`]
    pub fn find(&self) -> Result<(), BootError> {
        self.go(Network::NotYet)
    }

    /// The same when the network is there.
    ///
    /// # Errors
    /// [`BootError`]
    pub fn find_by_network(&self) -> Result<(), BootError> {
        self.go(Network::There)
    }

    fn go(&self, network: Network) -> Result<(), BootError> {
        let kept = self.kept.load();
        let was_volume = kept.as_ref().is_some_and(|(_, told)| told.rank == VOLUME_RANK);
        let found = search::find(&self.root, self.record.is_none() || was_volume);
        // What lies on the machine's own disk for want of anything else does not replace what was there before.
        let rank = kept.as_ref().map_or(u8::MAX, |(_, told)| told.rank);
        let Some(found) = found.filter(|found| found.origin.rank() <= rank) else {
            return match kept {
                Some((text, told)) => {
                    tell(&format!("{} is gone, its copy is used", told.origin));
                    self.configure(&Material { text, told, is_copy: true }, network)
                }
                None => self.nothing(),
            };
        };
        let origin = found.origin.to_string();
        tell(&format!("user-data from {origin}"));
        let documents = match found.content {
            Content::Here(documents) => *documents,
            Content::There(_) if self.ignition_is_done() => {
                status(&format!("{origin}: Ignition has configured this machine at its first boot"));
                return Ok(());
            }
            Content::There(_) if network == Network::NotYet => return self.hand_over(&origin, "is fetched"),
            Content::There(remote) => {
                let same = kept.filter(|(_, told)| told.origin == origin);
                match network::documents(&remote, self.deadline(same.is_some())) {
                    Ok(documents) => documents,
                    Err(error) => {
                        let problem = init::early::console::chain(&error);
                        return self.without(&found.origin, &problem, same, network);
                    }
                }
            }
        };
        documents.problems.iter().for_each(|problem| complain(&format!("{origin}: {problem}")));
        let told = Told::new(&found.origin, &documents.metadata);
        self.configure(&Material { text: documents.user_data, told, is_copy: false }, network)
    }

    fn ignition_is_done(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.ignition && record.configured)
    }

    fn deadline(&self, has_copy: bool) -> Instant {
        self.start
            + match (has_copy, self.is_trial) {
                (true, _) => LATER_PATIENCE,
                (false, true) => TRIAL_PATIENCE,
                (false, false) => FIRST_PATIENCE,
            }
    }

    /// The machine has no user-data: from the next boot on it is no new one.
    fn nothing(&self) -> Result<(), BootError> {
        status("no user-data");
        match self.record {
            None if !self.is_volatile => self.kept.write_record(&Record::default()).map_err(BootError::Store),
            _ => Ok(()),
        }
    }

    /// The source does not answer: the copy of an earlier boot, if there is one.
    fn without(
        &self,
        origin: &Origin,
        problem: &str,
        same: Option<(Vec<u8>, Told)>,
        network: Network,
    ) -> Result<(), BootError> {
        complain(&format!("{origin}: {problem}"));
        match same {
            Some((text, told)) => {
                tell("the copy of an earlier boot is used");
                self.configure(&Material { text, told, is_copy: true }, network)
            }
            None => {
                status(&format!("{origin}: {problem}"));
                if matches!(origin, Origin::CommandLine("ignition.config.url", _)) {
                    self.stop_boot();
                }
                Err(BootError::Told)
            }
        }
    }

    /// Lets the unit go on that waits for the network. It is queued before this one is done, so that whatever waits for this one
    /// waits for it as well.
    fn hand_over(&self, origin: &str, why: &str) -> Result<(), BootError> {
        status(&format!("{origin}: {NETWORK_UNIT} goes on, because it {why}"));
        units::job(NETWORK_UNIT, "restart", "replace", false).map_err(|error| {
            complain(&error.to_string());
            BootError::Told
        })
    }

    fn configure(&self, material: &Material, network: Network) -> Result<(), BootError> {
        let Material { text, told, .. } = material;
        let metadata = told.metadata();
        let origin = &told.origin;
        let (user_data, is_unreadable) = Self::read(text)?;
        let is_ignition = is_ignition(&user_data);
        if is_ignition && !self.may_ignite(origin) {
            return Ok(());
        }
        let has_copy = self.record.as_ref().is_some_and(|record| record.configured);
        let prepared = self.prepare(&user_data, &metadata, network, self.deadline(has_copy));
        let ready = match prepared {
            Ok(Prepared::Ready(ready)) => *ready,
            Ok(Prepared::NeedsNetwork(why)) => return self.hand_over(origin, why),
            Err(problem) => {
                complain(&format!("{origin}: {problem}"));
                status(&format!("{origin}: {problem}"));
                if is_ignition {
                    self.stop_boot();
                }
                return Err(BootError::Told);
            }
        };
        tell_findings(&ready.findings);
        let is_bad = is_unreadable || ready.is_refused;
        self.carry_out(material, &metadata, &ready, is_bad, is_ignition)
    }

    /// What the text is. One that cannot be read is told of, and stands for an empty one: what the source says beside it still counts.
    fn read(text: &[u8]) -> Result<(UserData, bool), BootError> {
        match UserData::read(NAME, text) {
            Ok(user_data) => Ok((user_data, false)),
            Err(findings) => {
                tell_findings(&findings);
                let empty = UserData::read(NAME, b"").map_err(|_| BootError::Told)?;
                Ok((empty, true))
            }
        }
    }

    /// Ignition runs in the first boot of a machine, and goes on in later ones until it is done.
    fn may_ignite(&self, origin: &str) -> bool {
        match &self.record {
            Some(record) if record.ignition && record.configured => {
                status(&format!("{origin}: Ignition has configured this machine at its first boot"));
                false
            }
            Some(record) if !record.ignition => {
                let text = "Ignition configures machines in their first boot only, and this is a later one: nothing was done";
                complain(&format!("{origin}: {text}"));
                status(&format!("{origin}: {text}"));
                false
            }
            _ => true,
        }
    }

    /// Makes the plan, waiting for addresses and fetching what it takes.
    fn prepare(
        &self,
        user_data: &UserData,
        metadata: &Metadata,
        network: Network,
        deadline: Instant,
    ) -> Result<Prepared, String> {
        let wanted: Vec<Address> = user_data
            .addresses()
            .into_iter()
            .filter(|address| get(&metadata.addresses, *address).is_none())
            .collect();
        if network == Network::NotYet && !wanted.is_empty() {
            return Ok(Prepared::NeedsNetwork("needs the machine's addresses"));
        }
        let about =
            About { hostname: metadata.hostname.clone(), ssh_authorized_keys: metadata.ssh_keys.clone() };
        let mut facts = Facts { addresses: metadata.addresses.clone(), metadata: about, ..Facts::default() };
        if !wanted.is_empty() {
            status("waiting for the machine's addresses");
            facts.addresses = self.wait_for_addresses(metadata, &wanted, deadline);
        }
        if network == Network::There {
            facts.addresses = addresses::complete(&facts.addresses);
        }
        for _round in 0..MOST_ROUNDS {
            let (plan, findings, is_refused) = match user_data.plan(&facts) {
                Outcome::Plan(plan, findings) => (plan, findings, false),
                Outcome::Refused(plan, findings) => (plan, findings, true),
                Outcome::Fetch(..) if network == Network::NotYet => {
                    return Ok(Prepared::NeedsNetwork("names configurations on the network"));
                }
                Outcome::Fetch(resources, policy) => {
                    status("fetching what the configuration names");
                    network::resources(&resources, &policy, &mut facts.fetched, deadline)
                        .map_err(|error| init::early::console::chain(&error))?;
                    continue;
                }
            };
            if reads_environment(&plan) && facts.addresses.private_ipv4.is_none() {
                if network == Network::NotYet {
                    return Ok(Prepared::NeedsNetwork(
                        "has units that read the machine's addresses in /etc/environment",
                    ));
                }
                let known = Metadata { addresses: facts.addresses.clone(), ..metadata.clone() };
                facts.addresses = self.wait_for_addresses(&known, &[Address::PrivateIpv4], deadline);
                if facts.addresses.private_ipv4.is_some() {
                    continue;
                }
            }
            let resources: Vec<_> = plan.resources().into_iter().cloned().collect();
            if network == Network::NotYet && !resources.is_empty() {
                return Ok(Prepared::NeedsNetwork("has contents on the network"));
            }
            network::resources(&resources, &plan.fetch, &mut facts.fetched, deadline)
                .map_err(|error| init::early::console::chain(&error))?;
            return Ok(Prepared::Ready(Box::new(Ready { plan, facts, findings, is_refused })));
        }
        Err("its configurations name one another without end".to_owned())
    }

    /// Of IPv6 nothing is waited for once there is IPv4: many networks have none, and none of them says so.
    fn wait_for_addresses(&self, metadata: &Metadata, wanted: &[Address], deadline: Instant) -> Addresses {
        let is_four = |address: &Address| matches!(address, Address::PrivateIpv4 | Address::PublicIpv4);
        let enough = |found: &Addresses| {
            let mut needed = wanted.iter().filter(|address| is_four(address)).peekable();
            match needed.peek() {
                Some(_) => needed.all(|address| get(found, *address).is_some()),
                None => wanted.iter().all(|address| get(found, *address).is_some()),
            }
        };
        let found = addresses::wait_for(&metadata.addresses, &enough, deadline);
        for address in wanted.iter().filter(|address| get(&found, **address).is_none()) {
            complain(&format!("the machine has no address for {address:?}: it stays empty"));
        }
        found
    }

    fn carry_out(
        &self,
        material: &Material,
        metadata: &Metadata,
        ready: &Ready,
        is_bad: bool,
        is_ignition: bool,
    ) -> Result<(), BootError> {
        let Ready { plan, facts, .. } = ready;
        let origin = &material.told.origin;
        if is_bad && is_ignition {
            status(&format!("{origin}: the Ignition config has errors"));
            self.stop_boot();
            return Err(BootError::Told);
        }
        let instance = store::instance(metadata, &self.machine_id, &material.text);
        let known = self.record.as_ref().filter(|record| record.instance == instance);
        let is_new = !known.is_some_and(|record| record.configured);
        let mut record = Record {
            instance: instance.clone(),
            origin: origin.clone(),
            configured: !is_new,
            finished: known.is_some_and(|record| record.finished),
            ignition: is_ignition,
        };
        let mut journey = Journey::unnoted();
        if !self.is_volatile {
            if !is_ignition && !material.is_copy {
                self.kept.save(&material.text, &material.told).map_err(BootError::Store)?;
            }
            self.kept.write_record(&record).map_err(BootError::Store)?;
            if is_new {
                let path = self.kept.journey().map_err(BootError::Store)?;
                let steps = [Stage::Early, Stage::Configure, Stage::Start]
                    .into_iter()
                    .flat_map(|stage| plan.due(stage, is_new))
                    .map(|planned| &planned.step);
                journey = Journey::begin(&path, &self.root, steps).map_err(BootError::Store)?;
            }
        }
        let mut executor = Executor::new(&self.root, &facts.fetched, &instance).map_err(BootError::Root)?;
        let mut failed = Vec::new();
        let is_allowed = |planned: &&Planned| !self.is_volatile || lets_people_in(&planned.step);
        for stage in [Stage::Early, Stage::Configure, Stage::Start] {
            let steps = plan.due(stage, is_new).filter(is_allowed);
            failed.extend(executor.run(steps, plan.on_failure, &journey));
            if !failed.is_empty() && plan.on_failure == OnFailure::StopBoot {
                break;
            }
        }
        executor.notes.iter().for_each(|note| tell(note));
        failed.iter().for_each(|line| complain(line));
        let is_stopped = !failed.is_empty() && plan.on_failure == OnFailure::StopBoot;
        if is_stopped && !self.is_volatile {
            status(&format!("{origin}: Ignition has failed: {}", failed.join("; ")));
            self.stop_boot();
            return Err(BootError::Told);
        }
        if !self.is_volatile {
            if is_new && is_ignition {
                store::write_ignition_result(&self.root).map_err(BootError::Store)?;
            }
            // A text that gets mended may keep the name of its instance.
            record.configured = !is_bad;
            self.kept.write_record(&record).map_err(BootError::Store)?;
            // Without it programs would not find the addresses of a machine whose configuration did not wait for any.
            let tells_addresses = !is_ignition && facts.addresses.private_ipv4.is_none();
            if !is_bad
                && (tells_addresses || plan.due(Stage::Final, !record.finished).next().is_some())
                && let Err(error) = units::job(FINAL_UNIT, "restart", "replace", false)
            {
                failed.push(error.to_string());
                complain(&error.to_string());
            }
        }
        let what = match (is_new, is_bad || !failed.is_empty(), self.is_volatile) {
            (_, true, _) => "applied in part, with errors: see the journal",
            (_, _, true) => "users and keys only, because /var is volatile",
            (true, ..) => "applied",
            (false, ..) => "applied in an earlier boot",
        };
        status(&format!("{origin}: {what} (instance {instance})"));
        if is_bad || !failed.is_empty() { Err(BootError::Told) } else { Ok(()) }
    }

    /// A machine that Ignition has not configured must not serve: the boot ends in a shell on the console.
    fn stop_boot(&self) {
        if self.is_volatile {
            return;
        }
        complain("the boot stops here, because Ignition has failed; the next one tries again");
        if let Err(error) = units::job(EMERGENCY, "start", "isolate", false) {
            complain(&format!("{EMERGENCY}: {error}"));
        }
    }

    /// What comes after the services of the boot have started: commands, scripts, deferred files.
    ///
    /// # Errors
    /// [`BootError`]
    pub fn finish(&self) -> Result<(), BootError> {
        let Some((text, told)) = self.kept.load() else { return Ok(()) };
        let Some(mut record) = self.record.clone().filter(|_| !self.is_volatile) else { return Ok(()) };
        let metadata = told.metadata();
        let user_data = UserData::read(NAME, &text).map_err(|_| BootError::Told)?; // told of when it was configured
        let prepared = self.prepare(&user_data, &metadata, Network::There, self.deadline(false));
        let ready = match prepared {
            Ok(Prepared::Ready(ready)) => *ready,
            Ok(Prepared::NeedsNetwork(_)) => return Ok(()), // it is there
            Err(problem) => {
                complain(&format!("{}: {problem}", told.origin));
                return Err(BootError::Told);
            }
        };
        let is_new = !record.finished;
        // Before, not after: a script that reboots the machine would otherwise do so for ever.
        record.finished = true;
        self.kept.write_record(&record).map_err(BootError::Store)?;
        let mut executor =
            Executor::new(&self.root, &ready.facts.fetched, &record.instance).map_err(BootError::Root)?;
        let told_late = ready.plan.steps.iter().filter(|planned| is_environment(planned));
        let steps = told_late.chain(ready.plan.due(Stage::Final, is_new));
        let failed = executor.run(steps, ready.plan.on_failure, &Journey::unnoted());
        executor.notes.iter().for_each(|note| tell(note));
        failed.iter().for_each(|line| complain(line));
        status(if failed.is_empty() { "all done" } else { "failed: see the journal" });
        if failed.is_empty() { Ok(()) } else { Err(BootError::Told) }
    }
}

fn is_ignition(user_data: &UserData) -> bool {
    user_data.parts().iter().any(|part| part.format == Format::Ignition)
}

/// Whether a plan writes files that name [`ENVIRONMENT`], as units do that read their addresses there.
fn reads_environment(plan: &MachinePlan) -> bool {
    let names =
        |bytes: &[u8]| bytes.windows(ENVIRONMENT.len()).any(|window| window == ENVIRONMENT.as_bytes());
    plan.steps.iter().any(|planned| match &planned.step {
        Step::WriteFile(file) if file.path.contains("/systemd/") => {
            planned.step.contents().any(|contents| match contents {
                Contents::Inline(bytes) => names(bytes),
                Contents::Remote(_) => false,
            })
        }
        _ => false,
    })
}

/// Whether a step tells programs the machine's addresses.
fn is_environment(planned: &Planned) -> bool {
    matches!(&planned.step, Step::SetAssignments(wish) if wish.path == ENVIRONMENT)
}

/// On a volatile `/var` (SAFETY 22) nothing is begun that would be lost or done twice; but whoever repairs the machine must get in.
fn lets_people_in(step: &Step) -> bool {
    matches!(step, Step::SetHostname(_) | Step::CreateGroup(_) | Step::CreateUser(_) | Step::AuthorizeKeys(_))
}

fn get(addresses: &Addresses, which: Address) -> Option<&String> {
    match which {
        Address::PrivateIpv4 => addresses.private_ipv4.as_ref(),
        Address::PublicIpv4 => addresses.public_ipv4.as_ref(),
        Address::PrivateIpv6 => addresses.private_ipv6.as_ref(),
        Address::PublicIpv6 => addresses.public_ipv6.as_ref(),
    }
}

/// Warnings go into the journal, errors to the console as well, each with the line that it is about.
fn tell_findings(findings: &Diagnostics) {
    for finding in findings.as_slice() {
        match finding.severity {
            image_config::diagnostic::Severity::Error => complain(&finding.to_string()),
            _ => tell(&finding.to_string()),
        }
    }
}
