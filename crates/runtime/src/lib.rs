//! A container runtime behind the CRI.
