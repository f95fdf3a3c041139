//! The controllers against a real API server, black-box: objects are written, and what becomes of them is waited for.

mod cluster;
mod node;

mod ordered;
mod workloads;
