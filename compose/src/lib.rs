//! Docker Compose without its tool. Pure: files and what an Engine says are arguments.
//!
//! - [`load`] turns Compose files, variables and the files they name into a [`model::Stack`];
//! - [`model`] is that stack, every short form written out, nothing left to look up;
//! - [`plan`] compares it with what is there and says, operation by operation, what to do;
//! - [`exchange`] is what relay and agent say to each other about stacks.

pub mod exchange;
pub mod folder;
pub mod load;
pub mod model;
pub mod plan;
