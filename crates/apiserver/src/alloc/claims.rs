//! Claims: of several API servers of one store, no two give the same address or port to a Service.
//!
//! What a server has chosen it claims in the store before it writes the Service, and gives the claim up after. Whoever
//! gets a claim first makes sure that it has heard of everything written before: a Service that was written under an
//! earlier claim of the same item is then known. A claim whose server died is worth nothing after a while.

use std::net::IpAddr;

use jiff::Timestamp;
use store::{Error, Expect, Store};
use tracing::debug;

use super::taken::Item;

/// Far longer than the write of a Service may take.
const LIFETIME: i64 = 120;

/// Items claimed for one write; given up when dropped.
pub struct Claims {
    store: Store,
    held: Vec<(String, u64)>,
}

impl Claims {
    /// Claims all items, or, where somebody else has claimed one of them, none.
    pub async fn take(store: &Store, items: &[Item]) -> Result<Option<Self>, Error> {
        let mut claims = Self { store: store.clone(), held: Vec::new() };
        for item in items {
            let key = key(*item);
            let now = Timestamp::now().as_second();
            let put = |expect| store.put(key.clone(), now.to_string(), expect, None);
            let put = match put(Expect::Absent).await {
                Err(Error::Conflict { current: Some(current) }) if is_over(&current.value, now) => {
                    put(Expect::Revision(current.modified)).await
                }
                put => put,
            };
            match put {
                Ok(written) => claims.held.push((key, written.revision)),
                Err(Error::Conflict { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(claims))
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        let (store, held) = (self.store.clone(), std::mem::take(&mut self.held));
        if held.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for (key, revision) in held {
                if let Err(error) = store.delete(key, Expect::Revision(revision), None).await {
                    debug!(%error, "a claim was not given up; it will end by itself");
                }
            }
        });
    }
}

fn key(item: Item) -> String {
    match item {
        Item::Address(IpAddr::V4(address)) => format!("/corten/claims/{address}"),
        Item::Address(IpAddr::V6(address)) => format!("/corten/claims/[{address}]"),
        Item::Port(port) => format!("/corten/claims/:{port}"),
    }
}

fn is_over(since: &[u8], now: i64) -> bool {
    let since = std::str::from_utf8(since).ok().and_then(|text| text.parse::<i64>().ok());
    since.is_none_or(|since| now.saturating_sub(since) > LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_claims_until_it_gives_up() {
        let store = Store::in_memory().unwrap();
        let items = [Item::Port(30001), Item::Address("10.0.0.1".parse().unwrap())];
        let first = Claims::take(&store, &items).await.unwrap().expect("free");
        assert!(Claims::take(&store, &items[1..]).await.unwrap().is_none());
        assert!(Claims::take(&store, &[Item::Port(30002)]).await.unwrap().is_some());
        // Given up in the background, in order: the last one last.
        let mut watch = store.watch("/corten/claims/10.0.0.1", store.revision()).unwrap();
        drop(first);
        watch.next().await.unwrap();
        assert!(Claims::take(&store, &items).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_forgotten_claim_ends() {
        let store = Store::in_memory().unwrap();
        let old = (Timestamp::now().as_second() - LIFETIME - 1).to_string();
        store.put("/corten/claims/:30001", old, Expect::Absent, None).await.unwrap();
        assert!(Claims::take(&store, &[Item::Port(30001)]).await.unwrap().is_some());
    }
}
