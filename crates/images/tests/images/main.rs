//! The image store, driven through its public face.

mod archives;
mod common;
mod hostile_layers;
mod registry;
mod store;
