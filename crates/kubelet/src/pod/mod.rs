//! One pod, from the watch event that names it to the last trace of it on the node.
//!
//! [`machine`] decides, without IO; [`worker`] carries out what it decides, one task per pod; [`status`] is
//! what the API is told; [`manager`] knows all pods and hands news to their workers.

pub mod admission;
mod allocated;
mod allocation;
pub mod backoff;
pub mod exec;
pub mod ext;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod manager;
pub mod messages;
pub mod plan;
pub mod preemption;
pub mod probed;
pub mod resize;
pub mod slot;
pub mod status;
pub mod status_conditions;
pub mod status_patch;
pub mod status_writer;
pub mod worker;
