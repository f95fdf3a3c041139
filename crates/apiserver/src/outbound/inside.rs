//! Extension servers in this process: aggregated like any other, but connected to without a socket.

use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Of requests and answers on their way.
const BUFFER: usize = 64 << 10;
/// Connections that nobody has taken yet.
const WAITING: usize = 16;
/// No name of a Service ends so, nor any in DNS.
const SUFFIX: &str = ".inside";

/// A group version that something else in this process serves. Its APIService names no Service; once somebody makes it
/// name one, that is what serves the group version.
#[derive(Clone, Debug)]
pub struct Extension {
    pub group: String,
    pub version: String,
    connections: mpsc::Sender<DuplexStream>,
}

impl Extension {
    /// With the connections that will be made to it: each carries HTTP/1.1, from users that are authorized.
    pub fn new(group: &str, version: &str) -> (Self, mpsc::Receiver<DuplexStream>) {
        let (connections, accepted) = mpsc::channel(WAITING);
        (Self { group: group.to_owned(), version: version.to_owned(), connections }, accepted)
    }

    pub fn host(&self) -> String {
        format!("{}.{}{SUFFIX}", self.version, self.group)
    }
}

/// All of this process.
#[derive(Clone, Debug, Default)]
pub struct Inside(Arc<[Extension]>);

impl Inside {
    pub fn new(extensions: Vec<Extension>) -> Self {
        Self(extensions.into())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Extension> {
        self.0.iter()
    }

    pub fn of(&self, group: &str, version: &str) -> Option<&Extension> {
        self.iter().find(|extension| extension.group == group && extension.version == version)
    }

    /// A connection to the extension whose host this is; nothing when it is none's.
    pub(super) async fn connect(&self, host: &str) -> Option<std::io::Result<DuplexStream>> {
        if !host.ends_with(SUFFIX) {
            return None;
        }
        let extension = self.iter().find(|extension| extension.host() == host)?;
        let (near, far) = tokio::io::duplex(BUFFER);
        let gone = |_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Some(extension.connections.send(far).await.map_err(gone).map(|()| near))
    }
}
