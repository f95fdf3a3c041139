//! Values of the libraries' own types.

use std::net::IpAddr;
use std::sync::Arc;

use api::quantity::Quantity;

use crate::authorizer::{self, Decision, Question};
use crate::formats::NamedFormat;
use crate::url::Url;

#[derive(Clone, Debug)]
pub enum Opaque {
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Arc<semver::Version>),
    Format(NamedFormat),
    Question(Arc<Question>),
    Decision(Arc<Decision>),
}

/// An address with the length of its network part; bits of the host may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub length: u8,
}

/// The names of the types.
pub(crate) mod types {
    pub(crate) const URL: &str = "kubernetes.URL";
    pub(crate) const IP: &str = "net.IP";
    pub(crate) const CIDR: &str = "net.CIDR";
    pub(crate) const QUANTITY: &str = "kubernetes.Quantity";
    pub(crate) const SEMVER: &str = "kubernetes.Semver";
    pub(crate) const FORMAT: &str = "kubernetes.NamedFormat";
}

impl Opaque {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => types::URL,
            Self::Ip(_) => types::IP,
            Self::Cidr(_) => types::CIDR,
            Self::Quantity(_) => types::QUANTITY,
            Self::Semver(_) => types::SEMVER,
            Self::Format(_) => types::FORMAT,
            Self::Question(question) => question.type_name(),
            Self::Decision(_) => authorizer::DECISION,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        let bytes = |address: &IpAddr| if address.is_ipv4() { 4 } else { 16 };
        match self {
            Self::Ip(address) => bytes(address),
            Self::Cidr(cidr) => bytes(&cidr.address).min(u64::from(cidr.length).div_ceil(8)),
            Self::Url(url) => url.text.len() as u64,
            _ => 1,
        }
    }
}

impl PartialEq for Opaque {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.cmp_precedence(b).is_eq(),
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}

impl From<IpAddr> for Opaque {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<Cidr> for Opaque {
    fn from(cidr: Cidr) -> Self {
        Self::Cidr(cidr)
    }
}

impl From<Quantity> for Opaque {
    fn from(quantity: Quantity) -> Self {
        Self::Quantity(quantity)
    }
}

impl From<Question> for Opaque {
    fn from(question: Question) -> Self {
        Self::Question(Arc::new(question))
    }
}
