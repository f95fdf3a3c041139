//! The runtime's side of the shim's socket.

mod connection;
mod spawn;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use shim_protocol::{Request, Response};

use crate::{Error, Result};
pub use connection::Connection;
pub use spawn::spawn;

/// One pod's shim. Every call is a connection of its own, so that a slow one keeps nobody waiting.
#[derive(Debug, Clone)]
pub struct Shim {
    sandbox: String,
    /// Where its socket is.
    directory: PathBuf,
}

impl Shim {
    pub fn new(sandbox: &str, directory: &Path) -> Self {
        Self { sandbox: sandbox.to_owned(), directory: directory.to_owned() }
    }

    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.directory).await.map_err(|e| self.error(format!("connect to its shim: {e}")))
    }

    /// Asks one thing and takes the answer.
    pub async fn call(&self, request: Request) -> Result<Response> {
        Ok(self.converse(request, &[]).await?.1)
    }

    /// Asks something that has further answers.
    pub async fn converse(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(Connection, Response)> {
        let mut connection = self.connect().await?;
        connection.send(&request, fds).await.map_err(|e| self.error(format!("ask its shim: {e}")))?;
        let response = self.next(&mut connection).await?;
        Ok((connection, response))
    }

    pub async fn next(&self, connection: &mut Connection) -> Result<Response> {
        match connection.next().await {
            Ok(Some(Response::Failed { message })) => Err(self.error(message)),
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(self.error("its shim is gone".to_owned())),
            Err(e) => Err(self.error(format!("hear from its shim: {e}"))),
        }
    }

    /// Files that came beside the answers so far.
    pub fn take_files(connection: &mut Connection) -> Vec<OwnedFd> {
        std::mem::take(&mut connection.fds)
    }

    fn error(&self, message: String) -> Error {
        Error::Shim { sandbox: self.sandbox.clone(), message }
    }
}
