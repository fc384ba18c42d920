//! The programs as they are delivered: statically linked.

mod names;
