//! How two sessions behave towards each other, and a session towards a peer that
//! breaks the rules.

mod bulk;
mod lanes;
mod limits;
mod liveness;
mod pair;
mod resume;
mod streams;
mod violations;
