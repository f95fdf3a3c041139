//! Certificates, keys and kubeconfig files of a cluster.
