//! Signals: by the names of images, and by the numbers of the CRI, which are not the kernel's.

use k8s_cri::v1::Signal;

use crate::{Error, Result};

/// By the CRI's number; 0 is "the runtime's choice". Names that mean the same come twice.
const NUMBERS: [i32; 35] = [
    0,
    libc::SIGABRT,
    libc::SIGALRM,
    libc::SIGBUS,
    libc::SIGCHLD,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGFPE,
    libc::SIGHUP,
    libc::SIGILL,
    libc::SIGINT,
    libc::SIGIO,
    libc::SIGABRT,
    libc::SIGKILL,
    libc::SIGPIPE,
    libc::SIGIO,
    libc::SIGPROF,
    libc::SIGPWR,
    libc::SIGQUIT,
    libc::SIGSEGV,
    libc::SIGSTKFLT,
    libc::SIGSTOP,
    libc::SIGSYS,
    libc::SIGTERM,
    libc::SIGTRAP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGVTALRM,
    libc::SIGWINCH,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];
/// From SIGRTMIN to SIGRTMAX without a gap, which the C library numbers from 34 on.
const FIRST_REALTIME: i32 = 34;

/// What a container is stopped with: its own wish, else its image's, else SIGTERM.
pub fn stop_signal(wanted: i32, image: &str) -> Result<i32> {
    let position =
        usize::try_from(wanted).map_err(|_| Error::InvalidArgument(format!("{wanted} is no signal")))?;
    match NUMBERS.get(position) {
        Some(0) => named(image),
        Some(number) => Ok(*number),
        None if Signal::try_from(wanted).is_ok() => Ok(wanted - Signal::Sigrtmin as i32 + FIRST_REALTIME),
        None => Err(Error::InvalidArgument(format!("{wanted} is no signal"))),
    }
}

/// The CRI's number of a kernel's.
pub fn to_cri(number: i32) -> i32 {
    if number >= FIRST_REALTIME {
        return number - FIRST_REALTIME + Signal::Sigrtmin as i32;
    }
    NUMBERS.iter().position(|n| *n == number).and_then(|p| p.try_into().ok()).unwrap_or(0)
}

/// An image's `StopSignal`: `SIGQUIT`, `QUIT`, `3`, `RTMIN+3`.
fn named(name: &str) -> Result<i32> {
    if name.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    let number = if let Ok(number) = short.parse() {
        Some(number)
    } else if let Some(text) = short.strip_prefix("RTMIN") {
        offset(text).map(|n| libc::SIGRTMIN() + n)
    } else if let Some(text) = short.strip_prefix("RTMAX") {
        offset(text).map(|n| libc::SIGRTMAX() + n)
    } else {
        use std::str::FromStr;
        nix::sys::signal::Signal::from_str(&format!("SIG{short}")).ok().map(|s| s as i32)
    };
    number
        .filter(|n| (1..=libc::SIGRTMAX()).contains(n))
        .ok_or_else(|| Error::InvalidArgument(format!("the image's stop signal {name:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_images() {
        for (name, expected) in [
            ("", Some(15)),
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGNOPE", None),
            ("0", None),
            ("99", None),
        ] {
            assert_eq!(stop_signal(0, name).ok(), expected, "{name}");
        }
    }

    #[test]
    fn of_the_cri() {
        for (signal, expected) in [
            (Signal::Sigterm, 15),
            (Signal::Sigusr1, 10),
            (Signal::Sigxfsz, 25),
            (Signal::Sigrtmin, 34),
            (Signal::Sigrtminplus15, 49),
            (Signal::Sigrtmaxminus14, 50),
            (Signal::Sigrtmax, 64),
        ] {
            assert_eq!(stop_signal(signal as i32, "QUIT").ok(), Some(expected), "{signal:?}");
            assert_eq!(to_cri(expected), signal as i32, "{signal:?}");
        }
        assert_eq!(to_cri(stop_signal(Signal::Sigcld as i32, "").unwrap_or(0)), Signal::Sigchld as i32);
        for nonsense in [-1, 66, i32::MAX] {
            assert!(stop_signal(nonsense, "").is_err(), "{nonsense}");
        }
    }
}
