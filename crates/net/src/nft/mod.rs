//! nftables, spoken directly: tables, chains, rules, sets and maps as netlink messages.
//!
//! A [`Batch`] collects changes; [`Nft::commit`] makes them all or none. [`Expr`] is the byte code of rules,
//! instruction for instruction what the kernel runs, so a rule can be read beside `nft --debug=netlink`. What the
//! kernel holds can be listed back, for a reconcile at start.

mod batch;
mod change;
mod expression;
mod list;
mod set;
mod socket;

pub use batch::{Batch, Chain, Hook, Nat};
pub use change::MapElement;
pub use expression::{Compare, CtKey, Expr, FibResult, FibSource, Header, MetaKey, Reg, Reject, Verdict};
pub use list::{ListedElement, ListedTable};
pub(crate) use list::{parse_element, parse_table};
pub use set::{Data, Element, Field, MapData, Set};
pub use socket::{Nft, remove_table};

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Both versions of the Internet protocol.
    Inet,
    Ipv4,
    Ipv6,
    /// Frames on their way through bridges.
    Bridge,
}

impl Family {
    /// Its number in `struct nfgenmsg`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => libc::NFPROTO_IPV4 as u8,
            Self::Ipv6 => libc::NFPROTO_IPV6 as u8,
            Self::Bridge => libc::NFPROTO_BRIDGE as u8,
        }
    }

    /// How `nft` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
            Self::Bridge => "bridge",
        }
    }
}

/// `struct nfgenmsg`.
pub(crate) fn nfgen(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The message type of an nftables operation.
pub(crate) const fn kind(operation: libc::c_int) -> u16 {
    (10 << 8) | operation as u16
}

/// Attribute numbers of `linux/netfilter/nf_tables.h` that are used in more than one place.
pub(crate) mod attr {
    pub const LIST_ELEM: u16 = 1;
    pub const DATA_VALUE: u16 = 1;
    pub const DATA_VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
    pub const TABLE_NAME: u16 = 1;
    pub const TABLE_USERDATA: u16 = 6;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const ELEM_KEY: u16 = 1;
    pub const ELEM_DATA: u16 = 2;
    pub const ELEM_KEY_END: u16 = 10;
    pub const ELEMS_TABLE: u16 = 1;
    pub const ELEMS_SET: u16 = 2;
    pub const ELEMS_LIST: u16 = 3;
}
