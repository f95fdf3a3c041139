//! Archives, however they are compressed.

use std::fs::{self, File};
use std::io::Write;

use images::{is_compressed, is_tar, unpack_archive};

/// `inside/f`, with `tar` in it, by Python's tarfile, lzma and bz2.
const XZ: &[u8] = include_bytes!("../data/small.tar.xz");
const BZIP2: &[u8] = include_bytes!("../data/small.tar.bz2");
/// The same, by a dictionary of a gigabyte.
const GREEDY: &[u8] = include_bytes!("../data/greedy.tar.xz");

fn gzip(archive: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(archive).unwrap();
    writer.finish().unwrap()
}

#[test]
fn compressed_in_every_way() {
    let mut plain = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    plain.append_data(&mut header, "inside/f", &b"tar"[..]).unwrap();
    let plain = plain.into_inner().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (name, archive) in [
        ("plain", plain.clone()),
        ("gzip", gzip(&plain)),
        ("zstd", zstd),
        ("xz", XZ.into()),
        ("bzip2", BZIP2.into()),
    ] {
        assert_eq!(is_compressed(&archive), name != "plain", "{name}");
        assert!(is_tar(&archive[..]).unwrap(), "{name}");
        let directory = tempfile::tempdir().unwrap();
        unpack_archive(&archive[..], File::open(directory.path()).unwrap().into()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("inside/f")).unwrap(), "tar", "{name}");
    }
}

#[test]
fn what_takes_too_much_or_ends_too_soon_is_refused() {
    for (name, archive) in [("greedy", GREEDY), ("short", &XZ[..80]), ("short", &BZIP2[..60])] {
        let directory = tempfile::tempdir().unwrap();
        let place = File::open(directory.path()).unwrap().into();
        assert!(unpack_archive(archive, place).is_err(), "{name}");
    }
    // What only begins like one is a file.
    assert!(!is_tar(&b"BZhello"[..]).unwrap());
}
