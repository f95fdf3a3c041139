//! What a kubelet and the plugins of its node say to each other, made from the protocols under `proto/`.
//!
//! All of them are gRPC over unix sockets. A plugin's socket in the kubelet's `plugins_registry` is found by the
//! kubelet, which asks it what it is ([`registration`]); device plugins may also come to the kubelet themselves.
//!
//! Messages that carry secrets cannot be printed, so that no log ever has them.

#![allow(clippy::doc_markdown, clippy::large_enum_variant, clippy::missing_errors_doc)] // It is generated.

/// How a plugin says what it is.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

/// The Container Storage Interface: who a driver is, and what it does on nodes.
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// Devices that containers ask for by a resource's name.
pub mod device {
    tonic::include_proto!("v1beta1");
}

/// Devices that pods claim: dynamic resource allocation.
pub mod dra {
    pub mod v1 {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
    }
    pub mod v1beta1 {
        tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1beta1");
    }
}

/// Which devices, CPUs and memory pods have been given, for monitoring agents.
pub mod pod_resources {
    tonic::include_proto!("v1");
}
