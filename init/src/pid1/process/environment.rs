//! The environment of a process: systemd.exec(5), "Environment" and "Environment Variables in Spawned Processes".

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image_config::unit::value::SEARCH_PATH;
use image_config::unit::{ExecContext, Input, Output, parse_environment_file};

use super::folders::Folders;
use super::identity::Identity;
use super::streams::Connected;
use super::{Circumstances, Context, Step, code, failure};
use crate::pid1::paths;

/// Names and values.
pub(super) type Environment = BTreeMap<String, String>;

/// What other steps have found out.
pub(super) struct Known<'a> {
    pub identity: &'a Identity,
    pub folders: &'a Folders,
    /// The folder of credentials, if there are any.
    pub credentials: Option<String>,
    pub connected: Connected,
    /// Names of the descriptors that are handed over.
    pub names: &'a [&'a str],
    /// The process's own PID, or what stands for it.
    pub pid: &'a str,
}

/// Where the machine's language is set, locale.conf(5), and its variables.
const LOCALE_FILE: &str = "etc/locale.conf";
const LOCALE_NAMES: [&str; 14] = [
    "LANG",
    "LANGUAGE",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MONETARY",
    "LC_MESSAGES",
    "LC_PAPER",
    "LC_NAME",
    "LC_ADDRESS",
    "LC_TELEPHONE",
    "LC_MEASUREMENT",
    "LC_IDENTIFICATION",
];
/// What systemd asks the kernel to tell of memory pressure unless told otherwise: 200 ms of stalls in 2 s, with the NUL
/// that the interface wants, as Base64 (`some 200000 2000000`).
const PRESSURE_THRESHOLD: &str = "c29tZSAyMDAwMDAgMjAwMDAwMAA=";

/// Puts the environment together; of two settings of one name the later one wins.
pub(super) fn build(exec: &ExecContext, how: &Circumstances<'_>, known: &Known<'_>) -> Step<Environment> {
    let mut all = machine(how.locale);
    how.manager.apply(&mut all);
    let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    for (name, value) in &how.variables {
        set(name, value.clone());
    }
    if let Some(pid) = how.main_pid {
        set("MAINPID", pid.to_string());
    }
    set("SYSTEMD_EXEC_PID", known.pid.to_owned());
    set("INVOCATION_ID", how.run.invocation.clone());
    if how.variables.iter().any(|(name, _)| *name == "WATCHDOG_USEC") {
        set("WATCHDOG_PID", known.pid.to_owned());
    }
    if !known.names.is_empty() {
        set("LISTEN_PID", known.pid.to_owned());
        set("LISTEN_FDS", known.names.len().to_string());
        set("LISTEN_FDNAMES", known.names.join(":"));
    }
    let identity = known.identity;
    // $USER is set unconditionally, the others for a login, systemd.exec(5).
    let name = identity.name().map_or_else(|| "root".to_owned(), str::to_owned);
    set("USER", name.clone());
    if exec.set_login_environment.unwrap_or(identity.user_id().is_some() || exec.pam_name.is_some()) {
        let is_root = identity.user_id().is_none();
        set("LOGNAME", name);
        if let Some(home) = identity.telling_home().or(is_root.then_some("/root")) {
            set("HOME", home.to_owned());
        }
        if let Some(shell) = identity.telling_shell().or(is_root.then_some("/bin/sh")) {
            set("SHELL", shell.to_owned());
        }
    }
    if uses_terminal(exec) {
        set("TERM", terminal_type(exec.tty_path.as_deref().unwrap_or("/dev/console")).to_owned());
    }
    if let Some((device, inode)) = known.connected.journal {
        set("JOURNAL_STREAM", format!("{device}:{inode}"));
    }
    for (name, value) in known.folders.variables() {
        set(name, value);
    }
    if let Some(folder) = &known.credentials {
        set("CREDENTIALS_DIRECTORY", folder.clone());
    }
    if let Some(watch) = pressure_file(how, identity) {
        set("MEMORY_PRESSURE_WATCH", watch);
        set("MEMORY_PRESSURE_WRITE", PRESSURE_THRESHOLD.to_owned());
    }
    if !exec.search_path.is_empty() {
        set("PATH", exec.search_path.join(":"));
    }
    for name in &exec.pass_environment {
        if let Ok(value) = std::env::var(name) {
            set(name, value);
        }
    }
    for (name, value) in &exec.environment {
        set(name, value.clone());
    }
    for (name, value) in read_files(exec)? {
        set(&name, value);
    }
    unset(&mut all, &exec.unset_environment);
    Ok(all)
}

/// The machine's language as it is set, locale.conf(5).
pub fn locale(root: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(root.join(LOCALE_FILE)).unwrap_or_default();
    let mut written = parse_environment_file(&text);
    written.retain(|(name, value)| LOCALE_NAMES.contains(&name.as_str()) && !value.is_empty());
    written
}

/// What every service sees: the manager's own environment.
pub fn machine(locale: &[(String, String)]) -> Environment {
    let mut all = Environment::new();
    all.insert("PATH".to_owned(), SEARCH_PATH.join(":"));
    all.extend(locale.iter().cloned());
    all.entry("LANG".to_owned()).or_insert_with(|| "C.UTF-8".to_owned());
    all
}

/// `EnvironmentFile=`, all of them in order.
fn read_files(exec: &ExecContext) -> Step<Vec<(String, String)>> {
    let mut all = Vec::new();
    for file in &exec.environment_files {
        let found = paths::expand(&file.path);
        if found.is_empty() && !file.optional {
            return Err(failure(
                code::RESOURCES,
                format!("EnvironmentFile={}: there is no such file", file.path),
            ));
        }
        for path in found {
            match fs::read(&path) {
                Ok(bytes) => all.extend(parse_environment_file(&String::from_utf8_lossy(&bytes))),
                Err(_) if file.optional => {}
                Err(error) => {
                    return Err(error)
                        .step(code::RESOURCES, format_args!("EnvironmentFile={}", path.display()));
                }
            }
        }
    }
    Ok(all)
}

/// `UnsetEnvironment=`: a name, or an assignment that must be just so.
fn unset(all: &mut Environment, list: &[String]) {
    for entry in list {
        match entry.split_once('=') {
            None => drop(all.remove(entry)),
            Some((name, value)) if all.get(name).is_some_and(|found| found == value) => {
                drop(all.remove(name))
            }
            Some(_) => {}
        }
    }
}

/// Where the unit may watch its memory, given to its user; `None` where the kernel does not account for it.
fn pressure_file(how: &Circumstances<'_>, identity: &Identity) -> Option<String> {
    let path = how.cgroup.as_ref()?.join("memory.pressure");
    if let Some((user, group)) = identity.owner() {
        std::os::unix::fs::chown(&path, Some(user), Some(group)).ok()?;
    }
    path.exists().then(|| path.to_string_lossy().into_owned())
}

/// The Linux console's own type for virtual consoles, the least common one for what may be at a serial line.
fn terminal_type(path: &str) -> &'static str {
    let name = path.strip_prefix("/dev/").unwrap_or(path);
    // `/dev/console` is the last of these.
    let consoles = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = if name == "console" { consoles.split_whitespace().last().unwrap_or(name) } else { name };
    let number = name.strip_prefix("tty").unwrap_or_default();
    let is_virtual = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    if is_virtual { "linux" } else { "vt220" }
}

fn uses_terminal(exec: &ExecContext) -> bool {
    matches!(exec.standard_input, Input::Tty | Input::TtyForce | Input::TtyFail)
        || exec.standard_output == Some(Output::Tty)
        || exec.standard_error == Some(Output::Tty)
        || exec.tty_path.is_some()
}

#[cfg(test)]
mod tests {
    use image_config::unit::{EnvironmentFile, Service};

    use super::super::circumstances;
    use super::*;
    use crate::pid1::process::RunIdentity;

    fn environment(
        root: &Path,
        service: &Service,
        variables: Vec<(&'static str, String)>,
    ) -> Step<Environment> {
        let null = fs::File::open("/dev/null").unwrap();
        let run = RunIdentity { invocation: "ab".repeat(16), dynamic_id: None };
        let locale = locale(root);
        let how = Circumstances {
            main_pid: Some(7),
            variables,
            locale: &locale,
            ..circumstances(root, service, &run, &null)
        };
        let identity = Identity::resolve(&service.exec, root, &run)?;
        let folders = Folders::default();
        let connected = Connected { journal: Some((1, 2)) };
        let names = ["web", "stored"];
        let pid = std::process::id().to_string();
        let known = Known {
            identity: &identity,
            folders: &folders,
            credentials: None,
            connected,
            names: &names,
            pid: &pid,
        };
        build(&service.exec, &how, &known)
    }

    #[test]
    fn a_service_sees_what_systemd_would_show_it() {
        let root = tempfile::tempdir().unwrap();
        let got =
            environment(root.path(), &Service::default(), vec![("WATCHDOG_USEC", "5".to_owned())]).unwrap();
        let pid = std::process::id().to_string();
        let want = [
            ("INVOCATION_ID", "abababababababababababababababab"),
            ("JOURNAL_STREAM", "1:2"),
            ("LANG", "C.UTF-8"),
            ("LISTEN_FDNAMES", "web:stored"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_PID", &pid),
            ("MAINPID", "7"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
            ("SYSTEMD_EXEC_PID", &pid),
            ("USER", "root"),
            ("WATCHDOG_PID", &pid),
            ("WATCHDOG_USEC", "5"),
        ];
        let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn terminals_have_types() {
        for (path, want) in
            [("/dev/tty1", "linux"), ("/dev/ttyS0", "vt220"), ("/dev/hvc0", "vt220"), ("/dev/tty", "vt220")]
        {
            assert_eq!(terminal_type(path), want, "{path}");
        }
    }

    #[test]
    fn files_are_stronger_than_settings_and_what_is_unset_goes_last() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("env");
        fs::write(&file, "A=file\nB='x y'\nLANG=\nGONE=1\n").unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/locale.conf"), "LANG=de_DE.UTF-8\nPATH=/evil\nLC_TIME=C\n").unwrap();
        fs::write(root.path().join("etc/passwd"), "web:x:33:33::/srv/www:/usr/sbin/nologin\n").unwrap();
        let mut service = Service::default();
        let exec = &mut service.exec;
        exec.user = Some("web".into());
        exec.environment =
            vec![("A".into(), "set".into()), ("C".into(), "kept".into()), ("D".into(), "1".into())];
        exec.environment_files =
            vec![EnvironmentFile { path: file.to_string_lossy().into_owned(), optional: false }];
        exec.unset_environment = vec!["GONE".into(), "C=other".into(), "D=1".into()];
        let got = environment(root.path(), &service, Vec::new()).unwrap();
        let value = |name: &str| got.get(name).map(String::as_str);
        assert_eq!(
            (value("A"), value("B"), value("C"), value("D")),
            (Some("file"), Some("x y"), Some("kept"), None)
        );
        assert_eq!((value("GONE"), value("LANG"), value("LC_TIME")), (None, Some(""), Some("C")));
        assert_eq!(
            (value("USER"), value("LOGNAME"), value("HOME")),
            (Some("web"), Some("web"), Some("/srv/www"))
        );
        assert_eq!(value("SHELL"), None);
        assert!(value("PATH").unwrap().starts_with("/usr/local"));
        service.exec.environment_files[0].path.push_str(".gone");
        let error = environment(root.path(), &service, Vec::new()).unwrap_err();
        assert!(error.code == code::RESOURCES && error.text.contains("env.gone"), "{error:?}");
    }
}
