//! From a container's spec to what CRI is asked for. Everything here but [`env`]'s look-ups is pure.

pub mod config;
pub mod env;
mod env_file;
pub mod expand;
pub mod field;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod service_env;
