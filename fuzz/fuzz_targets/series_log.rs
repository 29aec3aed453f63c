//! See `denyut::fuzzing::series_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::series_log(bytes));
