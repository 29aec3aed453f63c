//! See `denyut::fuzzing::store_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::store_ops(bytes));
