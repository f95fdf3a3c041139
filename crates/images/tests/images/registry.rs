//! Pulls from a registry that breaks off, lies, or is only a mirror.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{config, digest, dir, file, gzip, link, oci_archive, tar};
use images::{Auth, Error, Image, Registries, Store, no_progress};
use tar::EntryType;

/// What is at which path, and how often a blob breaks off.
struct Registry {
    address: String,
    files: Mutex<HashMap<String, Vec<u8>>>,
    breaks: AtomicUsize,
    ranges: AtomicUsize,
    /// So many layers are begun and not gone on with, while the connection stays.
    stalls: AtomicUsize,
    /// So many requests are told to come again.
    busy: AtomicUsize,
    /// The identity token that is taken, if there has to be one.
    identity: Mutex<Option<&'static str>>,
}

impl Registry {
    fn serve() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = Arc::new(Self {
            address: listener.local_addr().unwrap().to_string(),
            files: Mutex::default(),
            breaks: AtomicUsize::new(0),
            ranges: AtomicUsize::new(0),
            stalls: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            identity: Mutex::default(),
        });
        let served = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let registry = served.clone();
                std::thread::spawn(move || registry.answer(stream.unwrap()));
            }
        });
        registry
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                break;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
        let mut words = lines.first().map(|l| l.split(' ')).into_iter().flatten();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let length = lines.iter().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let mut sent = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut sent).unwrap();
        let less = |n: usize| n.checked_sub(1);
        let head = if self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            Some("429 Too Many Requests\r\nretry-after: 1".to_owned())
        } else if let Some(identity) = *self.identity.lock().unwrap() {
            let known = lines.iter().any(|l| l == "authorization: bearer exchanged");
            let form = String::from_utf8_lossy(&sent);
            match path {
                "/token" if form.contains(&format!("refresh_token={identity}")) => {
                    let body = "{\"access_token\":\"exchanged\"}";
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    return (&stream).write_all(head.as_bytes()).unwrap();
                }
                _ if known => None,
                _ => {
                    let realm = format!("http://{}/token", self.address);
                    Some(format!(
                        "401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"r\""
                    ))
                }
            }
        } else {
            None
        };
        let head = head.or_else(|| self.upload(method, path, query, sent));
        if let Some(head) = head {
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return (&stream).write_all(head.as_bytes()).unwrap();
        }
        let body = self.files.lock().unwrap().get(path).cloned();
        let (status, mut body) = match body {
            _ if path == "/v2/" => ("200 OK", b"{}".to_vec()),
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", b"{\"errors\":[]}".to_vec()),
        };
        let start = lines
            .iter()
            .find_map(|l| l.strip_prefix("range: bytes=")?.split('-').next()?.parse::<usize>().ok());
        let status = match start {
            Some(start) if status == "200 OK" => {
                self.ranges.fetch_add(1, Ordering::SeqCst);
                body.drain(..start);
                "206 Partial Content"
            }
            _ => status,
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let layer = path.contains("/blobs/") && body.len() > 10_000;
        let broken = |n: usize| (layer && n > 0).then(|| n - 1);
        if self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, broken).is_ok() {
            body.truncate(body.len() / 2);
        }
        let stalled = |n: usize| (layer && n > 0).then(|| n - 1);
        let stalls = self.stalls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, stalled).is_ok();
        if stalls {
            body.truncate(body.len() / 2);
        }
        if method == "head" {
            body.clear();
        }
        let mut stream = stream;
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        if stalls {
            // Until the other side has had enough.
            let _ = stream.read(&mut [0]);
        }
    }

    /// The answer's head, to whoever sends something.
    fn upload(&self, method: &str, path: &str, query: &str, sent: Vec<u8>) -> Option<String> {
        match method {
            "post" => Some("202 Accepted\r\nlocation: /v2/app/blobs/uploads/1".to_owned()),
            "put" => {
                let blob =
                    query.split('&').find_map(|q| q.strip_prefix("digest=")).map(|d| d.replace("%3a", ":"));
                let path = blob.map_or(path.to_owned(), |digest| format!("/v2/app/blobs/{digest}"));
                self.put(&path, &sent);
                Some(format!("201 Created\r\nlocation: {path}"))
            }
            _ => None,
        }
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.files.lock().unwrap().insert(path.to_owned(), body.to_owned());
    }

    /// An image `app:1`; `claim` may change a blob's contents and the manifest what it says.
    fn push(&self, config: &[u8], layer: &[u8], claim: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
        let blob = gzip(layer);
        let descriptor = |bytes: &[u8], kind: &str| {
            serde_json::json!({"digest": digest(bytes), "size": bytes.len(),
                "mediaType": format!("application/vnd.oci.image.{kind}")})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(config, "config.v1+json"),
            "layers": [descriptor(&blob, "layer.v1.tar+gzip")],
        });
        self.put("/v2/app/manifests/1", &claim("manifest", manifest.to_string().into_bytes()));
        self.put(&format!("/v2/app/blobs/{}", digest(config)), &claim("config", config.to_vec()));
        self.put(&format!("/v2/app/blobs/{}", digest(&blob)), &claim("layer", blob.clone()));
    }
}

/// A layer that does not shrink much.
fn layer() -> Vec<u8> {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(400_000)
    .collect();
    tar(&[file("noise", &noise)])
}

fn pull(registries: &Registries, reference: &str) -> Result<(tempfile::TempDir, Store, Image), Error> {
    // As the program does; another test may have.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pulled = threads.block_on(store.pull(reference, &Auth::Anonymous, registries, &no_progress()));
    if pulled.is_err() {
        assert!(store.list().unwrap().is_empty());
        store.sweep();
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0, "nothing half made stays");
    }
    Ok((directory, store, pulled?))
}

fn registries() -> Registries {
    Registries { insecure: Vec::new(), directories: Vec::new(), ..Registries::default() }
}

#[test]
fn a_transfer_that_breaks_off_goes_on() {
    let registry = Registry::serve();
    let layer = layer();
    registry.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    registry.breaks.store(3, Ordering::SeqCst);
    let (_directory, store, image) = pull(&registries(), &format!("{}/app:1", registry.address)).unwrap();
    assert_eq!(registry.ranges.load(Ordering::SeqCst), 3, "no byte is fetched twice");
    let directories = store.snapshot(&image, "c").unwrap();
    assert_eq!(fs::metadata(directories[0].join("noise")).unwrap().len(), 400_000);
    assert!(image.size > 400_000 && image.repo_digests.len() == 1);
}

#[test]
fn a_registry_that_stalls_is_asked_again() {
    let registry = Registry::serve();
    let layer = layer();
    registry.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    registry.stalls.store(2, Ordering::SeqCst);
    let registries = Registries { silence: Duration::from_millis(300), ..registries() };
    let (_directory, store, image) = pull(&registries, &format!("{}/app:1", registry.address)).unwrap();
    assert!(registry.ranges.load(Ordering::SeqCst) >= 2, "it goes on where it stood still");
    let directories = store.snapshot(&image, "c").unwrap();
    assert_eq!(fs::metadata(directories[0].join("noise")).unwrap().len(), 400_000);
}

#[test]
fn a_registry_that_lies_is_found_out() {
    let check = |why: &str, config: &[u8], claim: &dyn Fn(&str, Vec<u8>) -> Vec<u8>| {
        let registry = Registry::serve();
        registry.push(config, &layer(), claim);
        let error = pull(&registries(), &format!("{}/app:1", registry.address)).map(drop).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    let good = config(&[digest(&layer())]);
    let replaced = |which: &'static str, with: Vec<u8>| {
        move |kind: &str, bytes: Vec<u8>| if kind == which { with.clone() } else { bytes }
    };
    check("digest", &good, &replaced("config", config(&[digest(b"other")])));
    check("more than the", &good, &|kind, mut bytes| {
        if kind == "layer" {
            bytes.extend_from_slice(&[0; 1000]);
        }
        bytes
    });
    check("count different layers", &config(&[]), &|_, bytes| bytes);
    let foreign =
        String::from_utf8(good.clone()).unwrap().replace("amd64", "s390x").replace("arm64", "s390x");
    check("no variant for linux/", foreign.as_bytes(), &|_, bytes| bytes);
    check("app", &good, &replaced("manifest", b"{}".to_vec()));
}

#[test]
fn mirrors_are_asked_first_and_need_not_answer() {
    let (mirror, registry) = (Registry::serve(), Registry::serve());
    let layer = layer();
    mirror.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    let root = tempfile::tempdir().unwrap();
    let hosts = root.path().join("images.example");
    fs::create_dir(&hosts).unwrap();
    let dead = "http://127.0.0.1:1";
    let text = format!("[host.\"{dead}\"]\n[host.\"http://{}\"]\n", mirror.address);
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    let registries = Registries { directories: vec![root.path().to_owned()], ..Registries::default() };
    let (_directory, _store, image) = pull(&registries, "images.example/app:1").unwrap();
    assert_eq!(image.repo_tags, ["images.example/app:1"], "named as asked for, wherever it came from");
    // The registry has it, its mirror has not.
    registry.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    mirror.files.lock().unwrap().clear();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", registry.address, mirror.address);
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    pull(&registries, "images.example/app:1").unwrap();
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    threads.block_on(work)
}

#[test]
fn a_busy_registry_is_asked_again() {
    let registry = Registry::serve();
    let layer = layer();
    registry.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    registry.busy.store(2, Ordering::SeqCst);
    pull(&registries(), &format!("{}/app:1", registry.address)).unwrap();
    assert_eq!(registry.busy.load(Ordering::SeqCst), 0);
}

#[test]
fn identity_tokens_are_exchanged() {
    let registry = Registry::serve();
    let layer = layer();
    registry.push(&config(&[digest(&layer)]), &layer, |_, bytes| bytes);
    *registry.identity.lock().unwrap() = Some("secret");
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let reference = format!("{}/app:1", registry.address);
    for (token, expected) in [("wrong", false), ("secret", true)] {
        let auth = Auth::Identity(token.to_owned());
        let pulled = wait(store.pull(&reference, &auth, &registries(), &no_progress()));
        assert_eq!(pulled.is_ok(), expected, "{token}: {pulled:?}");
        assert!(!format!("{:?}", pulled.err()).contains(token), "no secret in messages");
    }
}

#[test]
fn what_is_pushed_or_exported_is_what_came() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("one")).unwrap();
    // A layer as no archiver of ours would write it: odd order, a file twice linked, one hidden.
    let first =
        tar(&[file("z", b"zz"), dir("d/"), file("d/a", &[7; 3000]), link(EntryType::Link, "d/b", "z")]);
    let second = tar(&[file(".wh.z", b""), link(EntryType::Symlink, "s", "d/a")]);
    let archive = oci_archive("docker.io/library/odd:1", &[first, second], |_, blob| blob);
    let image = store.import_from(&archive[..], "test", None, &no_progress()).unwrap().remove(0);

    let registry = Registry::serve();
    let name = format!("{}/app:2", registry.address);
    store.tag("odd:1", &name).unwrap();
    registry.busy.store(1, Ordering::SeqCst);
    let pushed = wait(store.push(&name, &Auth::Anonymous, &registries(), &no_progress())).unwrap();
    let known = store.get(&name).unwrap().unwrap();
    assert_eq!(known.repo_digests[0], format!("{}/app@{pushed}", registry.address));
    let (_directory, _other, pulled) = pull(&registries(), &name).unwrap();
    assert_eq!((&pulled.id, &pulled.layers), (&image.id, &image.layers));
    assert_eq!(pulled.repo_digests, known.repo_digests[..1]);

    let mut exported = Vec::new();
    store.export(&["odd:1".to_owned()], &mut exported, &no_progress()).unwrap();
    let other = Store::open(&directory.path().join("two")).unwrap();
    let imported = other.import_from(&exported[..], "test", None, &no_progress()).unwrap().remove(0);
    assert_eq!((imported.id, imported.layers), (image.id, image.layers));
    assert_eq!(imported.repo_tags, ["docker.io/library/odd:1"]);
    assert!(store.export(&["none:1".to_owned()], Vec::new(), &no_progress()).is_err());
}
