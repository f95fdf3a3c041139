//! Container images on one machine.
//!
//! A [`Store`] is a directory: an index of images, and the layers they are made of, each unpacked once under its diff
//! ID and shared by every image that has it. Images come from a registry ([`Store::pull`]) or an archive
//! ([`Store::import`]), and go there again ([`Store::push`], [`Store::export`]). Containers get the list of layer directories for an overlayfs mount ([`Store::snapshot`]),
//! which also keeps those layers until [`Store::release`].
//!
//! Several processes may have the same store open (the node, and `corten image` at the command line): changes are
//! made under a file lock and appear by an atomic rename.
//!
//! Everything that comes out of an image is hostile: digests are verified, sizes bounded, and unpacking cannot
//! leave the layer's directory whatever the archive says.

mod archive;
mod digest;
mod error;
mod export;
mod hosts;
mod index;
mod manage;
mod overlay;
mod pack;
mod policy;
mod pull;
mod push;
mod reference;
mod retry;
mod store;
mod token;
mod transfer;
mod unpack;

pub use archive::architecture;
pub use digest::Digest;
pub use error::Error;
pub use hosts::Registries;
pub use index::Image;
pub use oci_spec::image::ImageConfiguration;
pub use overlay::{Writable, overlay};
pub use policy::Policy;
pub use pull::Auth;
pub use reference::normalize;
pub use store::{Making, Store, Usage};
pub use unpack::{Place, Root, archive as unpack_archive, is_compressed, is_tar};

/// What is happening during a pull or an import, for a progress display.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A layer has to be fetched and unpacked; its size is that of the compressed blob, if known.
    Layer { digest: String, size: Option<u64> },
    /// So many more bytes of a layer were read.
    Read { digest: String, bytes: u64 },
    /// A layer is complete: it was unpacked now, or was there already.
    Done { digest: String },
}

/// Where progress is reported to; see [`no_progress`].
pub type ProgressFn = std::sync::Arc<dyn Fn(Progress) + Send + Sync>;

/// For callers that do not show progress.
pub fn no_progress() -> ProgressFn {
    std::sync::Arc::new(|_| ())
}
