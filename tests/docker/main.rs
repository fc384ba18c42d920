//! The real Docker CLI through the relay, against a real Docker Engine: byte-true,
//! in bounded memory, and cancelled where the operator cancels.

mod bulk;
mod commands;
mod images;
mod interactive;
mod policy;
mod refused;
mod resume;
mod secluded;
mod site;
mod stacks;
