//! One exec: the client's streams connected with a new process.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use streaming::{Exit, RemoteCommand, Streams};
use tokio::io::copy;
use tokio::task::JoinSet;

use super::terminal::Terminal;
use crate::container::Container;
use crate::container::exec::{Process, input_pipe, output_pipe};
use crate::state::Runtime;
use crate::{Error, Result};

pub async fn serve(
    runtime: Arc<Runtime>,
    container: Arc<Container>,
    command: Vec<String>,
    streams: Streams,
    remote: impl Future<Output = Result<RemoteCommand, streaming::Error>>,
) {
    let remote = match remote.await {
        Ok(remote) => remote,
        Err(error) => return tracing::debug!(container = container.id, %error, "exec not begun"),
    };
    let RemoteCommand { stdin, stdout, stderr, resize, exit, closed } = remote;
    let mut output = JoinSet::new();
    let mut input = JoinSet::new();
    let started = async {
        if streams.tty {
            let mut process = runtime.exec(&container, &command, None).await?;
            let master =
                process.terminal.take().ok_or(Error::Unimplemented("a terminal without its master side"))?;
            let terminal = Terminal::new(master).map_err(Error::io("watch", "terminal"))?;
            if let Some(mut stdout) = stdout {
                let mut terminal = terminal.clone();
                output.spawn(async move { copy(&mut terminal, &mut stdout).await });
            }
            if let Some(mut stdin) = stdin {
                let mut terminal = terminal.clone();
                input.spawn(async move { copy(&mut stdin, &mut terminal).await });
            }
            if let Some(mut sizes) = resize {
                input.spawn(async move {
                    while let Some(size) = sizes.recv().await {
                        terminal.resize(size);
                    }
                    Ok(0)
                });
            }
            return Ok::<Process, Error>(process);
        }
        let null: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::io("open", "/dev/null"))?
            .into();
        let mut stdio = [None, None, None];
        if let Some(mut stdin) = stdin {
            let (mut ours, theirs) = input_pipe()?;
            stdio[0] = Some(theirs);
            input.spawn(async move { copy(&mut stdin, &mut ours).await });
        }
        for (slot, stream) in [(1, stdout), (2, stderr)] {
            if let Some(mut stream) = stream {
                let (mut ours, theirs) = output_pipe()?;
                stdio[slot] = Some(theirs);
                output.spawn(async move { copy(&mut ours, &mut stream).await });
            }
        }
        let ends = stdio.each_ref().map(|end| end.as_ref().unwrap_or(&null).as_fd());
        runtime.exec(&container, &command, Some(ends)).await
    }
    .await;
    let result = match started {
        Ok(mut process) => {
            let end = async {
                let code = process.wait().await;
                while output.join_next().await.is_some() {}
                code
            };
            tokio::select! {
                code = end => code.map_or_else(|e| Exit::Error(e.to_string()), Exit::Code),
                () = closed.cancelled() => return,
            }
        }
        Err(error) => Exit::Error(error.to_string()),
    };
    exit.send(result).await;
}
