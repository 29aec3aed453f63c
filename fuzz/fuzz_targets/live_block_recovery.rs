//! See `denyut::fuzzing::live_block_recovery`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::live_block_recovery(bytes));
