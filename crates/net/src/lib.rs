//! Kernel networking: netlink, nftables wire format, address management, bridge.
