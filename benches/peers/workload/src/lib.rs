//! What the peers are measured with: rows that a fixed seed makes the same everywhere, and questions about them.

pub mod devops;
pub mod questions;
pub mod random;
