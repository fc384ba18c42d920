//! The probe: what a network lets through to a relay, who blocks, and which rule to add.
//!
//! It knows nothing of relay or agent; both may use it. The modules stand on floors, and imports
//! run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`protocol`] |
//! | 1 | [`observe`]: what was seen |
//! | 2 | [`verdict`]: what it comes to |
//! | 3 | [`rules`], [`measure`]: what to change; everything that is tried |
//! | 4 | [`judge`], [`render`], [`verify`]: a report, purely; its forms; rules as a test |
//! | 5 | [`cli`]: the commands; [`manual`] |

pub mod protocol;

pub mod observe;

pub mod verdict;

pub mod measure;
pub mod rules;

pub mod judge;
pub mod render;
pub mod verify;

pub mod cli;
#[path = "../../../packaging/manual.rs"]
pub mod manual;
