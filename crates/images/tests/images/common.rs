//! Archives made on the spot.

use std::io::Write;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// One entry of a layer. Paths are written as they are, which the tar crate itself would refuse for some.
pub struct Entry<'a> {
    pub path: &'a str,
    pub kind: EntryType,
    pub target: &'a str,
    pub data: &'a [u8],
    pub mode: u32,
}

pub fn file<'a>(path: &'a str, data: &'a [u8]) -> Entry<'a> {
    Entry { path, kind: EntryType::Regular, target: "", data, mode: 0o644 }
}

pub fn dir(path: &str) -> Entry<'_> {
    Entry { path, kind: EntryType::Directory, target: "", data: b"", mode: 0o755 }
}

pub fn link<'a>(kind: EntryType, path: &'a str, target: &'a str) -> Entry<'a> {
    Entry { path, kind, target, data: b"", mode: 0o777 }
}

pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..entry.target.len()].copy_from_slice(entry.target.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_size(entry.data.len() as u64);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        builder.append(&header, entry.data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn config(diff_ids: &[String]) -> Vec<u8> {
    serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// An OCI archive with one image; `claim` may change a blob's contents after its digest was taken.
pub fn oci_archive(name: &str, layers: &[Vec<u8>], claim: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    let config = config(&diff_ids);
    let blobs: Vec<Vec<u8>> = layers.iter().map(|l| gzip(l)).collect();
    let descriptor =
        |bytes: &[u8]| serde_json::json!({"digest": digest(bytes), "size": bytes.len(), "mediaType": "x"});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": descriptor(&config),
        "layers": blobs.iter().map(|b| descriptor(b)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(&manifest), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]})
    .to_string()
    .into_bytes();
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index),
    ];
    for (kind, blob) in [("config", config), ("manifest", manifest)]
        .into_iter()
        .chain(blobs.into_iter().map(|b| ("layer", b)))
    {
        let path = format!("blobs/{}", digest(&blob).replace(':', "/"));
        files.push((path, claim(kind, blob)));
    }
    let entries: Vec<Entry<'_>> = files.iter().map(|(path, data)| file(path, data)).collect();
    tar(&entries)
}
