//! The control loops of a Kubernetes cluster.
