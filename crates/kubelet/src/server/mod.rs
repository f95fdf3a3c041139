//! The kubelet's HTTPS API on port 10250.

pub mod log_format;
