//! An image of the machine's own busybox, as `docker save` would write it.

use std::io::Write;

use sha2::{Digest, Sha256};

pub fn archive(name: &str) -> Vec<u8> {
    let layer = layer();
    let diff_id = hex(&layer);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in
        [("manifest.json", manifest.as_bytes()), (&config_name, config.as_bytes()), ("layer.tar", &layer)]
    {
        append(&mut archive, path, bytes, 0o644);
    }
    archive.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("the tests need busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("proc/", 0o755),
        ("sys/", 0o755),
        ("dev/", 0o755),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        layer.append_data(&mut header, path, std::io::empty()).unwrap();
    }
    append(&mut layer, "bin/busybox", &busybox, 0o755);
    append(&mut layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/tmp:/bin/sh\n", 0o644);
    append(&mut layer, "etc/group", b"root:x:0:\nweb:x:102:\nlogs:x:200:web\n", 0o644);
    for name in [
        "sh", "cat", "echo", "sleep", "id", "true", "false", "wget", "nc", "mount", "hostname", "env", "ls",
        "kill", "stat", "dd", "tail", "touch", "ps", "unshare", "head", "tr", "mkdir", "grep", "stty",
        "test",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    layer.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
