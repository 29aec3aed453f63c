//! See `denyut::fuzzing::import_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::import_text(bytes));
