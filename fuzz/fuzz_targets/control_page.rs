//! See `denyut::fuzzing::control_page`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::control_page(bytes));
