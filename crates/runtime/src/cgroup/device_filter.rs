//! Device access under cgroup v2: there is no file for it, but a BPF program attached to the group that says yes or no.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// Registers: the context comes in r1, the answer goes out in r0.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Instructions of the classes that are needed.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_NUMBER: u8 = 0xb4;
const AND_NUMBER: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Lets a group use the devices of these rules (`c 1:3 rwm`) and no others.
pub fn attach(group: &Path, rules: &[String]) -> io::Result<()> {
    let program = load(&assemble(rules)?)?;
    let group = File::open(group)?;
    let attributes: [u32; 4] =
        [group.as_raw_fd() as u32, program.as_raw_fd() as u32, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI];
    // SAFETY: the attributes live through the call and their size is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, attributes.as_ptr(), size_of_val(&attributes))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: attributes and what they point to live through the call; the result is a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<Load>()) as i32;
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let registers = u64::from(from << 4 | to);
    u64::from(code) | registers << 8 | u64::from(offset as u16) << 16 | u64::from(number as u32) << 32
}

fn assemble(rules: &[String]) -> io::Result<Vec<u64>> {
    // The context: access << 16 | type, major, minor.
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND_NUMBER, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let rule = parse(rule).ok_or_else(|| io::Error::other(format!("device rule {rule:?}")))?;
        let mut tests = vec![(KIND, rule.kind)];
        tests.extend(rule.major.map(|n| (MAJOR, n)));
        tests.extend(rule.minor.map(|n| (MINOR, n)));
        // What is wanted besides what the rule gives must be nothing.
        let wanted =
            [instruction(MOVE, SCRATCH, ACCESS, 0, 0), instruction(AND_NUMBER, SCRATCH, 0, 0, !rule.access)];
        let yes = [instruction(MOVE_NUMBER, ANSWER, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)];
        let length = tests.len() + wanted.len() + 1 + yes.len();
        let end = program.len() + length;
        let skip = |at: usize| i16::try_from(end - at - 1).map_err(io::Error::other);
        for (register, number) in tests {
            program.push(instruction(JUMP_NOT_EQUAL, register, 0, skip(program.len())?, number));
        }
        program.extend(wanted);
        program.push(instruction(JUMP_NOT_EQUAL, SCRATCH, 0, skip(program.len())?, 0));
        program.extend(yes);
    }
    program.extend([instruction(MOVE_NUMBER, ANSWER, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    Ok(program)
}

struct Rule {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

fn parse(rule: &str) -> Option<Rule> {
    let mut words = rule.split_ascii_whitespace();
    let kind = match words.next()? {
        "b" => DEVICE_BLOCK,
        "c" => DEVICE_CHAR,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let bit = |letter: char| match letter {
        'r' => Some(ACCESS_READ),
        'w' => Some(ACCESS_WRITE),
        'm' => Some(ACCESS_MKNOD),
        _ => None,
    };
    let access = words.next()?.chars().try_fold(0, |mask, letter| Some(mask | bit(letter)?))?;
    Some(Rule { kind, major: number(major)?, minor: number(minor)?, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program would say, by a tiny machine of our own.
    fn decide(program: &[u64], context: [u32; 3]) -> u32 {
        let mut registers = [0_u32; 7];
        let mut at = 0;
        loop {
            let i = program[at];
            let (code, to, from) = (i as u8, (i >> 8 & 15) as usize, (i >> 12 & 15) as usize);
            let (offset, number) = ((i >> 16) as i16, (i >> 32) as u32);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = registers[from],
                MOVE_NUMBER => registers[to] = number,
                AND_NUMBER => registers[to] &= number,
                SHIFT_RIGHT => registers[to] >>= number,
                JUMP_NOT_EQUAL if registers[to] != number => at += usize::try_from(offset).unwrap(),
                JUMP_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn decisions() {
        let rules = ["c *:* m", "c 1:3 rwm", "b 8:1 r", "c 136:* rw"].map(str::to_owned);
        let program = assemble(&rules).unwrap();
        let ask = |kind: i32, access: i32, major, minor| {
            decide(&program, [(access << 16 | kind) as u32, major, minor])
        };
        for (kind, access, major, minor, expected) in [
            (DEVICE_CHAR, ACCESS_READ | ACCESS_WRITE, 1, 3, 1),
            (DEVICE_CHAR, ACCESS_MKNOD, 9, 9, 1),
            (DEVICE_CHAR, ACCESS_MKNOD | ACCESS_READ, 9, 9, 0),
            (DEVICE_BLOCK, ACCESS_READ, 8, 1, 1),
            (DEVICE_BLOCK, ACCESS_WRITE, 8, 1, 0),
            (DEVICE_BLOCK, ACCESS_READ, 8, 2, 0),
            (DEVICE_BLOCK, ACCESS_READ, 1, 3, 0),
            (DEVICE_CHAR, ACCESS_WRITE, 136, 77, 1),
        ] {
            assert_eq!(ask(kind, access, major, minor), expected, "{kind} {access} {major}:{minor}");
        }
        assert!(assemble(&["x 1:3 r".to_owned()]).is_err());
    }

    /// The kernel's verifier takes it, where there is cgroup v2 and we may.
    #[test]
    fn the_kernel_takes_the_program() {
        let rules: Vec<String> = (0..20).map(|n| format!("c {n}:* rw")).collect();
        match load(&assemble(&rules).unwrap()) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}"),
        }
    }
}
