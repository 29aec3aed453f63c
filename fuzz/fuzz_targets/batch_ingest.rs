//! See `denyut::fuzzing::batch_ingest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denyut::fuzzing::batch_ingest(bytes));
