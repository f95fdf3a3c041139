//! `up --detach`: the cluster in the background, with progress in the foreground until it is ready. And `down`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cli::Directories;
use crate::layout::Layout;

/// A cluster that is not ready by then has a problem that its log tells.
const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(200);

/// Starts this very command again without `--detach`, apart from the terminal, and follows it until it is ready.
pub fn up(directories: &Directories) -> Result<()> {
    let layout = directories.layout();
    layout.ensure()?;
    if let Some(pid) = running(&layout)? {
        bail!("Corten is running already (process {pid}); stop it with: corten down");
    }
    let socket_path = layout.run.join(format!("notify-{}.sock", std::process::id()));
    let socket =
        UnixDatagram::bind(&socket_path).with_context(|| format!("cannot make {}", socket_path.display()))?;
    let result = start_and_follow(&layout, &socket, &socket_path);
    let _ = fs::remove_file(&socket_path);
    result
}

fn start_and_follow(layout: &Layout, socket: &UnixDatagram, socket_path: &std::path::Path) -> Result<()> {
    let log_path = layout.log();
    let mut log = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(&log_path)
        .with_context(|| format!("cannot open {}", log_path.display()))?;
    let begin = log.seek(SeekFrom::End(0)).context("cannot find the end of the log")?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .args(arguments)
        .env("NOTIFY_SOCKET", socket_path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log.try_clone().context("cannot share the log")?);
    // SAFETY: setsid is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    let started = Instant::now();
    let mut child = command.spawn().context("cannot start Corten")?;
    socket.set_read_timeout(Some(GLANCE)).context("cannot wait")?;
    let mut buffer = [0; 1024];
    while started.elapsed() < PATIENCE {
        match socket.recv(&mut buffer) {
            Ok(n) => {
                let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
                if let Some(status) = message.strip_prefix("STATUS=") {
                    println!("  {:>6} ms  {status}", started.elapsed().as_millis());
                } else if message == "READY=1" {
                    print_ready(layout, started.elapsed());
                    return Ok(());
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if let Some(status) = child.try_wait().context("cannot look after Corten")? {
                    show_log(&mut log, begin);
                    bail!("Corten ended before it was ready ({status}); its log is {}", log_path.display());
                }
            }
            Err(e) => return Err(e).context("cannot follow Corten"),
        }
    }
    show_log(&mut log, begin);
    bail!("the node is not Ready after {} s; the log is {}", PATIENCE.as_secs(), log_path.display())
}

fn print_ready(layout: &Layout, elapsed: Duration) {
    println!("\nCorten is ready after {:.2} s. To use it:\n", elapsed.as_secs_f64());
    println!("  export KUBECONFIG={}", layout.admin_kubeconfig().display());
    println!("  kubectl get nodes\n");
    let program =
        std::env::current_exe().map_or_else(|_| "corten".to_owned(), |path| path.display().to_string());
    println!("Log: {}", layout.log().display());
    println!("Stop it with: {program} down; remove it with its pods and data with: {program} reset");
}

/// The last lines of what was logged since `begin`.
fn show_log(log: &mut File, begin: u64) {
    let mut text = String::new();
    if log.seek(SeekFrom::Start(begin)).is_ok() && log.read_to_string(&mut text).is_ok() {
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(20)..] {
            let _ = writeln!(io::stderr(), "  | {line}");
        }
    }
}

/// The process that holds the lock of these directories.
fn running(layout: &Layout) -> Result<Option<i32>> {
    let path = layout.lock();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(_) => {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(text.trim().parse().ok())
        }
    }
}

/// Asks the running process to end and waits until it has.
pub fn down(directories: &Directories) -> Result<()> {
    let layout = directories.layout();
    let Some(pid) = running(&layout)? else {
        println!("Corten is not running.");
        return Ok(());
    };
    let pid = rustix::process::Pid::from_raw(pid).context("the lock file names no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("cannot stop Corten")?;
    let lock = File::open(layout.lock()).context("cannot open the lock file")?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared)
        .context("cannot wait for Corten's end")?;
    println!("Corten has stopped. Its containers go on running.");
    Ok(())
}
