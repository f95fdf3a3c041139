//! Custom resources: kinds that come and go while the server runs.
//!
//! A [`Definition`] is what one CustomResourceDefinition defines, read from its stored bytes; what takes time and memory
//! (the schema of a [`Version`]) is made when the first object of it is read or written. [`controller`] follows the
//! definitions: it decides about names, swaps the catalog, tells the status, and removes the objects of a definition
//! that goes. From then on custom objects take the same path as built-in ones; where that asks what differs, the
//! answer is in [`object`] (defaults, validation), [`rules`] (CEL) and [`convert`] (between versions).

pub mod controller;
pub mod convert;
mod definition;
mod finalize;
mod names;
mod normalize;
pub mod object;
mod review;
pub mod rules;
mod status;
mod version;
mod wire;

use std::sync::Arc;

pub use definition::{Conversion, Definition, priority};
pub use version::{Compiled, Scale, Version};

/// Where definitions are kept.
pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";

/// What a served resource has beside built-in ones.
pub struct Custom {
    pub definition: Arc<Definition>,
    pub version: Arc<Version>,
}
