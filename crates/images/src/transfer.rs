//! A blob as a stream that goes on where it broke off.

use std::io;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::{Client, Reference};
use tracing::debug;

use crate::retry::{is_busy, pause};

/// So often in all a transfer is begun that gets nowhere; one that gets somewhere is begun again and again.
const ATTEMPTS: usize = 5;

type Bytes = bytes::Bytes;

struct Transfer {
    client: Client,
    reference: Reference,
    descriptor: OciDescriptor,
    size: u64,
    received: u64,
    fruitless: usize,
    current: Option<BoxStream<'static, io::Result<Bytes>>>,
}

/// Every byte of a blob once, and not one more than its descriptor says. What the bytes are, whoever reads them verifies.
pub fn blob(
    client: &Client,
    reference: &Reference,
    descriptor: &OciDescriptor,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + use<> {
    let transfer = Transfer {
        client: client.clone(),
        reference: reference.clone(),
        descriptor: descriptor.clone(),
        size: u64::try_from(descriptor.size).unwrap_or(0),
        received: 0,
        fruitless: 0,
        current: None,
    };
    stream::try_unfold(transfer, async |mut transfer| {
        Ok(transfer.next().await?.map(|bytes| (bytes, transfer)))
    })
}

impl Transfer {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.received == self.size && self.size > 0 {
                return Ok(None);
            }
            let broken = match self.read().await {
                Ok(Some(bytes)) => {
                    self.received += bytes.len() as u64;
                    if self.received > self.size {
                        return Err(io::Error::other(format!(
                            "the registry sends more than the {} bytes that the manifest says",
                            self.size
                        )));
                    }
                    self.fruitless = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.size == 0 => return Ok(None),
                Ok(None) => io::ErrorKind::UnexpectedEof.into(),
                Err(error) => error,
            };
            self.current = None;
            self.fruitless += 1;
            if self.fruitless == ATTEMPTS {
                return Err(broken);
            }
            // What broke off goes on at once; a registry that refuses gets time.
            let refused = broken.get_ref().and_then(|e| e.downcast_ref::<OciDistributionError>());
            match refused {
                Some(refused) if !is_busy(refused) => return Err(broken),
                Some(_) => tokio::time::sleep(pause(u32::try_from(self.fruitless).unwrap_or(0))).await,
                None => {}
            }
            debug!(error = %broken, received = self.received, size = self.size, "transfer broke off, going on");
        }
    }

    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.current.is_none() {
            let opened = open(&self.client, &self.reference, &self.descriptor, self.received).await;
            self.current = Some(opened.map_err(io::Error::other)?);
        }
        match &mut self.current {
            Some(current) => current.try_next().await,
            None => Ok(None),
        }
    }
}

/// The bytes from `received` on.
async fn open(
    client: &Client,
    reference: &Reference,
    descriptor: &OciDescriptor,
    received: u64,
) -> Result<BoxStream<'static, io::Result<Bytes>>, OciDistributionError> {
    if received == 0 {
        return Ok(client.pull_blob_stream(reference, descriptor).await?.stream);
    }
    Ok(match client.pull_blob_stream_partial(reference, descriptor, received, None).await? {
        BlobResponse::Partial(rest) => rest.stream,
        // A registry that cannot: what is here already is passed over.
        BlobResponse::Full(whole) => skip(whole.stream, received),
    })
}

fn skip(stream: BoxStream<'static, io::Result<Bytes>>, count: u64) -> BoxStream<'static, io::Result<Bytes>> {
    let rest = stream.scan(count, |left, item| {
        let item = item.map(|mut bytes| {
            let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= passed as u64;
            bytes.split_off(passed)
        });
        futures::future::ready(Some(item))
    });
    rest.try_filter(|bytes| futures::future::ready(!bytes.is_empty())).boxed()
}
