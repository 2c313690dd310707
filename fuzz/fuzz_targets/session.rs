//! A sequence of requests against a real store in memory: see [`bkfs_fuzz::session`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bkfs_fuzz::session::run(data));
