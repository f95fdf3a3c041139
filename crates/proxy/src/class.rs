//! Classes: what a destination's packets go through, apart from which endpoints they can reach.
//!
//! Destinations with the same number of endpoints and the same options share one chain. A class is plain
//! numbers in the kernel's maps, so a restarted proxy finds in them what the one before it meant.

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

const AFFINITY_BITS: u32 = 17;
const AFFINITY_MASK: u32 = (1 << AFFINITY_BITS) - 1;
const MASQUERADE_SHIFT: u32 = AFFINITY_BITS;
const RANGES: u32 = 1 << 20;
const INSIDE: u32 = 1 << 21;
const DROP: u32 = 1 << 22;

impl Class {
    /// Count and options, as they are in the maps.
    pub fn numbers(self) -> (u32, u32) {
        match self {
            Self::Reject => (0, 0),
            Self::Drop => (0, DROP),
            Self::Balance(balance) => {
                let masquerade = match balance.masquerade {
                    Masquerade::Never => 0,
                    Masquerade::OffCluster => 1,
                    Masquerade::FromNode => 2,
                    Masquerade::Always => 3,
                };
                let mut options = balance.affinity & AFFINITY_MASK | masquerade << MASQUERADE_SHIFT;
                if balance.ranges {
                    options |= RANGES;
                }
                if balance.view == View::Inside {
                    options |= INSIDE;
                }
                (balance.count, options)
            }
        }
    }

    /// The class that has these numbers, if any has.
    pub fn from_numbers(count: u32, options: u32) -> Option<Self> {
        let class = match (count, options) {
            (0, 0) => Self::Reject,
            (0, DROP) => Self::Drop,
            (0, _) => return None,
            (count, options) => Self::Balance(Balance {
                view: if options & INSIDE == 0 { View::Services } else { View::Inside },
                count,
                masquerade: match options >> MASQUERADE_SHIFT & 3 {
                    0 => Masquerade::Never,
                    1 => Masquerade::OffCluster,
                    2 => Masquerade::FromNode,
                    _ => Masquerade::Always,
                },
                ranges: options & RANGES != 0,
                affinity: options & AFFINITY_MASK,
            }),
        };
        (class.numbers() == (count, options)).then_some(class)
    }

    /// The name of its chain.
    pub fn chain(self) -> String {
        let Self::Balance(balance) = self else {
            return if self == Self::Drop { "drop" } else { "reject" }.to_owned();
        };
        let mut name = format!("n{}", balance.count);
        name.push_str(match balance.masquerade {
            Masquerade::Never => "",
            Masquerade::OffCluster => "-offcluster",
            Masquerade::FromNode => "-fromnode",
            Masquerade::Always => "-masquerade",
        });
        if balance.view == View::Inside {
            name.push_str("-inside");
        }
        if balance.ranges {
            name.push_str("-ranges");
        }
        if balance.affinity > 0 {
            name.push_str(&format!("-sticky{}", balance.affinity));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_read_back(count in 1u32.., masquerade in 0u8..4, ranges: bool, inside: bool, affinity in 0u32..=86_400) {
            let class = Class::Balance(Balance {
                view: if inside { View::Inside } else { View::Services },
                count,
                masquerade: match masquerade { 0 => Masquerade::Never, 1 => Masquerade::OffCluster, 2 => Masquerade::FromNode, _ => Masquerade::Always },
                ranges,
                affinity,
            });
            let (count, options) = class.numbers();
            prop_assert_eq!(Class::from_numbers(count, options), Some(class));
        }

        #[test]
        fn foreign_numbers_are_no_class_or_mean_themselves(count: u32, options: u32) {
            if let Some(class) = Class::from_numbers(count, options) {
                prop_assert_eq!(class.numbers(), (count, options));
            }
        }
    }

    #[test]
    fn the_two_verdicts_are_read_back() {
        for class in [Class::Reject, Class::Drop] {
            let (count, options) = class.numbers();
            assert_eq!(Class::from_numbers(count, options), Some(class));
        }
    }
}
