//! The keys of [`ExecContext`] and how their values are read.

use super::encoded;
use super::exec::{DirectoryPreserve, ExecContext, Resource};
use super::reader::{Directive, Ignored};
use super::setting::{LimitUnit, Setting};
use super::syntax::{Escapes, split_words};
use super::value::{self, ValueError, boolean};

/// Keys of systemd.exec(5) but for the sandbox.
pub(super) const EXEC: &[Directive<ExecContext>] = &[
    ("Environment", |exec, it| it.environment(&mut exec.environment)),
    ("EnvironmentFile", |exec, it| it.environment_file(&mut exec.environment_files)),
    ("PassEnvironment", |exec, it| it.list(&mut exec.pass_environment, super::environment::is_variable_name)),
    ("UnsetEnvironment", |exec, it| it.list(&mut exec.unset_environment, |_| true)),
    ("User", |exec, it| it.account(&mut exec.user)),
    ("Group", |exec, it| it.account(&mut exec.group)),
    ("SupplementaryGroups", |exec, it| it.list(&mut exec.supplementary_groups, |_| true)),
    ("WorkingDirectory", |exec, it| it.working_directory(&mut exec.working_directory)),
    ("UMask", |exec, it| it.optional(&mut exec.umask, value::mode)),
    ("Nice", |exec, it| it.optional(&mut exec.nice, |text| value::integer(text, -20..=19, "a nice level"))),
    ("CoredumpFilter", |exec, it| it.coredump_filter(&mut exec.coredump_filter)),
    ("OOMScoreAdjust", |exec, it| {
        it.optional(&mut exec.oom_score_adjust, |text| {
            value::integer(text, -1000..=1000, "from -1000 to 1000")
        })
    }),
    ("NoNewPrivileges", |exec, it| it.plain(&mut exec.no_new_privileges, boolean)),
    ("IgnoreSIGPIPE", |exec, it| it.optional(&mut exec.ignore_sigpipe, boolean)),
    ("RuntimeDirectory", |exec, it| it.directory(&mut exec.runtime_directory)),
    ("StateDirectory", |exec, it| it.directory(&mut exec.state_directory)),
    ("CacheDirectory", |exec, it| it.directory(&mut exec.cache_directory)),
    ("LogsDirectory", |exec, it| it.directory(&mut exec.logs_directory)),
    ("ConfigurationDirectory", |exec, it| it.directory(&mut exec.configuration_directory)),
    ("RuntimeDirectoryMode", |exec, it| it.optional(&mut exec.runtime_directory.mode, value::mode)),
    ("StateDirectoryMode", |exec, it| it.optional(&mut exec.state_directory.mode, value::mode)),
    ("CacheDirectoryMode", |exec, it| it.optional(&mut exec.cache_directory.mode, value::mode)),
    ("LogsDirectoryMode", |exec, it| it.optional(&mut exec.logs_directory.mode, value::mode)),
    ("ConfigurationDirectoryMode", |exec, it| {
        it.optional(&mut exec.configuration_directory.mode, value::mode)
    }),
    ("RuntimeDirectoryPreserve", |exec, it| it.plain(&mut exec.runtime_directory_preserve, preserve)),
    ("LimitCPU", |exec, it| it.limit(&mut exec.limits, Resource::Cpu, LimitUnit::Seconds)),
    ("LimitFSIZE", |exec, it| it.limit(&mut exec.limits, Resource::Fsize, LimitUnit::Bytes)),
    ("LimitDATA", |exec, it| it.limit(&mut exec.limits, Resource::Data, LimitUnit::Bytes)),
    ("LimitSTACK", |exec, it| it.limit(&mut exec.limits, Resource::Stack, LimitUnit::Bytes)),
    ("LimitCORE", |exec, it| it.limit(&mut exec.limits, Resource::Core, LimitUnit::Bytes)),
    ("LimitRSS", |exec, it| it.limit(&mut exec.limits, Resource::Rss, LimitUnit::Bytes)),
    ("LimitNOFILE", |exec, it| it.limit(&mut exec.limits, Resource::Nofile, LimitUnit::Count)),
    ("LimitAS", |exec, it| it.limit(&mut exec.limits, Resource::As, LimitUnit::Bytes)),
    ("LimitNPROC", |exec, it| it.limit(&mut exec.limits, Resource::Nproc, LimitUnit::Count)),
    ("LimitMEMLOCK", |exec, it| it.limit(&mut exec.limits, Resource::Memlock, LimitUnit::Bytes)),
    ("LimitLOCKS", |exec, it| it.limit(&mut exec.limits, Resource::Locks, LimitUnit::Count)),
    ("LimitSIGPENDING", |exec, it| it.limit(&mut exec.limits, Resource::Sigpending, LimitUnit::Count)),
    ("LimitMSGQUEUE", |exec, it| it.limit(&mut exec.limits, Resource::Msgqueue, LimitUnit::Bytes)),
    ("LimitNICE", |exec, it| it.limit(&mut exec.limits, Resource::Nice, LimitUnit::Nice)),
    ("LimitRTPRIO", |exec, it| it.limit(&mut exec.limits, Resource::Rtprio, LimitUnit::Count)),
    ("LimitRTTIME", |exec, it| it.limit(&mut exec.limits, Resource::Rttime, LimitUnit::Microseconds)),
    ("StandardInput", |exec, it| it.input(&mut exec.standard_input)),
    ("StandardOutput", |exec, it| it.output(&mut exec.standard_output, "stdout")),
    ("StandardError", |exec, it| it.output(&mut exec.standard_error, "stderr")),
    ("TTYPath", |exec, it| it.path(&mut exec.tty_path)),
    ("TTYReset", |exec, it| it.plain(&mut exec.tty_reset, boolean)),
    ("TTYVHangup", |exec, it| it.plain(&mut exec.tty_vhangup, boolean)),
    ("TTYVTDisallocate", |exec, it| it.plain(&mut exec.tty_vt_disallocate, boolean)),
    ("SyslogIdentifier", |exec, it| it.optional_text(&mut exec.syslog_identifier)),
    ("SyslogLevel", |exec, it| it.optional(&mut exec.syslog_level, |text| value::choice(text, LEVELS))),
    ("SyslogFacility", |exec, it| {
        it.optional(&mut exec.syslog_facility, |text| value::choice(text, FACILITIES))
    }),
    ("SyslogLevelPrefix", |exec, it| it.optional(&mut exec.syslog_level_prefix, boolean)),
    ("LogRateLimitIntervalSec", |exec, it| it.optional(&mut exec.log_rate_limit_interval, value::time_span)),
    ("LogRateLimitBurst", |exec, it| it.optional(&mut exec.log_rate_limit_burst, value::unsigned)),
    ("LogLevelMax", |exec, it| it.optional(&mut exec.log_level_max, |text| value::choice(text, LEVELS))),
    ("StandardInputText", |exec, it| it.input_text(&mut exec.input_data)),
    ("StandardInputData", |exec, it| it.input_data(&mut exec.input_data)),
    ("SetLoginEnvironment", |exec, it| it.optional(&mut exec.set_login_environment, boolean)),
    ("ExecSearchPath", |exec, it| it.search_path(&mut exec.search_path)),
    ("PAMName", |exec, it| it.optional_text(&mut exec.pam_name)),
    ("LoadCredential", |exec, it| it.load_credential(&mut exec.load_credentials)),
    ("SetCredential", |exec, it| it.set_credential(&mut exec.set_credentials)),
    ("CPUSchedulingPolicy", |exec, it| {
        it.optional(&mut exec.scheduling.policy, |text| value::choice(text, POLICIES))
    }),
    ("CPUSchedulingPriority", |exec, it| {
        it.optional(&mut exec.scheduling.priority, |text| value::integer(text, 1..=99, "from 1 to 99"))
    }),
    ("CPUSchedulingResetOnFork", |exec, it| it.plain(&mut exec.scheduling.reset_on_fork, boolean)),
    ("IOSchedulingClass", |exec, it| {
        it.optional(&mut exec.scheduling.io_class, |text| value::choice(text, IO_CLASSES))
    }),
    ("IOSchedulingPriority", |exec, it| {
        it.optional(&mut exec.scheduling.io_priority, |text| {
            value::integer(text, 0..=7, "from 0 to 7").map(|number| u8::try_from(number).unwrap_or(7))
        })
    }),
    ("CPUAffinity", |exec, it| it.cpu_set(&mut exec.scheduling.cpu_affinity)),
    ("TimerSlackNSec", |exec, it| it.optional(&mut exec.scheduling.timer_slack, value::nanoseconds)),
    ("Personality", |exec, it| it.optional(&mut exec.personality, |text| value::choice(text, PERSONALITIES))),
];

/// Keys that are taken without a word: what they would change does not exist here (login records, accounting that
/// cannot be turned off in cgroup v2, the terminal's size, which it knows itself).
pub(super) const ACCEPTED: &[&str] = &[
    "CPUAccounting",
    "IOAccounting",
    "MemoryAccounting",
    "TasksAccounting",
    "BlockIOAccounting",
    "UtmpIdentifier",
    "UtmpMode",
    "TTYColumns",
    "TTYRows",
];

/// syslog(3) levels.
const LEVELS: &[(&str, u8)] = &[
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];
/// syslog(3) facilities.
const FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
/// sched(7), linux/sched.h.
const POLICIES: &[(&str, u32)] =
    &[("other", 0), ("fifo", 1), ("rr", 2), ("batch", 3), ("idle", 5), ("ext", 7)];
/// ioprio_set(2).
const IO_CLASSES: &[(&str, u8)] =
    &[("none", 0), ("realtime", 1), ("best-effort", 2), ("idle", 3), ("0", 0), ("1", 1), ("2", 2), ("3", 3)];
/// personality(2), linux/personality.h.
const PERSONALITIES: &[(&str, u32)] = &[("x86-64", 0), ("x86", 8)];

pub(super) fn preserve(text: &str) -> Result<DirectoryPreserve, ValueError> {
    match text {
        "restart" => Ok(DirectoryPreserve::Restart),
        text => boolean(text).map(|yes| if yes { DirectoryPreserve::Yes } else { DirectoryPreserve::No }),
    }
}

impl Setting<'_> {
    /// `StandardInputText=`: a line more; empty resets.
    pub fn input_text(&self, slot: &mut Vec<u8>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        // Escapes hold, words do not: quoted as a whole the value is one word. What stays quoted inside is escaped.
        let quoted = format!("\"{}\"", self.value.replace('"', "\\\""));
        let words = split_words(&quoted, Escapes::Decode).map_err(|error| self.ignored(&error))?;
        let text = self.expand(words.first().map_or("", String::as_str))?;
        slot.extend_from_slice(text.as_bytes());
        slot.push(b'\n');
        Ok(())
    }

    /// `StandardInputData=`: Base64, white space left out; empty resets.
    pub fn input_data(&self, slot: &mut Vec<u8>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let bytes = encoded::base64(self.value).map_err(|error| self.ignored(&error))?;
        slot.extend_from_slice(&bytes);
        Ok(())
    }

    /// `ExecSearchPath=`: folders with `:` between them; empty resets.
    pub fn search_path(&mut self, slot: &mut Vec<String>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        if text.is_empty() {
            slot.clear();
            return Ok(());
        }
        for folder in text.split(':') {
            match value::absolute_path(folder) {
                Ok(folder) => slot.push(folder),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// A set of CPUs or memory nodes, `0-3 5`; further lines add, empty resets.
    pub fn cpu_set(&self, slot: &mut Vec<u32>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        slot.extend(encoded::number_set(self.value).map_err(|error| self.ignored(&error))?);
        slot.sort_unstable();
        slot.dedup();
        Ok(())
    }

    /// `LoadCredential=`, `identifier[:path]`; empty resets.
    pub fn load_credential(&self, slot: &mut Vec<(String, String)>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let text = self.expand(self.value)?;
        let (name, path) = text.split_once(':').unwrap_or((&text, &text));
        self.check_credential(name)?;
        slot.retain(|(other, _)| other != name);
        slot.push((name.to_owned(), path.to_owned()));
        Ok(())
    }

    /// `SetCredential=`, `identifier:content` with escapes; empty resets.
    pub fn set_credential(&self, slot: &mut Vec<(String, Vec<u8>)>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let (name, content) =
            self.value.split_once(':').ok_or_else(|| self.ignored(&"the content is missing"))?;
        let name = self.expand(name)?;
        self.check_credential(&name)?;
        let quoted = format!("\"{}\"", content.replace('"', "\\\""));
        let words = split_words(&quoted, Escapes::Decode).map_err(|error| self.ignored(&error))?;
        slot.retain(|(other, _)| *other != name);
        slot.push((name, words.concat().into_bytes()));
        Ok(())
    }

    fn check_credential(&self, name: &str) -> Result<(), Ignored> {
        let is_name = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('/');
        if is_name { Ok(()) } else { Err(self.ignored(&format!("`{name}` is no name of a credential"))) }
    }
}
