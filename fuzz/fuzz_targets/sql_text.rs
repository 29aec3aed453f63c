//! See `denyut::fuzzing::sql_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::sql_text(bytes));
