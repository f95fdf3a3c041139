//! Messages, clients and servers of `proto/`.

fn main() -> std::io::Result<()> {
    let protocols = ["registration", "csi", "device_plugin", "dra", "dra_v1beta1", "pod_resources"];
    let files = protocols.map(|name| format!("proto/{name}.proto"));
    tonic_prost_build::configure()
        // Secrets of storage backends are not for logs.
        .skip_debug([
            "csi.v1.NodeStageVolumeRequest",
            "csi.v1.NodePublishVolumeRequest",
            "csi.v1.NodeExpandVolumeRequest",
        ])
        .compile_protos(&files, &["proto".to_owned()])
}
