//! `SystemCallFilter=`: which system calls a process may make.

use std::collections::BTreeMap;

use super::syscall_groups;
use crate::diagnostic::did_you_mean;

/// What happens to a call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// The process is ended by SIGSYS.
    Kill,
    /// The call fails with this error number, 1 to 4095.
    Errno(u16),
}

/// System calls by name; the first assignment decides whether they are the allowed or the denied ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallFilter {
    /// The entries are the calls that are allowed, else those that are denied.
    pub is_allow_list: bool,
    /// Calls by name, each with its own answer where one was written (`name:EPERM`). Names of other architectures'
    /// calls are among them.
    pub calls: BTreeMap<String, Option<Denial>>,
}

impl SyscallFilter {
    /// A filter whose first assignment is, or is not, inverted. A list of allowed calls begins with `@default`, without
    /// which no program runs.
    pub(super) fn begin(inverted: bool) -> Self {
        let defaults =
            if inverted { Vec::new() } else { syscall_groups::members("@default").unwrap_or_default() };
        let calls = defaults.into_iter().map(|name| (name.to_owned(), None)).collect();
        Self { is_allow_list: !inverted, calls }
    }

    /// Takes one word in: a call or a group, each with `:ERRNO` or without.
    ///
    /// # Errors
    /// What is wrong with the word; it is left out then.
    pub(super) fn add(&mut self, word: &str, inverted: bool) -> Result<(), String> {
        let (name, denial) = match word.split_once(':') {
            Some((name, answer)) => (name, Some(denial(answer)?)),
            None => (word, None),
        };
        let names = if name.starts_with('@') {
            syscall_groups::members(name).ok_or_else(|| {
                hint(
                    format!("`{name}` is no group of system calls"),
                    did_you_mean(name, syscall_groups::names()),
                )
            })?
        } else if syscall_groups::is_known(name) {
            vec![name]
        } else {
            let known = syscall_groups::members("@known").unwrap_or_default();
            return Err(hint(format!("`{name}` is no system call"), did_you_mean(name, known)));
        };
        for name in names {
            // What turns against the list's own sense takes calls out of it again.
            if inverted == self.is_allow_list && denial.is_none() {
                self.calls.remove(name);
            } else if inverted != self.is_allow_list || denial.is_some() {
                self.calls.insert(name.to_owned(), denial);
            }
        }
        Ok(())
    }
}

fn hint(problem: String, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{problem}; did you mean `{near}`?"),
        None => problem,
    }
}

/// `kill`, the name of an error, or its number.
pub(super) fn denial(text: &str) -> Result<Denial, String> {
    if text == "kill" {
        return Ok(Denial::Kill);
    }
    let named = ERRORS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    match named.or_else(|| text.parse().ok().filter(|number| (1..=4095).contains(number))) {
        Some(number) => Ok(Denial::Errno(number)),
        None => Err(format!("`{text}` is neither `kill` nor an error such as `EPERM`")),
    }
}

/// Errors by name as Linux numbers them, errno(3).
const ERRORS: &[(&str, u16)] = &[
    ("EPERM", 1),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EINTR", 4),
    ("EIO", 5),
    ("ENXIO", 6),
    ("E2BIG", 7),
    ("ENOEXEC", 8),
    ("EBADF", 9),
    ("ECHILD", 10),
    ("EAGAIN", 11),
    ("EWOULDBLOCK", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("ENOTBLK", 15),
    ("EBUSY", 16),
    ("EEXIST", 17),
    ("EXDEV", 18),
    ("ENODEV", 19),
    ("ENOTDIR", 20),
    ("EISDIR", 21),
    ("EINVAL", 22),
    ("ENFILE", 23),
    ("EMFILE", 24),
    ("ENOTTY", 25),
    ("ETXTBSY", 26),
    ("EFBIG", 27),
    ("ENOSPC", 28),
    ("ESPIPE", 29),
    ("EROFS", 30),
    ("EMLINK", 31),
    ("EPIPE", 32),
    ("EDOM", 33),
    ("ERANGE", 34),
    ("EDEADLK", 35),
    ("EDEADLOCK", 35),
    ("ENAMETOOLONG", 36),
    ("ENOLCK", 37),
    ("ENOSYS", 38),
    ("ENOTEMPTY", 39),
    ("ELOOP", 40),
    ("ENOMSG", 42),
    ("EIDRM", 43),
    ("ECHRNG", 44),
    ("EL2NSYNC", 45),
    ("EL3HLT", 46),
    ("EL3RST", 47),
    ("ELNRNG", 48),
    ("EUNATCH", 49),
    ("ENOCSI", 50),
    ("EL2HLT", 51),
    ("EBADE", 52),
    ("EBADR", 53),
    ("EXFULL", 54),
    ("ENOANO", 55),
    ("EBADRQC", 56),
    ("EBADSLT", 57),
    ("EBFONT", 59),
    ("ENOSTR", 60),
    ("ENODATA", 61),
    ("ETIME", 62),
    ("ENOSR", 63),
    ("ENONET", 64),
    ("ENOPKG", 65),
    ("EREMOTE", 66),
    ("ENOLINK", 67),
    ("EADV", 68),
    ("ESRMNT", 69),
    ("ECOMM", 70),
    ("EPROTO", 71),
    ("EMULTIHOP", 72),
    ("EDOTDOT", 73),
    ("EBADMSG", 74),
    ("EOVERFLOW", 75),
    ("ENOTUNIQ", 76),
    ("EBADFD", 77),
    ("EREMCHG", 78),
    ("ELIBACC", 79),
    ("ELIBBAD", 80),
    ("ELIBSCN", 81),
    ("ELIBMAX", 82),
    ("ELIBEXEC", 83),
    ("EILSEQ", 84),
    ("ERESTART", 85),
    ("ESTRPIPE", 86),
    ("EUSERS", 87),
    ("ENOTSOCK", 88),
    ("EDESTADDRREQ", 89),
    ("EMSGSIZE", 90),
    ("EPROTOTYPE", 91),
    ("ENOPROTOOPT", 92),
    ("EPROTONOSUPPORT", 93),
    ("ESOCKTNOSUPPORT", 94),
    ("ENOTSUP", 95),
    ("EOPNOTSUPP", 95),
    ("EPFNOSUPPORT", 96),
    ("EAFNOSUPPORT", 97),
    ("EADDRINUSE", 98),
    ("EADDRNOTAVAIL", 99),
    ("ENETDOWN", 100),
    ("ENETUNREACH", 101),
    ("ENETRESET", 102),
    ("ECONNABORTED", 103),
    ("ECONNRESET", 104),
    ("ENOBUFS", 105),
    ("EISCONN", 106),
    ("ENOTCONN", 107),
    ("ESHUTDOWN", 108),
    ("ETOOMANYREFS", 109),
    ("ETIMEDOUT", 110),
    ("ECONNREFUSED", 111),
    ("EHOSTDOWN", 112),
    ("EHOSTUNREACH", 113),
    ("EALREADY", 114),
    ("EINPROGRESS", 115),
    ("ESTALE", 116),
    ("EUCLEAN", 117),
    ("ENOTNAM", 118),
    ("ENAVAIL", 119),
    ("EISNAM", 120),
    ("EREMOTEIO", 121),
    ("EDQUOT", 122),
    ("ENOMEDIUM", 123),
    ("EMEDIUMTYPE", 124),
    ("ECANCELED", 125),
    ("ENOKEY", 126),
    ("EKEYEXPIRED", 127),
    ("EKEYREVOKED", 128),
    ("EKEYREJECTED", 129),
    ("EOWNERDEAD", 130),
    ("ENOTRECOVERABLE", 131),
    ("ERFKILL", 132),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(lines: &[(bool, &str)]) -> SyscallFilter {
        let mut filter = SyscallFilter::begin(lines[0].0);
        for (inverted, words) in lines {
            words.split(' ').for_each(|word| filter.add(word, *inverted).unwrap());
        }
        filter
    }

    #[test]
    fn later_lines_add_to_or_take_from_the_first() {
        let redis = filter(&[(false, "@system-service"), (true, "@privileged @resources")]);
        let has = |name: &str| redis.calls.contains_key(name);
        assert!(redis.is_allow_list && has("openat") && has("execve") && !has("chown") && !has("setrlimit"));
        let deny = filter(&[(true, "@mount kexec_load:EBUSY"), (false, "umount")]);
        assert!(
            !deny.is_allow_list && deny.calls.contains_key("mount") && !deny.calls.contains_key("umount")
        );
        assert_eq!(deny.calls["kexec_load"], Some(Denial::Errno(16)));
        assert!(!deny.calls.contains_key("read"));
    }

    #[test]
    fn what_is_no_call_is_told_with_a_hint() {
        let mut filter = SyscallFilter::begin(true);
        assert!(filter.add("@system-servce", true).unwrap_err().contains("did you mean `@system-service`?"));
        assert!(filter.add("opennat", true).unwrap_err().contains("is no system call"));
        assert!(filter.add("open:EWHAT", true).unwrap_err().contains("EWHAT"));
        assert_eq!(
            (denial("kill"), denial("ENOSYS"), denial("4096").is_err()),
            (Ok(Denial::Kill), Ok(Denial::Errno(38)), true)
        );
        assert!(filter.calls.is_empty());
    }
}
