//! See `denyut::fuzzing::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::names(bytes));
