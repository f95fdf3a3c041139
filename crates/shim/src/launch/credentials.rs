//! Who the process is: ids, capabilities, system call filter.

use std::io;

use shim_protocol::Process;

use crate::sys::check;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION: u32 = 0x2008_0522;
const CAP_LAST: u32 = 63;

/// Everything at once and in the one order that works: what needs a privilege comes before it goes.
pub fn assume(process: &Process) -> Result<(), String> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("{what}: {e}")
    };
    // SAFETY: prctl with these arguments touches no memory; the group list lives through its call.
    unsafe {
        for capability in 0..=CAP_LAST {
            // Numbers that this kernel does not have are refused, and not held either; nor are those above.
            if process.capabilities >> capability & 1 == 0
                && libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) < 0
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
            {
                break;
            }
        }
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)).map_err(fail("keep capabilities"))?;
        check(libc::setgroups(process.groups.len(), process.groups.as_ptr()))
            .map_err(fail("set supplementary groups"))?;
        let (uid, gid) = (process.uid, process.gid);
        check(libc::setresgid(gid, gid, gid)).map_err(fail("set group"))?;
        check(libc::setresuid(uid, uid, uid)).map_err(fail("set user"))?;
    }
    if process.no_new_privileges {
        // SAFETY: touches no memory.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
            .map_err(fail("set no_new_privs"))?;
        set_capabilities(process.capabilities).map_err(fail("set capabilities"))?;
        set_ambient(process.ambient).map_err(fail("set ambient capabilities"))?;
        filter(&process.seccomp).map_err(fail("install the seccomp filter"))
    } else {
        // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is permitted still.
        set_capabilities(process.capabilities | permitted()).map_err(fail("set capabilities"))?;
        filter(&process.seccomp).map_err(fail("install the seccomp filter"))?;
        set_capabilities(process.capabilities).map_err(fail("set capabilities"))?;
        set_ambient(process.ambient).map_err(fail("set ambient capabilities"))
    }
}

/// What a program keeps whose user is not root: it must be inheritable too.
fn set_ambient(mask: u64) -> io::Result<()> {
    let mask = mask & permitted();
    if mask == 0 {
        return Ok(());
    }
    set_inheritable(permitted(), mask)?;
    for capability in (0..=CAP_LAST).filter(|c| mask >> c & 1 == 1) {
        let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
        // SAFETY: prctl with these arguments touches no memory.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability as libc::c_ulong, 0, 0) })?;
    }
    Ok(())
}

fn permitted() -> u64 {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets = [CapabilitySet::default(); 2];
    // SAFETY: both live through the call, and version 3 has two sets.
    unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    u64::from(sets[0].permitted) | u64::from(sets[1].permitted) << 32
}

/// Permitted and effective; nothing is inherited.
fn set_capabilities(mask: u64) -> io::Result<()> {
    set_inheritable(mask & permitted(), 0)
}

fn set_inheritable(mask: u64, inheritable: u64) -> io::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let half = |bits: u64, inherited: u64| CapabilitySet {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: inherited as u32,
    };
    let sets = [half(mask, inheritable), half(mask >> 32, inheritable >> 32)];
    // SAFETY: both live through the call, and version 3 has two sets.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } as i32).map(drop)
}

fn filter(program: &[u8]) -> io::Result<()> {
    if program.is_empty() {
        return Ok(());
    }
    let instruction = |bytes: &[u8; 8]| libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    let (instructions, rest) = program.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut instructions: Vec<libc::sock_filter> = instructions.iter().map(instruction).collect();
    let length =
        u16::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: program and instructions live through the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }
        as i32)
    .map(drop)
}
