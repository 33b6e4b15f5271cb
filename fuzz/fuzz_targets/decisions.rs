//! See `src/decisions.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mesh_authz_fuzz::decisions::run(input));
