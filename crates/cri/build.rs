//! Messages, client and server of `proto/cri.proto`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // What is on disk may have been written before a field was thought of.
        .message_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]")
        .enum_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_protos(&["proto/cri.proto"], &["proto"])
}
