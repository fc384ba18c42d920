//! The probe: what a network lets through to a relay, who blocks, and which rule to add.
//!
//! It knows nothing of relay or agent; both may use it. The modules stand on floors, and imports
//! run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`protocol`] |

pub mod protocol;
