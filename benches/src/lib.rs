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
//! | 0 | [`echo`], [`failure`], [`hot`], [`machine`], [`proc`], [`statistics`] |
//! | 1 | [`backend`], [`plot`], [`process`], [`results`], [`site`], [`wait`] |
//! | 2 | [`callgrind`], [`fleet`], [`load`], [`peer`] |
//! | 3 | [`idle`], [`reconnect`], [`run`], [`storm`] |
//! | 4 | [`compare`], [`figures`] |
//! | 5 | [`report`] |
//! | 6 | [`cli`] |

pub mod backend;
pub mod callgrind;
pub mod cli;
pub mod compare;
pub mod echo;
pub mod failure;
pub mod figures;
pub mod fleet;
pub mod hot;
pub mod idle;
pub mod load;
pub mod machine;
pub mod peer;
pub mod plot;
pub mod proc;
pub mod process;
pub mod reconnect;
pub mod report;
pub mod results;
pub mod run;
pub mod site;
pub mod statistics;
pub mod storm;
pub mod wait;
