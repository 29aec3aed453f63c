//! See `denyut::fuzzing::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::decoders(bytes));
