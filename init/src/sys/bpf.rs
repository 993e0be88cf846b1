//! Programs for control groups: which device nodes may be used (`BPF_PROG_TYPE_CGROUP_DEVICE`, linux/bpf.h).
#![allow(unsafe_code, reason = "bpf(2) has no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `BPF_DEVCG_DEV_BLOCK`.
    Block = 1,
    /// `BPF_DEVCG_DEV_CHAR`.
    Character = 2,
}

/// Nodes that may be used, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Their kind.
    pub kind: DeviceKind,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be made.
    pub make: bool,
}

/// One instruction, `struct bpf_insn`: operation, registers (destination in the low half), offset, constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    constant: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const AND_CONSTANT: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

fn one(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, constant }
}

/// The program that allows these uses and no other.
///
/// Its context (register 1) is `struct bpf_cgroup_dev_ctx`: access (upper half: make 1, read 2, write 4; lower half: the
/// kind), major, minor.
pub fn device_program(allowed: &[DeviceAccess]) -> Vec<Instruction> {
    let mut program = vec![
        one(LOAD_WORD, 2, 1, 0, 0),
        one(MOVE, 3, 2, 0, 0),
        one(AND_CONSTANT, 2, 0, 0, 0xffff),
        one(SHIFT_RIGHT, 3, 0, 0, 16),
        one(LOAD_WORD, 4, 1, 4, 0),
        one(LOAD_WORD, 5, 1, 8, 0),
    ];
    for access in allowed {
        let bits = i32::from(access.make) | i32::from(access.read) << 1 | i32::from(access.write) << 2;
        let mut tests = vec![one(JUMP_UNLESS_EQUAL, 2, 0, 0, access.kind as i32)];
        if bits != 7 {
            // Nothing else than what is allowed is asked for.
            tests.extend([
                one(MOVE, 6, 3, 0, 0),
                one(AND_CONSTANT, 6, 0, 0, bits),
                one(JUMP_UNLESS_SAME, 6, 3, 0, 0),
            ]);
        }
        for (register, number) in [(4, access.major), (5, access.minor)] {
            tests.extend(number.map(|number| one(JUMP_UNLESS_EQUAL, register, 0, 0, number.cast_signed())));
        }
        tests.extend([one(MOVE_CONSTANT, 0, 0, 0, 1), one(EXIT, 0, 0, 0, 0)]);
        // Jumps count from the instruction after them, to behind this block.
        let len = tests.len();
        for (place, test) in tests.iter_mut().enumerate() {
            if matches!(test.code, JUMP_UNLESS_EQUAL | JUMP_UNLESS_SAME) {
                test.offset = i16::try_from(len.saturating_sub(place).saturating_sub(1)).unwrap_or(i16::MAX);
            }
        }
        program.extend(tests);
    }
    program.extend([one(MOVE_CONSTANT, 0, 0, 0, 0), one(EXIT, 0, 0, 0, 0)]);
    program
}

/// Loads a program and attaches it to the control group whose folder is given, in place of one that is there.
///
/// # Errors
/// The kernel's: `EINVAL` without support for it, `EPERM`.
pub fn restrict_devices(group: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    /// The part of `union bpf_attr` that loading needs.
    #[repr(C)]
    struct Load {
        program_type: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let license = c"GPL";
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: u64::try_from(program.as_ptr().expose_provenance()).map_err(io::Error::other)?,
        license: u64::try_from(license.as_ptr().expose_provenance()).map_err(io::Error::other)?,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `load` begins as `union bpf_attr` does for this command and has the size given; the instructions and the
    // licence outlive the call, and the kernel verifies the program.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    if loaded < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    let loaded = unsafe { OwnedFd::from_raw_fd(i32::try_from(loaded).map_err(io::Error::other)?) };
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: `attach` begins as `union bpf_attr` does for this command and has the size given.
    if unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn allows(program: &[Instruction], kind: DeviceKind, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind as u32, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let one = program[at];
            at += 1;
            let (to, from) = (usize::from(one.registers & 15), usize::from(one.registers >> 4));
            let constant = u64::from(one.constant.cast_unsigned());
            match one.code {
                LOAD_WORD => registers[to] = u64::from(context[usize::try_from(one.offset).unwrap() / 4]),
                MOVE => registers[to] = registers[from],
                MOVE_CONSTANT => registers[to] = constant,
                AND_CONSTANT => registers[to] &= constant,
                SHIFT_RIGHT => registers[to] >>= constant,
                JUMP_UNLESS_EQUAL if registers[to] != constant => at += usize::try_from(one.offset).unwrap(),
                JUMP_UNLESS_SAME if registers[to] != registers[from] => {
                    at += usize::try_from(one.offset).unwrap()
                }
                JUMP_UNLESS_EQUAL | JUMP_UNLESS_SAME => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn what_is_listed_may_be_used_as_listed_and_nothing_else() {
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        let allowed = [
            DeviceAccess {
                kind: DeviceKind::Character,
                major: Some(1),
                minor: Some(3),
                read: true,
                write: true,
                make: true,
            },
            DeviceAccess {
                kind: DeviceKind::Character,
                major: Some(248),
                minor: None,
                read: true,
                write: false,
                make: false,
            },
            DeviceAccess {
                kind: DeviceKind::Block,
                major: None,
                minor: None,
                read: true,
                write: false,
                make: false,
            },
        ];
        let program = device_program(&allowed);
        let cases = [
            (DeviceKind::Character, READ | WRITE | 1, 1, 3, true),
            (DeviceKind::Character, READ, 1, 5, false),
            (DeviceKind::Character, READ, 248, 9, true),
            (DeviceKind::Character, READ | WRITE, 248, 9, false),
            (DeviceKind::Block, READ, 8, 0, true),
            (DeviceKind::Block, WRITE, 8, 0, false),
            (DeviceKind::Block, READ, 1, 3, true),
        ];
        for (kind, access, major, minor, want) in cases {
            assert_eq!(
                allows(&program, kind, access, major, minor),
                want,
                "{kind:?} {access} {major}:{minor}"
            );
        }
        assert!(!allows(&device_program(&[]), DeviceKind::Character, READ, 1, 3));
    }
}
