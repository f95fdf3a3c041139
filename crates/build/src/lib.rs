//! Images built from Dockerfiles.

pub mod dockerfile;
mod error;

pub use error::{Error, Result};
