//! One attach: the client's streams connected with those of a container's first process.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use shim_protocol::{Attach, Request};
use streaming::{Exit, RemoteCommand, Streams};
use tokio::io::copy;
use tokio::task::JoinSet;

use crate::Result;
use crate::container::Container;
use crate::container::exec::{input_pipe, output_pipe};

pub async fn serve(
    container: Arc<Container>,
    streams: Streams,
    remote: impl Future<Output = Result<RemoteCommand, streaming::Error>>,
) {
    let remote = match remote.await {
        Ok(remote) => remote,
        Err(error) => return tracing::debug!(container = container.id, %error, "attach not begun"),
    };
    let RemoteCommand { stdin, stdout, stderr, resize, exit, closed } = remote;
    let mut output = JoinSet::new();
    let mut input = JoinSet::new();
    let attached = async {
        let mut request = Attach { container: container.id.clone(), ..Attach::default() };
        let mut ends: Vec<OwnedFd> = Vec::new();
        if let Some(mut stdin) = stdin {
            let (mut ours, theirs) = input_pipe()?;
            request.stdin = true;
            ends.push(theirs);
            input.spawn(async move { copy(&mut stdin, &mut ours).await });
        }
        for (wanted, stream) in [(&mut request.stdout, stdout), (&mut request.stderr, stderr)] {
            if let Some(mut stream) = stream {
                let (mut ours, theirs) = output_pipe()?;
                *wanted = true;
                ends.push(theirs);
                output.spawn(async move { copy(&mut ours, &mut stream).await });
            }
        }
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        container.sandbox.shim.converse(Request::Attach(request), &ends).await
    }
    .await;
    if let (true, Some(mut sizes)) = (streams.tty, resize) {
        let container = container.clone();
        input.spawn(async move {
            while let Some(size) = sizes.recv().await {
                let (width, height) = (size.width.into(), size.height.into());
                let request = Request::Resize { container: container.id.clone(), width, height };
                if let Err(error) = container.sandbox.shim.call(request).await {
                    tracing::debug!(container = container.id, %error, "terminal not resized");
                }
            }
            Ok(0)
        });
    }
    let result = match attached {
        Ok((mut connection, _)) => {
            let end = async {
                // The container's end, or the shim's: either way there is nothing more.
                let _ = container.sandbox.shim.next(&mut connection).await;
                drop(connection);
                while output.join_next().await.is_some() {}
            };
            tokio::select! {
                () = end => Exit::Code(0),
                () = closed.cancelled() => return,
            }
        }
        Err(error) => Exit::Error(error.to_string()),
    };
    exit.send(result).await;
}
