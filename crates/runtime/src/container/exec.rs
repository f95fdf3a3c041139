//! Further processes in a running container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use shim_protocol::{Exec, ExecPlan, Plan, Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::{Container, State};
use crate::handler::{Handler, last_error};
use crate::shim_client::{Connection, Shim};
use crate::state::{Runtime, new_id};
use crate::{Error, Result, disk};

/// More output than this of ExecSync is dropped; the CRI asks for it.
const LARGEST_OUTPUT: usize = 16 << 20;

/// A process that was started and will tell when it has ended.
pub struct Process {
    shim: Shim,
    connection: Connection,
    /// Its terminal's master side, if it has one.
    pub terminal: Option<OwnedFd>,
}

pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: i32,
}

impl Process {
    /// The exit code.
    pub async fn wait(&mut self) -> Result<i32> {
        loop {
            if let Response::Exited { exit, .. } = self.shim.next(&mut self.connection).await? {
                return Ok(exit.code);
            }
        }
    }

    pub async fn kill(&mut self) {
        // It may have ended, or the shim with it.
        let _ = self.connection.send(&Request::Signal { signal: libc::SIGKILL }, &[]).await;
    }
}

impl Runtime {
    /// Starts a process; `stdio` for one without a terminal.
    pub async fn exec(
        &self,
        container: &Arc<Container>,
        command: &[String],
        stdio: Option<[BorrowedFd<'_>; 3]>,
    ) -> Result<Process> {
        if command.is_empty() {
            return Err(Error::InvalidArgument("exec needs a command".into()));
        }
        if container.state() != State::Running {
            return Err(Error::FailedPrecondition(format!("container {} is not running", container.id)));
        }
        let bundle = self.bundle(&container.id);
        let name = format!("exec-{}", &new_id()[..16]);
        let work = bundle.join(&name);
        disk::make_private_dir(&work)?;
        let outcome = self.start_exec(container, command, stdio, &work, &name).await;
        // By now the OCI runtime has read what was there for it.
        disk::remove_tree(&work)?;
        outcome
    }

    async fn start_exec(
        &self,
        container: &Arc<Container>,
        command: &[String],
        stdio: Option<[BorrowedFd<'_>; 3]>,
        work: &Path,
        name: &str,
    ) -> Result<Process> {
        let bundle = self.bundle(&container.id);
        let handler = self.handler(&container.sandbox.record.lock().handler)?;
        let Handler::External(binary) = &handler else {
            let path = work.join("plan");
            disk::replace(&path, &exec_plan(&bundle, command, stdio.is_none())?)?;
            let plan = path.display().to_string();
            let request = Request::Exec(Exec { container: container.id.clone(), plan, ..Exec::default() });
            return self.begin_exec(container, request, stdio, work).await;
        };
        let mut process = disk::load::<serde_json::Value>(&bundle.join("config.json"))?["process"].take();
        process["args"] = command.into();
        process["terminal"] = stdio.is_none().into();
        let process_file = work.join("process.json");
        disk::save(&process_file, &process)?;
        let pid_file = work.join("pid").display().to_string();
        let console = if stdio.is_none() { format!("{name}.sock") } else { String::new() };
        let mut argv = self.oci_command(binary, work);
        argv.extend([
            "exec".into(),
            "--detach".into(),
            "--process".into(),
            process_file.display().to_string(),
        ]);
        argv.extend(["--pid-file".into(), pid_file.clone()]);
        if !console.is_empty() {
            argv.extend([
                "--tty".into(),
                "--console-socket".into(),
                super::start::console_path(container, &console),
            ]);
        }
        argv.push(container.id.clone());
        let request = Request::Exec(Exec {
            container: container.id.clone(),
            argv,
            pid_file,
            console,
            ..Exec::default()
        });
        self.begin_exec(container, request, stdio, work).await
    }

    async fn begin_exec(
        &self,
        container: &Arc<Container>,
        request: Request,
        stdio: Option<[BorrowedFd<'_>; 3]>,
        work: &Path,
    ) -> Result<Process> {
        let shim = container.sandbox.shim.clone();
        let started = shim.converse(request, stdio.as_ref().map_or(&[][..], |s| &s[..])).await;
        match started {
            Ok((mut connection, Response::Started { .. })) => {
                let terminal = Shim::take_files(&mut connection).into_iter().next();
                Ok(Process { shim, connection, terminal })
            }
            Ok((_, other)) => Err(Error::Shim {
                sandbox: container.sandbox.id.clone(),
                message: format!("unexpected answer {other:?}"),
            }),
            Err(Error::Shim { message, .. }) => {
                let message = last_error(work).unwrap_or(message);
                Err(Error::Exec { container: container.id.clone(), message })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a command to its end and returns what it wrote. A timeout of zero is none.
    pub async fn exec_sync(
        &self,
        container: &Arc<Container>,
        command: &[String],
        seconds: i64,
    ) -> Result<Output> {
        let null: OwnedFd = File::open("/dev/null").map_err(Error::io("open", "/dev/null"))?.into();
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let stdio = [null.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
        let mut process = self.exec(container, command, Some(stdio)).await?;
        drop((stdout_end, stderr_end));
        let ended = CancellationToken::new();
        let work = async {
            let read = |from| tokio::spawn(collect(from, ended.clone()));
            let (stdout, stderr) = (read(stdout), read(stderr));
            let code = process.wait().await;
            // Whatever the process left running may hold its output open: what is there by now is all.
            ended.cancel();
            let (stdout, stderr) = (stdout.await.unwrap_or_default(), stderr.await.unwrap_or_default());
            Ok(Output { stdout, stderr, code: code? })
        };
        match u64::try_from(seconds).ok().filter(|s| *s > 0) {
            None => work.await,
            Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), work).await {
                Ok(output) => output,
                Err(_) => {
                    process.kill().await;
                    Err(Error::DeadlineExceeded(format!("command {command:?} timed out after {seconds} s")))
                }
            },
        }
    }
}

/// The container's own process with another command.
fn exec_plan(bundle: &Path, command: &[String], terminal: bool) -> Result<Vec<u8>> {
    let path = bundle.join("plan");
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let Plan { cgroups, mut process, user_namespace, .. } =
        Plan::decode(&bytes).map_err(|e| Error::io("parse", &path)(io::Error::other(e)))?;
    process.args = command.to_vec();
    process.terminal = terminal;
    Ok(ExecPlan { cgroups, user_namespace, process }.encode())
}

/// Our end, which does not block, and the process's, which does.
pub fn output_pipe() -> Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::errno("make", "pipe"))?;
    let ours = pipe::Receiver::from_owned_fd(read).map_err(Error::io("watch", "pipe"))?;
    Ok((ours, write))
}

/// As [`output_pipe`], the other way round.
pub fn input_pipe() -> Result<(pipe::Sender, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::errno("make", "pipe"))?;
    let ours = pipe::Sender::from_owned_fd(write).map_err(Error::io("watch", "pipe"))?;
    Ok((ours, read))
}

/// Reads to the end, or to where there is nothing more once the process has ended.
async fn collect(mut from: pipe::Receiver, ended: CancellationToken) -> Vec<u8> {
    let mut output = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            // Straight from the kernel, which knows of more than has been told to the event loop.
            () = ended.cancelled() => rustix::io::read(from.as_fd(), &mut buffer[..]).map_err(Into::into),
        };
        let Ok(n @ 1..) = read else { return output };
        // The process must not stand still because nobody reads the rest.
        let room = LARGEST_OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..n.min(room)]);
    }
}
