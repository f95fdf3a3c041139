//! The byte code of rules.
//!
//! A rule is a run of expressions that work on sixteen registers of four bytes ([`Reg`]); a value longer than four
//! bytes takes several in a row, and a concatenated key is its fields side by side, each padded to four bytes.

use super::attr;
use crate::netlink::Message;

/// One of the sixteen registers, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    fn number(self) -> u32 {
        libc::NFT_REG32_00 as u32 + u32::from(self.0 & 15)
    }
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    pub(crate) fn encode(&self, message: &mut Message) {
        let (code, chain) = match self {
            Self::Accept => (libc::NF_ACCEPT, None),
            Self::Drop => (libc::NF_DROP, None),
            Self::Return => (libc::NFT_RETURN, None),
            Self::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        };
        message.nest(attr::DATA_VERDICT, |verdict| {
            verdict.put_be32(attr::VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                verdict.put_str(attr::VERDICT_CHAIN, chain);
            }
        });
    }
}

/// Where a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Ethernet's.
    Link,
    Network,
    Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    Mark,
    InterfaceIn,
    InterfaceInName,
    InterfaceOutName,
    /// `NFPROTO_*`, one byte.
    Family,
    /// The transport protocol, one byte.
    Transport,
    /// The Ethernet type, two bytes.
    Protocol,
}

impl MetaKey {
    fn number(self) -> u32 {
        let number = match self {
            Self::Mark => libc::NFT_META_MARK,
            Self::InterfaceIn => libc::NFT_META_IIF,
            Self::InterfaceInName => libc::NFT_META_IIFNAME,
            Self::InterfaceOutName => libc::NFT_META_OIFNAME,
            Self::Family => libc::NFT_META_NFPROTO,
            Self::Transport => libc::NFT_META_L4PROTO,
            Self::Protocol => libc::NFT_META_PROTOCOL,
        };
        number as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// `IP_CT_*` bits.
    State,
    /// `IPS_*` bits.
    Status,
    /// `IP_CT_DIR_*`, one byte.
    Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Equal,
    NotEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibSource {
    SourceAddress,
    DestinationAddress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    /// `RTN_LOCAL`, ...
    AddressType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// By ICMP; in a table of one address family.
    PortUnreachable {
        ipv6: bool,
    },
    TcpReset,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads bytes of the packet.
    Payload {
        header: Header,
        offset: u32,
        length: u32,
        to: Reg,
    },
    Meta {
        key: MetaKey,
        to: Reg,
    },
    SetMeta {
        key: MetaKey,
        from: Reg,
    },
    Ct {
        key: CtKey,
        to: Reg,
    },
    Fib {
        source: FibSource,
        result: FibResult,
        to: Reg,
    },
    /// Ends the rule unless the comparison holds.
    Cmp {
        from: Reg,
        compare: Compare,
        value: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`
    Bitwise {
        from: Reg,
        to: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Immediate {
        to: Reg,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// Ends the rule unless the set has the key (has it not, when inverted).
    InSet {
        set: String,
        key: Reg,
        inverted: bool,
    },
    /// Loads what the map has for the key; ends the rule when it has nothing.
    Map {
        map: String,
        key: Reg,
        to: Reg,
    },
    /// Does what the verdict map has for the key.
    VerdictMap {
        map: String,
        key: Reg,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
        to: Reg,
    },
    /// Puts an element into a dynamic map, or renews it.
    /// (An element that is there already keeps its data.)
    UpdateMap {
        map: String,
        key: Reg,
        data: Reg,
        timeout_ms: u64,
    },
    /// Takes an element out of a dynamic map, if it is there. `data` may be any register that is loaded.
    DeleteFromMap {
        map: String,
        key: Reg,
        data: Reg,
    },
    /// Sends the connection to an address and port in registers.
    Dnat {
        ipv6: bool,
        address: Reg,
        port: Reg,
    },
    /// Gives the connection the address of the interface it leaves by, and a random port.
    Masquerade,
    Reject(Reject),
    Counter,
}

impl Expr {
    /// The `NFTA_LIST_ELEM` of this expression.
    pub(crate) fn encode(&self, message: &mut Message) {
        message.nest(attr::LIST_ELEM, |element| {
            element.put_str(attr::EXPR_NAME, self.name());
            element.nest(attr::EXPR_DATA, |data| self.data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::InSet { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Random { .. } => "numgen",
            Self::UpdateMap { .. } | Self::DeleteFromMap { .. } => "dynset",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Counter => "counter",
        }
    }

    /// Attribute numbers are those of the `nft_<name>_attributes` enumeration.
    fn data(&self, data: &mut Message) {
        const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT as u32;
        match self {
            Self::Payload { header, offset, length, to } => {
                let base = match header {
                    Header::Link => libc::NFT_PAYLOAD_LL_HEADER,
                    Header::Network => libc::NFT_PAYLOAD_NETWORK_HEADER,
                    Header::Transport => libc::NFT_PAYLOAD_TRANSPORT_HEADER,
                };
                data.put_be32(1, to.number());
                data.put_be32(2, base as u32);
                data.put_be32(3, *offset);
                data.put_be32(4, *length);
            }
            Self::Meta { key, to } => {
                data.put_be32(1, to.number());
                data.put_be32(2, key.number());
            }
            Self::SetMeta { key, from } => {
                data.put_be32(2, key.number());
                data.put_be32(3, from.number());
            }
            Self::Ct { key, to } => {
                let key = match key {
                    CtKey::State => libc::NFT_CT_STATE,
                    CtKey::Status => libc::NFT_CT_STATUS,
                    CtKey::Direction => libc::NFT_CT_DIRECTION,
                };
                data.put_be32(1, to.number());
                data.put_be32(2, key as u32);
            }
            Self::Fib { source, result, to } => {
                let FibResult::AddressType = result;
                const ADDRESS_TYPE: u32 = 3;
                let flags = match source {
                    FibSource::SourceAddress => 1,
                    FibSource::DestinationAddress => 2,
                };
                data.put_be32(1, to.number());
                data.put_be32(2, ADDRESS_TYPE);
                data.put_be32(3, flags);
            }
            Self::Cmp { from, compare, value } => {
                let compare = match compare {
                    Compare::Equal => libc::NFT_CMP_EQ,
                    Compare::NotEqual => libc::NFT_CMP_NEQ,
                };
                data.put_be32(1, from.number());
                data.put_be32(2, compare as u32);
                data.nest(3, |inner| inner.put(attr::DATA_VALUE, value));
            }
            Self::Bitwise { from, to, mask, xor } => {
                data.put_be32(1, from.number());
                data.put_be32(2, to.number());
                data.put_be32(3, mask.len() as u32);
                data.nest(4, |inner| inner.put(attr::DATA_VALUE, mask));
                data.nest(5, |inner| inner.put(attr::DATA_VALUE, xor));
            }
            Self::Immediate { to, value } => {
                data.put_be32(1, to.number());
                data.nest(2, |inner| inner.put(attr::DATA_VALUE, value));
            }
            Self::Verdict(verdict) => {
                data.put_be32(1, VERDICT_REGISTER);
                data.nest(2, |inner| verdict.encode(inner));
            }
            Self::InSet { set, key, inverted } => {
                data.put_str(1, set);
                data.put_be32(2, key.number());
                if *inverted {
                    data.put_be32(5, libc::NFT_LOOKUP_F_INV as u32);
                }
            }
            Self::Map { map, key, to } => {
                data.put_str(1, map);
                data.put_be32(2, key.number());
                data.put_be32(3, to.number());
            }
            Self::VerdictMap { map, key } => {
                data.put_str(1, map);
                data.put_be32(2, key.number());
                data.put_be32(3, VERDICT_REGISTER);
            }
            Self::Random { modulus, to } => {
                data.put_be32(1, to.number());
                data.put_be32(2, *modulus);
                data.put_be32(3, libc::NFT_NG_RANDOM as u32);
                data.put_be32(4, 0);
            }
            Self::UpdateMap { map, key, data: value, timeout_ms } => {
                data.put_str(1, map);
                data.put_be32(3, libc::NFT_DYNSET_OP_UPDATE as u32);
                data.put_be32(4, key.number());
                data.put_be32(5, value.number());
                data.put_be64(6, *timeout_ms);
            }
            Self::DeleteFromMap { map, key, data: value } => {
                const DYNSET_OP_DELETE: u32 = 2;
                data.put_str(1, map);
                data.put_be32(3, DYNSET_OP_DELETE);
                data.put_be32(4, key.number());
                data.put_be32(5, value.number());
            }
            Self::Dnat { ipv6, address, port } => {
                const PROTO_SPECIFIED: u32 = 1 << 1;
                let family = if *ipv6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
                data.put_be32(1, libc::NFT_NAT_DNAT as u32);
                data.put_be32(2, family as u32);
                data.put_be32(3, address.number());
                data.put_be32(5, port.number());
                data.put_be32(7, PROTO_SPECIFIED);
            }
            Self::Masquerade => {
                const RANDOM_FULLY: u32 = 1 << 4;
                data.put_be32(1, RANDOM_FULLY);
            }
            Self::Reject(Reject::PortUnreachable { ipv6 }) => {
                // ICMP_PORT_UNREACH and ICMPV6_PORT_UNREACH.
                data.put_be32(1, libc::NFT_REJECT_ICMP_UNREACH as u32);
                data.put(2, &[if *ipv6 { 4 } else { 3 }]);
            }
            Self::Reject(Reject::TcpReset) => {
                data.put_be32(1, libc::NFT_REJECT_TCP_RST as u32);
                data.put(2, &[0]);
            }
            Self::Counter => {}
        }
    }
}
