//! Files are made once, kept while they are good, and made anew when they are not.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pki::{Cluster, Names};

fn ensure(directory: &Path, addresses: &[[u8; 4]]) -> Cluster {
    let names = Names {
        cluster: "corten".into(),
        server: "https://192.0.2.1:6443".into(),
        domain: "cluster.local".into(),
        addresses: addresses.iter().map(|a| IpAddr::from(*a)).collect(),
        hostnames: vec!["machine".into()],
    };
    Cluster::ensure(directory, names).expect("the files can be made")
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).expect(name)
}

#[test]
fn a_second_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    ensure(directory.path(), &[[10, 96, 0, 1]]).node("n1", &[]).unwrap();
    let files = ["ca.crt", "apiserver.crt", "sa.key", "admin.conf", "kubelet-n1.conf"];
    let before = files.map(|f| read(directory.path(), f));
    ensure(directory.path(), &[[10, 96, 0, 1]]).node("n1", &[]).unwrap();
    assert_eq!(before, files.map(|f| read(directory.path(), f)));
}

#[test]
fn a_new_address_gives_a_new_serving_certificate_from_the_same_authority() {
    let directory = tempfile::tempdir().unwrap();
    ensure(directory.path(), &[[10, 96, 0, 1]]);
    let (authority, serving) = (read(directory.path(), "ca.crt"), read(directory.path(), "apiserver.crt"));
    ensure(directory.path(), &[[10, 96, 0, 1], [192, 0, 2, 7]]);
    assert_eq!(authority, read(directory.path(), "ca.crt"));
    assert_ne!(serving, read(directory.path(), "apiserver.crt"));
}

#[test]
fn keys_and_kubeconfigs_are_private() {
    let directory = tempfile::tempdir().unwrap();
    ensure(directory.path(), &[]).node("n1", &[]).unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let expected = if name.ends_with(".key") || name.ends_with(".conf") { 0o600 } else { 0o644 };
        assert_eq!(mode, expected, "{name}");
    }
}

#[test]
fn a_damaged_authority_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    ensure(directory.path(), &[]);
    fs::write(directory.path().join("ca.key"), "not a key").unwrap();
    let names = Names {
        cluster: "c".into(),
        server: "https://[::1]:6443".into(),
        domain: "cluster.local".into(),
        addresses: vec![],
        hostnames: vec![],
    };
    let error = Cluster::ensure(directory.path(), names).err().expect("refused").to_string();
    assert!(error.contains("ca.key"), "{error}");
}
