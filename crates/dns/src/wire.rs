//! DNS messages: reading questions, writing answers (RFC 1035, RFC 6891).
//!
//! Only questions are taken apart, and of answers of other resolvers the places of their times to live. Every byte is
//! somebody else's: nothing read is trusted, and nothing is allocated beyond the packet's own size.

/// Record types.
pub(crate) mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

/// What became of a question.
pub(crate) mod code {
    pub const NO_ERROR: u16 = 0;
    pub const FORMAT: u16 = 1;
    pub const SERVER_FAILURE: u16 = 2;
    pub const NO_SUCH_NAME: u16 = 3;
    pub const NOT_IMPLEMENTED: u16 = 4;
    pub const REFUSED: u16 = 5;
    /// Extended: does not fit the header's four bits.
    pub const BAD_VERSION: u16 = 16;
}

const HEADER: usize = 12;
pub(crate) const INTERNET: u16 = 1;
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const DNSSEC_OK: u32 = 1 << 15;
/// Without EDNS an answer by UDP has no more.
const PLAIN_UDP: usize = 512;
/// More might be fragmented on its way.
const MAX_UDP: usize = 1232;
const OPT_RECORD: usize = 11;

/// A client's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub payload: u16,
    pub dnssec: bool,
    pub version: u8,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub id: u16,
    flags: u16,
    /// In lower case.
    pub labels: Vec<String>,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    /// The question as it came, which the answer repeats.
    pub question: Vec<u8>,
}

/// A packet that holds no question to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It would be wrong to answer.
    Ignore,
    /// This is the answer.
    Answer(Vec<u8>),
}

/// Reads a client's packet.
pub(crate) fn parse(packet: &[u8]) -> Result<Query, Unusable> {
    let header: [u16; 6] = numbers(packet).ok_or(Unusable::Ignore)?;
    let [id, flags, questions, answers, authorities, additionals] = header;
    if flags & RESPONSE != 0 {
        return Err(Unusable::Ignore);
    }
    let refuse = |code| Unusable::Answer(bare(id, flags, code));
    if flags & OPCODE != 0 {
        return Err(refuse(code::NOT_IMPLEMENTED));
    }
    if questions != 1 || answers != 0 || authorities != 0 {
        return Err(refuse(code::FORMAT));
    }
    let malformed = || refuse(code::FORMAT);
    let (labels, end) = read_name(packet, HEADER).ok_or_else(malformed)?;
    let [kind, class] = numbers(packet.get(end..).unwrap_or_default()).ok_or_else(malformed)?;
    let end = end + 4;
    let mut query = Query {
        id,
        flags,
        labels,
        kind,
        class,
        edns: None,
        question: packet.get(HEADER..end).ok_or_else(malformed)?.to_vec(),
    };
    let mut at = end;
    for _ in 0..additionals {
        let record = Record::read(packet, at).ok_or_else(malformed)?;
        if record.kind == kind::OPT {
            query.edns = Some(Edns {
                payload: record.class,
                dnssec: record.ttl & DNSSEC_OK != 0,
                version: (record.ttl >> 16) as u8,
            });
        }
        at = record.end;
    }
    if query.edns.is_some_and(|edns| edns.version != 0) {
        let answer = Answer::new(&query, code::BAD_VERSION, false, Transport::Udp);
        return Err(Unusable::Answer(answer.finish()));
    }
    Ok(query)
}

/// The first numbers of sixteen bits.
fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u16; N]> {
    let mut numbers = [0; N];
    for (number, pair) in numbers.iter_mut().zip(bytes.get(..2 * N)?.chunks_exact(2)) {
        *number = u16::from_be_bytes([pair[0], pair[1]]);
    }
    Some(numbers)
}

/// An answer that repeats nothing.
fn bare(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let flags = RESPONSE | flags & (OPCODE | RECURSION_DESIRED) | code;
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.resize(HEADER, 0);
    bytes
}

/// A name without compression (questions have nothing to point to), and where it ends.
fn read_name(packet: &[u8], mut at: usize) -> Option<(Vec<String>, usize)> {
    let start = at;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels, at));
        }
        if length > 63 || at + length - start > 254 {
            return None;
        }
        let label = packet.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// Where a possibly compressed name ends.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *packet.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192.. => return packet.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// Of a record, what matters.
struct Record {
    kind: u16,
    class: u16,
    ttl: u32,
    /// Where its time to live is written.
    ttl_at: usize,
    data_at: usize,
    end: usize,
}

impl Record {
    fn read(packet: &[u8], at: usize) -> Option<Self> {
        let at = skip_name(packet, at)?;
        let [kind, class, high, low, length] = numbers(packet.get(at..)?)?;
        let end = at + 10 + usize::from(length);
        packet.get(..end)?;
        Some(Self {
            kind,
            class,
            ttl: u32::from(high) << 16 | u32::from(low),
            ttl_at: at + 4,
            data_at: at + 10,
            end,
        })
    }
}

impl Query {
    /// The name as text, without the closing dot.
    pub fn name(&self) -> String {
        self.labels.join(".")
    }
}

/// How an answer will travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Address(std::net::IpAddr),
    Name { kind: u16, target: String },
    Srv { port: u16, target: String },
    Text(String),
    Soa { server: String, mailbox: String, serial: u32, negative_ttl: u32 },
}

impl Data {
    pub fn kind(&self) -> u16 {
        match self {
            Self::Address(ip) if ip.is_ipv4() => kind::A,
            Self::Address(_) => kind::AAAA,
            Self::Name { kind, .. } => *kind,
            Self::Srv { .. } => kind::SRV,
            Self::Text(_) => kind::TXT,
            Self::Soa { .. } => kind::SOA,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Address(std::net::IpAddr::V4(ip)) => bytes.extend_from_slice(&ip.octets()),
            Self::Address(std::net::IpAddr::V6(ip)) => bytes.extend_from_slice(&ip.octets()),
            Self::Name { target, .. } => write_name(bytes, target),
            Self::Srv { port, target } => {
                // Priority and weight: all endpoints are alike.
                bytes.extend_from_slice(&[0, 0, 0, 100]);
                bytes.extend_from_slice(&port.to_be_bytes());
                write_name(bytes, target);
            }
            Self::Text(text) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                bytes.push(text.len() as u8);
                bytes.extend_from_slice(text);
            }
            Self::Soa { server, mailbox, serial, negative_ttl } => {
                write_name(bytes, server);
                write_name(bytes, mailbox);
                for number in [*serial, 7200, 1800, 86_400, *negative_ttl] {
                    bytes.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
    }
}

/// Writes a name given as text. Labels that are too long are cut: such names are never ours.
fn write_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// An answer under construction. Records that do not fit are left out, and the client is told to ask by TCP.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    counts: [u16; 3],
    limit: usize,
    truncated: bool,
    edns: Option<u8>,
    dnssec: bool,
}

impl Answer {
    pub fn new(query: &Query, code: u16, authoritative: bool, transport: Transport) -> Self {
        let mut flags = RESPONSE | RECURSION_AVAILABLE | query.flags & RECURSION_DESIRED | code & 0xf;
        if authoritative {
            flags |= AUTHORITATIVE;
        }
        let mut bytes = Vec::with_capacity(256);
        for number in [query.id, flags, 1, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&query.question);
        Self {
            bytes,
            counts: [0; 3],
            limit: query.limit(transport) - query.edns.map_or(0, |_| OPT_RECORD),
            truncated: false,
            edns: query.edns.map(|_| (code >> 4) as u8),
            dnssec: query.edns.is_some_and(|edns| edns.dnssec),
        }
    }

    /// Adds a record about `owner`, or about the name in question when there is none. Sections come in their order.
    pub fn push(&mut self, section: Section, owner: Option<&str>, ttl: u32, data: &Data) {
        // Additional records are a courtesy: leaving one out is no truncation.
        if self.truncated {
            return;
        }
        let start = self.bytes.len();
        match owner {
            None => self.bytes.extend_from_slice(&[0xc0, HEADER as u8]),
            Some(owner) => write_name(&mut self.bytes, owner),
        }
        self.bytes.extend_from_slice(&data.kind().to_be_bytes());
        self.bytes.extend_from_slice(&INTERNET.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        data.write(&mut self.bytes);
        let length = self.bytes.len() - length_at - 2;
        self.bytes[length_at..length_at + 2].copy_from_slice(&(length as u16).to_be_bytes());
        if self.bytes.len() > self.limit {
            self.bytes.truncate(start);
            self.truncated = section < Section::Additional;
            return;
        }
        self.counts[section as usize] += 1;
    }

    pub fn finish(mut self) -> Vec<u8> {
        if let Some(extended) = self.edns {
            let flags = if self.dnssec { DNSSEC_OK } else { 0 };
            self.bytes.push(0);
            self.bytes.extend_from_slice(&kind::OPT.to_be_bytes());
            self.bytes.extend_from_slice(&(MAX_UDP as u16).to_be_bytes());
            self.bytes.extend_from_slice(&(u32::from(extended) << 24 | flags).to_be_bytes());
            self.bytes.extend_from_slice(&[0, 0]);
            self.counts[Section::Additional as usize] += 1;
        }
        if self.truncated {
            self.bytes[2] |= (TRUNCATED >> 8) as u8;
        }
        for (index, count) in self.counts.into_iter().enumerate() {
            let at = 6 + 2 * index;
            self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        self.bytes
    }
}

impl Query {
    /// How long an answer may be.
    pub fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(PLAIN_UDP, MAX_UDP),
            (Transport::Udp, None) => PLAIN_UDP,
        }
    }
}

/// What became of the question of an answer.
pub(crate) fn code_of(answer: &[u8]) -> u16 {
    answer.get(3).map_or(code::SERVER_FAILURE, |flags| u16::from(flags & 0xf))
}

/// Whether an answer says that there is nothing.
pub(crate) fn denies(answer: &[u8]) -> bool {
    code_of(answer) == code::NO_SUCH_NAME || answer.get(6..8) == Some(&[0, 0])
}

/// Of another resolver's answer, what caching and passing on need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub code: u16,
    pub truncated: bool,
    /// The shortest time to live; nothing when there are no records.
    pub ttl: Option<u32>,
    pub ttls_at: Vec<usize>,
    pub answers: u16,
    /// Where the answer records begin, and where they end.
    pub answers_at: std::ops::Range<usize>,
}

/// Reads another resolver's answer; nothing unless it answers that very question.
pub(crate) fn parse_foreign(packet: &[u8], id: u16, question: &[u8]) -> Option<Foreign> {
    let [their_id, flags, questions, answers, authorities, additionals] = numbers(packet)?;
    let end = HEADER + question.len();
    let same = packet.get(HEADER..end)?.eq_ignore_ascii_case(question);
    if their_id != id || flags & RESPONSE == 0 || questions != 1 || !same {
        return None;
    }
    let mut foreign = Foreign {
        code: flags & 0xf,
        truncated: flags & TRUNCATED != 0,
        ttl: None,
        ttls_at: Vec::new(),
        answers,
        answers_at: end..end,
    };
    let total = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
    let mut at = end;
    for index in 0..total {
        let record = Record::read(packet, at)?;
        at = record.end;
        if index < u32::from(answers) {
            foreign.answers_at.end = at;
        }
        if record.kind == kind::OPT {
            continue;
        }
        let mut ttl = record.ttl;
        if record.kind == kind::SOA && answers == 0 {
            // The last number of a SOA is for how long a name that is not there may be remembered.
            let minimum = packet.get(at.checked_sub(4)?.max(record.data_at)..at)?;
            ttl = ttl.min(u32::from_be_bytes(minimum.try_into().ok()?));
        }
        foreign.ttl = Some(foreign.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
        foreign.ttls_at.push(record.ttl_at);
    }
    Some(foreign)
}

/// The addresses among the answers of another resolver.
pub(crate) fn addresses(packet: &[u8], foreign: &Foreign) -> Vec<(u32, std::net::IpAddr)> {
    let mut found = Vec::new();
    let mut at = foreign.answers_at.start;
    for _ in 0..foreign.answers {
        let Some(record) = Record::read(packet, at) else { break };
        let data = packet.get(record.data_at..record.end).unwrap_or_default();
        let ip = match record.kind {
            kind::A => <[u8; 4]>::try_from(data).ok().map(std::net::IpAddr::from),
            kind::AAAA => <[u8; 16]>::try_from(data).ok().map(std::net::IpAddr::from),
            _ => None,
        };
        found.extend(ip.map(|ip| (record.ttl, ip)));
        at = record.end;
    }
    found
}

/// A question for another resolver.
pub(crate) fn ask(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    for number in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    write_name(&mut bytes, name);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests;
