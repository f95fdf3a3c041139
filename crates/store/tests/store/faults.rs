//! etcd's own: several processes at one cluster, members that die, hang, fall behind or lose everything; TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use store::{Error, EtcdOptions, Expect, Options, Store};
use tokio::sync::Notify;

use crate::engines::etcd;
use crate::etcd::{Cluster, Tls};
use crate::recorder::Recorder;

async fn connect(servers: Vec<String>) -> Store {
    Store::connect(etcd(servers), Options::default()).await.unwrap()
}

/// Writes to keys of its own until told to stop; what it was told is written, by key.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<(AtomicUsize, Notify)>,
    writers: Vec<tokio::task::JoinHandle<BTreeMap<String, String>>>,
}

impl Load {
    fn start(store: &Store, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new((AtomicUsize::new(0), Notify::new()));
        let writers = (0..4)
            .map(|writer| {
                let (store, stop, written) = (store.clone(), stop.clone(), written.clone());
                let name = name.to_owned();
                tokio::spawn(async move {
                    let mut acknowledged = BTreeMap::new();
                    for count in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let key = format!("/{name}/{writer}/{}", count % 5);
                        let value = count.to_string();
                        match store.put(key.clone(), value.clone(), Expect::Anything, None).await {
                            Ok(_) => acknowledged.insert(key, value),
                            // Whether that happened is not known: whatever is there is right.
                            Err(Error::Unavailable { .. }) => acknowledged.remove(&key),
                            Err(error) => panic!("{error}"),
                        };
                        written.0.fetch_add(1, Ordering::Relaxed);
                        written.1.notify_waiters();
                    }
                    acknowledged
                })
            })
            .collect();
        Self { stop, written, writers }
    }

    /// Waits until so many more are written.
    async fn more(&self, count: usize) {
        let target = self.written.0.load(Ordering::Relaxed) + count;
        loop {
            let next = self.written.1.notified();
            if self.written.0.load(Ordering::Relaxed) >= target {
                return;
            }
            next.await;
        }
    }

    /// Stops, and checks that everything that was acknowledged is there.
    async fn finish(self, store: &Store) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            for (key, value) in writer.await.unwrap() {
                let found = store.get(key.as_bytes()).await.unwrap().map(|entry| entry.value);
                assert_eq!(found, Some(value.into()), "{key}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_may_die_and_hang() {
    let mut cluster = Cluster::start(3);
    let one = connect(cluster.servers()).await;
    let other = connect(cluster.servers().into_iter().rev().collect()).await;
    let recorders = [Recorder::default(), Recorder::default()];
    one.observe(b"/", recorders[0].clone()).await.unwrap();
    other.observe(b"/", recorders[1].clone()).await.unwrap();
    let loads = [Load::start(&one, "one"), Load::start(&other, "other")];
    let both = || async {
        loads[0].more(50).await;
        loads[1].more(50).await;
    };
    both().await;
    for member in 0..3 {
        cluster.kill(member);
        both().await;
        cluster.restart(member);
        both().await;
    }
    for member in 0..3 {
        cluster.freeze(member);
        both().await;
        cluster.resume(member);
        both().await;
    }
    for load in loads {
        load.finish(&one).await;
    }
    for (recorder, store) in recorders.iter().zip([&one, &other]) {
        recorder.check(store).await;
        let told = recorder.0.lock().unwrap();
        assert_eq!(told.loads, 1, "nothing was missed");
        // One change, one revision: none is left out.
        let first = told.revisions[0];
        assert!(told.revisions.iter().copied().eq(first..first + told.revisions.len() as u64));
    }
}

#[tokio::test]
async fn what_others_write_is_there_after_settling() {
    let cluster = Cluster::start(3);
    let one = connect(vec![cluster.server(0)]).await;
    let other = connect(vec![cluster.server(2)]).await;
    let recorder = Recorder::default();
    other.observe(b"/", recorder.clone()).await.unwrap();
    for count in 0..100 {
        let written = one.put("/a", count.to_string(), Expect::Anything, None).await.unwrap();
        assert!(other.settle().await.unwrap() >= written.revision);
        let (value, _) = recorder.0.lock().unwrap().state[&b"/a"[..]].clone();
        assert_eq!(String::from_utf8(value).unwrap(), count.to_string());
        let modified = written.revision;
        let stale = other.put("/a", "stale", Expect::Revision(modified - 1), None).await;
        assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    }
}

#[tokio::test]
async fn a_dead_member_among_the_servers_is_no_matter() {
    let mut cluster = Cluster::start(3);
    connect(cluster.servers()).await;
    for member in 0..2 {
        cluster.kill(member);
        let store = connect(cluster.servers()).await;
        store.put("/a", "1", Expect::Anything, None).await.unwrap();
        store.check().await.unwrap();
        cluster.restart(member);
        store.put("/a", "2", Expect::Anything, None).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_majority_writes_fail_and_come_back() {
    let mut cluster = Cluster::start(3);
    let store = connect(cluster.servers()).await;
    store.put("/a", "1", Expect::Absent, None).await.unwrap();
    cluster.kill(0);
    cluster.kill(1);
    let failed = store.put("/b", "1", Expect::Absent, None).await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    assert!(store.check().await.is_err());
    cluster.restart(0);
    store.put("/a", "2", Expect::Anything, None).await.unwrap();
    store.check().await.unwrap();
}

#[tokio::test]
async fn who_was_away_when_history_was_compacted_loads_again() {
    let mut cluster = Cluster::start(3);
    let away = connect(vec![cluster.server(0)]).await;
    let other = connect(vec![cluster.server(1), cluster.server(2)]).await;
    let recorder = Recorder::default();
    away.observe(b"/", recorder.clone()).await.unwrap();
    away.put("/gone", "1", Expect::Absent, None).await.unwrap();
    let from = away.revision();
    cluster.kill(0);
    other.delete("/gone", Expect::Anything, None).await.unwrap();
    for count in 0..10 {
        other.put("/a", count.to_string(), Expect::Anything, None).await.unwrap();
    }
    other.compact(other.revision()).await.unwrap();
    cluster.restart(0);
    recorder.check(&away).await;
    assert_eq!(recorder.0.lock().unwrap().loads, 2);
    assert!(matches!(away.watch("/", from), Err(Error::Compacted { .. })));
    // And goes on.
    other.put("/a", "more", Expect::Anything, None).await.unwrap();
    recorder.check(&away).await;
}

#[tokio::test]
async fn a_cluster_that_was_set_back_is_loaded_again() {
    let mut cluster = Cluster::start(1);
    let store = connect(cluster.servers()).await;
    let recorder = Recorder::default();
    store.observe(b"/", recorder.clone()).await.unwrap();
    for count in 0..10 {
        store.put(format!("/{count}"), "1", Expect::Absent, None).await.unwrap();
    }
    cluster.kill(0);
    cluster.forget(0);
    cluster.restart(0);
    store.put("/new", "1", Expect::Absent, None).await.unwrap();
    recorder.check(&store).await;
    assert_eq!(recorder.0.lock().unwrap().loads, 2);
}

#[tokio::test]
async fn prefixes_are_apart() {
    let cluster = Cluster::start(1);
    let with = |prefix: &str| EtcdOptions { prefix: prefix.to_owned(), ..etcd(cluster.servers()) };
    let one = Store::connect(with("/one"), Options::default()).await.unwrap();
    let two = Store::connect(with("/two"), Options::default()).await.unwrap();
    let recorder = Recorder::default();
    one.observe(b"/", recorder.clone()).await.unwrap();
    two.put("/a", "2", Expect::Absent, None).await.unwrap();
    one.put("/a", "1", Expect::Absent, None).await.unwrap();
    assert_eq!(one.get(b"/a").await.unwrap().unwrap().value, "1");
    recorder.check(&one).await;
    assert_eq!(recorder.0.lock().unwrap().revisions.len(), 1);
}

#[tokio::test]
async fn several_take_turns_in_compacting() {
    let cluster = Cluster::start(1);
    let options =
        EtcdOptions { compaction_interval: std::time::Duration::from_millis(20), ..etcd(cluster.servers()) };
    let one = Store::connect(options.clone(), Options::default()).await.unwrap();
    let _other = Store::connect(options, Options::default()).await.unwrap();
    let first = one.put("/a", "0", Expect::Absent, None).await.unwrap().revision;
    // Ends when the first state is forgotten; meanwhile nothing else goes wrong.
    for count in 1.. {
        one.put("/a", count.to_string(), Expect::Anything, None).await.unwrap();
        match one.range(b"/", None, 1, Some(first)).await {
            Ok(range) => assert_eq!(range.entries[0].value, "0"),
            Err(Error::Compacted { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let files = tempfile::tempdir().unwrap();
    let cluster = Cluster::with(1, files, |directory, addresses| {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut leaf = rcgen::CertificateParams::new(names).unwrap();
        leaf.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        let file = |name: &str, pem: String| {
            let path = directory.join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        Some(Tls {
            authority: file("ca.crt", authority_certificate.pem()),
            certificate: file("etcd.crt", certificate.pem()),
            key: file("etcd.key", key.serialize_pem()),
        })
    });
    let tls = cluster.tls().unwrap();
    let plain = etcd(cluster.servers());
    let no_authority = Store::connect(plain.clone(), Options::default()).await;
    assert!(matches!(no_authority.err(), Some(Error::Server { .. })));
    let authority = EtcdOptions { ca_file: Some(tls.authority.clone()), ..plain };
    let half = EtcdOptions { cert_file: Some(tls.certificate.clone()), ..authority.clone() };
    assert!(matches!(Store::connect(half, Options::default()).await.err(), Some(Error::File { .. })));
    let whole = EtcdOptions {
        cert_file: Some(tls.certificate.clone()),
        key_file: Some(tls.key.clone()),
        ..authority
    };
    let store = Store::connect(whole, Options::default()).await.unwrap();
    store.put("/a", "1", Expect::Absent, None).await.unwrap();
    assert_eq!(store.get(b"/a").await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn whoever_compacts_ends_history_for_all() {
    let cluster = Cluster::start(1);
    let open = async || {
        let options =
            EtcdOptions { compaction_interval: Duration::from_millis(50), ..etcd(cluster.servers()) };
        Store::connect(options, Options::default()).await.unwrap()
    };
    let stores = [open().await, open().await];
    let from = stores[0].put("/a", "0", Expect::Absent, None).await.unwrap().revision;
    for store in &stores {
        while !matches!(store.watch("/", from), Err(Error::Compacted { .. })) {
            stores[0].put("/a", "1", Expect::Anything, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn members_tell_what_they_take() {
    let mut cluster = Cluster::start(3);
    let store = connect(cluster.servers()).await;
    store.put("/a", "1", Expect::Absent, None).await.unwrap();
    // The last of them may still be starting.
    while !matches!(store.sizes().await[..], [Some(1..), Some(1..), Some(1..)]) {}
    cluster.kill(1);
    assert!(matches!(store.sizes().await[..], [Some(1..), None, Some(1..)]));
}
