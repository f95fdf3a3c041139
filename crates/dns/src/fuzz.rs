//! A fuzz target: any packet as a client's question and as another resolver's answer.

use std::net::{IpAddr, Ipv4Addr};

use crate::answer::{self, Found};
use crate::index::Index;
use crate::wire::{self, Answer, Section, Transport, code};

const SERVER: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))];
const HEADER: usize = 12;

/// Whatever the bytes, they are answered, refused or ignored, without a panic; and no answer is longer than it may be.
pub fn packets(bytes: &[u8]) {
    let mut index = Index::new("cluster.local");
    index.set_complete();
    if let Ok(query) = wire::parse(bytes) {
        let found = answer::find(&index, &query.labels, &SERVER, query.kind);
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut reply = Answer::new(&query, code::NO_ERROR, true, transport);
            if let Found::Records { answers, additional } = &found {
                answers.iter().for_each(|data| reply.push(Section::Answer, None, answer::TTL, data));
                for (owner, data) in additional {
                    reply.push(Section::Additional, Some(owner), answer::TTL, data);
                }
            }
            assert!(reply.finish().len() <= query.limit(transport), "an answer that does not fit");
        }
    }
    // As an answer to the question that it has itself, of whatever length that is.
    let Some(&[high, low]) = bytes.get(..2) else { return };
    for end in [HEADER, HEADER + 5, HEADER + 17, HEADER + 24] {
        let Some(question) = bytes.get(HEADER..end) else { continue };
        if let Some(foreign) = wire::parse_foreign(bytes, u16::from_be_bytes([high, low]), question) {
            let _ = wire::addresses(bytes, &foreign);
            let _ = (wire::code_of(bytes), wire::denies(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ask, kind};

    #[test]
    fn packets_do_no_harm() {
        let cluster = ask(7, "web.default.svc.cluster.local", kind::A);
        let reverse = ask(7, "10.0.96.10.in-addr.arpa", kind::PTR);
        let mut extended = ask(7, "a", kind::SRV);
        extended[11] = 1;
        extended.extend_from_slice(&[0, 0, 41, 4, 0, 0, 0, 0x80, 0, 0, 4, 0, 10, 0, 0]);
        let mut answer = ask(7, "corp.example", kind::A);
        (answer[2], answer[7], answer[9]) = (0x80, 2, 1);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 1]);
        answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 30, 0, 2, 0xc0, 12]);
        answer.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 30, 0, 22, 0, 0]);
        answer.extend_from_slice(&[0; 20]);
        fuzzing::drive(&[&cluster, &reverse, &extended, &answer], 20_000, packets);
    }
}
