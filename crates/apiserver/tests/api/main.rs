//! The server as clients see it: in process, and over TLS where that makes a difference.

mod crud;
mod deletion;
mod fixture;
mod lists;
mod patches;
mod subresources;
mod watches;
mod wire;
