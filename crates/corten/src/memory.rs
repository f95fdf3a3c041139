//! How this process takes memory.

mod bursts;

use std::fs;
use std::io;

use tracing::debug;

pub use bursts::give_back_after_bursts;

/// Lets all threads allocate from few arenas. Each arena keeps what a burst of work has left in it, and a burst reaches
/// them all: a node that has started a hundred pods held three times what it used with an arena for every thread.
pub fn use_few_arenas() {
    const ARENAS: libc::c_int = 2;
    // SAFETY: called before there are other threads; an allocator that does not know the parameter leaves it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Does without transparent huge pages: an idle node uses a little here and there of much address space, and a third of
/// what it would hold were the untouched rest of huge pages. The shim takes this back for its pod.
pub fn use_small_pages() {
    // SAFETY: this prctl touches no memory. Where the kernel refuses it, pages are as they were.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Unmaps the program's own code, to be called once all has started: most of what is mapped then ran once and never
/// again. What still runs is found in the page cache as soon as it does.
pub fn give_startup_code_back() {
    let outcome = own_code().and_then(|mappings| mappings.into_iter().try_for_each(unmap));
    if let Err(error) = outcome {
        debug!(%error, "the code of the start stays mapped");
    }
}

/// The executable mappings of this program's file.
fn own_code() -> io::Result<Vec<(usize, usize)>> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok(maps.lines().filter_map(|line| code_of(line, program.to_str()?)).collect())
}

/// Start and length of the mapping that a line of maps(5) tells of, if it is private code of the program, not writable.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let is_code = rest.starts_with("r-xp ") && rest.ends_with(&format!(" {program}"));
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    is_code.then_some((start, end.checked_sub(start)?))
}

fn unmap((start, length): (usize, usize)) -> io::Result<()> {
    // SAFETY: the pages are code, read-only and backed by the program's file, never written to (no text relocations: the
    // linker refuses them), so that whatever is dropped of them is read again from there when it runs.
    match unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let check = |line: &str, expected| assert_eq!(code_of(line, "/usr/bin/corten"), expected, "{line}");
        check("1000-3000 r-xp 00001000 fe:00 42    /usr/bin/corten", Some((0x1000, 0x2000)));
        check("1000-3000 r--p 00001000 fe:00 42    /usr/bin/corten", None);
        check("1000-3000 rwxp 00001000 fe:00 42    /usr/bin/corten", None);
        check("1000-3000 r-xp 00001000 fe:00 42    /usr/lib/libc.so.6", None);
        check("1000-3000 r-xp 00000000 00:00 0     [vdso]", None);
        check("3000-1000 r-xp 00001000 fe:00 42    /usr/bin/corten", None);
        check("", None);
    }

    #[test]
    fn this_program_runs_on() {
        assert!(!own_code().unwrap().is_empty());
        give_startup_code_back();
        assert!(own_code().unwrap().into_iter().all(|(start, _)| start > 0));
    }
}
