//! Answers of etcd that get lost on their way: who wrote is told so, and nobody else is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use store::{Error, Expect, Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::engines::etcd;
use crate::etcd::Cluster;

const PASS: u8 = 0;
const SWALLOW_REQUESTS: u8 = 1;
const SWALLOW_ANSWERS: u8 = 2;

/// Stands between a store and etcd, and lets through what it is told to.
struct Between {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    /// Set once something has been swallowed.
    swallowed: Arc<AtomicBool>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u32>,
}

impl Between {
    async fn start(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(PASS));
        let cut = watch::Sender::new(0);
        let swallowed = Arc::new(AtomicBool::new(false));
        let (shared, lost, cuts) = (mode.clone(), swallowed.clone(), cut.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (client, server) = (client.into_split(), server.into_split());
                let asked = (shared.clone(), SWALLOW_REQUESTS, lost.clone());
                let answered = (shared.clone(), SWALLOW_ANSWERS, lost.clone());
                tokio::spawn(copy(client.0, server.1, asked, cuts.clone()));
                tokio::spawn(copy(server.0, client.1, answered, cuts.clone()));
            }
        });
        Self { address, mode, swallowed, cut }
    }

    fn swallow(&self, what: u8) {
        self.swallowed.store(false, Ordering::SeqCst);
        self.mode.store(what, Ordering::SeqCst);
    }

    /// Waits until something has been swallowed.
    async fn has_swallowed(&self) {
        while !self.swallowed.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    /// Cuts what has lost bytes, and is what it should be from then on.
    fn mend(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (mode, swallows, swallowed): (Arc<AtomicU8>, u8, Arc<AtomicBool>),
    mut cuts: watch::Receiver<u32>,
) {
    cuts.mark_unchanged();
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = cuts.changed() => return,
        };
        let Ok(count @ 1..) = read else { return };
        if mode.load(Ordering::SeqCst) == swallows {
            swallowed.store(true, Ordering::SeqCst);
        } else if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn connect(server: String) -> Store {
    Store::connect(etcd(vec![server]), Options::default()).await.unwrap()
}

/// Another store, of the same etcd, without anything between; and one whose answers can be lost.
async fn two() -> (Cluster, Between, Store, Store) {
    let cluster = Cluster::start(1);
    let direct = connect(cluster.server(0)).await;
    let between = Between::start(&cluster.server(0)).await;
    let store = connect(format!("http://{}", between.address)).await;
    (cluster, between, store, direct)
}

/// Waits until a key has that value.
async fn has(store: &Store, key: &str, value: &str) {
    while store.get(key.as_bytes()).await.unwrap().is_none_or(|entry| entry.value != value.as_bytes()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_wrote_is_told_so() {
    let (_cluster, between, store, direct) = two().await;
    let made = store.put("/a", "1", Expect::Absent, None).await.unwrap().revision;
    for (expect, key) in [(Expect::Revision(made), "/a"), (Expect::Absent, "/new")] {
        between.swallow(SWALLOW_ANSWERS);
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.put(key, "2", expect, None).await }
        });
        has(&direct, key, "2").await;
        // Others go on from there before it is known.
        let after = direct.put(key, "3", Expect::Anything, None).await.unwrap().revision;
        between.mend();
        let written = writing.await.unwrap().unwrap().revision;
        assert!(written > made && written < after, "{written}");
    }
}

#[tokio::test]
async fn who_did_not_write_is_told_so_although_another_wrote_the_same() {
    let (_cluster, between, store, direct) = two().await;
    let made = store.put("/a", "1", Expect::Absent, None).await.unwrap().revision;
    for (expect, key) in [(Expect::Revision(made), "/a"), (Expect::Absent, "/new")] {
        between.swallow(SWALLOW_REQUESTS);
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.put(key, "2", expect, None).await }
        });
        between.has_swallowed().await;
        let other = direct.put(key, "2", expect, None).await.unwrap().revision;
        between.mend();
        match writing.await.unwrap() {
            Err(Error::Conflict { current }) => assert_eq!(current.unwrap().modified, other),
            written => panic!("{written:?}"),
        }
    }
}
