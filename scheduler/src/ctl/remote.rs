//! What is done on other machines: `ssh` of the system does the talking.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use super::Session;
use super::args::Parsed;
use super::client;
use crate::api::entity::MachineEntity;
use crate::name;

/// Unless `--ssh-timeout` says something else.
const SSH_LIMIT: Duration = Duration::from_secs(10);

/// How machines are reached by SSH.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// Whom to connect to.
    pub host: String,
    /// Its port.
    pub port: Option<String>,
    options: Vec<String>,
    known_hosts: Option<PathBuf>,
}

impl Ssh {
    /// By what the command line says.
    ///
    /// # Errors
    /// A value is none, in words.
    pub fn of(parsed: &Parsed, host: &str, port: Option<&str>) -> Result<Self, String> {
        let checks = parsed.is_on("strict-host-key-checking", true);
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
        let file = parsed.value("known-hosts-file").unwrap_or("~/.fleetctl/known_hosts");
        let file = file.strip_prefix("~/").map_or_else(|| file.to_owned(), |rest| format!("{home}/{rest}"));
        let timeout = parsed.seconds("ssh-timeout")?.unwrap_or(SSH_LIMIT);
        let mut options = vec![
            "-l".to_owned(),
            parsed.value("ssh-username").unwrap_or("core").to_owned(),
            "-o".to_owned(),
            format!("ConnectTimeout={}", timeout.as_secs_f64().ceil()),
            "-o".to_owned(),
            // A key that is new is asked about, one that has changed ends it.
            format!("StrictHostKeyChecking={}", if checks { "ask" } else { "no" }),
            "-o".to_owned(),
            format!("UserKnownHostsFile={}", if checks { file.as_str() } else { "/dev/null" }),
        ];
        if parsed.has("forward-agent") {
            options.push("-A".to_owned());
        }
        let known_hosts = checks.then(|| PathBuf::from(&file));
        Ok(Self { host: host.to_owned(), port: port.map(str::to_owned), options, known_hosts })
    }

    /// The tunnel of the command line, if it names one.
    ///
    /// # Errors
    /// A value is none, in words.
    pub fn tunnel(parsed: &Parsed) -> Result<Option<Self>, String> {
        let Some(text) = parsed.value("tunnel") else { return Ok(None) };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => {
                (host, Some(port))
            }
            _ => (text, None),
        };
        Self::of(parsed, host.trim_matches(['[', ']']), port).map(Some)
    }

    /// `ssh` with the machine, and options before it.
    #[must_use]
    pub fn command(&self, options: &[&str]) -> Command {
        if let Some(folder) = self.known_hosts.as_ref().and_then(|file| file.parent()) {
            // If it cannot be made, ssh says that it cannot keep the key.
            let _told_by_ssh = std::fs::create_dir_all(folder);
        }
        let mut command = Command::new("ssh");
        command.args(&self.options);
        if let Some(port) = &self.port {
            command.args(["-p", port]);
        }
        command.args(options).arg(&self.host);
        command
    }

    /// The command line that reaches a machine's port through this one.
    fn proxy(&self) -> String {
        let command = self.command(&["-W", "%h:%p"]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")));
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// Words as one line for a shell.
fn shell_line(words: &[&str]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&it))
    };
    let quote = |word: &&str| {
        if plain(word) { (*word).to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn code(status: ExitStatus) -> u8 {
    u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)
}

/// Whether a machine is this one.
fn is_this(machine: &str) -> bool {
    std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim() == machine)
}

/// A command on a machine, here if it is this one.
fn command_on(parsed: &Parsed, machine: &MachineEntity, words: &[&str]) -> Result<Command, String> {
    if is_this(&machine.id) {
        let (first, rest) = words.split_first().ok_or("there is no command")?;
        let mut command = Command::new(first);
        command.args(rest);
        Ok(command)
    } else {
        let mut command = ssh_to(parsed, machine)?;
        command.arg("--").arg(shell_line(words));
        Ok(command)
    }
}

/// Becomes a command, so that a signal ends it and nothing of it is left; comes back only if that fails.
fn become_it(mut command: Command) -> Result<u8, String> {
    let error = command.exec();
    Err(format!("cannot run {:?}: {error}", command.get_program()))
}

/// Runs a command on a machine; its exit status.
fn run_on(parsed: &Parsed, machine: &MachineEntity, words: &[&str]) -> Result<u8, String> {
    let mut command = command_on(parsed, machine, words)?;
    let status =
        command.status().map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    Ok(code(status))
}

fn ssh_to(parsed: &Parsed, machine: &MachineEntity) -> Result<Command, String> {
    if machine.primary_ip.is_empty() {
        return Err(format!("machine {} has no address", machine.id));
    }
    let ssh = Ssh::of(parsed, &machine.primary_ip, parsed.value("ssh-port"))?;
    match Ssh::tunnel(parsed)? {
        Some(tunnel) => {
            let proxy = format!("ProxyCommand={}", tunnel.proxy());
            Ok(ssh.command(&["-o", &proxy]))
        }
        None => Ok(ssh.command(&[])),
    }
}

impl Session<'_> {
    fn machine_of(&mut self, id: &str) -> Result<MachineEntity, String> {
        let found = client::machines(self.api)?.into_iter().find(|machine| machine.id == id);
        found.ok_or_else(|| format!("machine {id} is away"))
    }

    /// The machines that a unit is on: one, or many of a global one.
    fn machines_of(&mut self, word: &str) -> Result<Vec<MachineEntity>, String> {
        let name = name::of_argument(word);
        let unit = client::unit(self.api, &name)?.ok_or_else(|| format!("Unit {name} does not exist."))?;
        if !unit.machine.is_empty() {
            return Ok(vec![self.machine_of(&unit.machine)?]);
        }
        if !unit.current_state.is_empty() {
            let why =
                if unit.reason.is_empty() { format!("it is {}", unit.current_state) } else { unit.reason };
            return Err(format!("Unit {name} is on no machine: {why}"));
        }
        let states = client::states(self.api)?;
        let all = client::machines(self.api)?;
        let runs =
            |machine: &MachineEntity| states.iter().any(|it| it.name == name && it.machine == machine.id);
        let found: Vec<MachineEntity> = all.into_iter().filter(runs).collect();
        if found.is_empty() { Err(format!("Unit {name} is on no machine.")) } else { Ok(found) }
    }

    pub(super) fn status(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let mut worst = 0;
        for word in &parsed.arguments {
            let name = name::of_argument(word);
            for machine in self.machines_of(word)? {
                worst = worst.max(run_on(parsed, &machine, &["systemctl", "status", "-l", &name])?);
            }
        }
        Ok(worst)
    }

    pub(super) fn journal(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let [word] = parsed.arguments.as_slice() else { return Err("journal takes one unit".to_owned()) };
        let name = name::of_argument(word);
        let unit = client::unit(self.api, &name)?.ok_or_else(|| format!("Unit {name} does not exist."))?;
        if unit.current_state.is_empty() {
            return Err(format!(
                "Unit {name} is global: its journal is on each machine, `fleetctl ssh MACHINE journalctl -u {name}`"
            ));
        }
        if unit.current_state == "inactive" {
            let why = if unit.reason.is_empty() { String::new() } else { format!(": {}", unit.reason) };
            return Err(format!("Unit {name} does not appear to be running{why}"));
        }
        let machine = self.machine_of(&unit.machine)?;
        let lines = parsed.number("lines", 10)?.to_string();
        let mut words = vec!["journalctl", "--unit", &name, "--no-pager", "-n", &lines, "--output"];
        words.push(parsed.value("output").unwrap_or("short"));
        if parsed.has("follow") {
            words.push("-f");
        }
        if parsed.has("sudo") {
            words.insert(0, "sudo");
        }
        become_it(command_on(parsed, &machine, &words)?)
    }

    pub(super) fn ssh(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let mut words = parsed.arguments.iter().map(String::as_str);
        let machine = match (parsed.value("machine"), parsed.value("unit")) {
            (Some(_), Some(_)) => return Err("--machine and --unit exclude each other".to_owned()),
            (Some(machine), None) => {
                self.find_machine(machine)?.ok_or_else(|| format!("there is no machine {machine}"))?
            }
            (None, Some(unit)) => self.one_machine(unit)?,
            (None, None) => {
                let word = words.next().ok_or("ssh takes a machine or a unit")?;
                let by_id = self.find_machine(word)?;
                let is_unit = client::unit(self.api, &name::of_argument(word))?.is_some();
                match (by_id, is_unit) {
                    (Some(_), true) => {
                        return Err(format!(
                            "{word:?} is a machine and a unit: --machine or --unit tells them apart"
                        ));
                    }
                    (Some(machine), false) => machine,
                    (None, true) => self.one_machine(word)?,
                    (None, false) => return Err(format!("there is no machine and no unit {word:?}")),
                }
            }
        };
        let rest: Vec<&str> = words.collect();
        let mut command = ssh_to(parsed, &machine)?;
        if !rest.is_empty() {
            // As ssh itself has it: the machine's shell reads the words.
            command.arg("--").args(rest);
        }
        become_it(command)
    }

    fn one_machine(&mut self, unit: &str) -> Result<MachineEntity, String> {
        match self.machines_of(unit)?.as_slice() {
            [machine] => Ok(machine.clone()),
            _ => Err(format!("{unit} is on several machines: name one of them")),
        }
    }

    /// A machine by its id or the beginning of it.
    pub(super) fn find_machine(&mut self, word: &str) -> Result<Option<MachineEntity>, String> {
        let all = client::machines(self.api)?;
        let found: Vec<MachineEntity> =
            all.into_iter().filter(|machine| machine.id.starts_with(word)).collect();
        match found.as_slice() {
            [] => Ok(None),
            [machine] => Ok(Some(machine.clone())),
            _ => Err(format!("{word:?} is the beginning of several machines' ids")),
        }
    }

    /// Restarts a global unit on all its machines.
    pub(super) fn restart_everywhere(&mut self, parsed: &Parsed, unit: &str) -> Result<(), String> {
        for machine in self.machines_of(unit)? {
            let words: &[&str] = if is_this(&machine.id) {
                &["systemctl", "restart", unit]
            } else {
                &["sudo", "systemctl", "restart", unit]
            };
            if run_on(parsed, &machine, words)? != 0 {
                return Err(format!("{unit} could not be restarted on {}", machine.id));
            }
        }
        Ok(())
    }
}

/// `fd-forward`: stdin and stdout to a socket.
///
/// # Errors
/// The socket's.
pub fn forward(path: &str) -> std::io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    let mut inward = socket.try_clone()?;
    thread::spawn(move || {
        // What has ended at one side ends at the other; a connection that broke shows in the answer.
        let _broken = std::io::copy(&mut std::io::stdin().lock(), &mut inward);
        let _closed = inward.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 8192];
    let mut out = std::io::stdout().lock();
    loop {
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..count).unwrap_or_default())?;
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::args;

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// Scenario 1, KnownHostsVerification, as far as it is ours: which file, and that a new key is asked about.
    #[test]
    fn ssh_is_told_where_keys_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys/known_hosts");
        let line = ["ssh", "--known-hosts-file", file.to_str().unwrap(), "--ssh-port=2222", "-A", "abc"]
            .map(str::to_owned);
        let parsed = args::parse(&line, |_| None).unwrap();
        let machine =
            MachineEntity { id: "abc".into(), primary_ip: "10.0.0.1".into(), ..MachineEntity::default() };
        let told = words(&ssh_to(&parsed, &machine).unwrap());
        let want = format!("UserKnownHostsFile={}", file.display());
        for part in ["StrictHostKeyChecking=ask", &want, "-A", "2222", "core", "10.0.0.1"] {
            assert!(told.iter().any(|word| word == part), "{told:?}");
        }
        assert!(file.parent().unwrap().is_dir());
        let line =
            ["ssh", "--strict-host-key-checking=false", "--tunnel=gate:2200", "abc"].map(str::to_owned);
        let parsed = args::parse(&line, |_| None).unwrap();
        let told = words(&ssh_to(&parsed, &machine).unwrap());
        let proxy = told.iter().find(|word| word.starts_with("ProxyCommand=")).unwrap();
        assert!(
            proxy.contains("'-p' '2200' '-W' '%h:%p' 'gate'")
                && proxy.contains("UserKnownHostsFile=/dev/null"),
            "{proxy}"
        );
    }

    #[test]
    fn words_go_through_a_shell_unchanged() {
        assert_eq!(shell_line(&["systemctl", "status", "a@1.service"]), "systemctl status a@1.service");
        assert_eq!(shell_line(&["echo", "it's", "", "a b"]), r"echo 'it'\''s' '' 'a b'");
    }
}
