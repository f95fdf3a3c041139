//! An image of the machine's own busybox, as `docker save` would write it.

use std::io::Write;

use sha2::{Digest, Sha256};

pub fn archive(name: &str) -> Vec<u8> {
    pack(name, &[layer()])
}

/// An image of layers with these files, lowest first; `->` begins the target of a link.
pub fn archive_of(name: &str, layers: &[&[(&str, &str)]]) -> Vec<u8> {
    let layer = |files: &&[(&str, &str)]| {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, text) in *files {
            match text.strip_prefix("->") {
                Some(target) => link(&mut layer, path, target),
                None => append(&mut layer, path, text.as_bytes(), 0o644),
            }
        }
        layer.into_inner().unwrap()
    };
    pack(name, &layers.iter().map(layer).collect::<Vec<_>>())
}

fn pack(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| format!("sha256:{}", hex(l))).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "manifest.json", manifest.as_bytes(), 0o644);
    append(&mut archive, &config_name, config.as_bytes(), 0o644);
    for (name, layer) in names.iter().zip(layers) {
        append(&mut archive, name, layer, 0o644);
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
        "test", "readlink",
    ] {
        link(&mut layer, &format!("bin/{name}"), "busybox");
    }
    layer.into_inner().unwrap()
}

fn link(archive: &mut tar::Builder<impl Write>, path: &str, target: &str) {
    let mut header = tar::Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    archive.append_link(&mut header, path, target).unwrap();
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
