//! Starting a program without a copy of this process: the child shares its memory until execve, and this process goes on meanwhile.
//!
//! A fork copies page tables, and afterwards both processes fault on every page that either of them writes; a vfork would make PID 1 wait
//! for an execve that may read from a dead disk. Here the child does nothing but call the kernel with what was prepared before: no
//! allocation, nothing of the C library (whose `errno` it would share), so that it is no concern of it what PID 1 does at the same time.
//! What it works with belongs to a [`Launch`], which must live until the child's report has come.
#![allow(
    unsafe_code,
    reason = "clone3 on a stack of its own, and calls of the kernel that leave errno alone"
)]

use std::arch::asm;
use std::ffi::{CString, c_char};
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::pipe::PipeFlags;

use super::spawn::{CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, Child, CloneArgs, Failure};

/// Bytes of the child's stack: its one function needs a few hundred.
const STACK: usize = 16 << 10;
/// Stands in strings of the environment for the PID that the child will have: as many characters as the longest of them (2^22).
pub const PID_PLACE: &str = "\u{1}PID\u{1}\u{1}\u{1}";
/// First byte of the text of a report that holds a number of an error instead of words.
const NUMBER: u8 = 0;

/// What failed, with systemd's exit code for it.
#[derive(Debug, Clone, Copy)]
pub struct Codes {
    /// A new session.
    pub session: u8,
    /// Standard input, output and error.
    pub streams: [u8; 3],
    /// The session's keyring.
    pub keyring: u8,
    /// The working folder.
    pub folder: u8,
    /// execve.
    pub execute: u8,
}

/// A program to be started, and all that the child needs for it.
#[derive(Debug)]
pub struct Launch {
    program: CString,
    words: Strings,
    environment: Strings,
    folder: CString,
    umask: u32,
    open_files: [u64; 2],
    codes: Codes,
    streams: [RawFd; 3],
    report: RawFd,
    /// Room for [`STACK`] bytes.
    stack: Vec<u8>,
}

/// Strings as execve takes them.
#[derive(Debug)]
struct Strings {
    /// Null-terminated, pointing into `bytes`.
    pointers: Vec<*mut c_char>,
    /// Where PIDs go.
    places: Vec<*mut u8>,
    #[expect(dead_code, reason = "what the pointers point to")]
    bytes: Vec<u8>,
}

impl Strings {
    fn new(strings: &[String]) -> Option<Strings> {
        let mut bytes = Vec::with_capacity(strings.iter().map(|text| text.len() + 1).sum());
        let mut starts = Vec::with_capacity(strings.len());
        let mut places = Vec::new();
        for text in strings {
            if text.as_bytes().contains(&0) {
                return None;
            }
            starts.push(bytes.len());
            if text.ends_with(PID_PLACE) {
                places.push(bytes.len() + text.len() - PID_PLACE.len());
            }
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        let base = bytes.as_mut_ptr();
        // The vector's bytes stay where they are, for it does not change any more.
        let mut pointers: Vec<*mut c_char> =
            starts.into_iter().map(|start| base.wrapping_add(start).cast()).collect();
        pointers.push(std::ptr::null_mut());
        let places = places.into_iter().map(|place| base.wrapping_add(place)).collect();
        Some(Strings { pointers, places, bytes })
    }
}

impl Launch {
    /// Prepares one; `None` when there is a NUL in a string. Variables of the environment that end with [`PID_PLACE`] end with the PID.
    pub fn new(
        program: &str,
        words: &[String],
        environment: &[String],
        folder: &str,
        codes: Codes,
    ) -> Option<Launch> {
        Some(Launch {
            program: CString::new(program).ok()?,
            words: Strings::new(words)?,
            environment: Strings::new(environment)?,
            folder: CString::new(folder).ok()?,
            umask: 0o022,
            open_files: [0, 0],
            codes,
            streams: [-1; 3],
            report: -1,
            stack: Vec::new(),
        })
    }

    /// Sets the umask and the soft and hard limits of open files.
    #[must_use]
    pub fn limits(self, umask: u32, open_files: [u64; 2]) -> Launch {
        Launch { umask, open_files, ..self }
    }

    /// Starts it with these standard streams, in the cgroup whose folder is given.
    ///
    /// # Errors
    /// When there is no pipe or no process to be had. What goes wrong in the child comes through [`Child::report`], for
    /// [`Launch::explain`]. The launch comes back and must be kept until that, or the child's end.
    pub fn start(
        mut self,
        cgroup: Option<BorrowedFd<'_>>,
        streams: [BorrowedFd<'_>; 3],
    ) -> io::Result<(Child, Box<Launch>)> {
        let (report, child_report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&report, true)?;
        self.streams = streams.map(|stream| stream.as_raw_fd());
        self.report = child_report.as_raw_fd();
        self.stack = Vec::with_capacity(STACK);
        let mut launch = Box::new(self);
        let pid = clone(cgroup, &mut launch)?;
        Ok((Child { pid, report }, launch))
    }

    /// The report of a child of this launch in words.
    pub fn explain(&self, report: &[u8]) -> Option<Failure> {
        let (code, rest) = report.split_first()?;
        let number = rest.strip_prefix(&[NUMBER]).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let error = io::Error::from_raw_os_error(i32::from_ne_bytes(number?));
        let mut text = match *code {
            code if code == self.codes.execute => {
                format!("cannot execute {}", self.program.to_string_lossy())
            }
            code if code == self.codes.folder => {
                format!("WorkingDirectory={}", self.folder.to_string_lossy())
            }
            code if code == self.codes.keyring => "KeyringMode=private".to_owned(),
            code if code == self.codes.session => "cannot begin a session".to_owned(),
            _ => "the standard streams".to_owned(),
        };
        // Writing to a string never fails.
        let _infallible = write!(text, ": {error}");
        Some(Failure { code: *code, text })
    }
}

/// clone3 with shared memory; the child runs [`child`] on the launch's stack.
fn clone(cgroup: Option<BorrowedFd<'_>>, launch: &mut Box<Launch>) -> io::Result<u32> {
    let mut request = CloneArgs {
        flags: CLONE_CLEAR_SIGHAND | u64::from(libc::CLONE_VM.cast_unsigned()),
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        request.flags |= CLONE_INTO_CGROUP;
        request.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let base = launch.stack.as_mut_ptr();
    // The end of a stack is a multiple of 16, and so is what is left of it.
    let unaligned = base.align_offset(16);
    request.stack = (base as u64).saturating_add(unaligned as u64);
    request.stack_size = (STACK.saturating_sub(unaligned) & !15) as u64;
    let result: i64;
    // SAFETY: `request` is a valid clone_args of the size given, which the kernel only reads. In this process the call is like any other. The
    // child begins behind the system call too, but with the stack pointer at the end of the launch's stack, which is aligned and nobody
    // else's; it calls `child`, which never returns, with the launch, which the caller keeps. It shares this process's memory, of which it
    // writes its stack and the places for its PID alone, and calls nothing that has state. Handlers of signals do not come along
    // (CLONE_CLEAR_SIGHAND). Its thread pointer is this process's, and it does not use it.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw mut request,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") &raw const **launch,
            in("r13") child as unsafe extern "C" fn(*const Launch) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if result < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EAGAIN)));
    }
    u32::try_from(result).map_err(io::Error::other)
}

/// All that the child does.
///
/// # Safety
/// `launch` is live until this process has executed its program or ended.
unsafe extern "C" fn child(launch: *const Launch) -> ! {
    // SAFETY: the caller's promise.
    let launch = unsafe { &*launch };
    let (code, error) = become_program(launch);
    let number = error.to_ne_bytes();
    let report = [code, NUMBER, number[0], number[1], number[2], number[3]];
    call(libc::SYS_write, [launch.report as usize, report.as_ptr() as usize, report.len(), 0, 0]);
    loop {
        call(libc::SYS_exit_group, [usize::from(code), 0, 0, 0, 0]);
    }
}

/// Returns only with what failed: the exit code and the kernel's error. The order is that of `process::set_up`.
fn become_program(launch: &Launch) -> (u8, i32) {
    let no_signals: u64 = 0;
    const JOIN_SESSION_KEYRING: usize = 1;
    let mask = (&raw const no_signals) as usize;
    call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, mask, 0, size_of::<u64>(), 0]);
    let codes = &launch.codes;
    if let Err(error) = checked(libc::SYS_setsid, [0; 5]) {
        return (codes.session, error);
    }
    write_pid(&launch.environment.places, call(libc::SYS_getpid, [0; 5]));
    for (target, (stream, code)) in launch.streams.iter().zip(codes.streams).enumerate() {
        if let Err(error) = checked(libc::SYS_dup2, [*stream as usize, target, 0, 0, 0]) {
            return (code, error);
        }
    }
    let limits = (&raw const launch.open_files) as usize;
    // Without the privilege it has what its parent has.
    call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, limits, 0, 0]);
    call(libc::SYS_umask, [launch.umask as usize, 0, 0, 0, 0]);
    match checked(libc::SYS_keyctl, [JOIN_SESSION_KEYRING, 0, 0, 0, 0]) {
        Ok(()) | Err(libc::ENOSYS | libc::EPERM | libc::EACCES) => {}
        Err(error) => return (codes.keyring, error),
    }
    if let Err(error) = checked(libc::SYS_chdir, [launch.folder.as_ptr() as usize, 0, 0, 0, 0]) {
        return (codes.folder, error);
    }
    let program = launch.program.as_ptr() as usize;
    let words = launch.words.pointers.as_ptr() as usize;
    let environment = launch.environment.pointers.as_ptr() as usize;
    let error = checked(libc::SYS_execve, [program, words, environment, 0, 0]).err();
    (codes.execute, error.unwrap_or(libc::EINVAL))
}

/// Writes a number in decimal, and a NUL behind it, to each of these places, which have room for [`PID_PLACE`] and a NUL.
fn write_pid(places: &[*mut u8], pid: i64) {
    const DIGITS: [i64; PID_PLACE.len()] = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
    for place in places {
        let mut at = 0;
        for unit in DIGITS.iter().filter(|unit| pid >= **unit) {
            let digit = u8::try_from(pid / *unit % 10).unwrap_or(0);
            // SAFETY: the places are within the launch's strings, with PID_PLACE.len() bytes and a NUL behind them, and this writes no more
            // than as many digits; nobody else reads or writes them while the child lives.
            unsafe { place.add(at).write(b'0' + digit) };
            at += 1;
        }
        // SAFETY: the same; at most the NUL that is there.
        unsafe { place.add(at).write(0) };
    }
}

fn checked(number: libc::c_long, arguments: [usize; 5]) -> Result<(), i32> {
    let result = call(number, arguments);
    if result < 0 { Err(i32::try_from(-result).unwrap_or(libc::EINVAL)) } else { Ok(()) }
}

/// A call of the kernel: its answer, or an error's number below zero. Private, for what the arguments must be depends on the call.
fn call(number: libc::c_long, arguments: [usize; 5]) -> i64 {
    let [first, second, third, fourth, fifth] = arguments;
    let result: i64;
    // SAFETY: the callers above pass numbers, and pointers to what a live launch or their own frame holds.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::signals::{Ending, reap};

    fn wait_for(pid: u32) -> Ending {
        loop {
            match reap(pid) {
                Some(ending) => return ending,
                None => std::thread::yield_now(),
            }
        }
    }

    const CODES: Codes =
        Codes { session: 220, streams: [208, 209, 222], keyring: 237, folder: 200, execute: 203 };

    /// What a program prints, its report, how it ended.
    fn run(
        program: &str,
        words: &[&str],
        environment: &[&str],
        folder: &str,
    ) -> (String, Option<Failure>, u32) {
        let owned = |list: &[&str]| -> Vec<String> { list.iter().map(|text| (*text).to_owned()).collect() };
        let launch = Launch::new(program, &owned(words), &owned(environment), folder, CODES).unwrap();
        let launch = launch.limits(0o027, [512, 1024]);
        let null = File::open("/dev/null").unwrap();
        let (output, input) = std::io::pipe().unwrap();
        let streams = [null.as_fd(), input.as_fd(), input.as_fd()];
        let (child, launch) = launch.start(None, streams).unwrap();
        drop(input);
        let mut text = String::new();
        let mut output = output;
        output.read_to_string(&mut text).unwrap();
        let mut report = Vec::new();
        rustix::io::ioctl_fionbio(&child.report, false).unwrap();
        File::from(child.report).read_to_end(&mut report).unwrap();
        wait_for(child.pid);
        (text, launch.explain(&report), child.pid)
    }

    #[test]
    fn the_program_has_its_words_its_variables_its_folder_and_its_number() {
        let number = format!("MINE={PID_PLACE}");
        let script = "echo $0 $1 $A $MINE $$; pwd; umask; ulimit -n; cat /proc/self/status | grep SigBlk";
        let (text, report, pid) =
            run("/bin/sh", &["sh", "-c", script, "zero", "one"], &["A=b c", &number], "/usr");
        assert_eq!(report, None);
        let want = format!("zero one b c {pid} {pid}\n/usr\n0027\n512\nSigBlk:\t0000000000000000\n");
        assert_eq!(text, want);
    }

    #[test]
    fn what_fails_has_its_code_and_its_reason() {
        let (text, report, _) = run("/no/such", &["x"], &[], "/");
        let report = report.unwrap();
        assert!(text.is_empty() && report.code == 203, "{report:?}");
        assert!(report.text.starts_with("cannot execute /no/such: No such file"), "{report:?}");
        let (_, report, _) = run("/bin/true", &["x"], &[], "/no/folder");
        assert_eq!(report.map(|report| report.code), Some(200));
    }

    #[test]
    fn many_at_once_do_not_disturb_each_other_nor_this_process() {
        let null = File::open("/dev/null").unwrap();
        let word = |number: i32| vec!["sh".to_owned(), "-c".to_owned(), format!("exit {}", number % 200)];
        let children: Vec<_> = (0..100)
            .map(|number| {
                let launch = Launch::new("/bin/sh", &word(number), &[], "/", CODES).unwrap();
                let launch = launch.limits(0o022, [1024, 1024]);
                launch.start(None, [null.as_fd(), null.as_fd(), null.as_fd()]).unwrap()
            })
            .collect();
        for (number, (child, _launch)) in (0..).zip(children) {
            assert_eq!(wait_for(child.pid), Ending::Exited(number % 200));
        }
    }
}
