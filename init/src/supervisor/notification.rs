//! The notify protocol, sd_notify(3).

use super::service_spec::NotifyAccess;

/// One datagram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`
    pub ready: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `MONOTONIC_USEC=`: when the reload began, microseconds of `CLOCK_MONOTONIC`.
    pub monotonic: Option<u64>,
    /// `WATCHDOG=1`
    pub watchdog: bool,
    /// `WATCHDOG=trigger`
    pub watchdog_trigger: bool,
    /// `WATCHDOG_USEC=`: another limit for the watchdog, in microseconds.
    pub watchdog_limit: Option<u64>,
    /// `STATUS=`
    pub status: Option<String>,
    /// `MAINPID=`
    pub main_pid: Option<u32>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub extend_timeout: Option<u64>,
    /// `ERRNO=`
    pub errno: Option<i32>,
    /// `BUSERROR=`
    pub bus_error: Option<String>,
    /// `NOTIFYACCESS=`
    pub access: Option<NotifyAccess>,
    /// `FDSTORE=1`: the descriptors that come along are to be kept.
    pub fd_store: bool,
    /// `FDSTOREREMOVE=1`: those of this name are not to be kept any longer.
    pub fd_store_remove: bool,
    /// `FDNAME=`
    pub fd_name: Option<String>,
    /// False with `FDPOLL=0`: they stay when nobody is at their other end any more.
    pub fd_poll: bool,
}

/// Longest text that is kept: PID 1's memory must not be a service's to spend.
const MAX_TEXT_CHARS: usize = 256;

impl Notification {
    /// Reads a datagram; lines that are unknown or malformed are skipped, as the protocol asks.
    pub fn parse(datagram: &[u8]) -> Notification {
        let mut message = Notification { fd_poll: true, ..Notification::default() };
        let short = |text: &str| text.chars().take(MAX_TEXT_CHARS).collect::<String>();
        for line in datagram.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let Some((key, value)) = text.split_once('=') else { continue };
            match (key, value) {
                ("READY", "1") => message.ready = true,
                ("STOPPING", "1") => message.stopping = true,
                ("RELOADING", "1") => message.reloading = true,
                ("MONOTONIC_USEC", text) => message.monotonic = text.parse().ok(),
                ("WATCHDOG", "1") => message.watchdog = true,
                ("WATCHDOG", "trigger") => message.watchdog_trigger = true,
                ("WATCHDOG_USEC", text) => message.watchdog_limit = text.parse().ok(),
                ("STATUS", text) => message.status = Some(short(text)),
                ("MAINPID", pid) => message.main_pid = pid.parse().ok().filter(|pid| *pid > 1),
                ("EXTEND_TIMEOUT_USEC", span) => message.extend_timeout = span.parse().ok(),
                ("ERRNO", errno) => message.errno = errno.parse().ok(),
                ("BUSERROR", text) => message.bus_error = Some(short(text)),
                ("FDSTORE", "1") => message.fd_store = true,
                ("FDSTOREREMOVE", "1") => message.fd_store_remove = true,
                ("FDNAME", text) => message.fd_name = Some(short(text)),
                ("FDPOLL", "0") => message.fd_poll = false,
                ("NOTIFYACCESS", text) => message.access = access(text).or(message.access),
                _ => {}
            }
        }
        message
    }
}

fn access(text: &str) -> Option<NotifyAccess> {
    match text {
        "none" => Some(NotifyAccess::None),
        "main" => Some(NotifyAccess::Main),
        "exec" => Some(NotifyAccess::Exec),
        "all" => Some(NotifyAccess::All),
        _ => None,
    }
}
