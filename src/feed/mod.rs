//! What agencies send: their files and streams on the way into the store's tables.

pub mod import;
