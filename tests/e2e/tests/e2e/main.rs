//! End-to-end tests: a module for each numbered line of what Corten promises, driving the built binary in test hosts.

mod bad_input;
mod containerd;
mod csi;
mod drills;
mod dual_stack;
mod faults;
mod images;
mod joining;
mod kubectl;
mod metrics;
mod node;
mod nodes;
mod operator;
mod pods;
mod policies;
mod python;
mod resources;
mod runtime;
mod scheduler;
mod security;
mod services;
mod several;
mod store;
mod streams;
mod workloads;
