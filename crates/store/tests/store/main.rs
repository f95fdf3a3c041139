//! The store's tests. What both engines must do is run on both; etcd comes from the machine (`etcd-server`).

mod behaviour;
mod crash;
mod engines;
mod etcd;
mod faults;
mod lost;
mod model;
mod recorder;
mod snapshot;
