//! What the processes of a container have open.

use std::fs;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    pub files: u64,
    pub sockets: u64,
}

/// Of all of them; one that has just ended has nothing.
pub fn open_files(processes: &[i32]) -> Open {
    let mut open = Open::default();
    for process in processes {
        let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        for file in files.flatten() {
            open.files += 1;
            let target = fs::read_link(file.path()).unwrap_or_default();
            open.sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        }
    }
    open
}

/// How many files a process may have open.
pub fn most_files(process: i32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    // "unlimited" is what the kernel does not say here.
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let process = i32::try_from(std::process::id()).unwrap();
        let before = open_files(&[process]);
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        let after = open_files(&[process]);
        // Other tests open and close files meanwhile, but not in hundreds.
        assert!(after.sockets >= 2 && after.files >= after.sockets, "{before:?} {after:?}");
        drop(pair);
        assert!(most_files(process).is_some_and(|most| most > 0));
        assert_eq!(open_files(&[0, -1]), Open::default());
        assert_eq!(most_files(0), None);
    }
}
