//! Messages between the runtime and a pod's shim.
