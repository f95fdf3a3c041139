//! `corten-shim`: holds one pod's processes.
//!
//! The runtime starts one of these per pod. It makes the pod's namespaces and stays in them, so that they live as long as the pod
//! without a pause container; it is the subreaper, so every process of the pod whose parent ends becomes its child; it owns the
//! containers' stdio, writes their log files and records how they ended. The runtime may be killed at any moment: it finds all of
//! this again by connecting to the shim's socket.
//!
//! Every pod pays for one, so it is a single thread around one epoll set, with no async runtime and no serialisation framework.

mod attach;
mod connection;
mod container;
mod exec;
mod launch;
mod log;
mod namespaces;
mod poll;
mod reap;
mod slab;
mod stdio;
mod supervisor;
mod sys;
mod userns;

use std::io::{self, Write};
use std::process::ExitCode;

use namespaces::Options;
use supervisor::Supervisor;

/// `corten-shim ID [--hostname H] [--new net,ipc,uts,pid] [--sysctl k=v]... [--cgroup FILE] [--uids RANGES --gids RANGES]`, in the sandbox's directory;
/// or `corten-shim hold`.
fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("hold") {
        return hold();
    }
    match start() {
        Ok(mut supervisor) => {
            supervisor.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does nothing until it is killed: something for a control group to begin with.
fn hold() -> ExitCode {
    sys::detach();
    loop {
        // SAFETY: touches no memory.
        unsafe { libc::pause() };
    }
}

fn start() -> io::Result<Supervisor> {
    let options = Options::parse(std::env::args().skip(2))?;
    sys::detach();
    if let Some(entrance) = &options.cgroup {
        // A machine that does not let it go there loses nothing but the shim's independence of its service.
        let _ = std::fs::write(entrance, "0");
    }
    let namespaces::Made { pod_init, user } = namespaces::enter(&options)?;
    let supervisor = Supervisor::new(user)?;
    // The runtime waits for this line; what it says is the process in the pod's PID namespace, 0 if there is none.
    writeln!(io::stdout(), "ready {pod_init}")?;
    sys::close_stdio()?;
    Ok(supervisor)
}
