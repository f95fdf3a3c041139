//! Classes: what a destination's packets go through, apart from which endpoints they can reach.
//!
//! Destinations with the same number of endpoints and the same options share one chain. A class has a number, which
//! destinations lead to; the name of its chain says what it is, so a restarted proxy finds the numbers again.

use std::fmt;

/// Which map a packet's destination was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// For everybody.
    Services,
    /// For pods and the node itself, before the other: they reach an external address whose policy is Local
    /// as if it were a cluster IP.
    Inside,
}

/// Whose packets get the node's address as their source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    #[default]
    Never,
    /// Those from outside the pod CIDRs.
    OffCluster,
    /// Those of the node's own processes.
    FromNode,
    Always,
}

/// What a chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// There is no endpoint at all: the sender is told.
    Reject,
    /// There are endpoints, but none that the policy lets this node use: a load balancer should look elsewhere.
    Drop,
    Balance(Balance),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balance {
    pub view: View,
    /// Number of endpoints, at least one.
    pub count: u32,
    pub masquerade: Masquerade,
    /// Sources are checked against the backend set's ranges.
    pub ranges: bool,
    /// Clients stay with their endpoint for so many seconds; 0 for not.
    pub affinity: u32,
}

/// The name of the class's chain.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let balance = match self {
            Self::Reject => return f.write_str("reject"),
            Self::Drop => return f.write_str("drop"),
            Self::Balance(balance) => balance,
        };
        write!(f, "n{}", balance.count)?;
        f.write_str(match balance.masquerade {
            Masquerade::Never => "",
            Masquerade::OffCluster => "-offcluster",
            Masquerade::FromNode => "-fromnode",
            Masquerade::Always => "-masquerade",
        })?;
        if balance.view == View::Inside {
            f.write_str("-inside")?;
        }
        if balance.ranges {
            f.write_str("-ranges")?;
        }
        if balance.affinity > 0 {
            write!(f, "-sticky{}", balance.affinity)?;
        }
        Ok(())
    }
}

impl Class {
    /// The class whose chain has that name.
    pub fn parse(chain: &str) -> Option<Self> {
        match chain {
            "reject" => return Some(Self::Reject),
            "drop" => return Some(Self::Drop),
            _ => {}
        }
        let mut parts = chain.strip_prefix('n')?.split('-');
        let mut balance = Balance {
            view: View::Services,
            count: parts.next()?.parse().ok().filter(|count| *count > 0)?,
            masquerade: Masquerade::Never,
            ranges: false,
            affinity: 0,
        };
        for part in parts {
            match part {
                "offcluster" => balance.masquerade = Masquerade::OffCluster,
                "fromnode" => balance.masquerade = Masquerade::FromNode,
                "masquerade" => balance.masquerade = Masquerade::Always,
                "inside" => balance.view = View::Inside,
                "ranges" => balance.ranges = true,
                part => balance.affinity = part.strip_prefix("sticky")?.parse().ok()?,
            }
        }
        let class = Self::Balance(balance);
        (class.to_string() == chain).then_some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_read_back(count in 1u32.., masquerade in 0u8..4, ranges: bool, inside: bool, affinity in 0u32..=86_400) {
            let class = Class::Balance(Balance {
                view: if inside { View::Inside } else { View::Services },
                count,
                masquerade: match masquerade {
                    0 => Masquerade::Never,
                    1 => Masquerade::OffCluster,
                    2 => Masquerade::FromNode,
                    _ => Masquerade::Always,
                },
                ranges,
                affinity,
            });
            prop_assert_eq!(Class::parse(&class.to_string()), Some(class));
        }

        #[test]
        fn foreign_names_are_no_class_or_mean_themselves(name in "n?[0-9]{0,12}(-[a-z]{0,10}[0-9]{0,3}){0,4}") {
            if let Some(class) = Class::parse(&name) {
                prop_assert_eq!(class.to_string(), name);
            }
        }
    }

    #[test]
    fn the_two_verdicts_are_read_back() {
        for class in [Class::Reject, Class::Drop] {
            assert_eq!(Class::parse(&class.to_string()), Some(class));
        }
    }
}
