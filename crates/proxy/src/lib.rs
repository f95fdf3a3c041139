//! Turns Services and EndpointSlices into nftables state.
