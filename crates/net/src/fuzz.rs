//! A fuzz target: any bytes as a datagram of the kernel, given to whoever reads one.

use crate::netlink::replies;
use crate::{conntrack, link, monitor, neighbour, nft, route};

/// The header of netfilter's messages.
const NFGEN: usize = 4;

/// Whatever the bytes, each reader makes something of them or nothing, without a panic.
pub fn netlink(bytes: &[u8]) {
    for reply in replies(bytes) {
        let _ = reply.verdict();
        let _ = link::parse_link(&reply);
        let _ = link::parse_address(&reply);
        let _ = route::parse(&reply);
        let _ = monitor::parse(&reply);
        let interface = reply.body.get(4..8).and_then(|number| number.try_into().ok());
        let _ = neighbour::parse(&reply, interface.map_or(0, u32::from_ne_bytes));
        let _ = nft::parse_table(&reply);
        let attributes = reply.attributes(NFGEN);
        let _ = conntrack::parse_flow(&attributes);
        for list in attributes {
            let _ = list.nested().filter_map(|element| nft::parse_element(&element)).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Message;

    /// A message as the kernel sends it: of that kind, with a header of so many bytes.
    fn seed(kind: u16, header: &[u8], fill: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(kind, 0).raw(header);
        fill(&mut message);
        message.finish(1).to_vec()
    }

    #[test]
    fn datagrams_do_no_harm() {
        let link = seed(libc::RTM_NEWLINK, &[0; 16], |message| {
            message.put_str(libc::IFLA_IFNAME, "eth0");
            message.put(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
            message.nest(libc::IFLA_LINKINFO, |info| info.put_str(libc::IFLA_INFO_KIND, "vxlan"));
        });
        let address = seed(libc::RTM_NEWADDR, &[2, 24, 0, 0, 1, 0, 0, 0], |message| {
            message.put(libc::IFA_ADDRESS, &[10, 0, 0, 1]);
        });
        let mut header = [0; 12];
        (header[0], header[1], header[4], header[7]) = (2, 24, libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
        let route = seed(libc::RTM_NEWROUTE, &header, |message| {
            message.put(libc::RTA_DST, &[10, 0, 0, 0]);
            message.put(libc::RTA_GATEWAY, &[10, 0, 0, 2]);
            message.put_u32(libc::RTA_OIF, 3);
        });
        let mut header = [0; 12];
        (header[0], header[4], header[8]) = (libc::AF_BRIDGE as u8, 7, libc::NUD_PERMANENT as u8);
        let neighbour = seed(libc::RTM_NEWNEIGH, &header, |message| {
            message.put(libc::NDA_DST, &[10, 0, 0, 1]);
            message.put(libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 1]);
        });
        let flow = seed(0x100, &[2, 0, 0, 0], |message| {
            for kind in [1, 2] {
                message.nest(kind, |tuple| {
                    tuple.nest(1, |ip| {
                        ip.put(1, &[10, 0, 0, 1]);
                        ip.put(2, &[10, 0, 0, 2]);
                    });
                    tuple.nest(2, |proto| {
                        proto.put(1, &[17]);
                        proto.put(2, &[0, 53]);
                        proto.put(3, &[0, 54]);
                    });
                });
            }
        });
        let elements = seed(0xa0c, &[2, 0, 0, 0], |message| {
            message.put_str(1, "table");
            message.nest(3, |list| {
                list.nest(1, |element| element.nest(1, |key| key.put(1, &[1, 2, 3, 4])));
            });
            message.put(6, &[0, 3, b'v', b'1', 0]);
        });
        let seeds: [&[u8]; 6] = [&link, &address, &route, &neighbour, &flow, &elements];
        fuzzing::drive(&seeds, 20_000, netlink);
    }
}
