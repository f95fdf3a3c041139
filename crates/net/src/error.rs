//! What can go wrong, with the object it went wrong on and the kernel's own words.

use std::io;
use std::path::PathBuf;

use crate::IpNet;
use crate::netlink::KernelError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused; `object` is the interface, address, route or table.
    #[error("cannot {operation} {object}: {source}")]
    Kernel { operation: &'static str, object: String, source: KernelError },
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("interface {name} does not exist")]
    NoInterface { name: String },
    #[error("interface {name} is not a bridge: remove it, or choose another bridge name")]
    NotABridge { name: String },
    #[error("interface {name} is not a VXLAN interface: remove or rename it, Corten needs one of that name")]
    NotAVxlan { name: String },
    #[error("bridge {bridge} has no pod CIDR yet: the node's spec.podCIDR must reach it first")]
    NoPodCidr { bridge: String },
    #[error(
        "bridge {bridge}: all addresses of {cidr} are leased; delete pods or give the node a larger pod CIDR"
    )]
    Exhausted { bridge: String, cidr: IpNet },
    #[error("bridge {bridge}: pod CIDR {cidr} has no room for a gateway and a pod")]
    CidrTooSmall { bridge: String, cidr: IpNet },
    #[error("sandbox id {id:?} is not usable as a file name")]
    BadSandboxId { id: String },
    #[error("it is not attached to bridge {bridge}: attach it before giving it host ports")]
    NotAttached { bridge: String },
    /// Something of a sandbox's network failed.
    #[error("sandbox {sandbox}: {source}")]
    Sandbox { sandbox: String, source: Box<Error> },
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }

    /// The kernel's error number, where the kernel is to blame.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => Some(source.errno),
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Sandbox { source, .. } => source.errno(),
            _ => None,
        }
    }
}

/// Gives a kernel error its operation and object.
pub(crate) trait Context<T> {
    fn context(self, operation: &'static str, object: impl Into<String>) -> crate::Result<T>;
}

impl<T> Context<T> for std::result::Result<T, KernelError> {
    fn context(self, operation: &'static str, object: impl Into<String>) -> crate::Result<T> {
        self.map_err(|source| Error::Kernel { operation, object: object.into(), source })
    }
}
