//! See `net::fuzz::netlink`, which the tests of its crate call too.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| net::fuzz::netlink(bytes));
