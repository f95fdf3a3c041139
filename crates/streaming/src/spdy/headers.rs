//! Header blocks: names and values, compressed over the life of the connection with a dictionary of SPDY's own.

use std::io;
use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::protocol_error;

/// What one block may unpack to.
const MAX_BLOCK: usize = 64 * 1024;
const MAX_HEADERS: u32 = 256;

/// The words of the dictionary (draft-mbelshe-httpbis-spdy-00, 2.6.10.1), each of which has its length before it...
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host \
    if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// ...and the text after them, which has none.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 \
    Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
    Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split_ascii_whitespace() {
        dictionary.extend((word.len() as u32).to_be_bytes());
        dictionary.extend(word.replace('_', " ").bytes());
    }
    dictionary.extend(TEXT.bytes());
    dictionary
});

/// The headers of a stream; names are lower case.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

pub(super) struct HeadersReader(Decompress);

impl HeadersReader {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn read(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?).ok_or_else(|| protocol_error("a SPDY header block is malformed"))
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let bad = |_| protocol_error("a SPDY header block cannot be decompressed");
        let mut unpacked = Vec::with_capacity(1024);
        let mut rest = block;
        while unpacked.len() < MAX_BLOCK {
            let (read, written) = (self.0.total_in(), unpacked.len());
            match self.0.decompress_vec(rest, &mut unpacked, FlushDecompress::Sync) {
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(bad)?;
                }
                Err(e) => return Err(bad(e)),
            }
            rest = &rest[(self.0.total_in() - read) as usize..];
            let has_room = unpacked.len() < unpacked.capacity();
            if rest.is_empty() && has_room {
                return Ok(unpacked);
            }
            if has_room && self.0.total_in() == read && unpacked.len() == written {
                return Err(protocol_error("a SPDY header block goes on after its end"));
            }
            unpacked.reserve(4096);
        }
        Err(protocol_error("a SPDY header block is too large"))
    }
}

fn parse(mut block: &[u8]) -> Option<Headers> {
    let count = number(&mut block)?;
    if count > MAX_HEADERS {
        return None;
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut block)?;
        // Several values are separated by NUL; the first one is meant.
        let value = text(&mut block)?;
        let value = value.split('\0').next().unwrap_or_default().to_owned();
        headers.push((name.to_ascii_lowercase(), value));
    }
    Some(Headers(headers))
}

fn number(block: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    Some(u32::from_be_bytes(*bytes))
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = number(block)? as usize;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(bytes.to_vec()).ok()
}

pub(super) struct HeadersWriter(Compress);

impl HeadersWriter {
    pub fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Readers that expect the dictionary take a stream without one as well.
        let _ = compress.set_dictionary(&DICTIONARY);
        Self(compress)
    }

    /// A block without headers, which is all that replies need.
    pub fn none(&mut self) -> io::Result<Vec<u8>> {
        self.write(&0u32.to_be_bytes())
    }

    /// A block of these headers, whose names are lower case.
    pub fn some(&mut self, headers: &[(&str, String)]) -> io::Result<Vec<u8>> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [*name, value] {
                block.extend((text.len() as u32).to_be_bytes());
                block.extend(text.bytes());
            }
        }
        self.write(&block)
    }

    fn write(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(block.len() + 128);
        self.0.compress_vec(block, &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_every_peer_has() {
        assert_eq!(DICTIONARY.len(), 1423);
        let (a, b) = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!(b << 16 | a, 0xe3c6_a7c2, "the Adler-32 checksum that zlib streams name it by");
    }

    #[test]
    fn blocks_are_read_as_written_over_one_connection() {
        let (mut writer, mut reader) = (HeadersWriter::new(), HeadersReader::new());
        for round in 0..3 {
            let value = format!("value-{round}").repeat(40);
            let packed = writer.some(&[("streamtype", "error".to_owned()), ("x", value.clone())]).unwrap();
            let headers = reader.read(&packed).unwrap();
            assert_eq!(headers.get("streamtype"), Some("error"));
            assert_eq!(headers.get("x"), Some(value.as_str()));
            assert_eq!(reader.read(&writer.none().unwrap()).unwrap(), Headers::default());
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        let mut packed = Vec::with_capacity(1 << 20);
        compress.compress_vec(&vec![b'a'; 8 << 20], &mut packed, FlushCompress::Sync).unwrap();
        assert!(HeadersReader::new().read(&packed).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = HeadersReader::new().read(&bytes);
            let _ = parse(&bytes);
        }
    }
}
