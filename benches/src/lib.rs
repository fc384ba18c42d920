//! What Sternline costs: a load tool, a harness that measures it beside its peers in
//! interleaved rounds, and the results as a document.
//!
//! `sternline-bench` is the one program. It starts everything it measures as processes
//! of their own, and itself again as the load and as the backend, so that what is
//! measured never shares a thread with who measures. Nothing here is a test: no figure
//! fails a build. The modules stand on floors, and imports run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`failure`], [`statistics`] |
//! | 1 | [`results`] |
//! | 2 | [`cli`] |

pub mod cli;
pub mod echo;
pub mod failure;
pub mod fleet;
pub mod idle;
pub mod proc;
pub mod reconnect;
pub mod results;
pub mod site;
pub mod statistics;
