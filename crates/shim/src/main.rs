//! Holds one pod's processes: stdio, logs, exit codes, exec.
fn main() {}
