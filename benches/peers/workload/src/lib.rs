//! What the peers are measured with: rows that a fixed seed makes the same everywhere or that were measured, and
//! questions about them.

pub mod ask;
pub mod city;
pub mod devops;
pub mod dialect;
pub mod questions;
pub mod random;
pub mod real;
pub mod table;
