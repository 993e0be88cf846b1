//! Services that need nothing but to be executed: no user, no folder, no file, no sandbox. PID 1 prepares everything for them, which takes
//! no look at any disk, and they start without a copy of it ([`crate::sys::launch`]).

use image_config::unit::{DevicePolicy, ExecCommand, ExecContext, ResourceControl, WorkingDirectory};

use super::environment::{self, Known};
use super::folders::Folders;
use super::identity::Identity;
use super::streams::Connected;
use super::{Circumstances, code, kernel};
use crate::sys::launch::{Codes, Launch, PID_PLACE};

const CODES: Codes = Codes {
    session: code::SETSID,
    streams: [code::STDIN, code::STDOUT, code::STDERR],
    keyring: code::KEYRING,
    folder: code::CHDIR,
    execute: code::EXEC,
};

/// The command as a launch, if it is one that can be launched so.
pub fn launch(command: &ExecCommand, how: &Circumstances<'_>) -> Option<Launch> {
    let exec = &how.service.exec;
    let folder = match &exec.working_directory {
        WorkingDirectory::Root => "/",
        WorkingDirectory::Path { path, optional: false } => path.as_str(),
        _ => return None,
    };
    // A name would have to be searched for.
    let is_path = command.program.contains('/');
    let no_files = how.descriptors.is_empty() && how.service.open_files.is_empty();
    if !(is_path && is_plain(exec) && is_free(&how.service.resources) && no_files) {
        return None;
    }
    let identity = Identity::resolve(exec, how.root, how.run).ok()?;
    let known = Known {
        identity: &identity,
        folders: &Folders::default(),
        credentials: None,
        // It is in the variables already.
        connected: Connected { journal: None },
        names: &[],
        pid: PID_PLACE,
    };
    let environment = environment::build(exec, how, &known).ok()?;
    let words = command.arguments(&|name: &str| environment.get(name).cloned());
    if words.iter().any(|word| word.contains(PID_PLACE)) {
        return None;
    }
    let environment: Vec<String> =
        environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let launch = Launch::new(&command.program, &words, &environment, folder, CODES)?;
    Some(launch.limits(exec.umask.unwrap_or(0o022), kernel::OPEN_FILES_RAW))
}

/// Whether the settings are the default ones, but for what PID 1 sees to itself or can prepare.
fn is_plain(exec: &ExecContext) -> bool {
    let same = ExecContext {
        environment: exec.environment.clone(),
        pass_environment: exec.pass_environment.clone(),
        unset_environment: exec.unset_environment.clone(),
        working_directory: exec.working_directory.clone(),
        umask: exec.umask,
        runtime_directory_preserve: exec.runtime_directory_preserve,
        syslog_identifier: exec.syslog_identifier.clone(),
        syslog_level: exec.syslog_level,
        syslog_facility: exec.syslog_facility,
        syslog_level_prefix: exec.syslog_level_prefix,
        log_rate_limit_interval: exec.log_rate_limit_interval,
        log_rate_limit_burst: exec.log_rate_limit_burst,
        log_level_max: exec.log_level_max,
        set_login_environment: exec.set_login_environment,
        search_path: exec.search_path.clone(),
        ..ExecContext::default()
    };
    *exec == same
}

/// Whether the process has nothing to do to its own control group.
fn is_free(control: &ResourceControl) -> bool {
    control.delegate.is_none()
        && control.io_limits.is_empty()
        && control.io_device_weights.is_empty()
        && control.io_latencies.is_empty()
        && control.device_policy == DevicePolicy::Auto
        && control.device_allow.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image_config::unit::Service;

    use super::super::circumstances;
    use super::*;
    use crate::pid1::process::RunIdentity;

    #[test]
    fn only_what_needs_no_look_at_a_disk_is_launched() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let run = RunIdentity::new("a.service", false, |_| false);
        let launched = |program: &str, change: &dyn Fn(&mut Service)| {
            let mut service = Service::default();
            change(&mut service);
            let how = circumstances(Path::new("/no/such/root"), &service, &run, &null);
            let command = ExecCommand { program: program.to_owned(), ..ExecCommand::default() };
            launch(&command, &how).is_some()
        };
        assert!(launched("/bin/true", &|_| {}));
        assert!(launched("/bin/true", &|service| service.exec.environment = vec![("A".into(), "1".into())]));
        assert!(!launched("true", &|_| {}));
        assert!(!launched("/bin/true", &|service| service.exec.user = Some("root".into())));
        assert!(!launched("/bin/true", &|service| service.exec.nice = Some(1)));
        assert!(!launched("/bin/true", &|service| service.exec.coredump_filter = Some(1)));
        assert!(!launched("/bin/true", &|service| service.exec.sandbox.private_devices = true));
        assert!(!launched("/bin/true", &|service| service.resources.io_latencies = vec![("/".into(), 1)]));
    }
}
