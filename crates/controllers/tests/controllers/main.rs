//! The controllers against a real API server, black-box: objects are written, and what becomes of them is waited for.

mod cluster;
mod identity;
mod jobs;
mod lifecycle;
mod node;
mod nodes;
mod ordered;
mod policy;
mod services;
mod storage;
mod workloads;
