//! Compression of long answers for clients that accept it.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body;

use super::body::{BoxError, ByteStream, ResponseBody};
use super::respond::Answer;

/// Shorter answers are not worth it; as upstream.
const MIN_LENGTH: u64 = 128 << 10;

pub fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING);
    values.iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|coding| {
            let mut parts = coding.split(';');
            let gzip = parts.next().is_some_and(|name| name.trim() == "gzip");
            gzip && !parts.any(|part| matches!(part.trim(), "q=0" | "q=0.0"))
        })
    })
}

pub fn compressed(plain: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

/// Undoes [`compressed`]; not for what others have compressed.
pub fn decompressed(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Compresses the body, piece by piece while it is sent.
pub fn compress(answer: &mut Answer) {
    let long = answer.body().size_hint().lower() >= MIN_LENGTH;
    if !long || answer.headers().contains_key(CONTENT_ENCODING) {
        return;
    }
    let pieces: ByteStream = match std::mem::replace(answer.body_mut(), ResponseBody::empty()) {
        ResponseBody::Pieces(pieces) => Box::pin(stream::iter(pieces.into_iter().map(Ok))),
        ResponseBody::Stream(stream, _) => stream,
        relayed @ ResponseBody::Relayed(_) => {
            *answer.body_mut() = relayed;
            return;
        }
    };
    // The fastest level: what is saved is time on the network.
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = stream::unfold(Some((pieces, encoder)), |state| async move {
        let (mut pieces, mut encoder) = state?;
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    if let Err(error) = encoder.write_all(&piece) {
                        return Some((Err(BoxError::from(error)), None));
                    }
                    let ready = std::mem::take(encoder.get_mut());
                    if !ready.is_empty() {
                        return Some((Ok(Bytes::from(ready)), Some((pieces, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return Some((encoder.finish().map(Bytes::from).map_err(BoxError::from), None)),
            }
        }
    });
    *answer.body_mut() = ResponseBody::stream(compressed);
    let headers = answer.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
}
